"""Ask one DNS server a question, and read what it says.

A lost datagram is nothing: the question is asked again, twice, and then by TCP (rule D27).  Nor is a stray or forged one that
is no answer.  Nothing hangs, and nothing that an answer holds raises.
"""

from __future__ import annotations

import datetime
import inspect
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional, Union

import dns.exception
import dns.message
import dns.name
import dns.query
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from certbot_dovecot.dane.answers import Data, Outcome

#: How often a question is asked by UDP before it is asked by TCP.
TRIES = 3
_ALIASES = 8
#: From dnspython 2.6 on, a question may wait on after a datagram that is no answer.
_FORGIVING: dict[str, Any] = (
    {"ignore_errors": True} if "ignore_errors" in inspect.signature(dns.query.udp_with_fallback).parameters else {}
)


@dataclass(frozen=True)
class Server:
    """Where a DNS server listens.

    :param trusted: whether its AD bit is believed.
    """

    address: str
    port: int = 53
    trusted: bool = False


class Questions:
    """Questions that share a time limit.

    :param question: seconds for one try.
    :param deadline: of :func:`time.monotonic`, for all.
    """

    def __init__(self, question: float, deadline: float) -> None:
        self.question, self.deadline = question, deadline
        self._mute: set[str] = set()
        self._lock = threading.Lock()

    def send(self, query: dns.message.Message, server: Server) -> Union[dns.message.Message, Outcome]:
        """The answer; ``SILENT`` without one in time, ``ERROR`` if there is one that cannot be read.

        It is asked for by UDP, again if there is none, and by TCP if there is still none.  A datagram that cannot be read may
        be anybody's: then TCP tells at once.  Whoever said nothing to all of that is asked only once for anything else: a dead
        server must not use up the time of the others.
        """
        if server.address in self._mute:
            return self._try(query, server, True)
        found, asked_by_tcp = self._try(query, server, False), False
        for _ in range(TRIES - 1):
            if found is Outcome.ERROR and not asked_by_tcp:
                found, asked_by_tcp = self._try(query, server, False, True), True
                if found is Outcome.ERROR:
                    return found
            if not isinstance(found, Outcome):
                return found
            found = self._try(query, server, True)
        if isinstance(found, Outcome) and not asked_by_tcp:
            found = self._try(query, server, False, True)
        if found is Outcome.SILENT:
            with self._lock:
                self._mute.add(server.address)
        return found

    def _try(
        self, query: dns.message.Message, server: Server, forgiving: bool, tcp: bool = False
    ) -> Union[dns.message.Message, Outcome]:
        """Ask once.

        :param forgiving: whether to wait on after a datagram that is no answer, where dnspython can.
        """
        left = min(self.question, self.deadline - time.monotonic())
        if left <= 0:
            return Outcome.SILENT
        try:
            if tcp:
                return dns.query.tcp(query, server.address, left, server.port)
            more = _FORGIVING if forgiving else {}
            return dns.query.udp_with_fallback(query, server.address, left, server.port, ignore_unexpected=True, **more)[0]
        except (dns.exception.Timeout, OSError, EOFError):
            return Outcome.SILENT
        except Exception:
            # What a stranger sends is parsed here, by a library of which each version has its own surprises.
            return Outcome.ERROR


def sets_of(
    section: Sequence[dns.rrset.RRset], kind: dns.rdatatype.RdataType, name: Optional[dns.name.Name] = None
) -> list[dns.rrset.RRset]:
    """The sets of one type in a section of an answer, of one name or of all; of the Internet's class only.

    Of another class, an address is something else, or nothing that can be read.
    """
    found = [rrset for rrset in section if (rrset.rdclass, rrset.rdtype) == (dns.rdataclass.IN, kind)]
    return found if name is None else [rrset for rrset in found if rrset.name == name]


def hops_of(answer: dns.message.Message, name: dns.name.Name) -> tuple[dns.name.Name, ...]:
    """``name``, and where the aliases of an answer lead, hop by hop; empty if they lead round."""
    aliases = {rrset.name: rrset[0].target for rrset in sets_of(answer.answer, dns.rdatatype.CNAME)}
    hops = [name]
    while hops[-1] in aliases:
        if len(hops) > _ALIASES:
            return ()
        hops.append(aliases[hops[-1]])
    return tuple(hops)


def validity_of(
    section: Sequence[dns.rrset.RRset], kind: dns.rdatatype.RdataType, name: Optional[dns.name.Name] = None
) -> tuple[Optional[datetime.datetime], Optional[datetime.datetime]]:
    """Since when, and until when, the sets of one type in a section are signed, of one name or of all; None if they are not.

    Of several signatures one is enough for a validator (RFC 4035 section 5.3.3), so the earliest and the latest count.
    """
    found = [rrset for rrset in sets_of(section, dns.rdatatype.RRSIG, name) if rrset.covers == kind]
    dates = [(rdata.inception, rdata.expiration) for rrset in found for rdata in rrset]
    if not dates:
        return None, None
    utc = datetime.timezone.utc
    first, last = min(begin for begin, _ in dates), max(end for _, end in dates)
    return datetime.datetime.fromtimestamp(first, utc), datetime.datetime.fromtimestamp(last, utc)


def tlsa_set(answer: dns.message.Message, name: dns.name.Name) -> tuple[frozenset[Data], int]:
    """The TLSA set of ``name``, and its TTL."""
    found = sets_of(answer.answer, dns.rdatatype.TLSA, name)
    data = [Data(one.usage, one.selector, one.mtype, one.cert.hex().upper()) for rrset in found for one in rrset]
    return frozenset(data), max((rrset.ttl for rrset in found), default=0)


def is_signed(section: Sequence[dns.rrset.RRset]) -> bool:
    """Whether there is a signature in a section of an answer."""
    return any(rrset.rdtype == dns.rdatatype.RRSIG for rrset in section)


def named(host: str) -> Optional[dns.name.Name]:
    """The absolute name of a host; None if the text is no name in the DNS."""
    try:
        return dns.name.from_text(host)
    except Exception:
        # What dnspython raises for a text that is no name depends on its version.
        return None


def text_of(name: dns.name.Name) -> str:
    """A name in lower case, without the final dot; the root is an empty text."""
    return name.to_text(omit_final_dot=True).lower() if name != dns.name.root else ""


def source_of(
    answer: dns.message.Message, name: dns.name.Name, kind: dns.rdatatype.RdataType = dns.rdatatype.TLSA
) -> Optional[dns.name.Name]:
    """The wildcard that the set of ``name`` in an answer was made from, else ``name``; None if no signature tells."""
    for rrset in sets_of(answer.answer, dns.rdatatype.RRSIG, name):
        for rdata in rrset:
            if rdata.type_covered == kind:
                # Neither the root nor an asterisk at the front counts (RFC 4034 section 3.1.3).
                counted = len(name.labels) - 1 - name.is_wild()
                made = rdata.labels < counted
                return dns.name.Name((b"*", *name.labels[len(name.labels) - 1 - rdata.labels :])) if made else name
    return None


def wildcards_of(name: dns.name.Name) -> tuple[dns.name.Name, ...]:
    """Every wildcard that an answer for ``name`` can be made from, the nearest first; none of a top-level domain."""
    return tuple(dns.name.Name((b"*", *name.labels[at:])) for at in range(1, len(name.labels) - 2))
