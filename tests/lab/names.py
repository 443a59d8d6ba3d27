"""Name servers of the lab: a primary and a secondary of BIND, and a cache of Unbound that validates; or Knot as the primary.

They run inside the lab's namespace, on addresses of 127/8 that they have to themselves: 127.0.0.2 the primary, 127.0.0.3 the
secondary, 127.0.0.4 the cache.  Zones, and what is known of each: ``secure.test`` is signed, and the cache knows its key;
``bogus.test`` is signed, and the cache believes in another key; ``plain.test`` is not signed; ``lame.test`` names the
secondary, which does not have it.  No NOTIFY is ever sent, so that the secondary lags behind every update.

TSIG wants both sides to have one clock, so Knot's can be set (:meth:`Names.set_clock`) to that of a certbot which runs under
faketime; BIND's cannot, for its allocator does not bear faketime's library.  Knot's signatures are valid for many years, and
the cache does not mind when they were made.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import glob
import os
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.query
import dns.rdatatype
import dns.tsig
import dns.tsigkeyring
import dns.update

from tests.lab import namespace, packages
from tests.lab.namespace import Unavailable

PRIMARY, SECONDARY, CACHE = "127.0.0.2", "127.0.0.3", "127.0.0.4"
SIGNED, PLAIN, LAME = ("secure.test", "bogus.test"), "plain.test", "lame.test"
ZONES = (*SIGNED, PLAIN, LAME)
#: In every zone, at ``_25._tcp.mail``; its time to live, and that of a negative answer, seconds.
RECORD, TTL, NEGATIVE = f"3 1 1 {'AB' * 32}", 3, 2
_KEY = "lab."


@dataclass(frozen=True)
class Names:
    """The name servers that run.

    :param directory: of their files.
    :param secret: of the TSIG key, base64.
    """

    directory: str
    secret: str

    def update(self, zone: str, *lines: tuple[str, str]) -> None:
        """Add TLSA records on the primary (RFC 2136): (name within the zone, data)."""
        change = dns.update.UpdateMessage(
            zone, keyring=dns.tsigkeyring.from_text({_KEY: self.secret}), keyalgorithm=dns.tsig.HMAC_SHA256
        )
        for name, data in lines:
            change.add(name, TTL, "TLSA", data)
        answer = dns.query.tcp(change, PRIMARY, 5)
        if answer.rcode():
            raise Unavailable(f"the primary refuses an update of {zone}: {answer}")


    def set_clock(self, at: str) -> None:
        """Set the primary's clock; only Knot has one that can be set.

        :param at: UTC, ``2027-01-25 12:00:00``; it runs on from there.
        """
        then = datetime.datetime.fromisoformat(at).replace(tzinfo=datetime.timezone.utc)
        seconds = (then - datetime.datetime.now(datetime.timezone.utc)).total_seconds()
        _write(f"{self.directory}/clock", f"{seconds:+.0f}\n")

    def catch_up(self, seconds: float = 10) -> None:
        """Let the secondary hear of what the primary has: a NOTIFY for each zone (RFC 1996), and wait until it has it.

        And until the cache holds nothing older.
        """
        deadline = time.monotonic() + seconds
        for zone in (zone for zone in ZONES if zone != LAME):
            while _serial(PRIMARY, zone) != _serial(SECONDARY, zone):
                if time.monotonic() > deadline:
                    raise Unavailable(f"the secondary does not take {zone} from the primary")
                notify = dns.message.make_query(zone, dns.rdatatype.SOA)
                notify.set_opcode(dns.opcode.NOTIFY)
                notify.flags |= dns.flags.AA
                with contextlib.suppress(dns.exception.DNSException, OSError):
                    dns.query.udp(notify, SECONDARY, 1, source=PRIMARY)
                time.sleep(0.1)
        time.sleep(TTL)


@contextlib.contextmanager
def run(kind: str = "bind") -> Iterator[Names]:
    """Start them; to be called inside a lab.

    :param kind: of the primary, ``bind`` or ``knot``.
    :raises Unavailable: packages are missing, or one does not start.
    """
    lacking = packages.missing(packages.NAME_SERVERS)
    if lacking:
        raise Unavailable(f"the name servers need the packages {' '.join(lacking)}")
    for address in (PRIMARY, SECONDARY, CACHE):
        subprocess.run(["ip", "addr", "add", f"{address}/8", "dev", "lo"], check=False, capture_output=True)
    names = Names(f"{namespace.PLACE}/names-{kind}-{time.monotonic_ns()}", base64.b64encode(secrets.token_bytes(32)).decode())
    for part in ("primary", "secondary", "cache"):
        os.makedirs(f"{names.directory}/{part}")
    running: list[subprocess.Popen[bytes]] = []
    try:
        _primary(names, kind, running)
        _secondary(names, running)
        _cache(names, running)
        yield names
    finally:
        for process in running:
            process.kill()
            process.wait(10)


def _zone(zone: str) -> str:
    return (
        f"$ORIGIN {zone}.\n$TTL {TTL}\n@ IN SOA ns1 hostmaster 1 3600 600 86400 {NEGATIVE}\n@ IN NS ns1\n@ IN NS ns2\n"
        f"ns1 IN A {PRIMARY}\nns2 IN A {SECONDARY}\nmail IN A 127.0.0.1\n_25._tcp.mail IN TLSA {RECORD}\n"
        "_dane IN TLSA " + RECORD + "\n_465._tcp.mail IN CNAME _dane\n"
    )


def _primary(names: Names, kind: str, running: list[subprocess.Popen[bytes]]) -> None:
    place = f"{names.directory}/primary"
    for zone in ZONES:
        _write(f"{place}/{zone}", _zone(zone))
    if kind == "knot":
        zones = "".join(
            f"  - domain: {zone}\n    file: {place}/{zone}\n    acl: [ all, upd ]\n" + _knot_signing(zone) for zone in ZONES
        )
        _write(
            f"{place}/conf",
            f"server:\n  listen: {PRIMARY}@53\n  rundir: {place}\n  user: root\ndatabase:\n  storage: {place}\n"
            f"log:\n  - target: stderr\n    any: info\n"
            f"key:\n  - id: lab\n    algorithm: hmac-sha256\n    secret: {names.secret}\n"
            "acl:\n  - id: all\n    address: 127.0.0.0/8\n    action: transfer\n"
            "  - id: upd\n    key: lab\n    action: update\n"
            "policy:\n  - id: lab\n    single-type-signing: on\n    algorithm: ecdsap256sha256\n"
            "    rrsig-lifetime: 7000d\n    rrsig-refresh: 1d\n"
            f"zone:\n{zones}",
        )
        command = ["/usr/sbin/knotd", "-c", f"{place}/conf"]
    else:
        zones = "".join(
            f'zone "{zone}" {{ type primary; file "{place}/{zone}"; allow-update {{ key "lab"; }};'
            + (' dnssec-policy "lab"; inline-signing yes;' if zone in SIGNED else "")
            + " };\n"
            for zone in ZONES
        )
        _write(
            f"{place}/conf",
            f'key "lab" {{ algorithm hmac-sha256; secret "{names.secret}"; }};\n'
            'dnssec-policy "lab" { keys { csk lifetime unlimited algorithm ecdsap256sha256; }; dnskey-ttl 5;'
            " publish-safety 0; zone-propagation-delay 1; };\n" + _options(place, PRIMARY) + zones,
        )
        command = ["/usr/sbin/named", "-c", f"{place}/conf", "-g"]
    _write(f"{names.directory}/clock", "+0\n")
    _start(command, place, running, _clock(names) if kind == "knot" else {})
    for zone in ZONES:
        _wait_for(PRIMARY, zone, zone in SIGNED, place)


def _clock(names: Names) -> dict[str, str]:
    """The environment of a process whose clock :meth:`Names.set_clock` sets."""
    library = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1") or glob.glob("/usr/lib64/faketime/libfaketimeMT.so.1")
    return {
        "LD_PRELOAD": library[0], "FAKETIME_TIMESTAMP_FILE": f"{names.directory}/clock", "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip


def _knot_signing(zone: str) -> str:
    return "    dnssec-signing: on\n    dnssec-policy: lab\n" if zone in SIGNED else ""


def _secondary(names: Names, running: list[subprocess.Popen[bytes]]) -> None:
    place = f"{names.directory}/secondary"
    zones = "".join(
        f'zone "{zone}" {{ type secondary; primaries {{ {PRIMARY}; }}; transfer-source {SECONDARY};'
        f' file "{place}/{zone}"; }};\n'
        for zone in ZONES
        if zone != LAME
    )
    _write(f"{place}/conf", _options(place, SECONDARY) + zones)
    _start(["/usr/sbin/named", "-c", f"{place}/conf", "-g"], place, running)
    for zone in ZONES:
        if zone != LAME:
            _wait_for(SECONDARY, zone, zone in SIGNED, place)


def _options(place: str, address: str) -> str:
    return (
        f'options {{ directory "{place}"; listen-on {{ {address}; }}; listen-on-v6 {{ none; }}; recursion no; notify no;'
        f' pid-file none; session-keyfile "{place}/session.key"; allow-transfer {{ any; }}; }};\ncontrols {{ }};\n'
    )


def _cache(names: Names, running: list[subprocess.Popen[bytes]]) -> None:
    place = f"{names.directory}/cache"
    key = _ask(PRIMARY, "secure.test", dns.rdatatype.DNSKEY)
    assert key is not None
    data = next(rdata.to_text() for rrset in key.answer if rrset.rdtype == dns.rdatatype.DNSKEY for rdata in rrset)
    _write(f"{place}/anchors", "".join(f"{zone}. IN DNSKEY {data}\n" for zone in SIGNED))
    stubs = "".join(f'stub-zone:\n  name: "{zone}"\n  stub-addr: {PRIMARY}\n  stub-addr: {SECONDARY}\n' for zone in ZONES)
    _write(
        f"{place}/conf",
        f'server:\n  interface: {CACHE}\n  do-not-query-localhost: no\n  local-zone: "test." nodefault\n  chroot: ""\n'
        f'  username: ""\n  directory: "{place}"\n  pidfile: ""\n  use-syslog: no\n  trust-anchor-file: "{place}/anchors"\n'
        '  val-override-date: "-1"\n'
        '  domain-insecure: "."\n  access-control: 127.0.0.0/8 allow\n  module-config: "validator iterator"\n'
        f"remote-control:\n  control-enable: no\n{stubs}",
    )
    _start(["/usr/sbin/unbound", "-d", "-c", f"{place}/conf"], place, running)
    _wait_for(CACHE, PLAIN, False, place)


def _start(
    command: list[str], place: str, running: list[subprocess.Popen[bytes]], env: Mapping[str, str] = MappingProxyType({})
) -> None:
    # A file, not a pipe that nobody reads.
    with open(f"{place}/log", "wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=place, env={**os.environ, **env}
        )
    running.append(process)


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


def _serial(address: str, zone: str) -> object:
    answer = _ask(address, zone, dns.rdatatype.SOA)
    found = [rdata.serial for rrset in answer.answer for rdata in rrset if hasattr(rdata, "serial")] if answer else []
    return found or address


def _ask(address: str, name: str, kind: dns.rdatatype.RdataType):
    query = dns.message.make_query(name, kind, want_dnssec=True)
    try:
        return dns.query.udp(query, address, 1)
    except (dns.exception.DNSException, OSError):
        return None


def _write(path: str, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
