"""Which endpoints are asked for which names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_dovecot.monitoring import questions
from certbot_dovecot.monitoring.model import Deployed
from certbot_dovecot.monitoring.questions import Wanted
from certbot_dovecot.servers.contract import Endpoint, Pair, Served
from tests.unit.test_health import leaf

PORTS = (("Dovecot", 110), ("Dovecot", 143), ("Dovecot", 993), ("Postfix", 465), ("Postfix", 587))


def endpoints(count):
    """Endpoints of two servers, each on two addresses."""
    return [
        Served(Endpoint(server, "imap", address, port, True), Pair("a", "b"))
        for server, port in PORTS[:count]
        for address in ("127.0.0.1", "::1")
    ]


def deployed(number):
    return Deployed(f"n{number}", servers=("Dovecot",), leaf=leaf(names=(f"n{number}.test",)))


def by_first_name(count, ports=5):
    return [[Wanted(one, deployed(n), f"n{n}.test", f"n{n}") for one in endpoints(ports)] for n in range(count)]


def further(count, ports=5):
    return [[Wanted(one, None, f"m{n}.test", f"n{n}") for one in endpoints(ports)] for n in range(count)]


BARE = [Wanted(one, None, None) for one in endpoints(5)]


def test_a_host_of_usual_size_is_asked_for_everything():
    wanted, unasked = questions.choose(by_first_name(5), BARE, further(4), False)
    assert (len(wanted), unasked) == (100, 0)


def test_a_hundred_lineages_are_asked_for_once_on_each_server_and_every_endpoint_without_a_name():
    wanted, unasked = questions.choose(by_first_name(100), BARE, further(200), False)
    assert len(wanted) == 200 + 10 + 100
    assert unasked == 1000 + 10 + 2000 - len(wanted)
    assert {(one.lineage.name, one.served.endpoint.server) for one in wanted if one.lineage} == {
        (f"n{number}", server) for number in range(100) for server in ("Dovecot", "Postfix")
    }
    assert {one.served.endpoint for one in wanted if one.sni is None} == {one.endpoint for one in endpoints(5)}
    assert questions.choose(by_first_name(100), BARE, further(200), True)[1] == 0


@given(st.integers(0, 40), st.integers(0, 60), st.integers(0, 5), st.booleans())
def test_every_lineage_and_every_endpoint_is_asked_and_what_is_not_is_counted(count, names, ports, every):
    first, more = by_first_name(count, ports), further(names, ports)
    wanted, unasked = questions.choose(first, BARE, more, every)
    asked = {(one.served.endpoint, one.sni) for one in wanted}
    assert len(asked) == len(wanted)
    assert len(wanted) + unasked == sum(map(len, first)) + len(BARE) + sum(map(len, more))
    assert unasked == 0 or not every
    assert {one.lineage.name for one in wanted if one.lineage} == {f"n{number}" for number in range(count if ports else 0)}
    assert {one.served.endpoint for one in wanted if one.sni is None} == {one.endpoint for one in endpoints(5)}


@given(st.lists(st.integers(), unique=True, max_size=50), st.integers(1, 60))
def test_a_spread_is_in_order_and_begins_at_the_beginning(all_of_them, most):
    some = questions.spread(all_of_them, most)
    assert len(some) == min(len(all_of_them), most)
    assert some == [one for one in all_of_them if one in some]
    assert some[:1] == all_of_them[:1]


@pytest.mark.parametrize("every", [True, False])
def test_where_nothing_is_installed_every_endpoint_is_asked(every):
    assert questions.choose([], BARE, [], every) == (BARE, 0)
