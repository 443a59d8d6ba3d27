"""The reader and editor of master.cf: every form that Postfix reads, and the ones that its daemons die of."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certbot_dovecot.problems import ConfProblem
from certbot_dovecot.servers import master_cf
from tests.differential.postfix import make
from tests.plays import examples

HEAD = "submission inet n - y - - smtpd"
NEW = {"smtpd_tls_cert_file": "/n.pem", "smtpd_tls_key_file": "/n.key"}


def parse(text):
    return master_cf.parse(text.encode(), "master.cf")


def edit(text, values, line=1):
    data = text.encode()
    return master_cf.set_options(data, master_cf.parse(data, "master.cf"), {line: values}, "master.cf").decode()


@pytest.mark.parametrize(
    ("form", "after"),
    [
        ("  -o x=1\n", "  -o x=2\n"),
        ("  -o\n    x=1\n", "  -o\n    x=2\n"),
        ("  -o\n# c\n\n    x=1\n", "  -o\n# c\n\n    x=2\n"),
        ("  -o { x = 1 }\n", "  -o { x = 2 }\n"),
        ("  -o {x=1}\n", "  -o { x = 2 }\n"),
        ("  -o { x\n    = 1 }\n", "  -o { x = 2 }\n"),
        ("  -ox=1\n", "  -ox=2\n"),
        ("  -o y=0 -o x=1 -o z=3\n", "  -o y=0 -o x=2 -o z=3\n"),
        ("  -o x=0\n  -o x=1\n", "  -o x=0\n  -o x=2\n"),
        ("\t-o x=1\n", "\t-o x=2\n"),
        ("  -o x=1", "  -o x=2"),
        ("  -o x=1\r\n", "  -o x=2\r\n"),
    ],
)
def test_an_option_is_changed_in_its_own_form(form, after):
    [entry] = parse(f"{HEAD}\n{form}")
    assert entry.option("x") == "1"
    assert edit(f"{HEAD}\n{form}", {"x": "2"}) == f"{HEAD}\n{after}"


def test_a_new_option_is_added_at_the_end_of_its_service():
    text = f"{HEAD}\n# c\n    -o a=1\n# of the next\nsmtp inet n - y - - smtpd\n"
    assert edit(text, {"x": "2"}) == text.replace("a=1\n", "a=1\n    -o x=2\n")
    assert edit(HEAD, {"x": "2"}) == f"{HEAD}\n  -o x=2"


@pytest.mark.parametrize("form", ["-o x = 1", "-o x= 1", "-o{ x = 1 }", "-o { x = 1", "-o", "-- -o x=1", "-o a=1 # c"])
def test_what_a_daemon_dies_of_is_not_edited(form):
    with pytest.raises(ConfProblem, match=r"master\.cf:1"):
        edit(f"{HEAD}\n  {form}\n", {"x": "2"})


@pytest.mark.parametrize("text", ["  -o x=1\n", "submission inet n - y - -\n"])
def test_what_postfix_itself_refuses(text):
    with pytest.raises(ConfProblem, match=r"master\.cf:1"):
        parse(text)


@pytest.mark.parametrize(
    ("name", "host", "port"),
    [
        ("smtp", "", 25),
        ("smtps", "", 465),
        ("submissions", "", 465),
        ("submission", "", 587),
        ("465", "", 465),
        ("127.0.0.1:10465", "127.0.0.1", 10465),
        ("[127.0.0.1]:10465", "127.0.0.1", 10465),
        ("[::1]:587", "::1", 587),
        ("localhost:submission", "localhost", 587),
    ],
)
def test_names_of_services(name, host, port):
    [entry] = parse(f"{name} inet n - y - - smtpd\n")
    assert (entry.host, entry.port) == (host, port)


def test_options_that_hang_on_the_service_above():
    text = "smtp inet n - y - - smtpd\n#submission inet n - y - - smtpd\n  -o smtpd_tls_wrappermode=yes\n"
    assert master_cf.orphans(text.encode()) == (3,)
    assert master_cf.orphans(text.replace("\n  -o", "\n#  -o").encode()) == ()


def test_quotes_are_letters():
    [entry] = parse(f'{HEAD}\n  -o x="1"\n')
    assert entry.option("x") == '"1"'


@settings(deadline=None, max_examples=examples(200))
@given(st.integers(0, 2**32))
def test_only_what_is_meant_changes_and_only_once(seed):
    text = make(random.Random(seed))
    before = parse(text)
    lines = {entry.line: NEW for entry in before if entry.fields[1] == "inet"}
    data = master_cf.set_options(text.encode(), before, lines, "master.cf")
    after = master_cf.parse(data, "master.cf")
    assert len(after) == len(before)
    for old, new in zip(before, after):
        names = {option.name for option in (*old.options, *new.options)}
        for name in names:
            wanted = NEW.get(name) if old.fields[1] == "inet" and name in NEW else old.option(name)
            assert new.option(name) == wanted
        assert new.fields == old.fields
    again = {entry.line: NEW for entry in after if entry.fields[1] == "inet"}
    assert master_cf.set_options(data, after, again, "master.cf") == data
    kept = [line for line in text.split("\n") if line.startswith("#")]
    assert [line for line in data.decode().split("\n") if line.startswith("#")] == kept
