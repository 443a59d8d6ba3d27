"""``certbot-dovecot doctor``: what is gathered around certbot, what is printed, and the page that explains it."""

from __future__ import annotations

import datetime
import io
import json
import os
import pathlib
import tempfile
from dataclasses import replace

import pytest

from certbot_dovecot import checks, commands, doctor, hook, surroundings, watch
from certbot_dovecot.checks import Diagnosis
from certbot_dovecot.checks.facts import Timer
from certbot_dovecot.checks.findings import Finding, Severity
from certbot_dovecot.cli import doctor as cli
from certbot_dovecot.cli import main
from certbot_dovecot.commands import Command, Result
from certbot_dovecot.problems import NotInstalled, Problem
from certbot_dovecot.surroundings import Places
from certbot_dovecot.transaction import NoCheckpoint
from tests.lab import ca

NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.timezone.utc)
#: As systemd 252 prints it.
ACTIVE = """\
Wed 2026-11-25 06:12:42 UTC 5h left  Tue 2026-11-24 18:02:03 UTC 6h ago  apt-daily.timer apt-daily.service
Wed 2026-11-25 11:48:54 UTC 11h left Tue 2026-11-24 23:02:03 UTC 1h ago  certbot.timer   certbot.service
n/a                         n/a      n/a                         n/a     mine.timer      renew-letsencrypt.service
"""
KNOWN = """\
apt-daily.timer enabled enabled
certbot.timer   enabled enabled
snap.certbot.renew.timer disabled enabled
mine.timer static -
"""
LINE = "0 */12 * * * root certbot -q renew\n"


def test_timers_of_systemd():
    assert surroundings.timers(ACTIVE, KNOWN) == (
        Timer("certbot.timer", "enabled", True),
        Timer("mine.timer", "static", True),
        Timer("snap.certbot.renew.timer", "disabled", False),
    )
    assert surroundings.timers("", "") == ()


@pytest.fixture
def places(tmp_path):
    """Empty ones."""
    tables = (f"{tmp_path}/cron.d/*", f"{tmp_path}/crontabs/*")
    return Places(str(tmp_path / "systemd"), tables, (f"{tmp_path}/daily/*",), units=(), bundles=())


def refused(command):
    raise NotInstalled(f"the command {command.argv[0]} is not installed")


def test_files_of_cron(tmp_path, places):
    for directory in ("cron.d", "crontabs", "daily"):
        (tmp_path / directory).mkdir()
    (tmp_path / "cron.d" / "certbot").write_text(f"# certbot\nSHELL=/bin/sh\n{LINE}")
    (tmp_path / "cron.d" / "certbot.dpkg-dist").write_text(LINE)
    (tmp_path / "cron.d" / "other").write_text("0 0 * * * root date\n")
    (tmp_path / "crontabs" / "root").write_bytes(b"\xff\n@daily /root/letsencrypt.sh\n")
    (tmp_path / "daily" / "renew").write_text("#!/bin/sh\ncertbot renew\n")
    found = surroundings.schedule(refused, places)
    assert not found.systemd
    assert [(os.path.relpath(line.path, tmp_path), line.line) for line in found.cron] == [
        ("cron.d/certbot", 3),
        ("crontabs/root", 2),
    ]
    (tmp_path / "daily" / "renew").chmod(0o755)
    assert (str(tmp_path / "daily" / "renew"), 2) in [
        (line.path, line.line) for line in surroundings.schedule(refused, places).cron
    ]


def test_a_systemd_that_does_not_answer_is_not_one_without_timers(tmp_path, places):
    (tmp_path / "systemd").mkdir()
    assert surroundings.schedule(refused, places).error.endswith("the command systemctl is not installed")
    failing = surroundings.schedule(lambda command: Result(1, b"", b"Failed to connect to bus\n"), places)
    assert failing.error == "systemd's timers cannot be listed: Failed to connect to bus"
    answers = {"list-timers": ACTIVE, "list-unit-files": KNOWN}
    fine = surroundings.schedule(lambda command: Result(0, answers[command.argv[1]].encode(), b""), places)
    assert (fine.error, len(fine.timers)) == ("", 3)


def test_the_deploy_hook(tmp_path):
    directory = tmp_path / "renewal-hooks" / "deploy"
    assert surroundings.deploy_hook(str(tmp_path)).there is False
    directory.mkdir(parents=True)
    command = tmp_path / "with space"
    (directory / "certbot-dovecot").write_bytes(hook.script(str(command)))
    found = surroundings.deploy_hook(str(tmp_path))
    assert (found.there, found.executable, found.command, found.command_there) == (True, False, str(command), False)
    (directory / "certbot-dovecot").chmod(0o755)
    command.touch(mode=0o755)
    found = surroundings.deploy_hook(str(tmp_path))
    assert (found.executable, found.command_there, found.another) == (True, True, "")
    (directory / "mine").write_text("#!/bin/sh\ncertbot-dovecot deploy\n")
    assert surroundings.deploy_hook(str(tmp_path)).another == ""
    (directory / "mine").chmod(0o755)
    assert surroundings.deploy_hook(str(tmp_path)).another == str(directory / "mine")


@pytest.mark.parametrize("text", ["", "command=\n", "command='\n", "#!/bin/sh\ntrue\n"])
def test_the_command_of_a_hook_that_is_not_ours(text):
    assert hook.command_of(text) == ""


def test_whom_this_system_trusts(tmp_path, places, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    one, bundle = ca.CA.make("One"), tmp_path / "bundle"
    bundle.write_bytes(one.root.cert_pem + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert surroundings.trusted(places) is None
    here = Places(bundles=(str(tmp_path / "none"), str(bundle)))
    assert surroundings.trusted(here) == {one.root.cert.subject: (one.root.cert,)}


def test_owner_and_permissions(tmp_path):
    key = tmp_path / "2026.key"
    key.touch(mode=0o640)
    found = surroundings.bits(str(tmp_path), [str(key), str(tmp_path / "gone")])
    assert [(one.path, one.directory) for one in found] == [(str(tmp_path), True), (str(key), False)]
    assert found[1].mode & 0o777 == 0o640


def test_a_command_runs_once_where_nothing_can_be_written(monkeypatch):
    calls = []

    def run(command):
        calls.append(command.argv)
        return Result(0, b"x", b"")

    ask = doctor._once(run)
    assert [ask(Command(("a", "b"))).out, ask(Command(["a", "b"])).out, ask(Command(("a",))).out] == [b"x"] * 3
    assert calls == [("a", "b"), ("a",)]

    def full(*args, **kwargs):
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    done = commands.run(Command(("sh", "-c", "echo out; echo err >&2")))
    assert (done.out, done.err) == (b"out\n", b"err\n")
    done = commands.run(Command(("sh", "-c", "echo out"), reads=False))
    assert done.out == b"out\n"


def way(config_dir):
    return watch.Way(str(config_dir), lambda: NOW, refused, NoCheckpoint(), refused, refused)


def test_without_dovecot_nothing_can_be_told(tmp_path):
    with pytest.raises(Problem, match="cannot be read") as caught:
        doctor.examine(way(tmp_path), [], {"server_root": str(tmp_path)}, False)
    assert caught.value.where == str(tmp_path / "dovecot.conf")


def test_a_lineage_that_is_not_there(tmp_path):
    with pytest.raises(Problem, match="no such lineage"):
        doctor.examine(way(tmp_path), ["x"], {}, False)


# What is printed.

FIRST = Finding("shadow", Severity.WARNING, "x wins", "/etc/postfix/main.cf:3", "Take it out", "mail.example.test")
SECOND = Finding("double-setting", Severity.NOTE, "a twice", "", "Take one out")


def test_a_paragraph():
    assert cli.paragraph([FIRST]) == (
        "WARNING  shadow: mail.example.test: x wins (/etc/postfix/main.cf:3)\n    Take it out."
    )
    assert cli.paragraph([SECOND]) == "NOTE  double-setting: a twice\n    Take one out."


def test_what_many_lineages_have_in_common_is_told_once():
    many = [replace(FIRST, lineage=f"n{number}", where=f"/n{number}") for number in range(5)]
    assert [len(same) for same in cli.alike([SECOND, *many, FIRST, replace(FIRST, todo="Leave it")])] == [1, 6, 1]
    assert cli.paragraph(many) == (
        "WARNING  shadow: n0, n1, n2 and 2 more: x wins (/n0, /n1, /n2 and 2 more)\n    Take it out."
    )


def test_the_last_lines():
    two = {"tlsa-ttl": "not asked", "tlsa-usage": "not asked", "timer": "no systemctl"}
    assert cli.summary(Diagnosis((FIRST, FIRST, SECOND), ("chain", "timer"), two)) == [
        "2 warnings, 1 note. Looked for, not found: chain, timer.",
        "Could not be told: tlsa-ttl, tlsa-usage (not asked).",
        "Could not be told: timer (no systemctl).",
    ]
    assert cli.summary(Diagnosis((), ("chain",), {})) == ["Nothing found. Looked for, not found: chain."]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("terminal", "variable", "colour"), [(True, None, True), (True, "", True), (True, "1", False), (False, None, False)]
)
def test_colour_only_on_a_terminal(monkeypatch, tmp_path, terminal, variable, colour):
    monkeypatch.setattr(doctor, "examine", lambda *args: Diagnosis((FIRST,), (), {}))
    monkeypatch.setattr("sys.stdout", out := Terminal() if terminal else io.StringIO())
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if variable is not None:
        monkeypatch.setenv("NO_COLOR", variable)
    assert main(["doctor", "--config-dir", str(tmp_path)]) == 4
    assert ("\x1b[" in out.getvalue()) is colour


def test_json(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(doctor, "examine", lambda *args: Diagnosis((FIRST, SECOND), (), {"timer": "no systemctl"}))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert main(["doctor", "--json", "--config-dir", str(tmp_path)]) == 4
    out, err = capsys.readouterr()
    first, second = json.loads(out)
    assert first == {
        "check": "shadow",
        "severity": "warning",
        "where": "/etc/postfix/main.cf:3",
        "what": "x wins",
        "todo": "Take it out",
        "lineage": "mail.example.test",
    }
    assert "lineage" not in second
    assert err == "Could not be told: timer (no systemctl).\n"


def test_a_terminal_without_the_letters(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "examine", lambda *args: Diagnosis((replace(FIRST, what="O=Société"),), (), {}))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("sys.stdout", out := io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True))
    assert main(["doctor", "--config-dir", str(tmp_path)]) == 4
    assert rb"O=Soci\xe9t\xe9" in out.buffer.getvalue()


def test_only_root_can_tell_what_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["doctor"]) == 1
    assert "Run it as root." in capsys.readouterr().err


def test_every_check_has_a_section_of_its_own_in_the_documentation():
    page = pathlib.Path(checks.__file__).parents[2] / "docs" / "doctor.rst"
    if not page.exists():
        pytest.skip("the documentation is not here")
    lines = page.read_text().splitlines()
    sections = [above for above, line in zip(lines, lines[1:]) if above and line == "-" * len(above)]
    assert sections == [check.name for check in checks.ALL]
