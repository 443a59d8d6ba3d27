"""What the DNS said of TLSA records, and what the hosts behind them serve, as plain data.

Nothing here asks or decides: a survey is made elsewhere and passed in, is kept in ``survey.json`` as evidence, and is judged by
:mod:`~certbot_dovecot.dane.rollover` and :mod:`~certbot_dovecot.dane.gates`.  Nothing here fails.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from enum import Enum
from typing import Optional


class Outcome(Enum):
    """How one name server answered.

    ``ANSWER``: with records, and with authority.  ``ABSENT``: with authority, that there are none (NXDOMAIN or no data, RFC
    2308).  ``LAME``: without authority.  ``SILENT``: not in time, or not at all.  ``ERROR``: anything else.
    """

    ANSWER = "answer"
    ABSENT = "absent"
    LAME = "lame"
    SILENT = "silent"
    ERROR = "error"


class Validity(Enum):
    """What a validating resolver that we trust (rule D17) says of an owner name (RFC 4035 section 4.3)."""

    SECURE = "secure"
    INSECURE = "insecure"
    BOGUS = "bogus"
    UNKNOWN = "unknown"


@dataclass(frozen=True, order=True)
class Data:
    """The data of one TLSA record (RFC 6698 section 2.1).

    :param digest: upper-case hex.
    """

    usage: int
    selector: int
    matching: int
    digest: str

    def __str__(self) -> str:
        return f"{self.usage} {self.selector} {self.matching} {self.digest}"


@dataclass(frozen=True)
class Seen:
    """What one address of one name server said.

    :param server: name and address, for messages.
    :param records: the set; empty unless the outcome is ``ANSWER``.
    :param ttl: of the set; of the negative answer, min(SOA TTL, SOA MINIMUM), if there is none; seconds.
    :param signed: whether a signature came with it.
    :param inception: since when the signatures of what it said are valid, UTC; None without one (RFC 4034 section 3.1.5).
    :param expiration: until when, likewise.
    :param alias: where it says that the owner name leads, if it was asked for the alias; what stands there others are asked.
    """

    server: str
    outcome: Outcome
    records: frozenset[Data] = frozenset()
    ttl: int = 0
    signed: bool = False
    inception: Optional[datetime.datetime] = None
    expiration: Optional[datetime.datetime] = None
    alias: str = ""


@dataclass(frozen=True)
class Owner:
    """What was said of one owner name.

    :param name: ``_25._tcp.mail.example.org.``.
    :param seen: by every address of every name server of the zone; empty if these could not be found.
    :param validity: what the validating resolver says.
    :param resolved: the set that the resolver gave.
    :param target: where its records stand, absolute: where its alias leads (rule D15), the wildcard that it is behind (D21),
        else the name itself; empty if that is not known.
    :param wildcard: the wildcard that its records, or its alias, were made from; empty for none.
    :param secured: whether the parent zones say that its zone is signed (DS records), and the validating resolver does not; or,
        where no resolver is trusted, whether they say so (rule D29).
    """

    name: str
    seen: tuple[Seen, ...]
    validity: Validity = Validity.UNKNOWN
    resolved: frozenset[Data] = frozenset()
    target: str = ""
    wildcard: str = ""
    secured: bool = False

    @property
    def place(self) -> str:
        """Where its records stand."""
        return self.target or self.name

    @property
    def port(self) -> int:
        """Its port; 0 for a name that is no port's."""
        return port_of(self.name)

    @property
    def given(self) -> Optional[frozenset[Data]]:
        """Every record that a name server gives for it, a resolver's memory left out; None if none of them could be asked."""
        usable = [seen.records for seen in self.seen if seen.outcome in (Outcome.ANSWER, Outcome.ABSENT) and not seen.alias]
        return frozenset().union(*usable) if usable else None

    @property
    def published(self) -> frozenset[Data]:
        """Every record that somebody gave for it."""
        return self.resolved.union(*(seen.records for seen in self.seen))


@dataclass(frozen=True)
class Key:
    """A public key, as TLSA records name it.

    :param sha256: of the SubjectPublicKeyInfo, upper-case hex; ``3 1 1``.
    :param sha512: likewise; ``3 1 2``.
    """

    sha256: str
    sha512: str = ""

    def digest(self, matching: int) -> Optional[str]:
        """The digest for a matching type; None for one that we never match."""
        return {1: self.sha256, 2: self.sha512}.get(matching) or None


@dataclass(frozen=True)
class AddressAnswer:
    """What one address of a host served at the port of an owner name (rule D18).

    :param owner: the owner name, ``_25._tcp.mail.example.org.``.
    :param address: IPv4 or IPv6 address; empty if the addresses of the host could not be found out.
    :param key: the key that was served; None if the address could not be asked.
    :param error: why it could not be asked, in plain words; empty if it could.
    """

    owner: str
    address: str
    key: Optional[Key] = None
    error: str = ""


@dataclass(frozen=True)
class Survey:
    """One look at the DNS.

    :param at: when it ended, UTC.
    :param owners: every owner name that was asked for.
    :param notes: what was left out, full sentences.
    :param addresses: what the addresses behind the owner names with records served (rule D18); empty if they were not asked.
    """

    at: datetime.datetime
    owners: tuple[Owner, ...]
    notes: tuple[str, ...] = ()
    addresses: tuple[AddressAnswer, ...] = ()


def port_of(owner: str) -> int:
    """The port of an owner name; 0 for a name that has none."""
    label = owner.partition(".")[0]
    return int(label[1:]) if label[:1] == "_" and label[1:].isdecimal() and label.isascii() else 0


def host_of(owner: str) -> str:
    """The host of an owner name ``_port._tcp.host.``, without the final dot."""
    return owner.split(".", 2)[-1].rstrip(".")
