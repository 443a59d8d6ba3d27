"""Every message that an admin can meet says what, where and what now, and docs/troubleshooting.rst explains it."""

from __future__ import annotations

import ast
import pathlib
import re

import pytest

from tests.unit import messages

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "troubleshooting.rst"
#: No ``where``, and nothing in the text that says it: the reason why that is right.
NOWHERE = {
    "the certificate's key is neither RSA nor ECDSA": "cannot be met by a file: those are refused before, with their path",
}
#: Findings without a remedy of their own: the reason why that is right.
NO_REMEDY = {
    "... cannot be looked at: ...": "what follows is a problem, whose own sentences say what to do",
    "not everything could be looked at: ...": "likewise",
}


@pytest.fixture(scope="module")
def collected():
    return messages.collect()


@pytest.fixture(scope="module")
def findings():
    return messages.findings()


@pytest.fixture(scope="module")
def explained():
    """Message to explanation, of the whole page."""
    return _explained(PAGE.read_text())


def test_each_is_explained(collected, explained):
    missing = {one.template: one.at for one in collected if one.template not in explained}
    ready = "\n".join(f"``{text}``\n    WHAT IT MEANS, WHAT TO DO  ({at})\n" for text, at in missing.items())
    assert not missing, f"These are missing in {PAGE.name}:\n\n{ready}"


def test_the_section_of_status_has_each_of_its_findings_and_no_other(findings):
    assert len(findings) > 10
    [section] = re.findall(r"(?ms)^What status says\n-+\n(.*?)(?:^[^\n]+\n---|\Z)", PAGE.read_text())
    told = _explained(section)
    missing = {one.template: one.at for one in findings if one.template not in told}
    ready = "\n".join(f"``{text}``\n    WHAT IT MEANS, WHAT TO DO  ({at})\n" for text, at in missing.items())
    assert not missing, f"These are missing in {PAGE.name}:\n\n{ready}"
    assert set(told) == {one.template for one in findings}


def test_each_finding_of_status_says_what_to_do(findings):
    assert {one.template for one in findings if not one.todo} == set(NO_REMEDY)


def test_every_reason_why_a_key_stays_is_explained(explained):
    reasons = messages.reasons()
    assert len(reasons) > 15
    missing = {text: at for text, at in reasons.items() if text not in explained}
    ready = "\n".join(f"``{text}``\n    WHAT IT MEANS, WHAT TO DO  ({at})\n" for text, at in missing.items())
    assert not missing, f"These are missing in {PAGE.name}:\n\n{ready}"


def test_none_is_explained_that_does_not_exist(collected, findings, explained):
    templates = {one.template for one in [*collected, *findings]}
    said = [messages.template(text) for text in _texts()]
    for text in explained:
        assert text in templates or any(text in one for one in said), f"{PAGE.name} explains what nobody says: {text}"


def test_no_message_is_there_twice():
    entries = re.findall(r"(?m)^``(.+)``\n    ", PAGE.read_text())
    assert len(entries) == len(set(entries))


def test_each_says_what_to_do(collected):
    assert [f"{one.at} {one.template}" for one in collected if not one.todo] == []


def test_each_says_where(collected):
    """By itself, or its text names what it is about: a command, a file, an option, an endpoint."""
    nowhere = {one.template for one in collected if not one.where and messages.HOLE not in one.template}
    assert nowhere == set(NOWHERE)


def test_none_begins_like_a_sentence(collected):
    """What comes behind ``path: `` goes on in small letters; a name may stand there."""
    for one in collected:
        first = one.template.split()[0]
        assert first[0].islower() or first in ("TLS", "Dovecot", "Postfix's") or first.startswith(("-", ".")), one


@pytest.mark.parametrize(
    ("code", "template"),
    [
        ('raise Problem("plain", where=path, todo="x")', "plain"),
        ('raise Problem(f"{a}{b} of {c!r}", where=path, todo="x")', "... of ..."),
        ('raise Problem("a " + "; ".join(b), todo="x")', "a ..."),
        ('def wrong(what, todo):\n    return ConfProblem(what, todo=todo)\nraise wrong(f"no {a}", "x")', "no ..."),
        ('def wrong(what, todo="x"):\n    return Problem(what, where=path, todo=todo)\nraise wrong("a")', "a"),
        ('def wrong(what, *, todo="x"):\n    return Problem(what, where=path, todo=todo)\nraise wrong("a")', "a"),
        ('TEXT = "here"\ndef f():\n    raise Problem(TEXT, todo="x")', "here"),
        ('def _text():\n    return "told"\nraise Problem(_text(), todo="x")', "told"),
        ('def f():\n    said = "here"\n    raise Problem(said, todo="x")', "here"),
    ],
)
def test_what_the_collector_follows(tmp_path, code, template):
    (tmp_path / "room.py").write_text(code)
    [found] = messages.collect(tmp_path)
    assert (found.template, found.todo) == (template, True)


@pytest.mark.parametrize("code", ["raise Problem(f())", "raise Problem(text)", "raise Problem([1][0])"])
def test_what_it_cannot_follow_is_an_error(tmp_path, code):
    (tmp_path / "room.py").write_text(code)
    with pytest.raises(messages.Unfollowed, match=r"room\.py:1"):
        messages.collect(tmp_path)


def test_a_forgotten_todo_is_seen(tmp_path):
    (tmp_path / "room.py").write_text(
        'def wrong(what, todo=""):\n    return Problem(what, where=path, todo=todo)\n'
        'raise wrong("a")\nraise Problem("b", todo="")\n'
    )
    found = [(one.template, one.where, one.todo) for one in messages.collect(tmp_path)]
    assert found == [("a", True, False), ("b", False, False)]


def test_what_the_collector_follows_of_findings(tmp_path):
    (tmp_path / "room.py").write_text(
        'LOG = "x"\ndef f():\n    what = "due" if a else "not due"\n    return Finding(1, "", f"{what}: {b}", LOG)\n'
        'Finding(1, "", " serves", todo="")\nFinding(1, "", "nothing")\n'
    )
    found = {(one.template, one.todo) for one in messages.findings(tmp_path / "room.py")}
    assert found == {("due: ...", True), ("not due: ...", True), ("... serves", False), ("nothing", False)}


def test_a_finding_that_it_cannot_follow_is_an_error(tmp_path):
    (tmp_path / "room.py").write_text("def f():\n    return Finding(1, '', text())\n")
    with pytest.raises(messages.Unfollowed, match=r"room\.py:2"):
        messages.findings(tmp_path / "room.py")


def _explained(text):
    return dict(re.findall(r"(?m)^``(.+)``\n((?: {4}.+\n)+)", text))


def _texts():
    """Every text in the code, with holes."""
    for path in messages.ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else messages.HOLE for part in node.values)
