"""What is to be published, and what never is: D1, D2, D4, D9, and that nobody else's record is ever lost."""

from __future__ import annotations

import datetime
import json
import os
from dataclasses import replace

import dns.name
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_dovecot import pairs, publishing, watch
from certbot_dovecot.dane import publish, update
from certbot_dovecot.dane.answers import Data, Key, Outcome, Owner, Seen, Survey, Validity
from certbot_dovecot.ledger import Ledger
from certbot_dovecot.pairs import Member
from certbot_dovecot.problems import ConfProblem, FileProblem, ServerProblem, ZoneProblem
from certbot_dovecot.rollover import messages
from certbot_dovecot.state import Options, State
from certbot_dovecot.store import Folder

NOW = datetime.datetime(2027, 1, 2, tzinfo=datetime.timezone.utc)
OWNER = "_465._tcp.mail.example.test."
KEYS = [Key(letter * 64, letter * 128) for letter in "ABCDEF"]
CURRENT, FOLLOWING, OLD = KEYS[:3]

sets = st.frozensets(
    st.builds(
        lambda key, matching, usage: Data(usage, 1, matching, key.digest(matching) or ""),
        st.sampled_from(KEYS),
        st.sampled_from([1, 2]),
        st.sampled_from([2, 3]),
    ),
    max_size=8,
)
GOOD = """\
# as certbot-dns-rfc2136 has it
dns_rfc2136_server = 192.0.2.1
dns_rfc2136_port = 5353
dns_rfc2136_name = keyname.
dns_rfc2136_secret = "4q4wM/2I180UXoMyN4INVhJNi8V9BCV+jMw2mXgZw/CSuxUT8C7NKKFs=="
dns_rfc2136_algorithm = hmac-sha512
"""


def one(key, matching=1):
    return Data(3, 1, matching, key.digest(matching))


def test_d9_the_next_key_stands_beside_the_served_one_and_the_old_one_goes():
    made = publish.change(OWNER, [CURRENT, FOLLOWING], {one(OLD), one(CURRENT)}, {one(OLD)})
    assert (made.add, made.delete) == ({one(FOLLOWING)}, {one(OLD)})
    assert made.after == {one(CURRENT), one(FOLLOWING)}


def test_d1_only_3_1_1_unless_someone_else_has_3_1_2():
    assert publish.change(OWNER, [CURRENT], set(), set()).add == {one(CURRENT)}
    made = publish.change(OWNER, [CURRENT, FOLLOWING], {one(CURRENT, 2)}, set())
    assert made.after == {one(CURRENT), one(CURRENT, 2), one(FOLLOWING), one(FOLLOWING, 2)}
    # When they have taken it away, ours goes too.
    assert publish.change(OWNER, [CURRENT], {one(CURRENT), one(CURRENT, 2)}, {one(CURRENT, 2)}).delete == {one(CURRENT, 2)}


def test_where_nothing_of_ours_is_served_only_ours_goes():
    made = publish.change(OWNER, [], {one(OLD), one(CURRENT)}, {one(CURRENT)})
    assert (made.add, made.delete) == (frozenset(), {one(CURRENT)})


def test_d4_a_crowded_set_does_not_grow():
    crowd = {Data(3, 1, 1, f"{number:064X}") for number in range(12)}
    assert publish.change(OWNER, [CURRENT], crowd, set()).crowded
    assert not publish.change(OWNER, [CURRENT], {*crowd, one(CURRENT)}, set()).crowded


@given(st.lists(st.sampled_from(KEYS), max_size=3, unique=True), sets, sets)
def test_nobody_elses_record_is_lost_and_every_key_has_its_own(keys, present, ours):
    made = publish.change(OWNER, keys, present, ours)
    assert present - ours <= made.after
    assert {one(key) for key in keys} <= made.after
    assert made.delete <= ours
    # D2: of every digest that is in the set, each key has a record, where it has one at all.
    for matching in {data.matching for data in made.after if data.usage == 3}:
        assert all(one(key, matching) in made.after for key in keys)
    again = publish.change(OWNER, keys, made.after, (ours & made.after) | made.add)
    assert again.idle


def survey(*seen, resolved=frozenset()):
    return Survey(NOW, (Owner(OWNER, seen, Validity.SECURE, frozenset(resolved), OWNER),))


def test_d2_what_only_a_resolver_remembers_does_not_stand_there():
    """Else a next key's record could be added alone where the other one is gone."""
    (place,) = publish.places(survey(Seen("ns", Outcome.ABSENT), resolved={one(CURRENT)}), {OWNER: [CURRENT]}, FOLLOWING)
    assert (place.present, place.blind) == (frozenset(), False)
    assert publish.change(OWNER, place.keys, place.present, set()).add == {one(CURRENT), one(FOLLOWING)}


@pytest.mark.parametrize("seen", [(), (Seen("ns", Outcome.SILENT), Seen("ns2", Outcome.LAME))])
def test_where_no_name_server_could_be_asked_nobody_knows_what_stands(seen):
    (place,) = publish.places(survey(*seen), {OWNER: [CURRENT]}, FOLLOWING)
    assert place.blind


def test_d2_name_servers_that_lag_take_no_3_1_2_away():
    """One of two, not seen yet or still, would be left alone of its kind, and stop mail."""
    ours = {one(CURRENT, 2), one(FOLLOWING, 2)}
    for seen in ({one(CURRENT), one(FOLLOWING)}, {one(CURRENT), one(CURRENT, 2), one(FOLLOWING)}):
        assert publish.change(OWNER, [CURRENT, FOLLOWING], {*seen, *ours}, ours).delete == ours
        made = publish.change(OWNER, [CURRENT, FOLLOWING], seen, ours, exact=False)
        # The one that is seen may be gone already where they stand.
        assert (made.add, made.delete) == (ours, frozenset())
    assert publish.change(OWNER, [CURRENT, FOLLOWING], {*seen, *ours}, ours, exact=False).idle


def test_what_a_program_deleted_stays_ours_until_no_name_server_has_it():
    place = publish.Place(OWNER, (OWNER,), (CURRENT,), frozenset({one(OLD), one(CURRENT)}))
    made = publish.change(OWNER, place.keys, place.present, {one(OLD)}, exact=False)
    assert (made.delete, publish.vanished(place, made, {one(OLD)})) == ({one(OLD)}, frozenset())
    place = publish.Place(OWNER, (OWNER,), (CURRENT,), frozenset({one(CURRENT)}))
    made = publish.change(OWNER, place.keys, place.present, {one(OLD)}, exact=False)
    assert (made.idle, publish.vanished(place, made, {one(OLD)})) == (True, {(OWNER, one(OLD))})


def test_what_is_added_is_not_forgotten_before_it_is_seen():
    place = publish.Place(OWNER, (OWNER,), (CURRENT,))
    made = publish.change(OWNER, place.keys, place.present, {one(CURRENT)})
    assert publish.vanished(place, made, {one(CURRENT)}) == frozenset()


def test_the_document_for_a_program_has_only_what_changes():
    changes = [
        publish.change(OWNER, [CURRENT], {one(OLD)}, {one(OLD)}),
        publish.change(OWNER, [CURRENT], {one(CURRENT)}, set()),
    ]
    assert json.loads(publish.document(changes)) == {
        "changes": [
            {
                "owner": OWNER,
                "ttl": 3600,
                "type": "TLSA",
                "present": [str(one(OLD))],
                "wanted": [str(one(CURRENT))],
                "add": [str(one(CURRENT))],
                "delete": [str(one(OLD))],
            }
        ]
    }


def ini(tmp_path, text, mode=0o600):
    path = tmp_path / "rfc2136.ini"
    path.write_text(text)
    os.chmod(path, mode)
    return str(path)


def test_credentials_as_certbots_own_plugin_has_them(tmp_path):
    read = publish.credentials(ini(tmp_path, GOOD))
    assert (read.address, read.port, read.key, read.algorithm, read.sign_query) == (
        "192.0.2.1", 5353, "keyname.", "HMAC-SHA512", False,
    )  # fmt: skip
    assert read.secret.endswith("==")
    assert read.secret not in repr(read)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("192.0.2.1", "ns.example.test", "dns_rfc2136_server is no address: ns.example.test"),
        ("5353", "0", "dns_rfc2136_port is no port: 0"),
        ("hmac-sha512", "crc32", "dns_rfc2136_algorithm is not known: CRC32"),
        ("dns_rfc2136_name = keyname.\n", "", "dns_rfc2136_name is missing"),
        ("5353", "5353\ndns_rfc2136_port = 54", "this is not an INI file"),
    ],
)
def test_credentials_that_are_wrong(tmp_path, old, new, said):
    path = ini(tmp_path, GOOD.replace(old, new))
    with pytest.raises(ConfProblem) as caught:
        publish.credentials(path)
    assert said in str(caught.value)
    assert path in str(caught.value)


def test_credentials_that_everybody_can_read_are_refused(tmp_path):
    with pytest.raises(ConfProblem, match="chmod 600"):
        publish.credentials(ini(tmp_path, GOOD, 0o644))
    with pytest.raises(FileProblem):
        publish.credentials(str(tmp_path / "none"))


# D23: zones are independent

HERE, THERE = "_465._tcp.mail.example.test.", "_465._tcp.mail.still.test."


class Primary:
    """A name server that takes updates of some zones."""

    def __init__(self, takes=("example.test.",), broken=""):
        self.takes, self.broken, self.sets = takes, broken, {}

    def zone(self, owner):
        return dns.name.from_text(owner.split(".", 3)[3])

    def publish(self, owner, keys, ours, before, ttl, gate):
        made = gate(publish.change(owner, keys, self.sets.get(owner, frozenset()), ours, ttl))
        if owner == self.broken:
            raise ServerProblem("no usable answer", todo="x")
        if made.idle:
            return made
        before(made)
        if self.zone(owner).to_text() not in self.takes:
            raise ZoneProblem(f"it takes no update of {owner} (REFUSED)", todo="x")
        self.sets[owner] = made.after
        return made


@pytest.fixture
def published(monkeypatch):
    """Publishes at both places by way of a name server; what is ours then, and the changes."""

    def by(primary, *places):
        pair = pairs.Pair("mail", Folder("/f", "/f/s"), Ledger(), Member(None, State(options=Options(publish_rfc2136="/c"))))
        way = type("Way", (), {"clock": staticmethod(lambda: NOW)})()
        monkeypatch.setattr(publish, "credentials", lambda path: None)
        monkeypatch.setattr(update, "Primary", lambda credentials: primary)
        monkeypatch.setattr(watch, "write_down", lambda way, pair, make: replace(pair, ledger=make(pair.ledger)))
        pair, changes = publishing.publish_them(way, pair, places)
        return pair.ledger.ours, changes, publishing.after(places, changes)

    return by


def place(name, **more):
    return publish.Place(name, (name,), (CURRENT, FOLLOWING), served=(CURRENT,), **more)


@pytest.mark.parametrize("order", [(HERE, THERE), (THERE, HERE)])
def test_d23_a_zone_that_takes_no_updates_stops_nothing_in_another(published, order):
    primary = Primary()
    ours, changes, places = published(primary, *map(place, order))
    assert primary.sets == {HERE: {one(CURRENT), one(FOLLOWING)}}
    # What was not taken is not ours, and not waited for.
    assert ours == {(HERE, one(CURRENT)), (HERE, one(FOLLOWING))}
    assert [one.name for one in places if one.by_hand] == [THERE]
    [told] = messages.refusals(changes)
    assert told.startswith(f"Not published at {THERE}: it takes no update of these names (REFUSED).")


def test_d23_the_run_fails_where_no_zone_takes_updates(published):
    with pytest.raises(ZoneProblem):
        published(Primary(takes=()), place(HERE), place(THERE))
    # Nor does it help that there was nothing to do at another name of the same zone.
    primary, imap = Primary(takes=()), "_993._tcp.mail.still.test."
    primary.sets[imap] = frozenset({one(CURRENT), one(FOLLOWING)})
    with pytest.raises(ZoneProblem):
        published(primary, place(THERE), place(imap))
    with pytest.raises(ServerProblem, match="no usable answer"):
        published(Primary(broken=THERE), place(HERE), place(THERE))


def test_d23_a_name_beyond_the_certificate_never_makes_the_run_fail(published):
    _, changes, _ = published(Primary(takes=()), place(THERE, optional=True))
    assert changes[0].refused
    assert messages.refusals(changes) == []
