"""Runs a program with its output in files and a time limit; kills its whole session if it takes longer."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class Result:
    """What a program did: exit code (negative: the signal that ended it), and what it said."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str

    def __str__(self) -> str:
        return f"$ {shlex.join(self.argv)}\nexit {self.code}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"


class Failed(AssertionError):
    """A program did not end with exit code 0, or not in time; the text holds all that it said."""


def run(
    argv: Sequence[str],
    *,
    env: Optional[Mapping[str, str]] = None,
    check: bool = True,
    seconds: float = 60,
    cwd: str = "/",
) -> Result:
    """Run ``argv`` and wait for it; daemons that it leaves behind do not keep us waiting.

    :param check: raise unless the exit code is 0.
    :raises Failed: exit code, or not done after ``seconds``.
    """
    late = False
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            list(argv), stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env, cwd=cwd, start_new_session=True
        )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            late = True
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)
        out.seek(0)
        err.seek(0)
        result = Result(
            tuple(argv), process.returncode, out.read().decode("utf-8", "replace"), err.read().decode("utf-8", "replace")
        )
    if late:
        raise Failed(f"not done after {seconds:.0f} s, and killed\n{result}")
    if check and result.code:
        raise Failed(str(result))
    return result
