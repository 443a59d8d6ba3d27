"""From what endpoints were seen to serve to the ports that may have TLSA records (rules D13, R5).

Pure, but for :func:`look`, :func:`name_of` and :func:`own_names`.

A port gets records for every key that one of its endpoints was seen serving.  Port 25 is stricter, because other hosts do read
its records, and send no mail where they do not match: it gets them only if it is among the services that are looked after, as a
mail exchanger's STARTTLS, and if each of its endpoints was seen serving a key of the lineage, and no client is served by a
service that cannot be asked and has another certificate.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable, Mapping
from typing import Callable, Optional

from certbot_dovecot.dane import tlsa
from certbot_dovecot.servers import probe
from certbot_dovecot.servers.contract import Endpoint, IMailServer, Served
from certbot_dovecot.servers.dovecot_view import name_matches

#: Where mail comes in from other hosts.
_MX = 25


def ports(served: Collection[Served], keys: Mapping[Endpoint, str]) -> dict[int, list[str]]:
    """Port to the keys that records may be made for.

    :param served: every endpoint that is looked after.
    :param keys: endpoint to the SPKI that it was seen serving, of those that serve a key of the lineage.
    :returns: both sorted.
    """
    found: dict[int, set[str]] = {}
    for endpoint, spki in keys.items():
        if endpoint.port != _MX or _sure(served, keys):
            found.setdefault(endpoint.port, set()).add(spki)
    return {port: sorted(found[port]) for port in sorted(found)}


def look(servers: Iterable[IMailServer], sni: Optional[str]) -> tuple[Served, ...]:
    """Every endpoint of ``servers``, those that cannot be asked from here too, and what it names for clients of ``sni``.

    :raises Problem: a server's configuration cannot be read.
    """
    views = [server.look(sni) for server in servers]
    return tuple(one for view in views for one in view.every)


def name_of(servers: Collection[IMailServer], names: Iterable[str], owns: Callable[[str], bool]) -> Optional[str]:
    """The host name to ask for, for a lineage: the first of its names that it is served for, exact ones before wildcards.

    Another lineage that was installed later may be served for some of them.

    :param names: of the certificate.
    :param owns: whether a file is the lineage's.
    :returns: of a lineage that is served for none, the first; None for one without host names.
    :raises Problem: a server's configuration cannot be read.
    """
    hosts = [host for name in sorted(names, key=lambda name: name.startswith("*.")) if (host := probe.sni_for([name]))]
    return next((host for host in hosts if any(_owned(one, owns) for one in look(servers, host))), next(iter(hosts), None))


def own_names(servers: Iterable[IMailServer]) -> frozenset[str]:
    """What the servers and the system call this host.

    :raises Problem: a server's configuration cannot be read.
    """
    return frozenset({name for server in servers for name in server.names()} | {socket.getfqdn().lower()})


def hosts(names: Iterable[str], own: Iterable[str]) -> tuple[str, ...]:
    """The host names of a certificate, those behind its wildcards among them as far as they are known.

    :param names: of the certificate.
    :param own: what this host is called.
    """
    known = {name.lower() for name in names if tlsa.is_host(name)}
    wild = [name for name in names if name.startswith("*.")]
    return tuple(sorted(known | {name for name in own if tlsa.is_host(name) and any(name_matches(one, name) for one in wild)}))


def elsewhere(
    hosts: Iterable[str],
    served: Iterable[Served],
    named: Callable[[str], Iterable[Served]],
    owns: Callable[[str], bool],
) -> frozenset[str]:
    """Owner names whose clients get another certificate than the other clients of the same endpoint.

    Another lineage may have such a host by its exact name, where this one has it by a wildcard.

    :param hosts: those of the lineage.
    :param served: what the endpoints' configuration names for its clients.
    :param named: what it names for clients of one host.
    :param owns: whether a file is the lineage's.
    """
    ours = {one.endpoint for one in served if _owned(one, owns)}
    return frozenset(
        f"_{one.endpoint.port}._tcp.{host}."
        for host in hosts
        for one in named(host)
        if one.endpoint in ours and not _owned(one, owns)
    )


def _owned(one: Served, owns: Callable[[str], bool]) -> bool:
    return one.pair is not None and owns(one.pair.cert)


def _sure(served: Collection[Served], keys: Mapping[Endpoint, str]) -> bool:
    """Whether every client of port 25 is known to get a key of the lineage."""
    incoming = [one for one in served if one.endpoint.port == _MX]
    return bool(incoming) and all(
        one.endpoint.protocol == "smtp" and not one.endpoint.implicit and not one.mixed and one.endpoint in keys
        for one in incoming
    )
