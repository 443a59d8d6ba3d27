"""Which mail servers this host has, and are to be looked after."""

from __future__ import annotations

from dataclasses import dataclass

from certbot_dovecot.commands import Runner
from certbot_dovecot.servers import postfix
from certbot_dovecot.servers.contract import IMailServer
from certbot_dovecot.servers.dovecot import Dovecot


@dataclass(frozen=True)
class Found:
    """What was found.

    :param servers: Dovecot first.
    :param notes: what was left out, and why, full sentences.
    """

    servers: tuple[IMailServer, ...]
    notes: tuple[str, ...] = ()


def find(server_root: str, postfix_root: str, postfix_services: str, run: Runner) -> Found:
    """Find the servers.

    :param server_root: Dovecot's configuration directory.
    :param postfix_root: Postfix's; empty to ask ``postconf``.
    :param postfix_services: ``submission``, ``all``, ``none``, or a comma list of master.cf services.
    """
    dovecot = Dovecot(server_root, run)
    if postfix_services.strip().lower() == "none":
        return Found((dovecot,))
    root = postfix_root or postfix.find_root(run)
    if not root:
        return Found((dovecot,), ("Postfix is not installed here; that part is skipped.",))
    return Found((dovecot, postfix.Postfix(root, run, postfix_services)))
