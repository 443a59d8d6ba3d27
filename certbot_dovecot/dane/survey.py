"""Ask the DNS who has which TLSA records: every address of every name server, and a resolver that validates.

For each owner name: a resolver tells whether it is secure, where its alias leads (D15: a CNAME is followed, and counts as
secure only if the resolver says so of the whole), and which name servers its zone has; then each of their addresses is asked
directly, without recursion (D5).  The AD bit is believed from a resolver on loopback, or from one that the admin named (D17).

An answer may be made from a wildcard (D21).  Its signature tells: it counts fewer labels than the name has (RFC 4034 section
3.1.3).  Without signatures, the wildcards above the name are asked for, and one with the same records is taken for it.  Name
servers that do not agree whether there is a wildcard in between are no usable answer.

Promises: nothing hangs (2 seconds a question, 15 in all, everything at once), and nothing that an answer holds raises: what is
not an answer to the question is an :class:`~certbot_dovecot.dane.answers.Outcome` that makes the rollover keep the key.  On a
host without IPv6, IPv6 addresses of name servers are left out, and the survey says so.

Trap: the system's resolver may be none (no ``/etc/resolv.conf``, or an empty one); then every owner name is without name
servers, which is doubt.
"""

from __future__ import annotations

import dataclasses
import datetime
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Optional, Union

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.resolver
import dns.rrset

from certbot_dovecot.dane.answers import Data, Outcome, Owner, Seen, Survey, Validity
from certbot_dovecot.dane.hosts import Lookup

#: Seconds for one question, and for all of them.
QUESTION, ALL = 2.0, 15.0
_THREADS = 32
_ALIASES = 8


@dataclass(frozen=True)
class Server:
    """Where a DNS server listens.

    :param trusted: whether its AD bit is believed.
    """

    address: str
    port: int = 53
    trusted: bool = False


def resolver(said: str) -> Optional[Server]:
    """The resolver to ask.

    :param said: ``--dovecot-resolver``, ``ADDRESS`` or ``ADDRESS:PORT``, ``[ADDRESS]:PORT`` for IPv6; empty for the system's.
    :returns: None if there is none.
    :raises ValueError: what was said is no address.
    """
    if said:
        host, _, port = said.rpartition(":")
        if (said.count(":") == 1 or said.startswith("[")) and not said.endswith("]"):
            return Server(str(ipaddress.ip_address(host.strip("[]"))), int(port), True)
        return Server(str(ipaddress.ip_address(said.strip("[]"))), 53, True)
    try:
        system = dns.resolver.Resolver()
    except (dns.exception.DNSException, OSError):
        return None
    for address in map(str, system.nameservers):
        try:
            return Server(address, system.port, ipaddress.ip_address(address).is_loopback)
        except ValueError:
            continue
    return None


def routes_ipv6() -> bool:
    """Whether this host has a way to the IPv6 world; an address of its own on loopback or the link is none.  Sends nothing."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            # Choosing a route is all that this does; the prefix is reserved for documentation (RFC 3849).
            probe.connect(("2001:db8::1", 53))
    except OSError:
        return False
    return True


def make(
    owners: Sequence[str],
    by: Optional[Server],
    clock: Callable[[], datetime.datetime],
    ipv6: bool,
    port: int = 53,
    limits: tuple[float, float] = (QUESTION, ALL),
) -> Survey:
    """Ask.

    :param owners: absolute owner names, ``_25._tcp.mail.example.org.``.
    :param by: the resolver; None if there is none.
    :param ipv6: whether this host has IPv6.
    :param port: where name servers listen.
    :param limits: seconds for a question, and for all.
    """
    asking = _Asking(by, ipv6, port, limits[0], time.monotonic() + limits[1])
    with ThreadPoolExecutor(_THREADS) as pool:
        asking.pool = pool
        found = [pool.submit(asking.owner, name) for name in dict.fromkeys(owners)]
        made = [one.result() for one in found]
        looked = tuple(asking.finish(*one) for one in made)
    return Survey(clock(), looked, tuple(sorted(asking.notes)))


def look_up(
    hosts: Sequence[str], domains: Sequence[str], by: Optional[Server], limits: tuple[float, float] = (QUESTION, ALL)
) -> Lookup:
    """Ask the resolver for the addresses and the aliases of hosts, and for the MX hosts of mail domains and theirs (rule D19).

    :param hosts: host names, without the final dot.
    :param domains: mail domains, likewise.
    :param by: the resolver; None if there is none: then nothing is known.
    :param limits: seconds for a question, and for all.
    """
    asking = _Asking(by, True, 53, limits[0], time.monotonic() + limits[1])
    with ThreadPoolExecutor(_THREADS) as pool:
        exchangers = dict(zip(domains, pool.map(asking.exchangers, domains)))
        wanted = dict.fromkeys(host.lower() for host in hosts)
        wanted.update(dict.fromkeys(host for some in exchangers.values() for host in some or () if host))
        wanted.update(dict.fromkeys(domain for domain, some in exchangers.items() if some == ()))
        found = dict(zip(wanted, pool.map(asking.host, wanted)))
        # What is reached by an alias is reached by its canonical name as well.
        canonical = dict.fromkeys(alias for _, alias in found.values() if alias and alias not in found)
        found.update(zip(canonical, pool.map(asking.host, canonical)))
    return Lookup(
        {host: addresses for host, (addresses, _) in found.items()},
        {host: alias for host, (_, alias) in found.items() if alias},
        exchangers,
    )


class _Asking:
    """One survey's questions."""

    pool: ThreadPoolExecutor

    def __init__(self, by: Optional[Server], ipv6: bool, port: int, question: float, deadline: float) -> None:
        self.by, self.ipv6, self.port = by, ipv6, port
        self.question, self.deadline = question, deadline
        self.notes: set[str] = set()
        self._known: dict[tuple[dns.name.Name, dns.rdatatype.RdataType], Future[Optional[dns.message.Message]]] = {}
        self._lock = threading.Lock()
        #: What records, and aliases, of a name were made from, as each name server says.
        self._sources: dict[dns.name.Name, set[dns.name.Name]] = {}

    def owner(self, name: str) -> tuple[Owner, list[Future[Seen]]]:
        """Ask the resolver of one owner name, and start to ask its name servers."""
        if self.by is None:
            return Owner(name, ()), []
        try:
            wanted = dns.name.from_text(name)
        except Exception:
            # A certificate may have names that are none in the DNS, and what dnspython raises for them depends on its version.
            return Owner(name, ()), []
        answer, validity = self._resolve(wanted)
        hops = hops_of(answer, wanted) if answer is not None else ()
        if answer is None or not hops:
            return Owner(name, (), validity), []
        target, records = hops[-1], tlsa_set(answer, hops[-1])[0]
        asked = [self.pool.submit(self._ask, target, server, address) for server, address in self._servers(target)]
        for alias, to in zip(hops, hops[1:]):
            for server, address in self._servers(alias):
                asked.append(self.pool.submit(self._ask_alias, alias, to, records, server, address))
            if not self._servers(alias):
                return Owner(name, (), validity), []
        return Owner(name, (), validity, records, target.to_text()), asked

    def finish(self, owner: Owner, asked: list[Future[Seen]]) -> Owner:
        """Collect the answers."""
        seen = tuple(sorted((one.result() for one in asked), key=lambda seen: seen.server))
        if not owner.target:
            return dataclasses.replace(owner, seen=seen)
        found = self._sources.get(dns.name.from_text(owner.target), set())
        if len(found) > 1:
            # Told to change the one, or the other, an admin would take the records of some port away.
            unclear = tuple(dataclasses.replace(one, outcome=Outcome.ERROR, records=frozenset()) for one in seen)
            return dataclasses.replace(owner, seen=unclear)
        wild = [name.to_text() for name in found if name.is_wild()]
        alias = [name.to_text() for name in self._sources.get(dns.name.from_text(owner.name), ()) if name.is_wild()]
        target = wild[0] if wild else owner.target
        return dataclasses.replace(owner, seen=seen, target=target, wildcard=next(iter((*alias, *wild)), ""))

    def exchangers(self, domain: str) -> Optional[tuple[str, ...]]:
        """The MX hosts of a mail domain; empty if it has none, None if there is no usable answer."""
        name = _named(domain)
        answer = self._once(name, dns.rdatatype.MX) if name is not None else None
        if name is None or answer is None or answer.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            return None
        hops = hops_of(answer, name)
        rrsets = sets_of(answer.answer, dns.rdatatype.MX, hops[-1]) if hops else []
        # A host that is the root means: this domain takes no mail (RFC 7505).  There is no host to ask for then.
        return tuple(sorted({_text(rdata.exchange) for rrset in rrsets for rdata in rrset}))

    def host(self, host: str) -> tuple[Optional[tuple[str, ...]], str]:
        """The addresses of a host (None if there is no usable answer), and its canonical name if it is an alias."""
        name = _named(host)
        if name is None:
            return (), ""
        found: list[str] = []
        alias = ""
        for kind in (dns.rdatatype.A, dns.rdatatype.AAAA):
            answer = self._once(name, kind)
            if answer is None or answer.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                return None, alias
            hops = hops_of(answer, name)
            if not hops:
                return None, alias
            alias = _text(hops[-1]) if hops[-1] != name else alias
            found += [rdata.address for rrset in sets_of(answer.answer, kind, hops[-1]) for rdata in rrset]
        return tuple(sorted(found)), alias

    def _resolve(self, name: dns.name.Name) -> tuple[Optional[dns.message.Message], Validity]:
        """What the resolver says of the TLSA set of ``name``, and whether it is secure."""
        answer = self._recurse(name, dns.rdatatype.TLSA)
        if answer is None:
            return None, Validity.UNKNOWN
        if answer.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            if self.by is None or not self.by.trusted:
                return answer, Validity.UNKNOWN
            return answer, Validity.SECURE if answer.flags & dns.flags.AD else Validity.INSECURE
        unchecked = self._recurse(name, dns.rdatatype.TLSA, dns.flags.CD)
        if unchecked is not None and unchecked.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            return unchecked, Validity.BOGUS
        return None, Validity.UNKNOWN

    def _servers(self, name: dns.name.Name) -> list[tuple[str, str]]:
        """(name server, address) of the zone that ``name`` is in; empty if they cannot be found."""
        zone = name
        while True:
            answer = self._once(zone, dns.rdatatype.NS)
            if answer is None:
                return []
            hosts = [rdata.target for rrset in sets_of(answer.answer, dns.rdatatype.NS, zone) for rdata in rrset]
            if hosts or zone == dns.name.root:
                break
            zone = zone.parent()
        found = []
        for host in sorted(hosts):
            addresses = [*self._addresses(host, dns.rdatatype.A), *self._addresses(host, dns.rdatatype.AAAA)]
            if not addresses:
                # It is one of the zone's, and nobody can ask it: doubt, not less to ask.
                found.append((host.to_text(), ""))
            for address in addresses:
                if ":" in address and not self.ipv6:
                    self.notes.add(f"This host has no IPv6: {host} was not asked at {address}.")
                else:
                    found.append((host.to_text(), address))
        return found

    def _addresses(self, host: dns.name.Name, kind: dns.rdatatype.RdataType) -> list[str]:
        answer = self._once(host, kind)
        if answer is None:
            return []
        return sorted(rdata.address for rrset in sets_of(answer.answer, kind) for rdata in rrset)

    def _ask_alias(
        self, alias: dns.name.Name, to: dns.name.Name, records: frozenset[Data], server: str, address: str
    ) -> Seen:
        """Whether one address of one name server has the alias too; what stands where it leads is asked of others."""
        where, answer = self._authority(alias, server, address)
        if isinstance(answer, Outcome):
            return Seen(where, answer)
        found = sets_of(answer.answer, dns.rdatatype.CNAME, alias)
        if not any(rdata.target == to for rrset in found for rdata in rrset):
            return Seen(where, Outcome.ERROR)
        self._note(alias, source_of(answer, alias, dns.rdatatype.CNAME))
        signed = any(rrset.rdtype == dns.rdatatype.RRSIG for rrset in answer.answer)
        # A cache may hold an alias to somewhere else for as long.
        return Seen(where, Outcome.ANSWER if records else Outcome.ABSENT, records, max(rrset.ttl for rrset in found), signed)

    def _authority(self, name: dns.name.Name, server: str, address: str) -> tuple[str, Union[dns.message.Message, Outcome]]:
        """Who was asked for the TLSA set of ``name``, and the answer if it is one with authority."""
        where = f"{server.rstrip('.')} ({address or 'no address'})"
        query = dns.message.make_query(name, dns.rdatatype.TLSA, want_dnssec=True, payload=1232)
        query.flags &= ~dns.flags.RD
        answer = self._send(query, Server(address, self.port)) if address else Outcome.SILENT
        if isinstance(answer, Outcome):
            return where, answer
        if answer.rcode() == dns.rcode.REFUSED:
            # What BIND and Knot say of a zone that they do not have.
            return where, Outcome.LAME
        if answer.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            return where, Outcome.ERROR
        return where, answer if answer.flags & dns.flags.AA else Outcome.LAME

    def _ask(self, name: dns.name.Name, server: str, address: str) -> Seen:
        """What one address of one name server says of ``name`` itself."""
        where, answer = self._authority(name, server, address)
        if isinstance(answer, Outcome):
            return Seen(where, answer)
        records, ttl = tlsa_set(answer, name)
        signed = any(rrset.rdtype == dns.rdatatype.RRSIG for rrset in [*answer.answer, *answer.authority])
        if records:
            self._note(name, source_of(answer, name) or self._unsigned_source(name, records, server, address))
            return Seen(where, Outcome.ANSWER, records, ttl, signed)
        if answer.answer and any(rrset.rdtype != dns.rdatatype.RRSIG for rrset in answer.answer):
            # An alias that the resolver does not know yet, or something that was not asked for.
            return Seen(where, Outcome.ERROR)
        soas = sets_of(answer.authority, dns.rdatatype.SOA)
        negative = [min(rrset.ttl, rdata.minimum) for rrset in soas for rdata in rrset]
        return Seen(where, Outcome.ABSENT, ttl=max(negative, default=0), signed=signed)

    def _note(self, name: dns.name.Name, source: Optional[dns.name.Name]) -> None:
        if source is not None:
            with self._lock:
                self._sources.setdefault(name, set()).add(source)

    def _unsigned_source(self, name: dns.name.Name, records: frozenset[Data], server: str, address: str) -> dns.name.Name:
        """What an answer without signatures was made from."""
        for wildcard in wildcards_of(name):
            answer = self._authority(wildcard, server, address)[1]
            if isinstance(answer, Outcome):
                break
            if tlsa_set(answer, wildcard)[0] == records:
                return wildcard
        return name

    def _once(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> Optional[dns.message.Message]:
        """As :meth:`_recurse`, once a survey: a hundred owner names have few zones."""
        with self._lock:
            mine = (name, kind) not in self._known
            answer = self._known.setdefault((name, kind), Future())
        if mine:
            try:
                answer.set_result(self._recurse(name, kind))
            finally:
                # Nobody waits for ever for what went wrong here.
                answer.cancel()
        return answer.result()

    def _recurse(
        self, name: dns.name.Name, kind: dns.rdatatype.RdataType, flags: int = 0
    ) -> Optional[dns.message.Message]:
        if self.by is None:
            return None
        query = dns.message.make_query(name, kind, want_dnssec=True, payload=1232)
        query.flags |= dns.flags.RD | dns.flags.AD | flags
        answer = self._send(query, self.by)
        return None if isinstance(answer, Outcome) else answer

    def _send(self, query: dns.message.Message, server: Server) -> Union[dns.message.Message, Outcome]:
        """The answer, by TCP where UDP is not enough; ``SILENT`` without one in time, ``ERROR`` if it cannot be read."""
        left = min(self.question, self.deadline - time.monotonic())
        if left <= 0:
            return Outcome.SILENT
        try:
            return dns.query.udp_with_fallback(query, server.address, left, server.port, ignore_unexpected=True)[0]
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


def tlsa_set(answer: dns.message.Message, name: dns.name.Name) -> tuple[frozenset[Data], int]:
    """The TLSA set of ``name``, and its TTL."""
    found = sets_of(answer.answer, dns.rdatatype.TLSA, name)
    data = [Data(one.usage, one.selector, one.mtype, one.cert.hex().upper()) for rrset in found for one in rrset]
    return frozenset(data), max((rrset.ttl for rrset in found), default=0)


def _named(host: str) -> Optional[dns.name.Name]:
    """The absolute name of a host; None if the text is no name in the DNS."""
    try:
        return dns.name.from_text(host)
    except Exception:
        # What dnspython raises for a text that is no name depends on its version.
        return None


def _text(name: dns.name.Name) -> str:
    """A name in lower case, without the final dot; the root is an empty text."""
    return name.to_text(omit_final_dot=True).lower() if name != dns.name.root else ""
