"""The table of names for Postfix."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from certbot_dovecot.servers import sni_map
from certbot_dovecot.servers.contract import Pair
from certbot_dovecot.servers.sni_map import Table
from tests.differential.names import look_up

LABELS = st.from_regex(r"[a-z0-9_-]{1,8}", fullmatch=True)
NAMES = st.tuples(st.sampled_from(["", "*."]), st.lists(LABELS, min_size=2, max_size=4).map(".".join)).map("".join)
PAIRS = st.builds(lambda stem: Pair(f"/store/{stem}.pem", f"/store/{stem}.key"), LABELS)
TABLES = st.builds(
    lambda named, shields: Table(named, {name: pair for name, pair in shields.items() if name not in named}),
    st.dictionaries(NAMES, PAIRS), st.dictionaries(NAMES, PAIRS),
)  # fmt: skip
OWN, WILD = Pair("/own.pem", "/own.key"), Pair("/wild.pem", "/wild.key")


@given(TABLES)
def test_what_is_written_is_read(table):
    assert sni_map.parse(sni_map.dump(table)) == table


@given(TABLES, NAMES)
def test_what_is_found_is_what_postfix_finds(table, name):
    data = sni_map.dump(table)
    for asked in [name.replace("*", "q"), *(one.replace("*", "q") for one in (*table.named, *table.shields))]:
        found = table.find(asked)
        assert look_up(data, asked) == (f"{found.key} {found.cert}" if found else "")
        # What Postfix asks for next, when it has found nothing.
        assert not any(look_up(data, asked[at.start() :]) for at in re.finditer(r"\.", asked))


def test_the_key_stands_before_the_certificate_and_exact_names_before_wildcards():
    data = sni_map.dump(Table({"*.a.test": WILD, "b.a.test": OWN}, {"c.a.test": OWN})).decode()
    assert [line for line in data.splitlines() if line[0] == "/"] == [
        r"/^c\.a\.test$/ /own.key /own.pem",
        r"/^b\.a\.test$/ /own.key /own.pem",
        r"/^[^.]+\.a\.test$/ /wild.key /wild.pem",
    ]


def test_a_file_that_is_not_there_is_an_empty_table():
    assert sni_map.parse(None) == sni_map.parse(sni_map.dump(Table())) == Table()


def test_what_is_no_line_of_ours_is_left_out():
    assert sni_map.parse(b"a.test k c\n/^a\\.test/ /k /c\nif /x/\n/^a\\.test$/ /k\n\xff\n") == Table()


FORMER = b"# Ours, as it was written at first.\n.example.org /wild.key /wild.pem\na.example.org /own.key /own.pem\n"


def test_a_table_of_the_former_format_is_read_and_written_again_in_the_new_one():
    assert sni_map.is_former(FORMER)
    table = sni_map.parse(FORMER)
    assert table == Table({"*.example.org": WILD, "a.example.org": OWN})
    assert not sni_map.is_former(sni_map.dump(table))
    assert sni_map.parse(sni_map.dump(table)) == table


def test_an_entry_is_taken_out_of_a_table_of_the_former_format_and_the_format_stays():
    kept = sni_map.former_without(FORMER, lambda cert: cert == OWN.cert)
    assert kept == FORMER.replace(b"a.example.org /own.key /own.pem\n", b"")
    assert sni_map.former_without(FORMER, lambda cert: False) == FORMER


def test_a_wildcard_is_one_label():
    table = Table({"a.example.org": OWN, "*.example.org": WILD})
    assert table.find("A.example.org") == OWN
    assert table.find("b.example.org") == WILD
    for name in ("c.b.example.org", "example.org", "org", "", None):
        assert table.find(name) is None
