"""Which owner names are another lineage's, and which name is this one's, where names of lineages overlap."""

from __future__ import annotations

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from certbot_dovecot import seen
from certbot_dovecot.servers.contract import Endpoint, Pair, Served, View

OURS, THEIRS = Pair("/ours/2026.pem", "/ours/2026.key"), Pair("/theirs/2026.pem", "/theirs/2026.key")
HOSTS = ("imap.example.org", "mail.example.org", "smtp.example.org")
PORTS = (465, 587, 993)
PAIRS = st.sampled_from([OURS, THEIRS, None])


def served(pairs):
    return [Served(Endpoint("Dovecot", "imap", "127.0.0.1", port, True), pair) for port, pair in pairs.items()]


@given(
    st.dictionaries(st.sampled_from(PORTS), PAIRS),
    st.dictionaries(st.tuples(st.sampled_from(HOSTS), st.sampled_from(PORTS)), PAIRS),
)
def test_an_owner_name_is_elsewhere_if_its_clients_get_another_certificate_at_a_port_of_ours(base, by_name):
    def look(host):
        return served({port: by_name.get((host, port), pair) for port, pair in base.items()})

    found = seen.elsewhere(HOSTS, served(base), look, lambda path: path.startswith("/ours/"))
    assert found == {
        f"_{port}._tcp.{host}."
        for (host, port), pair in by_name.items()
        if base.get(port) == OURS and pair != OURS
    }  # fmt: skip


@given(st.dictionaries(st.sampled_from([*HOSTS, "any-host.example.org"]), st.lists(PAIRS, max_size=2)), st.permutations(HOSTS))
def test_the_name_to_ask_for_is_the_first_one_that_the_lineage_is_served_for(by_name, names):
    def server(number):
        def look(host):
            return View(tuple(served(dict(zip([number], by_name.get(host, [])[number:])))), ())

        return SimpleNamespace(look=look)

    hosts = [*names, "any-host.example.org"]
    wanted = next((host for host in hosts if OURS in by_name.get(host, [])), hosts[0])
    assert seen.name_of([server(0), server(1)], ["*.example.org", *names], lambda path: path.startswith("/ours/")) == wanted
    assert seen.name_of([server(0)], ["192.0.2.1"], lambda path: True) is None
