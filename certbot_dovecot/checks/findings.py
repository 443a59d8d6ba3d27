"""What a check says: findings, each with its remedy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Severity(Enum):
    """How much it matters.

    ``ERROR``: something cannot be read, so that nobody can tell what it holds.  ``WARNING``: mail or its clients will suffer if
    nothing is done.  ``NOTE``: worth knowing; it may be meant.
    """

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """One thing that would hurt later.

    :param check: name of the check, a section of ``docs/doctor.rst``.
    :param what: what is the matter and what will come of it, without a stop.
    :param where: ``file:line``, file, owner name or endpoint; empty if it is nowhere in particular.
    :param todo: the remedy, without a stop.
    :param lineage: which one it is about; empty for none in particular.
    """

    check: str
    severity: Severity
    what: str
    where: str
    todo: str
    lineage: str = ""
