"""DNS servers that answer what no server should, on the wire: the key stays, in bounded time, and nothing breaks.

Every case goes through :func:`certbot_dovecot.dane.survey.make`, from a server's socket, and then through
:mod:`~certbot_dovecot.dane.rollover` with evidence that is ripe: were it not for what this server says, the servers would
switch now.
"""

from __future__ import annotations

import datetime
import struct
import time

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from certbot_dovecot.dane import rollover, survey
from certbot_dovecot.dane.answers import Key, Outcome
from certbot_dovecot.dane.evidence import Evidence
from certbot_dovecot.dane.rollover import Kind
from certbot_dovecot.dane.survey import Server
from tests.plays import examples
from tests.unit.responder import FIRST, HEX, NAME, RESOLVER, SECOND, Responder, free_port, resolve, response, tlsa

NOW = datetime.datetime(2027, 1, 2, tzinfo=datetime.timezone.utc)
CURRENT, NEXT = Key(HEX), Key("B" * 64)
BOTH = (f"3 1 1 {CURRENT.sha256}", f"3 1 1 {NEXT.sha256}")
LATELY = NOW - datetime.timedelta(hours=12)
RIPE = Evidence(
    CURRENT.sha256, NEXT.sha256, frozenset({NAME}), NOW - datetime.timedelta(days=100), ((300, LATELY),), True, LATELY
)
#: Seconds for a question, and for all: where a server answers, and where it does not.
PATIENT, HASTY = (10.0, 30.0), (0.5, 2.0)
#: What a survey takes at most beyond its limit: a question that has begun, by UDP and then by TCP, and a busy machine.
SLACK = 5
SIGNATURE = (NAME, 300, "IN", "RRSIG", "TLSA 13 5 300 20370101000000 20260101000000 1 example.org. AAAA")


def honest(query, _tcp=False):
    return response(query, tlsa(*BOTH), SIGNATURE)


def resolver(query, tcp):
    return resolve(query, tcp, answer=tlsa(*BOTH))


class Servers:
    """The three; each answers what it was told last."""

    def __init__(self):
        self.port = free_port()
        self.running = [Responder(address, self.port, None) for address in (RESOLVER, FIRST, SECOND)]
        self.say()

    def say(self, first=honest, by=resolver):
        for one, answer in zip(self.running, (by, first, honest)):
            one.answer = answer

    def look(self, limits=PATIENT):
        begin = time.monotonic()
        made = survey.make([NAME], Server(RESOLVER, self.port, True), lambda: NOW, False, self.port, limits)
        assert time.monotonic() - begin < limits[1] + 2 * limits[0] + SLACK
        return made

    def close(self):
        for one in self.running:
            one.close()


@pytest.fixture(scope="module")
def three():
    servers = Servers()
    yield servers
    servers.close()


@pytest.fixture
def servers(three):
    three.say()
    return three


def decided(made):
    evidence = rollover.observe(RIPE, made, CURRENT, NEXT)
    return rollover.decide(made, evidence, CURRENT, NEXT, NOW)


def first_of(made):
    return next(seen for seen in made.owners[0].seen if FIRST in seen.server)


def test_honest_servers_and_the_switch_comes(servers):
    """Else no case below would say anything."""
    assert decided(servers.look()).kind is Kind.SWITCH


@pytest.mark.parametrize("number", [3, 4, 5, 6, 7, 12])
def test_stale_records_beside_both_hold_up_nothing(servers, number):
    more = [f"3 1 1 {n:064X}" for n in range(number - 2)]
    servers.say(lambda query, tcp: response(query, tlsa(*BOTH, *more), SIGNATURE))
    assert decided(servers.look()).kind is Kind.SWITCH


def truncated(query, tcp):
    many = (f"3 1 1 {n:064X}" for n in range(1200))
    return response(query, tlsa(*BOTH, *many)) if tcp else response(query, flags=dns.flags.TC)


def long(digest):
    """A digest of so many bytes, which dnspython would not write, in the place of that of the next key."""

    def answer(query, _tcp):
        made = response(query, tlsa(*BOTH))
        made.use_edns(False)
        wire = made.to_wire()
        cut = wire.rindex(struct.pack("!H", 35) + b"\x03\x01\x01")
        return wire[:cut] + struct.pack("!H", 3 + len(digest)) + b"\x03\x01\x01" + digest

    return answer


def plus(*more):
    return lambda query, tcp: response(query, tlsa(*BOTH, *more), SIGNATURE)


def only(*data, **other):
    return lambda query, tcp: response(query, tlsa(*data), SIGNATURE, **other)


def slowly(query, tcp):
    return b"drip" if tcp else response(query, flags=dns.flags.TC)


def loop(*hops):
    names = [NAME, *hops, NAME]
    return lambda query, tcp: response(query, *((a, 60, "IN", "CNAME", b) for a, b in zip(names, names[1:])))


def another_question(query, tcp):
    return honest(dns.message.make_query("other.example.org.", "TLSA"))


def other_class(query, tcp):
    made = response(query)
    made.answer.append(dns.rrset.from_text(NAME, 300, "CH", "TLSA", *BOTH))
    return made


#: dnspython before 2.4 does not mind how long a digest is.
READ = {Outcome.ANSWER, Outcome.ERROR}
QUIET = {Outcome.SILENT, Outcome.ERROR}
CASES = {
    "silence": (lambda query, tcp: None, QUIET),
    "garbage": (lambda query, tcp: b"\x00" * 40, QUIET),
    "an empty datagram": (lambda query, tcp: b"", QUIET),
    "the question come back": (lambda query, tcp: query.to_wire(), QUIET),
    "another question": (another_question, QUIET),
    "cut off": (lambda query, tcp: honest(query).to_wire()[:-9], {Outcome.ERROR}),
    "slow drip": (slowly, {Outcome.SILENT}),
    "truncated by TCP too": (lambda query, tcp: response(query, tlsa(BOTH[0]), flags=dns.flags.AA | dns.flags.TC), READ),
    "by TCP nothing": (lambda query, tcp: b"" if tcp else response(query, flags=dns.flags.TC), QUIET),
    "lame": (only(*BOTH, flags=0), {Outcome.LAME}),
    "refused": (lambda query, tcp: response(query, rcode=dns.rcode.REFUSED), {Outcome.LAME}),
    "SERVFAIL": (only(*BOTH, rcode=dns.rcode.SERVFAIL), {Outcome.ERROR}),
    "wrong owner": (lambda query, tcp: response(query, tlsa(*BOTH, name="_26._tcp.mail.example.org.")), {Outcome.ERROR}),
    "another class": (other_class, {Outcome.ERROR}),
    "alias to itself": (loop(), {Outcome.ERROR}),
    "aliases that lead round": (loop("a.example.org.", "b.example.org."), {Outcome.ERROR}),
    "a huge set": (truncated, {Outcome.ANSWER}),
    "one more than some can take": (plus(*(f"3 1 1 {n:064X}" for n in range(11))), {Outcome.ANSWER}),
    "usage 2 alone": (only(f"2 1 1 {HEX}"), {Outcome.ANSWER}),
    "no digest at all": (plus(f"3 1 0 {HEX * 4}"), {Outcome.ANSWER}),
    "an unknown matching type": (plus(f"3 1 9 {HEX}"), {Outcome.ANSWER}),
    "a digest of one byte": (long(b"\xab"), READ),
    "a digest of no byte": (long(b""), READ),
    "a digest of 31 bytes": (long(b"\xbb" * 31), READ),
    "a digest of 33 bytes": (long(b"\xbb" * 33), READ),
    "only the current record": (only(BOTH[0]), {Outcome.ANSWER}),
    "only the next record": (only(BOTH[1]), {Outcome.ANSWER}),
    "three to seven, without the next one": (only(BOTH[0], *(f"3 1 1 {n:064X}" for n in range(4))), {Outcome.ANSWER}),
    "no records": (lambda query, tcp: response(query, rcode=dns.rcode.NXDOMAIN), {Outcome.ABSENT}),
}


#: What no client heeds while a 3 1 1 matches.
BESIDE = {
    "usage 0": plus(f"0 1 1 {HEX}"),
    "usage 1": plus(f"1 1 1 {HEX}"),
    "usage 2": plus(f"2 1 1 {HEX}"),
    "usage 255": plus(f"255 1 1 {HEX}"),
    "selector 0": plus(f"3 0 1 {HEX}"),
}


@pytest.mark.parametrize("case", BESIDE)
def test_d22_a_record_of_another_kind_beside_both_holds_nothing_up(servers, case):
    servers.say(BESIDE[case])
    assert decided(servers.look(PATIENT)).kind is Kind.SWITCH


@pytest.mark.parametrize("case", CASES)
def test_a_hostile_server_makes_the_key_stay(servers, case):
    answer, outcomes = CASES[case]
    servers.say(answer)
    made = servers.look(HASTY if Outcome.SILENT in outcomes else PATIENT)
    assert first_of(made).outcome in outcomes
    assert decided(made).kind in (Kind.KEEP, Kind.PUBLISH)


@pytest.mark.parametrize("case", CASES)
def test_a_hostile_resolver_makes_the_key_stay(servers, case):
    """It says of the record set what no server should; of all else the truth."""
    answer = CASES[case][0]

    def by(query, tcp):
        return answer(query, tcp) if query.question[0].rdtype == dns.rdatatype.TLSA else resolver(query, tcp)

    servers.say(by=by)
    made = servers.look(HASTY if Outcome.SILENT in CASES[case][1] else PATIENT)
    assert decided(made).kind in (Kind.KEEP, Kind.PUBLISH)


def mangled(wire, changes):
    """Bytes flipped, cut, repeated and put in, at places that are given as parts of the whole."""
    for what, place, value in changes:
        at = 2 + int(place * (len(wire) - 2)) if len(wire) > 2 else 0
        if what == "flip":
            wire = wire[:at] + bytes([wire[at] ^ (1 << value % 8)]) + wire[at + 1 :] if at < len(wire) else wire
        elif what == "cut":
            wire = wire[:at]
        elif what == "repeat":
            wire = wire[:at] + wire[at : at + value] * 2 + wire[at + value :]
        elif what == "point":
            # A compression pointer, perhaps to itself or ahead.
            wire = wire[:at] + struct.pack("!H", 0xC000 | (value * 3 & 0x3FFF)) + wire[at + 2 :]
        elif what == "count":
            # Of questions, answers, authorities or additionals.
            field = 4 + 2 * (value % 4)
            wire = wire[:field] + struct.pack("!H", value) + wire[field + 2 :]
        else:
            wire = wire[:at] + bytes([value]) * (value % 7) + wire[at:]
    return wire


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["flip", "flip", "flip", "cut", "repeat", "point", "count", "put"]),
        st.floats(0, 1, allow_nan=False, exclude_max=True),
        st.integers(0, 255),
    ),
    min_size=1,
    max_size=4,
)
SOA = ("example.org.", 900, "IN", "SOA", "ns1.example.org. admin.example.org. 1 2 3 4 7200")
BASES = {
    "both": honest,
    "one": only(BOTH[0]),
    "none": lambda query, tcp: response(query, rcode=dns.rcode.NXDOMAIN, authority=[SOA]),
    "alias": lambda query, tcp: response(query, (NAME, 60, "IN", "CNAME", "a.example.org."), tlsa(name="a.example.org.")),
    "garbage": None,
}
FUZZ = settings(max_examples=examples(80), deadline=None, suppress_health_check=list(HealthCheck))
#: A datagram that cannot be read is an error at once; only what claims to be cut off, and is not there by TCP, is waited for.
SHORT = (0.1, 0.6)


def is_honest(wire):
    """Whether, read by the book, it says that both records are there."""
    try:
        message = dns.message.from_wire(wire)
    except Exception:
        return False
    name = dns.name.from_text(NAME)
    found = {
        str(data).upper()
        for rrset in message.answer
        if (rrset.name, rrset.rdtype, rrset.rdclass) == (name, dns.rdatatype.TLSA, dns.rdataclass.IN)
        for data in rrset
    }
    return bool(message.flags & dns.flags.AA) and message.rcode() == dns.rcode.NOERROR and found >= set(BOTH)


@FUZZ
@given(base=st.sampled_from(sorted(BASES)), changes=CHANGES, noise=st.binary(max_size=60))
@example(base="both", changes=[("point", 0.2, 12)], noise=b"")
def test_whatever_a_name_server_sends(three, base, changes, noise):
    sent = []

    def answer(query, tcp):
        made = BASES[base]
        whole = query.to_wire()[:2] + noise if made is None else made(query, tcp).to_wire()
        sent.append(mangled(whole, changes))
        return sent[-1]

    three.say(answer)
    step = decided(three.look(SHORT))
    assert step.kind is not Kind.FREE
    if step.kind is Kind.SWITCH:
        assert any(map(is_honest, sent))


@FUZZ
@given(
    kinds=st.sets(st.sampled_from(["NS", "A", "AAAA", "TLSA"]), min_size=1),
    changes=CHANGES,
    noise=st.one_of(st.none(), st.binary(max_size=60)),
)
def test_whatever_a_resolver_sends(three, kinds, changes, noise):
    """No exception, no endless wait, and no freedom: the name servers that are found say that records stand."""

    def by(query, tcp):
        made = resolver(query, tcp)
        if dns.rdatatype.to_text(query.question[0].rdtype) not in kinds:
            return made
        return mangled(made.to_wire(), changes) if noise is None else query.to_wire()[:2] + noise

    three.say(by=by)
    made = three.look(SHORT)
    assert decided(made).kind is not Kind.FREE


@pytest.mark.parametrize("kind", ["A", "NS", "AAAA", "TLSA"])
@pytest.mark.parametrize("rdclass", ["CH", "HS"])
def test_records_of_another_class_are_none(three, kind, rdclass):
    """An address of class CH is a number, of class HS nothing that dnspython knows."""

    def by(query, tcp):
        made = resolver(query, tcp)
        if dns.rdatatype.to_text(query.question[0].rdtype) == kind:
            data = {"A": "ns1.example.org. 0123", "NS": "ns1.example.org.", "AAAA": "::1", "TLSA": BOTH[0]}[kind]
            if (kind, rdclass) in (("A", "HS"), ("AAAA", "CH"), ("AAAA", "HS")):
                data = "\\# 4 7F000001"
            name = query.question[0].name.to_text()
            made.answer.append(dns.rrset.from_text(name, 60, rdclass, kind, data))
        return made

    three.say(by=by)
    assert decided(three.look()).kind in (Kind.SWITCH, Kind.KEEP)


def test_a_zone_with_very_many_name_servers_is_given_up_in_time(three):
    """Each of them needs two questions for its addresses, and none is answered."""

    def by(query, tcp):
        question = query.question[0]
        name, kind = question.name.to_text(), dns.rdatatype.to_text(question.rdtype)
        if (name, kind) == ("example.org.", "NS"):
            return response(query, (name, 60, "IN", "NS", *(f"n{n}.example.net." for n in range(200))), flags=dns.flags.RA)
        return None if kind in ("A", "AAAA") else resolver(query, tcp)

    three.say(by=by)
    made = three.look(HASTY)
    assert len(made.owners[0].seen) == 200
    assert decided(made).kind is Kind.KEEP
