"""The contract between the deeds and a mail server.

A server is *looked at* (:class:`View`: its endpoints and the certificate and key files that its effective configuration names
for each), *planned for* (edits as bytes, nothing written), *checked* after a write, *reloaded*, and asked whether it runs.  It
never writes: the transaction does, through :meth:`IMailServer.apply`, which adds the server's own locking.

All methods raise :class:`~certbot_dovecot.problems.ServerProblem` (its tools refuse) or
:class:`~certbot_dovecot.problems.ConfProblem` (a file cannot be understood), and leave everything as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Callable, Optional

from zope.interface import Attribute, Interface

from certbot_dovecot.files import Edit, Signature


@dataclass(frozen=True)
class Endpoint:
    """Where a client starts TLS.

    :param server: ``Dovecot`` or ``Postfix``.
    :param protocol: ``imap``, ``pop3``, ``sieve``, ``submission`` or ``smtp``.
    :param address: an address to connect to, IPv4 or IPv6 without brackets; a wildcard listener is met on loopback.
    :param port: TCP port.
    :param implicit: true for TLS from the first byte, false for STARTTLS.
    :param proxy: ``haproxy`` if the server wants a PROXY protocol header before everything else; empty for none.
    """

    server: str
    protocol: str
    address: str
    port: int
    implicit: bool
    proxy: str = ""

    @property
    def how(self) -> str:
        """How TLS starts, for a message: ``TLS`` or ``STARTTLS``."""
        return ("TLS" if self.implicit else "STARTTLS") + (", behind a proxy" if self.proxy else "")

    def __str__(self) -> str:
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.server} {self.protocol} {address}:{self.port} ({self.how})"


@dataclass(frozen=True)
class Pair:
    """The two files that a configuration names: combined certificate file and private key file, absolute paths."""

    cert: str
    key: str


def _no(_path: str) -> bool:
    return False


def _unknown(_path: str) -> Optional[frozenset[str]]:
    return None


@dataclass(frozen=True)
class Claim:
    """What a lineage wants of a server's configuration.

    :param pair: the files that shall be named.
    :param names: the host names of its certificate.
    :param explicit: true to add it to the server; else only settings that name its files are changed, and none is added: what
        the admin pointed elsewhere stays.
    :param owns: whether a file is the lineage's own.
    :param another: whether a file belongs to another lineage of ours.
    :param covers: the host names, lower case, of the certificate in a file; None if that cannot be told.
    """

    pair: Pair
    names: tuple[str, ...]
    explicit: bool = True
    owns: Callable[[str], bool] = _no
    another: Callable[[str], bool] = _no
    covers: Callable[[str], Optional[frozenset[str]]] = _unknown


@dataclass(frozen=True)
class Planned:
    """What a server's configuration needs.

    :param edits: at most one changes what is effective for a client, and it is the last.
    :param notes: what the admin should know of them, full sentences.
    """

    edits: tuple[Edit, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table of somebody else's that has the certificate for the name that a client asks for.

    :param name: as the configuration names it.
    :param where: ``file:line`` of what names it.
    :param over: what the client would get without it; None if that is no pair.
    """

    name: str
    where: str
    over: Optional[Pair] = None


@dataclass(frozen=True)
class Served:
    """What the effective configuration says of one endpoint.

    :param pair: the files it names; None if it names none.
    :param mixed: whether some clients of its port are served something else, by a service that cannot be asked from here.
    :param others: files with certificates that it names and that are no such pair, or are for clients of another algorithm.
    :param table: a table of somebody else's that decides, so that ``pair`` is None; None if none does.
    """

    endpoint: Endpoint
    pair: Optional[Pair]
    mixed: bool = False
    others: tuple[str, ...] = ()
    table: Optional[Table] = None


@dataclass(frozen=True)
class MailDomains:
    """The domains that a server takes mail for, as far as they can be listed.

    :param names: lower case, sorted.
    :param notes: what could not be listed, full sentences.
    """

    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class View:
    """One look at a server's effective configuration.

    :param served: every endpoint with TLS, sorted, and the pair that it names.
    :param signature: of the files that it was read from, and of the directories that include globs look into, taken
        *before* they were read.
    :param pairs: every pair that is named anywhere, in scopes without an endpoint too.
    :param by_name: (host name or pattern, pair), for what is served to clients that ask for a name.
    :param notes: what the admin should know (a service without TLS, a listener that cannot be probed), full sentences.
    :param unasked: endpoints with TLS that cannot be asked from this host, and what they name; ``notes`` say why.  What they
        serve is unknown: that is neither right nor wrong, and no TLSA record is made of it (rules R5, R13, D13).
    :param others: what :attr:`Served.others` may say, of every scope.
    :param unread: tables of certificates by name that this user may not read.  What depends on them is not in ``served``.
    """

    served: tuple[Served, ...]
    signature: Signature
    pairs: tuple[Pair, ...] = ()
    notes: tuple[str, ...] = ()
    by_name: tuple[tuple[str, Pair], ...] = ()
    unasked: tuple[Served, ...] = ()
    others: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def every(self) -> tuple[Served, ...]:
        """Every endpoint with TLS, whether it can be asked from this host or not."""
        return (*self.served, *self.unasked)


class IMailServer(Interface):
    """One mail server on this host."""

    name: str = Attribute("``Dovecot`` or ``Postfix``, for messages")
    root: str = Attribute("its configuration directory, absolute; ``.certbot.lock`` goes there")

    def describe() -> str:
        """One line for ``certbot plugins``: name, version, root, services."""

    def look(sni: Optional[str] = None) -> View:
        """Read the effective configuration, by the server's own tools; raises if they call it broken.

        Remembered within the process until a file of its signature changes: a run over 100 lineages asks the tools once.

        :param sni: the name that clients ask for; None for clients that ask for none.
        """

    def plan(claim: Claim) -> Planned:
        """The edits after which every endpoint that serves the claim's names names its pair; writes nothing.

        Empty if it is so already.
        """

    def without(claim: Claim) -> tuple[Edit, ...]:
        """The edits of the file that several lineages share after which the claim's lineage is not in it; writes nothing.

        A name that it was served for goes back to another lineage in the file that has it.  The file is removed if nothing is
        left in it.
        """

    def preview(edits: Sequence[Edit], sni: Optional[str]) -> tuple[Served, ...]:
        """What every endpoint would serve a client that asks for ``sni``, were ``edits`` made; writes nothing."""

    def edit_lock() -> AbstractContextManager[None]:
        """Hold the lock under which this server's configuration is edited, while someone else writes its files."""

    def apply(edit: Edit) -> None:
        """Make one planned edit (or its ``undo``), under the lock that the server's own tools take for that file."""

    def check() -> None:
        """Ask the server's own tools whether the configuration on disk can be loaded."""

    def running() -> bool:
        """Whether its master process runs."""

    def start() -> None:
        """Start its master process; only ever called if it ran before we touched anything and does not run any more."""

    def names() -> tuple[str, ...]:
        """The fully qualified host names that its configuration mentions, for certbot to offer."""

    def mail_domains() -> MailDomains:
        """The domains that it takes mail for from other hosts; none for a server that takes no such mail."""

    def hint() -> str:
        """What is likely in the way if a reload was not applied, with the remedy, a sentence without its stop; mostly empty."""

    def reload() -> None:
        """Reload, once.  Success proves nothing (facts): the caller asks the endpoints."""
