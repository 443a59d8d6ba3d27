"""What reaches the terminal: colours of ours, and no control character of anybody else's.

A certificate, a banner, a DNS answer or a log line may hold what moves a cursor, sets a title or hides text.  So while a
subcommand runs, standard output and standard error are a :class:`Stream`, which shows every control character escaped
(rule R12).  What has escape sequences of our own goes out by :func:`put`, with the data in it escaped before.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import TextIO, cast

from certbot_dovecot import progress
from certbot_dovecot.certificates.names import shown, shown_lines

_COLOURS = {"OK": "32", "NOTE": "36", "WARNING": "33", "UNKNOWN": "35", "ERROR": "31", "CRITICAL": "31"}
_OURS = re.compile("(\033\\[(?:0|3[0-9])m)")


class Stream:
    """A text stream that shows control characters escaped, all but line breaks and tabs.

    :ivar unguarded: where it goes; everything but ``write`` and ``writelines`` is this one's.
    """

    def __init__(self, stream: TextIO) -> None:
        self.unguarded = stream

    def write(self, text: str) -> int:
        """As of any text stream."""
        self.unguarded.write(_safe(text, self.unguarded))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Likewise."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> object:
        return getattr(self.unguarded, name)


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Escape what is printed meanwhile."""
    out, err = (cast(TextIO, Stream(stream)) for stream in (sys.stdout, sys.stderr))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield


def painted(word: str, text: str) -> str:
    """``text`` for :func:`put`, in the colour of ``word`` if standard output is a terminal.

    ``NO_COLOR`` (any value) means none.
    """
    if word not in _COLOURS or os.environ.get("NO_COLOR") or not progress.is_terminal(sys.stdout):
        return text
    return f"\033[{_COLOURS[word]}m{shown(text)}\033[0m"


def put(text: str) -> None:
    """Print what :func:`painted` made, and plain text; on a terminal our colours pass, and nothing else.

    :param text: data in it has been escaped, or it could have colours in it that are not ours.
    """
    out: TextIO = getattr(sys.stdout, "unguarded", sys.stdout)
    colours = progress.is_terminal(out)
    out.write("".join(part if colours and _OURS.fullmatch(part) else _safe(part, out) for part in _OURS.split(text)) + "\n")


def _safe(text: str, stream: TextIO) -> str:
    """``text`` without control characters, and without letters that the terminal has not."""
    encoding = stream.encoding or "utf-8"
    return shown_lines(text).encode(encoding, "backslashreplace").decode(encoding)
