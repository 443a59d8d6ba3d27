"""A second mail host beside the one of the lab, with an address of its own: a copy of it that follows when it is told to.

Two hosts behind one name are two namespaces with a wire (veth) between them: the lab's host is 192.0.2.1, the second one
192.0.2.2 (RFC 5737).  The second one begins with the configuration, the certificates and the keys that the lab's host has at
that moment, and serves these until :meth:`Second.follow` copies them again.  It does not renew anything.

Run as a program it is the second host itself: ``python3 -m tests.lab.second``; it does what it reads on standard input, a word
a line, and answers each with a line.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.lab import namespace
from tests.lab.namespace import Unavailable

HERE, THERE = "192.0.2.1", "192.0.2.2"
#: What the second host has a copy of, and what is its own.
_COPIED = ("/etc/dovecot", "/etc/postfix", "/etc/letsencrypt")
_OWN = ("/run/dovecot", "/var/lib/dovecot", "/var/lib/postfix", "/var/log", "/var/spool")
_CHECKOUT = Path(__file__).parents[2]
_COPY = f"{namespace.PLACE}/second"
_PORTS = (25, 993, 465)


class Second:
    """The second host, running; to be made inside a lab, whose host runs."""

    def __init__(self) -> None:
        self._copy()
        # A file, for the daemons keep what they are given.
        with open(f"{namespace.PLACE}/second.log", "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.lab.second"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=_CHECKOUT, text=True, start_new_session=True,
            )  # fmt: skip
        self._expect("entered")
        for command in (
            f"ip link add lab0 type veth peer name lab1 netns {self._process.pid}",
            f"ip addr add {HERE}/24 dev lab0",
            "ip link set lab0 up",
        ):
            subprocess.run(command.split(), check=True, capture_output=True)
        self._say("wire")
        self._say("start")
        deadline = time.monotonic() + 20
        while not all(map(_accepts, _PORTS)):
            if time.monotonic() > deadline:
                raise Unavailable("a second mail host that listens")
            time.sleep(0.02)

    def follow(self) -> None:
        """Copy what the lab's host has now, and reload both servers."""
        self._copy()
        self._say("follow")

    def stop(self) -> None:
        """End it, with all that runs there."""
        subprocess.run(["ip", "link", "del", "lab0"], check=False, capture_output=True)
        with contextlib.suppress(OSError, ValueError):
            self._say("stop")
        self._process.kill()
        self._process.wait(10)

    def down(self) -> None:
        """Cut the wire."""
        subprocess.run(["ip", "link", "set", "lab0", "down"], check=True)

    def up(self) -> None:
        """Mend the wire."""
        subprocess.run(["ip", "link", "set", "lab0", "up"], check=True)

    def _copy(self) -> None:
        shutil.rmtree(_COPY, ignore_errors=True)
        for path in _COPIED:
            shutil.copytree(path, _COPY + path, symlinks=True)

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        self._expect("done")

    def _expect(self, word: str) -> None:
        assert self._process.stdout is not None
        said = self._process.stdout.readline().strip()
        if said != word:
            with open(f"{namespace.PLACE}/second.log", errors="replace") as log:
                raise Unavailable(f"a second mail host: {said!r} instead of {word!r}\n{log.read()[-3000:]}")


@contextlib.contextmanager
def run() -> Iterator[Second]:
    """The second host, until the block ends.

    :raises Unavailable: it cannot be set up.
    """
    second = Second()
    try:
        yield second
    finally:
        second.stop()


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((THERE, port), 1):
        return True
    return False


def _enter() -> None:
    """Leave the lab's namespaces for some of this process' own; what is copied or its own lies over the lab's."""
    namespace.leave(namespace.CLONE_NEWNS | namespace.CLONE_NEWNET | namespace.CLONE_NEWUTS)
    namespace.mount("none", "/", "", namespace.MS_REC | namespace.MS_PRIVATE)
    for path in (*_COPIED, *_OWN):
        namespace.empty(path)
    os.mkdir("/var/spool/postfix")
    shutil.chown("/var/lib/postfix", "postfix", "postfix")
    _take()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def _take() -> None:
    """Put the copies in place: files are replaced, so that a server never reads half of one."""
    for path in _COPIED:
        subprocess.run(["cp", "-a", f"{_COPY}{path}/.", path], check=True)


def _run(*argv: str) -> None:
    with open(f"{namespace.PLACE}/second.log", "ab") as log:
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=30)


def main() -> None:
    """Be the second host."""
    os.environ["PATH"] = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
    _enter()
    print("entered", flush=True)
    for word in map(str.strip, sys.stdin):
        if word == "wire":
            _run("ip", "addr", "add", f"{THERE}/24", "dev", "lab1")
            _run("ip", "link", "set", "lab1", "up")
        elif word == "start":
            _run("dovecot")
            _run("postfix", "start")
        elif word == "follow":
            _take()
            _run("doveadm", "reload")
            _run("postfix", "reload")
        elif word == "stop":
            namespace.sweep()
        print("done", flush=True)


if __name__ == "__main__":
    main()
