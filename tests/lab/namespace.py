"""A mount, network and host name namespace for the process that calls :func:`enter`; and what runs in it.

Linux only, as root (CAP_SYS_ADMIN).  Everything below is gone when the last process in the namespace ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Container, Iterable
from pathlib import Path

#: <sched.h>, <sys/mount.h>
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWNET = 0x00020000, 0x04000000, 0x40000000
MS_RDONLY, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 0x1, 0x4, 0x20, 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
_KINDS = {"mount": "mnt", "net": "net", "uts": "uts"}

#: Directories that are the machine's as it is, and private from then on.
OVERLAID = ("/etc", "/root", "/var/lib")
#: Directories that begin empty.
EMPTY = ("/dev/shm", "/var/log", "/var/spool")
#: The lab's own place; /run begins empty too.
PLACE = "/run/lab"

_libc = ctypes.CDLL(None, use_errno=True)
#: Descriptors of the namespaces that this process has left, as nsenter(1) names them.
_left: dict[str, int] = {}


class Unavailable(Exception):
    """The lab cannot be set up here; the text says what is missing."""


def enter(hostname: str) -> int:
    """Move this process (this thread, and what it starts) into its own namespace.

    :returns: a descriptor of the machine's own root: ``/proc/self/fd/N/etc`` is the machine's ``/etc``.
    :raises Unavailable: not root, or not allowed to.
    """
    machine = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    left = {name: os.open(f"/proc/self/ns/{kind}", os.O_RDONLY) for name, kind in _KINDS.items()}
    try:
        _call("unshare", CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS)
    except OSError as exc:
        raise Unavailable(f"a private namespace (root, CAP_SYS_ADMIN): {exc.strerror}") from exc
    _left.update(left)
    try:
        mount("none", "/", "", MS_REC | MS_PRIVATE)
    except OSError as exc:
        raise Unavailable(f"a root directory that is a mount point (bind-mount the chroot on itself): {exc.strerror}") from exc
    empty("/run")
    os.makedirs(PLACE)
    os.makedirs("/run/lock")
    try:
        for number, path in enumerate(OVERLAID):
            upper, work = f"{PLACE}/upper{number}", f"{PLACE}/work{number}"
            os.mkdir(upper)
            os.mkdir(work)
            mount("overlay", path, "overlay", 0, f"lowerdir={path},upperdir={upper},workdir={work}")
    except OSError as exc:
        raise Unavailable(f"overlayfs: {exc.strerror}") from exc
    for path in EMPTY:
        empty(path)
    for path in (sys.prefix, sys.base_prefix, os.getcwd()):
        _open(path)
    socket.sethostname(hostname)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True, env=dict(os.environ, PATH="/usr/sbin:/sbin:/usr/bin:/bin"))
    return machine


def leave(flags: int) -> None:
    """Move this process into namespaces of its own; the system call ``unshare``.

    :raises OSError: it is not allowed to.
    """
    _call("unshare", flags)


def outside() -> list[str]:
    """The beginning of a command that is to run outside, where this process came from; nothing if it entered no namespace."""
    return ["nsenter", *(f"--{name}=/proc/{os.getpid()}/fd/{number}" for name, number in _left.items())] if _left else []


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """The system call of that name."""
    _call("mount", source.encode(), target.encode(), kind.encode(), flags, options.encode())


def unmount(target: str) -> None:
    """Take away the uppermost mount of ``target`` and all below it, also while it is in use; nothing if there is none."""
    with contextlib.suppress(OSError):
        _call("umount2", target.encode(), MNT_DETACH)


def empty(path: str, size: str = "") -> None:
    """Put an empty, writable directory over ``path``, which is made if it is not there.

    :param size: the most that it holds, like ``1m``.
    """
    os.makedirs(path, exist_ok=True)
    mount("tmpfs", path, "tmpfs", 0, "mode=755" + (f",size={size}" if size else ""))


def listening() -> frozenset[int]:
    """TCP ports that someone listens on in here."""
    ports = set()
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/self/net/{name}") as file:
            for fields in map(str.split, list(file)[1:]):
                if fields[3] == "0A":
                    ports.add(int(fields[1].rpartition(":")[2], 16))
    return frozenset(ports)


def inhabitants(but: Container[int] = ()) -> list[int]:
    """Process ids of everything that runs in this network namespace, except this process and ``but``."""
    here, found = os.readlink("/proc/self/ns/net"), []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{name}/ns/net") == here and int(name) != os.getpid() and int(name) not in but:
                found.append(int(name))
    return found


def kill(pids: Iterable[int]) -> None:
    """SIGKILL, by process id; who is gone already does not matter."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def sweep(but: Container[int] = (), seconds: float = 10) -> None:
    """Kill what runs in here, except this process and ``but``, and wait until it is gone."""
    deadline = time.monotonic() + seconds
    while True:
        left = inhabitants(but)
        if not left:
            return
        if time.monotonic() > deadline:
            raise Unavailable(f"processes that can be killed: {left} are still there after {seconds:.0f} s")
        kill(left)
        time.sleep(0.005)


def _open(path: str) -> None:
    """Let others than root reach ``path``, in here: a directory on the way that is closed to them gets an open one over it."""
    way = [str(one) for one in reversed(Path(os.path.realpath(path)).parents)]
    for closed in way:
        if not os.stat(closed).st_mode & stat.S_IXOTH:
            upper, work = (tempfile.mkdtemp(dir=PLACE) for _ in range(2))
            os.chmod(upper, 0o755)
            mount("overlay", closed, "overlay", 0, f"lowerdir={closed},upperdir={upper},workdir={work}")


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), arguments)
