"""Changes of a Dovecot configuration, as bytes.

Pure.  Every byte that a change does not mean stays as it is: comments, spacing, line ends.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from certbot_dovecot.certificates.names import is_word, shown
from certbot_dovecot.problems import ConfProblem
from certbot_dovecot.servers.dovecot_conf import OBSOLETE, Assignment, Dialect, Tree

#: Offsets to be replaced, and the bytes that take their place.
Change = tuple[int, int, bytes]


def change(data: bytes, changes: list[Change]) -> bytes:
    """``data`` with ``changes`` made; they may not overlap."""
    parts, at = [], 0
    for start, end, new in sorted(changes, key=lambda one: one[:2]):
        parts += [data[at:start], new]
        at = end
    return b"".join([*parts, data[at:]])


def set_value(tree: Tree, assignment: Assignment, path: str) -> Change:
    """Make ``assignment`` name the file ``path``, everything else on its line as it is.

    :raises ConfProblem: it is not on lines of its own.
    """
    if assignment.span is None:
        raise _tangled(assignment)
    mark = "" if assignment.key in OBSOLETE else tree.dialect.mark
    return (*assignment.span, os.fsencode(f"{mark}{checked(path)}"))


def set_lines(tree: Tree, assignment: Assignment, values: Mapping[str, str]) -> Change:
    """Put lines that name the files of ``values`` in the place of ``assignment``, with its indentation and line end.

    :raises ConfProblem: it is not on lines of its own.
    """
    if assignment.start < 0:
        raise _tangled(assignment)
    data = tree.files[assignment.path]
    line = data[assignment.start : assignment.end]
    indent = line[: len(line) - len(line.lstrip(b" \t"))]
    end = line_end(data)
    last = end if line.endswith(b"\n") else b""
    lines = end.join(indent + assign(tree.dialect, key, path) for key, path in values.items())
    return (assignment.start, assignment.end, lines + last)


def assign(dialect: Dialect, setting: str, path: str) -> bytes:
    """The line, without its end, that makes ``setting`` name the file ``path``; an empty path clears it.

    :raises ConfProblem: Dovecot would read another path, or more than a path.
    """
    return os.fsencode(f"{setting} = {dialect.mark if path else ''}{checked(path)}".rstrip())


def open_block(names: str) -> bytes:
    """The line that opens a ``local_name`` block.

    :param names: one, or several with blanks between them.
    :raises ConfProblem: one of them would be read as something else.
    """
    wrong = next((name for name in names.split(" ") if not is_word(name)), None)
    if wrong is not None:
        raise ConfProblem(
            f"a configuration of Dovecot cannot have a local_name block for {wrong}: it is not a host name",
            left="Nothing was changed",
            todo="Get a certificate for host names alone",
        )
    return f'local_name "{names}" {{'.encode() if " " in names else f"local_name {names} {{".encode()


def insert(tree: Tree, path: str, at: int, lines: list[bytes]) -> Change:
    """Put ``lines`` before offset ``at``, the beginning of a line or the end of the file."""
    data = tree.files[path]
    end = line_end(data)
    # A last line without an end gets one; one that would go on in ours, of an included file too, is ended by a blank line.
    before = end if at == len(data) and data and not data.endswith(b"\n") else b""
    if at == len(data) and tree.unfinished:
        before += end
    return (at, at, before + b"".join(line + end for line in lines))


def checked(path: str) -> str:
    """A path that Dovecot reads as it is: a ``#`` begins a comment, a backslash at the end goes on, quotes hide both."""
    if re.search(r"[#\"'\\]|^\s|\s$", path) or shown(path) != path:
        raise ConfProblem(
            f"a configuration of Dovecot cannot name the file {path}: a #, a quote, a backslash, a control character or a "
            "blank at its end has a meaning there",
            left="Nothing was changed",
            todo="Give --dovecot-store a directory without these",
        )
    return path


def _tangled(assignment: Assignment) -> ConfProblem:
    return ConfProblem(
        f"{assignment.key} is not written on lines of its own here",
        where=assignment.where,
        left="Nothing was changed",
        todo="Write it on one line",
    )


def line_end(data: bytes) -> bytes:
    """The line end that a file uses."""
    return b"\r\n" if b"\r\n" in data else b"\n"
