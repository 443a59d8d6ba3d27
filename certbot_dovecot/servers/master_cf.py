r"""The language of Postfix's master.cf: reader and editor, over bytes.

``postconf -P`` is not used to edit: it reformats the entry, moves its comments, and corrupts some spellings (facts/postfix.md).
Here every byte that an edit does not mean stays as it is.

The grammar (master(5), and what was measured with running daemons):

* A blank line, or one whose first non-blank is ``#``, is dropped, also between continuation lines.  Elsewhere ``#`` is text.
* A line that begins with white space continues the entry above.  CR is white space.
* An entry is eight fields (name, type, private, unpriv, chroot, wakeup, maxproc, command) and arguments, split at white space;
  an argument that begins with ``{`` goes to its closing ``}``.
* An option is ``-o name=value``, ``-o {name = value}`` or ``-oname=value``.  Of several for one name the last wins, and of
  several entries for one service the last.
* ``-o name = value``, ``-o name= value``, ``-o{...}`` and an unclosed brace make the daemon die; for an entry that is to be
  edited that is a :class:`~certbot_dovecot.problems.ConfProblem` with file and line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Optional

from certbot_dovecot.problems import ConfProblem

_BLANK = b" \t\r\n\v\f"
_PORTS = {"smtp": 25, "smtps": 465, "submissions": 465, "urd": 465, "submission": 587}
_FIELDS = 8


@dataclass(frozen=True)
class Token:
    """One field or argument, with its offsets in the file."""

    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Option:
    """One ``-o``.

    :param token: the argument that holds name and value.
    :param form: how it is spelt, with ``{}`` where the assignment stands: ``{}``, ``-o{}``, ``{{ {} }}``.
    """

    name: str
    value: str
    token: Token
    form: str


@dataclass(frozen=True)
class Entry:
    """One service.

    :param line: number of its first line.
    :param fields: the eight fields.
    :param end: offset behind the text of its last line, before the line end.
    :param indent: white space of its last continuation line; two spaces if it has none.
    :param wrong: what is wrong with its options, for an edit; empty if nothing.
    """

    line: int
    fields: tuple[str, ...]
    options: tuple[Option, ...]
    end: int
    indent: bytes
    wrong: str = ""

    @property
    def name(self) -> str:
        """The service name, as it is written."""
        return self.fields[0]

    @property
    def command(self) -> str:
        """The daemon."""
        return self.fields[7]

    @property
    def host(self) -> str:
        """The address in front of the port, without brackets; empty for all of ``inet_interfaces``."""
        return self.name.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> Optional[int]:
        """The port of an ``inet`` service; None for a name that nobody knows."""
        name = self.name.rpartition(":")[2]
        if name.isdigit():
            return int(name)
        if name in _PORTS:
            return _PORTS[name]
        import socket

        try:
            return socket.getservbyname(name, "tcp")
        except OSError:
            return None

    def option(self, name: str) -> Optional[str]:
        """The value of the ``-o`` that wins, or None if there is none."""
        found = [option.value for option in self.options if option.name == name]
        return found[-1] if found else None


def parse(data: bytes, path: str) -> tuple[Entry, ...]:
    """The entries of ``data``, in order.

    :param path: for messages.
    :raises ConfProblem: a line that Postfix itself refuses.
    """
    entries: list[Entry] = []
    pieces: list[tuple[int, int]] = []
    first, number, offset = 0, 0, 0
    for line in data.split(b"\n"):
        number += 1
        start, offset = offset, offset + len(line) + 1
        text = line.strip(_BLANK)
        if not text or text.startswith(b"#"):
            continue
        piece = (start, start + len(line.rstrip(_BLANK)))
        if line[:1] in (b" ", b"\t", b"\v", b"\f", b"\r"):
            if not pieces:
                raise ConfProblem(
                    "a continuation line without a service before it",
                    where=f"{path}:{number}",
                    todo="Remove the blanks at its beginning, or the line",
                )
            pieces.append(piece)
            continue
        if pieces:
            entries.append(_entry(data, pieces, first, path))
        pieces, first = [piece], number
    if pieces:
        entries.append(_entry(data, pieces, first, path))
    return tuple(entries)


def set_options(data: bytes, entries: Iterable[Entry], values: Mapping[int, Mapping[str, str]], path: str) -> bytes:
    """``data`` with options set.

    :param entries: those of ``data``.
    :param values: number of the first line of an entry, to option names and values.
    :raises ConfProblem: an entry to be edited has options that its daemon dies of, or a value would not be one argument.
    """
    changes: list[tuple[int, int, bytes]] = []
    for entry in entries:
        wanted = values.get(entry.line)
        if not wanted:
            continue
        if entry.wrong:
            raise ConfProblem(entry.wrong, where=f"{path}:{entry.line}", left="Nothing was changed", todo="Mend it first")
        for name, value in wanted.items():
            # A table may be an inline one, and have a parameter in its name; a path has none of these.
            if re.search(r"[\x00-\x1f\x7f]", value) or (value.startswith("/") and re.search(r"[\s${}]", value)):
                raise ConfProblem(
                    f"{name} cannot have the value {value}: a blank, a dollar, a brace or a control character has a "
                    "meaning there",
                    where=f"{path}:{entry.line}",
                    left="Nothing was changed",
                    todo="Give --dovecot-store a directory without these",
                )
        added = b""
        for name, value in wanted.items():
            found = [option for option in entry.options if option.name == name]
            if found and found[-1].value == value:
                continue
            if found:
                option = found[-1]
                changes.append((option.token.start, option.token.end, os.fsencode(_written(name, value, option.form))))
            else:
                added += line_end(data) + entry.indent + os.fsencode(f"-o {_written(name, value)}")
        if added:
            changes.append((entry.end, entry.end, added))
    for start, end, new in sorted(changes, reverse=True):
        data = data[:start] + new + data[end:]
    return data


def _written(name: str, value: str, form: str = "{}") -> str:
    """An option in a form of :class:`Option`; in braces if its value has blanks or braces, which no other form allows."""
    if "{{" in form:
        return form.format(f"{name} = {value}")
    if re.search(r"[\s{}]", value):
        # -o{ name = value } is what a daemon dies of.
        return f"{'-o ' if form == '-o{}' else ''}{{ {name} = {value} }}"
    return form.format(f"{name}={value}")


def line_end(data: bytes) -> bytes:
    """The line end that a file uses."""
    return b"\r\n" if b"\r\n" in data else b"\n"


def orphans(data: bytes) -> tuple[int, ...]:
    """Numbers of lines that continue an entry across a commented-out head line: its options hang on the entry above."""
    found = []
    commented = False
    for number, line in enumerate(data.split(b"\n"), 1):
        if re.match(rb"#\s*[\w.:\[\]-]+\s+(inet|unix|unix-dgram|fifo|pass)\s", line):
            commented = True
        elif line[:1] in (b" ", b"\t") and line.strip(_BLANK) and not line.strip(_BLANK).startswith(b"#"):
            if commented:
                found.append(number)
            commented = False
        elif line.strip(_BLANK) and not line.startswith(b"#"):
            commented = False
    return tuple(found)


def _entry(data: bytes, pieces: list[tuple[int, int]], line: int, path: str) -> Entry:
    tokens, unclosed = _tokens(data, pieces)
    if len(tokens) < _FIELDS:
        raise ConfProblem(
            f"a service has {len(tokens)} fields instead of eight", where=f"{path}:{line}", todo="See master(5), and mend it"
        )
    last = data[pieces[-1][0] : pieces[-1][1]]
    indent = last[: len(last) - len(last.lstrip(_BLANK))] if len(pieces) > 1 else b"  "
    options, wrong = _options(tokens[_FIELDS:], tokens[_FIELDS - 1].text)
    if unclosed:
        wrong = "a brace is not closed"
    return Entry(line, tuple(token.text for token in tokens[:_FIELDS]), options, pieces[-1][1], indent, wrong)


def _tokens(data: bytes, pieces: list[tuple[int, int]]) -> tuple[list[Token], bool]:
    """Fields and arguments; whether a brace stays open."""
    positions = [at for start, end in pieces for at in [*range(start, end), -1]]
    tokens: list[Token] = []
    index = 0
    while index < len(positions):
        at = positions[index]
        if at < 0 or data[at : at + 1] in (b" ", b"\t", b"\r", b"\v", b"\f"):
            index += 1
            continue
        begin, depth, text = index, 0, bytearray()
        braces = len(tokens) >= _FIELDS and data[at : at + 1] == b"{"
        while index < len(positions):
            here = positions[index]
            byte = b" " if here < 0 else data[here : here + 1]
            if braces:
                depth += (byte == b"{") - (byte == b"}")
            elif byte in (b" ", b"\t", b"\r", b"\v", b"\f"):
                break
            text += byte
            index += 1
            if braces and depth == 0:
                break
        if braces and depth:
            return tokens, True
        end = next(positions[i] for i in range(index - 1, begin - 1, -1) if positions[i] >= 0) + 1
        tokens.append(Token(os.fsdecode(bytes(text)), at, end))
    return tokens, False


def _options(arguments: list[Token], command: str) -> tuple[tuple[Option, ...], str]:
    """The ``-o`` options of ``command``, and what is wrong with the first one that a daemon dies of."""
    options: list[Option] = []
    wrong = ""
    index = 0
    while index < len(arguments):
        token = arguments[index]
        index += 1
        if token.text == "--":
            if any(other.text.startswith("-o") for other in arguments[index:]):
                wrong = wrong or "an option after -- is not one"
            break
        if token.text.startswith("#"):
            wrong = wrong or "a # after text is not a comment"
        if not token.text.startswith("-o"):
            if not token.text.startswith("-") and command == "smtpd":
                wrong = wrong or f"{token.text} is not an option; smtpd takes no arguments"
            continue
        form = "-o{}"
        if token.text == "-o":
            if index == len(arguments):
                wrong = wrong or "-o without name=value"
                break
            token, form = arguments[index], "{}"
            index += 1
        option = _option(token, form)
        if option is None:
            wrong = wrong or f"-o {token.text} is not of the form name=value"
        else:
            options.append(option)
    return tuple(options), wrong


def _option(token: Token, form: str) -> Optional[Option]:
    text = token.text[2:] if form == "-o{}" else token.text
    if text.startswith("{"):
        if form == "-o{}":
            return None
        text, form = text[1:-1].strip(), "{{ {} }}"
        name, equals, value = (part.strip() for part in text.partition("="))
    else:
        name, equals, value = text.partition("=")
    return Option(name, value, token, form) if name and equals else None
