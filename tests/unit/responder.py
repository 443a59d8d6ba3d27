"""DNS servers on loopback that answer what a test says, also what no server should; real ones are asked on the lab.

Three of them: a resolver that knows the zone ``example.org``, and the zone's two name servers.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

NAME = "_25._tcp.mail.example.org."
HEX = "A" * 64
RESOLVER, FIRST, SECOND = "127.0.5.1", "127.0.5.2", "127.0.5.3"
#: For tests that have them: the parent zone's name server, and one of the zone that only the parent names.
PARENT, HIDDEN = "127.0.5.4", "127.0.5.5"


class Responder:
    """A DNS server on one address that answers what a function says: a message, bytes, or None for silence."""

    def __init__(self, address, port, answer):
        self.answer = answer
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for one in (self.udp, self.tcp):
            one.bind((address, port))
        self.tcp.listen(8)
        for serve in (self.serve_udp, self.serve_tcp):
            threading.Thread(target=serve, daemon=True).start()

    def close(self):
        for one in (self.udp, self.tcp):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def reply(self, wire, tcp):
        said = self.answer(dns.message.from_wire(wire), tcp)
        return said.to_wire(max_size=65535) if isinstance(said, dns.message.Message) else said

    def serve_udp(self):
        with contextlib.suppress(OSError):
            while True:
                wire, where = self.udp.recvfrom(65535)
                if not wire:
                    # Closed.
                    return
                self.peer = where
                said = self.reply(wire, False)
                if said is not None:
                    self.udp.sendto(said, where)

    def serve_tcp(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.tcp.accept()
                threading.Thread(target=self.one_tcp, args=(connection,), daemon=True).start()

    def one_tcp(self, connection):
        with connection, contextlib.suppress(OSError, struct.error):
            (length,) = struct.unpack("!H", connection.recv(2))
            said = self.reply(connection.recv(length), True)
            if said == b"drip":
                connection.sendall(b"\xff")
                for _ in range(50):
                    time.sleep(0.1)
                    connection.sendall(b"x")
            elif said is not None:
                connection.sendall(struct.pack("!H", len(said)) + said)


def response(query, *rrsets, flags=dns.flags.AA, rcode=dns.rcode.NOERROR, authority=()):
    made = dns.message.make_response(query)
    made.flags |= flags
    made.set_rcode(rcode)
    made.answer += [dns.rrset.from_text(*rrset) for rrset in rrsets]
    made.authority += [dns.rrset.from_text(*rrset) for rrset in authority]
    return made


def tlsa(*data, name=NAME, ttl=300):
    return (name, ttl, "IN", "TLSA", *(data or (f"3 1 1 {HEX}",)))


def resolve(query, _tcp, ad=dns.flags.AD, answer=None):
    """A resolver that knows the zone example.org and its two name servers."""
    question = query.question[0]
    name, kind = question.name.to_text(), dns.rdatatype.to_text(question.rdtype)
    known = {
        ("example.org.", "NS"): ("example.org.", 60, "IN", "NS", "ns1.example.org.", "ns2.example.org."),
        ("ns1.example.org.", "A"): ("ns1.example.org.", 60, "IN", "A", FIRST),
        ("ns2.example.org.", "A"): ("ns2.example.org.", 60, "IN", "A", SECOND),
        ("ns2.example.org.", "AAAA"): ("ns2.example.org.", 60, "IN", "AAAA", "::1"),
        (NAME, "TLSA"): answer or tlsa(),
    }
    found = known.get((name, kind))
    return response(query, *([found] if found else []), flags=dns.flags.RA | ad)


def good(query, _tcp):
    return response(query, tlsa())


def free_port():
    """One that is free on the resolver's address; the other two are ours alone."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((RESOLVER, 0))
        return probe.getsockname()[1]
