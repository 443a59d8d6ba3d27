"""Commands of the mail servers, run so that nothing hangs.

A daemon that a command starts keeps a captured pipe open for ever (``dovecot``, ``postfix start``), and ``doveconf -h`` of
2.4.1 fails when its standard output is a regular file.  So: standard output is a pipe only for commands that start nothing
(:attr:`Command.reads`), else a temporary file; standard error is always a file; every command has a time limit.

``PATH`` is extended by the ``sbin`` directories, which cron leaves out, and messages are asked for in English.
"""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Callable, Optional

from certbot_dovecot.problems import NotInstalled, ServerProblem

#: Seconds that a command may take; doveconf needs 25 s for 10,000 ``local_name`` blocks (facts/dovecot.md).
TIME_LIMIT = 120.0


@dataclass(frozen=True)
class Result:
    """What a command answered: exit code, standard output and standard error as bytes."""

    code: int
    out: bytes
    err: bytes

    @property
    def message(self) -> str:
        """The last lines of what it said, for an error message."""
        text = (self.err.strip() or self.out.strip()).decode("utf-8", "replace")
        return " / ".join(text.splitlines()[-3:])


@dataclass(frozen=True)
class Command:
    """One command line.

    :param argv: program and arguments.
    :param reads: true if it only reads (no daemon inherits its output), so that a pipe is safe.
    :param seconds: time limit.
    :param given: its standard input, for one that reads; None for nothing.
    """

    argv: Sequence[str]
    reads: bool = True
    seconds: float = TIME_LIMIT
    given: Optional[bytes] = None


#: Runs a command; raises :class:`~certbot_dovecot.problems.ServerProblem` if it is missing or takes too long.
Runner = Callable[[Command], Result]


def search_path() -> str:
    """``PATH`` with the directories that hold ``postfix`` and ``dovecot``."""
    have = os.environ.get("PATH", "").split(os.pathsep)
    more = [d for d in ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin") if d not in have]
    return os.pathsep.join([d for d in have if d] + more)


def run(command: Command) -> Result:
    """Run ``command`` and wait for it; the :data:`Runner` of real life.

    :raises NotInstalled: there is no such program.
    :raises ServerProblem: it cannot be started, or took longer than its limit.
    """
    env = dict(os.environ, PATH=search_path(), LC_ALL="C")
    with _scratch() as err, _scratch() as out:
        try:
            process = subprocess.Popen(
                list(command.argv),
                stdin=subprocess.DEVNULL if command.given is None else subprocess.PIPE,
                stdout=subprocess.PIPE if command.reads else out,
                stderr=err,
                env=env,
            )
            with process:
                try:
                    seconds = command.seconds
                    reads = command.reads or command.given is not None
                    printed = process.communicate(command.given, seconds)[0] if reads else _wait(process, seconds)
                except BaseException:
                    process.kill()
                    raise
        except (FileNotFoundError, PermissionError):
            raise NotInstalled(
                f"the command {command.argv[0]} is not installed",
                todo="Install the package that contains it, or set PATH",
            ) from None
        except OSError as exc:
            raise ServerProblem(
                f"the command cannot be started: {exc.strerror}", where=command.argv[0], todo="Run it by hand to see why"
            ) from exc
        except subprocess.TimeoutExpired:
            raise ServerProblem(
                f"no answer within {command.seconds:.0f} s", where=" ".join(command.argv), todo="Run it by hand to see why"
            ) from None
        out.seek(0)
        err.seek(0)
        return Result(process.returncode, printed if command.reads else out.read(), err.read())


def _scratch() -> IO[bytes]:
    """A file that is gone when it is closed; in memory where no file system can be written."""
    try:
        return tempfile.TemporaryFile()
    except OSError:
        return os.fdopen(os.memfd_create("certbot-dovecot"), "w+b")


def _wait(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    """Wait until a process ends; the library's own wait with a limit sleeps between looks, up to 50 ms.

    :raises TimeoutExpired: it did not end in time.
    """
    if hasattr(os, "pidfd_open"):
        descriptor = os.pidfd_open(process.pid)
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            if not poll.poll(seconds * 1000):
                raise subprocess.TimeoutExpired(process.args, seconds)
        finally:
            os.close(descriptor)
    process.wait(seconds)
    return b""
