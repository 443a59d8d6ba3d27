"""The key gate as a deployment sees it: one question before the first write (rule D28).

A deployment, an undo and a rollback each know which files they are about to change.  They hand that to the gate that was passed
to them, and write only if it returns.  What the gate asks, and how it decides, is :mod:`certbot_dovecot.rollover.key_gate`'s
part; a deployment does not know the rollover.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Callable

from certbot_dovecot.files import Edit
from certbot_dovecot.servers.contract import IMailServer
from certbot_dovecot.state import Options


@dataclass(frozen=True)
class Proposed:
    """A change of what servers serve, before anything of it is written.

    :param lineage: the lineage whose record may prove it; empty for none.
    :param options: what the admin chose.
    :param names: host names of the certificate that comes; those of the certificates that go are found out.
    :param edits: server, and the edits of its files; none where a server is to be reloaded only.
    :param coming: combined files that are not written yet, by their paths.
    :param again: how to make the change all the same, for a message: a command or an option.
    :param force: make it whatever the gate says; what it says becomes a warning.
    :param retried: whether the next ``certbot renew`` tries it again.
    """

    lineage: str
    options: Options
    names: tuple[str, ...]
    edits: Sequence[tuple[IMailServer, Sequence[Edit]]]
    coming: Mapping[str, bytes] = field(default_factory=dict)
    again: str = "--force"
    force: bool = False
    retried: bool = False


#: Returns warnings, full sentences; raises :class:`~certbot_dovecot.problems.KeyHeld` if the change must not be made.
KeyGate = Callable[[Proposed], tuple[str, ...]]
