"""Which owner names are another lineage's, although a wildcard of this one covers the host."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from certbot_dovecot import seen
from certbot_dovecot.servers.contract import Endpoint, Pair, Served

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
