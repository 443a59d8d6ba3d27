"""The key gate (rule D28): what it lets through, and that nobody writes without it."""

from __future__ import annotations

import ast
import datetime
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

import certbot_dovecot
from certbot_dovecot.dane import gates, standing
from certbot_dovecot.dane.answers import Data, Key, Outcome, Owner, Seen, Survey, Validity
from certbot_dovecot.dane.evidence import FLOOR, Evidence
from certbot_dovecot.dane.gates import Hold, KeyChange
from certbot_dovecot.dane.standing import Standing

ROOT = pathlib.Path(certbot_dovecot.__file__).parent
NOW = datetime.datetime(2027, 1, 25, tzinfo=datetime.timezone.utc)
NAME = "_993._tcp.mail.example.org."
PRESENT, COMING, THIRD = (Key(pair * 32) for pair in ("AB", "CD", "EF"))
OLD, NEW, OTHER = (Data(3, 1, 1, key.sha256) for key in (PRESENT, COMING, THIRD))
DAYS = datetime.timedelta(days=1)


def server(*records, outcome=None):
    answer = Outcome.ANSWER if records else Outcome.ABSENT
    return Seen("ns1.example.org 192.0.2.1", outcome or answer, frozenset(records), 3600, bool(records))


def owner(seen, validity=Validity.SECURE, resolved=(), target=NAME):
    return Owner(NAME, tuple(seen), validity, frozenset(resolved), target)


def held(one, now=PRESENT, after=COMING, evidence=None):
    """Why the change is held; None if it is not."""
    found = gates.keys_held([KeyChange(NAME, now, after)], Survey(NOW, (one,)), evidence, NOW)
    return found[0].hold if found else None


def evidence(ago, current=PRESENT, following=COMING, owners=frozenset([NAME])):
    return Evidence(current.sha256, following.sha256, owners, NOW - ago, ((3600, NOW - ago),), True)


@pytest.mark.parametrize(
    "one",
    [
        owner([server()]),
        owner([server(OTHER)], resolved=[OTHER]),
        owner([Seen("ns1", Outcome.ANSWER, frozenset([OLD]), 3600, False)], Validity.INSECURE, [OLD]),
        # Many hosts may ask their resolver only.
        owner([server(outcome=Outcome.SILENT)], Validity.UNKNOWN),
        owner([], Validity.INSECURE),
    ],
)
def test_d28_a_key_that_no_record_matches_may_go(one):
    assert held(one) is None


@pytest.mark.parametrize(
    ("one", "hold"),
    [
        (owner([server(OLD)], resolved=[OLD]), Hold.NEEDED),
        (owner([server(OLD, NEW), server(OLD)], resolved=[OLD]), Hold.NEEDED),
        (owner([server(OLD, NEW)], resolved=[OLD]), Hold.NEEDED),
        (owner([server(OLD, NEW)], resolved=[OLD, NEW]), Hold.UNPROVEN),
        (owner([server(OLD), server(outcome=Outcome.SILENT)], resolved=[OLD]), Hold.UNKNOWN),
        (owner([server(OLD, NEW)], Validity.BOGUS, [OLD, NEW]), Hold.UNKNOWN),
        (owner([server(OLD, NEW)], Validity.UNKNOWN, [OLD, NEW]), Hold.UNKNOWN),
        (owner([server()], Validity.BOGUS), Hold.UNKNOWN),
        # The resolver said nothing.
        (owner([], Validity.UNKNOWN, target=""), Hold.UNKNOWN),
    ],
)
def test_d28_a_key_that_records_match_stays(one, hold):
    assert held(one) is hold


def test_d28_both_records_and_the_time_that_caches_take():
    both = owner([server(OLD, NEW)], resolved=[OLD, NEW])
    assert held(both, evidence=evidence(3 * DAYS)) is None
    assert held(both, evidence=evidence(1 * DAYS)) is Hold.EARLY
    assert held(both, evidence=evidence(3 * DAYS, following=THIRD)) is Hold.UNPROVEN
    assert held(both, evidence=evidence(3 * DAYS, current=THIRD)) is Hold.UNPROVEN


def test_d28_records_that_are_gone_may_be_in_caches():
    assert held(owner([server()]), evidence=evidence(1 * DAYS)) is Hold.EARLY
    assert held(owner([server()]), evidence=evidence(1 * DAYS, owners=frozenset())) is Hold.EARLY
    assert held(owner([server()]), evidence=evidence(3 * DAYS, owners=frozenset())) is None
    assert held(owner([server()]), evidence=evidence(1 * DAYS, current=THIRD)) is None


@pytest.mark.parametrize(("now", "after"), [(None, COMING), (PRESENT, None), (None, None)])
def test_d28_what_cannot_be_told_keeps_the_key(now, after):
    assert held(owner([server(OLD, NEW)], resolved=[OLD, NEW]), now, after, evidence(9 * DAYS)) is not None


keys = st.one_of(st.none(), st.sampled_from([PRESENT, COMING, THIRD]))
records = st.frozensets(st.sampled_from([OLD, NEW, OTHER]))
answers = st.builds(
    lambda records, outcome: server(*records, outcome=outcome) if records else server(),
    records,
    st.sampled_from([None, None, None, Outcome.SILENT, Outcome.LAME]),
)
owners = st.builds(owner, st.lists(answers, min_size=1, max_size=3), st.sampled_from(Validity), records)
ages = st.sampled_from([0 * DAYS, 1 * DAYS, 3 * DAYS])
known = st.one_of(st.none(), st.builds(evidence, ages, st.sampled_from([PRESENT, COMING]), st.sampled_from([COMING, THIRD])))


@given(owners, keys, keys, known)
def test_d28_whatever_passes_takes_no_match_away(one, now, after, evidence):
    if held(one, now, after, evidence) is not None or now == after or not standing.counts(one):
        return
    if standing.of(one, now) in (Standing.MATCH, Standing.PARTLY):
        assert standing.of(one, after) is Standing.MATCH
        assert evidence is not None
        assert evidence.since <= NOW - FLOOR


def _calls(path):
    """(function, name) of every call in a file."""
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Call):
                    called = node.func
                    yield function.name, called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")


def test_d28_no_configuration_is_written_but_behind_the_gate():
    """Three rooms hand edits to a server, and each of them asks the gate; nobody else does."""
    writing = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        if "server.apply" in path.read_text() or "rollback_checkpoints(rollback)" in path.read_text()
    }
    assert writing == {"reconcile.py", "undo.py", "deploy/rollback.py", "installer.py"}
    asking = {
        path.relative_to(ROOT).as_posix(): function
        for path in ROOT.rglob("*.py")
        for function, called in _calls(path)
        if called in ("gate", "_ask_gate")
    }
    # The last one is the record gate, before an update is sent.
    assert asking == {
        "reconcile.py": "begin", "undo.py": "run", "preview.py": "make", "door.py": "roll_back", "dane/update.py": "publish",
    }  # fmt: skip
