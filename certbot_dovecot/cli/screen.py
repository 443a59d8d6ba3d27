"""Colours, for a terminal only."""

from __future__ import annotations

import os
import sys

from certbot_dovecot import progress

_COLOURS = {"OK": "32", "NOTE": "36", "WARNING": "33", "UNKNOWN": "35", "ERROR": "31", "CRITICAL": "31"}


def painted(word: str, text: str) -> str:
    """``text`` for standard output, in the colour of ``word`` if that is a terminal; ``NO_COLOR`` (any value) means none."""
    if word not in _COLOURS or os.environ.get("NO_COLOR") or not progress.is_terminal(sys.stdout):
        return text
    return f"\033[{_COLOURS[word]}m{text}\033[0m"
