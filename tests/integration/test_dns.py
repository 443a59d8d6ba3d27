"""The survey against real name servers: what it must tell apart, it does (DESIGN.md's dane/survey.py; rules D5, D15, D17)."""

from __future__ import annotations

import contextlib
import datetime

import pytest

from certbot_dovecot.dane import rollover, survey
from certbot_dovecot.dane.answers import Data, Key, Outcome, Validity
from certbot_dovecot.dane.rollover import Kind
from tests.lab import names as name_servers
from tests.lab.names import CACHE, NEGATIVE, TTL

CURRENT, FOLLOWING = Key("AB" * 32), Key("CD" * 32)
ONE = frozenset({Data(3, 1, 1, "AB" * 32)})
NEXT = Data(3, 1, 1, "CD" * 32)


@pytest.fixture(params=["bind", "knot"])
def servers(lab, request):
    """Name servers as they start: every zone with one record."""
    with contextlib.ExitStack() as stack:
        yield stack.enter_context(name_servers.run(request.param))


def clock():
    return datetime.datetime.now(datetime.timezone.utc)


def look(*owners, trusted=True):
    return survey.make(owners, survey.Server(CACHE, 53, trusted), clock, ipv6=False)


def decide(made, following=FOLLOWING):
    evidence = rollover.observe(None, made, CURRENT, following) if following else None
    return rollover.decide(made, evidence, CURRENT, following, made.at)


def test_what_the_survey_tells_apart(servers):
    others = ("_443._tcp.mail.secure.test.", "_465._tcp.mail.secure.test.")
    found = look(*(f"_25._tcp.mail.{zone}." for zone in name_servers.ZONES), *others)
    secure, bogus, plain, lame, absent, alias = found.owners
    answers = [(seen.outcome, seen.records, seen.ttl, seen.signed) for seen in secure.seen]
    assert answers == [(Outcome.ANSWER, ONE, TTL, True)] * 2
    assert (secure.validity, secure.resolved) == (Validity.SECURE, ONE)
    assert bogus.validity is Validity.BOGUS
    assert plain.validity is Validity.INSECURE
    assert [(seen.outcome, seen.signed) for seen in plain.seen] == [(Outcome.ANSWER, False)] * 2
    assert [seen.outcome for seen in lame.seen] == [Outcome.ANSWER, Outcome.LAME]
    assert absent.validity is Validity.SECURE
    assert [(seen.outcome, seen.ttl) for seen in absent.seen] == [(Outcome.ABSENT, NEGATIVE)] * 2
    # D15: an alias is followed, at the resolver and at the name servers.
    assert (alias.validity, alias.resolved) == (Validity.SECURE, ONE)
    assert [seen.records for seen in alias.seen] == [ONE, ONE]


def test_what_is_decided_of_each(servers):
    kinds = {zone: decide(look(f"_25._tcp.mail.{zone}.")).kind for zone in name_servers.ZONES}
    assert kinds == {"secure.test": Kind.PUBLISH, "bogus.test": Kind.KEEP, "plain.test": Kind.FREE, "lame.test": Kind.KEEP}
    assert decide(look("_443._tcp.mail.secure.test.")).kind is Kind.FREE
    assert decide(look("_25._tcp.mail.secure.test."), None).kind is Kind.STANDBY
    # D17: a resolver that nobody calls trusted proves nothing.
    assert decide(look("_25._tcp.mail.secure.test.", trusted=False)).kind is Kind.KEEP


def test_d5_a_secondary_that_lags_holds_up_the_switch(servers):
    servers.update("secure.test", ("_25._tcp.mail", str(NEXT)))
    found = look("_25._tcp.mail.secure.test.")
    primary, secondary = found.owners[0].seen
    assert (primary.records, secondary.records) == (ONE | {NEXT}, ONE)
    step = decide(found)
    assert step.kind is Kind.PUBLISH
    assert "ns2.secure.test (127.0.0.3)" in step.reason


def test_name_servers_that_are_gone_are_doubt(lab):
    with name_servers.run():
        pass
    found = look("_25._tcp.mail.secure.test.")
    assert decide(found).kind is Kind.KEEP
