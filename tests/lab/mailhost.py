"""One mail host: Dovecot and Postfix on their real ports, with default paths, and certbot to be run on it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Callable, Optional

from certbot_dovecot.servers import probe
from certbot_dovecot.servers.contract import Endpoint
from tests.lab import commands, distribution, namespace, pebble
from tests.lab.commands import Failed, Result

#: Mounted anew at every reset.
FRESH = (
    "/etc/dovecot",
    "/etc/letsencrypt",
    "/etc/postfix",
    "/run/dovecot",
    "/var/lib/dovecot",
    "/var/lib/letsencrypt",
    "/var/lib/postfix",
    "/var/log",
    "/var/spool",
    distribution.PROTOCOLS,
)
#: Port, protocol, and whether TLS starts at the first byte.
PORTS = (
    (25, "smtp", False),
    (110, "pop3", False),
    (143, "imap", False),
    (465, "submission", True),
    (587, "submission", False),
    (993, "imap", True),
    (995, "pop3", True),
    (4190, "sieve", False),
)
#: Likewise, of a web server that a test may start (:mod:`tests.lab.nginx`).
_WEB = (443, "https", True)
#: Where each server's programs are, to tell its processes.
_PROGRAMS = {
    "dovecot": ("/usr/sbin/dovecot", "/usr/lib/dovecot/", "/usr/libexec/dovecot/"),
    "postfix": ("/usr/lib/postfix/", "/usr/libexec/postfix/"),
}
_MASTERS = {
    "dovecot": ("/usr/sbin/dovecot",),
    "postfix": ("/usr/lib/postfix/sbin/master", "/usr/libexec/postfix/master"),
}
_START = {"dovecot": ("dovecot",), "postfix": ("postfix", "start")}
#: Ports that tell that a server runs.
_ANSWERS = {"dovecot": (993, 143), "postfix": (25, 465)}
_RELOADED = {"dovecot": "SIGHUP received", "postfix": "reload -- version"}
_ACCOUNTS = f"{namespace.PLACE}/accounts"
_CLI_INI = f"""\
server = {pebble.URL}
agree-tos = true
non-interactive = true
register-unsafely-without-email = true
no-random-sleep-on-renew = true
"""


@dataclass(frozen=True)
class Entry:
    """What one path of a snapshot is: mode, owner and group, and the bytes of a file or the target of a link."""

    mode: int
    owner: tuple[int, int]
    data: Optional[bytes] = None
    target: Optional[str] = None


class MailHost:
    """The host of a lab; there is one in a namespace.

    :ivar acme: the CA's directory, for ``--server``.
    """

    acme = pebble.URL

    def __init__(self, machine: str, bundle: str, spare: Sequence[int]) -> None:
        """Nothing runs yet: call :meth:`reset`.

        :param machine: the machine's root.
        :param bundle: the CA certificate file of the ACME server.
        :param spare: process ids that a reset leaves alone.
        """
        self.machine = machine
        self._bundle = bundle
        self._spare = tuple(spare)
        self._version: tuple[int, ...] = ()

    # The daemons.

    def reset(self, submission: str = "postfix", start: bool = True) -> None:
        """Make it the host of a fresh installation: kill what runs, empty and refill its directories, start both servers.

        :param submission: who owns port 587: ``postfix`` or ``dovecot``.
        """
        namespace.sweep(self._spare)
        # The ACME account stays: registering takes time, and the CA remembers for it which names were proven.
        if not os.path.exists(_ACCOUNTS) and os.path.exists("/etc/letsencrypt/accounts"):
            shutil.copytree("/etc/letsencrypt/accounts", _ACCOUNTS)
        for path in FRESH:
            namespace.unmount(path)
            namespace.empty(path)
        # A page of the documentation writes it; the lab's /etc is not the machine's.
        with contextlib.suppress(FileNotFoundError):
            os.remove("/etc/cron.d/certbot")
        distribution.protocols(self.machine, submission == "dovecot")
        distribution.dovecot(submission == "dovecot")
        distribution.postfix(self.machine, submission == "postfix")
        distribution.write("/etc/letsencrypt/cli.ini", _CLI_INI)
        if os.path.exists(_ACCOUNTS):
            shutil.copytree(_ACCOUNTS, "/etc/letsencrypt/accounts")
        if start:
            self.start("dovecot")
            self.start("postfix")

    def start(self, server: str, seconds: float = 20) -> None:
        """Start ``dovecot`` or ``postfix`` as an admin does, and wait until it listens and has read its configuration.

        :raises Failed: it does not start.
        """
        before, deadline = namespace.listening(), time.monotonic() + seconds
        result = self.run(*_START[server], seconds=seconds)
        # A socket of the one that was stopped may still be in the list: then there is no new one, but it takes connections.
        while not (namespace.listening() - before or any(map(self._accepts, _ANSWERS[server]))):
            if time.monotonic() > deadline:
                raise Failed(f"{server} does not listen\n{result}\n{self.log(server)}")
            time.sleep(0.005)
        # Dovecot's configuration process reads the files, and the certificates, when the first client asks it.
        if server == "dovecot" and 993 in namespace.listening():
            self.served(993)

    def _accepts(self, port: int) -> bool:
        """Whether a new connection is taken on a port of this host."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    def stop(self, server: str, seconds: float = 5) -> None:
        """End ``dovecot`` or ``postfix`` and wait until all of its processes are gone; nothing if it does not run."""
        deadline = time.monotonic() + seconds
        for pid in self.processes(server, _MASTERS):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        pids: set[int] = set()
        while True:
            # A process that ends loses the link to its program before it lets go of its sockets.
            pids = {*pids, *self.processes(server)} & set(namespace.inhabitants(self._spare))
            # One that was forked while we looked still holds its sockets.
            if not pids and (time.monotonic() > deadline or namespace.listening().isdisjoint(_ANSWERS[server])):
                return
            # Without their master, Dovecot's login processes take another second to leave.
            if time.monotonic() > deadline or not self.processes(server, _MASTERS):
                namespace.kill(pids)
            time.sleep(0.005)

    def restart(self, server: str) -> None:
        """Stop, then start."""
        self.stop(server)
        self.start(server)

    def processes(self, server: str, programs: Mapping[str, tuple[str, ...]] = _PROGRAMS) -> list[int]:
        """The ids of all processes of ``dovecot`` or ``postfix``."""
        found = []
        for pid in namespace.inhabitants(self._spare):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/exe").startswith(programs[server]):
                    found.append(pid)
        return found

    def log(self, server: str) -> str:
        """What ``dovecot`` or ``postfix`` has logged since the reset."""
        with contextlib.suppress(FileNotFoundError), open(distribution.LOGS[server], errors="replace") as file:
            return file.read()
        return ""

    def reloads(self, server: str) -> int:
        """How often ``dovecot`` or ``postfix`` was reloaded since the reset."""
        if server == "postfix" and self.processes(server):
            # Postfix logs through a daemon: what was said before this line is in the file when this line is.
            marker = f"marker {time.monotonic_ns()}"
            self.run("postlog", "-t", "lab", marker)
            deadline = time.monotonic() + 5
            while marker not in self.log(server) and time.monotonic() < deadline:
                time.sleep(0.005)
        return self.log(server).count(_RELOADED[server])

    def served(
        self, port: int, address: str = "127.0.0.1", sni: Optional[str] = distribution.HOSTNAME, algorithm: Optional[str] = None
    ) -> probe.Answer:
        """What a port serves now."""
        protocol, implicit = next((protocol, implicit) for number, protocol, implicit in (*PORTS, _WEB) if number == port)
        return probe.ask(Endpoint("lab", protocol, address, port, implicit), sni, 5, algorithm)

    # The programs.

    def certbot(
        self, *args: str, at: Optional[str] = None, check: bool = True, seconds: float = 120, under: Sequence[str] = ()
    ) -> Result:
        """Run certbot: this environment's, or the one that the environment variable ``LAB_CERTBOT`` names.

        :param at: UTC, ``2027-01-25 12:00:00``; the clock runs on from there, for certbot and what it starts.
        :param check: raise unless it succeeds.
        :param under: a program, with its options, to run it under: ``("strace", "-f")``.
        :raises Failed: exit code, or not done after ``seconds``.
        """
        certbot = os.environ.get("LAB_CERTBOT") or os.path.join(os.path.dirname(sys.executable), "certbot")
        return self.run(*under, certbot, *args, at=at, check=check, seconds=seconds)

    @property
    def certbot_version(self) -> tuple[int, ...]:
        """Like ``(2, 1, 0)``."""
        if not self._version:
            shown = self.certbot("--version")
            self._version = tuple(int(number) for number in re.findall(r"\d+", shown.stdout + shown.stderr))
        return self._version

    def run(self, *argv: str, at: Optional[str] = None, check: bool = True, seconds: float = 60) -> Result:
        """Run a program on this host, with this environment's programs first on its path; parameters as for certbot."""
        faked = ("faketime", at) if at else ()
        return commands.run([*faked, *argv], env=self.environment(), check=check, seconds=seconds)

    def environment(self) -> dict[str, str]:
        """The environment variables that programs on this host are run with."""
        here = [os.path.dirname(sys.executable), "/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin"]
        return dict(
            os.environ,
            PATH=os.pathsep.join(here),
            HOME="/root",
            LC_ALL="C.UTF-8",
            TZ="UTC",
            PYTHONWARNINGS="ignore",
            REQUESTS_CA_BUNDLE=self._bundle,
        )

    # The files.

    def write(self, path: str, text: str) -> None:
        """Write a file as an admin does with an editor some time ago: an existing one keeps its mode and owner."""
        distribution.write(path, text)

    def append(self, path: str, text: str) -> None:
        """Write text behind what a file has; it may be new. In main.cf, an earlier entry of the same name goes.

        Every process of Postfix warns of a main.cf that has two, its log daemon too: into its own socket, and when that is
        full, it waits for itself and all other processes for it, for ever (3.7.11).
        """
        old = ""
        with contextlib.suppress(FileNotFoundError), open(path) as file:
            old = file.read()
        if path == "/etc/postfix/main.cf":
            names = "|".join(re.findall(r"(?m)^(\w+) *=", text))
            old = re.sub(rf"(?m)^(?:{names}) *=.*\n", "", old)
        self.write(path, old + text)

    def snapshot(self, *paths: str) -> dict[str, Entry]:
        """Everything at and below ``paths``, links not followed; what is not there is not in it."""
        found: dict[str, Entry] = {}
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                was = os.lstat(path)
                mode, owner = stat.S_IMODE(was.st_mode), (was.st_uid, was.st_gid)
                if stat.S_ISLNK(was.st_mode):
                    found[path] = Entry(mode, owner, target=os.readlink(path))
                elif stat.S_ISREG(was.st_mode):
                    with open(path, "rb") as file:
                        found[path] = Entry(mode, owner, file.read())
                else:
                    found[path] = Entry(mode, owner)
                    if stat.S_ISDIR(was.st_mode):
                        found.update(self.snapshot(*(os.path.join(path, name) for name in sorted(os.listdir(path)))))
        return found

    @contextlib.contextmanager
    def read_only(self, path: str) -> Iterator[None]:
        """A directory on a file system that is mounted read-only."""
        namespace.mount(path, path, "", namespace.MS_BIND)
        try:
            namespace.mount("none", path, "", namespace.MS_REMOUNT | namespace.MS_BIND | namespace.MS_RDONLY)
            yield
        finally:
            namespace.unmount(path)

    @contextlib.contextmanager
    def hidden(self, path: str) -> Iterator[None]:
        """A program that is not installed here: an empty file that is not executable lies over it."""
        namespace.mount("/dev/null", path, "", namespace.MS_BIND)
        try:
            yield
        finally:
            namespace.unmount(path)

    @contextlib.contextmanager
    def full_disk(self, path: str, size: int = 1 << 20) -> Iterator[Callable[[], None]]:
        """A directory, with what it has, on a small file system; calling what is yielded fills it to the last byte."""
        was = f"{namespace.PLACE}/was"
        shutil.rmtree(was, ignore_errors=True)
        there = os.path.isdir(path)
        if there:
            shutil.copytree(path, was, symlinks=True)
        namespace.empty(path, str(size))
        if there:
            subprocess.run(["cp", "-a", f"{was}/.", path], check=True)

        def fill() -> None:
            with contextlib.suppress(OSError), open(f"{path}/.ballast", "wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass

        try:
            yield fill
        finally:
            namespace.unmount(path)
            if not there:
                os.rmdir(path)
