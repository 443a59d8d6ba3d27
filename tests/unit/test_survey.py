"""The survey against name servers that answer what they should not; real ones are asked on the lab."""

from __future__ import annotations

import contextlib
import datetime
import socket
import struct
import threading
import time

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from certbot_dovecot.dane import rollover, survey
from certbot_dovecot.dane.answers import Key, Outcome, Validity
from certbot_dovecot.dane.rollover import Kind
from certbot_dovecot.dane.survey import Server

NOW = datetime.datetime(2027, 1, 2, tzinfo=datetime.timezone.utc)
NAME = "_25._tcp.mail.example.org."
HEX = "A" * 64
RESOLVER, FIRST, SECOND = "127.0.5.1", "127.0.5.2", "127.0.5.3"


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


@pytest.fixture
def ask():
    """Starts the three servers with given answers, and makes a survey."""
    running = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((RESOLVER, 0))
        port = probe.getsockname()[1]

    def make(first, second=lambda query, tcp: response(query, tlsa()), by=resolve, ipv6=False, limits=(0.3, 3)):
        for address, answer in ((RESOLVER, by), (FIRST, first), (SECOND, second)):
            running.append(Responder(address, port, answer))
        return survey.make([NAME], Server(RESOLVER, port, True), lambda: NOW, ipv6, port, limits)

    yield make
    for one in running:
        one.close()


def good(query, _tcp):
    return response(query, tlsa())


def test_both_answer(ask):
    (owner,) = ask(good).owners
    assert owner.validity is Validity.SECURE
    assert [(seen.server, seen.outcome, seen.ttl) for seen in owner.seen] == [
        (f"ns1.example.org ({FIRST})", Outcome.ANSWER, 300), (f"ns2.example.org ({SECOND})", Outcome.ANSWER, 300),
    ]  # fmt: skip
    assert {str(data) for seen in owner.seen for data in seen.records} == {f"3 1 1 {HEX}"} == set(map(str, owner.resolved))


def test_a_host_without_ipv6_does_not_ask_there_and_says_so(ask):
    assert ask(good).notes == ("This host has no IPv6: ns2.example.org. was not asked at ::1.",)


def test_the_negative_ttl_is_the_smaller_one_of_the_soa(ask):
    soa = ("example.org.", 900, "IN", "SOA", "ns1.example.org. admin.example.org. 1 2 3 4 7200")
    (owner,) = ask(lambda query, tcp: response(query, rcode=dns.rcode.NXDOMAIN, authority=[soa])).owners
    assert (owner.seen[0].outcome, owner.seen[0].ttl) == (Outcome.ABSENT, 900)


def test_what_is_bogus_is_told_from_what_is_down(ask):
    def validating(query, tcp):
        if query.question[0].rdtype == dns.rdatatype.TLSA and not query.flags & dns.flags.CD:
            return response(query, flags=dns.flags.RA, rcode=dns.rcode.SERVFAIL)
        return resolve(query, tcp, 0)

    assert ask(good, by=validating).owners[0].validity is Validity.BOGUS


def test_no_resolver_is_doubt():
    (owner,) = survey.make([NAME], None, lambda: NOW, False).owners
    assert (owner.seen, owner.validity) == ((), Validity.UNKNOWN)


def truncated(query, tcp):
    return response(query, tlsa(*(f"3 1 1 {n:064X}" for n in range(1200)))) if tcp else response(query, flags=dns.flags.TC)


def test_a_huge_set_comes_by_tcp(ask):
    (owner,) = ask(truncated).owners
    assert len(owner.seen[0].records) == 1200


def short(query, _tcp):
    """A digest of one byte, which dnspython would not write."""
    made = response(query, tlsa())
    made.use_edns(False)
    return made.to_wire()[:-37] + struct.pack("!H", 4) + b"\x03\x01\x01\xab"


#: dnspython before 2.4 does not mind how long a digest is.
READ = {Outcome.ANSWER, Outcome.ERROR}
HOSTILE = {
    "silence": (lambda query, tcp: None, {Outcome.SILENT}),
    "garbage": (lambda query, tcp: b"\x00" * 40, {Outcome.SILENT, Outcome.ERROR}),
    "cut off": (lambda query, tcp: response(query, tlsa()).to_wire()[:-9], {Outcome.ERROR}),
    "slow drip": (lambda query, tcp: b"drip" if tcp else response(query, flags=dns.flags.TC), {Outcome.SILENT}),
    "lame": (lambda query, tcp: response(query, tlsa(), flags=0), {Outcome.LAME}),
    "refused": (lambda query, tcp: response(query, rcode=dns.rcode.REFUSED), {Outcome.LAME}),
    "wrong owner": (lambda query, tcp: response(query, tlsa(name="_26._tcp.mail.example.org.")), {Outcome.ERROR}),
    "alias to itself": (lambda query, tcp: response(query, (NAME, 60, "IN", "CNAME", NAME)), {Outcome.ERROR}),
    "huge": (truncated, {Outcome.ANSWER}),
    "usage 2": (lambda query, tcp: response(query, tlsa(f"3 1 1 {HEX}", f"2 1 1 {HEX}")), {Outcome.ANSWER}),
    "odd length": (short, READ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_server_makes_the_key_stay(ask, case):
    answer, outcome = HOSTILE[case]
    begin = time.monotonic()
    made = ask(answer)
    assert time.monotonic() - begin < 5
    assert made.owners[0].seen[0].outcome in outcome
    step = rollover.decide(made, None, Key(HEX), Key("B" * 64), NOW)
    assert step.kind is Kind.KEEP


def test_an_alias_that_leads_round_has_no_name_servers(ask):
    loop = (NAME, 60, "IN", "CNAME", NAME)
    made = ask(good, by=lambda query, tcp: resolve(query, tcp, answer=loop))
    assert made.owners[0].seen == ()
    assert rollover.decide(made, None, Key(HEX), None, NOW).kind is Kind.KEEP


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("127.0.0.4", Server("127.0.0.4", 53, True)),
        ("192.0.2.1:5353", Server("192.0.2.1", 5353, True)),
        ("::1", Server("::1", 53, True)),
        ("[::1]:54", Server("::1", 54, True)),
    ],
)
def test_the_resolver_that_is_said(said, wanted):
    assert survey.resolver(said) == wanted


def test_a_resolver_that_is_no_address():
    with pytest.raises(ValueError, match="does not appear"):
        survey.resolver("dns.example.org")
