"""Which lineage is served for which name, on both servers: overlapping lineages that come, go, and change their names."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from certbot_dovecot.servers import by_name
from certbot_dovecot.servers.contract import Claim, Pair
from certbot_dovecot.servers.dovecot_conf import V23, V24
from tests.differential.names import ASKED, NAMES, OLD, World, ask_dovecot, ask_postfix
from tests.plays import examples

LINEAGES = 4
names = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True)
events = st.tuples(st.sampled_from(["install", "install", "renew", "rename", "undo"]), st.integers(0, LINEAGES - 1), names)


#: A lineage becomes the default one with fewer names: what it was served for by name goes back to the lineage that has it.
LEFT_FOR_THE_DEFAULT = [
    ("install", 1, "b.x.test"), ("install", 2, "x.test a.x.test"), ("install", 0, "x.test"), ("install", 0, "b.x.test"),
]  # fmt: skip


def covers(certificate, name):
    """RFC 9525 section 6.3, in other words than the code's."""
    return name in certificate or any(one[:2] == "*." and one[2:] == name.split(".", 1)[-1] for one in certificate)


def play(world, happened):
    """Let things happen; the lineages in the order of their installs, the last one last."""
    order = []
    for what, who, some in happened:
        if what == "install":
            world.install(who, some)
        elif who not in world.installed():
            continue
        elif what == "undo":
            world.undo(who)
        else:
            world.renew(who, some if what == "rename" else ())
        if what != "renew":
            order = [one for one in order if one != who] + [who]
    return order


@settings(deadline=None, max_examples=examples(400))
@given(st.sampled_from([V23, V24]), st.lists(events, min_size=1, max_size=7))
@example(V23, [(do, who, names.split()) for do, who, names in LEFT_FOR_THE_DEFAULT])
def test_every_name_gets_the_most_exact_certificate_and_others_the_default(dialect, happened):
    world = World(dialect)
    order = play(world, happened)
    installed = world.installed()
    for ask in (ask_postfix, ask_dovecot):
        default = ask(world, "nobody.example")
        for name in ASKED:
            got = ask(world, name)
            having = [who for who in installed if name in world.names[who]]
            fitting = [who for who in installed if covers(world.names[who], name)]
            if not fitting:
                assert got == default, (ask, name)
                continue
            served = world.who(got)
            assert got == (world.pair(served).cert if served >= 0 else OLD.cert), "a key that is not the newest"
            assert served in (having or fitting), (ask, name)
            if having and not {"rename", "undo"} & {what for what, _, _ in happened}:
                assert served == max(having, key=order.index), (ask, name)


@settings(deadline=None, max_examples=examples(200))
@given(st.sampled_from([V23, V24]), st.lists(events, min_size=1, max_size=7))
def test_when_the_last_one_is_undone_nothing_is_left_that_names_ours(dialect, happened):
    world = World(dialect)
    play(world, happened)
    for who in sorted(world.installed()):
        world.undo(who)
    assert b"/store/" not in b"".join([*world.files.values(), world.master, world.table])
    assert {ask(world, name) for ask in (ask_postfix, ask_dovecot) for name in ASKED} == {OLD.cert}


@settings(deadline=None, max_examples=examples(200))
@given(st.sampled_from([V23, V24]), st.lists(events, min_size=1, max_size=6))
def test_a_second_plan_of_the_same_changes_nothing(dialect, happened):
    world = World(dialect)
    play(world, happened)
    for who in sorted(world.installed()):
        before = dict(world.files), world.master, world.table
        world._plan(world.claim(who, False))
        assert (world.files, world.master, world.table) == before


@pytest.mark.parametrize(
    ("pattern", "name", "wanted"),
    [
        ("a.test", "A.test", True), ("*.test", "a.test", True), ("*.test", "a.b.test", False), ("*.test", "test", False),
        ("*.test", "*.TEST", True), ("*.b.test", "*.test", False), ("a.test", "*.test", False), ("a.*.test", "a.b.test", False),
        ("f*.test", "foo.test", False), ("*.test", ".test", True),
    ],
)  # fmt: skip
def test_what_a_name_of_a_certificate_covers(pattern, name, wanted):
    assert by_name.covers(pattern, name) is wanted


def test_names_that_a_client_cannot_ask_for_get_no_entry():
    odd = ["A.test", "*.b.test", "127.0.0.1", "::1", "a.test", "a b.test", "a/b.test", "*", "a.*.test", "", "x\n.test", "$h.t"]
    assert by_name.keys(odd) == ["a.test", "*.b.test"]


@pytest.mark.parametrize(
    ("certificates", "others"),
    [
        ([{"mail.example.net"}], ("mail.example.net",)),
        ([{"mail.example.net", "mail.example.test"}], ()),
        ([{"*.example.test"}], ()),
        ([{"imap.wild.test"}], ()),
        ([{"a.imap.wild.test"}], ("a.imap.wild.test",)),
        ([{"MAIL.example.test"}], ()),
        ([None], ()),
        ([set()], ()),
        ([{"localhost"}], ()),
        ([None, {"mail.example.net"}], ("mail.example.net",)),
        ([{"mail.example.net"}, {"mail.example.test"}], ()),
    ],
)
def test_a_certificate_of_others(certificates, others):
    files = {str(number): None if some is None else frozenset(map(str.lower, some)) for number, some in enumerate(certificates)}
    claim = Claim(Pair("/c", "/k"), ("mail.example.test", "*.wild.test"), covers=files.get)
    assert by_name.others_names(claim, files) == others
