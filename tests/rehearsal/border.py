"""The border between two calendars: a server for dynamic updates, in front of the primary, that tells it another date.

certbot runs under faketime, years from now, and signs its updates with the date that it knows (TSIG, RFC 8945); the primary has
the machine's clock, and refuses what is signed more than five minutes from it.  So an update is sent here.  Its signature is
verified for the date that it bears; then what was signed, not a byte of it changed, is signed again for today and given to the
primary.  The answer goes back the same way.  A signature that is wrong is passed on as it is, for the primary to refuse.

Questions have a border too (:func:`ask`): answers bear the dates of the zone's signatures (RFC 4034 section 3.1.5), and a look
from another year would prove nothing (rule D26).  So these dates are told in the calendar of who asks.  The signatures do not
fit any more then; whoever asks name servers here leaves validating to a cache, which asks them directly.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Iterator
from typing import Callable, Optional

import dns.exception
import dns.message
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TSIG
import dns.tsig

#: How long one exchange may take, seconds.
SECONDS = 10.0


@contextlib.contextmanager
def run(address: str, primary: str, key: dns.tsig.Key) -> Iterator[None]:
    """Listen on TCP port 53 of ``address`` for what is meant for ``primary``."""

    class Exchange(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.settimeout(SECONDS)
            with contextlib.suppress(OSError, EOFError, IndexError, struct.error, dns.exception.DNSException):
                while True:
                    _send(self.request, _translate(_receive(self.request), primary, key))

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address, daemon_threads = True, True

    with Server((address, 53), Exchange) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join(SECONDS)


@contextlib.contextmanager
def ask(address: str, server: str, date_of: Callable[[float], float]) -> Iterator[None]:
    """Listen on port 53 of ``address``, by UDP and TCP, for questions to the name server ``server``.

    :param date_of: a time of the machine's clock, as the calendar has it; both in seconds since 1970.
    """

    def answer(question: bytes) -> bytes:
        said = dns.message.from_wire(_ask(server, question))
        for rrset in [*said.answer, *said.authority]:
            if rrset.rdtype == dns.rdatatype.RRSIG:
                dates = [{name: _date(date_of(getattr(one, name))) for name in ("inception", "expiration")} for one in rrset]
                changed = [one.replace(**date) for one, date in zip(rrset, dates)]
                rrset.clear()
                for one in changed:
                    rrset.add(one)
        return said.to_wire(max_size=65535)

    class Stream(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.settimeout(SECONDS)
            with contextlib.suppress(OSError, EOFError, struct.error, dns.exception.DNSException):
                _send(self.request, answer(_receive(self.request)))

    class Datagram(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            question, to = self.request
            with contextlib.suppress(OSError, EOFError, struct.error, dns.exception.DNSException):
                to.sendto(answer(question), self.client_address)

    class Streams(socketserver.ThreadingTCPServer):
        allow_reuse_address, daemon_threads = True, True

    class Datagrams(socketserver.ThreadingUDPServer):
        daemon_threads = True

    with Streams((address, 53), Stream) as streams, Datagrams((address, 53), Datagram) as datagrams:
        threads = [threading.Thread(target=one.serve_forever, args=(0.05,), daemon=True) for one in (streams, datagrams)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            for one, thread in zip((streams, datagrams), threads):
                one.shutdown()
                thread.join(SECONDS)


def _date(seconds: float) -> int:
    """As a signature can have it."""
    return int(min(max(seconds, 0), 2**32 - 1))


def _translate(asked: bytes, primary: str, key: dns.tsig.Key) -> bytes:
    """What the primary answers, for the date of who asks."""
    body, theirs, start = _split(asked)
    try:
        if theirs is None:
            return _ask(primary, asked)
        dns.tsig.validate(asked, key, key.name, theirs, theirs.time_signed, b"", start)
    except (dns.tsig.BadSignature, dns.tsig.BadKey, dns.tsig.BadAlgorithm):
        return _ask(primary, asked)
    now = int(time.time())
    signed, mac = _sign(body, key, now, b"")
    answer = _ask(primary, signed)
    body, ours, start = _split(answer)
    if ours is None:
        return answer
    dns.tsig.validate(answer, key, key.name, ours, now, mac, start)
    return _sign(body, key, theirs.time_signed, theirs.mac)[0]


def _split(wire: bytes) -> tuple[bytes, Optional[dns.rdtypes.ANY.TSIG.TSIG], int]:
    """A message without its signature, the signature, and where it began."""
    questions, *records = struct.unpack("!4x4H", wire[:12])
    at = 12
    for _ in range(questions):
        at = _after_name(wire, at) + 4
    for _ in range(sum(records)):
        start = at
        kind, size = struct.unpack_from("!H6xH", wire, _after_name(wire, at))
        data = _after_name(wire, at) + 10
        at = data + size
        if kind == dns.rdatatype.TSIG:
            signature = dns.rdata.from_wire(dns.rdataclass.ANY, dns.rdatatype.TSIG, wire, data, size)
            return wire[:10] + struct.pack("!H", records[-1] - 1) + wire[12:start], signature, start
    return wire, None, 0


def _after_name(wire: bytes, at: int) -> int:
    """Where a name ends (RFC 1035 section 4.1.4)."""
    while wire[at]:
        if wire[at] >= 0xC0:
            return at + 2
        at += wire[at] + 1
    return at + 1


def _sign(body: bytes, key: dns.tsig.Key, when: int, request_mac: bytes) -> tuple[bytes, bytes]:
    """A message with its signature, and the signature's MAC."""
    number, additional = struct.unpack("!H8xH", body[:12])
    blank = dns.rdtypes.ANY.TSIG.TSIG(dns.rdataclass.ANY, dns.rdatatype.TSIG, key.algorithm, when, 300, b"", number, 0, b"")
    made, _ = dns.tsig.sign(body, key, blank, when, request_mac)
    data = made.to_wire()
    record = key.name.to_wire() + struct.pack("!HHIH", dns.rdatatype.TSIG, dns.rdataclass.ANY, 0, len(data)) + data
    return body[:10] + struct.pack("!H", additional + 1) + body[12:] + record, made.mac


def _ask(primary: str, wire: bytes) -> bytes:
    with socket.create_connection((primary, 53), SECONDS) as to:
        _send(to, wire)
        return _receive(to)


def _send(to: socket.socket, wire: bytes) -> None:
    to.sendall(struct.pack("!H", len(wire)) + wire)


def _receive(by: socket.socket) -> bytes:
    (size,) = struct.unpack("!H", _exactly(by, 2))
    return _exactly(by, size)


def _exactly(by: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        more = by.recv(size - len(found))
        if not more:
            raise EOFError
        found += more
    return found
