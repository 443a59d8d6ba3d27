"""Ask the DNS who has which TLSA records: every address of every name server, and a resolver that validates.

For each owner name: a resolver tells whether it is secure, where its alias leads (D15: a CNAME is followed, and counts as
secure only if the resolver says so of the whole), and which name servers its zone has; then each of their addresses is asked
directly, without recursion (D5).  The AD bit is believed from a resolver on loopback, or from one that the admin named (D17).

An answer may be made from a wildcard (D21).  Its signature tells: it counts fewer labels than the name has (RFC 4034 section
3.1.3).  Without signatures, the wildcards above the name are asked for, and one with the same records is taken for it.  Name
servers that do not agree whether there is a wildcard in between are no usable answer.

What is asked is the world's view (D29).  The parent zone is asked which name servers it delegates to, for a resolver may take
the addresses from there: these are asked too.  And where an answer is not secure, the parent zones are asked for DS records: a
zone that has them all the way down is signed for the world, whatever this host is shown (split horizon).

Promises: nothing hangs (2 seconds a try, 15 in all, everything at once), and nothing that an answer holds raises: what is
not an answer to the question is an :class:`~certbot_dovecot.dane.answers.Outcome` that makes the rollover keep the key.  A lost
datagram is nothing: the question is asked again, twice, and then by TCP (D27).  Nor is a stray or forged one that is no answer.
On a host without IPv6, IPv6 addresses of name servers are left out, and the survey says so.

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
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Optional, Union

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.resolver

from certbot_dovecot.dane import wire
from certbot_dovecot.dane.answers import Data, Outcome, Owner, Seen, Survey, Validity
from certbot_dovecot.dane.hosts import Lookup
from certbot_dovecot.dane.wire import Server, hops_of, is_signed, named, sets_of, text_of, tlsa_set, validity_of

#: Seconds for one try of a question, and for all questions.
QUESTION, ALL = 2.0, 15.0
#: How many addresses of the parent zone's name servers are tried.
_PARENTS = 6
_THREADS = 32


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


@dataclass(frozen=True)
class _Delegation:
    """What a parent zone says of a zone.

    :param hosts: the name servers.
    :param glue: their addresses, where it gives them.
    :param signed: whether it has a DS record.
    """

    hosts: frozenset[dns.name.Name] = frozenset()
    glue: Mapping[dns.name.Name, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    signed: bool = False


@dataclass(frozen=True)
class _Zone:
    """A zone, as the resolver knows it.

    :param hosts: its name servers; none only for a root that nobody serves.
    :param secure: whether the resolver says that this is secure.
    """

    name: dns.name.Name
    hosts: frozenset[dns.name.Name]
    secure: bool


class _Asking:
    """One survey's questions."""

    pool: ThreadPoolExecutor

    def __init__(self, by: Optional[Server], ipv6: bool, port: int, question: float, deadline: float) -> None:
        self.by, self.ipv6, self.port = by, ipv6, port
        self.questions = wire.Questions(question, deadline)
        self.notes: set[str] = set()
        self._known: dict[tuple[dns.name.Name, dns.rdatatype.RdataType], Future[Optional[dns.message.Message]]] = {}
        self._delegated: dict[dns.name.Name, Future[Optional[_Delegation]]] = {}
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
                asked.append(self.pool.submit(self._ask_alias, alias, to, server, address))
            if not self._servers(alias):
                return Owner(name, (), validity), []
        secured = validity in (Validity.INSECURE, Validity.UNKNOWN) and any(map(self._secured, hops))
        return Owner(name, (), validity, records, target.to_text(), secured=secured), asked

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
        name = named(domain)
        answer = self._once(name, dns.rdatatype.MX) if name is not None else None
        if name is None or answer is None or not _usable(answer):
            return None
        hops = hops_of(answer, name)
        rrsets = sets_of(answer.answer, dns.rdatatype.MX, hops[-1]) if hops else []
        # A host that is the root means: this domain takes no mail (RFC 7505).  There is no host to ask for then.
        return tuple(sorted({text_of(rdata.exchange) for rrset in rrsets for rdata in rrset}))

    def host(self, host: str) -> tuple[Optional[tuple[str, ...]], str]:
        """The addresses of a host (None if there is no usable answer), and its canonical name if it is an alias."""
        name = named(host)
        if name is None:
            return (), ""
        found: list[str] = []
        alias = ""
        for kind in (dns.rdatatype.A, dns.rdatatype.AAAA):
            answer = self._once(name, kind)
            if answer is None or not _usable(answer):
                return None, alias
            hops = hops_of(answer, name)
            if not hops:
                return None, alias
            alias = text_of(hops[-1]) if hops[-1] != name else alias
            found += [rdata.address for rrset in sets_of(answer.answer, kind, hops[-1]) for rdata in rrset]
        return tuple(sorted(found)), alias

    def _resolve(self, name: dns.name.Name) -> tuple[Optional[dns.message.Message], Validity]:
        """What the resolver says of the TLSA set of ``name``, and whether it is secure.

        A resolver that fails may have met a name server that is silent (rule D27).  It is bogus if it fails again although it
        has an answer by then.
        """
        unchecked: Optional[dns.message.Message] = None
        for _ in range(2):
            answer = self._recurse(name, dns.rdatatype.TLSA)
            if answer is None:
                return None, Validity.UNKNOWN
            if _usable(answer):
                if self.by is None or not self.by.trusted:
                    return answer, Validity.UNKNOWN
                return answer, Validity.SECURE if answer.flags & dns.flags.AD else Validity.INSECURE
            if unchecked is None:
                unchecked = self._recurse(name, dns.rdatatype.TLSA, dns.flags.CD)
            if unchecked is None or not _usable(unchecked):
                return None, Validity.UNKNOWN
        return unchecked, Validity.BOGUS

    def _zone(self, name: dns.name.Name) -> Optional[_Zone]:
        """The zone that ``name`` is in; None if the resolver does not answer."""
        while True:
            answer = self._once(name, dns.rdatatype.NS)
            if answer is None:
                return None
            hosts = frozenset(rdata.target for rrset in sets_of(answer.answer, dns.rdatatype.NS, name) for rdata in rrset)
            if hosts or name == dns.name.root:
                return _Zone(name, hosts, bool(answer.flags & dns.flags.AD))
            name = name.parent()

    def _servers(self, name: dns.name.Name) -> list[tuple[str, Optional[str]]]:
        """(name server, address) of the zone that ``name`` is in; empty if they cannot be found.

        The address is empty for a name server without one, and None where it is not known who the name servers are.
        """
        zone = self._zone(name)
        if zone is None:
            return []
        hosts, found = zone.hosts, list[tuple[str, Optional[str]]]()
        glue: Mapping[dns.name.Name, tuple[str, ...]] = {}
        parent = self._zone(zone.name.parent()) if zone.name != dns.name.root else zone
        if parent is None or (parent.hosts and parent is not zone):
            delegation = self._delegation(zone.name, parent)
            if delegation is None:
                above = parent.name if parent else zone.name.parent()
                found.append((f"the parent zone {above} (asked which name servers {zone.name} has)", None))
            else:
                hosts, glue = hosts | delegation.hosts, delegation.glue
        elif parent is not zone:
            self.notes.add(f"No parent zone of {zone.name} was found: a name server that only the parent names was not asked.")
        for host in sorted(hosts):
            addresses = [*self._addresses(host, dns.rdatatype.A), *self._addresses(host, dns.rdatatype.AAAA)]
            # Inside a network, the resolver may lead elsewhere than the world's resolvers do.
            addresses = [*dict.fromkeys([*addresses, *glue.get(host, ())])]
            if not addresses:
                # It is one of the zone's, and nobody can ask it: doubt, not less to ask.
                found.append((host.to_text(), ""))
            for address in addresses:
                if ":" in address and not self.ipv6:
                    self.notes.add(f"This host has no IPv6: {host} was not asked at {address}.")
                else:
                    found.append((host.to_text(), address))
        return found

    def _delegation(self, zone: dns.name.Name, parent: Optional[_Zone]) -> Optional[_Delegation]:
        """What the parent zone says of ``zone``, once a survey; None if none of its name servers gives a usable answer."""
        with self._lock:
            mine = zone not in self._delegated
            answer = self._delegated.setdefault(zone, Future())
        if mine:
            try:
                answer.set_result(self._ask_parent(zone, parent) if parent else None)
            finally:
                answer.cancel()
        return answer.result()

    def _ask_parent(self, zone: dns.name.Name, parent: _Zone) -> Optional[_Delegation]:
        tried = 0
        for host in sorted(parent.hosts):
            for address in [*self._addresses(host, dns.rdatatype.A), *self._addresses(host, dns.rdatatype.AAAA)]:
                if tried == _PARENTS:
                    return None
                if ":" in address and not self.ipv6:
                    continue
                tried += 1
                answer = self._direct(zone, dns.rdatatype.NS, address)
                if isinstance(answer, Outcome) or not _usable(answer):
                    continue
                # It refers to the zone; or it has the zone too, and answers from there; or it knows of no such zone.
                referred = sets_of(answer.authority, dns.rdatatype.NS, zone)
                own = sets_of(answer.answer, dns.rdatatype.NS, zone)
                if not (referred or own or answer.flags & dns.flags.AA):
                    continue
                signed = bool(sets_of(answer.authority, dns.rdatatype.DS, zone))
                if own:
                    other = self._direct(zone, dns.rdatatype.DS, address)
                    if isinstance(other, Outcome):
                        continue
                    signed = bool(sets_of(other.answer, dns.rdatatype.DS, zone))
                hosts = frozenset(rdata.target for rrset in [*referred, *own] for rdata in rrset)
                glue: dict[dns.name.Name, tuple[str, ...]] = {}
                for kind in (dns.rdatatype.A, dns.rdatatype.AAAA):
                    for rrset in sets_of(answer.additional, kind):
                        glue[rrset.name] = (*glue.get(rrset.name, ()), *(rdata.address for rdata in rrset))
                return _Delegation(hosts, glue, signed)
        return None

    def _secured(self, name: dns.name.Name) -> bool:
        """Whether the zone of ``name`` is signed, as the parent zones say, though the resolver does not call it secure.

        DS records all the way down make a zone secure for the world (RFC 4035 section 5.2).  Where the resolver is not trusted,
        its word that a zone is secure is none.
        """
        zones: list[_Zone] = []
        zone = self._zone(name)
        while zone is not None and zone.name != dns.name.root:
            zones.append(zone)
            zone = self._zone(zone.name.parent())
        trusted = self.by is not None and self.by.trusted
        above, signed = zone, bool(zones)
        for one in reversed(zones):
            if trusted and one.secure:
                signed = True
            else:
                signed = signed and self._has_ds(one.name, above)
                if trusted and signed:
                    return True
            above = one
        return signed and not trusted

    def _has_ds(self, zone: dns.name.Name, parent: Optional[_Zone]) -> bool:
        answer = self._once(zone, dns.rdatatype.DS)
        if answer is not None and sets_of(answer.answer, dns.rdatatype.DS, zone):
            return True
        delegation = self._delegation(zone, parent)
        return delegation is not None and delegation.signed

    def _addresses(self, host: dns.name.Name, kind: dns.rdatatype.RdataType) -> list[str]:
        answer = self._once(host, kind)
        if answer is None:
            return []
        return sorted(rdata.address for rrset in sets_of(answer.answer, kind) for rdata in rrset)

    def _ask_alias(self, alias: dns.name.Name, to: dns.name.Name, server: str, address: Optional[str]) -> Seen:
        """Whether one address of one name server has the alias too; what stands where it leads is asked of others."""
        where, answer = self._authority(alias, server, address)
        if isinstance(answer, Outcome):
            return Seen(where, answer)
        found = sets_of(answer.answer, dns.rdatatype.CNAME, alias)
        if not any(rdata.target == to for rrset in found for rdata in rrset):
            return Seen(where, Outcome.ERROR)
        self._note(alias, wire.source_of(answer, alias, dns.rdatatype.CNAME))
        inception, expiration = validity_of(answer.answer, dns.rdatatype.CNAME, alias)
        # A cache may hold an alias to somewhere else for as long.
        ttl, signed = max(rrset.ttl for rrset in found), is_signed(answer.answer)
        return Seen(where, Outcome.ANSWER, frozenset(), ttl, signed, inception, expiration, to.to_text())

    def _authority(
        self, name: dns.name.Name, server: str, address: Optional[str]
    ) -> tuple[str, Union[dns.message.Message, Outcome]]:
        """Who was asked for the TLSA set of ``name``, and the answer if it is one with authority."""
        if address is None:
            return server, Outcome.SILENT
        where = f"{server.rstrip('.')} ({address or 'no address'})"
        answer = self._direct(name, dns.rdatatype.TLSA, address) if address else Outcome.SILENT
        if isinstance(answer, Outcome):
            return where, answer
        if answer.rcode() == dns.rcode.REFUSED:
            # What BIND and Knot say of a zone that they do not have.
            return where, Outcome.LAME
        if not _usable(answer):
            return where, Outcome.ERROR
        return where, answer if answer.flags & dns.flags.AA else Outcome.LAME

    def _ask(self, name: dns.name.Name, server: str, address: Optional[str]) -> Seen:
        """What one address of one name server says of ``name`` itself."""
        where, answer = self._authority(name, server, address)
        if isinstance(answer, Outcome):
            return Seen(where, answer)
        records, ttl = tlsa_set(answer, name)
        signed = is_signed([*answer.answer, *answer.authority])
        if records:
            self._note(name, wire.source_of(answer, name) or self._unsigned_source(name, records, server, address))
            return Seen(where, Outcome.ANSWER, records, ttl, signed, *validity_of(answer.answer, dns.rdatatype.TLSA, name))
        if answer.answer and any(rrset.rdtype != dns.rdatatype.RRSIG for rrset in answer.answer):
            # An alias that the resolver does not know yet, or something that was not asked for.
            return Seen(where, Outcome.ERROR)
        soas = sets_of(answer.authority, dns.rdatatype.SOA)
        negative = [min(rrset.ttl, rdata.minimum) for rrset in soas for rdata in rrset]
        dates = validity_of(answer.authority, dns.rdatatype.SOA)
        return Seen(where, Outcome.ABSENT, frozenset(), max(negative, default=0), signed, *dates)

    def _direct(
        self, name: dns.name.Name, kind: dns.rdatatype.RdataType, address: str
    ) -> Union[dns.message.Message, Outcome]:
        """What a name server says, without recursion."""
        query = dns.message.make_query(name, kind, want_dnssec=True, payload=1232)
        query.flags &= ~dns.flags.RD
        return self.questions.send(query, Server(address, self.port))

    def _note(self, name: dns.name.Name, source: Optional[dns.name.Name]) -> None:
        if source is not None:
            with self._lock:
                self._sources.setdefault(name, set()).add(source)

    def _unsigned_source(
        self, name: dns.name.Name, records: frozenset[Data], server: str, address: Optional[str]
    ) -> dns.name.Name:
        """What an answer without signatures was made from."""
        for wildcard in wire.wildcards_of(name):
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
        answer = self.questions.send(query, self.by)
        return None if isinstance(answer, Outcome) else answer


def _usable(answer: dns.message.Message) -> bool:
    """Whether an answer says something of a name: records, or that there are none."""
    return answer.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)
