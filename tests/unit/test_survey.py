"""What a survey makes of what DNS servers answer; hostile ones are in ``test_hostile_dns.py``, real ones on the lab."""

from __future__ import annotations

import datetime

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import pytest

from certbot_dovecot.dane import rollover, survey
from certbot_dovecot.dane.answers import Key, Outcome, Validity
from certbot_dovecot.dane.rollover import Kind
from certbot_dovecot.dane.survey import Server
from tests.unit.responder import FIRST, HEX, NAME, RESOLVER, SECOND, Responder, free_port, good, resolve, response, tlsa

NOW = datetime.datetime(2027, 1, 2, tzinfo=datetime.timezone.utc)
#: Seconds, where every server answers; a busy machine needs them, no test waits for them.
PATIENT = (10, 30)


@pytest.fixture
def ask():
    """Starts the three servers with given answers, and makes a survey."""
    running, port = [], free_port()

    def make(first, second=good, by=resolve):
        for address, answer in ((RESOLVER, by), (FIRST, first), (SECOND, second)):
            running.append(Responder(address, port, answer))
        return again()

    def again(*names):
        return survey.make(names or [NAME], Server(RESOLVER, port, True), lambda: NOW, False, port, PATIENT)

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
    assert [(seen.outcome, len(seen.records)) for seen in owner.seen] == [(Outcome.ANSWER, 1)] * 4
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
    assert survey.source_of(answer, dns.name.from_text(name)).to_text() == source
    assert survey.source_of(response(dns.message.make_query(name, "TLSA"), tlsa(name=name)), dns.name.from_text(name)) is None
