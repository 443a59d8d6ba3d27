"""Rules of DANE that no other module is about: each by its number (``test_rules.py`` has the list)."""

from __future__ import annotations

import datetime

import pytest

from certbot_dovecot import pairs, seen
from certbot_dovecot.bundle import Source
from certbot_dovecot.dane import publish, rollover, tlsa
from certbot_dovecot.dane.answers import Data, Key, Outcome, Owner, Seen, Survey, Validity
from certbot_dovecot.dane.rollover import Kind
from certbot_dovecot.ledger import Ledger
from certbot_dovecot.lineages import Lineage
from certbot_dovecot.pairs import Member
from certbot_dovecot.problems import BundleProblem
from certbot_dovecot.servers import contract
from certbot_dovecot.servers.contract import Endpoint, Served
from certbot_dovecot.state import State
from certbot_dovecot.store import Folder
from tests.lab import ca
from tests.unit.world import World
from tests.unit.world_host import Run

NOW = datetime.datetime.now(datetime.timezone.utc)
ECDSA, RSA, NEXT, OTHER = (Key(letter * 64, letter * 128) for letter in "ABCD")
SUBMISSION, MX = "_465._tcp.mail.example.org.", "_25._tcp.mail.example.org."


def one(key):
    return Data(3, 1, 1, key.sha256)


def owner(name, *records, target=""):
    return Owner(name, (Seen("ns", Outcome.ANSWER if records else Outcome.ABSENT, frozenset(records), 300, True),),
                 Validity.SECURE, frozenset(records), target or name)  # fmt: skip


# D3


def test_d3_each_of_two_algorithms_that_are_served_has_its_record():
    (place,) = publish.places(Survey(NOW, (owner(SUBMISSION, one(ECDSA)),)), {SUBMISSION: [ECDSA, RSA]}, NEXT)
    made = publish.change(place.name, place.keys, place.present, {one(ECDSA), one(OTHER)})
    assert made.after == {one(ECDSA), one(RSA), one(NEXT)}
    records = tlsa.records(["mail.example.org"], {465: [ECDSA.sha256, RSA.sha256]}, NEXT.sha256)
    assert {(record.spki, record.status) for record in records} == {
        (ECDSA.sha256, "served"), (RSA.sha256, "served"), (NEXT.sha256, "next"),
    }  # fmt: skip


def test_d3_two_endpoints_of_a_port_with_two_keys_have_both():
    first, second = (Endpoint("Dovecot", "imap", address, 993, True) for address in ("127.0.0.1", "::1"))
    pair = contract.Pair("/c.pem", "/k.key")
    assert seen.ports([Served(first, pair), Served(second, pair)], {first: "EC", second: "RSA"}) == {993: ["EC", "RSA"]}


# D8, D10: what happens in a year, in order


class Told(World):
    """A world that writes down what it does: we publish everything, by dynamic update, and a standby is there."""

    def __init__(self):
        self.log = []
        picks = iter(["rfc2136", 0.0, [False], 3600, 0, False, False, True])
        super().__init__(lambda options: next(picks))
        self.run()

    def run(self, **other):
        self.zone.everywhere()
        self.host.timer(Run(**other))
        self.zone.everywhere()
        self.check()

    def a_year_later(self):
        self.zone.advance(datetime.timedelta(days=366))
        self.log.clear()

    def _send(self, change):
        self.log += [("add", data.digest[-1]) for data in sorted(change.add)]
        self.log += [("delete", data.digest[-1]) for data in sorted(change.delete)]
        super()._send(change)

    def _changed(self, why, key, survey):
        self.log.append(("serve", key.sha256[-1]))
        super()._changed(why, key, survey)


#: Of two owner names, each by an update of its own, or of two servers.
BOTH = 2


def test_d8_one_change_at_a_time():
    """Next is added, and waited for; every server switches, and is verified; only then old goes."""
    world = Told()
    assert world.log == [("add", "1"), ("add", "2")] * BOTH
    world.a_year_later()
    world.run()
    # Only now it is everywhere for as long as it takes to know.
    assert world.log == []
    world.zone.advance(datetime.timedelta(days=1))
    world.run()
    assert world.log == [("serve", "2")] * BOTH + [("delete", "1")] * BOTH
    world.log.clear()
    world.zone.advance(datetime.timedelta(days=1))
    world.run(renew=frozenset({"mail"}))
    assert world.log == [("add", "3")] * BOTH


def test_d8_a_switch_that_is_not_verified_leaves_both_records():
    world = Told()
    world.a_year_later()
    world.run()
    world.zone.advance(datetime.timedelta(days=1))
    world.run(proves=False)
    assert world.log == [("serve", "2")] * BOTH
    assert {key.sha256[-1] for _, key in world.host.serves.values()} == {"1"}
    assert {data.digest[-1] for data in world.zone.primary.at(SUBMISSION)} == {"1", "2"}


def test_d10_in_an_emergency_the_servers_switch_first_whatever_the_dns_says():
    world = Told()
    world.log.clear()
    world.lost = True
    assert world.host.roll_now()
    assert world.log == [("serve", "2")] * BOTH + [("delete", "1")] * BOTH


def test_d10_no_key_that_was_served_is_switched_to():
    world = Told()
    assert world.host.roll_now()
    world.log.clear()
    assert not world.host.roll_now()
    assert world.log == []


def test_d10_what_we_publish_is_gone_from_caches_within_an_hour():
    assert tlsa.TTL <= 3600
    assert tlsa.records(["mail.example.org"], {465: [ECDSA.sha256]})[0].ttl == tlsa.TTL


# D12, D14


def test_d12_the_owner_is_the_host_and_not_the_mail_domain():
    made = tlsa.records(["mx1.example.org"], {25: [ECDSA.sha256]})
    assert [record.owner for record in made] == ["_25._tcp.mx1.example.org."]
    assert seen.hosts(["mx1.example.org", "192.0.2.1", "IMAP.example.org"], []) == ("imap.example.org", "mx1.example.org")


@pytest.mark.parametrize(
    ("port", "protocol", "implicit"),
    [
        (465, "smtp", True), (587, "smtp", False), (143, "imap", False), (993, "imap", True), (110, "pop3", False),
        (995, "pop3", True), (4190, "sieve", False), (25, "smtp", False),
    ],
)  # fmt: skip
def test_d14_every_port_that_serves_the_key_has_its_owner_name(port, protocol, implicit):
    endpoint = Endpoint("x", protocol, "127.0.0.1", port, implicit)
    ports = seen.ports([Served(endpoint, contract.Pair("/c.pem", "/k.key"))], {endpoint: ECDSA.sha256})
    made = tlsa.records(["mail.example.org"], ports, NEXT.sha256)
    assert {record.owner for record in made} == {f"_{port}._tcp.mail.example.org."}


# D13: ports that are not ours


def step(*owners, following=NEXT):
    survey = rollover.relevant(Survey(NOW, owners), frozenset({MX}), [ECDSA, NEXT])
    evidence = None
    for day in range(10, -1, -1):
        evidence = rollover.observe(evidence, Survey(NOW - datetime.timedelta(day), survey.owners), ECDSA, following)
    return rollover.decide(survey, evidence, ECDSA, following, NOW, guarded=frozenset({MX}))


def test_d13_a_port_that_is_not_ours_holds_up_nothing_if_its_records_are_others():
    ready = owner(SUBMISSION, one(ECDSA), one(NEXT))
    assert step(ready, owner(MX, one(OTHER))).kind is Kind.SWITCH
    assert step(ready, owner(MX, Data(2, 1, 1, "E" * 64))).kind is Kind.SWITCH
    assert step(ready, owner(MX)).kind is Kind.SWITCH


@pytest.mark.parametrize("records", [{one(ECDSA)}, {one(NEXT)}, {Data(3, 1, 2, ECDSA.sha512), one(OTHER)}])
def test_d13_a_port_that_is_not_ours_keeps_a_key_whose_record_it_has(records):
    found = step(owner(SUBMISSION, one(ECDSA), one(NEXT)), owner(MX, *records))
    assert found.kind is Kind.KEEP
    assert MX in found.reason


def test_d13_a_port_that_is_not_ours_and_cannot_be_asked_about_is_doubt():
    silent = Owner(MX, (Seen("ns", Outcome.SILENT),), Validity.SECURE)
    assert step(owner(SUBMISSION, one(ECDSA), one(NEXT)), silent).kind is Kind.KEEP


def test_d13_nothing_is_published_for_a_port_that_is_not_ours():
    survey = Survey(NOW, (owner(SUBMISSION, one(ECDSA)), owner(MX, one(ECDSA))))
    assert [place.name for place in publish.places(survey, {SUBMISSION: [ECDSA]}, NEXT)] == [SUBMISSION]


def test_d13_a_port_that_does_not_serve_the_key_gets_no_record():
    (place,) = publish.places(Survey(NOW, (owner(SUBMISSION),)), {SUBMISSION: []}, NEXT)
    assert publish.change(place.name, place.keys, place.present, set()).idle
    (dark,) = publish.places(Survey(NOW, (owner(SUBMISSION),)), {SUBMISSION: None}, NEXT)
    assert dark.dark


# D15


def test_d15_two_names_whose_aliases_lead_to_one_place_are_published_there_together():
    shared, imap = "_dane.example.org.", "_993._tcp.mail.example.org."
    survey = Survey(NOW, (owner(SUBMISSION, one(ECDSA), target=shared), owner(imap, one(ECDSA), target=shared)))
    (place,) = publish.places(survey, {SUBMISSION: [ECDSA], imap: [RSA]}, NEXT)
    assert (place.name, place.owners, place.keys) == (shared, (SUBMISSION, imap), (ECDSA, RSA, NEXT))


# D16


@pytest.fixture(scope="module")
def authority():
    return ca.CA.make()


def pair(tmp_path, here, there):
    """Two lineages with these certificates, the second standing by."""
    lines = []
    for name, made in (("mail", here), ("mail-standby", there)):
        paths = made.write(str(tmp_path), name)
        lines.append(Member(Lineage(name, Source(paths.key, paths.cert, paths.chain), str(tmp_path)), State()))
    return pairs.Pair("mail", Folder("/f", "/f/s"), Ledger(standby="mail-standby"), *lines)


def test_d16_a_standby_with_the_same_names_that_is_valid_may_come(tmp_path, authority):
    assert pair(tmp_path, authority.leaf(["a.test", "b.test"]), authority.leaf(["B.test", "a.test"])).unfit(NOW) == ""


def test_d16_names_still_matter(tmp_path, authority):
    """DANE-EE ignores them, mail clients do not."""
    said = pair(tmp_path, authority.leaf(["a.test", "b.test"]), authority.leaf(["a.test"])).unfit(NOW)
    assert "have not the same names (b.test)" in said


@pytest.mark.parametrize(("begin", "end", "said"), [(-20, -10, "expired on"), (10, 20, "not valid before")])
def test_d16_dates_still_matter(tmp_path, authority, begin, end, said):
    old = authority.leaf(["a.test"], begin=begin * ca.DAY, end=end * ca.DAY)
    with pytest.raises(BundleProblem, match=said):
        pair(tmp_path, authority.leaf(["a.test"]), old).unfit(NOW)
