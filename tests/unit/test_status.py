"""Which endpoints are asked for which lineage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_dovecot import status
from certbot_dovecot.health import Deployed
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


def test_a_host_of_usual_size_is_asked_for_everything():
    ours = [(deployed(number), endpoints(5)) for number in range(10)]
    wanted, notes = status.choose(ours, endpoints(5), False)
    assert (len(wanted), notes) == (100, [])
    assert {(one.lineage.name, one.sni) for one in wanted} == {(f"n{number}", f"n{number}.test") for number in range(10)}


def test_a_hundred_lineages_are_asked_for_once_on_each_server_and_every_endpoint_for_some():
    ours = [(deployed(number), endpoints(5)) for number in range(100)]
    wanted, [note] = status.choose(ours, endpoints(5), False)
    assert len(wanted) == 200
    assert {one.served.endpoint for one in wanted} == {one.endpoint for one in endpoints(5)}
    assert {(one.lineage.name, one.served.endpoint.server) for one in wanted} == {
        (f"n{number}", server) for number in range(100) for server in ("Dovecot", "Postfix")
    }
    assert note.startswith("200 of 1000 combinations of lineage and endpoint were asked")
    assert len(status.choose(ours, endpoints(5), True)[0]) == 1000


@pytest.mark.parametrize("every", [True, False])
def test_what_is_none_of_ours_is_asked_too(every):
    wanted, _ = status.choose([(deployed(1), endpoints(2))], endpoints(5), every)
    assert [(one.served.endpoint.port, one.lineage) for one in wanted[4:]] == [
        (port, None) for _, port in PORTS[2:] for _ in range(2)
    ]


@given(st.integers(0, 40), st.integers(0, 5), st.booleans())
def test_every_lineage_and_every_endpoint_is_asked(count, ports, every):
    ours = [(deployed(number), endpoints(ports)) for number in range(count)]
    wanted, _ = status.choose(ours, endpoints(5), every)
    names = {f"n{number}" for number in range(count)} if ports else set()
    assert {one.lineage.name for one in wanted if one.lineage} == names
    asked = {one.served.endpoint for one in wanted}
    # With few lineages, some endpoints of theirs wait for another time; what is none of theirs does not.
    assert {one.endpoint for one in endpoints(5)[2 * ports :]} <= asked
