"""What ``doctor`` says of an address whose key has no record: who does not come through, port by port (RFC 7672)."""

from __future__ import annotations

import datetime
from dataclasses import replace

import pytest

from certbot_dovecot.checks import dane
from certbot_dovecot.dane.answers import AddressAnswer, Data, Key, Outcome, Owner, Seen, Survey, Validity
from tests.integration.remedies import alternatives
from tests.unit import snapshot

NOW = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.timezone.utc)
HOST, THERE, OTHER = "mail.example.org", "192.0.2.2", Key("B" * 64, "B" * 128)
BAD, GOOD = frozenset({Data(3, 1, 1, "A" * 64)}), frozenset({Data(3, 1, 1, OTHER.sha256)})


def said(*ports, sets=(BAD,), key=OTHER, error=""):
    """The one finding about an address, where the name servers have these sets."""
    names = [f"_{port}._tcp.{HOST}." for port in ports]
    seen = tuple(Seen(f"ns{number}", Outcome.ANSWER, records, 300, True) for number, records in enumerate(sets))
    owners = tuple(Owner(name, seen, Validity.SECURE, sets[0]) for name in names)
    answers = tuple(AddressAnswer(name, THERE, key, error) for name in names)
    held = replace(snapshot.held(), survey=Survey(NOW, owners, addresses=answers))
    [finding] = dane.addresses(snapshot.facts(held=(held,)))
    return finding


@pytest.mark.parametrize(
    ("ports", "who"),
    [
        ((25,), "senders that use DANE do not deliver there"),
        ((993,), "clients that check TLSA records do not accept it there"),
        ((465, 993), "clients that check TLSA records do not accept it there"),
        (
            (25, 465),
            "senders that use DANE do not deliver at port 25, and clients that check TLSA records do not accept it at port 465",
        ),
        (
            (25, 465, 993),
            "senders that use DANE do not deliver at port 25, and clients that check TLSA records do not accept it at ports "
            "465, 993",
        ),
    ],
)
def test_senders_deliver_at_port_25_only(ports, who):
    finding = said(*ports)
    assert finding.what.endswith(f"serves the key 3 1 1 {OTHER.sha256}, which no set of its TLSA records matches: {who}")
    assert [way[:9] for way in alternatives(finding.todo)] == ["Publish 3", "if 192.0."]


def test_where_some_sets_match_some_come_through():
    what = said(25, 993, sets=(GOOD, BAD)).what
    assert "which not every set of its TLSA records matches: senders that use DANE may not deliver at port 25, and" in what
    assert what.endswith("clients that check TLSA records may not accept it at port 993")


def test_an_address_that_could_not_be_asked():
    finding = said(993, key=None, error="timed out")
    assert "could not be asked (timed out)" in finding.what
    assert len(alternatives(finding.todo)) == 2
