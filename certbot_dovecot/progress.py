"""What is being waited for, on a terminal: one line on standard error, which goes away again.

A pipe, a file and a timer's log get nothing, so that what programs read is the same everywhere (rule R6 is about failures, and
these are told at the end).  Nothing here fails.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TextIO

from certbot_dovecot.certificates.names import shown

#: Of several that are waited for, so many are named.
_SHOWN = 2


def is_terminal(stream: TextIO) -> bool:
    """Whether a person reads ``stream`` on a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show what is being waited for, and take it away at the end."""
    show(what)
    try:
        yield
    finally:
        clear()


def endpoints(left: Sequence[object]) -> None:
    """Show that endpoints are waited for; nothing is left to show without any."""
    if not left:
        clear()
        return
    more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
    show(f"Waiting for {', '.join(map(str, left[:_SHOWN]))}{more} to serve the certificate")


def show(what: str) -> None:
    """Put a line in the place of the one that is there."""
    if is_terminal(sys.stderr):
        width = _width()
        text = shown(f"{what}...")
        _move(text if len(text) < width else text[: width - 4] + "...")


def clear() -> None:
    """Take the line away."""
    if is_terminal(sys.stderr):
        _move("")


def _move(text: str) -> None:
    """Put ``text``, which is safe to show, in the place of the line; past the guard of the command line, if there is one."""
    stream: TextIO = getattr(sys.stderr, "unguarded", sys.stderr)
    stream.write(f"\r\033[K{text}")
    stream.flush()


def _width() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80
