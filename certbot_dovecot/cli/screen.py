"""What only a terminal gets: colours, and what is being waited for.  A pipe, a file and a timer's log get plain text."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO

_COLOURS = {"OK": "32", "NOTE": "36", "WARNING": "33", "UNKNOWN": "35", "CRITICAL": "31"}


def is_terminal(stream: TextIO) -> bool:
    """Whether a person reads ``stream`` on a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def painted(word: str, text: str) -> str:
    """``text`` for standard output, in the colour of ``word`` if that is a terminal; ``NO_COLOR`` (any value) means none."""
    if word not in _COLOURS or os.environ.get("NO_COLOR") or not is_terminal(sys.stdout):
        return text
    return f"\033[{_COLOURS[word]}m{text}\033[0m"


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show on standard error what is being waited for, and take it away again."""
    if not is_terminal(sys.stderr):
        yield
        return
    print(f"{what}...", end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
