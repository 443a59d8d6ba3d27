"""What configuration files were before a lineage was first installed, and the way back, with an admin's later edits kept.

``former.json`` beside ``state.json`` holds, for every configuration file that was edited for a lineage, its bytes before the
first of these edits and after the last one.  The difference between the two is what is ours.  Going back means to find each
line of it in the file as it is now, by comparing the file with what we wrote, and to put there what was before; what an admin
or another lineage's install wrote elsewhere in the file since stays, between our lines too.

Pure but for :func:`load`.  A line that is not there any more is a :class:`Conflict`, with what was there before: nothing is
guessed.  The file is 0600, since a configuration may hold passwords.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Callable, Optional

from certbot_dovecot import files
from certbot_dovecot.files import Edit
from certbot_dovecot.problems import StateProblem
from certbot_dovecot.store import Folder

FORMAT = 1
Keep = Callable[[bytes], bool]


@dataclass(frozen=True)
class Former:
    """One configuration file.

    :param before: its bytes before a lineage was first installed; None if it did not exist.
    :param after: its bytes after our last edit for that lineage; None if that removed it.
    """

    before: Optional[bytes]
    after: Optional[bytes]


class Conflict(Exception):
    """A piece of ours is not in the file as it was written.

    :ivar ours: the lines that were written.
    :ivar before: the lines that they replaced.
    """

    def __init__(self, ours: bytes, before: bytes) -> None:
        super().__init__("the lines that were written were edited since")
        self.ours = ours
        self.before = before


def path_of(place: Folder) -> str:
    """Where it is kept."""
    return os.path.join(os.path.dirname(place.state), "former.json")


def load(path: str) -> dict[str, Former]:
    """What is known, by file; empty for nothing.

    :raises StateProblem: it is not what we write.
    :raises FileProblem: it cannot be read.
    """
    data = files.read_if_there(path)
    if data is None:
        return {}
    try:
        raw = json.loads(data)
        if raw["format"] != FORMAT:
            raise ValueError("another format")
        return {_text(one): Former(_bytes(entry["before"]), _bytes(entry["after"])) for one, entry in raw["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error) as exc:
        raise StateProblem(
            "this record of what the configuration was is damaged, or of another version of certbot-dovecot",
            where=path,
            left="Nothing was changed",
            todo="Move it away; what was before is then in certbot's checkpoints (certbot rollback) and your backups only",
        ) from exc


def dump(known: Mapping[str, Former]) -> bytes:
    """The bytes of ``former.json``."""
    entries = {path: {"before": _coded(one.before), "after": _coded(one.after)} for path, one in known.items()}
    return (json.dumps({"format": FORMAT, "files": entries}, indent=1, sort_keys=True) + "\n").encode()


def followed(known: Mapping[str, Former], edits: Iterable[Edit]) -> dict[str, Former]:
    """What is known once ``edits`` are made.

    Where our earlier lines are not in the file any more, somebody took them out: what is there now is what was before.
    """
    found = dict(known)
    for edit in edits:
        one = found.get(edit.path)
        try:
            before = edit.old if one is None else revert(edit.old, one)
        except Conflict:
            before = edit.old
        found[edit.path] = Former(before, edit.new)
    return {path: one for path, one in found.items() if one.before != one.after}


def revert(current: Optional[bytes], one: Former, keep: Optional[Keep] = None) -> Optional[bytes]:
    """The bytes of a file without what is ours.

    :param current: its bytes now; None if it is not there.
    :param keep: tells of a line of ours whether it stays all the same.
    :returns: None if the file is to be removed.
    :raises Conflict: a piece of ours is not there as it was written.
    """
    if current == one.before:
        return current
    if current == one.after and keep is None:
        return one.before
    lines, ours, before = _lines(current), _lines(one.after), _lines(one.before)
    places = _places(ours, lines)
    gone: set[int] = set()
    put: dict[int, list[bytes]] = {}
    for tag, start, end, first, last in difflib.SequenceMatcher(None, ours, before).get_opcodes():
        piece, former = ours[start:end], before[first:last]
        kept = [keep is not None and keep(line) for line in piece]
        if tag == "equal" or (piece and all(kept)):
            continue
        there = [places[number] for number in range(start, end) if number in places]
        at = there[0] if there else _between(places, start, len(ours), len(lines))
        if len(there) < len(piece) or at is None:
            raise Conflict(b"".join(piece), b"".join(former))
        gone.update(place for place, stays in zip(there, kept) if not stays)
        put.setdefault(at, []).extend(former)
    left = [[*put.get(at, ()), *([line] if at not in gone else ())] for at, line in enumerate([*lines, b""])]
    data = b"".join(line for some in left for line in some)
    return None if one.before is None and not data else data


def _places(ours: list[bytes], lines: list[bytes]) -> dict[int, int]:
    """Which line of a file each of ours is."""
    blocks = difflib.SequenceMatcher(None, ours, lines).get_matching_blocks()
    return {block.a + number: block.b + number for block in blocks for number in range(block.size)}


def _between(places: Mapping[int, int], start: int, ours: int, lines: int) -> Optional[int]:
    """Where a piece of no lines is, by the lines around it; None if neither of them is there."""
    if start in places:
        return places[start]
    if start - 1 in places:
        return places[start - 1] + 1
    return lines if start == ours == 0 else None


def _lines(data: Optional[bytes]) -> list[bytes]:
    """Lines with their ends; a bare CR is none."""
    return re.findall(rb"[^\n]*\n|[^\n]+", data or b"")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _bytes(value: object) -> Optional[bytes]:
    return None if value is None else base64.b64decode(_text(value), validate=True)


def _coded(data: Optional[bytes]) -> Optional[str]:
    return None if data is None else base64.b64encode(data).decode()
