"""The shapes that record sets have in the DNS: aliases and wildcards that join names (D25), and what follows from it.  Pure."""

from __future__ import annotations

import datetime
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_dovecot.dane import gates, publish, rollover, tlsa
from certbot_dovecot.dane.answers import AddressAnswer, Data, Key, Outcome, Owner, Seen, Survey, Validity
from certbot_dovecot.dane.rollover import Kind
from certbot_dovecot.rollover import owner_names
from certbot_dovecot.rollover.owner_names import Hosts

NOW = datetime.datetime(2027, 1, 2, tzinfo=datetime.timezone.utc)
CURRENT, FOLLOWING, STRANGE, OLD = (Key(letter * 64, letter * 128) for letter in "ABCD")
KEYS = [CURRENT, FOLLOWING, STRANGE, OLD]
SUBMISSION, MX, DANE = "_465._tcp.mail.example.org.", "_25._tcp.mail.example.org.", "_dane.example.org."
GUARDED = frozenset({MX})
#: Where the two names lead: each to itself, one to the other, both to a third one.
APART, TO_MX, TO_OURS, BOTH = (SUBMISSION, MX), (MX, MX), (SUBMISSION, SUBMISSION), (DANE, DANE)


def one(key):
    return Data(3, 1, 1, key.sha256)


def owner(name, records, target=""):
    outcome = Outcome.ANSWER if records else Outcome.ABSENT
    seen = Seen("ns", outcome, frozenset(records), 300, True)
    return Owner(name, (seen,), Validity.SECURE, frozenset(records), target or name)


def survey(leads, ours, theirs, serves):
    """What is seen where two names lead to, and what port 25 serves; None if it cannot be asked."""
    owners = (owner(SUBMISSION, ours, leads[0]), owner(MX, ours if leads[0] == leads[1] else theirs, leads[1]))
    theirs_serves = AddressAnswer(MX, "192.0.2.1", serves, "" if serves else "down")
    return Survey(NOW, owners, (), (AddressAnswer(SUBMISSION, "192.0.2.1", CURRENT), theirs_serves))


def seen_daily(said):
    """The evidence where the same was seen every day for ten days."""
    made = None
    for days in range(10, -1, -1):
        made = rollover.observe(made, replace(said, at=NOW - datetime.timedelta(days=days)), CURRENT, FOLLOWING)
    return made


def step(said):
    """What is decided if the same was seen all the time."""
    said = rollover.relevant(said, GUARDED, [CURRENT, FOLLOWING])
    return rollover.decide(said, seen_daily(said), CURRENT, FOLLOWING, NOW, guarded=GUARDED)


def places(said, serves=CURRENT, following=FOLLOWING, retired=()):
    return publish.places(said, {SUBMISSION: [serves]}, following, retired, guarded=GUARDED)


# D25: aliases join


@pytest.mark.parametrize("leads", [TO_MX, TO_OURS, BOTH])
@pytest.mark.parametrize("records", [{one(CURRENT), one(FOLLOWING)}, {one(STRANGE)}])
def test_d25_a_port_of_others_that_shares_a_set_of_ours_keeps_the_key(leads, records):
    found = step(survey(leads, records, (), STRANGE))
    assert (found.kind, found.lasting) == (Kind.KEEP, True)
    assert f"{MX} shares its records with {SUBMISSION}" in found.reason
    # Without an alias, there is nothing to be kept apart.
    assert step(survey(APART, {one(CURRENT), one(FOLLOWING)}, {one(STRANGE)}, STRANGE)).kind is Kind.SWITCH


def test_d25_the_advice_takes_the_record_of_no_port_away():
    """Each remedy leaves every set that is there with a match for what is served, or without records."""
    both = {one(CURRENT), one(FOLLOWING)}
    alias = step(survey(BOTH, both, (), CURRENT)).reason
    assert alias.endswith(f"(--dovecot-postfix-services all, or remove the alias of {MX} to {DANE})")
    assert step(survey(TO_MX, both, (), CURRENT)).reason.endswith(f"or remove the alias of {SUBMISSION} to it)")
    # Ours has no record there: port 25 would be served without a match.
    assert step(survey(TO_MX, {one(STRANGE)}, (), STRANGE)).reason.endswith(f" (remove the alias of {SUBMISSION} to it)")
    # A record of ours beside that of what port 25 serves may go alone, and else no record alone.
    apart = step(survey(APART, both, {one(CURRENT), one(STRANGE)}, STRANGE)).reason
    assert apart.endswith(f"or remove {one(CURRENT)} there)")
    unclear = [({one(CURRENT), one(STRANGE)}, CURRENT), ({one(CURRENT), one(OLD)}, None), ({one(CURRENT)}, STRANGE)]
    for records, serves in unclear:
        assert step(survey(APART, both, records, serves)).reason.endswith("remove all TLSA records of that name)")


@pytest.mark.parametrize("leads", [TO_MX, TO_OURS, BOTH])
@pytest.mark.parametrize("present", [{}, {one(STRANGE)}, {one(CURRENT), one(STRANGE)}])
@pytest.mark.parametrize("serves", [STRANGE, None])
def test_d25_nothing_is_added_where_a_port_of_others_with_another_key_shares_the_set(leads, present, serves):
    (place,) = places(survey(leads, present, (), serves))
    wanted = publish.change(place.name, place.keys, place.present, set())
    assert wanted.add
    assert gates.allowed(wanted, place).idle
    [why] = gates.barred(place)
    assert why.startswith("192.0.2.1 (port 25) " + ("serves another key" if serves else "could not be asked: down"))


def test_d25_a_port_of_others_that_serves_our_key_bars_nothing():
    for serves in (CURRENT, OLD):
        (place,) = places(survey(BOTH, {one(serves)}, (), serves), retired=[OLD])
        assert gates.allowed(publish.change(place.name, place.keys, place.present, set()), place).add
        assert gates.barred(place) == ()


def test_d25_after_an_emergency_the_old_record_stays_while_port_25_goes_on_with_it():
    ours = {one(CURRENT), one(FOLLOWING)}
    for leads in (TO_MX, BOTH):
        (place,) = places(survey(leads, ours, (), CURRENT), FOLLOWING, None, [CURRENT])
        made = publish.Change(place.name, place.present, delete=frozenset({one(CURRENT)}))
        assert gates.allowed(made, place).idle
    assert not gates.may_go(survey(BOTH, ours, (), CURRENT), CURRENT)


sets = st.frozensets(st.sampled_from([one(key) for key in KEYS]), max_size=4)


@given(
    st.sampled_from([APART, TO_MX, TO_OURS, BOTH]), sets, sets, st.none() | st.sampled_from(KEYS), sets,
    st.sampled_from([CURRENT, FOLLOWING]),
)  # fmt: skip
def test_d25_no_port_that_shares_a_set_loses_its_match_or_gets_a_set_without(leads, ours, theirs, serves, mine, served):
    said = survey(leads, ours, theirs, serves)
    following, retired = (FOLLOWING, [OLD]) if served is CURRENT else (None, [OLD, CURRENT])
    for place in places(said, served, following, retired):
        made = gates.allowed(publish.change(place.name, place.keys, place.present, mine), place)
        shares = leads[0] == leads[1]
        if shares and serves and gates.matches(made.present, serves):
            assert gates.matches(made.after, serves) or not made.after
        if shares and not made.present:
            assert not made.after or (serves and gates.matches(made.after, serves))


# D30: no set begins with a key that is not served


def place_of(present, keys=(CURRENT,), following=FOLLOWING, partial=False):
    given = Owner(SUBMISSION, (Seen("ns", Outcome.ANSWER if present else Outcome.ABSENT, frozenset(present), 300, True),))
    lags = (Seen("ns2", Outcome.ABSENT),) if partial else ()
    said = Survey(NOW, (replace(given, seen=(*given.seen, *lags), target=SUBMISSION),))
    (place,) = publish.places(said, {SUBMISSION: list(keys)}, following)
    return place


def told(place, begin=False):
    return publish.by_hand(publish.change(place.name, place.keys, place.present, set()), place, begin)


def test_d30_the_next_key_is_told_where_a_set_exists_only():
    assert told(place_of({one(CURRENT)})) == (one(FOLLOWING),)
    assert told(place_of(set())) == ()
    # Where a zone takes no updates, it may begin, with what is served.
    assert told(place_of(set()), begin=True) == (one(CURRENT),)
    # It may be gone already: together, then.
    assert told(place_of({one(CURRENT)}, partial=True)) == (one(CURRENT), one(FOLLOWING))
    made = publish.change(SUBMISSION, [CURRENT, FOLLOWING], {one(CURRENT)}, set(), exact=False)
    assert publish.without_beginning(made, place_of({one(CURRENT)}, partial=True)).idle
    assert publish.without_beginning(made, place_of({one(CURRENT)})) == made


@given(st.lists(sets, min_size=1, max_size=3), st.booleans(), st.data())
def test_d30_after_any_of_the_lines_in_any_order_no_set_is_without_a_match_that_had_one(every, begin, data):
    for present in every:
        place = place_of(present)
        lines = told(place, begin)
        added = data.draw(st.lists(st.sampled_from(lines), unique=True)) if lines else []
        for number in range(len(added) + 1):
            after = present | set(added[:number])
            assert not after or gates.matches(after, CURRENT) or (present and not gates.matches(present, CURRENT))


@given(sets, st.sampled_from([[], [CURRENT], [CURRENT, STRANGE]]), st.none() | st.just(FOLLOWING))
def test_d30_a_set_that_we_begin_has_every_key_that_is_served(present, keys, following):
    place = place_of(present, keys, following)
    made = gates.allowed(publish.change(place.name, place.keys, place.present, set()), place)
    if not present and made.add:
        assert {one(key) for key in keys} <= made.add
        assert keys
    records = tlsa.records(["mail.example.org"], {465: [key.sha256 for key in keys]}, following.sha256 if following else "")
    assert all(record.status == tlsa.SERVED for record in records[:1])


def test_d30_the_zone_file_says_that_a_next_key_is_not_for_a_name_alone():
    made = tlsa.records(["mail.example.org"], {465: [CURRENT.sha256]}, FOLLOWING.sha256)
    assert "alone, it stops mail" in tlsa.zone("mail", made, ["mail.example.org"]).decode()
    assert "alone" not in tlsa.zone("mail", made[:1], ["mail.example.org"]).decode()


# D20: the key, not the port


def test_d20_the_well_known_ports_of_each_host_name_are_asked():
    found = owner_names.well_known(Hosts(("mail.example.org",), ("mx.example.org",)))
    for port in (25, 443, 465, 993, 5222, 5269):
        assert {f"_{port}._tcp.mail.example.org.", f"_{port}._tcp.mx.example.org."} <= set(found)
    # A host with hundreds of names is asked for at port 25 only, and says so.
    many = tuple(f"mail{number}.example.org" for number in range(owner_names.MOST_NAMES + 1))
    assert owner_names.well_known(Hosts(many)) == tuple(f"_25._tcp.{host}." for host in many)


@pytest.mark.parametrize("port", [443, 993, 5222])
def test_d20_a_record_of_this_key_at_a_port_of_others_keeps_the_key(port):
    name = f"_{port}._tcp.www.example.org."
    ready = owner(SUBMISSION, {one(CURRENT), one(FOLLOWING)})

    def found(records):
        said = rollover.relevant(Survey(NOW, (ready, owner(name, records))), frozenset({name}), [CURRENT, FOLLOWING])
        return rollover.decide(said, seen_daily(said), CURRENT, FOLLOWING, NOW, guarded=frozenset({name}))

    assert found({one(STRANGE)}).kind is Kind.SWITCH
    for records in ({one(CURRENT)}, {one(FOLLOWING), one(STRANGE)}):
        assert found(records).kind is Kind.KEEP
        # That option brings the certificate to port 25, and nowhere else.
        assert found(records).reason.endswith("(remove all TLSA records of that name)")


def test_what_is_said_where_nothing_is_published():
    none, others = Survey(NOW, (owner(SUBMISSION, ()),)), Survey(NOW, (owner(SUBMISSION, ()), owner(MX, {one(STRANGE)})))
    free = step(none)
    assert (free.kind, free.reason) == (Kind.FREE, "no TLSA records are published; the key may change at any time")
    assert rollover.among_others(free, none) == free
    said = rollover.among_others(step(others), others)
    assert said.reason == "no TLSA records of this key are published; the key may change at any time"


# D21: wildcards

WILD = "*._tcp.mail.example.org."
WEB = "_443._tcp.mail.example.org."


def behind(name, records):
    return replace(owner(name, records, WILD), wildcard=WILD)


def test_d21_the_change_and_its_lines_are_for_the_wildcard_itself():
    said = Survey(NOW, (behind(SUBMISSION, {one(CURRENT)}),))
    (place,) = publish.places(said, {SUBMISSION: [CURRENT]}, FOLLOWING)
    assert place.name == WILD
    assert publish.change(place.name, place.keys, place.present, set()).owner == WILD


@pytest.mark.parametrize(
    ("name", "key", "error", "counts"),
    [
        (MX, CURRENT, "", True), (MX, STRANGE, "", True), (MX, None, "timed out", True), (MX, None, rollover.CLOSED, False),
        (WEB, CURRENT, "", True), (WEB, STRANGE, "", False), (WEB, None, "timed out", False),
        (WEB, None, rollover.CLOSED, False),
    ],
)  # fmt: skip
def test_d21_behind_a_wildcard_a_port_counts_at_which_somebody_is(name, key, error, counts):
    """Every port has records there, also those at which nothing listens."""
    owners = [behind(name, {one(CURRENT), one(FOLLOWING)})]
    found = rollover.unused(owners, [AddressAnswer(name, "192.0.2.1", key, error)])
    assert found == (frozenset() if counts else {name})
    assert rollover.unused(owners, []) == {name}


def test_d21_the_advice_for_a_port_of_others_behind_a_wildcard_hides_it_for_that_port_only():
    said = Survey(NOW, (behind(SUBMISSION, {one(CURRENT)}), behind(MX, {one(CURRENT)})))
    assert step(said).reason.endswith(f"or add the record of the key that this port serves at {MX} itself)")
