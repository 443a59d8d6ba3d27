"""The survey against real name servers: what it must tell apart, it does (DESIGN.md's dane/survey.py; rules D5, D15, D17)."""

from __future__ import annotations

import contextlib
import datetime
import time

import pytest

from certbot_dovecot.dane import publish, rollover, survey, update
from certbot_dovecot.dane.answers import Data, Key, Outcome, Validity
from certbot_dovecot.dane.rollover import Kind
from certbot_dovecot.problems import ServerProblem
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
    assert alias.target == "_dane.secure.test."
    # Both servers for the alias, and both for what stands where it leads.
    assert [(seen.alias, seen.records) for seen in alias.seen] == [("", ONE), ("_dane.secure.test.", frozenset())] * 2
    # D26: Knot's signatures are of now, and BIND's too.
    assert all(seen.inception < clock() < seen.expiration for owner in (secure, absent, alias) for seen in owner.seen)
    assert {(seen.inception, seen.expiration) for seen in plain.seen} == {(None, None)}


def test_what_is_decided_of_each(servers):
    kinds = {zone: decide(look(f"_25._tcp.mail.{zone}.")).kind for zone in name_servers.ZONES}
    assert kinds == {"secure.test": Kind.PUBLISH, "bogus.test": Kind.KEEP, "plain.test": Kind.FREE, "lame.test": Kind.KEEP}
    assert decide(look("_443._tcp.mail.secure.test.")).kind is Kind.FREE
    assert decide(look("_25._tcp.mail.secure.test."), None).kind is Kind.STANDBY
    # D17: a resolver that nobody calls trusted proves nothing.
    assert decide(look("_25._tcp.mail.secure.test.", trusted=False)).kind is Kind.KEEP


def test_d5_a_secondary_that_lags_holds_up_the_switch(servers):
    servers.update("secure.test", ("_25._tcp.mail", str(NEXT)))
    stands(primary(servers), "_25._tcp.mail.secure.test.")
    found = look("_25._tcp.mail.secure.test.")
    first, secondary = found.owners[0].seen
    assert (first.records, secondary.records) == (ONE | {NEXT}, ONE)
    step = decide(found)
    assert step.kind is Kind.PUBLISH
    assert "ns2.secure.test (127.0.0.3)" in step.reason


def test_name_servers_that_are_gone_are_doubt(lab):
    with name_servers.run():
        pass
    found = look("_25._tcp.mail.secure.test.")
    assert decide(found).kind is Kind.KEEP


#: The parent zone's name server, and one of ``secure.test`` that only the parent names.
PARENT, HIDDEN = "127.0.0.7", "127.0.0.9"
_STUB = f'stub-zone:\n  name: "test."\n  stub-addr: {PARENT}\nserver:\n'
_PARENT = name_servers.Cache(options=f'  val-override-date: "-1"\n{_STUB}')
_OF_PARENT = (
    f"$ORIGIN test.\n$TTL 60\n@ IN SOA ns.test. hostmaster 1 3600 600 86400 60\n@ IN NS ns\nns IN A {PARENT}\n"
    "secure IN NS ns1.secure\nsecure IN NS ns9.secure\nplain IN NS ns1.plain\n"
    f"ns1.secure IN A {name_servers.PRIMARY}\nns9.secure IN A {HIDDEN}\nns1.plain IN A {name_servers.PRIMARY}\n"
)


@pytest.fixture
def below(lab):
    """Name servers, and one of the zone above them."""
    with name_servers.run("knot", caches=[_PARENT]) as servers:
        yield servers


def test_d29_a_server_that_only_the_parent_names_is_asked(below):
    """The delegation names a server with an old zone: a resolver may ask that one as well."""
    owner = "_25._tcp.mail.secure.test."
    name_servers.serve(below, PARENT, "test", _OF_PARENT)
    old = _OF_PARENT.replace("$ORIGIN test.", "$ORIGIN secure.test.").partition("ns IN A")[0]
    name_servers.serve(below, HIDDEN, "secure.test", f"{old}_25._tcp.mail IN TLSA 3 1 1 {'EF' * 32}\n")
    (found,) = look(owner).owners
    hosts = ("ns1.secure.test (127.0.0.2)", "ns2.secure.test (127.0.0.3)", f"ns9.secure.test ({HIDDEN})")
    assert tuple(seen.server for seen in found.seen) == hosts
    below.update("secure.test", ("_25._tcp.mail", str(NEXT)))
    below.catch_up()
    step = decide(look(owner))
    assert (step.kind, hosts[2] in step.reason) == (Kind.PUBLISH, True)
    # It dies: silence.
    below.daemons[HIDDEN].stop()
    assert decide(look(owner)).kind is Kind.KEEP


@pytest.mark.parametrize("signed", [True, False])
def test_d29_a_ds_at_the_parent_of_a_zone_that_is_seen_unsigned_is_doubt(lab, signed):
    """As inside a network whose resolver has an unsigned zone of its own for the same names, and takes it for insecure."""
    ds = f"inside IN DS 4711 13 2 {'AB' * 32}\n" if signed else ""
    head = f"$TTL {TTL}\n@ IN SOA ns1.secure.test. hostmaster 1 3600 600 86400 {NEGATIVE}\n@ IN NS ns1.secure.test.\n"
    outer = f"$ORIGIN secure.test.\n{head}ns1 IN A {name_servers.PRIMARY}\ninside IN NS ns1\n{ds}"
    inner = f"$ORIGIN inside.secure.test.\n{head}mail IN A 127.0.0.1\n_25._tcp.mail IN TLSA {name_servers.RECORD}\n"
    zones = [name_servers.Zone("secure.test", outer, signed=True), name_servers.Zone("inside.secure.test", inner)]
    cache = name_servers.Cache(options='  val-override-date: "-1"\n  domain-insecure: "inside.secure.test"\n')
    with name_servers.run("knot", zones, [cache]):
        for owner in ("_25._tcp.mail.inside.secure.test.", "_443._tcp.mail.inside.secure.test."):
            step = decide(look(owner), None)
            assert step.kind is (Kind.KEEP if signed else Kind.FREE)
            assert ("as its parent zone says (DS)" in step.reason) is signed


def primary(servers, **other):
    kept = {"address": name_servers.PRIMARY, "port": 53, "key": "lab", "secret": servers.secret, "algorithm": "HMAC-SHA256"}
    return update.Primary(publish.Credentials(**{**kept, **other}), seconds=3)


def stands(to, owner, seconds=5):
    """What stands at an owner name once the server has signed what it was told."""
    found, deadline = to.present(owner), time.monotonic() + seconds
    while True:
        time.sleep(0.3)
        before, found = found, to.present(owner)
        if found == before or time.monotonic() > deadline:
            return found


def test_an_update_adds_and_deletes_single_records(servers):
    to, owner = primary(servers), "_25._tcp.mail.secure.test."
    made = to.publish(owner, [CURRENT, FOLLOWING], set())
    assert (made.add, made.delete) == ({NEXT}, frozenset())
    assert stands(to, owner) == (owner, ONE | {NEXT})
    # What was there before is not ours, and stays; what is ours and not wanted goes.
    made = to.publish(owner, [CURRENT], {NEXT})
    assert (made.add, made.delete, stands(to, owner)[1]) == (frozenset(), {NEXT}, ONE)
    assert to.publish(owner, [CURRENT], set()).idle


def test_an_update_right_after_another_is_computed_from_what_is_there(servers):
    to, owner = primary(servers), "_25._tcp.mail.secure.test."
    for _ in range(5):
        to.publish(owner, [CURRENT, FOLLOWING], set())
        to.publish(owner, [CURRENT], {NEXT})
    assert stands(to, owner) == (owner, ONE)


def test_an_answer_of_before_our_own_update_is_asked_for_again(servers, monkeypatch):
    """BIND gives one for some milliseconds: it would say that there is nothing to delete."""
    to, owner = primary(servers), "_25._tcp.mail.secure.test."
    to.publish(owner, [CURRENT, FOLLOWING], set())
    stands(to, owner)
    ask, late = to.present, [(owner, ONE)] * 3
    monkeypatch.setattr(to, "present", lambda name: late.pop() if late else ask(name))
    assert to.publish(owner, [CURRENT], {NEXT}).delete == {NEXT}
    assert stands(to, owner) == (owner, ONE)
    # Somebody who puts back what we deleted is believed in the end.
    servers.update("secure.test", ("_25._tcp.mail", str(NEXT)))
    stands(to, owner)
    assert to.publish(owner, [CURRENT], {NEXT}).delete == {NEXT}
    assert stands(to, owner) == (owner, ONE)


def test_an_update_where_nothing_stood(servers):
    to, owner = primary(servers, sign_query=True), "_993._tcp.mail.secure.test."
    assert to.publish(owner, [CURRENT], set()).add == ONE
    assert stands(to, owner) == (owner, ONE)
    to.publish(owner, [], ONE)
    assert stands(to, owner) == (owner, frozenset())


def test_d15_an_update_follows_an_alias(servers):
    to = primary(servers)
    assert to.publish("_465._tcp.mail.secure.test.", [FOLLOWING], set()).owner == "_dane.secure.test."
    assert stands(to, "_dane.secure.test.")[1] == ONE | {NEXT}


def test_an_editor_in_between_loses_nothing(servers):
    to, owner, other = primary(servers), "_25._tcp.mail.secure.test.", Data(3, 1, 1, "EF" * 32)
    sent = []

    def edit(change):
        sent.append(change)
        if len(sent) == 1:
            servers.update("secure.test", ("_25._tcp.mail", str(other)))

    to.publish(owner, [CURRENT, FOLLOWING], set(), edit)
    assert [change.present for change in sent] == [ONE, ONE | {other}]
    assert stands(to, owner)[1] == ONE | {NEXT, other}


def test_an_update_that_is_refused_says_so(servers):
    owner = "_25._tcp.mail.secure.test."
    with pytest.raises(ServerProblem, match=r"name server 127\.0\.0\.2 port 53: .* This record set was left"):
        primary(servers, secret="AAAA").publish(owner, [FOLLOWING], set())
    with pytest.raises(ServerProblem, match=r"does not answer for _25\._tcp\.elsewhere\.invalid\. with authority"):
        primary(servers).publish("_25._tcp.elsewhere.invalid.", [FOLLOWING], set())
    with pytest.raises(ServerProblem, match="no usable answer"):
        primary(servers, port=54).publish(owner, [FOLLOWING], set())
    with pytest.raises(ServerProblem, match="cannot be used"):
        primary(servers, secret="not base64")
    assert stands(primary(servers), owner)[1] == ONE
