"""The directory of a file that is to be written, reached so that nobody else can lead the way (CWE-59, CWE-367).

Root writes into directories of other users: the textfile collector's, a store that the admin put somewhere.  Who can write to a
directory can put a symbolic link there, to any file of root's, and can do so between a look and the write.  So:

* A path is walked one component at a time, each opened by the descriptor of the one above (``openat``), and the file is made
  and renamed by the descriptor of its directory.  What was looked at is what is used.
* A symbolic link is followed only if it stands in a *trusted* directory: root's or the running user's, writable for no one
  else, and reached through trusted ones.  A sticky directory (``/tmp``) is not trusted, since others can put links there; but
  what root has in it is safe from them (only the owner can rename or remove it), so a directory of root's in it is trusted.
* A file that is reached through a link must be in a trusted directory, too.
* What is to be done about a link that is the file itself, the caller says (:class:`Link`).

See openat(2), path_resolution(7), symlink(7).
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from shlex import quote
from typing import Optional

from certbot_dovecot.problems import FileProblem

#: As the kernel has it (path_resolution(7)).
_LINKS = 40
_WALK = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Link(Enum):
    """What is done about a link at the end of a path."""

    #: Follow it; refuse it if others can have put it there.
    FOLLOW = "follow"
    #: Follow it; replace it by the new file if others can have put it there.
    REPLACE = "replace"
    #: It is the thing itself that is meant.
    KEEP = "keep"


@dataclass(frozen=True)
class Place:
    """A name in a directory that is held open.

    :param descriptor: of the directory.
    :param name: of the file in it; there may be none yet.
    """

    descriptor: int
    name: str

    def temporary(self) -> tuple[str, int]:
        """A new, empty file beside it, for us alone: its name, and its descriptor for writing.

        :raises OSError: it cannot be made.
        """
        while True:
            name = f".{self.name[:50]}.{secrets.token_hex(4)}.tmp"
            with contextlib.suppress(FileExistsError):
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                return name, os.open(name, flags, 0o600, dir_fd=self.descriptor)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Optional[int]]:
        """A descriptor of the regular file that is there; None for nothing, a link, or anything else.

        :raises OSError: it cannot be opened.
        """
        descriptor = None
        try:
            # Never waits for the other end of a pipe.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(self.name, flags, dir_fd=self.descriptor)
        except OSError as exc:
            if exc.errno not in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
                raise
        try:
            regular = descriptor is not None and stat.S_ISREG(os.fstat(descriptor).st_mode)
            yield descriptor if regular else None
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def rename(self, other: str) -> None:
        """Put the file ``other`` of the same directory in its place."""
        os.rename(other, self.name, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)

    def unlink(self, other: str) -> None:
        """Remove the file ``other`` of the same directory."""
        os.unlink(other, dir_fd=self.descriptor)

    def sync(self) -> None:
        """Make what was renamed or made in the directory survive a power cut."""
        os.fsync(self.descriptor)


@contextlib.contextmanager
def of_file(path: str, link: Link) -> Iterator[Place]:
    """Where ``path`` is to be written.

    :param path: relative paths begin at the working directory.
    :param link: what is done about a link at the end.
    :raises FileProblem: others can have put a link there that would be followed.
    :raises OSError: the directory cannot be reached.
    """
    walk = _Walk(os.path.join(os.getcwd(), path), link)
    try:
        name = walk.to_the_end()
        descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=walk.here)
    finally:
        os.close(walk.here)
    try:
        yield Place(descriptor, name)
    finally:
        os.close(descriptor)


class _Walk:
    """From the root to a file's directory.

    :ivar here: descriptor of the directory that was reached.
    :ivar at: its path, for messages.
    :ivar doubt: the first directory on the way that others can write to; empty for none.
    :ivar sticky: whether others can put things there, and not take away what is root's.
    """

    def __init__(self, path: str, link: Link) -> None:
        self.path, self.link = path, link
        self.here = os.open("/", _WALK)
        self.at, self.doubt, self.sticky = "/", "", False
        self.todo = [part for part in path.split("/") if part]
        self.links = 0

    def to_the_end(self) -> str:
        """Walk; the name of the file in the directory that was reached."""
        if not self.todo:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        while True:
            name = self.todo.pop(0)
            last = not self.todo
            stays = last and (self.link is Link.KEEP or (self.link is Link.REPLACE and bool(self.doubt)))
            target = None if stays else self._leads_to(name)
            if target is not None:
                self._follow(target)
            elif last and name not in (".", ".."):
                if self.links and self.doubt and self.link is Link.FOLLOW:
                    raise self._refused()
                return name
            else:
                self._enter(name)
            if not self.todo:
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))

    def _leads_to(self, name: str) -> Optional[str]:
        """What a link leads to; None if it is none, or nothing is there."""
        try:
            return os.readlink(name, dir_fd=self.here)
        except OSError as exc:
            if exc.errno not in (errno.EINVAL, errno.ENOENT):
                raise
            return None

    def _follow(self, target: str) -> None:
        if self.doubt:
            raise self._refused()
        self.links += 1
        if self.links > _LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if target.startswith("/"):
            self._go(os.open("/", _WALK), "/")
        self.todo = [part for part in target.split("/") if part] + self.todo

    def _enter(self, name: str) -> None:
        self._go(os.open(name, _WALK, dir_fd=self.here), os.path.normpath(os.path.join(self.at, name)))

    def _go(self, descriptor: int, at: str) -> None:
        above = os.fstat(self.here)
        os.close(self.here)
        self.here, self.at = descriptor, at
        if self.doubt and not _keeps(above):
            return
        there = os.fstat(descriptor)
        self.doubt, self.sticky = "" if _trusted(there) else at, _keeps(there)

    def _refused(self) -> FileProblem:
        todo = "Put the file itself in the place of the link"
        if not self.sticky:
            where = quote(self.doubt)
            todo += f"; or let root alone write to that directory: chown root {where}; chmod go-w {where}"
        return FileProblem(
            f"a symbolic link is on the way, and others than root can write to the directory {self.doubt}, so that they could "
            "choose what is written",
            where=self.path,
            left="Nothing was written",
            todo=todo,
        )


def _trusted(directory: os.stat_result) -> bool:
    """Whether nobody but root and the running user can put anything into a directory."""
    return directory.st_uid in (0, os.geteuid()) and not directory.st_mode & 0o022


def _keeps(directory: os.stat_result) -> bool:
    """Whether others can put things into a directory, but not take away or replace what root has there: ``/tmp``."""
    return directory.st_uid in (0, os.geteuid()) and bool(directory.st_mode & stat.S_ISVTX)
