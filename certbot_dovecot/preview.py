"""What an install would change, shown and not done.

The plan is the very one that an install carries out (:func:`certbot_dovecot.plan.make`); nothing is written, and no server
needs to run.  Fails as a :class:`~certbot_dovecot.problems.Problem`, for the same reasons as an install.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional

from certbot_dovecot import plan
from certbot_dovecot.certificates.names import shown
from certbot_dovecot.files import Edit
from certbot_dovecot.plan import Job, Plan
from certbot_dovecot.reconcile import Host
from certbot_dovecot.servers.contract import Endpoint


@dataclass(frozen=True)
class Preview:
    """What would be done.

    :param plan: the plan.
    :param endpoints: those that would serve the pair, and would be asked.
    """

    plan: Plan
    endpoints: tuple[Endpoint, ...]

    @property
    def edits(self) -> tuple[Edit, ...]:
        """The edits of configuration files."""
        return tuple(edit for target in self.plan.targets for edit in target.edits)

    @property
    def changes(self) -> bool:
        """Whether anything would be written."""
        return bool(self.edits or self.plan.store_edits)


def make(host: Host, job: Job) -> Optional[Preview]:
    """Look and decide.

    :returns: None if there is nothing to install into.
    :raises Problem: what would stop the install too.
    """
    decided = plan.make(host.servers, host.home, job, host.clock(), ask=False)
    if decided is None:
        return None
    warnings = () if decided.idle else host.gate(decided.proposed())
    decided = dataclasses.replace(decided, notes=(*decided.notes, *warnings))
    endpoints = [
        served.endpoint
        for target in decided.targets
        for served in target.server.preview(target.edits, decided.sni)
        if served.pair == decided.pair
    ]
    return Preview(decided, tuple(endpoints))


def diff(preview: Preview) -> bytes:
    """One unified diff of the configuration files, for ``patch -p0`` in ``/``."""
    return b"".join(line for edit in preview.edits for line in _lines(edit))


def text(preview: Preview) -> str:
    """What stands below the diff: files of the store, reloads, endpoints, notes."""
    decided = preview.plan
    notes = map(shown, decided.notes)
    lines = [f"Would write:   {edit.path}{' (0600)' if edit.mode == 0o600 else ''}" for edit in decided.store_edits]
    lines += [f"Would reload:  {name}" for name in sorted(decided.reload)]
    lines += [f"Would ask:     {endpoint}" for endpoint in preview.endpoints] if preview.changes else []
    return "\n".join([*lines, *notes] if preview.changes else ["Nothing to do.", *notes])


def _lines(edit: Edit) -> Iterator[bytes]:
    name = os.fsencode(edit.path)
    made = difflib.diff_bytes(
        difflib.unified_diff, _split(edit.old), _split(edit.new), b"/dev/null" if edit.old is None else name, name
    )
    for line in made:
        yield line if line.endswith(b"\n") else line + b"\n\\ No newline at end of file\n"


def _split(data: Optional[bytes]) -> list[bytes]:
    """Lines with their ends, as patch(1) sees them: a bare CR is none."""
    return re.findall(rb"[^\n]*\n|[^\n]+", data or b"")
