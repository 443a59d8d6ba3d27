"""The judge of a rehearsal: could a sender that validates DANE (RFC 7672) deliver, at every moment?

It looks all the time, in threads of its own, in three ways that know nothing of each other:

sender
    ``posttls-finger``, Postfix's own client at the level ``dane``, through the cache of the host.
worst cache
    the record set of the cache that only ever asks the secondary, given to ``openssl s_client -dane_tlsa_rrdata``.
any cache
    every name server is asked for every record set several times a second, and each distinct set is kept for as long as a cache
    may hold it that was filled at the worst moment.  Of each of these sets, one record has to match what the port serves.

A look first takes the records and then connects, as a sender does, so that a switch in between is judged as it is for one.
Where the DNS gives no answer or the server takes no connection, mail waits: that is counted, and no failure.  A judge that saw
nothing must not acquit: :meth:`Judge.verdict` says what was not looked at.
"""

from __future__ import annotations

import collections
import contextlib
import datetime
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Optional

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype

from tests.lab import commands
from tests.lab.names import PRIMARY, SECONDARY
from tests.rehearsal.world import PORTS, TTL, WORST, World

#: The three ways.
SENDER, WORST_CACHE, ANY_CACHE = "sender", "worst cache", "any cache"
WAYS = (SENDER, WORST_CACHE, ANY_CACHE)
#: Pause between two looks of a way, and between two questions to the name servers, seconds.
PAUSE, ASKED = 0.25, 0.15
#: Least number of looks of each way for a verdict.
LEAST = 10

#: Ports that the programs look at, and how each is told to begin TLS.
_FINGER = {465: ["-w"], 25: []}
_OPENSSL = {465: [], 993: [], 25: ["-starttls", "smtp"]}

Records = frozenset[tuple[int, int, int, str]]


@dataclass(frozen=True)
class Failure:
    """A moment at which a sender could not have delivered.

    :param second: since the judge began, real.
    """

    second: float
    date: datetime.datetime
    way: str
    text: str

    def __str__(self) -> str:
        return f"{self.date:%Y-%m-%d %H:%M} ({self.second:.1f} s) {self.way}: {self.text}"


class Judge:
    """It looks from :meth:`looking` on; everything that it saw is in its attributes.

    :ivar looks: way to how often it judged.
    :ivar waits: way to how often mail had to wait.
    :ivar failures: in the order of time.
    :ivar keys: the keys that the watched port served, one after the other.
    """

    def __init__(self, world: World) -> None:
        """It does not look yet."""
        self.world = world
        self.looks: collections.Counter[str] = collections.Counter()
        self.waits: collections.Counter[str] = collections.Counter()
        self.failures: list[Failure] = []
        self.keys: list[str] = []
        self.broken: list[str] = []
        self._begin = time.monotonic()
        self._stop = threading.Event()
        #: Port to each set that a cache may hold, and until when it may.
        self._held: dict[int, dict[Records, float]] = {port: {} for port in PORTS}
        self._lock = threading.Lock()
        #: Ports where a sender has found records, and when a name server last said that there are none.
        self._secured: set[int] = set()
        self._absent: dict[int, float] = {}

    @contextlib.contextmanager
    def looking(self) -> Iterator[Judge]:
        """Look, until the block ends."""
        works = (self._ask_servers, self._sender, self._worst_cache, self._any_cache)
        threads = [threading.Thread(target=self._forever, args=(work,), daemon=True) for work in works]
        self._begin = time.monotonic()
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(30)

    @property
    def switches(self) -> int:
        """How often the key changed once there were records."""
        return max(len(self.keys) - 1, 0)

    def verdict(self) -> str:
        """``safe``; or what went wrong, first of all what keeps it from judging."""
        if self.broken:
            return f"no verdict: {self.broken[0]}"
        for way in WAYS:
            if self.looks[way] < LEAST:
                return f"no verdict: {way} looked {self.looks[way]} times"
        return f"mail lost: {len(self.failures)} moments without a matching record" if self.failures else "safe"

    # The looks.

    def _forever(self, work: Callable[[], None]) -> None:
        try:
            while not self._stop.wait(ASKED if work == self._ask_servers else PAUSE):
                work()
        except Exception as exc:  # It has to be known that one of them is blind.
            self.broken.append(f"{work.__name__} ended: {type(exc).__name__}: {exc}")

    def _ask_servers(self) -> None:
        """Keep what the name servers say, for as long as a cache may."""
        for server in (PRIMARY, SECONDARY):
            for port in PORTS:
                records, ttl = _records(server, self.world.host_of(port), port, checked=False)
                if records is not None and not records:
                    self._absent[port] = time.monotonic()
                if records:
                    # Someone may ask once more before we do.
                    until = time.monotonic() + min(ttl, TTL) + 2 * ASKED
                    with self._lock:
                        self._held[port][records] = max(until, self._held[port].get(records, 0.0))

    def _any_cache(self) -> None:
        for port in PORTS:
            now = time.monotonic()
            with self._lock:
                held = [records for records, until in self._held[port].items() if until > now]
            if not held:
                continue
            for address in self.world.addresses:
                self._compare(port, address, held)

    def _compare(self, port: int, address: str, held: Iterable[Records]) -> None:
        """What an address serves with what caches hold."""
        answer = self.world.host.served(port, address, self.world.host_of(port))
        if answer.spki is None:
            self.waits[ANY_CACHE] += 1
            return
        if port == self.world.watched and address == self.world.addresses[0] and self.keys[-1:] != [answer.spki]:
            self.keys.append(answer.spki)
        self.looks[ANY_CACHE] += 1
        for records in held:
            if (3, 1, 1, answer.spki) not in records:
                self._fail(ANY_CACHE, f"{address} port {port} serves {answer.spki[:8]}, a cache holds {_short(records)}")

    def _worst_cache(self) -> None:
        for (port, how), address in itertools.product(_OPENSSL.items(), self.world.addresses):
            host = self.world.host_of(port)
            records, _ = _records(WORST, host, port, checked=True)
            if records is None:
                self.waits[WORST_CACHE] += 1
            if not records:
                continue
            given = [word for data in sorted(records) for word in ("-dane_tlsa_rrdata", " ".join(map(str, data)))]
            # With usage 3, a client that delivers mail checks no name (RFC 7672 section 3.1.1).
            asked = ("-brief", "-dane_ee_no_namechecks", "-dane_tlsa_domain", host)
            said = self._program("openssl", "s_client", "-connect", f"{address}:{port}", *asked, *given, *how)
            if "matched EE certificate" in said:
                self.looks[WORST_CACHE] += 1
            elif "CONNECTION ESTABLISHED" in said:
                self.looks[WORST_CACHE] += 1
                error = _line(said, "Verification error")
                self._fail(WORST_CACHE, f"openssl, {address} port {port}: {error}; it holds {_short(records)}")
            else:
                self.waits[WORST_CACHE] += 1

    def _sender(self) -> None:
        for port, how in _FINGER.items():
            where = f"[{self.world.host_of(port)}]:{port}"
            said = self._program("posttls-finger", "-c", "-l", "dane", "-Lsummary", *how, where)
            if "Verified TLS connection established" in said:
                self.looks[SENDER] += 1
                self._secured.add(port)
            elif "Untrusted TLS connection established" not in said:
                self.waits[SENDER] += 1
            elif "no matching DANE TLSA records" in said or self._has_to_be_secure(port):
                self.looks[SENDER] += 1
                self._fail(SENDER, f"posttls-finger, port {port}: {_line(said, 'verification failed')}")

    def _has_to_be_secure(self, port: int) -> bool:
        """Whether no cache can hold that there are no records: then a connection without them is a failure too."""
        return port in self._secured and time.monotonic() - self._absent.get(port, 0.0) > 2 * TTL

    def _program(self, *argv: str) -> str:
        """All that a program says; bounded in time."""
        try:
            result = commands.run(argv, env=self.world.host.environment(), check=False, seconds=15)
        except commands.Failed as exc:
            return str(exc)
        return result.stdout + result.stderr

    def _fail(self, way: str, text: str) -> None:
        self.failures.append(Failure(time.monotonic() - self._begin, self.world.now(), way, text))


def _records(server: str, host: str, port: int, checked: bool) -> tuple[Optional[Records], int]:
    """The TLSA set of a port as a server gives it, and its TTL; None if it does not say.

    :param checked: whether only what a validating cache calls secure counts.
    """
    query = dns.message.make_query(f"_{port}._tcp.{host}", dns.rdatatype.TLSA, use_edns=0)
    query.flags = (query.flags | dns.flags.AD) if checked else (query.flags & ~dns.flags.RD)
    try:
        answer = dns.query.udp(query, server, 2)
    except (dns.exception.DNSException, OSError):
        return None, 0
    if answer.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        return None, 0
    found = [rrset for rrset in answer.answer if rrset.rdtype == dns.rdatatype.TLSA]
    if checked and not answer.flags & dns.flags.AD:
        return frozenset(), 0
    data = [(one.usage, one.selector, one.mtype, one.cert.hex().upper()) for rrset in found for one in rrset]
    return frozenset(data), max((rrset.ttl for rrset in found), default=0)


def _short(records: Records) -> str:
    return " and ".join(sorted(digest[:8] for _, _, _, digest in records))


def _line(text: str, word: str) -> str:
    return next((line.strip() for line in text.splitlines() if word in line), text.strip()[-200:])
