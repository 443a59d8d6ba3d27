"""Which owner names the DNS is asked for, for the keys of a lineage (rules D12, D14, D19).

An owner name is ``_port._tcp.host``.  The hosts are those of the certificate, those that the admin added
(``--dovecot-dane-hosts``), and the other names under which this host is reached (:mod:`certbot_dovecot.dane.hosts`).  The ports
are those whose configuration names the files of the lineage.  Port 25 of each host is asked as well: where this installer does
not configure it, it is *guarded* (:func:`certbot_dovecot.dane.rollover.relevant`), because ``main.cf`` may name the lineage's
own files.  So are the other well-known ports (rule D20): a web server may have the same certificate, and what others reach as
993 may be forwarded to another port of this host.

Behind a wildcard of the certificate are the hosts that the servers and the system call themselves, and those that the admin
added.  If none fits, it is not known where records may stand, and the key stays.

Fails as a :class:`~certbot_dovecot.problems.Problem` if a server's configuration, a lineage or a record cannot be read.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Callable

from certbot_dovecot import seen, store
from certbot_dovecot.dane import hosts, tlsa
from certbot_dovecot.dane.answers import Owner, host_of
from certbot_dovecot.dane.hosts import Lookup
from certbot_dovecot.servers import discovery
from certbot_dovecot.servers.contract import IMailServer, Served
from certbot_dovecot.servers.dovecot_view import name_matches

if TYPE_CHECKING:
    from certbot_dovecot.pairs import Pair
    from certbot_dovecot.state import Options
    from certbot_dovecot.watch import Way

#: If a host has more other names than this, these are asked at port 25 only: no sender looks at another port of an MX host.
MOST_OTHERS = 16
#: Ports at which a record of a key of ours may stand, whoever serves them (rule D20): those of mail, HTTPS and XMPP.
WELL_KNOWN = (25, 110, 143, 443, 465, 587, 993, 995, 4190, 5222, 5269)
#: If a host has more names than this, its well-known ports that are not ours are asked for at port 25 only.
MOST_NAMES = 50


@dataclass(frozen=True)
class Hosts:
    """The host names of one lineage.

    :param named: those of the certificate, those behind its wildcards, and those that the admin added; sorted.
    :param others: the other names under which this host is reached (rule D19); sorted.
    :param unknown: a wildcard of the certificate that no host is known for; empty for none.
    :param lookup: what the resolver says of all of them.
    :param notes: what could not be looked at, full sentences.
    """

    named: tuple[str, ...]
    others: tuple[str, ...] = ()
    unknown: str = ""
    lookup: Lookup = field(default_factory=Lookup)
    notes: tuple[str, ...] = ()

    @property
    def every(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.named, *self.others)


@dataclass(frozen=True)
class OwnerNames:
    """The owner names of one lineage.

    :param ports: owner name to port: named hosts, at the ports that serve the lineage.
    :param others: owner name to port, likewise of other names of this host.  They count where a record of our keys stands.
    :param guarded: owner names of ports that are not ours.  They count where a record of our keys stands.
    :param hosts: what they were made of.
    :param endpoints: port to protocol and whether TLS is implicit there, of the ports that are ours.
    :param elsewhere: owner names of named hosts whose clients get another certificate at a port of ours.
    """

    ports: Mapping[str, int]
    others: Mapping[str, int]
    guarded: frozenset[str]
    hosts: Hosts
    endpoints: Mapping[int, tuple[str, bool]] = field(default_factory=dict)
    elsewhere: frozenset[str] = frozenset()

    @property
    def every(self) -> list[str]:
        """All of them, each once."""
        return list(dict.fromkeys([*self.ports, *self.others, *sorted(self.guarded)]))


def find(way: Way, pair: Pair) -> OwnerNames:
    """The owner names that the DNS is to be asked for.

    :raises Problem: as the module says.
    """
    names = sorted(pair.serving.lineage.names())
    known = {host_of(name) for name, _ in pair.ledger.ours}
    found = hosts_of(way, pair.options, names, known)
    owns, servers = owner_of(way, pair), _found(way, pair.options)
    served = seen.look(servers, seen.name_of(servers, names, owns))
    endpoints = {
        one.endpoint.port: (one.endpoint.protocol, one.endpoint.implicit) for one in served if one.pair and owns(one.pair.cert)
    }
    not_ours = seen.elsewhere(found.named, served, lambda host: seen.look(servers, host), owns)
    few = len(found.others) <= MOST_OTHERS
    ports = {f"_{port}._tcp.{host}.": port for port in sorted(endpoints) for host in found.named}
    others = {f"_{port}._tcp.{host}.": port for port in sorted(endpoints) for host in found.others if few or port == 25}
    # A name that another lineage is served for needs no record of ours.  One that stands there counts, as at any other name.
    others.update({name: ports.pop(name) for name in sorted(not_ours & ports.keys())})
    # Also where we put records for a port that is not ours any more.
    guarded = frozenset([*well_known(found), *(name for name, _ in pair.ledger.ours)])
    if len(found.every) > MOST_NAMES:
        note = f"This host has {len(found.every)} names in the DNS; of the ports that it does not serve, only 25 was looked at."
        found = replace(found, notes=(*found.notes, note))
    return OwnerNames(ports, others, guarded - ports.keys() - others.keys(), found, endpoints, not_ours)


def owner_of(way: Way, pair: Pair) -> Callable[[str], bool]:
    """Tells whether a file, as a configuration names it, is one of the pair's."""
    members = [member.lineage.name for member in (pair.serving, pair.standby) if member]
    places = [store.folder(way.home, pair.options.store, name) for name in members]
    return lambda path: any(one.owns(path) for one in places)


def well_known(found: Hosts) -> tuple[str, ...]:
    """The owner names of the well-known ports of each host name (rule D20)."""
    every = found.every if len(found.every) <= MOST_NAMES else ()
    some = found.every if len(found.others) <= MOST_OTHERS else found.named
    wanted = [(port, host) for host in some for port in WELL_KNOWN if host in every]
    return tuple(dict.fromkeys([*(f"_25._tcp.{host}." for host in found.every), *(f"_{p}._tcp.{host}." for p, host in wanted)]))


def hosts_of(way: Way, chosen: Options, names: Sequence[str], more: Iterable[str] = ()) -> Hosts:
    """The host names under which a certificate's keys may have records.

    :param names: of the certificate.
    :param more: further hosts to be looked up.
    :raises Problem: a server's configuration cannot be read.
    """
    servers = _servers(way, chosen)
    added = _added(chosen)
    own = {name for server in servers if server.name != "Dovecot" for name in server.names()} | {socket.getfqdn().lower()}
    listed = [server.mail_domains() for server in servers]
    domains = sorted({name for one in listed for name in one.names if hosts.is_public(name)})
    named = {name.lower() for name in names if tlsa.is_host(name)} | added
    unknown = ""
    candidates = {name for server in servers for name in server.names()} | own
    for wildcard in (name for name in names if name.startswith("*.")):
        fitting = {name for name in candidates | named if name_matches(wildcard, name) and tlsa.is_host(name)}
        named |= fitting
        unknown = unknown or ("" if fitting else wildcard)
    lookup = way.look_up(chosen, sorted({*named, *own, *more}), domains)
    others = hosts.others(named, own, domains, lookup, way.is_own)
    notes = [note for one in listed for note in one.notes]
    silent = [domain for domain in domains if lookup.exchangers.get(domain) is None]
    if silent:
        notes.append(f"The resolver gave no answer for the MX hosts of {_some(silent)}, so these were not looked at.")
    if len(others) > MOST_OTHERS:
        notes.append(f"This host has {len(others)} further names in the DNS; only port 25 was looked at for these.")
    return Hosts(tuple(sorted(named)), others, unknown, lookup, tuple(notes))


def configured(way: Way, pair: Pair) -> tuple[Served, ...]:
    """Every endpoint, those that cannot be asked from here too, and what its configuration names for clients of the pair."""
    servers = _found(way, pair.options)
    return seen.look(servers, seen.name_of(servers, sorted(pair.serving.lineage.names()), owner_of(way, pair)))


def _found(way: Way, chosen: Options) -> tuple[IMailServer, ...]:
    return discovery.find(chosen.server_root, chosen.postfix_root, chosen.postfix_services, way.run).servers


def _servers(way: Way, chosen: Options) -> tuple[IMailServer, ...]:
    """The servers of this host; Postfix also if the lineage is not installed on it: it may serve the key by ``main.cf``."""
    services = chosen.postfix_services if chosen.postfix_services.strip().lower() != "none" else "submission"
    return discovery.find(chosen.server_root, chosen.postfix_root, services, way.run).servers


def is_named(chosen: Options, names: Iterable[str], owner: str) -> bool:
    """Whether the host of an owner name is one of a certificate's ``names``, behind a wildcard of it, or added by the admin."""
    host = host_of(owner)
    return host in _added(chosen) or any(name_matches(name, host) for name in names)


def _added(chosen: Options) -> set[str]:
    """The hosts that the admin added."""
    return {host.lower() for host in chosen.dane_hosts.replace(",", " ").split()}


def _some(names: Sequence[str], shown: int = 3) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def in_charge(names: OwnerNames, relevant: Iterable[Owner], ours: Iterable[str]) -> dict[str, int]:
    """Owner name to port of what is to be kept true: ``ports``, and others at which a record of our keys was seen.

    :param relevant: what was said of the owner names that count.
    :param ours: owner names at which we put records.
    """
    # An owner name that the DNS says nothing of keeps the key, and gets no record.
    kept = {*(owner.name for owner in relevant if owner.published), *ours}
    return {**names.ports, **{name: port for name, port in names.others.items() if name in kept}}
