r"""The Dovecot configuration language: the reader.

Pure: files come in through functions, and every setting keeps its place in them, for
:mod:`~certbot_dovecot.servers.dovecot_edit`.  What cannot be understood is a
:class:`~certbot_dovecot.problems.ConfProblem` with file and line, never a guess.

The grammar, line by line (``config-parser.c`` of 2.3 and 2.4; facts/dovecot.md; judged by ``doveconf`` in the tests):

* White space is space and tab, in 2.4 vertical tab and form feed too; a line ends in LF or CRLF; the last may lack its end.
* A line whose first non-blank is ``#`` is a comment.  Elsewhere ``#`` begins one outside quotes; an unpaired quote earlier on
  the line turns that off.  A comment never continues.
* A ``\`` at the end continues, and the pieces are joined by a space; a comment or a blank line in between drops the pieces.  At
  the end of an included file it continues into the including one; at the end of the main file the line is lost.
* ``key = value``; in 2.3 ``key = <path`` for the content of a file, in 2.4 settings whose name ends in ``_file`` take a path.
  Quotes count only around the whole value, and ``\x`` is ``x`` in them.  2.4 also has quoted keys and, from 2.4.5 on,
  ``key = <<END``, a value of the lines up to ``END``.
* ``name [argument] {`` opens a block and ``}`` closes it, each alone on its line.  ``local``, ``local_name``, ``remote`` and
  ``protocol`` are filters: settings in them hold for what they match.  A block may span files.
* 2.4: ``ssl_server { cert_file = }``, ``ssl_server/cert_file =`` and ``ssl_server_cert_file =`` are one setting; ``group @g x``
  is a block of settings that ``@g = x`` takes in, and any explicit setting is stronger.
* ``!include`` and ``!include_try`` take a path or a glob, relative to the including file; globs are sorted and skip dot files.
* In one scope the last assignment wins, across files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Callable, Optional

from certbot_dovecot.problems import ConfProblem

Scope = tuple[tuple[str, str], ...]

#: Blocks that restrict settings to what they match, in the order in which they may be nested.
FILTERS = ("local", "local_name", "remote", "protocol")
_DEPTH = 100
_MEND, _TEXT = "Mend it; doveconf -n shows what Dovecot makes of it", "Save it as plain UTF-8, without a byte order mark"


@dataclass(frozen=True)
class Dialect:
    """What a version of Dovecot reads.

    :param blank: white space within a line.
    :param cert: name of the setting of the server's certificate; ``key``, ``alt_cert``, ``alt_key`` alike.
    :param mark: what stands before a path in a value.
    :param names: whether one ``local_name`` block may have several names.
    :param first_wins: whether of several ``local_name`` blocks that match, the first wins; else the last.
    """

    name: str
    blank: str
    cert: str
    key: str
    alt_cert: str
    alt_key: str
    mark: str
    names: bool
    first_wins: bool


V23 = Dialect("2.3", " \t", "ssl_cert", "ssl_key", "ssl_alt_cert", "ssl_alt_key", "<", True, True)
_S = "ssl_server_"
V24 = Dialect("2.4", " \t\v\f", f"{_S}cert_file", f"{_S}key_file", f"{_S}alt_cert_file", f"{_S}alt_key_file", "", False, False)

#: 2.3 still reads the names of 1.x, which take a path without ``<``.
OBSOLETE = {"ssl_cert_file": "ssl_cert", "ssl_key_file": "ssl_key"}


@dataclass(frozen=True)
class Assignment:
    """One ``key = value``.

    :param scope: the filters and other blocks around it, outermost first, as (name, argument).
    :param key: as it is written; ``setting`` is its full name.
    :param value: unquoted; a path if ``is_file``.
    :param line: number of its first line.
    :param start: offset of its first line in the file; -1 if that is in another file.
    :param end: offset behind its last line's end.
    :param span: offsets of the value, over all its lines; None if they cannot be told.
    :param order: its place in the order of reading.
    """

    path: str
    line: int
    scope: Scope
    key: str
    setting: str
    value: str
    is_file: bool
    start: int
    end: int
    span: Optional[tuple[int, int]]
    order: int

    @property
    def where(self) -> str:
        """``file:line``."""
        return f"{self.path}:{self.line}"


@dataclass(frozen=True)
class Mention:
    """A commented-out assignment at global scope, where a layout expects it; ``end`` is the offset behind its line."""

    path: str
    key: str
    end: int


@dataclass(frozen=True)
class Block:
    """A block.

    :param scope: those around it, and itself as the last.
    :param start: offset of its first line.
    :param inner: offset behind its first line.
    """

    path: str
    line: int
    scope: Scope
    start: int
    inner: int


@dataclass
class Tree:
    """A configuration: the files as they were read, in order, and what they say.

    :param files: path to bytes.
    :param directories: where include globs look.
    :param unfinished: whether the last line of all ends in a backslash.
    """

    dialect: Dialect
    files: dict[str, bytes] = field(default_factory=dict)
    directories: list[str] = field(default_factory=list)
    assignments: list[Assignment] = field(default_factory=list)
    mentions: list[Mention] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    unfinished: bool = False

    @cached_property
    def _last(self) -> dict[tuple[Scope, str], Assignment]:
        return {(a.scope, a.setting): a for a in self.assignments}

    def effective(self, setting: str, scope: Scope = ()) -> Optional[Assignment]:
        """The assignment that wins in exactly this scope, its groups included, or None."""
        own = self._last.get((scope, setting))
        if own is not None:
            return own
        for taken in reversed(self.taken(scope)):
            found = self._last.get(((("group", f"{taken.key} {taken.value}"),), setting))
            if found is not None:
                return found
        return None

    def taken(self, scope: Scope) -> list[Assignment]:
        """The ``@group = name`` lines of a scope (2.4)."""
        return [a for a in self._groups if a.scope == scope]

    @cached_property
    def _groups(self) -> list[Assignment]:
        return [a for a in self.assignments if a.key.startswith("@")]

    def scopes(self, settings: tuple[str, ...]) -> list[Scope]:
        """Every scope that assigns one of ``settings``, in order of appearance; blocks that are no filters are left out."""
        found = dict.fromkeys(a.scope for a in self.assignments if a.setting in settings)
        found.update(dict.fromkeys(a.scope for a in self._groups if any(self.effective(s, a.scope) for s in settings)))
        return [scope for scope in found if all(kind in FILTERS for kind, _ in scope)]


Read = Callable[[str], bytes]
Expand = Callable[[str], Optional[list[str]]]


def read(main: str, read_file: Read, expand: Expand) -> Tree:
    """Read a configuration; its first setting tells the dialect, as ``dovecot_config_version`` must be the first in 2.4.

    :param main: the main file.
    :param read_file: gives a file's bytes.
    :param expand: gives the files that an include's path or glob means, in order; None if nothing matches.
    :raises ConfProblem: it cannot be understood.
    """
    tree = Tree(_dialect(read_file(main)))
    reader = _Reader(tree, read_file, expand)
    reader.file(main, ())
    reader.done()
    return tree


def _dialect(data: bytes) -> Dialect:
    first = re.search(rb"(?m)^[ \t\v\f]*([^#\s][^\s=]*)", data)
    return V24 if first and first.group(1).strip(b'"') == b"dovecot_config_version" else V23


def parse_dump(text: bytes, dialect: Dialect) -> list[Assignment]:
    """The assignments of ``doveconf`` output, which has no includes, and several names in one block without quotes."""
    found: list[Assignment] = []
    stack: list[tuple[str, str]] = []
    scope: Scope = ()
    lines = enumerate(text.decode("latin-1").split("\n"), 1)
    for number, line in lines:
        line = line.lstrip(" ")
        if line == "}":
            del stack[-1:]
            scope = _plain(stack, dialect)
        elif line.startswith("#") or not line:
            continue
        elif line.endswith(" {") and " = " not in line:
            kind, _, argument = line[:-2].partition(" ")
            stack.append((kind, _text(_unquote(argument))))
            scope = _plain(stack, dialect)
        elif "=" in line:
            key, _, value = line.partition("=")
            key, value = key.rstrip(" "), value[1:]
            setting = _setting(key, stack, dialect)
            if dialect is V24 and value.startswith("<<"):
                plain, is_file = _heredoc(value[2:], (one for _, one in lines)) or "", False
            else:
                # The dump of 2.3 quotes a path with a # in it, with its mark.
                plain, is_file = _value(_unquote(value) if dialect is V23 else value, key, dialect)
            found.append(Assignment("", number, scope, key, setting, _text(plain), is_file, 0, 0, None, number))
    return found


def version_of(dump: bytes) -> tuple[int, ...]:
    """The version that ``doveconf`` says in its first line, ``# 2.3.19.1 (9b53102964): path``; empty if it does not."""
    match = re.match(rb"# (\d+(?:\.\d+)*)", dump)
    return tuple(int(part) for part in match.group(1).split(b".")) if match else ()


@dataclass(frozen=True)
class _Piece:
    """One physical line of a logical one.

    :param text: without comment, surrounding white space, backslash and line end; one character for each byte.
    :param first: offset of the first byte of ``text``.
    """

    path: str
    number: int
    text: str
    first: int
    start: int


class _Reader:
    """Reads files into a tree; blocks and continuations go from file to file."""

    def __init__(self, tree: Tree, read_file: Read, expand: Expand) -> None:
        self.tree, self.read_file, self.expand = tree, read_file, expand
        self.dialect = tree.dialect
        self.stack: list[tuple[str, str]] = []
        self.scope: Scope = ()
        self.opened: list[str] = []
        self.pieces: list[_Piece] = []

    def file(self, path: str, above: tuple[str, ...]) -> None:
        if path in above or len(above) > _DEPTH:
            raise ConfProblem("is included by itself", where=path, todo="Remove that !include")
        data = self.read_file(path)
        if data.startswith(b"\xef\xbb\xbf"):
            raise ConfProblem("begins with a byte order mark, which Dovecot does not understand", where=f"{path}:1", todo=_TEXT)
        if b"\0" in data:
            raise ConfProblem("contains a NUL byte", where=f"{path}:{data[: data.index(0)].count(10) + 1}", todo=_TEXT)
        self.tree.files[path] = data
        lines = _Lines(data)
        for number, start, end, text in lines:
            self._line(path, number, start, end, text, lines, (*above, path))

    def done(self) -> None:
        self.tree.unfinished = bool(self.pieces)
        if self.stack:
            raise ConfProblem(f"the block {self.stack[-1][0]} is not closed", where=self.opened[-1], todo="Add the missing }")

    def _line(
        self, path: str, number: int, start: int, end: int, text: str, lines: _Lines, above: tuple[str, ...]
    ) -> None:
        """One physical line; the last of a logical one decides."""
        blank = self.dialect.blank
        body = text.lstrip(blank)
        if not body or body[0] == "#":
            self.pieces.clear()
            if body and not self.stack:
                match = re.match(r"#\s*([\w/]+)\s*=", body)
                if match:
                    self.tree.mentions.append(Mention(path, match.group(1), end))
            return
        stripped = _uncomment(body).rstrip(blank)
        continues = stripped.endswith("\\")
        if continues:
            stripped = stripped[:-1].rstrip(blank)
        if stripped or not continues:
            self.pieces.append(_Piece(path, number, stripped, start + len(text) - len(body), start))
        if not continues:
            pieces = self.pieces[:]
            self.pieces.clear()
            self._logical(path, pieces, end, lines, above)

    def _logical(self, path: str, pieces: list[_Piece], end: int, lines: _Lines, above: tuple[str, ...]) -> None:
        text = " ".join(piece.text for piece in pieces) if len(pieces) > 1 else pieces[0].text
        blank = self.dialect.blank
        where = f"{pieces[0].path}:{pieces[0].number}"
        key, rest = _key(text, blank)
        if key in ("!include", "!include_try"):
            self._include(path, _text(rest), key == "!include", where, above)
        elif rest.startswith("="):
            raw = rest[1:].lstrip(blank)
            self._assign(path, pieces, end, key, raw, lines, where)
        elif text == "}":
            if not self.stack:
                raise ConfProblem("a } without a block", where=where, todo="Remove it, or add the missing {")
            self.stack.pop()
            self.opened.pop()
            self.scope = _plain(self.stack, self.dialect)
        else:
            argument = _argument(rest, blank)
            if argument is None:
                raise ConfProblem(f"this line cannot be understood: {_text(text)[:60]}", where=where, todo=_MEND)
            _nested([name for name, _ in self.stack], key, where)
            self.opened.append(where)
            self.stack.append((_text(key), _text(argument)))
            self.scope = _plain(self.stack, self.dialect)
            self.tree.blocks.append(Block(path, pieces[0].number, self.scope, pieces[0].start, end))

    def _assign(self, path: str, pieces: list[_Piece], end: int, key: str, raw: str, lines: _Lines, where: str) -> None:
        if self.dialect is V24 and len(key) > 1 and key[0] == key[-1] == '"':
            key = _unquote(key)
        if self.dialect is V24 and raw.startswith("<<"):
            lasting = _heredoc(raw[2:].strip(), (one for _, _, _, one in lines))
            if lasting is None:
                raise ConfProblem(f"the value that ends with {raw[2:]} has no end", where=where, todo=_MEND)
            value, is_file, end, span = lasting, False, lines.end, None
        else:
            value, is_file = _value(raw, key, self.dialect)
            span = _span(pieces, len(raw)) if all(piece.path == path for piece in pieces) else None
        setting = _setting(key, self.stack, self.dialect)
        first, order = pieces[0], len(self.tree.assignments)
        start = first.start if first.path == path else -1
        self.tree.assignments.append(
            Assignment(path, first.number, self.scope, key, setting, _text(value), is_file, start, end, span, order)
        )

    def _include(self, path: str, pattern: str, must: bool, where: str, above: tuple[str, ...]) -> None:
        full = os.path.normpath(os.path.join(os.path.dirname(path), pattern))
        if any(mark in full for mark in "*?[{"):
            self.tree.directories.append(os.path.dirname(full))
        found = self.expand(full)
        if found is None and must:
            raise ConfProblem(f"the included file {pattern} is not there", where=where, todo="Or write !include_try")
        for name in found or ():
            self.file(name, above)


class _Lines:
    """The physical lines of a file: number, offset, offset behind its end, and the text without its end."""

    def __init__(self, data: bytes) -> None:
        self._text = data.decode("latin-1")
        self._number = 0
        self.end = 0

    def __iter__(self) -> Iterator[tuple[int, int, int, str]]:
        return self

    def __next__(self) -> tuple[int, int, int, str]:
        start, text = self.end, self._text
        if start >= len(text):
            raise StopIteration
        stop = text.find("\n", start)
        self.end = len(text) if stop < 0 else stop + 1
        self._number += 1
        line = text[start : len(text) if stop < 0 else stop]
        return self._number, start, self.end, line[:-1] if line.endswith("\r") and stop >= 0 else line


def _heredoc(tag: str, lines: Iterable[str]) -> Optional[str]:
    """The lines up to ``tag``; None if it never comes."""
    taken: list[str] = []
    for text in lines:
        if text == tag:
            return "\n".join(taken)
        taken.append(text)
    return None


def _key(text: str, blank: str) -> tuple[str, str]:
    """The first word, which an ``=`` ends too, and what follows it without leading white space."""
    stop = 0
    while stop < len(text) and text[stop] not in blank and text[stop] != "=":
        stop += 1
    return text[:stop], text[stop:].lstrip(blank)


def _argument(rest: str, blank: str) -> Optional[str]:
    """The argument of a block whose line goes on with ``rest``; None if this is no block."""
    if not rest.endswith("{"):
        return None
    inner = rest[:-1]
    if not inner:
        return ""
    if inner[-1] not in blank + '"':
        return None
    inner = inner.rstrip(blank)
    if inner.startswith('"'):
        match = re.fullmatch(r'"((?:\\.|[^"\\])*)"', inner)
        return re.sub(r"\\(.)", r"\1", match.group(1)) if match else None
    words = inner.split()
    if len(words) == 1 or (len(words) == 2 and words[0].startswith("@")):
        return " ".join(words)
    return None


def _nested(around: list[str], name: str, where: str) -> None:
    """Filters go into one another in one order only.

    :raises ConfProblem: this one may not be here.
    """
    if name in FILTERS:
        for outer in around:
            # A network may hold a smaller one.
            inverse = outer in FILTERS and FILTERS.index(outer) >= FILTERS.index(name)
            if outer == "ssl_server" or (inverse and (outer != name or name == "protocol")):
                raise ConfProblem(f"a block {name} is not allowed in a block {outer}", where=where, todo=_MEND)


def _uncomment(text: str) -> str:
    """``text`` without its comment, by Dovecot's own rule."""
    if "#" not in text:
        return text
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


def _value(raw: str, key: str, dialect: Dialect) -> tuple[str, bool]:
    """Value and whether it is a file's path."""
    if dialect is V23:
        if raw.startswith("<"):
            return raw[1:].lstrip(dialect.blank), key not in OBSOLETE
        return _unquote(raw), key in OBSOLETE
    value = _unquote(raw)
    return value, key.endswith("_file") and bool(value) and not value.startswith("inline:")


def _unquote(raw: str) -> str:
    # A quote alone is its own end: an empty value.
    if raw and raw[0] == raw[-1] and raw[0] in "'\"":
        return re.sub(r"\\(.)", r"\1", raw[1:-1])
    return raw


def _setting(key: str, stack: list[tuple[str, str]], dialect: Dialect) -> str:
    """A setting's full name."""
    if dialect is V23:
        return OBSOLETE.get(key, key)
    key = key.replace("/", "_")
    if stack and stack[-1] == ("ssl_server", "") and not key.startswith("ssl_server_"):
        return f"ssl_server_{key}"
    return key


def _plain(stack: list[tuple[str, str]], dialect: Dialect) -> Scope:
    """The scope of a stack of blocks: ``ssl_server`` is part of a setting's name; in 2.3, of two alike the inner counts."""
    blocks = stack[:-1] if stack and stack[-1] == ("ssl_server", "") else stack
    if dialect is V24:
        return tuple(blocks)
    last = {kind: place for place, (kind, _) in enumerate(blocks) if kind in FILTERS}
    return tuple(block for place, block in enumerate(blocks) if last.get(block[0], place) == place)


def _span(pieces: list[_Piece], length: int) -> tuple[int, int]:
    """Offsets of the last ``length`` characters of a logical line."""
    end = pieces[-1].first + len(pieces[-1].text)
    for piece in reversed(pieces):
        if length <= len(piece.text):
            return piece.first + len(piece.text) - length, end
        length -= len(piece.text) + 1
    return end, end


def _text(latin: str) -> str:
    """Bytes that were read one by one, as text."""
    return latin if latin.isascii() else latin.encode("latin-1").decode("utf-8", "surrogateescape")
