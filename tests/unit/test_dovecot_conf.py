"""The reader of Dovecot's language, and the edits: every mismatch with ``doveconf`` that was found has its name here."""

from __future__ import annotations

import fnmatch
import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certbot_dovecot.problems import ConfProblem
from certbot_dovecot.servers import dovecot_conf as conf
from certbot_dovecot.servers import dovecot_plan
from certbot_dovecot.servers.contract import Claim, Pair
from tests.differential.dovecot import Maker
from tests.plays import examples

PAIR = Pair("/store/a/2026.pem", "/store/a/2026.key")
V24 = "dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0\n"


def reader(files):
    """A tree of files in memory."""

    def expand(pattern):
        if "{" in pattern:
            head, _, rest = pattern.partition("{")
            inner, _, tail = rest.partition("}")
            return [path for part in inner.split(",") for path in expand(head + part + tail) or ()]
        names = [name for name in sorted(files) if fnmatch.fnmatch(name, pattern)]
        return [name for name in names if pattern == name or not os.path.basename(name).startswith(".")] or None

    return conf.read("/c/main.conf", files.__getitem__, expand)


def tree(text, **more):
    files = {"/c/main.conf": text.encode("utf-8", "surrogateescape")}
    files.update({f"/c/{name}.conf": other.encode() for name, other in more.items()})
    return reader(files)


def value(text, setting="login_greeting", scope=(), **more):
    found = tree(text, **more).effective(setting, scope)
    return found and found.value


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ('"', ""),
        ("'", ""),
        ('"a" "b"', 'a" "b'),
        ('"v\'', '"v\''),
        ('"  v  "', "  v  "),
        (r'"a\"b\\"', 'a"b\\'),
        ("v#c", "v"),
        ("it's v # c", "it's v # c"),
        ('"a # b" # c', "a # b"),
        ("a \\\n   b", "a b"),
        ("a\\\nb", "a b"),
        ("a \\  \n b # c", "a b"),
        ("{", "{"),
        ("= v", "= v"),
        ("grüße", "grüße"),
        ("v\rw", "v\rw"),
        ("<x", "x"),
    ],
)
def test_values(line, wanted):
    assert value(f"login_greeting = {line}\n") == wanted


@pytest.mark.parametrize("dropped", ["# c", ""])
def test_a_comment_or_a_blank_line_drops_what_a_backslash_continued(dropped):
    assert value(f"login_greeting = a\nlogin_greeting = b \\\n{dropped}\n") == "a"


def test_a_comment_never_continues():
    assert value("# c \\\nlogin_greeting = v # d \\\nlog_path = x\n") == "v"


def test_a_line_goes_on_in_the_including_file():
    assert value("!include inc.conf\n b\n", inc="login_greeting = a \\\n") == "a b"


def test_at_the_end_of_the_main_file_it_is_lost():
    assert value("login_greeting = a\nlogin_greeting = b \\\n") == "a"


def test_vertical_tab_is_blank_in_2_4_only():
    assert value("login_greeting = \vv\f\n") == "\vv\f"
    assert value(V24 + "login_greeting = \vv\f\n") == "v"


def test_quoted_keys_and_heredocs_of_2_4():
    assert value(V24 + '"login_greeting" = v\n') == "v"
    assert value(V24 + "login_greeting = <<END\na\n b # c\nEND\nlog_path = x\n") == "a\n b # c"
    with pytest.raises(ConfProblem, match=r"main\.conf:3: .*END has no end"):
        tree(V24 + "login_greeting = <<END\na\nEND #\n")


def test_blocks_go_from_file_to_file():
    text = "!include begin.conf\n login_greeting = inner\n}\nlogin_greeting = outer\n"
    assert value(text, scope=(("protocol", "imap"),), begin="protocol imap {\n") == "inner"
    assert value(text, begin="protocol imap {\n") == "outer"


def test_of_two_nested_networks_2_3_keeps_the_inner_and_2_4_both():
    text = "remote 10.0.0.0/8 {\nremote 10.0.0.1 {\nlogin_greeting = v\n}\n}\n"
    assert value(text, scope=(("remote", "10.0.0.1"),)) == "v"
    assert value(V24 + text, scope=(("remote", "10.0.0.0/8"), ("remote", "10.0.0.1"))) == "v"


@pytest.mark.parametrize(
    "form",
    [
        "ssl_server {\ncert_file = /x\n}",
        "ssl_server {\nssl_server_cert_file = /x\n}",
        "ssl_server/cert_file = /x",
        "ssl_server_cert_file=/x",
        '"ssl_server_cert_file" = "/x"',
    ],
)
def test_one_setting_of_2_4_in_all_its_spellings(form):
    assert value(f"{V24}{form}\n", "ssl_server_cert_file") == "/x"


def test_a_group_is_weaker_than_what_is_explicit():
    group = "group @ssl x {\nssl_server_cert_file = /g\n}\n@ssl = x\n"
    assert value(V24 + group, "ssl_server_cert_file") == "/g"
    assert value(f"{V24}ssl_server_cert_file = /e\n{group}", "ssl_server_cert_file") == "/e"


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [
        ("\n}\n", "main.conf:2", "without a block"),
        ("protocol imap {\n", "main.conf:1", "not closed"),
        ("protocol imap{\n}\n", "main.conf:1", "cannot be understood"),
        ("protocol imap { login_greeting = x }\n", "main.conf:1", "not closed|cannot be understood"),
        ("protocol imap {\nprotocol pop3 {\n}\n}\n", "main.conf:2", "not allowed"),
        ("protocol imap {\nlocal_name a {\n}\n}\n", "main.conf:2", "not allowed"),
        ("local_name a b {\n}\n", "main.conf:1", "cannot be understood"),
        ("!include nope.conf\n", "main.conf:1", "not there"),
        ("!include main.conf\n", "main.conf", "by itself"),
        ("\ufefflogin_greeting = v\n", "main.conf:1", "byte order mark"),
        ("a = b\nlogin_greeting = v\0\n", "main.conf:2", "NUL"),
    ],
)
def test_what_cannot_be_understood_is_told_with_its_place(text, where, said):
    with pytest.raises(ConfProblem, match=said) as caught:
        tree(text)
    assert where in str(caught.value)


def claim(**more):
    return Claim(PAIR, ("mail.example.org",), owns=lambda path: path.startswith("/store/a/"), **more)


def planned(found, wanted):
    edits, _ = dovecot_plan.plan(found, "/c/main.conf", wanted, found.files.get(f"/c/{dovecot_plan.SNI_FILE}"))
    return {edit.path: edit.new for edit in edits}


trees = st.tuples(st.integers(0, 2**32), st.sampled_from([conf.V23, conf.V24]))


def made(seed, dialect):
    case = Maker(random.Random(seed), dialect, heredocs=True).make()
    return {f"/c/{name}": text.encode() for name, text in case.files.items()}


@settings(deadline=None, max_examples=examples(150))
@given(trees)
def test_an_install_makes_the_default_ours_and_a_second_changes_nothing(drawn):
    files = made(*drawn)
    try:
        edits = planned(reader(files), claim())
    except ConfProblem:
        return
    files.update(edits)
    after = reader(files)
    for setting, wanted in ((after.dialect.cert, PAIR.cert), (after.dialect.key, PAIR.key)):
        found = after.effective(setting)
        assert found is not None
        assert (found.value, found.is_file) == (wanted, True)
    assert planned(after, claim()) == {}


def comments(data):
    return [line.rstrip(b"\r") for line in data.split(b"\n") if line.lstrip().startswith(b"#")]


@settings(deadline=None, max_examples=examples(150))
@given(trees)
def test_every_line_that_says_something_else_stays(drawn):
    files = made(*drawn)
    try:
        before = reader(files)
        edits = planned(before, claim())
    except ConfProblem:
        return
    after = reader({**files, **edits})
    meant = (before.dialect.cert, before.dialect.key)

    def others(found):
        return [(a.path, a.scope, a.key, a.value) for a in found.assignments if a.setting not in meant and a.path in files]

    assert others(after) == others(before)
    for path, new in edits.items():
        if path not in files:
            continue
        # A last line without an end gets one.
        assert comments(new) == comments(files[path])
        assert (b"\r\n" in new) == (b"\r\n" in files[path])


@settings(deadline=None, max_examples=examples(100))
@given(trees)
def test_keeping_true_touches_only_what_names_our_files(drawn):
    files = made(*drawn)
    try:
        before = reader(files)
        assert planned(before, claim(explicit=False)) == {}
        files.update(planned(before, claim()))
    except ConfProblem:
        return
    new = Pair("/store/a/2027.pem", "/store/a/2027.key")
    wanted = Claim(new, ("mail.example.org",), explicit=False, owns=lambda path: path.startswith("/store/a/"))
    edits = planned(reader(files), wanted)
    for path, data in edits.items():
        # A line that another one overrides stays as it is.
        assert data.replace(b"/store/a/2027.", b"/store/a/2026.") == files[path]
    after = reader({**files, **edits})
    for scope in after.scopes((after.dialect.cert, after.dialect.key)):
        for setting in (after.dialect.cert, after.dialect.key):
            found = after.effective(setting, scope)
            assert found is None or "2026" not in found.value


def test_a_comment_behind_a_continued_value_stays():
    found = tree("ssl_cert = \\\n  </old.pem # mine\nssl_key = </old.key\n")
    assert planned(found, claim())["/c/main.conf"] == (
        b"ssl_cert = \\\n  </store/a/2026.pem # mine\nssl_key = </store/a/2026.key\n"
    )


def test_of_a_group_the_explicit_setting_is_added_where_it_is_used():
    text = V24 + "group @ssl x {\nssl_server_cert_file = /g\nssl_server_key_file = /h\n}\n@ssl = x\n"
    assert planned(tree(text), claim())["/c/main.conf"].decode() == (
        f"{text}ssl_server_cert_file = {PAIR.cert}\nssl_server_key_file = {PAIR.key}\n"
    )


def test_obsolete_names_take_a_path_without_the_mark():
    found = tree("ssl_cert_file = /old.pem\nssl_key_file = /old.key\n")
    assert planned(found, claim())["/c/main.conf"] == b"ssl_cert_file = /store/a/2026.pem\nssl_key_file = /store/a/2026.key\n"


def test_a_block_of_other_names_keeps_its_certificate():
    text = "ssl_cert = </o.pem\nssl_key = </o.key\nlocal 10.0.0.1 {\nssl_cert = </x.pem\nssl_key = </x.key\n}\n"
    covers = {"/x.pem": frozenset({"other.example.org"}), "/o.pem": frozenset()}.get
    new = planned(tree(text), claim(covers=covers))["/c/main.conf"]
    assert b"</x.pem" in new
    covers = {"/x.pem": frozenset({"*.example.org"}), "/o.pem": frozenset()}.get
    assert b"</x.pem" not in planned(tree(text), claim(covers=covers))["/c/main.conf"]


def further(**more):
    return Claim(
        PAIR,
        ("b.test", "c.test"),
        owns=lambda path: path.startswith("/store/a/"),
        another=lambda path: path.startswith("/store/first/"),
        covers=lambda path: frozenset({"first.test"}),
        **more,
    )


def test_a_further_lineage_of_2_3_goes_before_a_wildcard_that_matches():
    text = "ssl_cert = </store/first/2026.pem\nssl_key = </store/first/2026.key\n"
    block = "local_name *.test {\nssl_cert = </w.pem\nssl_key = </w.key\n}\n"
    edits = planned(tree(text + block), further())
    assert edits["/c/main.conf"].decode() == f"{text}!include_try {dovecot_plan.SNI_FILE}\n{block}"
    assert b'local_name "b.test c.test" {\n  ssl_cert = </store/a/2026.pem\n' in edits[f"/c/{dovecot_plan.SNI_FILE}"]


def test_a_further_lineage_of_2_4_goes_to_the_end_one_block_a_name():
    text = V24 + "ssl_server_cert_file = /store/first/2026.pem\nssl_server_key_file = /store/first/2026.key\n"
    text += "ssl_server_alt_cert_file = /alt.pem\n"
    edits = planned(tree(text), further())
    assert edits["/c/main.conf"].decode() == f"{text}!include_try {dovecot_plan.SNI_FILE}\n"
    assert edits[f"/c/{dovecot_plan.SNI_FILE}"].decode().endswith(
        f"local_name c.test {{\n  ssl_server_cert_file = {PAIR.cert}\n  ssl_server_key_file = {PAIR.key}\n"
        "  ssl_server_alt_cert_file =\n  ssl_server_alt_key_file =\n}\n"
    )
