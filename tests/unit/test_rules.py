"""The rules of DANE that this software keeps, and the tests that hold it to them.

A test that enforces a rule has its number in its name, ``test_d5_...``.  Here is which rules there are, in one line each, where
each has its home among the tests, and what the simulated world (``test_world.py``) adds: it holds all of D2, D5 to D10 at once,
and ``mutations.py`` says which mistakes it would find.

The DNS tests and those of the closed loop on real servers (``tests/integration``) are more of the same.
"""

from __future__ import annotations

import ast
import pathlib
import re

import pytest

TESTS = pathlib.Path(__file__).parent.parent

#: Number to what the rule says, and a module that must have a test of it.
RULES = {
    1: ("3 1 1, and 3 1 2 only beside it; nothing else is ours", "unit/test_publish.py"),
    2: ("of every kind of record in a set, one matches what is served now", "unit/test_rollover.py"),
    3: ("two algorithms that are served have a record each", "unit/test_dane_rules.py"),
    4: ("a set stays small", "unit/test_publish.py"),
    5: ("T0: every address of every name server has both records; a regression resets it", "unit/test_rollover.py"),
    6: ("the earliest switch is two TTLs after T0, or the floor; the negative TTL counts", "unit/test_rollover.py"),
    7: ("asked again right before the switch; on any doubt the old key stays", "unit/test_rollover.py"),
    8: ("one change at a time: add, wait, switch, verify, drop", "unit/test_dane_rules.py"),
    9: ("the next key's record is always published", "unit/test_publish.py"),
    10: ("in an emergency the servers switch at once, then the old record goes", "unit/test_dane_rules.py"),
    11: ("the lifetime of a certificate does not matter", "unit/test_rotation.py"),
    12: ("the owner is the host, not the mail domain", "unit/test_dane_rules.py"),
    13: ("no record for a port that does not serve the key; port 25 is asked first", "unit/test_seen.py"),
    14: ("every port that serves the key has its owner name", "unit/test_dane_rules.py"),
    15: ("aliases are followed, and every hop counts", "unit/test_survey.py"),
    16: ("names and dates still matter", "unit/test_dane_rules.py"),
    17: ("only a resolver that is trusted says what is secure", "unit/test_rollover.py"),
    18: ("a record goes only when every address of its hosts serves a key that the others match", "unit/test_dane_hosts.py"),
    19: ("the owner names are those under which others reach the host, not the certificate's only", "unit/test_dane_hosts.py"),
}


def named() -> dict[int, set[str]]:
    """Rule to the modules with a test that has its number."""
    found: dict[int, set[str]] = {}
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match = re.match(r"test_d(\d+)_", node.name) if isinstance(node, ast.FunctionDef) else None
            if match:
                found.setdefault(int(match.group(1)), set()).add(path.relative_to(TESTS).as_posix())
    return found


NAMED = named()


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_a_test_of_its_own(rule):
    said, where = RULES[rule]
    assert where in NAMED.get(rule, ()), f"D{rule} ({said}): no test_d{rule}_... in {where}"


def test_no_test_is_of_a_rule_that_there_is_not():
    assert set(NAMED) == set(RULES) == set(range(1, 20))


def test_every_rule_that_is_cited_is_on_the_page():
    """``docs/rules.rst`` defines what the code and the other pages cite, and the index leads there."""
    root = TESTS.parent
    page = (root / "docs" / "rules.rst").read_text()
    defined = set(re.findall(r"(?m)^([RD]\d+)\. ", page))
    sources = [*(root / "certbot_dovecot").rglob("*.py"), *TESTS.rglob("*.py"), *(root / "docs").glob("*.rst")]
    cited = {rule for path in sources for rule in re.findall(r"\b[RD][1-9]\d?\b", path.read_text())}
    assert cited - defined == set()
    assert {f"D{number}" for number in RULES} <= defined
    assert ":doc:`rules`" in (root / "docs" / "index.rst").read_text()
