"""What comes from outside never becomes configuration, a record, a metric or a terminal's command (rule R12).

Everything is judged by readers here: ours of Dovecot's and Postfix's languages, dnspython's of zone files.  The programs
themselves judge in ``tests/integration/test_outside.py``.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from dataclasses import replace

import dns.zone
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from certbot_dovecot import cli, health, preview, progress, show, status, summary
from certbot_dovecot.checks import findings as checks
from certbot_dovecot.cli import common, doctor, screen
from certbot_dovecot.dane import tlsa
from certbot_dovecot.monitoring.model import Deployed, Finding, Grade, Status
from certbot_dovecot.problems import ConfProblem, Problem
from certbot_dovecot.reconcile import Report
from certbot_dovecot.servers import dovecot_conf, dovecot_edit, master_cf, sni_map
from certbot_dovecot.servers.contract import Endpoint, Pair
from certbot_dovecot.servers.dovecot_conf import V23, V24
from certbot_dovecot.servers.sni_map import Table
from tests.unit import hostile
from tests.unit.test_health import NOW, asked, leaf
from tests.unit.test_progress import terminal

ENTRY = "587 inet n - n - - smtpd\n  -o a=b\n"


def refused_or(make):
    """What ``make`` gives; None if it refuses."""
    try:
        return make()
    except ConfProblem:
        return None


@given(hostile.NAME, hostile.PATH, st.sampled_from([V23, V24]))
@example(hostile.ATTACK, "/a", V23)
@example("a.test", "/a\n}\nservice pwn {", V23)
@example("a.test", "/a #b", V24)
def test_a_block_of_dovecot_has_that_name_and_that_path_alone(name, path, dialect):
    made = refused_or(lambda: [dovecot_edit.open_block(name), dovecot_edit.assign(dialect, dialect.cert, path), b"}"])
    if made is None:
        return
    head = b"dovecot_config_version = 2.4.0\n" if dialect is V24 else b"\n"
    tree = dovecot_conf.read("/c", {"/c": head + b"\n".join(made) + b"\n"}.__getitem__, lambda pattern: None)
    assert [(one.scope, one.setting, one.value) for one in tree.assignments[head.count(b"=") :]] == [
        ((("local_name", name),), dialect.cert, path)
    ]
    assert len(tree.blocks) == 1


@given(st.dictionaries(st.one_of(hostile.HOST, hostile.NAME), st.builds(Pair, hostile.PATH, hostile.PATH), max_size=3))
@example({hostile.ATTACK: Pair("/c", "/k")})
@example({"a.test": Pair("/c d", "/k\nb.test /x")})
def test_a_table_of_postfix_has_these_entries_alone(table):
    data = refused_or(lambda: sni_map.dump(Table(table)))
    if data is not None:
        assert sni_map.parse(data).named == {name.lower(): pair for name, pair in table.items()}
        assert data.count(b"\n") == len(table) + 1


@given(hostile.PATH)
@example("/a -o mynetworks=0.0.0.0/0")
@example("/a${mynetworks}")
@example("/a\n25 inet n - n - - smtpd")
def test_an_option_of_master_cf_has_that_value_alone(path):
    data = ENTRY.encode()
    entries = master_cf.parse(data, "/m")
    new = refused_or(lambda: master_cf.set_options(data, entries, {1: {"smtpd_tls_cert_file": path}}, "/m"))
    if new is not None:
        [entry] = master_cf.parse(new, "/m")
        assert [(one.name, one.value) for one in entry.options] == [("a", "b"), ("smtpd_tls_cert_file", path)]
        assert "$" not in path


@given(hostile.TEXT, st.lists(hostile.NAME, max_size=4))
@example("x\nevil.test. 1 IN A 192.0.2.1", ["*.a.test\nevil.test. 1 IN A 192.0.2.1", "ok.test"])
@example("x", [hostile.ATTACK, "a b", "a;b", "a\\.b", '"a', "$ORIGIN x."])
def test_a_zone_file_has_records_of_host_names_alone(lineage, given_names):
    made = tlsa.records(given_names, {993: ["AB" * 32]})
    data = tlsa.zone(lineage, made, given_names)
    zone = dns.zone.from_text(data.decode(), origin=".", relativize=False, check_origin=False)
    hosts = {name.rstrip(".").lower() for name in given_names if tlsa.is_host(name)}
    assert {name.to_text().lower() for name in zone.nodes} == {f"_993._tcp.{host}." for host in hosts}
    assert {rdata.to_text().lower() for _, _, rdata in zone.iterate_rdatas()} <= {f"3 1 1 {'ab' * 32}"}
    assert [one["owner"] for one in json.loads(tlsa.as_json(lineage, made))["records"]] == [one.owner for one in made]


@given(hostile.TEXT, hostile.TEXT, hostile.TEXT)
def test_a_metric_has_these_labels_and_no_line_more(lineage, name, address):
    one = Deployed(lineage, servers=("Dovecot",), stem="2026", year=2026, leaf=leaf(names=(name,)))
    seen = replace(asked(Endpoint("Dovecot", "imap", address, 993, True)), lineage=lineage, sni=name)
    text = show.prometheus(Status(NOW, (one,), (seen,)), ())
    said = [read_sample(line) for line in text.split("\n")[:-1] if not line.startswith("# ")]
    shown = {"lineage": lineage, "sni": name, "address": address}
    assert len(said) == 6
    for labels in said:
        for label, value in labels.items():
            if label in shown:
                wanted = shown[label]
                assert value == wanted or (hostile.HIDDEN.search(wanted) or "\n" in wanted or "\t" in wanted)
    text.encode()


def read_sample(line):
    """The labels of a line of the text exposition format 0.0.4."""
    match = re.fullmatch(r'certbot_dovecot_[a-z_]+(?:\{((?:[a-z]+="(?:[^"\\]|\\[\\n"])*",?)*)\})? \S+', line)
    assert match, line
    pairs = re.findall(r'([a-z]+)="((?:[^"\\]|\\[\\n"])*)"', match.group(1) or "")
    return {name: re.sub(r"\\(.)", lambda m: "\n" if m.group(1) == "n" else m.group(1), text) for name, text in pairs}


def safe(text, lines=None):
    """Nothing in ``text`` is a terminal's command, and there is no line that we did not make."""
    assert not hostile.HIDDEN.search(text), repr(text)
    assert "\t" not in text
    assert lines is None or text.count("\n") == lines


@given(hostile.TEXT, hostile.TEXT, hostile.TEXT, hostile.TEXT)
@example("a\nCRITICAL x", "All is well.\n", "\x1b[2J", "\x9b2J")
def test_a_status_is_shown_without_control_characters(first, second, third, fourth):
    one = Deployed(first, servers=("Dovecot",), stem="2026", leaf=leaf(names=(second,)), standby=third, problem=fourth)
    answers = (replace(asked(error=second), leaf=None), asked(Endpoint("Postfix", "smtp", third, 25, False)))
    answers = (*answers, replace(asked(), lineage="", leaf=leaf(names=(fourth,))))
    seen = Status(NOW, (one,), answers, (("Dovecot", first),), (second,))
    told = health.findings(seen)
    usual = Status(NOW, (replace(one, name="a", problem="x"),), answers[:1], (("Dovecot", "x"),), ("x",))
    plain = show.table(usual, told[:1], mark)
    table = show.table(seen, told, mark)
    safe(table)
    assert table.count("\n") - plain.count("\n") == len(told) - 1 + len({row for row, _ in show._endpoints(answers)}) - 1
    safe(show.nagios(seen, told), lines=0)
    safe(show.nagios_line(Grade.UNKNOWN, first), lines=0)
    show.as_json(seen, told).encode("ascii")


def mark(_grade, text):
    return text


@given(hostile.TEXT, hostile.TEXT, hostile.TEXT, hostile.TEXT)
def test_a_finding_a_problem_and_a_note_are_lines_that_we_made(what, where, todo, lineage):
    one = checks.Finding("chain", checks.Severity.ERROR, what, where, todo, lineage)
    safe(doctor.paragraph([one]), lines=1)
    safe(str(Problem(what, where=where, left=lineage, todo=todo)), lines=0)
    safe(summary.text(Report(plan=None, notes=(what, todo))), lines=1)


@pytest.mark.parametrize("how", ["problem", "usage", "fault", "print"])
def test_the_command_line_lets_no_control_character_through(capsys, monkeypatch, how):
    def fail(*args):
        if how == "print":
            print("out \x1b]0;x\x07\r\u202e\udc80")
            print("err \x1b[2J", file=sys.stderr)
            raise Problem("x", todo="y")
        raise Problem("a\x1b[2J\nb", where="/c\u202e", todo="d") if how == "problem" else ValueError("a\x1b[2J")

    monkeypatch.setattr(status, "make", fail)
    words = ["status"] if how != "usage" else ["status", "--no\x1b[2J"]
    with pytest.raises(SystemExit) if how == "usage" else contextlib.nullcontext():
        assert cli.main(words) == 1
    out, err = capsys.readouterr()
    safe(out)
    safe(err)
    assert "\\x1b[2J" in err
    assert (how == "fault") is ("Traceback" in err)
    if how == "print":
        assert out == "out \\x1b]0;x\\x07\\r\\u202e\\udc80\n"


def test_colours_are_ours_alone(monkeypatch):
    seen = Status(NOW, (Deployed("a\x1b[31mb", servers=("Dovecot",), problem="\x1b[32mfine"),), (), (), ("\x1b[0mnote",))
    monkeypatch.setattr(status, "make", lambda *args: seen)
    monkeypatch.setattr(health, "findings", lambda seen: (Finding(Grade.CRITICAL, "a", "\x1b[32mOK"),))
    with terminal(monkeypatch) as said:
        cli.main(["status"])
        text = said()
    assert "\x1b[31mCRITICAL\x1b[0m a: \\x1b[32mOK." in text
    assert "\\x1b[0mnote" in text
    assert "a\\x1b[31mb" in text
    ours = text.replace("\r\x1b[K", "").replace("\r\n", "\n")
    safe(re.sub(r"\x1b\[(0|3[0-9])m", "", ours))


def test_what_is_waited_for_is_shown_escaped(monkeypatch):
    with terminal(monkeypatch) as said, screen.guarded():
        progress.show("a\x1b[2J\nb")
        assert said() == "\r\x1b[Ka\\x1b[2J\\nb..."
        progress.clear()
        assert said() == "\r\x1b[K"


def test_a_diff_is_exact_for_patch_and_escaped_on_a_terminal(monkeypatch):
    data = b"--- a\n+++ b\n-x\t\xff\x1b[2J\r\n"
    monkeypatch.setattr(preview, "make", lambda host, job: type("Found", (), {"changes": True}))
    monkeypatch.setattr(preview, "diff", lambda found: data)
    monkeypatch.setattr(preview, "text", lambda found: "below")
    with terminal(monkeypatch) as said, screen.guarded():
        assert common.show(None, None, ["a\nnote"]) == 2
        assert said() == "--- a\r\n+++ b\r\n-x\t\\udcff\\x1b[2J\\r\r\nbelow\r\na\\nnote\r\n"
    out = io.TextIOWrapper(io.BytesIO(), write_through=True)
    monkeypatch.setattr("sys.stdout", out)
    with screen.guarded():
        common.show(None, None)
    assert out.buffer.getvalue() == data + b"below\n"
