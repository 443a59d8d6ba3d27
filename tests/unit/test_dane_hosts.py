"""Under which names this host is reached (rule D19), and the gate of a record (rule D18).  Pure."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from certbot_dovecot.dane import gates, hosts
from certbot_dovecot.dane.answers import AddressAnswer, Data, Key, Outcome, Owner, Seen, Survey, Validity
from certbot_dovecot.dane.hosts import Lookup
from certbot_dovecot.dane.publish import Change
from certbot_dovecot.dane.standing import Standing
from tests.unit.snapshot import NOW

OLD, NEW, STRANGE = (Key(letter * 64, letter * 128) for letter in "ABC")
OWNER = "_25._tcp.mx.example.org."


def record(key, matching=1):
    return Data(3, 1, matching, key.digest(matching))


def found(lookup, hosts_=("imap.example.org",), own=(), domains=(), ours=("192.0.2.1",)):
    return hosts.others(hosts_, own, domains, lookup, lambda address: address in ours)


def test_d19_an_mx_host_counts_if_it_leads_here():
    lookup = Lookup(
        {"mx.example.org": ("192.0.2.1",), "backup.example.net": ("198.51.100.7",), "imap.example.org": ("192.0.2.1",)},
        {},
        {"example.org": ("mx.example.org", "backup.example.net")},
    )
    assert found(lookup, domains=["example.org"]) == ("mx.example.org",)


def test_d19_a_domain_without_mx_is_its_own_mail_host():
    lookup = Lookup({"example.org": ("192.0.2.1",)}, {}, {"example.org": (), "null.example": ("",)})
    assert found(lookup, domains=["example.org", "null.example"]) == ("example.org",)


def test_d19_behind_address_translation_the_addresses_of_our_names_are_ours():
    addresses = dict.fromkeys(["imap.example.org", "mx.example.org"], ("203.0.113.9",))
    lookup = Lookup(addresses, {}, {"example.org": ("mx.example.org",)})
    assert found(lookup, domains=["example.org"]) == ("mx.example.org",)


def test_d19_what_cannot_be_looked_up_counts():
    lookup = Lookup({"mx.example.org": None, "host.example.org": None}, {}, {"example.org": ("mx.example.org",)})
    assert found(lookup, own=["host.example.org"], domains=["example.org"]) == ("host.example.org", "mx.example.org")


def test_d19_the_canonical_name_of_an_alias_counts():
    lookup = Lookup({"imap.example.org": ("192.0.2.1",)}, {"imap.example.org": "host1.example.org"})
    assert found(lookup) == ("host1.example.org",)


def test_d19_a_name_that_nobody_else_can_look_up_does_not_count():
    private = ("mail", "mail.local", "mail.localdomain", "host.internal", "localhost", "x.home.arpa", "bad_name.example.org")
    assert found(Lookup(dict.fromkeys(private)), own=private) == ()


@given(st.lists(st.sampled_from(["a.example", "b.example", "c.example", "d.example"])), st.data())
def test_d19_names_of_the_certificate_are_never_others(names, data):
    every = ["a.example", "b.example", "c.example", "d.example"]
    some = st.none() | st.lists(st.sampled_from(["192.0.2.1", "192.0.2.2"])).map(tuple)
    lookup = Lookup(
        {name: data.draw(some) for name in every},
        data.draw(st.dictionaries(st.sampled_from(every), st.sampled_from(every))),
        {"example": data.draw(st.none() | st.lists(st.sampled_from(every)).map(tuple))},
    )
    made = found(lookup, names, own=every[:2], domains=["example"])
    assert not set(made) & set(names)
    assert list(made) == sorted(set(made))


def answer(key, address="192.0.2.2", error=""):
    return AddressAnswer(OWNER, address, key, error)


BOTH = frozenset({record(OLD), record(NEW)})


def test_d18_an_address_with_the_old_key_holds_its_record():
    change = Change(OWNER, BOTH, delete=frozenset({record(OLD)}))
    assert gates.guarded(change, [answer(NEW)]) == change
    assert not gates.guarded(change, [answer(NEW), answer(OLD)]).delete
    assert not gates.guarded(change, [answer(None, error="timed out")]).delete
    assert not gates.guarded(change, [answer(STRANGE)]).delete


def test_d18_only_what_an_address_needs_is_held():
    change = Change(OWNER, BOTH | {record(STRANGE)}, delete=BOTH)
    assert gates.guarded(change, [answer(STRANGE), answer(OLD)]).delete == {record(NEW)}
    # Records of the stronger digest go together: a client looks at the strongest one that is there.
    strong = frozenset({record(OLD, 2), record(NEW, 2)})
    assert gates.guarded(Change(OWNER, BOTH | strong, delete=strong), [answer(OLD), answer(NEW)]).delete == strong


def test_d18_what_is_added_is_not_held():
    change = Change(OWNER, frozenset({record(OLD)}), add=frozenset({record(NEW)}), delete=frozenset({record(OLD)}))
    assert gates.guarded(change, [answer(OLD)]).add == {record(NEW)}


def test_d18_a_whole_set_goes_unless_an_address_serves_what_it_matches():
    change = Change(OWNER, frozenset({record(OLD)}), delete=frozenset({record(OLD)}))
    assert gates.guarded(change, [answer(STRANGE), answer(None, error="timed out")]) == change
    assert not gates.guarded(change, [answer(OLD)]).delete


def test_d18_a_set_does_not_begin_while_an_address_serves_another_key():
    change = Change(OWNER, frozenset(), add=frozenset({record(NEW)}))
    assert gates.guarded(change, [answer(NEW), answer(None, error="timed out")]) == change
    assert gates.guarded(change, [answer(NEW), answer(OLD)]).idle
    # What stands there already is a mismatch, whatever is added.
    stands = Change(OWNER, frozenset({record(OLD)}), add=frozenset({record(NEW)}))
    assert gates.guarded(stands, [answer(STRANGE)]) == stands


KEYS = [OLD, NEW, STRANGE]
RECORDS = st.frozensets(st.builds(record, st.sampled_from(KEYS), st.sampled_from([1, 2])), max_size=6)
ANSWERS = st.lists(st.builds(answer, st.none() | st.sampled_from(KEYS)), max_size=4)


@given(RECORDS, RECORDS, RECORDS, ANSWERS)
def test_d18_no_deletion_takes_a_match_away(present, add, delete, answers):
    made = gates.guarded(Change(OWNER, present, add - present, delete & present), answers)
    if not present and made.add:
        assert all(gates.matches(made.after, one.key) for one in answers if one.key is not None)
    if not made.delete:
        return
    for one in answers:
        if one.key is not None and gates.matches(present, one.key):
            assert gates.matches(made.after, one.key)
        assert one.key is not None or not made.after


def test_d18_a_retired_key_that_an_address_serves_may_not_go():
    owner = Owner(OWNER, (Seen("ns1", Outcome.ANSWER, BOTH, 300, True),), Validity.SECURE, BOTH, OWNER)
    survey = Survey(NOW, (owner,), (), (answer(NEW),))
    assert gates.may_go(survey, OLD)
    assert gates.may_go(replace(survey, addresses=()), OLD)
    assert not gates.may_go(replace(survey, addresses=(answer(NEW), answer(OLD))), OLD)


def test_d18_addresses_with_the_same_trouble_are_one_mismatch():
    def named(port, key):
        return Owner(
            f"_{port}._tcp.mx.example.org.",
            (Seen("ns1", Outcome.ANSWER, frozenset({record(key)}), 300, True),),
            Validity.SECURE,
            frozenset({record(key)}),
        )

    owners = tuple(named(port, NEW) for port in (25, 465))
    answers = tuple(AddressAnswer(owner.name, "192.0.2.2", OLD) for owner in owners)
    [one] = gates.mismatches(Survey(NOW, owners, (), answers))
    assert (one.ports, one.standing, one.key) == ((25, 465), Standing.MISMATCH, OLD)
    assert one.where == "192.0.2.2 (mx.example.org, ports 25, 465)"
    assert not gates.mismatches(Survey(NOW, owners, (), tuple(replace(each, key=NEW) for each in answers)))
