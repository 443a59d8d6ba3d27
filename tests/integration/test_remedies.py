"""Every remedy that ``status`` and ``doctor`` print is played, and heals: the finding is gone, and every port answers."""

from __future__ import annotations

import contextlib

import pytest

from tests.integration import catalogue, view
from tests.integration.catalogue import CASES
from tests.integration.catalogue_status import SECURE
from tests.integration.remedies import Bench, alternatives, fresh, in_order, keep, play, worse
from tests.integration.sound import restored, trust
from tests.integration.test_install import NAME
from tests.lab import names as name_servers

PLAIN = sorted(name for name, case in CASES.items() if not case.dns)
#: Those after which the host is in order first, for the next one needs no other.
PLAIN.sort(key=lambda name: not CASES[name].leaves)


class Benches:
    """One host in order after the other."""

    def __init__(self, lab):
        self.lab = lab
        self.stack = contextlib.ExitStack()
        self.bench = None

    def take(self):
        if self.bench is None:
            self.bench = self.stack.enter_context(in_order(self.lab.host, self.lab.ca))
        return self.bench

    def drop(self):
        self.bench = None
        self.stack.close()


@pytest.fixture(scope="module")
def benches(lab):
    some = Benches(lab)
    yield some
    some.drop()


def played(bench, case, ports):
    """Put the situation, see the finding, do what it says, and see it gone."""
    case.put(bench)
    before = case.seen(bench)
    mine = [one for one in before if case.is_it(one)]
    assert mine, before
    ways = alternatives(mine[0]["todo"])
    assert catalogue.unplayed(case.finding, len(ways)) == [], ways
    play(bench, case, mine[0])
    after = case.seen(bench)
    assert not [one for one in after if case.is_it(one)], after
    assert not worse(before, after, mine[0], case), after
    served = {port: view.leaf_at(bench.host, port) for port in ports}
    assert "" not in served.values(), served
    if case.serves and not case.dns:
        assert set(served.values()) == {view.live_leaf(NAME)}, served


@pytest.mark.parametrize("name", PLAIN)
def test_a_remedy(benches, name):
    case, bench = CASES[name], benches.take()
    try:
        played(bench, case, view.tls_ports())
    except BaseException:
        benches.drop()
        raise
    if not case.leaves:
        benches.drop()


@pytest.mark.parametrize("name", sorted(name for name, case in CASES.items() if case.dns))
def test_a_remedy_in_the_dns(lab, name):
    host = lab.host
    kept = fresh(host, SECURE)
    with name_servers.run() as servers, restored("/etc/resolv.conf"):
        if not kept:
            host.certbot("--installer", "dovecot", "-a", "standalone", "-d", SECURE, "--dovecot-resolver", name_servers.CACHE)
            keep(host, SECURE)
        trust()
        played(Bench(host, lab.ca, servers), CASES[name], view.tls_ports())
