"""What all looks at the DNS amount to: continuity and a true clock (D26), silence (D27), TTLs that age (D29)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_dovecot.dane import rollover
from certbot_dovecot.dane.answers import Data, Key, Outcome, Owner, Seen, Validity
from certbot_dovecot.dane.evidence import lasts
from certbot_dovecot.dane.rollover import FLOOR, Kind
from tests.unit.test_rollover import BOTH, CURRENT, HOUR, NAME, NEXT, NOW, OLD, absent, owner, step, survey

# D26: continuity, and a true clock


def looks(*told, floor=FLOOR, evidence=None):
    """The evidence after (hours before now, owner names) of one look after the other."""
    for hours, owners in told:
        evidence = rollover.observe(evidence, survey(*owners, at=NOW - hours * HOUR), CURRENT, NEXT, floor)
    return evidence


def dated(one, since, until):
    """With signatures that are valid from so many hours before now until so many hours before now."""
    dates = {"inception": NOW - since * HOUR, "expiration": NOW - until * HOUR}
    return replace(one, seen=tuple(replace(seen, **dates) for seen in one.seen))


def test_d26_a_gap_between_the_looks_begins_t0_anew():
    """A host that is down from December to January: the record was out and in again, and nobody saw it."""
    good = [owner(BOTH, ttl=86400)]
    evidence = looks((1000, good), (960, good), (0, good))
    assert (evidence.since, evidence.gap) == (NOW, NOW - 960 * HOUR)
    found = rollover.decide(survey(*good), evidence, CURRENT, NEXT, NOW)
    assert (found.kind, found.until) == (Kind.WAIT, NOW + 48 * HOUR)
    assert "not seen as a whole between 2026-11-23 00:00 and 2027-01-02 00:00 UTC" in found.reason
    assert "more than 48 hours" in found.reason
    # So it is said until the wait is over, and then no more.
    later = survey(*good, at=NOW + 12 * HOUR)
    evidence = rollover.observe(evidence, later, CURRENT, NEXT)
    assert rollover.decide(later, evidence, CURRENT, NEXT, later.at).reason == found.reason
    assert looks((50, []), evidence=evidence).gap is None


def test_d26_a_gap_as_long_as_the_floor_is_none():
    good = [owner(BOTH)]
    assert looks((96, good), (48, good), (0, good)).since == NOW - 96 * HOUR
    assert looks((96, good), (47.9, good)).since == NOW - 47.9 * HOUR


def test_d26_a_timer_that_runs_once_a_week_needs_a_longer_floor():
    """With the ordinary floor it is told, each time, and never switches; with a longer one it waits for longer, and does."""
    good, week = [owner(BOTH)], 168
    weekly = [(week * number, good) for number in range(4, -1, -1)]
    evidence = looks(*weekly)
    assert evidence.since == NOW
    assert "certbot renew must run more often" in rollover.decide(survey(*good), evidence, CURRENT, NEXT, NOW).reason
    long = 200 * HOUR
    evidence = looks(*weekly, floor=long)
    assert evidence.since == NOW - 4 * week * HOUR
    assert rollover.decide(survey(*good), evidence, CURRENT, NEXT, NOW, long).kind is Kind.SWITCH


@pytest.mark.parametrize("floor", [0, 1, 48])
def test_d26_a_short_floor_does_not_ask_for_more_looks(floor):
    good = [owner(BOTH)]
    evidence = looks(*((24 * number, good) for number in range(5, -1, -1)), floor=floor * HOUR)
    assert evidence.since == NOW - 120 * HOUR


def test_d26_where_there_are_no_records_a_gap_proves_no_less_than_a_first_look():
    """A lineage without a standby is looked at when it is renewed, every two months."""
    gone = [absent()]
    evidence = looks((4000, [owner({OLD})]), (3000, gone), (1500, gone), (0, gone))
    assert evidence.since == NOW - 3000 * HOUR
    assert rollover.decide(survey(*gone), evidence, CURRENT, NEXT, NOW).kind is Kind.FREE


def test_d26_evidence_of_an_earlier_format_proves_no_continuity():
    good = [owner(BOTH)]
    known = replace(looks((96, good), (48, good), (1, good)), looked=None)
    assert looks((0, good), evidence=known).since == NOW


def test_d26_a_clock_that_ran_backwards_begins_t0_anew():
    """And not before it can have been put right: what it called now may be two days ago."""
    good, less = [owner(BOTH)], [owner({OLD})]
    assert looks((-10, good), (0, good)).since == NOW + 48 * HOUR
    # The clock runs backwards to where nothing was proven; what is proven then may be later than it says.
    evidence = looks((0, less), (40, less), (39, good))
    assert evidence.since == NOW + 8 * HOUR
    # Put right, it does not count as a gap; still nothing is believed too early.
    assert looks((-1, good), evidence=evidence).since == NOW + 8 * HOUR


def test_d26_a_look_whose_clock_disagrees_with_the_signatures_proves_nothing():
    good, wrong = [owner(BOTH)], [dated(owner(BOTH), 1000, 1)]
    assert looks((0, wrong)).since is None
    found = rollover.decide(survey(*wrong), looks((96, good), (48, good), (0, wrong)), CURRENT, NEXT, NOW)
    assert (found.kind, found.lasting) == (Kind.KEEP, False)
    assert "not valid after 2027-01-01 23:00:00 UTC" in found.reason
    assert "the clock of this host says 2027-01-02 00:00:00 UTC" in found.reason
    # What was proven before stays, as long as the next true look is not too far from the last one.
    assert looks((96, good), (48, good), (24, [dated(owner(BOTH), 1000, 900)]), (0, good)).since == NOW - 96 * HOUR
    assert looks((96, good), (60, good), (24, [dated(owner(BOTH), 1000, 900)]), (0, good)).since == NOW
    # What a server lacks it lacks at any time.
    assert looks((96, good), (48, good), (24, [dated(owner({OLD}), 1000, 900)]), (12, good)).since == NOW - 12 * HOUR
    # And a resolver of this host has the same clock.
    bogus = [replace(dated(owner(BOTH), 1000, 900), validity=Validity.BOGUS)]
    assert looks((96, good), (48, good), (24, bogus), (0, good)).since == NOW - 96 * HOUR


def test_d26_a_clock_within_the_signatures_is_believed():
    good = [dated(owner(BOTH), 1000, -1000)]
    assert looks((96, good), (48, good), (0, good)).since == NOW - 96 * HOUR
    assert rollover.decide(survey(*good), looks((96, good), (48, good), (0, good)), CURRENT, NEXT, NOW).kind is Kind.SWITCH


# D27: silence


def silenced(one, number=-1):
    """One of the name servers says nothing."""
    seen = list(one.seen)
    seen[number] = Seen(seen[number].server, Outcome.SILENT)
    return replace(one, seen=tuple(seen))


NOBODY = Owner(NAME, ())


@pytest.mark.parametrize("quiet", [silenced(owner(BOTH, BOTH)), silenced(owner(BOTH)), NOBODY])
def test_d27_silence_holds_the_switch_and_t0_stays(quiet):
    good = [owner(BOTH, BOTH)]
    evidence = looks((96, good), (48, good), (24, [quiet]))
    held = survey(quiet, at=NOW - 24 * HOUR)
    assert rollover.decide(held, evidence, CURRENT, NEXT, held.at).kind is Kind.KEEP
    evidence = looks((0, good), evidence=evidence)
    assert evidence.since == NOW - 96 * HOUR
    assert rollover.decide(survey(*good), evidence, CURRENT, NEXT, NOW).kind is Kind.SWITCH


@pytest.mark.parametrize("quiet", [silenced(owner(BOTH, BOTH)), NOBODY])
def test_d27_silence_that_lasts_is_a_gap(quiet):
    good = [owner(BOTH, BOTH)]
    evidence = looks((200, good), (100, good), (80, [quiet]), (50, [quiet]), (20, [quiet]), (0, good))
    assert (evidence.since, evidence.gap) == (NOW, NOW - 100 * HOUR)


def test_d27_a_server_that_has_less_is_a_regression_while_another_is_silent():
    good, less = [owner(BOTH, BOTH)], [silenced(owner({OLD}, BOTH))]
    assert looks((96, good), (48, good), (24, less), (12, good)).since == NOW - 12 * HOUR
    lame = [replace(owner(BOTH, BOTH), seen=(Seen("ns1", Outcome.LAME), Seen("ns2", Outcome.SILENT)))]
    assert looks((96, good), (48, good), (24, lame), (12, good)).since == NOW - 12 * HOUR


def test_d27_a_record_of_another_key_at_a_guarded_port_is_no_regression_while_a_server_is_silent():
    mx = "_25._tcp.mail.example.org."
    theirs = owner({Data(3, 1, 1, "E" * 64)}, {Data(3, 1, 1, "E" * 64)}, name=mx)
    good = [owner(BOTH, BOTH, name="_465._tcp.mail.example.org."), theirs]
    evidence = None
    for hours, seen in ((96, good), (48, good), (24, list(map(silenced, good))), (0, good)):
        said = rollover.relevant(survey(*seen, at=NOW - hours * HOUR), {mx}, [CURRENT, NEXT])
        evidence = rollover.observe(evidence, said, CURRENT, NEXT)
        kind = rollover.decide(said, evidence, CURRENT, NEXT, said.at, guarded={mx}).kind
        assert kind is (Kind.KEEP if hours == 24 else Kind.SWITCH if hours < 49 else Kind.WAIT)
    assert evidence.since == NOW - 96 * HOUR


THEIRS = [Data(3, 1, 1, "E" * 64), Data(3, 1, 2, "F" * 128), Data(2, 1, 1, "E" * 64)]
FOREIGN = st.frozensets(st.sampled_from(THEIRS), max_size=3)


@given(st.lists(st.tuples(st.integers(1, 60), FOREIGN, FOREIGN, st.sampled_from(["", "one", "all"])), min_size=1, max_size=6))
def test_d27_whatever_others_publish_at_a_guarded_port_makes_and_takes_no_evidence(seen):
    """Silent servers or not: what is known is what would be known if there were no record at that port."""
    mx, ours = "_25._tcp.mail.example.org.", owner(BOTH, BOTH, name="_465._tcp.mail.example.org.")

    def known(shown):
        evidence, at = None, NOW
        for hours, *sets, quiet in seen:
            at += hours * HOUR
            owners = [ours, owner(*(shown(one) for one in sets), name=mx)]
            owners = [silenced(one) if quiet else one for one in owners]
            owners = [silenced(one, 0) if quiet == "all" else one for one in owners]
            said = rollover.relevant(survey(*owners, at=at), {mx}, [CURRENT, NEXT])
            evidence = rollover.observe(evidence, said, CURRENT, NEXT)
        return evidence

    with_theirs, without = known(lambda records: records), known(lambda records: ())
    assert (with_theirs.since, with_theirs.owners, with_theirs.looked) == (without.since, without.owners, without.looked)


def test_d27_silence_proves_nothing():
    good, quiet = [owner(BOTH, BOTH)], [silenced(owner(BOTH, BOTH))]
    assert looks((0, quiet)).since is None
    assert looks((90, quiet), (50, quiet), (10, good)).since == NOW - 10 * HOUR
    # Another pair of keys has no T0, whatever is silent.
    evidence = looks((96, good), (48, good))
    assert rollover.observe(evidence, survey(*quiet), CURRENT, Key("C" * 64)).since is None


def test_d27_a_name_that_lost_its_records_while_another_was_silent_begins_anew():
    """It came and went while one could not see everything; when it is back, caches may have its absence."""
    two = [owner(BOTH), owner(BOTH, name="_465._tcp.mail.example.org.")]
    part = [silenced(two[0]), absent(name="_465._tcp.mail.example.org.")]
    assert looks((96, two), (48, two), (24, part), (12, two)).since == NOW - 12 * HOUR
    assert looks((96, two), (48, two), (24, [silenced(two[0]), two[1]]), (12, two)).since == NOW - 96 * HOUR


# D29: TTLs age, and the world's view


def test_d29_a_ttl_is_forgotten_when_it_was_not_seen_for_three_times_itself():
    long, short = [owner(BOTH, ttl=86400)], [owner(BOTH, ttl=300)]
    evidence = looks((240, long), (216, short))
    # It may have been given until the next look.
    assert evidence.ttls == ((86400, NOW - 216 * HOUR), (300, NOW - 216 * HOUR))
    evidence = looks(*((216 - 24 * number, short) for number in range(1, 6)), evidence=evidence)
    assert evidence.ttl == 86400
    assert rollover.earliest(evidence) == evidence.since + 48 * HOUR
    assert looks((72, short), (48, short), evidence=evidence).ttl == 300


def test_d29_a_ttl_is_not_forgotten_while_nobody_looks():
    long, short = [owner(BOTH, ttl=86400)], [owner(BOTH, ttl=300)]
    evidence = looks((2000, long), (1990, short), (0, short))
    assert evidence.ttl == 86400
    quiet = [silenced(owner(BOTH, ttl=300))]
    assert looks((200, long), *((hours, quiet) for hours in range(180, 0, -20))).ttl == 86400


@pytest.mark.parametrize("ttl", [2**31 - 1, 2**31, 2**32 - 1])
def test_d29_a_slip_of_68_years_is_no_wait_for_ever(ttl):
    """A cache that validates holds nothing for longer than its signature is valid (RFC 4035 section 5.3.3)."""
    slip = [dated(owner(BOTH, ttl=ttl), 24 * 7, -24 * 7)]
    evidence = looks((0, slip))
    assert evidence.ttl == 14 * 86400
    short = [owner(BOTH, ttl=3600)]
    hours = 0
    while hours < 24 * 100 and rollover.earliest(evidence) > NOW + hours * HOUR:
        hours += 24
        evidence = looks((-hours, short), evidence=evidence)
    assert 24 * 14 <= hours <= 24 * 28
    assert lasts(Seen("ns", Outcome.ANSWER, BOTH, ttl)) == 2**31 - 1


def test_d29_a_signed_zone_that_is_seen_unsigned_is_doubt():
    for here in (absent(validity=Validity.INSECURE), owner({OLD}, signed=False, validity=Validity.INSECURE)):
        assert step(here).kind is Kind.FREE
        found = step(replace(here, secured=True))
        assert found.kind is Kind.KEEP
        assert "its parent zone says (DS)" in found.reason
    # Without a resolver that is trusted, the signatures that the name servers give tell.
    unknown = replace(absent(validity=Validity.UNKNOWN), secured=True)
    assert step(unknown).kind is Kind.KEEP
    signed = replace(unknown, seen=tuple(replace(seen, signed=True) for seen in unknown.seen))
    assert step(signed).kind is Kind.FREE


GOOD = owner(BOTH, BOTH)
LOOKS = st.sampled_from(
    [GOOD] * 6 + [silenced(GOOD), NOBODY, dated(GOOD, 9000, 8000), owner(BOTH, {OLD}), silenced(owner({OLD}, BOTH)), absent()]
)


@given(st.lists(st.tuples(st.integers(-30, 90), LOOKS), min_size=1, max_size=12))
def test_d26_t0_is_followed_by_looks_that_saw_both_records_and_no_gap(told):
    """Whatever was seen, and however the clock ran: hours since the last look, and what it saw."""
    hour, story = 0, []
    evidence = None
    for hours, one in told:
        hour += hours
        story.append((hour, one))
        evidence = looks((-hour, [one]), evidence=evidence)
    if evidence.since is None or not evidence.owners:
        return
    since = (evidence.since - NOW) / HOUR
    whole = [(at, one) for at, one in story if one in (GOOD, owner(BOTH, {OLD}), absent())]
    proven = []
    for at, one in reversed(whole):
        if one is not GOOD or (proven and not 0 <= proven[-1] - at <= 48):
            break
        proven.append(at)
    assert proven
    assert since >= proven[-1]
