"""What a look at a host found, as plain data: lineages, endpoints, and what an admin has to know.  Nothing here fails."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from enum import IntEnum
from typing import Optional

from certbot_dovecot import bundle as bundles
from certbot_dovecot.dane.answers import Key, Owner
from certbot_dovecot.dane.gates import Mismatch
from certbot_dovecot.dane.rollover import Step
from certbot_dovecot.dane.standing import Standing
from certbot_dovecot.monitoring.keepers import Keeper
from certbot_dovecot.problems import sentence
from certbot_dovecot.renewals import Renewing
from certbot_dovecot.servers.contract import Endpoint, Table


class Grade(IntEnum):
    """How bad it is: the exit codes of monitoring plugins."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


@dataclass(frozen=True)
class Finding:
    """Something that an admin has to know.

    :param lineage: whose; empty for the host's.
    :param what: one sentence, without its stop.
    :param todo: what to do now, likewise; empty if there is nothing.
    """

    grade: Grade
    lineage: str
    what: str
    todo: str = ""

    def __str__(self) -> str:
        whose = f"{self.lineage}: " if self.lineage else ""
        return " ".join(sentence(part) for part in (whose + self.what, self.todo) if part)


@dataclass(frozen=True)
class Leaf:
    """A certificate.

    :param names: its DNS names and addresses.
    :param digest: SHA-256 of it, upper-case hex.
    :param key: its public key.
    :param algorithm: ``ECDSA P-256``, ``RSA 2048``.
    :param self_signed: whether it is signed with its own key.
    """

    names: tuple[str, ...]
    digest: str
    key: Key
    algorithm: str
    not_before: datetime.datetime
    not_after: datetime.datetime
    self_signed: bool = False

    def covers(self, name: str) -> bool:
        """Whether it is for the host name ``name``."""
        return bundles.covers(self.names, name)


@dataclass(frozen=True)
class Deployed:
    """A lineage, and what is known of its copy in the store.

    :param servers: those that it is installed on, or whose configuration names its files; empty for one that is not installed.
    :param stem: name of the deployed key, ``2026``.
    :param year: the year the key was made in; None if that is not known.
    :param leaf: the deployed certificate; None if it cannot be read, or nothing is deployed.
    :param live: SHA-256 of the certificate that certbot has; empty if it cannot be read.
    :param external: whether it is no lineage of certbot's.
    :param lost: whether certbot does not know it any more.
    :param open: servers that are still to be reloaded or proven.
    :param withdrawn: servers whose configuration does not name its files any more.
    :param standby: name of the lineage that stands by; empty for none.
    :param standby_leaf: its certificate; None if it cannot be read.
    :param step: what the DNS allows; None if it was not asked.
    :param asked: when it was asked, UTC.
    :param due: whether a change of the key is due.
    :param since: the year since which the key is served; None if that was not looked at.
    :param dane_off: whether TLSA records do not matter (``--dovecot-dane off``).
    :param publishes: whether records are published by us.
    :param owners: what was said of the owner names.
    :param mismatches: addresses of its hosts whose key the records do not match, if the DNS was asked now (rule D18).
    :param first: for which lineage it was made to stand by, if none of the two is installed; empty for none.
    :param looked_up: whether the DNS was asked now.
    :param dns_notes: what of the DNS was not looked at, if it was asked now; full sentences.
    :param renewing: what its renewals do; None if certbot does not know it, or that could not be told.
    :param stale: owner names whose records match a former key of it only.
    :param certbot: certbot's version.
    :param problem: what stood in the way of all this; empty for nothing.
    """

    name: str
    servers: tuple[str, ...] = ()
    stem: str = ""
    year: Optional[int] = None
    leaf: Optional[Leaf] = None
    live: str = ""
    external: bool = False
    lost: bool = False
    open: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()
    standby: str = ""
    standby_leaf: Optional[Leaf] = None
    step: Optional[Step] = None
    asked: Optional[datetime.datetime] = None
    due: bool = False
    since: Optional[int] = None
    dane_off: bool = False
    publishes: bool = False
    owners: tuple[Owner, ...] = ()
    mismatches: tuple[Mismatch, ...] = ()
    first: str = ""
    looked_up: bool = False
    dns_notes: tuple[str, ...] = ()
    renewing: Optional[Renewing] = None
    stale: tuple[str, ...] = ()
    certbot: tuple[int, ...] = (5, 8)
    problem: str = ""


@dataclass(frozen=True)
class Asked:
    """One endpoint, as a client met it that asked for a name, or for none.

    :param lineage: whose certificate the configuration names for it; empty for none of ours.
    :param sni: the name that was asked for; empty for none.
    :param expected: SHA-256 of the certificate that should be served; empty if it cannot be told.
    :param leaf: what was served; None for nothing.
    :param error: why not.
    :param dane: what the records for it mean; None if the DNS was not asked.
    :param whose: name of the installed lineage that has the name ``sni``; empty without a name.
    :param keeper: who renews what was served; None if nobody known does.
    :param path: the certificate file that the configuration names for it; empty if that is not known.
    :param places: ``file:line`` of every line of the server's configuration that names this file; empty if it is ours.
    :param heals: name of the lineage whose install would change that; empty for none.
    :param table: a table of somebody else's that decides what is served; None if none does.
    :param instead: a file that the configuration names beside ``path``, and that has what was served; empty for none.
    """

    endpoint: Endpoint
    lineage: str
    sni: str = ""
    expected: str = ""
    leaf: Optional[Leaf] = None
    error: str = ""
    dane: Optional[Standing] = None
    whose: str = ""
    keeper: Optional[Keeper] = None
    path: str = ""
    places: tuple[str, ...] = ()
    heals: str = ""
    table: Optional[Table] = None
    instead: str = ""

    @property
    def expects(self) -> bool:
        """Whether it serves the certificate that the configuration names; where none of ours is named, whatever it serves."""
        return self.leaf is not None and (not self.lineage or self.leaf.digest == self.expected)

    @property
    def covered(self) -> bool:
        """Whether what was served is for the name that was asked for."""
        return self.leaf is None or not self.sni or not self.whose or self.leaf.covers(self.sni)

    @property
    def right(self) -> bool:
        """Whether a client gets what it should: what the configuration names, and a certificate for the name it asked for."""
        return self.expects and self.covered


@dataclass(frozen=True)
class Status:
    """Everything that was seen.

    :param at: when, UTC.
    :param failures: (server, what its own tools say) of servers that could not be looked at.
    :param notes: full sentences.
    :param once: (server, lineage): it was installed there, and the server's configuration does not name its files any more.
    :param unasked: how many combinations of name and endpoint were not asked.
    :param dns: whether the DNS was to be asked now.
    :param dark: endpoints that cannot be asked from this host; ``notes`` say why.
    :param chosen: the lineages that were asked for; empty for all that are installed.
    :param unread: (server, table of certificates by name) of tables that this user may not read.
    """

    at: datetime.datetime
    lineages: tuple[Deployed, ...] = ()
    endpoints: tuple[Asked, ...] = ()
    failures: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    warning: Optional[datetime.timedelta] = None
    critical: Optional[datetime.timedelta] = None
    once: tuple[tuple[str, Deployed], ...] = ()
    unasked: int = 0
    dns: bool = False
    dark: tuple[Endpoint, ...] = ()
    chosen: tuple[str, ...] = ()
    unread: tuple[tuple[str, str], ...] = ()
