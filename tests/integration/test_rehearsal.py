"""The rehearsal's short form, and what keeps its judge honest; ``make rehearsal`` plays all of it: see ``tests/rehearsal``."""

from __future__ import annotations

import pytest

from tests.rehearsal import __main__ as rehearsal
from tests.rehearsal.judge import LEAST, WAYS, Judge
from tests.rehearsal.scenarios import SHORT

#: It is played in a process of its own, beside what else the tests do.
pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("name", [pytest.param(one, marks=pytest.mark.long if one == "replace" else ()) for one in SHORT])
def test_the_short_form(lab, name):
    result = rehearsal.apart(name)
    assert result.good, rehearsal.story(result)
    assert all(result.looks[way] for way in WAYS)
    assert result.switches == 1
    # A way of looking that never finds anything is none: here, all three have to.
    assert ways(result) == (set(WAYS) if result.fails else set())


def test_a_judge_that_saw_nothing_does_not_acquit():
    judge = Judge(None)
    assert judge.verdict() == "no verdict: sender looked 0 times"
    judge.looks.update(dict.fromkeys(WAYS, LEAST))
    assert judge.verdict() == "safe"
    judge.broken.append("one of its ways ended")
    assert judge.verdict() == "no verdict: one of its ways ended"


def ways(result):
    """Which ways of looking saw that mail was lost."""
    return {way for way in WAYS if any(f" {way}: " in text for text in result.failures)}
