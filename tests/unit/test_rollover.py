"""The rollover's rules (facts: D1 to D17), each by its number, and a simulation of DNS worlds."""

from __future__ import annotations

import datetime
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certbot_dovecot.dane import rollover, standing
from certbot_dovecot.dane.answers import AddressAnswer, Data, Key, Outcome, Owner, Seen, Survey, Validity
from certbot_dovecot.dane.rollover import FLOOR, Kind
from tests.plays import examples

NOW = datetime.datetime(2027, 1, 2, tzinfo=datetime.timezone.utc)
HOUR = datetime.timedelta(hours=1)
CURRENT, NEXT = Key("A" * 64, "A" * 128), Key("B" * 64, "B" * 128)
OLD = Data(3, 1, 1, CURRENT.sha256)
NEW = Data(3, 1, 1, NEXT.sha256)
NAME = "_25._tcp.mail.example.org."
BOTH = frozenset({OLD, NEW})


def owner(*sets, name=NAME, ttl=3600, validity=Validity.SECURE, signed=True):
    """One name server a set; the resolver has the first."""
    seen = [
        Seen(f"ns{n}", Outcome.ANSWER if records else Outcome.ABSENT, frozenset(records), ttl, signed)
        for n, records in enumerate(sets)
    ]
    return Owner(name, tuple(seen), validity, frozenset(sets[0]))


def survey(*owners, at=NOW):
    return Survey(at, owners)


def step(*owners, following=NEXT, since=None, ttl=3600, floor=FLOOR):
    """What is decided now, if the same was seen at every survey since ``since``."""
    here = survey(*owners)
    evidence = seen_since(since or NOW, here, following) if following else None
    return rollover.decide(here, evidence, CURRENT, following, NOW, floor)


def seen_since(since, here, following=NEXT, evidence=None, every=40 * HOUR):
    """The evidence, if the same was seen at every look from ``since`` until now, and the last one is now."""
    looks = [since + number * every for number in range(int((here.at - since) / every) + 1)]
    for at in dict.fromkeys([*looks[-100:], here.at]):
        evidence = rollover.observe(evidence, replace(here, at=at), CURRENT, following)
    return evidence


def test_without_records_the_key_is_free():
    assert step(owner((), ())).kind is Kind.FREE


def test_records_in_an_unsigned_zone_do_not_count():
    assert step(owner({OLD}, signed=False, validity=Validity.INSECURE)).kind is Kind.FREE


def test_records_without_a_next_key_keep_the_key():
    found = step(owner({OLD}), following=None)
    assert found.kind is Kind.STANDBY
    assert NAME in found.reason


def test_d5_every_server_must_have_both():
    assert step(owner(BOTH, {OLD}), since=NOW - 100 * HOUR).kind is Kind.PUBLISH
    assert step(owner(BOTH, BOTH), since=NOW - 100 * HOUR).kind is Kind.SWITCH


def test_d5_a_regression_resets_t0():
    good, bad = survey(owner(BOTH), at=NOW - 100 * HOUR), survey(owner({OLD}), at=NOW - 50 * HOUR)
    evidence = rollover.observe(rollover.observe(None, good, CURRENT, NEXT), bad, CURRENT, NEXT)
    assert evidence.since is None
    again = rollover.observe(evidence, survey(owner(BOTH), at=NOW - HOUR), CURRENT, NEXT)
    assert again.since == NOW - HOUR


def test_d5_a_name_that_is_published_later_resets_t0():
    first = rollover.observe(None, survey(owner(BOTH), at=NOW - 100 * HOUR), CURRENT, NEXT)
    two = rollover.observe(first, survey(owner(BOTH), owner(BOTH, name="_465._tcp.mail.example.org.")), CURRENT, NEXT)
    assert (first.since, two.since) == (NOW - 100 * HOUR, NOW)


def test_a_name_without_records_holds_up_nothing():
    assert step(owner(BOTH), owner((), name="_465._tcp.mail.example.org."), since=NOW - 100 * HOUR).kind is Kind.SWITCH


def test_d6_twice_the_largest_ttl_that_was_seen_or_the_floor():
    before = survey(owner({OLD}, ttl=90_000), at=NOW - 60 * HOUR)
    evidence = rollover.observe(None, before, CURRENT, NEXT)
    evidence = seen_since(NOW - 49 * HOUR, survey(owner(BOTH, ttl=300)), NEXT, evidence)
    assert rollover.earliest(evidence) == NOW - 49 * HOUR + datetime.timedelta(seconds=180_000)
    found = rollover.decide(survey(owner(BOTH, ttl=300)), evidence, CURRENT, NEXT, NOW)
    assert (found.kind, found.until) == (Kind.WAIT, rollover.earliest(evidence))
    short = rollover.observe(None, survey(owner(BOTH, ttl=300)), CURRENT, NEXT)
    assert rollover.earliest(short) == NOW + FLOOR


def test_d7_a_resolver_that_still_has_an_older_set_holds_the_switch():
    for older, kind in (({OLD}, Kind.WAIT), ({NEW}, Kind.PUBLISH), (BOTH, Kind.SWITCH), ((), Kind.PUBLISH)):
        seen = replace(owner(BOTH), resolved=frozenset(older))
        assert step(seen, since=NOW - 100 * HOUR).kind is kind


def test_d6_the_negative_ttl_counts_where_the_set_was_absent():
    absent = survey(Owner(NAME, (Seen("ns", Outcome.ABSENT, ttl=200_000),), Validity.SECURE), at=NOW - HOUR)
    evidence = rollover.observe(rollover.observe(None, absent, CURRENT, NEXT), survey(owner(BOTH)), CURRENT, NEXT)
    assert rollover.earliest(evidence) == NOW + datetime.timedelta(seconds=400_000)


def absent(negative=3600, validity=Validity.SECURE, name=NAME):
    return Owner(name, (Seen("ns", Outcome.ABSENT, ttl=negative),), validity, target=name)


def test_d6_the_largest_ttl_outlives_the_pair_of_keys():
    """A cache holds what was given before the new standby's key was made, under the TTL of that time."""
    before = rollover.observe(None, survey(owner({OLD}, ttl=604_800), at=NOW - 2 * HOUR), CURRENT, Key("C" * 64))
    evidence = rollover.observe(before, survey(owner(BOTH, ttl=300)), CURRENT, NEXT)
    assert rollover.earliest(evidence) == NOW + datetime.timedelta(seconds=2 * 604_800)
    alone = rollover.observe(None, survey(owner({OLD}, ttl=604_800), at=NOW - 2 * HOUR), CURRENT, None)
    assert alone.since is None
    assert rollover.observe(alone, survey(owner(BOTH, ttl=300)), CURRENT, NEXT).ttl == 604_800


@pytest.mark.parametrize("following", [NEXT, None])
def test_d7_records_that_are_gone_still_count_while_caches_may_hold_them(following):
    """The last record was withdrawn a moment ago: a cache has it, and no key but this one may be served."""
    evidence = rollover.observe(None, survey(owner({OLD}, ttl=90_000), at=NOW - HOUR), CURRENT, following)
    gone = survey(absent())
    evidence = rollover.observe(evidence, gone, CURRENT, following)
    found = rollover.decide(gone, evidence, CURRENT, following, NOW)
    until = NOW + datetime.timedelta(seconds=180_000)
    assert (found.kind, found.until) == (Kind.KEEP, until)
    later = survey(absent(), at=until)
    evidence = rollover.observe(evidence, later, CURRENT, following)
    assert rollover.decide(later, evidence, CURRENT, following, until).kind is Kind.FREE


def test_d7_the_end_of_all_records_is_not_t0():
    """Nor the other way round: what caches hold from one is not what they hold from the other."""
    evidence = rollover.observe(None, survey(owner(BOTH), at=NOW - 100 * HOUR), CURRENT, NEXT)
    evidence = rollover.observe(evidence, survey(absent(), at=NOW - HOUR), CURRENT, NEXT)
    assert evidence.since == NOW - HOUR
    assert rollover.observe(evidence, survey(owner(BOTH)), CURRENT, NEXT).since == NOW


def test_d7_records_that_we_sent_and_no_server_has_yet_are_no_freedom():
    found = rollover.decide(survey(absent()), None, CURRENT, NEXT, NOW, ours={NAME})
    assert found.kind is Kind.PUBLISH
    both = survey(owner(BOTH), absent(name="_465._tcp.mail.example.org."))
    evidence = seen_since(NOW - 100 * HOUR, both)
    late = rollover.decide(both, evidence, CURRENT, NEXT, NOW, ours={NAME, "_465._tcp.mail.example.org."})
    assert late.kind is Kind.PUBLISH
    assert "_465._tcp.mail.example.org." in late.reason
    # In a zone that is not signed nothing counts, whether it is there or not.
    unsigned = survey(absent(validity=Validity.INSECURE))
    assert rollover.decide(unsigned, None, CURRENT, NEXT, NOW, ours={NAME}).kind is Kind.FREE


def test_d7_an_old_look_is_no_look():
    here = survey(owner(BOTH), at=NOW - HOUR)
    evidence = rollover.observe(None, replace(here, at=NOW - 100 * HOUR), CURRENT, NEXT)
    assert rollover.decide(here, evidence, CURRENT, NEXT, NOW).kind is Kind.LOOK
    assert rollover.decide(replace(here, at=NOW + HOUR), evidence, CURRENT, NEXT, NOW).kind is Kind.LOOK
    assert rollover.decide(None, evidence, CURRENT, NEXT, NOW).kind is Kind.KEEP


def test_d6_a_ttl_is_remembered_with_other_keys_too():
    long = rollover.observe(None, survey(owner({OLD}, ttl=200_000), at=NOW - 2 * HOUR), CURRENT, None)
    made = rollover.observe(long, survey(owner(BOTH, ttl=300)), CURRENT, NEXT)
    assert (made.since, rollover.earliest(made)) == (NOW, NOW + datetime.timedelta(seconds=400_000))


def test_evidence_of_another_key_is_none():
    other = rollover.observe(None, survey(owner(BOTH), at=NOW - 100 * HOUR), CURRENT, Key("C" * 64))
    assert rollover.decide(survey(owner(BOTH)), other, CURRENT, NEXT, NOW).kind is Kind.LOOK


def test_d2_a_3_1_2_must_match_both_keys_too():
    half = frozenset({*BOTH, Data(3, 1, 2, CURRENT.sha512)})
    whole = frozenset({*half, Data(3, 1, 2, NEXT.sha512)})
    assert step(owner(half), since=NOW - 100 * HOUR).kind is Kind.PUBLISH
    assert step(owner(whole), since=NOW - 100 * HOUR).kind is Kind.SWITCH


def test_a_stale_record_holds_up_nothing():
    stale = frozenset({*BOTH, *(Data(3, 1, 1, digit * 64) for digit in "CDEF5")})
    assert step(owner(stale), since=NOW - 100 * HOUR).kind is Kind.SWITCH


HOSTILE = {
    "D1: no digest": {Data(3, 1, 0, "C" * 182)},
    "unknown matching type": {Data(3, 1, 99, "C" * 64)},
    "short": {Data(3, 1, 1, "C" * 62)},
    "empty": {Data(3, 1, 1, "")},
    "D4: many": {Data(3, 1, 1, f"{n:064X}") for n in range(12)},
}


@pytest.mark.parametrize("case", HOSTILE)
def test_d1_what_is_not_understood_keeps_the_key(case):
    assert step(owner({*BOTH, *HOSTILE[case]}), since=NOW - 100 * HOUR).kind is Kind.KEEP


OTHERS = [Data(*kind, "C" * 64) for kind in ((2, 1, 1), (2, 0, 1), (1, 1, 1), (0, 0, 0), (3, 0, 1))]


@pytest.mark.parametrize("other", OTHERS)
def test_d22_a_record_of_another_kind_stops_no_rotation_that_3_1_1_proves(other):
    assert step(owner({*BOTH, other}), since=NOW - 100 * HOUR).kind is Kind.SWITCH
    # It proves nothing, either: alone, or where a 3 1 1 is missing.
    for records in ({other}, {OLD, other}):
        assert step(owner(records), since=NOW - 100 * HOUR).kind is Kind.PUBLISH
    assert step(owner({other}), following=None).kind is Kind.STANDBY


def test_d22_a_record_of_another_kind_is_told():
    issuer = OTHERS[0]
    there = [AddressAnswer(NAME, "192.0.2.1", CURRENT)]
    assert standing.beside(replace(survey(owner({*BOTH, issuer})), addresses=tuple(there)), CURRENT) == ((NAME, issuer, True),)
    # Another host may have no other match than this one.
    for key in (Key("E" * 64), None):
        here = replace(survey(owner({*BOTH, issuer})), addresses=(*there, AddressAnswer(NAME, "192.0.2.2", key)))
        assert standing.beside(here, CURRENT) == ((NAME, issuer, False),)
    # It may be the only match: nothing is said of what may go.
    assert standing.beside(survey(owner({issuer})), CURRENT) == ()
    assert standing.beside(survey(owner({NEW, issuer})), CURRENT) == ()


@given(st.frozensets(st.sampled_from([OLD, NEW, *OTHERS])), st.frozensets(st.sampled_from(OTHERS)))
def test_d22_the_step_is_the_same_whatever_other_kinds_stand_beside(records, more):
    ours = frozenset(data for data in records if (data.usage, data.selector) == (3, 1))
    if ours:
        found, plain = (step(owner(some), since=NOW - 100 * HOUR) for some in (ours | more, ours))
        assert found == plain


def test_d13_a_guarded_port_counts_only_with_a_record_of_ours():
    guarded, other = "_25._tcp.mail.example.org.", Data(3, 1, 1, "E" * 64)
    here = owner(BOTH, name="_993._tcp.mail.example.org.")
    for records, counts in (({OLD}, True), ({NEW, other}, True), ({other}, False), (set(), False)):
        seen = survey(here, owner(records, name=guarded))
        assert (guarded in [one.name for one in rollover.relevant(seen, {guarded}, [CURRENT, NEXT]).owners]) is counts
    # Nobody knows what stands there: doubt.
    lame = replace(owner({other}, name=guarded), seen=(Seen("ns", Outcome.LAME),))
    assert len(rollover.relevant(survey(here, lame), {guarded}, [CURRENT, NEXT]).owners) == 2
    both = survey(here, owner(BOTH, name=guarded))
    evidence = seen_since(NOW - 100 * HOUR, both)
    assert rollover.decide(both, evidence, CURRENT, NEXT, NOW).kind is Kind.SWITCH
    found = rollover.decide(both, evidence, CURRENT, NEXT, NOW, guarded=frozenset({guarded}))
    assert (found.kind, found.lasting) == (Kind.KEEP, True)
    assert "--dovecot-postfix-services all" in found.reason


def test_d8_the_old_record_goes_after_the_switch_only():
    """While the next key waits, what is published of both stays; a key that was served before that is told to go."""
    gone = Key("E" * 64)
    stale = survey(owner({*BOTH, Data(3, 1, 1, gone.sha256)}))
    evidence = seen_since(NOW - 100 * HOUR, stale)
    waiting = rollover.decide(stale, evidence, CURRENT, NEXT, NOW, due=False, retired=[gone])
    assert (waiting.kind, gone.sha256 in waiting.reason) == (Kind.RETIRE, True)
    assert rollover.decide(stale, evidence, CURRENT, NEXT, NOW, due=True, retired=[gone]).kind is Kind.SWITCH
    assert rollover.decide(survey(owner(BOTH)), evidence, CURRENT, NEXT, NOW, due=False, retired=[gone]).kind is Kind.READY


@pytest.mark.parametrize("outcome", [Outcome.LAME, Outcome.SILENT, Outcome.ERROR])
def test_d5_a_server_that_gives_no_answer_keeps_the_key(outcome):
    good = owner(BOTH, BOTH)
    found = step(replace(good, seen=(good.seen[0], Seen("ns2", outcome))), since=NOW - 100 * HOUR)
    assert found.kind is Kind.KEEP
    assert outcome.value in found.reason


@pytest.mark.parametrize("validity", [Validity.BOGUS, Validity.UNKNOWN, Validity.INSECURE])
def test_d17_only_what_a_trusted_resolver_calls_secure_counts(validity):
    assert step(owner(BOTH, validity=validity), since=NOW - 100 * HOUR).kind is Kind.KEEP


def test_d7_the_resolver_must_have_the_record_of_what_is_served():
    assert step(replace(owner(BOTH), resolved=frozenset({NEW})), since=NOW - 100 * HOUR).kind is Kind.PUBLISH


def test_d15_a_name_server_of_an_alias_is_not_said_to_lack_what_it_was_not_asked_for():
    alias = Seen("ns.alias", Outcome.ANSWER, frozenset(), 3600, True, alias="_dane.example.org.")
    target = owner(BOTH)
    good = replace(target, seen=(alias, *target.seen), target="_dane.example.org.")
    assert step(good, since=NOW - 100 * HOUR).kind is Kind.SWITCH
    # A resolver's memory is said to be one.
    late = replace(good, resolved=frozenset({NEW}))
    assert step(late).reason.startswith("the resolver does not have")
    lack = replace(good, seen=(alias, replace(target.seen[0], records=frozenset({OLD}))))
    assert step(lack).reason.startswith("ns0 does not have")


RECORDS = st.builds(
    Data, st.integers(0, 255), st.integers(0, 255), st.integers(0, 255), st.sampled_from(["", "C" * 64, "A" * 64, "zz"])
)
SETS = st.frozensets(st.one_of(RECORDS, st.sampled_from([OLD, NEW])), max_size=20)
DATES = st.one_of(st.none(), st.integers(-1000, 1000).map(lambda hours: NOW + hours * HOUR))
SEENS = st.builds(
    Seen, st.just("ns"), st.sampled_from(Outcome), SETS, st.integers(0, 2**32 - 1), st.booleans(), DATES, DATES,
    st.sampled_from(["", "", "_dane.example.org."]),
)  # fmt: skip
OWNERS = st.builds(
    Owner, st.just(NAME), st.lists(SEENS, max_size=4).map(tuple), st.sampled_from(Validity), SETS, secured=st.booleans()
)


@given(st.lists(OWNERS, max_size=3))
def test_whatever_the_dns_says_a_switch_needs_both_records_everywhere(owners):
    found = step(*owners, since=NOW - 10_000_000 * HOUR / 3600)
    if found.kind is Kind.SWITCH:
        for one in owners:
            given = [seen.records for seen in one.seen if not seen.alias]
            assert all(records >= BOTH for records in given) or not any(given)
            for seen in one.seen:
                assert None in (seen.inception, seen.expiration) or seen.inception <= NOW <= seen.expiration


@settings(max_examples=examples(60))
@given(
    lags=st.lists(st.integers(0, 72), min_size=1, max_size=4),
    ttls=st.tuples(st.integers(1, 200), st.integers(1, 200), st.integers(1, 200)),
    begin=st.integers(1, 100),
    gone=st.one_of(st.none(), st.tuples(st.integers(0, 300), st.integers(7, 100))),
    jitter=st.lists(st.integers(3, 6), min_size=1, max_size=8),
)
def test_in_no_world_a_cache_holds_a_set_without_the_served_key(lags, ttls, begin, gone, jitter):
    """Time in hours: name servers that lag, sets with other TTLs, a record that is withdrawn and comes back.

    The worst cache has asked the worst server at the worst moment: at the switch, no set that any server gave within its TTL
    may lack the next key.
    """

    def primary(hour):
        withdrawn = gone and begin + gone[0] <= hour < begin + sum(gone)
        if hour < begin:
            return frozenset({OLD}), ttls[0]
        return (frozenset({OLD}), ttls[2]) if withdrawn else (BOTH, ttls[1])

    evidence, hour, turn = None, 0, 0
    while hour < 2000:
        at = NOW + hour * HOUR
        shown = [primary(hour - lag) for lag in lags]
        seen = [Seen(f"ns{n}", Outcome.ANSWER, records, ttl * 3600, True) for n, (records, ttl) in enumerate(shown)]
        here = Survey(at, (Owner(NAME, tuple(seen), Validity.SECURE, BOTH),))
        evidence = rollover.observe(evidence, here, CURRENT, NEXT)
        if rollover.decide(here, evidence, CURRENT, NEXT, at).kind is Kind.SWITCH:
            for lag in lags:
                for asked in range(hour - 400, hour + 1):
                    records, ttl = primary(asked - lag)
                    assert NEW in records or asked + ttl < hour
            break
        hour, turn = hour + jitter[turn % len(jitter)], turn + 1
    else:
        pytest.fail("a switch never came")
