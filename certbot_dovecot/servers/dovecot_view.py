"""From what ``doveconf`` says to the endpoints, and to the certificate that each serves for a name.  Pure.

How filters override one another (facts/dovecot.md): in 2.3 the more specific one wins, and of several ``local_name`` blocks
that match, the first; in 2.4 the one that was made later wins, whatever its kind.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Callable, Optional

from certbot_dovecot.servers import addresses
from certbot_dovecot.servers.contract import Endpoint, Pair, Served
from certbot_dovecot.servers.dovecot_conf import FILTERS, Assignment, Dialect, Scope

#: Protocols with endpoints that we know how to ask.
PROTOCOLS = ("imap", "pop3", "sieve", "submission")

#: Services and listeners that 2.4 has without a word in a file, and does not print: protocol, and port and TLS by name.
_DEFAULTS: dict[str, tuple[str, dict[str, tuple[str, str]]]] = {
    "imap-login": ("imap", {"imap": ("143", "no"), "imaps": ("993", "yes")}),
    "pop3-login": ("pop3", {"pop3": ("110", "no"), "pop3s": ("995", "yes")}),
    "submission-login": ("submission", {"submission": ("587", "no"), "submissions": ("465", "yes")}),
    "managesieve-login": ("sieve", {"sieve": ("4190", "no")}),
}
_FILES = {"base_dir": "/run/dovecot", "listen": "*, ::", "ssl": "yes"}


@dataclass(frozen=True)
class Effective:
    """What is effective.

    :param settings: global setting to value.
    :param endpoints: with TLS, sorted by port and address.
    :param pairs: scope to what it says of certificate and key, in the order of appearance.
    :param names: what ``local_name`` scopes say, lower case.
    :param notes: what the admin should know, full sentences.
    :param memory_limit: ``vsz_limit`` of the config process, bytes.
    :param unasked: endpoints with TLS that cannot be asked from this host, sorted likewise.
    """

    dialect: Dialect
    settings: dict[str, str]
    endpoints: tuple[Endpoint, ...]
    pairs: dict[Scope, dict[str, str]]
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    memory_limit: int = 256 << 20
    unasked: tuple[Endpoint, ...] = ()

    def served(self, sni: Optional[str]) -> tuple[Served, ...]:
        """What every endpoint serves a client that asks for ``sni``."""
        return self._served(self.endpoints, sni)

    def served_unasked(self, sni: Optional[str]) -> tuple[Served, ...]:
        """The same of those that cannot be asked from this host."""
        return self._served(self.unasked, sni)

    def _served(self, endpoints: Sequence[Endpoint], sni: Optional[str]) -> tuple[Served, ...]:
        by_place: dict[tuple[str, str], Optional[Pair]] = {}
        # Of a thousand names, all but a few are out for every endpoint.
        scopes = [scope for scope in self.pairs if all(kind != "local_name" or _named(names, sni) for kind, names in scope)]
        for one in endpoints:
            place = (one.protocol, one.address)
            if place not in by_place:
                by_place[place] = self._pair(scopes, one.protocol, one.address, sni)
        return tuple(Served(one, by_place[(one.protocol, one.address)]) for one in endpoints)

    @functools.cached_property
    def every_pair(self) -> tuple[Pair, ...]:
        """Every pair in any scope; what a scope lacks is the global one's."""
        cert, key = self.dialect.cert, self.dialect.key
        whole = self.pairs.get((), {})
        merged = [{**whole, **own} for own in self.pairs.values() if cert in own or key in own]
        return tuple(dict.fromkeys(Pair(own[cert], own[key]) for own in merged if own.get(cert) and own.get(key)))

    @functools.cached_property
    def alternatives(self) -> tuple[str, ...]:
        """The certificate files for clients of another algorithm, of every scope."""
        return tuple(dict.fromkeys(own[self.dialect.alt_cert] for own in self.pairs.values() if own.get(self.dialect.alt_cert)))

    @functools.cached_property
    def by_name(self) -> tuple[tuple[str, Pair], ...]:
        """(name, pair) of every name in a ``local_name`` scope that says both."""
        cert, key = self.dialect.cert, self.dialect.key
        return tuple(
            (name.lower(), Pair(own[cert], own[key]))
            for scope, own in self.pairs.items()
            for kind, argument in scope
            if kind == "local_name" and own.get(cert) and own.get(key)
            for name in argument.split()
        )

    def _pair(self, scopes: Iterable[Scope], protocol: str, address: str, sni: Optional[str]) -> Optional[Pair]:
        found: dict[str, str] = {}
        for scope in matching(scopes, self.dialect, protocol, address, sni):
            found.update(self.pairs[scope])
        cert, key = found.get(self.dialect.cert), found.get(self.dialect.key)
        return Pair(cert, key) if cert and key else None


def matching(
    scopes: Iterable[Scope], dialect: Dialect, protocol: str, address: str, sni: Optional[str]
) -> list[Scope]:
    """The scopes that hold for a client, the weakest first."""
    found = [scope for scope in scopes if all(_holds(kind, argument, protocol, address, sni) for kind, argument in scope)]
    if not dialect.first_wins:
        return found
    # Of equals the first in the file is the strongest, so the last comes first.
    found.reverse()
    return sorted(found, key=_weight)


def as_made(scopes: Iterable[Scope], blocks: Iterable[Scope]) -> list[Scope]:
    """Scopes in the order in which Dovecot makes its filters, and prints them: the global one, then as their blocks begin.

    :param blocks: the scopes of blocks, in the order of the files.
    """
    order = {scope: number for number, scope in reversed([*enumerate([(), *blocks])])}
    return sorted(scopes, key=lambda scope: order.get(scope, len(order)))


def name_matches(pattern: str, name: str) -> bool:
    """Whether a ``local_name`` is or covers ``name``: letter case does not count, ``*`` is one whole label."""
    want, have = _labels(pattern), _labels(name)
    return len(want) == len(have) and all(a in (b, "*") for a, b in zip(want, have))


def effective(
    dump: Sequence[Assignment], dialect: Dialect, ipv6: bool, here: Callable[[str], bool] = lambda address: True
) -> Effective:
    """Read the assignments of a dump: ``doveconf -a`` of 2.3, ``-n`` of 2.4.

    :param ipv6: whether this host has IPv6.
    :param here: whether an address is one of this host's.
    """
    settings = {**_FILES, **{a.setting: a.value for a in dump if not a.scope}}
    notes = []
    if settings["ssl"] == "no":
        notes.append("Dovecot: TLS is switched off; set ssl = yes.")
    services, listeners = _services(dump, dialect)
    protocols = _protocols(dump, settings)
    endpoints: set[Endpoint] = set()
    unasked: dict[Endpoint, str] = {}
    for (service, _), listener in listeners.items():
        protocol = services.get(service, "")
        port = listener.get("port", "0")
        if protocol not in PROTOCOLS or protocol not in protocols or port == "0" or settings["ssl"] == "no":
            continue
        proxy = "haproxy" if listener.get("haproxy") == "yes" else ""
        listen = listener.get("address") or listener.get("listen") or settings["listen"] or _FILES["listen"]
        for address in _addresses(listen, ipv6):
            one = Endpoint("Dovecot", protocol, address, int(port), listener.get("ssl") == "yes", proxy)
            if not here(address):
                unasked[one] = addresses.elsewhere(one, address)
            elif proxy and not _trusts(settings, address):
                unasked[one] = _untrusted(one)
            else:
                endpoints.add(one)
    notes += [unasked[one] for one in _sorted(unasked)]
    pairs = pairs_of(dump, dialect)
    scopes = dict.fromkeys(a.scope for a in dump)
    names = [name.lower() for scope in scopes for kind, argument in scope if kind == "local_name" for name in argument.split()]
    unique = tuple(dict.fromkeys(names))
    limit = _limit(dump, settings)
    return Effective(dialect, settings, _sorted(endpoints), pairs, unique, tuple(notes), limit, _sorted(unasked))


def _sorted(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    return tuple(sorted(endpoints, key=lambda one: (one.port, one.address, one.proxy)))


def _untrusted(one: Endpoint) -> str:
    return (
        f"{one} was not looked at: Dovecot takes connections there only from haproxy_trusted_networks, and this host is not in "
        f"them. So it is not known what it serves. To have it looked at, add {one.address} to them."
    )


def _trusts(settings: dict[str, str], address: str) -> bool:
    """Whether a listener behind a proxy takes a connection from this host to ``address``, which comes from ``address`` too.

    2.3 and 2.4 close any other connection and log a warning (docs/measured.rst).
    """
    for network in settings.get("haproxy_trusted_networks", "").replace(",", " ").split():
        with contextlib.suppress(ValueError):
            if ipaddress.ip_address(address) in ipaddress.ip_network(network.strip("[]"), strict=False):
                return True
    return False


def memory(effective: Effective) -> int:
    """Bytes that the config process is likely to need for a reload, rounded up to 64 MB.

    Measured (facts/dovecot.md): 2.3 takes 134 MB for 1,000 names, 2.4 146 MB for 10,000; a reload holds two configurations.
    """
    each = 300_000 if effective.dialect.first_wins else 30_000
    return -(-(each * len(effective.names)) // (64 << 20)) * (64 << 20)


def _limit(dump: Sequence[Assignment], settings: dict[str, str]) -> int:
    """``service config { vsz_limit }``, else ``default_vsz_limit``, else 256 MB."""
    own = [a.value for a in dump if a.scope == (("service", "config"),) and a.key == "vsz_limit"]
    for text in (*own, settings.get("default_vsz_limit", "")):
        match = re.fullmatch(r"(\d+)\s*([kMGT]?)B?", text.strip(), re.IGNORECASE)
        if match and int(match.group(1)):
            number = int(match.group(1)) << (10 * " kmgt".index(match.group(2).lower() or " "))
            # 2^64-1 bytes is how "unlimited" is written by 2.3: it means the default.
            if number < 1 << 60:
                return number
    return 256 << 20


def pairs_of(assignments: Iterable[Assignment], dialect: Dialect) -> dict[Scope, dict[str, str]]:
    """Scope to what it says of certificate and key, in the order of appearance."""
    wanted = (dialect.cert, dialect.key, dialect.alt_cert, dialect.alt_key)
    pairs: dict[Scope, dict[str, str]] = {}
    for a in assignments:
        if a.setting in wanted and all(kind in FILTERS for kind, _ in a.scope):
            pairs.setdefault(a.scope, {})[a.setting] = a.value if a.is_file else ""
    return pairs


def _services(
    dump: Sequence[Assignment], dialect: Dialect
) -> tuple[dict[str, str], dict[tuple[str, str], dict[str, str]]]:
    """Service to protocol, and (service, listener) to its settings."""
    services: dict[str, str] = {}
    listeners: dict[tuple[str, str], dict[str, str]] = {}
    if not dialect.first_wins:
        for service, (protocol, ports) in _DEFAULTS.items():
            services[service] = protocol
            for listener, (port, tls) in ports.items():
                listeners[(service, listener)] = {"port": port, "ssl": tls}
    for a in dump:
        if not a.scope or a.scope[0][0] != "service":
            continue
        if len(a.scope) == 1 and a.key == "protocol":
            services[a.scope[0][1]] = a.value
        elif len(a.scope) == 2 and a.scope[1][0] == "inet_listener":
            listeners.setdefault((a.scope[0][1], a.scope[1][1]), {})[a.key] = a.value
    return services, listeners


def _protocols(dump: Sequence[Assignment], settings: dict[str, str]) -> set[str]:
    """``protocols = imap pop3``, or in 2.4 ``protocols { imap = yes }`` too."""
    listed = {a.key for a in dump if a.scope == (("protocols", ""),) and a.value == "yes"}
    return listed | set(settings.get("protocols", "").split())


def _addresses(listen: str, ipv6: bool) -> Iterable[str]:
    """Addresses to connect to, of a ``listen`` setting."""
    for address in listen.replace(",", " ").split():
        if address in ("*", "0.0.0.0"):  # noqa: S104 (compared; nothing is bound to it)
            yield "127.0.0.1"
        elif address in ("::", "[::]"):
            if ipv6:
                yield "::1"
        else:
            yield address.strip("[]")


def _holds(kind: str, argument: str, protocol: str, address: str, sni: Optional[str]) -> bool:
    if kind == "protocol":
        return argument[1:] != protocol if argument.startswith("!") else argument == protocol
    if kind == "local_name":
        return _named(argument, sni)
    # Asking an address of our own comes from that address: remote and local are one.
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(argument, strict=False)
    except ValueError:
        return argument == address


def _named(patterns: str, sni: Optional[str]) -> bool:
    """Whether a ``local_name`` scope is for clients that ask for ``sni``."""
    return sni is not None and any(name_matches(pattern, sni) for pattern in patterns.split())


@functools.lru_cache(maxsize=65536)
def _labels(name: str) -> tuple[str, ...]:
    return tuple(name.lower().split("."))


def _weight(scope: Scope) -> tuple[int, int, int, int]:
    """How specific a scope of 2.3 is."""
    said = dict(scope)
    return ("local_name" in said, _bits(said.get("local")), _bits(said.get("remote")), "protocol" in said)


def _bits(network: Optional[str]) -> int:
    if network is None:
        return -1
    try:
        return ipaddress.ip_network(network, strict=False).prefixlen
    except ValueError:
        return 0
