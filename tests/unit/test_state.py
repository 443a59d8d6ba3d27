"""state.json: what is written is read back; rubbish and the future are refused in one sentence."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_dovecot import state
from certbot_dovecot.problems import StateProblem
from certbot_dovecot.state import Options, State

texts = st.text(max_size=20)
names = st.lists(st.sampled_from(["Dovecot", "Postfix"]), unique=True, max_size=2).map(tuple)
signatures = st.lists(st.tuples(texts, st.integers(), st.integers(), st.integers()), max_size=3).map(tuple)
options = st.builds(
    Options,
    *[texts] * 4,
    st.sampled_from(["annual", "never"]),
    st.floats(0, 1000, allow_nan=False),
    st.sampled_from([None, True, False]),
)
states = st.builds(
    State,
    options=options,
    years=st.dictionaries(texts, st.integers(2000, 2100), max_size=3),
    stem=texts,
    leaf=texts,
    spki=texts,
    servers=names,
    installing=names,
    reload=names,
    verify=names,
    settled=signatures,
    withdrawn=names,
)


@given(states)
def test_round_trip(record):
    assert state.parse(state.dump(record), "state.json") == record


@given(states)
def test_a_record_of_an_earlier_version_is_read(record):
    raw = json.loads(state.dump(record))
    del raw["withdrawn"]
    assert state.parse(json.dumps(raw).encode(), "state.json") == replace(record, withdrawn=())


@given(st.binary(max_size=200))
def test_rubbish_is_refused_in_words(data):
    with pytest.raises(StateProblem, match=r"state\.json: this record is damaged"):
        state.parse(data, "state.json")


@given(st.recursive(st.none() | st.integers() | texts, lambda s: st.lists(s) | st.dictionaries(texts, s), max_leaves=10))
def test_other_json_is_refused(value):
    with pytest.raises(StateProblem):
        state.parse(json.dumps(value).encode(), "state.json")


FIELDS = ["options", "years", "stem", "servers", "settled", "format"]


@given(states, st.sampled_from(FIELDS), st.none() | texts | st.integers(5))
def test_a_field_of_another_type_is_refused(record, field, value):
    raw = json.loads(state.dump(record))
    if raw[field] == value:
        return
    raw[field] = value
    data = json.dumps(raw).encode()
    if field == "stem" and isinstance(value, str):
        assert state.parse(data, "state.json").stem == value
    else:
        with pytest.raises(StateProblem):
            state.parse(data, "state.json")


def test_a_record_from_the_future_is_refused_and_said_so():
    data = state.dump(State()).replace(b'"format": 1', b'"format": 2')
    with pytest.raises(StateProblem, match=r"has format 2.*Nothing was changed.*later one"):
        state.parse(data, "state.json")


def test_a_missing_record_is_a_lineage_we_know_nothing_of(tmp_path):
    assert state.load(str(tmp_path / "state.json")) is None
