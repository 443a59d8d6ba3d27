"""Another key in a commercial certificate: held up by records that are seen, never by a DNS that is not there."""

from __future__ import annotations

import datetime

import pytest

from certbot_dovecot import announced
from certbot_dovecot.dane.answers import Data, Key, Outcome, Owner, Seen, Survey, Validity

NOW = datetime.datetime(2027, 1, 25, tzinfo=datetime.timezone.utc)
NAME = "_993._tcp.mail.example.org."
CURRENT, FOLLOWING = Key("AB" * 32), Key("CD" * 32)
OLD, NEW, OTHER = (Data(3, 1, 1, pair * 32) for pair in ("AB", "CD", "EF"))
ADD = [f"{NAME} 3600 IN TLSA {NEW}"]


def server(*records, outcome=None):
    answer = Outcome.ANSWER if records else Outcome.ABSENT
    return Seen("ns1.example.org 192.0.2.1", outcome or answer, frozenset(records), 3600, bool(records))


def word(seen, validity=Validity.SECURE, resolved=()):
    said = Survey(NOW, (Owner(NAME, tuple(seen), validity, frozenset(resolved)),))
    return announced.judge(said, CURRENT, FOLLOWING, ADD, NOW)


def test_no_records_no_word():
    assert word([server()]) == announced.Word()
    assert word([server(OLD)], Validity.INSECURE, [OLD]).safe is False
    unsigned = Seen("ns1.example.org 192.0.2.1", Outcome.ANSWER, frozenset([OLD]), 3600, False)
    assert word([unsigned], Validity.INSECURE, [OLD]) == announced.Word()


@pytest.mark.parametrize("seen", [[], [server(outcome=Outcome.SILENT)]])
def test_a_dns_that_is_not_there_is_told_and_no_more(seen):
    said = word(seen, Validity.UNKNOWN)
    assert said.safe
    assert "is not known" in said.text
    assert "add those of the new key" in said.text


@pytest.mark.parametrize(
    ("seen", "validity"),
    [
        ([server(OLD)], Validity.SECURE),
        ([server(OLD, NEW), server(OLD)], Validity.SECURE),
        ([server(OLD), server(outcome=Outcome.SILENT)], Validity.SECURE),
        ([server(OLD, NEW)], Validity.BOGUS),
        ([server(OLD, NEW)], Validity.UNKNOWN),
        ([server(OTHER)], Validity.SECURE),
    ],
)
def test_records_that_are_seen_hold_it_up(seen, validity):
    said = word(seen, validity, [OLD])
    assert (said.safe, said.add) == (False, tuple(ADD))
    assert NAME in said.text


def test_d22_a_record_of_the_issuer_beside_them_holds_nothing_up():
    assert word([server(OLD, NEW, Data(2, 1, 1, "12" * 32))], resolved=[OLD]).safe


def test_both_records_everywhere():
    said = word([server(OLD, NEW), server(OLD, NEW)], resolved=[OLD])
    assert said.safe
    assert "both keys" in said.text
    assert "3600 s" in said.text
