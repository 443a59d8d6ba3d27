"""What the checks look at: a snapshot of a host, taken by :mod:`certbot_dovecot.doctor`, as frozen data.

Everything that a check decides is decided on this, so that it can be told what a host would be told without having the host.
Nothing here does I/O or fails.
"""

from __future__ import annotations

import datetime
import functools
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from cryptography import x509

from certbot_dovecot import bundle as bundles
from certbot_dovecot.checks.findings import Finding
from certbot_dovecot.dane.answers import Survey
from certbot_dovecot.dane.rollover import Step
from certbot_dovecot.ledger import Ledger
from certbot_dovecot.lineages import Lineage
from certbot_dovecot.monitoring.keepers import Keeper
from certbot_dovecot.renewals import Hook, Renewing, Settings, judge, place_of
from certbot_dovecot.servers.contract import Pair, View
from certbot_dovecot.servers.dovecot_conf import Tree
from certbot_dovecot.servers.dovecot_view import Effective
from certbot_dovecot.servers.master_cf import Entry
from certbot_dovecot.servers.postfix_services import Main, Service
from certbot_dovecot.servers.probe import Answer
from certbot_dovecot.state import Options, State
from certbot_dovecot.store import EXTERNAL, Folder

#: Certificates of CAs, by subject.
Roots = Mapping[x509.Name, tuple[x509.Certificate, ...]]


@dataclass(frozen=True)
class Pem:
    """A certificate file.

    :param certificates: leaf first; empty if it cannot be read.
    :param error: why not; empty if it can.
    """

    path: str
    certificates: tuple[x509.Certificate, ...] = ()
    error: str = ""

    @functools.cached_property
    def names(self) -> frozenset[str]:
        """The names of its leaf, lower case; empty without one."""
        return frozenset(name.lower() for name in bundles.names_of(self.certificates[0])) if self.certificates else frozenset()

    def covers(self, name: str) -> bool:
        """Whether its leaf is for ``name``, which may be a pattern."""
        return bundles.covers(self.names, name)

    @property
    def validity(self) -> tuple[datetime.datetime, datetime.datetime]:
        """Of its leaf, UTC; only if there is one."""
        return bundles.validity(self.certificates[0])


@dataclass(frozen=True)
class Bits:
    """Owner and permission bits of a file or directory."""

    path: str
    mode: int
    uid: int
    directory: bool = False


@dataclass(frozen=True)
class Held:
    """One lineage, or one certificate from elsewhere, that is in the store or stands by.

    :param place: its folder.
    :param options: what the admin chose for it.
    :param record: None if it was never installed.
    :param conf: path of its renewal configuration.
    :param text: that file; empty without one.
    :param parameters: what certbot renews it with.
    :param lineage: None if certbot does not know it.
    :param live: certbot's newest certificate of it, with its chain; None without a lineage.
    :param deployed: what is in the store for the servers; None if nothing is.
    :param files: of its folder: the folder itself, and the keys.
    :param year: the year its key was made in, or for one of two lineages since which it is served; None if that cannot be told.
    :param standby: name of the one that stands by for it; empty for none.
    :param stands_by: whether it is one that stands by itself.
    :param ledger: what is known of its keys in the DNS; None for nothing.
    :param survey: what the DNS said; None if it was not asked.
    :param step: what that means for a key that is to be changed; None if none is, or it was not asked.
    """

    name: str
    place: Folder
    options: Options = field(default_factory=Options)
    record: Optional[State] = None
    conf: str = ""
    text: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    lineage: Optional[Lineage] = None
    live: Optional[Pem] = None
    deployed: Optional[Pem] = None
    files: tuple[Bits, ...] = ()
    year: Optional[int] = None
    standby: str = ""
    stands_by: bool = False
    ledger: Optional[Ledger] = None
    survey: Optional[Survey] = None
    step: Optional[Step] = None

    @property
    def installed(self) -> bool:
        """Whether a server serves it."""
        return self.record is not None and bool(self.record.servers)

    @property
    def external(self) -> bool:
        """Whether it is from elsewhere, so that certbot does not renew it."""
        return self.name.endswith(EXTERNAL)

    @property
    def stores_installer(self) -> bool:
        """Whether certbot calls the installer when it renews it."""
        return self.lineage is not None and self.lineage.installer == "dovecot"

    @property
    def current(self) -> Optional[Pem]:
        """The newest certificate of it that can be read."""
        return next((pem for pem in (self.live, self.deployed) if pem is not None and pem.certificates), None)

    @property
    def dane(self) -> bool:
        """Whether TLSA records of its key count: some were seen, or are published by us."""
        if self.options.dane == "off" or self.stands_by:
            return False
        stood = self.ledger is not None and self.ledger.evidence is not None and self.ledger.evidence.stood
        seen = self.survey is not None and any(owner.published for owner in self.survey.owners)
        return bool(stood or seen or self.standby or (self.installed and self.options.publishes))

    def line(self, name: str) -> str:
        """Where its renewal configuration says something, ``file:line``; the file if it does not."""
        return place_of(self.conf, self.text, name)


@dataclass(frozen=True)
class DovecotFacts:
    """Dovecot.

    :param main: ``dovecot.conf``.
    """

    main: str
    tree: Tree
    effective: Effective
    view: View

    @property
    def dialect(self) -> str:
        """``2.3`` or ``2.4``."""
        return self.effective.dialect.name


@dataclass(frozen=True)
class PostfixFacts:
    """Postfix.

    :param data: master.cf.
    :param entries: of it.
    :param chosen: the services that are ours to edit.
    :param our_map: our table of names, as ``tls_server_sni_maps`` has it.
    """

    root: str
    data: bytes
    entries: tuple[Entry, ...]
    main: Main
    chosen: tuple[Service, ...]
    view: View
    our_map: str

    @property
    def master(self) -> str:
        """The path of master.cf."""
        return os.path.join(self.root, "master.cf")

    @property
    def main_cf(self) -> str:
        """The path of main.cf."""
        return os.path.join(self.root, "main.cf")


@dataclass(frozen=True)
class Tried:
    """How a client of before TLS 1.3 fares, asked at one endpoint of a server.

    :param server: ``Dovecot`` or ``Postfix``.
    :param ecdsa: the answer to one that knows ECDSA certificates only.
    :param rsa: the answer to one that knows RSA certificates only; None if nothing says that such clients are wanted.
    :param wanted: where the configuration says that old clients are wanted; empty if nothing does.
    :param lineage: name of the lineage that the endpoint is configured with, if certbot renews it; else empty.
    """

    server: str
    ecdsa: Answer
    rsa: Optional[Answer] = None
    wanted: str = ""
    lineage: str = ""


@dataclass(frozen=True)
class Timer:
    """A timer of systemd that is about certbot.

    :param state: ``enabled``, ``disabled``, ...; empty if that cannot be told.
    :param active: whether it waits for its time.
    """

    unit: str
    state: str
    active: bool


@dataclass(frozen=True)
class CronLine:
    """A line that runs certbot, in a file of cron's."""

    path: str
    line: int
    text: str


@dataclass(frozen=True)
class Schedule:
    """What runs ``certbot renew``.

    :param systemd: whether systemd runs this host.
    :param error: why its timers could not be listed.
    :param cron_runs: whether a cron daemon runs.
    """

    systemd: bool = False
    timers: tuple[Timer, ...] = ()
    error: str = ""
    cron: tuple[CronLine, ...] = ()
    cron_runs: bool = False


@dataclass(frozen=True)
class Elsewhere:
    """A certificate file that a server names and that is not in the store.

    :param keeper: who renews it; None if nobody known does.
    :param places: ``file:line`` of the lines that name it.
    :param heals: name of the lineage whose install would take its place; empty for none.
    :param pem: what is in it, if it is no pair's, which :attr:`Facts.pems` has; it has one of these for every chain in it.
    """

    server: str
    path: str
    keeper: Optional[Keeper] = None
    places: tuple[str, ...] = ()
    heals: str = ""
    pem: Optional[Pem] = None


@dataclass(frozen=True)
class Facts:
    """All of it.

    :param now: UTC.
    :param config_dir: certbot's.
    :param held: the lineages that are meant.
    :param folders: folder of every lineage in the store to its name.
    :param forgotten: names of lineages that certbot does not know any more.
    :param missing: server to why it could not be looked at.
    :param broken: what cannot be read.
    :param pems: path to certificate file, of every one that a server names.
    :param keys: path to what is wrong with a key file that a server names; empty if nothing.
    :param served: (server, host name) to the pairs that its endpoints name for clients that ask for that name; without the
        endpoints at which none of ours is named for anybody.
    :param elsewhere: certificate files that servers name and that are not in the store.
    :param healed: (server, lineage, host name) of what an install of the lineage would have the server serve it for.
    :param roots: the CAs that this system trusts; None if there is no list of them.
    :param resolvers: ``--dovecot-resolver`` to what is wrong with the resolver; empty if it is trusted.
    :param cli_ini: certbot's ``cli.ini``: path and text.
    :param settings: what certbot's settings say that decides about renewals.
    :param certbot: its version.
    """

    now: datetime.datetime
    config_dir: str = "/etc/letsencrypt"
    held: tuple[Held, ...] = ()
    folders: Mapping[str, str] = field(default_factory=dict)
    forgotten: frozenset[str] = frozenset()
    dovecot: tuple[DovecotFacts, ...] = ()
    postfix: tuple[PostfixFacts, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    broken: tuple[Finding, ...] = ()
    pems: Mapping[str, Pem] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    served: Mapping[tuple[str, str], tuple[Pair, ...]] = field(default_factory=dict)
    elsewhere: tuple[Elsewhere, ...] = ()
    healed: frozenset[tuple[str, str, str]] = frozenset()
    roots: Optional[Roots] = None
    tried: tuple[Tried, ...] = ()
    schedule: Schedule = Schedule()
    hook: Hook = field(default_factory=lambda: Hook(""))
    resolvers: Mapping[str, str] = field(default_factory=dict)
    cli_ini: tuple[str, str] = ("", "")
    settings: Settings = field(default_factory=Settings)
    certbot: tuple[int, ...] = (5, 8)

    def owner_of(self, path: str) -> str:
        """The lineage in whose folder a file is; empty if it is not in the store."""
        return self.folders.get(os.path.dirname(os.path.normpath(path)), "")

    def renewing(self, one: Held) -> Renewing:
        """What the renewals of a lineage do, one that certbot knows."""
        return judge(one.parameters, self.settings, self.hook)

    def places(self, server: str, path: str) -> tuple[str, ...]:
        """Where a server's configuration names a certificate file that is not in the store, ``file:line``."""
        return next((one.places for one in self.elsewhere if (one.server, one.path) == (server, path)), ())

    @property
    def views(self) -> Iterable[tuple[str, View]]:
        """(server, view) of every server that could be looked at."""
        return [*(("Dovecot", one.view) for one in self.dovecot), *(("Postfix", one.view) for one in self.postfix)]
