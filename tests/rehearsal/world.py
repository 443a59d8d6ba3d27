"""The world of a rehearsal: a mail host, its CA, its signed zone on two name servers, two caches, and one calendar for all.

The calendar is :meth:`World.now`.  certbot runs under faketime at that date, and the CA lives in it too (``tests.lab.clock``),
so that certificates are due and expire as they would.  It begins at a fixed date, and never stands still: what is six seconds
in a cache is most of a day.  A run of certbot must take less than 48 hours, or the looks at the DNS are too far apart (rule
D26): hence the scale, which a busy machine keeps, too.

==========================  ================  ======================================================
what                        real time         stands for
==========================  ================  ======================================================
:data:`SCALE`               15 s              48 hours, the least that a rollover waits (rule D6)
the longest TTL of a cache  6 s               19 hours: no cache holds a record for longer, whatever
                                              its TTL says (``cache-max-ttl``)
a negative answer           3 s               10 hours
==========================  ================  ======================================================

Name servers and caches have the machine's clock.  What makes the two consistent: no cache ever has less than its share.  As
long as a rehearsal passes time by up to 48 hours, the calendar runs with the clock; where it jumps farther, it first stands by
until every entry of every cache has run out (more than twice the longest TTL), as it would have in that time.

The signed zone is ``example.test``.  127.0.0.2 is its primary; 127.0.0.3 the secondary, which is told of news as late as
:attr:`World.lag` says; 127.0.0.4 the cache that asks both, and the one in ``/etc/resolv.conf``; 127.0.0.5 the worst cache,
which only ever asks the secondary; 127.0.0.6 takes dynamic updates (:mod:`tests.rehearsal.border`).  127.0.0.12 and 127.0.0.13
stand in the zone as the addresses of the name servers: whoever asks there gets their answers, with dates of this calendar.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

import dns.exception
import dns.message
import dns.query
import dns.tsig

from tests.lab import distribution, lab, names, second
from tests.lab.commands import Result
from tests.lab.lab import Lab
from tests.lab.mailhost import MailHost
from tests.lab.names import PRIMARY, SECONDARY, Cache, Names, Zone
from tests.rehearsal import border

ZONE, NAME = "example.test", distribution.HOSTNAME
RESOLVER, WORST, UPDATES = "127.0.0.4", "127.0.0.5", "127.0.0.6"
FIRST, SECOND = "127.0.0.12", "127.0.0.13"
#: Seconds, real ones: the longest that a cache holds a set, and the absence of one.
TTL, NEGATIVE = 6, 3
#: Seconds of the calendar in a real one.
SCALE = 48 * 3600 / 15
#: Up to here time passes by waiting; seconds that are stood by before a longer jump.
STEP, STAND_BY = datetime.timedelta(hours=48), 2 * TTL + 0.5
#: When every rehearsal begins.
BEGIN = datetime.datetime(2030, 11, 20, 9, tzinfo=datetime.timezone.utc)
#: Ports of the host, and the names of their record sets within the zone.
PORTS = (25, 110, 143, 465, 587, 993, 995, 4190)
#: What the file for dynamic updates is.
INI = "/etc/letsencrypt/rfc2136.ini"
NOTHING = datetime.timedelta()

_TEXT = (
    f"$ORIGIN {ZONE}.\n$TTL {TTL}\n@ IN SOA ns1 hostmaster 1 3600 600 86400 {NEGATIVE}\n@ IN NS ns1\n@ IN NS ns2\n"
    f"@ IN MX 10 mail\nns1 IN A {FIRST}\nns2 IN A {SECOND}\nmail IN A 127.0.0.1\n"
)
#: The same, where the name has a second host; and where the MX host has a name that the certificate does not have.
TWO_HOSTS = _TEXT.replace("mail IN A 127.0.0.1\n", f"mail IN A {second.HERE}\nmail IN A {second.THERE}\n")
MX_HOST = _TEXT.replace("MX 10 mail", "MX 10 mx") + "mx IN A 127.0.0.1\n"
#: No cache holds anything for longer than the scale allows, forgives a signature that has expired, or remembers for long
#: that a server was down.
_OPTIONS = (
    f"  cache-max-ttl: {TTL}\n  cache-max-negative-ttl: {NEGATIVE}\n  infra-host-ttl: 1\n"
    "  val-sig-skew-min: 0\n  val-sig-skew-max: 0\n  val-bogus-ttl: 1\n"
)


@dataclass
class World:
    """It, as it is now.

    :param lag: how late the secondary is told of news, by the calendar; None for never.
    :param story: what happened, for a reader: (date, text).
    :param mx: the host whose records of port 25 count.
    :param addresses: where the judge connects to.
    """

    lab: Lab
    names: Names
    lag: Optional[datetime.timedelta] = NOTHING
    story: list[tuple[datetime.datetime, str]] = field(default_factory=list)
    mx: str = NAME
    addresses: tuple[str, ...] = ("127.0.0.1",)
    _anchor: tuple[float, datetime.datetime] = field(default_factory=lambda: (time.monotonic(), BEGIN))

    @property
    def host(self) -> MailHost:
        """The mail host."""
        return self.lab.host

    def host_of(self, port: int) -> str:
        """The host name whose records of a port count."""
        return self.mx if port == 25 else NAME

    @property
    def watched(self) -> int:
        """The port at which a change of the key is seen."""
        return 465 if self.mx == NAME else 25

    # The calendar.

    def now(self) -> datetime.datetime:
        """The date and time, UTC."""
        real, date = self._anchor
        return date + datetime.timedelta(seconds=(time.monotonic() - real) * SCALE)

    def date_of(self, moment: float) -> float:
        """A time of the machine's clock, as the calendar has it now; both in seconds since 1970."""
        return self.now().timestamp() + (moment - time.time()) * SCALE

    def advance(self, span: datetime.timedelta) -> None:
        """Let time pass."""
        self.until(self.now() + span)

    def until(self, date: datetime.datetime) -> None:
        """Let time pass until a date; nothing if it is over already."""
        left = date - self.now()
        if left > STEP:
            time.sleep(STAND_BY)
            self._anchor = (time.monotonic(), max(date, self.now()))
        elif left > NOTHING:
            time.sleep(left.total_seconds() / SCALE)

    def say(self, text: str) -> None:
        """Add to the story."""
        self.story.append((self.now(), text))

    # The programs.

    def certbot(self, *args: str, check: bool = True) -> Result:
        """Run certbot now."""
        return self.run("certbot", *args, check=check)

    def run(self, program: str, *args: str, check: bool = True, under: Sequence[str] = ()) -> Result:
        """Run a program of this environment now, ``certbot`` or ``certbot-dovecot``."""
        now = self.now()
        self.lab.acme.date(now.timestamp())
        at = f"{now:%Y-%m-%d %H:%M:%S}"
        if program == "certbot":
            result = self.host.certbot(*args, at=at, check=check, under=under)
        else:
            result = self.host.run(*under, program, *args, at=at, check=check, seconds=120)
        said = " / ".join(line.strip() for line in result.stderr.splitlines() if line.strip() and "debug log" not in line)
        self.say(f"{program} {' '.join(args)}: exit {result.code}" + (f": {said[:600]}" if said else ""))
        return result

    @contextlib.contextmanager
    def ca_down(self) -> Iterator[None]:
        """Nobody listens where the CA should be."""
        with open("/etc/hosts") as file:
            was = file.read()
        self.host.write("/etc/hosts", was.replace("127.0.0.1 localhost", "127.0.0.9 localhost").replace("::1", "#"))
        self.say("the CA is down")
        try:
            yield
        finally:
            self.host.write("/etc/hosts", was)
            self.say("the CA is back")

    # The DNS.

    def publish(self, sets: Mapping[int, Sequence[str]]) -> None:
        """What an admin does by hand, or another tool: port to all records that stand there from now on."""
        labels = {port: f"_{port}._tcp.{self.host_of(port).partition('.')[0]}" for port in sets}
        self.names.replace(ZONE, {labels[port]: records for port, records in sets.items()}, TTL)
        self.say(f"published: {sorted({len(records) for records in sets.values()})} records at {len(sets)} names")

    def records(self, port: int = 465) -> str:
        """What the primary has for a port, shortened for a reader."""
        try:
            answer = dns.query.udp(dns.message.make_query(f"_{port}._tcp.{self.host_of(port)}", "TLSA"), PRIMARY, 2)
        except (dns.exception.DNSException, OSError) as exc:
            return f"not known ({type(exc).__name__})"
        return " and ".join(sorted(data.cert.hex().upper()[:8] for rrset in answer.answer for data in rrset)) or "none"

    def stop_secondary(self) -> None:
        """The secondary dies."""
        self.names.daemons[SECONDARY].stop()
        self.say("the secondary is dead")

    def start_secondary(self) -> None:
        """It comes back, with what is on its disk."""
        self.names.daemons[SECONDARY].start()
        self.say("the secondary is back")

    def sign(self, on: bool) -> None:
        """Let a Knot sign, or stop doing so: then signatures expire, of all name servers."""
        self.names.sign(on)
        if on:
            deadline = time.monotonic() + 20
            while self.names.serial(PRIMARY, ZONE) != self.names.serial(SECONDARY, ZONE) and time.monotonic() < deadline:
                time.sleep(0.1)
            # The minute for which they believe that a key is bogus is short, but for this calendar it is weeks.
            self.names.flush()
        self.say("the primary signs again" if on else "the primary stops signing")

    def tell_secondary(self, stop: threading.Event) -> None:
        """Tell the secondary of news when :attr:`lag` is over, until ``stop``; a thread's work."""
        since: Optional[datetime.datetime] = None
        while not stop.wait(0.1):
            there, here = self.names.serial(PRIMARY, ZONE), self.names.serial(SECONDARY, ZONE)
            if there is None or here is None or there == here:
                since = None
            elif self.lag is not None:
                since = since or self.now()
                if self.now() - since >= self.lag:
                    self.names.notify(ZONE)


@contextlib.contextmanager
def enter(
    lifetime: Optional[int] = None, kind: str = "bind", signatures: int = 0, zone: str = _TEXT, mx: str = NAME
) -> Iterator[World]:
    """The world, with the mail host as just installed; once in a process.

    :param lifetime: seconds that certificates are valid; 90 days if not given.
    :param kind: of the primary, ``bind`` or ``knot``.
    :param signatures: seconds that the signatures of a Knot are valid.
    :param zone: text of the zone.
    :param mx: the host whose records of port 25 count.
    :raises Unavailable: packages or permissions are missing.
    """
    with contextlib.ExitStack() as stack:
        here = stack.enter_context(lab.enter(lifetime) if lifetime else lab.enter())
        here.host.reset()
        here.host.write("/etc/resolv.conf", f"nameserver {RESOLVER}\noptions edns0 trust-ad\n")
        caches = (Cache(RESOLVER, (PRIMARY, SECONDARY), _OPTIONS), Cache(WORST, (SECONDARY,), _OPTIONS))
        servers = stack.enter_context(names.run(kind, [Zone(ZONE, zone, signed=True)], caches, signatures))
        subprocess.run(["ip", "addr", "add", f"{UPDATES}/8", "dev", "lo"], check=True)
        stack.enter_context(border.run(UPDATES, PRIMARY, dns.tsig.Key("lab.", servers.secret, dns.tsig.HMAC_SHA256)))
        with open(os.open(INI, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(
                f"dns_rfc2136_server = {UPDATES}\ndns_rfc2136_port = 53\ndns_rfc2136_name = lab.\n"
                f"dns_rfc2136_secret = {servers.secret}\ndns_rfc2136_algorithm = HMAC-SHA256\n"
            )
        world = World(here, servers, mx=mx)
        for address, server in ((FIRST, PRIMARY), (SECOND, SECONDARY)):
            subprocess.run(["ip", "addr", "add", f"{address}/8", "dev", "lo"], check=True)
            stack.enter_context(border.ask(address, server, world.date_of))
        stop = threading.Event()
        teller = threading.Thread(target=world.tell_secondary, args=(stop,), daemon=True)
        teller.start()
        try:
            yield world
        finally:
            stop.set()
            teller.join(10)
