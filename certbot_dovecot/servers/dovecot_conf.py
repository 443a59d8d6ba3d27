r"""The Dovecot configuration language: reader and editor.

Pure: files come in through functions, edits go out as bytes.  Every byte that an edit does not mean stays as it is.  What
cannot be understood is a :class:`~certbot_dovecot.problems.ConfProblem` with file and line, never a guess.

The grammar of 2.3 (``config-parser.c``; facts/dovecot.md), line by line:

* White space is space and tab; a line ends in LF or CRLF; the last one may lack its end.
* A line whose first non-blank is ``#`` is a comment.  Elsewhere ``#`` begins one outside quotes; an unpaired quote earlier on
  the line turns that off.  A comment never continues.
* A ``\`` at the end continues, and the pieces are joined by a space; a comment or a blank line in between drops the pieces.
* ``key = value``; ``key = <path`` for the content of a file; ``key = $other``.  Quotes count only around the whole value, and
  ``\x`` is ``x`` in them.
* ``name [argument] {`` opens a block and ``}`` closes it, each alone on its line.  ``local``, ``local_name``, ``remote`` and
  ``protocol`` are filters: settings in them hold for what they match.  A block may span files.
* ``!include`` and ``!include_try`` take a path or a glob, relative to the including file; globs are sorted and skip dot files.
* In one scope the last assignment wins, across files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Callable, Optional

from certbot_dovecot.problems import ConfProblem

Scope = tuple[tuple[str, str], ...]

#: Blocks that restrict settings to what they match.
FILTERS = ("local", "local_name", "remote", "protocol")

#: 2.3 still reads the names of 1.x, which take a path without ``<``.
OBSOLETE = {"ssl_cert_file": "ssl_cert", "ssl_key_file": "ssl_key"}

_SECTION = re.compile(r'([^\s=]+)[ \t]+(?:(?:"((?:\\.|[^"\\])*)"|([^\s"]\S*))[ \t]+)?\{')
_DEPTH = 100


@dataclass(frozen=True)
class Assignment:
    """One ``key = value``.

    :param scope: the blocks around it, outermost first, as (name, argument).
    :param key: as it is written.
    :param value: unquoted; a path if ``is_file``.
    :param line: number of its first line.
    :param start: offset of its first line in the file.
    :param end: offset behind its last line's end.
    :param span: offsets of the value; None if it is spread over several lines.
    """

    path: str
    line: int
    scope: Scope
    key: str
    value: str
    is_file: bool
    start: int
    end: int
    span: Optional[tuple[int, int]]

    @property
    def setting(self) -> str:
        """The setting's present name."""
        return OBSOLETE.get(self.key, self.key)

    @property
    def where(self) -> str:
        """``file:line``."""
        return f"{self.path}:{self.line}"


@dataclass(frozen=True)
class Mention:
    """A commented-out assignment at global scope: the place where a layout expects the setting.

    :param end: offset behind its line.
    """

    path: str
    key: str
    end: int


@dataclass
class Tree:
    """A configuration: the files as they were read, in order, and what they say.

    :param files: path to bytes.
    :param directories: where include globs look.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    directories: list[str] = field(default_factory=list)
    assignments: list[Assignment] = field(default_factory=list)
    mentions: list[Mention] = field(default_factory=list)

    def effective(self, setting: str, scope: Scope = ()) -> Optional[Assignment]:
        """The assignment that wins in exactly this scope, or None."""
        found = [a for a in self.assignments if a.setting == setting and a.scope == scope]
        return found[-1] if found else None

    def scopes(self, settings: tuple[str, ...]) -> list[Scope]:
        """Every scope that assigns one of ``settings``, in order of appearance; blocks that are no filters are left out."""
        found = dict.fromkeys(a.scope for a in self.assignments if a.setting in settings)
        return [scope for scope in found if all(kind in FILTERS for kind, _ in scope)]


Read = Callable[[str], bytes]
Expand = Callable[[str], list[str]]


def read(main: str, read_file: Read, expand: Expand) -> Tree:
    """Read a configuration.

    :param main: the main file.
    :param read_file: gives a file's bytes.
    :param expand: gives the sorted matches of an include's glob.
    :raises ConfProblem: it cannot be understood.
    """
    tree = Tree()
    _Reader(tree, read_file, expand).file(main, ())
    return tree


def parse_dump(text: bytes) -> list[Assignment]:
    """The assignments of ``doveconf -a`` output, which has no includes, and several names in one block without quotes."""
    found: list[Assignment] = []
    scope: list[tuple[str, str]] = []
    for number, line in enumerate(text.decode("utf-8", "surrogateescape").splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line == "}":
            if scope:
                scope.pop()
        elif " = " not in line and not line.endswith(" =") and line.endswith("{"):
            kind, _, argument = line[:-1].strip().partition(" ")
            scope.append((kind, _unquote(argument.strip())))
        elif "=" in line:
            key, _, value = line.partition("=")
            plain, is_file = _value(value.strip())
            found.append(Assignment("", number, tuple(scope), key.strip(), plain, is_file, 0, 0, None))
    return found


class _Reader:
    """Reads files into a tree; the block stack goes from file to file."""

    def __init__(self, tree: Tree, read_file: Read, expand: Expand) -> None:
        self.tree, self.read_file, self.expand = tree, read_file, expand
        self.scope: list[tuple[str, str]] = []
        self.opened: list[str] = []

    def file(self, path: str, above: tuple[str, ...]) -> None:
        if path in above or len(above) > _DEPTH:
            raise ConfProblem("is included by itself", where=path)
        data = self.read_file(path)
        if data.startswith(b"\xef\xbb\xbf"):
            raise ConfProblem("begins with a byte order mark, which Dovecot does not understand", where=f"{path}:1")
        if b"\0" in data:
            raise ConfProblem("contains a NUL byte", where=f"{path}:{data[: data.index(0)].count(10) + 1}")
        self.tree.files[path] = data
        for line in _logical(data):
            self._line(path, line, (*above, path))
        if not above and self.scope:
            raise ConfProblem(f"the block {self.scope[-1][0]} is not closed", where=self.opened[-1], todo="Add the missing }")

    def _line(self, path: str, line: _Logical, above: tuple[str, ...]) -> None:
        where = f"{path}:{line.number}"
        if line.comment:
            match = re.match(r"#\s*(\w+)\s*=", line.text)
            if match and not self.scope:
                self.tree.mentions.append(Mention(path, match.group(1), line.end))
            return
        key = re.match(r"[^\s=]*", line.text).group()  # type: ignore[union-attr]
        rest = line.text[len(key) :].lstrip(" \t")
        if key in ("!include", "!include_try"):
            self._include(path, rest, key == "!include", where, above)
        elif rest.startswith("="):
            self._assign(path, line, key, rest[1:].lstrip(" \t"))
        elif line.text == "}":
            if not self.scope:
                raise ConfProblem("a } without a block", where=where)
            self.scope.pop()
            self.opened.pop()
        else:
            match = _SECTION.fullmatch(line.text)
            if not match:
                raise ConfProblem(f"this line cannot be understood: {line.text[:60]}", where=where)
            argument = match.group(2) if match.group(2) is not None else match.group(3)
            self.opened.append(where)
            self.scope.append((match.group(1), re.sub(r"\\(.)", r"\1", argument or "")))

    def _assign(self, path: str, line: _Logical, key: str, raw: str) -> None:
        span = None
        if line.single:
            at = line.first + len(line.text.encode("utf-8", "surrogateescape")) - len(raw.encode("utf-8", "surrogateescape"))
            span = (at, line.first + len(line.text.encode("utf-8", "surrogateescape")))
        value, is_file = _value(raw)
        if key in OBSOLETE:
            is_file = not is_file
        self.tree.assignments.append(
            Assignment(path, line.number, tuple(self.scope), key, value, is_file, line.start, line.end, span)
        )

    def _include(self, path: str, pattern: str, must: bool, where: str, above: tuple[str, ...]) -> None:
        full = os.path.normpath(os.path.join(os.path.dirname(path), pattern))
        if any(mark in full for mark in "*?["):
            self.tree.directories.append(os.path.dirname(full))
        found = self.expand(full)
        if not found and must:
            raise ConfProblem(f"the included file {pattern} is not there", where=where)
        for name in found:
            self.file(name, above)


@dataclass(frozen=True)
class _Logical:
    """A line with its continuations.

    :param text: without comment, surrounding white space and line end; a comment line as it is.
    :param first: offset of the first byte of ``text``.
    """

    number: int
    text: str
    start: int
    end: int
    first: int
    single: bool
    comment: bool = False


def _logical(data: bytes) -> Iterator[_Logical]:
    """The logical lines of a file, comments too; what a comment or blank line cuts off is dropped, as Dovecot does."""
    pieces: list[str] = []
    begun = number_begun = first = 0
    offset = 0
    for number, physical in enumerate(data.split(b"\n"), 1):
        start, offset = offset, min(offset + len(physical) + 1, len(data))
        text = physical.decode("utf-8", "surrogateescape")
        text = text[:-1] if text.endswith("\r") else text
        body = text.lstrip(" \t")
        if not body or body.startswith("#"):
            pieces = []
            if body:
                yield _Logical(number, body, start, offset, start, True, comment=True)
            continue
        stripped = _uncomment(body).rstrip(" \t")
        if not pieces:
            begun, number_begun = start, number
            first = start + len(physical) - len(physical.lstrip(b" \t"))
        if stripped.endswith("\\"):
            pieces.append(stripped[:-1].rstrip(" \t"))
            continue
        if not stripped:
            pieces = []
            continue
        yield _Logical(number_begun, " ".join([*pieces, stripped]), begun, offset, first, not pieces)
        pieces = []
    if pieces:
        raise ConfProblem("the last line ends in a backslash and continues nowhere", where=f"line {number_begun}")


def _uncomment(text: str) -> str:
    """``text`` without its comment, by Dovecot's own rule."""
    position = 0
    while position < len(text):
        char = text[position]
        if char in "'\"":
            position += 1
            while position < len(text) and text[position] != char:
                position += 2 if text[position] == "\\" else 1
            if position >= len(text):
                return text
        elif char == "#":
            return text[:position]
        position += 1
    return text


def _value(raw: str) -> tuple[str, bool]:
    """Value and whether it is a file's path."""
    if raw.startswith("<"):
        return raw[1:].lstrip(" \t"), True
    return _unquote(raw), False


def _unquote(raw: str) -> str:
    if len(raw) >= 2 and raw[0] == raw[-1] and raw[0] in "'\"":
        return re.sub(r"\\(.)", r"\1", raw[1:-1])
    return raw


#: Offsets to be replaced, and the bytes that take their place.
Change = tuple[int, int, bytes]


def change(data: bytes, changes: list[Change]) -> bytes:
    """``data`` with ``changes`` made; they may not overlap."""
    for start, end, new in sorted(changes, reverse=True):
        data = data[:start] + new + data[end:]
    return data


def set_value(tree: Tree, assignment: Assignment, path: str) -> Change:
    """Make ``assignment`` name the file ``path``, everything else on its line as it is."""
    text = path if assignment.key in OBSOLETE else f"<{path}"
    if assignment.span is None:
        return set_lines(tree, assignment, {assignment.setting: path})
    return (*assignment.span, os.fsencode(text))


def set_lines(tree: Tree, assignment: Assignment, values: Mapping[str, str]) -> Change:
    """Put lines that name the files of ``values`` in the place of ``assignment``, with its indentation and line end."""
    data = tree.files[assignment.path]
    line = data[assignment.start : assignment.end]
    indent = line[: len(line) - len(line.lstrip(b" \t"))]
    end = line_end(data)
    last = end if line.endswith(b"\n") else b""
    lines = end.join(indent + os.fsencode(f"{key} = <{path}") for key, path in values.items())
    return (assignment.start, assignment.end, lines + last)


def insert(tree: Tree, mentions: Mapping[str, Mention], main: str, values: Mapping[str, str]) -> dict[str, list[Change]]:
    """Add assignments at global scope: behind the lines that mention them, else at the end of the main file.

    :param mentions: setting to where it is mentioned, all in one file; may be empty.
    """
    changes: dict[str, list[Change]] = {}
    for key, path in values.items():
        where = mentions[key].path if mentions else main
        data = tree.files[where]
        end = line_end(data)
        at = mentions[key].end if mentions else len(data)
        text = os.fsencode(f"{key} = <{path}") + end
        # A last line without an end gets one; the second setting follows the first.
        if at == len(data) and data and not data.endswith(b"\n") and not changes.get(where):
            text = end + text
        made = changes.setdefault(where, [])
        if made and made[-1][0] == at:
            made[-1] = (at, at, made[-1][2] + text)
        else:
            made.append((at, at, text))
    return changes


def line_end(data: bytes) -> bytes:
    """The line end that a file uses."""
    return b"\r\n" if b"\r\n" in data else b"\n"
