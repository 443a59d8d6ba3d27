"""What comes from outside is checked where it comes in: names of certificates, lineages, options (rule R12)."""

from __future__ import annotations

import dataclasses
import datetime
import os

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from certbot_dovecot import bundle as bundles
from certbot_dovecot import jobs, lineages, store
from certbot_dovecot.bundle import Source
from certbot_dovecot.certificates import names
from certbot_dovecot.cli import main
from certbot_dovecot.monitoring import leaves
from certbot_dovecot.problems import BundleProblem, Problem
from certbot_dovecot.state import Options
from tests.lab.ca import CA
from tests.unit import hostile

NOW = datetime.datetime.now(datetime.timezone.utc)


@pytest.fixture(scope="module")
def authority():
    return CA.make()


@pytest.mark.parametrize(
    "name",
    ["a", "localhost", "a.test", "MAIL.Example.org", "xn--nxasmq6b.test", "*.a.test", "*.test", "1.a", "a-b.c",
     f"{'a' * 63}.test", ".".join(["a" * 49] * 5)],
)  # fmt: skip
def test_host_names(name):
    assert names.is_host_name(name)
    assert names.normal(f"{name}.") == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "*", "a..b", ".a", "a..", "a_b.test", "-a.test", "a-.test", "a.*.test", "*a.test", "*.*.test", "a b", "a\n",
     "a.test\n", "é.test", "\uff11.test",
     f"{'a' * 64}.test", ".".join(["a" * 50] * 5), "1.2.3", "a.1", "a/b", "a:1", "fe80::1%x\nlocal_name",
     "a\0b", "[::1]", "a@b.test", hostile.ATTACK],
)  # fmt: skip
def test_what_is_none(name):
    assert names.normal(name) == ""


def test_addresses():
    for name in ("192.0.2.1", "2001:db8::1"):
        assert names.normal(name) == name
        assert not names.is_host_name(name)


@given(hostile.NAME)
def test_what_is_taken_has_no_meaning_of_its_own_anywhere(name):
    taken = names.normal(name)
    assert taken in (name, name[:-1], "")
    if taken:
        assert names.is_word(taken)
        assert len(taken) <= 253
        assert not set(taken) & set(" \t\n\"'#\\{}<>$%;,|/=()[]@!_")


@given(st.one_of(st.text(), hostile.TEXT))
def test_text_is_shown_on_one_line_and_nothing_of_it_is_lost(text):
    shown = names.shown(text)
    assert not hostile.HIDDEN.search(shown)
    assert "\n" not in shown
    assert "\t" not in shown
    assert names.shown(shown) == shown
    assert shown == text or hostile.HIDDEN.search(text) or "\n" in text or "\t" in text
    lines = names.shown_lines(text)
    assert not hostile.HIDDEN.search(lines)
    assert [names.shown(line) for line in text.split("\n")] == [names.shown(line) for line in lines.split("\n")]
    assert len(names.brief(text)) < 1500


def test_how_it_is_shown():
    assert names.shown("a\x1b[31m\n\tb\u202e\udc80") == "a\\x1b[31m\\n\\tb\\u202e\\udc80"
    assert names.brief("x" * 500) == f"'{'x' * 120}...'"


BAD = [hostile.ATTACK, "a_b.test", "bücher.test", "a.test\x1b[2J", "a.test ", "\0", "", "a.test\n"]


@pytest.mark.parametrize("bad", BAD)
def test_a_bundle_with_a_name_that_is_none_is_refused_and_shown_on_one_line(authority, bad):
    made = hostile.leaf(authority, ["ok.test", bad])
    chain = [one.public_bytes(Encoding.PEM) for one in made.chain]
    with pytest.raises(BundleProblem, match="is neither a host name nor an IP address") as caught:
        bundles.make(made.key_pem(), made.cert_pem, chain, NOW, Source("/k", "/c"))
    assert names.brief(bad) in str(caught.value)
    assert not hostile.HIDDEN.search(str(caught.value))
    assert "\n" not in str(caught.value)
    # To look at it never fails.
    shown = bundles.names_of(made.cert)
    assert shown == ("ok.test", names.shown(bad))
    assert leaves.describe(made.cert).names == shown


def test_a_common_name_that_is_none_is_refused_where_it_counts(authority):
    made = hostile.leaf(authority, [], hostile.ATTACK[:60])
    with pytest.raises(BundleProblem, match="neither a host name"):
        bundles.host_names(made.cert, "/c")
    assert bundles.names_of(made.cert) == (names.shown(hostile.ATTACK[:60]),)
    # With other names, it is for people.
    assert bundles.host_names(hostile.leaf(authority, ["a.test"], "My mail server").cert, "/c") == ("a.test",)


#: No sequence; a name of two bytes, and of four, that are no text; an address of three bytes.
BROKEN = [b"garbage", bytes.fromhex("3004820200ff"), bytes.fromhex("3006820461ff622e"), b"\x30\x05\x87\x03abc"]


@pytest.mark.parametrize("extension", BROKEN)
def test_names_that_cannot_be_parsed(authority, extension):
    made = hostile.leaf(authority, extension)
    with pytest.raises(BundleProblem, match="names in the certificate cannot be read"):
        bundles.host_names(made.cert, "/c")
    assert bundles.names_of(made.cert) == ()


def test_a_dot_at_the_end_goes(authority):
    made = hostile.leaf(authority, ["mail.a.test.", "192.0.2.1"])
    assert bundles.host_names(made.cert, "/c") == ("mail.a.test", "192.0.2.1")


LINEAGES = ["../x", "a/b", "/etc/x", ".hidden", "..", "", "a\nb", "a\0b", "a\x1b[2Jb", "-rf", "a\u202eb", "a\udc80"]


@pytest.mark.parametrize("name", LINEAGES)
def test_a_lineage_is_no_path(tmp_path, name):
    with pytest.raises(Problem, match="not a name for a lineage"):
        names.check_lineage(name)
    if name:
        with pytest.raises(Problem, match="not a name for a lineage"):
            store.folder("/home", "", name)
        with pytest.raises(Problem, match="not a name for a lineage"):
            store.folder("/home", "", "a.test", name)
    with pytest.raises(Problem, match="not a name for a lineage"):
        lineages.parameters(str(tmp_path), name)


def test_a_renewal_configuration_elsewhere_is_none(tmp_path):
    renewal = tmp_path / "renewal"
    renewal.mkdir()
    text = "".join(f"{part} = /x/{part}\n" for part in ("privkey", "cert", "chain", "fullchain"))
    for path in (tmp_path / "x.conf", renewal / "a.test.conf", renewal / ".hidden.conf", renewal / "a\nb.conf"):
        path.write_text(text)
    assert lineages.load(str(tmp_path), "../x") is None
    assert [one.name for one in lineages.every(str(tmp_path))] == ["a.test"]


@pytest.mark.parametrize("name", ["../x", "a b", "a/b", hostile.ATTACK])
def test_a_certificate_from_elsewhere_gets_no_folder_of_such_a_name(name):
    with pytest.raises(Problem, match="neither a host name nor an IP address"):
        jobs.external_name([name])
    assert jobs.external_name(["*.a.test"]) == "a.test-external"
    assert jobs.external_name([]) == "certificate-external"


@pytest.mark.parametrize("option", [one.name for one in dataclasses.fields(Options) if one.type == "str"])
@pytest.mark.parametrize("control", ["\n", "\0", "\x1b", "\x9b", "\u202e"])
def test_an_option_has_no_control_character_in_it(tmp_path, option, control):
    with pytest.raises(Problem, match=f"--dovecot-{option.replace('_', '-')}: a line break or another control character"):
        jobs.options(str(tmp_path), "", {option: f"a{control}b"})


COMMANDS = [
    *[(word, "../x") for word in ("status", "doctor", "tlsa", "deploy", "rollover", "standby", "undo")],
    ("plan", "--lineage", "../x"),
    ("csr", "a.test", "--lineage", "../x"),
    ("install-cert", "--cert", "x", "--lineage", "../x"),
]


@pytest.mark.parametrize("words", COMMANDS)
def test_the_command_line_refuses_a_lineage_that_is_none(tmp_path, capsys, words):
    assert main([*words, "--config-dir", str(tmp_path)]) == 1
    said = "certbot-dovecot: ../x: this is not a name for a lineage. Nothing was changed. Give"
    assert capsys.readouterr().err.startswith(said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("tlsa", "--server-root", "/a\nb"), "--server-root: a line break or another control character is in it: '/a\\nb'"),
        (("deploy", "--store", "/a\x1b[2J"), "--store: a line break or another control character is in it: '/a\\x1b[2J'"),
        (("deploy", "--postfix-services", "a\nb"), "--postfix-services: a line break"),
        (("install-cert", "--cert", "x", "--resolver", "::1\n"), "--resolver: a line break"),
        (("status", "--config-dir", "/a\nb"), "--config-dir: a line break"),
        (("plan", "--cert", "c", "--key", "k", "--names", "a.test,b {"), "--names: 'b {' is neither a host name nor"),
        (("rollover", "a.test", "--now", "--reason", "a\x1b"), "--reason: a line break"),
    ],
)
def test_the_command_line_refuses_control_characters_and_names_that_are_none(tmp_path, capsys, words, said):
    assert main(list(words)) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"certbot-dovecot: {said}")


@pytest.mark.parametrize("word", ["tlsa", "deploy"])
@pytest.mark.parametrize("name", ["..", ".hidden", "a\nb"])
def test_a_hooks_environment_is_from_outside_too(tmp_path, capsys, monkeypatch, word, name):
    monkeypatch.setenv("RENEWED_LINEAGE", os.path.join(str(tmp_path), "live", name))
    assert main([word]) == 1
    assert "this is not a name for a lineage" in capsys.readouterr().err
