"""Which ports may have TLSA records, of what was seen."""

from __future__ import annotations

import pytest

from certbot_dovecot import seen
from certbot_dovecot.servers.contract import Endpoint, Pair, Served

PAIR = Pair("/c.pem", "/k.key")
IMAP = Endpoint("Dovecot", "imap", "127.0.0.1", 993, True)
V4, V6 = (Endpoint("Postfix", "smtp", address, 25, False) for address in ("127.0.0.1", "::1"))
IMPLICIT = Endpoint("Postfix", "smtp", "127.0.0.1", 25, True)
SUBMISSION = Endpoint("Dovecot", "submission", "127.0.0.1", 25, False)


def ports(*served, keys):
    return seen.ports([Served(IMAP, PAIR), *served], keys)


def test_d14_one_endpoint_is_enough_elsewhere():
    v6 = Endpoint("Dovecot", "imap", "::1", 993, True)
    assert ports(Served(v6, PAIR), keys={IMAP: "A"}) == {993: ["A"]}
    assert ports(Served(v6, PAIR), keys={IMAP: "B", v6: "A"}) == {993: ["A", "B"]}


def test_d13_port_25_if_every_endpoint_was_seen():
    assert ports(Served(V4, PAIR), Served(V6, PAIR), keys={IMAP: "A", V4: "A", V6: "A"}) == {25: ["A"], 993: ["A"]}


@pytest.mark.parametrize(
    ("served", "keys"),
    [
        ([Served(V4, PAIR), Served(V6, PAIR)], [V4]),
        ([Served(V4, PAIR, mixed=True)], [V4]),
        ([], [V4]),
        ([Served(IMPLICIT, PAIR)], [IMPLICIT]),
        ([Served(SUBMISSION, PAIR)], [SUBMISSION]),
    ],
)
def test_d13_port_25_not_on_any_doubt(served, keys):
    assert ports(*served, keys={IMAP: "A", **dict.fromkeys(keys, "A")}) == {993: ["A"]}


def test_d13_port_25_not_if_an_endpoint_cannot_be_asked():
    """It is among those that are looked after, and nobody saw what it serves."""
    hidden = Endpoint("Postfix", "smtp", "127.0.0.1", 25, False, "haproxy")
    assert ports(Served(V4, PAIR), Served(hidden, PAIR), keys={V4: "A", IMAP: "A"}) == {993: ["A"]}
    assert ports(Served(V4, PAIR), Served(hidden, PAIR), keys={V4: "A", hidden: "A"}) == {25: ["A"]}
