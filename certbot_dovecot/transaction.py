"""A plan being applied, undoable until it is verified.

Every edit is remembered with the function that made it, and :meth:`Transaction.undo` puts the old bytes back in the opposite
order.  An edit is only undone while the file still has the bytes that we gave it: what someone else wrote since stays, and is
reported.  A kill leaves each file old or new, never in between (:mod:`certbot_dovecot.files`); the record in ``state.json``,
which is the first thing a transaction writes, tells the next run to finish.

Configuration files, and they alone, are put into a :class:`Checkpoint` before the first of them is touched, so that
``certbot rollback`` can bring them back later.  Keys never are.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import Callable, Protocol

from certbot_dovecot import files
from certbot_dovecot.files import Edit
from certbot_dovecot.problems import Changed, Problem

Apply = Callable[[Edit], None]


class Checkpoint(Protocol):
    """Keeps configuration files as they are now, for a later ``certbot rollback``."""

    def save(self, paths: Sequence[str], new: Sequence[str], title: str) -> None:
        """Keep ``paths``, and remember that the files ``new`` do not exist yet."""

    def discard(self) -> None:
        """Forget what :meth:`save` of this transaction kept: the bytes are back already."""


class NoCheckpoint:
    """For callers outside certbot: nothing is kept beyond the transaction."""

    def save(self, paths: Sequence[str], new: Sequence[str], title: str) -> None:
        """Keep nothing."""

    def discard(self) -> None:
        """Nothing was kept."""


class Transaction:
    """Edits that were made and can still be undone."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._done: list[tuple[Edit, Apply]] = []
        self._made: list[str] = []
        self._kept = False

    @property
    def open(self) -> bool:
        """Whether there is anything to undo."""
        return bool(self._done)

    def directory(self, path: str, mode: int = 0o755) -> None:
        """Make a directory and its parents; undone if it is empty then."""
        missing = []
        while path and not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for directory in reversed(missing):
            files.make_directory(directory, mode)
            self._made.append(directory)

    def checkpoint(self, edits: Sequence[Edit], title: str) -> None:
        """Keep the configuration files that ``edits`` are about to change."""
        there = [edit.path for edit in edits if edit.old is not None]
        new = [edit.path for edit in edits if edit.old is None]
        if there or new:
            self._checkpoint.save(there, new, title)
            self._kept = True

    def do(self, edit: Edit, apply: Apply = files.apply) -> None:
        """Make ``edit`` by ``apply`` and remember it.

        :raises Changed: its file has other bytes by now; it was not made, and the caller may plan it again.
        :raises Problem: it could not be made; everything before it can still be undone.
        """
        # Remembered first: an interrupt (Ctrl-C) may come between the rename and the next line.
        self._done.append((edit, apply))
        try:
            apply(edit)
        except Changed:
            self._done.pop()
            raise

    def adopt(self, edit: Edit, apply: Apply = files.apply) -> None:
        """Remember an edit that somebody else has made already.

        :param apply: makes its undo.
        """
        self._done.append((edit, apply))

    def undo(self) -> tuple[str, ...]:
        """Put all bytes back, the last edit first.  If it was interrupted, a second call does the rest.

        :returns: what could not be put back, as sentences; empty if everything is as it was.
        """
        failures = []
        while self._done:
            edit, apply = self._done[-1]
            try:
                if files.read_if_there(edit.path) != edit.old:
                    apply(edit.undo)
            except Problem as problem:
                failures.append(str(problem))
            self._done.pop()
        for directory in reversed(self._made):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
        self._made.clear()
        if self._kept and not failures:
            self._checkpoint.discard()
            self._kept = False
        return tuple(failures)
