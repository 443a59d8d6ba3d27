"""Files: atomic and durable writing, and the locks.

Promises (rules R2, R3, R7):

* A file is replaced by a temporary file in the same directory, ``fsync``, ``rename``, ``fsync`` of the directory.  A kill at
  any point leaves the old bytes or the new ones.
* The replaced file keeps owner, mode, ACL and extended attributes; a symbolic link is followed, and its target replaced, if
  root alone can have put it there (:mod:`~certbot_dovecot.directories`).
* A new file has its final mode from its first byte on: a key is never readable by others.
* An :class:`Edit` is applied only while the file still has the bytes that the edit was computed from.

What goes wrong is a :class:`~certbot_dovecot.problems.FileProblem` that names the file and the reason (full, read-only, no
permission); the file is then as it was.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Optional

from certbot_dovecot import directories
from certbot_dovecot.directories import Link, Place
from certbot_dovecot.problems import Changed, FileProblem, LockProblem

#: Seconds to wait for a lock that another run holds.
LOCK_PATIENCE = 60.0

#: (path, modification time in ns, size, inode) of files and directories; the same tuples mean that nobody has edited them
#: since.  A path that is not there has -1 for all three.
Signature = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class Edit:
    """One file's change.

    :param path: the file, absolute.
    :param old: its bytes now; None if it does not exist.
    :param new: its bytes afterwards; None to remove it.
    :param mode: permission bits of a file that is created; an existing file keeps its own.
    """

    path: str
    old: Optional[bytes]
    new: Optional[bytes]
    mode: int = 0o644

    @property
    def undo(self) -> Edit:
        """The edit that puts the old bytes back."""
        return Edit(self.path, self.new, self.old, self.mode)


def read(path: str) -> bytes:
    """The bytes of ``path``.

    :raises FileProblem: missing or unreadable.
    """
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as exc:
        raise problem(path, exc, "cannot be read") from exc


def read_if_there(path: str) -> Optional[bytes]:
    """The bytes of ``path``, or None if there is no such file.

    :raises FileProblem: it exists but cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise problem(path, exc, "cannot be read") from exc


def apply(edit: Edit) -> None:
    """Make ``edit``, if its file still has the bytes that it was computed from.

    :raises Changed: the file has other bytes by now; nothing was done.
    :raises FileProblem: it cannot be written; nothing was done.
    """
    if read_if_there(edit.path) != edit.old:
        raise Changed(
            "was changed by someone else at this moment",
            where=edit.path,
            left="It was left as it is",
            todo="Run the command again",
        )
    if edit.new is None:
        remove(edit.path)
    else:
        write(edit.path, edit.new, edit.mode)


def write(path: str, data: bytes, mode: int = 0o644) -> None:
    """Put ``data`` into ``path``, atomically and durably; an existing file keeps owner, mode and attributes.

    A symbolic link is followed, and stays, if nobody else can have put it, or what it leads to, there.

    :param mode: permission bits of a new file.
    :raises FileProblem: it cannot be written, or others could have put a link there; the old bytes are still there.
    """
    _write(path, data, mode, Link.FOLLOW)


def write_over(path: str, data: bytes, mode: int = 0o644) -> None:
    """The same for a file that others may hand around, in a directory of theirs: a link of theirs is replaced, not followed.

    :param mode: permission bits of a new file, and of one that takes the place of a link.
    :raises FileProblem: it cannot be written, or others could have put a link above it.
    """
    _write(path, data, mode, Link.REPLACE)


def _write(path: str, data: bytes, mode: int, link: Link) -> None:
    temporary = None
    with contextlib.ExitStack() as stack:
        try:
            place = stack.enter_context(directories.of_file(path, link))
            temporary, descriptor = place.temporary()
            with os.fdopen(descriptor, "wb") as file:
                _like(place, descriptor, mode)
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            place.rename(temporary)
            temporary = None
            place.sync()
        except OSError as exc:
            raise problem(path, exc, "cannot be written") from exc
        finally:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    place.unlink(temporary)


def set_mode(path: str, mode: int) -> None:
    """Give the file ``path``, which is no link, these permission bits.

    :raises FileProblem: it cannot be done.
    """
    try:
        with directories.of_file(path, Link.KEEP) as place, place.opened() as descriptor:
            if descriptor is not None:
                os.fchmod(descriptor, mode)
    except OSError as exc:
        raise problem(path, exc, "cannot be written") from exc


def remove(path: str) -> None:
    """Remove ``path``, durably; it may be gone already.

    :raises FileProblem: it cannot be removed.
    """
    try:
        with directories.of_file(path, Link.KEEP) as place:
            with contextlib.suppress(FileNotFoundError):
                place.unlink(place.name)
            place.sync()
    except OSError as exc:
        raise problem(path, exc, "cannot be removed") from exc


def remove_empty(path: str) -> None:
    """Remove the directory ``path`` if it is empty."""
    with contextlib.suppress(OSError):
        os.rmdir(path)


def make_directory(path: str, mode: int = 0o755) -> None:
    """Make ``path`` and its parents, durably; nothing if it is there.

    :raises FileProblem: it cannot be made.
    """
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if parent != path:
        make_directory(parent, mode)
    try:
        with directories.of_file(path, Link.KEEP) as place:
            with contextlib.suppress(FileExistsError):
                os.mkdir(place.name, mode, dir_fd=place.descriptor)
            place.sync()
    except OSError as exc:
        raise problem(path, exc, "cannot be made") from exc


def sign(paths: Iterable[str]) -> Signature:
    """The signature of ``paths``, links followed; take it *before* the files are read."""
    return tuple(_sign(path) for path in paths)


def unchanged(signature: Signature) -> bool:
    """Whether nothing in ``signature`` has been edited since it was taken; false for an empty one."""
    return bool(signature) and all(_sign(entry[0]) == entry for entry in signature)


def _sign(path: str) -> tuple[str, int, int, int]:
    try:
        was = os.stat(path)
    except OSError:
        return (path, -1, -1, -1)
    return (path, was.st_mtime_ns, was.st_size, was.st_ino)


def _like(place: Place, descriptor: int, mode: int) -> None:
    """Give an open, empty temporary file the owner, mode and attributes of the file at ``place``, or ``mode`` if there is none.

    What is there may be a link, which is to be replaced: what it leads to has no say.
    """
    with contextlib.ExitStack() as stack:
        there = stack.enter_context(place.opened())
        if there is None:
            os.fchmod(descriptor, mode)
            return
        was = os.fstat(there)
        if (was.st_uid, was.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(descriptor, was.st_uid, was.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(was.st_mode) & 0o777)
        for name in os.listxattr(there):
            try:
                os.setxattr(descriptor, name, os.getxattr(there, name))
            except OSError as exc:
                # security.* may be the kernel's alone to set (SELinux gives the label of the directory then); anything else
                # that an admin set, an ACL above all, must not get lost.
                if not name.startswith("security.") or exc.errno not in (errno.EPERM, errno.EACCES, errno.ENOTSUP):
                    raise


def problem(path: str, exc: OSError, what: str) -> FileProblem:
    """A :class:`FileProblem` for what the system said of ``path``, with the remedy of the usual reasons."""
    todo = {
        errno.ENOENT: "Look whether that path is right, then run the command again",
        errno.ENOSPC: "Free space on that file system, then run the command again",
        errno.EDQUOT: "Free space in that quota, then run the command again",
        errno.EROFS: "Make that file system writable, then run the command again",
        errno.EACCES: "Run the command as root",
        errno.EPERM: "Run the command as root; if you are root, look at lsattr and the mount options",
    }.get(exc.errno or 0, "Look at that path (ls -ld) and its file system, then run the command again")
    # To read leaves everything as it was.
    left = "" if what == "cannot be read" else "Its bytes are as they were"
    return FileProblem(f"{what}: {exc.strerror}", where=path, left=left, todo=todo)


@contextlib.contextmanager
def locked(path: str, patience: float = LOCK_PATIENCE) -> Iterator[None]:
    """Hold the lock file ``path``, which vanishes afterwards, as certbot's own lock files do.

    The same protocol as certbot's (``lockf`` on a file that is removed at release, with a look whether the locked file is
    still the one of that name), so that another certbot plugin on the same directory and we keep out of each other's way.

    :param patience: seconds to wait for another holder.
    :raises LockProblem: still held after ``patience``.
    :raises FileProblem: the lock file cannot be made.
    """
    deadline = time.monotonic() + patience
    while True:
        descriptor = _try_lock(path)
        if descriptor is not None:
            break
        if time.monotonic() >= deadline:
            raise LockProblem(
                f"another run still held this lock after {patience:.0f} s",
                where=path,
                left="Nothing was changed",
                todo="Wait for the other certbot or certbot-dovecot to end, then run the command again",
            )
        time.sleep(0.05)
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        os.close(descriptor)


def _try_lock(path: str) -> Optional[int]:
    """Open and lock ``path``: a descriptor, or None if someone else has it."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as exc:
        raise problem(path, exc, "the lock file cannot be made") from exc
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        here, there = os.fstat(descriptor), os.stat(path)
        if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
            return descriptor
    except (BlockingIOError, PermissionError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None
