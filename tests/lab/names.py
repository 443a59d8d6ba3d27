"""Name servers of the lab: a primary and a secondary of BIND, and caches of Unbound that validate; or Knot as the primary.

They run inside the lab's namespace, on addresses of 127/8 that they have to themselves: 127.0.0.2 the primary, 127.0.0.3 the
secondary, 127.0.0.4 the cache.  No NOTIFY is ever sent by the primary, so that the secondary lags behind every update until
:meth:`Names.catch_up`.  Each of them can be stopped, and started again with what is on its disk.

Zones of the tests, and what is known of each: ``secure.test`` is signed, and the cache knows its key; ``bogus.test`` is signed,
and the cache believes in another key; ``plain.test`` is not signed; ``lame.test`` names the secondary, which does not have it.
Other zones and caches may be given to :func:`run`.

TSIG wants both sides to have one clock, so Knot's can be set (:meth:`Names.set_clock`) to that of a certbot which runs under
faketime; BIND's cannot, for its allocator does not bear faketime's library.  Knot's signatures are valid for many years, and
the cache does not mind when they were made, unless :func:`run` is told otherwise.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import glob
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Optional

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.query
import dns.rdatatype
import dns.tsig
import dns.tsigkeyring
import dns.update

from tests.lab import namespace, packages, quiet
from tests.lab.namespace import Unavailable

PRIMARY, SECONDARY, CACHE = "127.0.0.2", "127.0.0.3", "127.0.0.4"
SIGNED, PLAIN, LAME = ("secure.test", "bogus.test"), "plain.test", "lame.test"
ZONES = (*SIGNED, PLAIN, LAME)
#: In every zone, at ``_25._tcp.mail``; its time to live, and that of a negative answer, seconds.
RECORD, TTL, NEGATIVE = f"3 1 1 {'AB' * 32}", 3, 2
_KEY = "lab."


@dataclass(frozen=True)
class Zone:
    """A zone of the primary.

    :param text: its file.
    :param signed: whether the primary signs it.
    :param key_of: the zone whose key the caches believe to be its own; empty for itself.
    :param lame: whether the secondary does not have it.
    :param updates: whether the primary, a Knot, takes updates of it.
    """

    name: str
    text: str
    signed: bool = False
    key_of: str = ""
    lame: bool = False
    updates: bool = True


@dataclass(frozen=True)
class Cache:
    """A cache that validates.

    :param asks: the name servers that it knows.
    :param options: further lines of its configuration's ``server:``; by default, that the dates of signatures do not matter.
    """

    address: str = CACHE
    asks: tuple[str, ...] = (PRIMARY, SECONDARY)
    options: str = '  val-override-date: "-1"\n'


class Daemon:
    """A name server: a process, and a directory that outlives it."""

    def __init__(self, place: str, *command: str, env: Mapping[str, str] = MappingProxyType({})) -> None:
        """Nothing runs yet.

        :param env: what its environment has beside this one's.
        """
        self.place, self._command, self._env = place, command, env
        self._process: Optional[subprocess.Popen[bytes]] = None

    def start(self) -> None:
        """Start it; nothing if it runs."""
        if self._process is None:
            # A file, not a pipe that nobody reads.
            with open(f"{self.place}/log", "ab") as log:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.place,
                    env={**os.environ, **self._env},
                )

    def freeze(self, frozen: bool = True) -> None:
        """Let it be silent, or speak again: the machine is there, and nothing answers."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def stop(self, gently: bool = False) -> None:
        """End it, as a loss of power does, or as an admin does; nothing if it does not run."""
        if self._process is not None:
            if gently:
                self._process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(10)
            self._process.kill()
            self._process.wait(10)
            self._process = None


@dataclass(frozen=True)
class Names:
    """The name servers that run.

    :param directory: of their files.
    :param secret: of the TSIG key, base64.
    :param kind: of the primary, ``bind`` or ``knot``.
    :param lifetime: seconds that signatures of a Knot are valid; 0 for many years.
    :param daemons: address to what runs there.
    """

    directory: str
    secret: str
    kind: str = "bind"
    zones: tuple[Zone, ...] = ()
    lifetime: int = 0
    daemons: dict[str, Daemon] = field(default_factory=dict)

    def update(self, zone: str, *lines: tuple[str, str]) -> None:
        """Add TLSA records on the primary (RFC 2136): (name within the zone, data)."""
        change = self._change(zone)
        for name, data in lines:
            change.add(name, TTL, "TLSA", data)
        self._send(change)

    def replace(self, zone: str, sets: Mapping[str, Sequence[str]], ttl: int = TTL) -> None:
        """Put TLSA sets in the place of what is there: name within the zone to data; an empty set goes."""
        change = self._change(zone)
        for name, records in sets.items():
            change.delete(name, "TLSA")
            for data in records:
                change.add(name, ttl, "TLSA", data)
        self._send(change)

    def address(self, zone: str, name: str, *addresses: str) -> None:
        """Put IPv4 addresses of a host in the place of those that are there."""
        change = self._change(zone)
        change.delete(name, "A")
        for one in addresses:
            change.add(name, TTL, "A", one)
        self._send(change)

    def set_clock(self, at: str) -> None:
        """Set the primary's clock; only Knot has one that can be set.

        :param at: UTC, ``2027-01-25 12:00:00``; it runs on from there.
        """
        then = datetime.datetime.fromisoformat(at).replace(tzinfo=datetime.timezone.utc)
        seconds = (then - datetime.datetime.now(datetime.timezone.utc)).total_seconds()
        _write(f"{self.directory}/clock", f"{seconds:+.0f}\n")

    def serial(self, address: str, zone: str) -> Optional[int]:
        """The serial number that a name server has of a zone; None if it does not say."""
        answer = _ask(address, zone, dns.rdatatype.SOA)
        found = [rrset for rrset in answer.answer if rrset.rdtype == dns.rdatatype.SOA] if answer is not None else []
        return int(found[0][0].serial) if found else None

    def catch_up(self, seconds: float = 10) -> None:
        """Let the secondary hear of what the primary has, and wait until it has it, and the caches hold nothing older."""
        deadline = time.monotonic() + seconds
        for zone in (zone.name for zone in self.zones if not zone.lame):
            while self.serial(PRIMARY, zone) != self.serial(SECONDARY, zone):
                if time.monotonic() > deadline:
                    raise Unavailable(f"the secondary does not take {zone} from the primary")
                self.notify(zone)
                time.sleep(0.1)
        time.sleep(TTL)

    def notify(self, zone: str) -> None:
        """Tell the secondary that there is something new (RFC 1996), in the name of the primary; it fetches it at once."""
        notify = dns.message.make_query(zone, dns.rdatatype.SOA)
        notify.set_opcode(dns.opcode.NOTIFY)
        notify.flags = (notify.flags & ~dns.flags.RD) | dns.flags.AA
        with contextlib.suppress(dns.exception.DNSException, OSError):
            dns.query.udp(notify, SECONDARY, 1, source=PRIMARY)

    def sign(self, on: bool) -> None:
        """Restart a Knot that signs from now on, or that serves the signatures which it has until they expire, and after."""
        primary = self.daemons[PRIMARY]
        primary.stop(gently=True)
        _write(f"{primary.place}/conf", _knot(self, on))
        primary.start()
        for zone in self.zones:
            _wait_for(PRIMARY, zone.name, zone.signed, primary.place)

    def flush(self) -> None:
        """Start the caches anew, with nothing in them: Unbound believes for a minute that a key is bogus."""
        for address, daemon in self.daemons.items():
            if address not in (PRIMARY, SECONDARY):
                daemon.stop()
                daemon.start()
                _wait_for(address, self.zones[0].name, False, daemon.place)

    def _change(self, zone: str) -> dns.update.UpdateMessage:
        return dns.update.UpdateMessage(
            zone, keyring=dns.tsigkeyring.from_text({_KEY: self.secret}), keyalgorithm=dns.tsig.HMAC_SHA256
        )

    def _send(self, change: dns.update.UpdateMessage) -> None:
        answer = dns.query.tcp(change, PRIMARY, 5)
        if answer.rcode():
            raise Unavailable(f"the primary refuses an update: {answer}")


@contextlib.contextmanager
def run(
    kind: str = "bind",
    zones: Optional[Sequence[Zone]] = None,
    caches: Sequence[Cache] = (Cache(),),
    lifetime: int = 0,
) -> Iterator[Names]:
    """Start them; to be called inside a lab.

    :param kind: of the primary, ``bind`` or ``knot``.
    :param zones: those of the tests if none are given.
    :param lifetime: seconds that signatures of a Knot are valid; 0 for many years.
    :raises Unavailable: packages are missing, or one does not start.
    """
    lacking = packages.missing(packages.NAME_SERVERS)
    if lacking:
        raise Unavailable(f"the name servers need the packages {' '.join(lacking)}")
    for address in (PRIMARY, SECONDARY, *(cache.address for cache in caches)):
        subprocess.run(["ip", "addr", "add", f"{address}/8", "dev", "lo"], check=False, capture_output=True)
    names = Names(
        f"{namespace.PLACE}/names-{kind}-{time.monotonic_ns()}",
        base64.b64encode(secrets.token_bytes(32)).decode(),
        kind,
        tuple(_tests() if zones is None else zones),
        lifetime,
    )
    try:
        _primary(names)
        _secondary(names)
        for cache in caches:
            _cache(names, cache)
        yield names
    finally:
        for daemon in names.daemons.values():
            daemon.stop()


def serve(names: Names, address: str, zone: str, text: str) -> None:
    """Start one name server more, a Knot that has a single zone and does not sign it; it ends with the others."""
    subprocess.run(["ip", "addr", "add", f"{address}/8", "dev", "lo"], check=False, capture_output=True)
    daemon = _daemon(names, address, f"more-{address}", "/usr/sbin/knotd", "-c", "{place}/conf")
    place = daemon.place
    _write(f"{place}/zone", text)
    _write(
        f"{place}/conf",
        f"server:\n  listen: {address}@53\n  rundir: {place}\n  user: root\ndatabase:\n  storage: {place}\n"
        f"log:\n  - target: stderr\n    any: info\nzone:\n  - domain: {zone}\n    file: {place}/zone\n",
    )
    daemon.start()
    _wait_for(address, zone, False, place)


def _tests() -> list[Zone]:
    """The zones that tests ask for."""
    return [Zone(zone, _zone(zone), zone in SIGNED, "secure.test" if zone in SIGNED else "", zone == LAME) for zone in ZONES]


def _zone(zone: str) -> str:
    return (
        f"$ORIGIN {zone}.\n$TTL {TTL}\n@ IN SOA ns1 hostmaster 1 3600 600 86400 {NEGATIVE}\n@ IN NS ns1\n@ IN NS ns2\n"
        f"ns1 IN A {PRIMARY}\nns2 IN A {SECONDARY}\nmail IN A 127.0.0.1\n_25._tcp.mail IN TLSA {RECORD}\n"
        "_dane IN TLSA " + RECORD + "\n_465._tcp.mail IN CNAME _dane\n"
    )


def _daemon(names: Names, address: str, part: str, *command: str, env: Mapping[str, str] = MappingProxyType({})) -> Daemon:
    """A daemon with a directory of its own, for which ``{place}`` of its command stands."""
    place = f"{names.directory}/{part}"
    os.makedirs(place, exist_ok=True)
    names.daemons[address] = Daemon(place, *(word.format(place=place) for word in command), env=env)
    return names.daemons[address]


def _primary(names: Names) -> None:
    if names.kind == "knot":
        daemon = _daemon(names, PRIMARY, "primary", "/usr/sbin/knotd", "-c", "{place}/conf", env=_clock(names))
        _write(f"{names.directory}/clock", "+0\n")
        _write(f"{daemon.place}/conf", _knot(names, True))
    else:
        daemon = _daemon(names, PRIMARY, "primary", "/usr/sbin/named", "-c", "{place}/conf", "-g")
        zones = "".join(
            f'zone "{zone.name}" {{ type primary; file "{daemon.place}/{zone.name}"; allow-update {{ key "lab"; }};'
            + (' dnssec-policy "lab"; inline-signing yes;' if zone.signed else "")
            + " };\n"
            for zone in names.zones
        )
        _write(
            f"{daemon.place}/conf",
            f'key "lab" {{ algorithm hmac-sha256; secret "{names.secret}"; }};\n'
            'dnssec-policy "lab" { keys { csk lifetime unlimited algorithm ecdsap256sha256; }; dnskey-ttl 5;'
            " publish-safety 0; zone-propagation-delay 1; };\n" + _options(daemon.place, PRIMARY) + zones,
        )
    for zone in names.zones:
        _write(f"{daemon.place}/{zone.name}", zone.text)
    daemon.start()
    for zone in names.zones:
        _wait_for(PRIMARY, zone.name, zone.signed, daemon.place)


def _clock(names: Names) -> dict[str, str]:
    """The environment of a process whose clock :meth:`Names.set_clock` sets."""
    library = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1") or glob.glob("/usr/lib64/faketime/libfaketimeMT.so.1")
    return {
        "LD_PRELOAD": library[0], "FAKETIME_TIMESTAMP_FILE": f"{names.directory}/clock", "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip


def _knot(names: Names, signing: bool) -> str:
    place, seconds = f"{names.directory}/primary", names.lifetime
    # Half of the time is over when they are made anew; nothing else is to be waited for.
    short = (
        f"    rrsig-lifetime: {seconds}s\n    rrsig-refresh: {seconds // 2}s\n    rrsig-pre-refresh: 1s\n"
        f"    propagation-delay: 0s\n    dnskey-ttl: 1s\n    zone-max-ttl: {seconds // 6}s\n"
        if seconds
        else "    rrsig-lifetime: 7000d\n    rrsig-refresh: 1d\n"
    )
    zones = "".join(
        f"  - domain: {zone.name}\n    file: {place}/{zone.name}\n    acl: [ all{', upd' if zone.updates else ''} ]\n"
        + ("    dnssec-signing: on\n    dnssec-policy: lab\n" if zone.signed and signing else "")
        for zone in names.zones
    )
    return (
        f"server:\n  listen: {PRIMARY}@53\n  rundir: {place}\n  user: root\ndatabase:\n  storage: {place}\n"
        f"log:\n  - target: stderr\n    any: info\n"
        f"key:\n  - id: lab\n    algorithm: hmac-sha256\n    secret: {names.secret}\n"
        "acl:\n  - id: all\n    address: 127.0.0.0/8\n    action: transfer\n"
        "  - id: upd\n    key: lab\n    action: update\n"
        f"policy:\n  - id: lab\n    single-type-signing: on\n    algorithm: ecdsap256sha256\n{short}"
        f"zone:\n{zones}"
    )


def _secondary(names: Names) -> None:
    daemon = _daemon(names, SECONDARY, "secondary", "/usr/sbin/named", "-c", "{place}/conf", "-g")
    present = [zone for zone in names.zones if not zone.lame]
    zones = "".join(
        f'zone "{zone.name}" {{ type secondary; primaries {{ {PRIMARY}; }}; transfer-source {SECONDARY};'
        f' file "{daemon.place}/{zone.name}"; }};\n'
        for zone in present
    )
    _write(f"{daemon.place}/conf", _options(daemon.place, SECONDARY) + zones)
    daemon.start()
    for zone in present:
        _wait_for(SECONDARY, zone.name, zone.signed, daemon.place)


def _options(place: str, address: str) -> str:
    return (
        f'options {{ directory "{place}"; listen-on {{ {address}; }}; listen-on-v6 {{ none; }}; recursion no; notify no;'
        f' pid-file none; session-keyfile "{place}/session.key"; allow-transfer {{ any; }}; }};\ncontrols {{ }};\n'
    )


def _cache(names: Names, cache: Cache) -> None:
    daemon = _daemon(names, cache.address, f"cache-{cache.address}", "/usr/sbin/unbound", "-d", "-c", "{place}/conf")
    place = daemon.place
    signed = [zone for zone in names.zones if zone.signed]
    _write(f"{place}/anchors", "".join(f"{zone.name}. IN DNSKEY {_key(zone.key_of or zone.name)}\n" for zone in signed))
    asked = "".join(f"  stub-addr: {address}\n" for address in cache.asks)
    stubs = "".join(f'stub-zone:\n  name: "{zone.name}"\n{asked}' for zone in names.zones)
    # Every other name is answered as well: by the server that says that there is nothing.
    stubs += f'stub-zone:\n  name: "."\n  stub-addr: {quiet.ADDRESS}\n'
    _write(
        f"{place}/conf",
        f'server:\n  interface: {cache.address}\n  do-not-query-localhost: no\n  local-zone: "test." nodefault\n  chroot: ""\n'
        f'  username: ""\n  directory: "{place}"\n  pidfile: ""\n  use-syslog: no\n  trust-anchor-file: "{place}/anchors"\n'
        '  domain-insecure: "."\n  access-control: 127.0.0.0/8 allow\n  module-config: "validator iterator"\n'
        f"{cache.options}remote-control:\n  control-enable: no\n{stubs}",
    )
    daemon.start()
    _wait_for(cache.address, next(zone.name for zone in names.zones if not zone.key_of), False, place)


def _key(zone: str) -> str:
    """The data of a zone's DNSKEY."""
    key = _ask(PRIMARY, zone, dns.rdatatype.DNSKEY)
    assert key is not None
    return next(rdata.to_text() for rrset in key.answer if rrset.rdtype == dns.rdatatype.DNSKEY for rdata in rrset)


def _wait_for(address: str, zone: str, signed: bool, place: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while True:
        answer = _ask(address, zone, dns.rdatatype.SOA)
        if answer is not None and answer.answer and (not signed or len(answer.answer) > 1):
            return
        if time.monotonic() > deadline:
            with open(f"{place}/log", errors="replace") as log:
                raise Unavailable(f"{address} does not serve {zone}: {answer}\n{log.read()[-3000:]}")
        time.sleep(0.02)


def _ask(address: str, name: str, kind: dns.rdatatype.RdataType):
    query = dns.message.make_query(name, kind, want_dnssec=True)
    try:
        return dns.query.udp(query, address, 1)
    except (dns.exception.DNSException, OSError):
        return None


def _write(path: str, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
