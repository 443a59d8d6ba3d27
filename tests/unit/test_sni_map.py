"""The table of names for Postfix."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from certbot_dovecot.servers import sni_map
from certbot_dovecot.servers.contract import Pair

LABELS = st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True)
NAMES = st.lists(LABELS, min_size=2, max_size=4).map(".".join)
PAIRS = st.builds(lambda stem: Pair(f"/store/{stem}.pem", f"/store/{stem}.key"), LABELS)


@given(st.dictionaries(NAMES, PAIRS))
def test_what_is_written_is_read(table):
    assert sni_map.parse(sni_map.dump(table)) == table
    assert list(sni_map.parse(sni_map.dump(table))) == list(table)


def test_the_key_stands_before_the_certificate():
    assert sni_map.dump({"a.test": Pair("/c.pem", "/k.key")}).endswith(b"\na.test /k.key /c.pem\n")


def test_a_file_that_is_not_there_is_an_empty_table():
    assert sni_map.parse(None) == {}


def test_the_nearest_entry_counts():
    own, wild = Pair("/own.pem", "/own.key"), Pair("/wild.pem", "/wild.key")
    table = {"a.example.org": own, ".example.org": wild}
    assert sni_map.find(table, "A.example.org") == own
    assert sni_map.find(table, "b.example.org") == sni_map.find(table, "c.b.example.org") == wild
    assert sni_map.find(table, "example.org") is None
    assert sni_map.find(table, None) is None


def test_entries_of_names():
    assert sni_map.keys(["A.test", "*.b.test", "127.0.0.1", "::1", "a.test"]) == ["a.test", ".b.test"]
