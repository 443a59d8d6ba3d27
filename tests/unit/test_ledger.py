"""The record of a lineage's keys in the DNS: what is written is read again, and what is damaged is left alone."""

from __future__ import annotations

import datetime
import json
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_dovecot import files, glance, ledger, store
from certbot_dovecot.dane.answers import Data, Outcome, Owner, Seen, Survey, Validity
from certbot_dovecot.dane.evidence import Evidence
from certbot_dovecot.glance import EVERY
from certbot_dovecot.ledger import Ledger, Turn
from certbot_dovecot.problems import StateProblem

NOW = datetime.datetime(2027, 1, 2, tzinfo=datetime.timezone.utc)
NAMES = st.sampled_from(["", "mail.example.org", "a"])
TIMES = st.datetimes(datetime.datetime(2000, 1, 1), datetime.datetime(2100, 1, 1), timezones=st.just(datetime.timezone.utc))
DATA = st.builds(Data, st.integers(0, 255), st.integers(0, 255), st.integers(0, 255), st.sampled_from(["", "AB", "C" * 64]))
TURNS = st.builds(Turn, TIMES, NAMES, NAMES, st.text(max_size=8).filter(lambda text: text.isprintable()))
EVIDENCE = st.builds(
    Evidence,
    NAMES,
    NAMES,
    st.frozensets(NAMES),
    st.one_of(st.none(), TIMES),
    st.lists(st.tuples(st.integers(0, 2**31 - 1), TIMES), max_size=3).map(tuple),
    st.booleans(),
    st.one_of(st.none(), TIMES),
    st.one_of(st.none(), TIMES),
    st.one_of(st.none(), TIMES),
)
LEDGERS = st.builds(
    Ledger,
    first=NAMES,
    standby=NAMES,
    turning=NAMES,
    turns=st.lists(TURNS, max_size=3).map(tuple),
    asked=st.one_of(st.none(), TIMES),
    signature=st.lists(st.tuples(NAMES, st.integers(), st.integers(), st.integers()), max_size=2).map(tuple),
    evidence=st.one_of(st.none(), EVIDENCE),
    ours=st.frozensets(st.tuples(NAMES, DATA), max_size=4),
    dropped=st.frozensets(st.tuples(NAMES, DATA, TIMES), max_size=3),
    said=st.dictionaries(NAMES, TIMES, max_size=3),
)
DATES = st.one_of(st.none(), TIMES)
SEEN = st.builds(
    Seen, NAMES, st.sampled_from(Outcome), st.frozensets(DATA), st.integers(0, 2**31), st.booleans(), DATES, DATES, NAMES
)
OWNERS = st.builds(
    Owner, NAMES, st.lists(SEEN, max_size=3).map(tuple), st.sampled_from(Validity), st.frozensets(DATA), NAMES, NAMES,
    st.booleans(),
)  # fmt: skip


@given(LEDGERS)
def test_what_is_written_is_read_again(made):
    assert ledger.parse(ledger.dump(made), "x") == made


@given(at=TIMES, owners=st.lists(OWNERS, max_size=3).map(tuple), notes=st.lists(NAMES, max_size=2).map(tuple))
def test_a_survey_is_evidence(tmp_path_factory, at, owners, notes):
    place = store.folder(str(tmp_path_factory.mktemp("home")), "", "a")
    files.make_directory(place.path)
    ledger.file_survey(place, Survey(at, owners, notes))
    assert ledger.survey_of(place) == Survey(at, owners, notes)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"format": 2}', b'{"format": 1}', b"null", b"\xff"])
def test_a_damaged_record_is_a_problem(data):
    with pytest.raises(StateProblem, match="damaged"):
        ledger.parse(data, "x")


def test_a_look_is_due_after_six_hours_or_when_a_file_changes(tmp_path):
    path = tmp_path / "leaf"
    path.write_text("old")
    home, first = str(tmp_path), store.folder(str(tmp_path), "", "a")
    ledger.save(first, Ledger(standby="b", asked=NOW, signature=files.sign([str(path)])))
    ledger.save(store.folder(home, "", "b"), Ledger(first="a"))
    for name in ("a", "b"):
        assert glance.tended(home, name, NOW)
        assert glance.tended(home, name, NOW + EVERY - datetime.timedelta(seconds=1))
        assert not glance.tended(home, name, NOW + EVERY)
        # A clock that ran backwards.
        assert not glance.tended(home, name, NOW - datetime.timedelta(seconds=1))
    path.write_text("new!")
    assert not glance.tended(home, "a", NOW)
    ledger.save(first, Ledger(standby="b"))
    assert not glance.tended(home, "a", NOW)
    files.write(ledger.path_of(first), b"{")
    assert not glance.tended(home, "a", NOW)
    # Nothing of ours.
    assert glance.tended(home, "c", NOW)


def test_what_was_said_is_not_said_again_for_a_while():
    made, day = Ledger(said={"kept": NOW}), datetime.timedelta(days=1)
    assert made.quiet("kept", NOW + day / 2, day)
    assert not made.quiet("kept", NOW + day, day)
    assert not made.quiet("other", NOW, day)
    assert not made.quiet("kept", NOW - day, day)


def test_what_we_deleted_is_not_for_an_admin_to_delete():
    data, week = Data(3, 1, 1, "A" * 64), datetime.timedelta(days=7)
    made = Ledger().added("a", [data])
    assert made.at("a") == {data}
    gone = made.deleted("a", [data], NOW)
    assert (gone.at("a"), gone.late("a", NOW + week), gone.late("b", NOW), gone.late("a", NOW + 2 * week)) == (
        frozenset(), {data}, frozenset(), frozenset(),
    )  # fmt: skip
    assert gone.deleted("b", [data], NOW + 3 * week).dropped == {("b", data, NOW + 3 * week)}


def test_after_a_switch_the_dns_is_asked_again():
    made = Ledger(turning="b", asked=NOW).turned(Turn(NOW, "b", "B", "due"))
    assert (made.turning, made.asked, made.turns[-1].to) == ("", None, "b")


def test_d26_records_of_an_earlier_format_are_read_and_prove_no_continuity():
    made = Ledger(evidence=Evidence("A", "B", frozenset({"a"}), NOW, ((300, NOW),), True, NOW))
    raw = json.loads(ledger.dump(made))
    for new in ("ttls", "looked", "gap", "least"):
        del raw["evidence"][new]
    old = ledger.parse(json.dumps(raw).encode(), "x").evidence
    assert (old.since, old.ttl, old.looked) == (NOW, 300, None)


def test_a_survey_of_an_earlier_format_is_read(tmp_path):
    place = store.folder(str(tmp_path), "", "a")
    files.make_directory(place.path)
    seen = Seen("ns", Outcome.ANSWER, frozenset({Data(3, 1, 1, "AB")}), 300, True)
    survey = Survey(NOW, (Owner("a", (seen,), Validity.SECURE),))
    ledger.file_survey(place, survey)
    path = pathlib.Path(place.state).with_name("survey.json")
    raw = json.loads(path.read_text())
    del raw["owners"][0]["secured"]
    for new in ("inception", "expiration", "alias"):
        del raw["owners"][0]["seen"][0][new]
    path.write_text(json.dumps(raw))
    assert ledger.survey_of(place) == survey
