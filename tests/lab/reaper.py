"""Waits until its standard input ends, that is, until the process that entered the namespace is gone; then kills the rest.

So that a test run that is itself killed leaves no daemons behind.  Run as a program, in the namespace.
"""

from __future__ import annotations

import signal
import sys

from tests.lab import namespace

if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    namespace.sweep()
