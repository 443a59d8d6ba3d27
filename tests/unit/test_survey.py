"""What a survey makes of what DNS servers answer; hostile ones are in ``test_hostile_dns.py``, real ones on the lab."""

from __future__ import annotations

import datetime
import functools

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from certbot_dovecot.dane import rollover, survey, wire
from certbot_dovecot.dane.answers import Key, Outcome, Validity
from certbot_dovecot.dane.rollover import Kind
from certbot_dovecot.dane.survey import Server
from tests.unit.responder import (
    FIRST,
    HEX,
    HIDDEN,
    NAME,
    PARENT,
    RESOLVER,
    SECOND,
    Responder,
    free_port,
    good,
    resolve,
    response,
    tlsa,
)  # fmt: skip

NOW = datetime.datetime(2027, 1, 2, tzinfo=datetime.timezone.utc)
#: Seconds, where every server answers; a busy machine needs them, no test waits for them.
PATIENT = (10, 30)
#: Where one does not.
HASTY = (0.5, 4)


@pytest.fixture
def ask():
    """Starts the three servers with given answers, and makes a survey."""
    running, port = [], free_port()

    def make(first, second=good, by=resolve, limits=PATIENT, trusted=True, **more):
        for address, answer in {RESOLVER: by, FIRST: first, SECOND: second, **more}.items():
            running.append(Responder(address, port, answer))
        return again(limits=limits, trusted=trusted)

    def again(*names, limits=PATIENT, trusted=True):
        return survey.make(names or [NAME], Server(RESOLVER, port, trusted), lambda: NOW, False, port, limits)

    make.servers, make.again = running, again
    yield make
    for one in running:
        one.close()


def test_both_answer(ask):
    (owner,) = ask(good).owners
    assert owner.validity is Validity.SECURE
    assert [(seen.server, seen.outcome, seen.ttl) for seen in owner.seen] == [
        (f"ns1.example.org ({FIRST})", Outcome.ANSWER, 300), (f"ns2.example.org ({SECOND})", Outcome.ANSWER, 300),
    ]  # fmt: skip
    assert {str(data) for seen in owner.seen for data in seen.records} == {f"3 1 1 {HEX}"} == set(map(str, owner.resolved))


def test_a_host_without_ipv6_does_not_ask_there_and_says_so(ask):
    assert "This host has no IPv6: ns2.example.org. was not asked at ::1." in ask(good).notes


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


def test_d27_a_resolver_that_fails_once_has_met_a_silent_server(ask):
    """It has an answer without validation by then, and that is no proof of a bogus one."""
    failed = []

    def slow(query, tcp):
        if query.question[0].rdtype == dns.rdatatype.TLSA and not failed:
            failed.append(query)
            return response(query, flags=dns.flags.RA, rcode=dns.rcode.SERVFAIL)
        return resolve(query, tcp)

    assert ask(good, by=slow).owners[0].validity is Validity.SECURE
    assert failed


def test_no_resolver_is_doubt():
    (owner,) = survey.make([NAME], None, lambda: NOW, False).owners
    assert (owner.seen, owner.validity) == ((), Validity.UNKNOWN)


def test_d17_the_ad_bit_of_a_resolver_that_nobody_trusts_is_nothing(ask):
    ask(good)
    port = ask.servers[0].udp.getsockname()[1]
    (owner,) = survey.make([NAME], Server(RESOLVER, port, False), lambda: NOW, False, port, PATIENT).owners
    assert (owner.validity, len(owner.seen)) == (Validity.UNKNOWN, 2)


def test_d15_an_alias_counts_at_every_name_server_and_where_it_leads(ask):
    """A server that does not have the alias yet, or has another one, is doubt; its TTL counts, for a cache holds it too."""
    alias, target = (NAME, 7200, "IN", "CNAME", "_dane.example.org."), tlsa(name="_dane.example.org.")

    def both(query, tcp):
        return response(query, alias) if query.question[0].name.to_text() == NAME else response(query, target)

    def by(query, tcp):
        question = query.question[0]
        if question.rdtype == dns.rdatatype.TLSA:
            return response(query, alias, target, flags=dns.flags.RA | dns.flags.AD)
        return resolve(query, tcp)

    (owner,) = ask(both, both, by).owners
    assert (owner.place, owner.validity) == ("_dane.example.org.", Validity.SECURE)
    # What stands where it leads only those were asked who have it: a resolver's memory is not put down to the others.
    assert [(seen.outcome, seen.alias, len(seen.records)) for seen in owner.seen] == [
        (Outcome.ANSWER, "", 1), (Outcome.ANSWER, "_dane.example.org.", 0),
    ] * 2  # fmt: skip
    assert owner.given == owner.resolved
    assert sorted(seen.ttl for seen in owner.seen) == [300, 300, 7200, 7200]
    ask.servers[1].answer = good
    (owner,) = ask.again().owners
    assert Outcome.ERROR in {seen.outcome for seen in owner.seen}


@pytest.mark.parametrize("name", ["_25._tcp.a..example.org.", f"_25._tcp.{'a' * 64}.example.org.", "_25._tcp.\\999."])
def test_a_name_that_is_none_is_doubt(ask, name):
    ask(good)
    odd, whole = ask.again(name, NAME).owners
    assert (odd.name, odd.seen, odd.validity) == (name, (), Validity.UNKNOWN)
    assert len(whole.seen) == 2


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


# D21: wildcards

WILD = "*._tcp.mail.example.org."


def signature(labels, kind="TLSA", name=NAME):
    return (name, 300, "IN", "RRSIG", f"{kind} 13 {labels} 300 20300101000000 20260101000000 1 example.org. AAAA")


def test_d21_an_answer_whose_signature_counts_fewer_labels_was_made_from_a_wildcard(ask):
    def wild(query, tcp):
        return response(query, tlsa(), signature(4))

    (owner,) = ask(wild, wild).owners
    assert (owner.name, owner.place, owner.wildcard) == (NAME, WILD, WILD)
    for one in ask.servers[1:]:
        one.answer = lambda query, tcp: response(query, tlsa(), signature(5))
    (owner,) = ask.again().owners
    assert (owner.place, owner.wildcard) == (NAME, "")


def test_d21_without_signatures_the_wildcard_itself_is_asked(ask):
    def plain(query, tcp):
        asked = query.question[0].name.to_text()
        return response(query, tlsa(name=asked)) if asked in (NAME, WILD) else response(query)

    (owner,) = ask(plain, plain).owners
    assert (owner.place, owner.wildcard) == (WILD, WILD)
    # A wildcard with other records is not where these are from.
    other = tlsa(f"3 1 1 {'B' * 64}", name=WILD)
    for one in ask.servers[1:]:
        one.answer = lambda query, tcp: response(query, tlsa() if query.question[0].name.to_text() == NAME else other)
    assert ask.again().owners[0].place == NAME


def test_d21_servers_that_do_not_agree_about_a_wildcard_give_no_usable_answer(ask):
    """A line at the name itself would hide the wildcard; one at the wildcard would not reach the name."""
    first, second = (lambda query, tcp, labels=labels: response(query, tlsa(), signature(labels)) for labels in (4, 5))
    made = ask(first, second)
    (owner,) = made.owners
    assert (owner.given, owner.wildcard) == (None, "")
    assert rollover.decide(made, None, Key(HEX), None, NOW).kind is Kind.KEEP


def test_d21_an_alias_made_from_a_wildcard_is_known_as_one(ask):
    alias, target = (NAME, 300, "IN", "CNAME", "_dane.example.org."), tlsa(name="_dane.example.org.")

    def both(query, tcp):
        if query.question[0].name.to_text() == NAME:
            return response(query, alias, signature(4, "CNAME"))
        return response(query, target, signature(3, name="_dane.example.org."))

    def by(query, tcp):
        if query.question[0].rdtype == dns.rdatatype.TLSA:
            return response(query, alias, target, flags=dns.flags.RA | dns.flags.AD)
        return resolve(query, tcp)

    (owner,) = ask(both, both, by).owners
    assert (owner.place, owner.wildcard) == ("_dane.example.org.", WILD)


@pytest.mark.parametrize(
    ("name", "labels", "source"),
    [
        (NAME, 5, NAME), (NAME, 4, WILD), (NAME, 3, "*.mail.example.org."), (NAME, 2, "*.example.org."),
        (WILD, 4, WILD), (WILD, 3, "*.mail.example.org."),
    ],
)  # fmt: skip
def test_d21_labels_are_counted_without_the_root_and_an_asterisk(name, labels, source):
    answer = response(dns.message.make_query(name, "TLSA"), tlsa(name=name), signature(labels, name=name))
    assert wire.source_of(answer, dns.name.from_text(name)).to_text() == source
    assert wire.source_of(response(dns.message.make_query(name, "TLSA"), tlsa(name=name)), dns.name.from_text(name)) is None


# D26: when the signatures of an answer are valid


def signed(query, _tcp, dates=("20261220000000", "20270120000000")):
    begin, end = dates
    signature = f"TLSA 13 5 300 {end} {begin} 1 example.org. AAAA"
    return response(query, tlsa(), (NAME, 300, "IN", "RRSIG", signature))


def test_d26_the_validity_of_the_signatures_is_seen(ask):
    (owner,) = ask(signed).owners
    first, second = owner.seen
    utc = datetime.timezone.utc
    dates = (datetime.datetime(2026, 12, 20, tzinfo=utc), datetime.datetime(2027, 1, 20, tzinfo=utc))
    assert (first.inception, first.expiration) == dates
    assert (second.inception, second.expiration) == (None, None)


@pytest.mark.parametrize(
    ("dates", "said"),
    [
        (("20270103000000", "20270120000000"), "valid only from 2027-01-03 00:00:00 UTC on"),
        (("20261203000000", "20270101000000"), "not valid after 2027-01-01 00:00:00 UTC"),
    ],
)
def test_d26_a_clock_that_disagrees_with_the_signatures_is_doubt(ask, dates, said):
    made = ask(lambda query, tcp: signed(query, tcp, dates))
    step = rollover.decide(made, None, Key(HEX), None, NOW)
    assert step.kind is Kind.KEEP
    assert said in step.reason
    assert "the clock of this host says 2027-01-02 00:00:00 UTC" in step.reason


def test_d26_of_two_signatures_one_is_enough(ask):
    """While the zone's key is being changed, one of them may be over."""
    over = "TLSA 13 5 300 20261230000000 20261201000000 1 example.org. AAAA"
    more = "TLSA 13 5 300 20270120000000 20261220000000 2 example.org. AAAA"
    made = ask(lambda query, tcp: response(query, tlsa(), (NAME, 300, "IN", "RRSIG", over, more)))
    assert rollover.decide(made, None, Key(HEX), None, NOW).kind is Kind.STANDBY


# D27: what is lost is asked for again


def losing(number, answer=good):
    """A server that loses so many datagrams, and answers all others."""
    left = [number]

    def lossy(query, tcp):
        left[0] -= not tcp
        return answer(query, tcp) if left[0] < 0 or tcp else None

    return lossy


@pytest.mark.parametrize("number", [1, 2, 1000])
def test_d27_lost_datagrams_are_asked_for_again_and_then_by_tcp(ask, number):
    (owner,) = ask(losing(number), limits=(1.0, 20)).owners
    assert [seen.outcome for seen in owner.seen] == [Outcome.ANSWER] * 2


def test_d27_a_resolver_that_loses_one_is_asked_again(ask):
    (owner,) = ask(good, by=losing(1, resolve), limits=(1.0, 20)).owners
    assert (owner.validity, len(owner.seen)) == (Validity.SECURE, 2)


def test_d27_a_dead_server_does_not_use_up_the_time_of_others(ask):
    ask(good)
    ask.servers[1].answer = lambda query, tcp: None
    names = [f"_{port}._tcp.mail.example.org." for port in range(1, 200)]
    made = ask.again(*names, limits=(0.3, 20))
    assert {seen.outcome for owner in made.owners for seen in owner.seen if FIRST in seen.server} == {Outcome.SILENT}
    assert Outcome.SILENT not in {seen.outcome for owner in made.owners for seen in owner.seen if SECOND in seen.server}


@pytest.mark.parametrize("forgiving", [True, False])
def test_d27_a_stray_datagram_is_no_end(ask, monkeypatch, forgiving):
    """One that is no answer comes first; dnspython before 2.6 ends there, and so the question is asked again."""
    if not forgiving:
        monkeypatch.setattr(wire, "_FORGIVING", {})
    first = []

    def strayed(query, tcp):
        if tcp:
            return None
        if not first:
            first.append(query)
            server, where = ask.servers[1].udp, ask.servers[1].peer
            server.sendto(b"stray", where)
            server.sendto(good(dns.message.make_query("other.example.org.", "TLSA"), False).to_wire(), where)
        return good(query, tcp)

    (owner,) = ask(strayed, limits=(1.0, 20)).owners
    assert [seen.outcome for seen in owner.seen] == [Outcome.ANSWER] * 2


# D29: the world's view

DS = ("example.org.", 300, "IN", "DS", "1 13 2 " + "AB" * 32)


def world(query, tcp, ad=dns.flags.AD, parent=PARENT):
    """A resolver that knows the parent zone, too."""
    question, secure = query.question[0], dns.flags.RA | dns.flags.AD
    known = {
        ("org.", "NS"): ("org.", 60, "IN", "NS", "ns.org."),
        ("org.", "DS"): ("org.", 300, "IN", "DS", "1 13 2 " + "CD" * 32),
        ("ns.org.", "A"): ("ns.org.", 60, "IN", "A", parent),
    }
    found = known.get((question.name.to_text(), dns.rdatatype.to_text(question.rdtype)))
    return response(query, found, flags=secure) if found else resolve(query, tcp, ad)


def delegating(*more, hosts=("ns1.example.org.", "ns9.example.org."), glue=HIDDEN):
    """The parent zone: it refers to one name server that the zone itself does not name."""

    def refer(query, tcp):
        made = response(query, flags=0, authority=[("example.org.", 60, "IN", "NS", *hosts), *more])
        made.additional.append(dns.rrset.from_text("ns9.example.org.", 60, "IN", "A", glue))
        return made

    return refer


def old(query, _tcp):
    return response(query, tlsa(f"3 1 1 {'E' * 64}"))


def test_d29_a_server_that_only_the_parent_names_is_asked(ask):
    made = ask(good, by=world, **{PARENT: delegating(), HIDDEN: old})
    assert [(seen.server, len(seen.records)) for seen in made.owners[0].seen] == [
        (f"ns1.example.org ({FIRST})", 1), (f"ns2.example.org ({SECOND})", 1), (f"ns9.example.org ({HIDDEN})", 1),
    ]  # fmt: skip
    key, following = Key(HEX), Key("E" * 64)
    step = rollover.decide(made, rollover.observe(None, made, key, following), key, following, NOW)
    assert step.kind is Kind.PUBLISH
    assert made.notes == ("This host has no IPv6: ns2.example.org. was not asked at ::1.",)


@pytest.mark.parametrize("silent", [lambda query, tcp: None, lambda query, tcp: response(query, rcode=dns.rcode.REFUSED)])
def test_d29_a_parent_that_cannot_be_asked_is_doubt(ask, silent):
    made = ask(good, by=world, limits=HASTY, **{PARENT: silent})
    step = rollover.decide(made, None, Key(HEX), None, NOW)
    assert step.kind is Kind.KEEP
    assert "the parent zone org. (asked which name servers example.org. has) gives no usable answer" in step.reason
    # It is silence, and no regression.
    assert any(seen.outcome is Outcome.SILENT for seen in made.owners[0].seen)


def test_d29_a_parent_that_does_not_delegate_names_no_more(ask):
    """A zone that is only inside a network; and a server that has both zones answers from the lower one."""
    nothing = ask(good, by=world, **{PARENT: lambda query, tcp: response(query, rcode=dns.rcode.NXDOMAIN)})
    assert len(nothing.owners[0].seen) == 2


def test_d29_a_server_that_has_both_zones_is_asked_for_the_ds_itself(ask):
    def both(query, tcp):
        if query.question[0].rdtype == dns.rdatatype.DS:
            return response(query, DS)
        return response(query, ("example.org.", 60, "IN", "NS", "ns1.example.org."))

    made = ask(absent, absent, by=lambda query, tcp: inside(query, tcp, ad=0), **{PARENT: both})
    assert made.owners[0].secured


def absent(query, _tcp):
    return response(query, rcode=dns.rcode.NXDOMAIN)


def inside(query, tcp, ad):
    """A resolver inside a network: its view of the zone is not signed, and has no TLSA records."""
    if query.question[0].rdtype == dns.rdatatype.TLSA:
        return response(query, flags=dns.flags.RA | ad, rcode=dns.rcode.NXDOMAIN)
    return world(query, tcp, ad)


INSIDE = functools.partial(inside, ad=0)


@pytest.mark.parametrize("trusted", [True, False])
def test_d29_a_ds_at_the_parent_and_an_answer_that_is_not_secure_is_doubt(ask, trusted):
    made = ask(absent, absent, INSIDE, trusted=trusted, **{PARENT: delegating(DS, hosts=("ns1.example.org.",))})
    step = rollover.decide(made, None, Key(HEX), None, NOW)
    assert step.kind is Kind.KEEP
    assert "signed, as its parent zone says (DS)" in step.reason


@pytest.mark.parametrize("trusted", [True, False])
def test_d29_without_a_ds_the_zone_is_plainly_unsigned(ask, trusted):
    made = ask(absent, absent, INSIDE, trusted=trusted, **{PARENT: delegating(hosts=("ns1.example.org.",))})
    assert rollover.decide(made, None, Key(HEX), None, NOW).kind is Kind.FREE


def test_d29_an_answer_that_is_not_secure_in_a_zone_that_is_holds_up_nothing(ask):
    """NSEC3 with opt-out: a resolver does not call the absence of a name secure, only the zone (RFC 5155 section 9.2)."""

    def by(query, tcp):
        return inside(query, tcp, 0 if query.question[0].rdtype == dns.rdatatype.TLSA else dns.flags.AD)

    made = ask(absent, absent, by, **{PARENT: delegating(DS, hosts=("ns1.example.org.",))})
    assert rollover.decide(made, None, Key(HEX), None, NOW).kind is Kind.FREE
