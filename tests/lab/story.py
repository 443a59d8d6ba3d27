"""A page of the documentation as a story: what an admin types, and what the screen says.  Pure; nothing runs here.

Commands are in ``.. code-block:: console`` blocks.  A line that begins with ``# `` is typed by root on the mail host (a
backslash at its end: it goes on in the next line); the lines below it are what is printed, stdout and stderr as a terminal
mixes them.  In these, ``...`` stands for any text within a line, and a line of nothing else for any number of lines; where the
story has no date of its own, ``2026-11-25`` is any date; and columns may be wider than the page's, as names are.

RST comments, which no reader sees, steer it:

==============================  ==============================================================================
``.. lab: fresh``               from here on, the host is one as just installed, at today's date
``.. lab: exit 2``              the next command ends with that code
``.. lab: at 2027-01-25``       the date of what follows (noon, UTC, if no time is given); ``.. lab: now``: today
``.. lab: write PATH``          an admin's file: the indented text below, or else the next literal block of the page
``.. lab: do COMMAND``          what happens to the host without anybody typing it: a server dies; it must succeed
``.. lab: ca CSR CERT BUNDLE``  a commercial CA answers a request: it mails a certificate, and what is above it
``.. lab: dns``                 the name servers of the lab have the host's zone, signed, and a cache that validates
``.. lab: dns follows``         the secondary hears of what the primary has
``.. lab: dns records NAME``    an admin puts the records of a lineage's ``tlsa.zone`` into the zone
``.. lab: nginx``               the host has nginx, with a site of the host's name, and certbot's plugin for it
``.. lab: dovecot 2.3``         the page shows bytes that only this version has
``.. lab: elsewhere REASON``    the next console block is not for the lab; who runs it instead
==============================  ==============================================================================

A reader sees ``mail.example.org`` and the years 2026 and 2027; the lab's host is in ``example.test``, and its year is this
one: :func:`localized` and :func:`steps` translate.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Optional, Union

#: The year that the pages are written in.
YEAR = 2026


@dataclass(frozen=True)
class Typed:
    """A command.

    :param line: of the page.
    :param text: as the page has it, without the prompt.
    :param expected: the lines below it.
    :param code: its exit code.
    :param at: its date, ``2027-01-25 12:00:00``; empty for today's.
    """

    line: int
    text: str
    expected: tuple[str, ...] = ()
    code: int = 0
    at: str = ""


@dataclass(frozen=True)
class Elsewhere:
    """A command that is not run on the lab, and the reason."""

    line: int
    text: str
    reason: str


@dataclass(frozen=True)
class File:
    """A file that an admin writes."""

    line: int
    path: str
    text: str


@dataclass(frozen=True)
class Event:
    """Something that happens: ``fresh``, ``do``, ``ca``, ``dns``, ``nginx``, ``dovecot``; with what is said about it."""

    line: int
    kind: str
    about: str = ""
    at: str = ""


#: What may be said about some of them.
_EVENTS = {"ca": r"\S+ \S+ \S+", "dns": r"|follows|records \S+", "nginx": ""}
Step = Union[Typed, Elsewhere, File, Event]


class Unclear(ValueError):
    """A page that cannot be told; with its line."""


@dataclass(frozen=True)
class Block:
    """A literal block, or a comment for the lab, with the lines that belong to it.

    :param line: number of its first line, from 1; of a comment, that of the comment.
    :param head: ``console``, another language, ``::``, or ``lab: ...``.
    """

    line: int
    head: str
    lines: tuple[str, ...]


def steps(page: str) -> tuple[Step, ...]:
    """The story of a page.

    :raises Unclear: with the line, and why.
    """
    told: list[Step] = []
    code, at, elsewhere, file = 0, "", "", None
    for block in blocks(page):
        if not block.head.startswith("lab: "):
            if file is not None:
                told.append(File(file.line, file.about, _text(block.lines)))
                file = None
            elif block.head == "console":
                for typed in _typed(block):
                    if elsewhere:
                        told.append(Elsewhere(typed.line, typed.text, elsewhere))
                        continue
                    told.append(Typed(typed.line, typed.text, typed.expected, code, at))
                    code = 0
                elsewhere = ""
            continue
        verb, _, about = block.head[5:].partition(" ")
        if file is not None or (elsewhere and verb != "elsewhere"):
            raise Unclear(f"line {block.line}: a block was to come first")
        if verb == "exit" and about.isdecimal():
            code = int(about)
        elif verb == "at" and re.fullmatch(r"\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d)?", about):
            at = about if " " in about else f"{about} 12:00:00"
            told.append(Event(block.line, "at", at))
        elif verb in ("now", "fresh") and not about:
            at = ""
            told.append(Event(block.line, verb))
        elif verb == "write" and about and block.lines:
            told.append(File(block.line, about, _text(block.lines)))
        elif verb == "write" and about:
            file = Event(block.line, verb, about)
        elif verb == "elsewhere" and about:
            elsewhere = about
        elif (verb in ("do", "dovecot") and about) or (verb in _EVENTS and re.fullmatch(_EVENTS[verb], about)):
            told.append(Event(block.line, verb, about, at))
        else:
            raise Unclear(f"line {block.line}: {block.head!r} is not known to the lab")
    if file is not None or code or elsewhere:
        raise Unclear("the page ends before the block that was to come")
    return tuple(told)


def blocks(page: str) -> Iterator[Block]:
    """The literal blocks of a page, and its comments for the lab, in order."""
    lines = page.splitlines()
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        directive = re.fullmatch(r"\s*\.\. (?:code-block|code|sourcecode|parsed-literal)::\s*(\S*)", line)
        lab = re.fullmatch(r"\s*\.\. (lab: .*\S)\s*", line)
        literal = not line.lstrip().startswith("..") and line.rstrip().endswith("::")
        if not (directive or lab or literal):
            continue
        mine, begin, body = number, number, []
        depth = len(line) - len(line.lstrip())
        while number < len(lines) and (not lines[number].strip() or len(lines[number]) - len(lines[number].lstrip()) > depth):
            body.append(lines[number])
            number += 1
        while body and not body[0].strip():
            body.pop(0)
            begin += 1
        if directive and body and re.match(r"\s*:\w", body[0]):
            raise Unclear(f"line {begin + 1}: options of a block are not understood")
        while body and not body[-1].strip():
            body.pop()
        edge = min((len(one) - len(one.lstrip()) for one in body if one.strip()), default=0)
        head = directive[1] if directive else lab[1] if lab else "::"
        yield Block(begin + 1 if body and not lab else mine, head, tuple(one[edge:].rstrip() for one in body))


def strays(page: str) -> list[tuple[int, str]]:
    """Commands of ours in literal blocks that nobody runs: (line, text)."""
    found = []
    for block in blocks(page):
        if block.head == "console" or block.head.startswith("lab: "):
            continue
        for number, line in enumerate(block.lines, block.line):
            if re.match(r"(?:[#$] )?certbot(?:-dovecot)?\b(?!\.)", line):
                found.append((number, line))
    return found


def differs(expected: Sequence[str], printed: str, dated: bool = True) -> str:
    """Empty if what was printed is as the page says, else both, to be shown.

    :param dated: the dates must be the same; else any date will do.
    """
    lines = [line.rstrip() for line in printed.strip("\n").split("\n")] if printed.strip() else []
    if _lines_match([_plain(line, dated) for line in expected], [_plain(line, dated) for line in lines]):
        return ""
    wanted = "\n".join(f"  {line}" for line in expected) or "  (nothing)"
    got = "\n".join(f"  {line}" for line in lines) or "  (nothing)"
    return f"The page says:\n{wanted}\nIt printed:\n{got}"


def localized(text: str, year: int) -> str:
    """Text of a page as the lab's host has it: its names, and the years from now on.

    :param year: the present one.
    """
    there = re.sub(r"\bexample\.org\b", "example.test", text)
    return re.sub(r"(?<![\w.])20[23]\d(?!\w)", lambda match: str(int(match[0]) - YEAR + year), there)


def _typed(block: Block) -> Iterator[Typed]:
    text, begin, expected = "", 0, []
    for number, line in enumerate(block.lines, block.line):
        if text.endswith("\\"):
            text = text[:-1].rstrip() + " " + line.strip()
        elif line.startswith("# "):
            if text:
                yield Typed(begin, text, _trimmed(expected))
            text, begin, expected = line[2:].strip(), number, []
        elif not text:
            raise Unclear(f"line {number}: a console block begins with what is typed, '# ' in front: {line!r}")
        else:
            expected.append(line)
    if text:
        yield Typed(begin, text, _trimmed(expected))


def _trimmed(lines: Sequence[str]) -> tuple[str, ...]:
    return tuple("\n".join(lines).strip("\n").split("\n")) if any(line.strip() for line in lines) else ()


def _text(lines: Sequence[str]) -> str:
    return "\n".join(lines) + "\n"


def _plain(line: str, dated: bool) -> str:
    """A line as it is compared."""
    line = re.sub(r"(?<=\S) {2,}", "  ", line.rstrip())
    return line if dated else re.sub(r"\b20\d\d-\d\d-\d\d\b", "DATE", line)


def _lines_match(expected: Sequence[str], lines: Sequence[str]) -> bool:
    """As a shell's pattern is matched, with lines for letters: back to the last line of dots, and one line further."""
    at, row, dots, tried = 0, 0, -1, 0
    while row < len(lines):
        if at < len(expected) and expected[at].strip() == "...":
            dots, tried = at, row
            at += 1
        elif at < len(expected) and _line_matches(expected[at], lines[row]):
            at, row = at + 1, row + 1
        elif dots >= 0:
            tried += 1
            at, row = dots + 1, tried
        else:
            return False
    return all(line.strip() == "..." for line in expected[at:])


def _line_matches(expected: str, line: str) -> Optional[re.Match[str]]:
    return re.fullmatch(".*".join(map(re.escape, expected.split("..."))), line)
