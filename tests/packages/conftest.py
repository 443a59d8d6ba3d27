"""The fixtures of a mail host, for the tests that run where a package is installed."""

from __future__ import annotations

from tests.integration.conftest import lab, mailhost

__all__ = ("lab", "mailhost")
