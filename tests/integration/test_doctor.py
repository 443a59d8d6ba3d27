"""``certbot-dovecot doctor`` on a real host: what it finds on one that is in order, and what when something is put wrong.

The tests share one host, on which a certificate is installed and everything is in order; each puts something wrong, looks, and
puts it back.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time

import pytest

from certbot_dovecot import bundle as bundles
from certbot_dovecot.checks import ALL
from tests.integration import view
from tests.integration.sound import (
    CONF,
    CRON,
    HOOK,
    LIVE,
    LOCAL,
    MAIN,
    MASTER,
    WATCHED,
    cron_daemon,
    doctor,
    findings,
    instead,
    only,
    put,
    remedy,
    restored,
    trust,
)  # fmt: skip
from tests.integration.test_install import INSTALL, NAME, STORE
from tests.lab.ca import DAY

SECOND = "second.example.test"
RECORDS = (f"{STORE}/state.json", f"{STORE}/former.json")
PRIVATE = "/etc/dovecot/private/dovecot"
SHADOWS = (
    f"smtpd_tls_chain_files = {PRIVATE}.key, {PRIVATE}.pem",
    f"smtpd_tls_eccert_file = {PRIVATE}.pem\nsmtpd_tls_eckey_file = {PRIVATE}.key",
)


@pytest.fixture(scope="module")
def sound(lab):
    """A host on which a certificate is installed and all is in order; left as it is by every test."""
    lab.host.reset()
    lab.host.certbot(*INSTALL)
    trust()
    lab.host.write(CRON, "0 */12 * * * root certbot -q renew\n")
    try:
        with cron_daemon():
            yield lab.host
    finally:
        os.unlink(CRON)


@pytest.fixture
def host(sound):
    before = sound.snapshot(*WATCHED)
    yield sound
    after = sound.snapshot(*WATCHED)
    # What a remedy of certbot's leaves.
    traces = ("/var/log/letsencrypt/", "/var/lib/letsencrypt/", *RECORDS, os.path.dirname(HOOK))
    assert {path for path in view.changed(before, after) if not path.startswith(traces)} == set()


@pytest.fixture
def unwritten(host):
    """The same, where not even a remedy is tried: nothing at all may be written."""
    before = host.snapshot(*WATCHED)
    yield host
    assert view.changed(before, host.snapshot(*WATCHED)) == set()


# A host in order.


def test_nothing_is_found_or_written_where_all_is_in_order(unwritten):
    result = doctor(unwritten)
    assert (result.code, result.stderr) == (0, "")
    assert result.stdout.startswith("Nothing found.")
    told = set(re.findall(r"[a-z]+(?:-[a-z]+)*", result.stdout.replace("\n", " ")))
    assert {check.name for check in ALL} <= told
    assert findings(unwritten) == []


def test_where_no_file_system_can_be_written(unwritten):
    """But for /tmp where Dovecot is 2.4, whose own doveconf writes there."""
    temporary = "/tmp" if view.dovecot_version() >= (2, 4) else ""
    script = f"""\
mount --bind /tmp /tmp
while read -r _ _ _ _ mount _; do
    [ "$mount" = "{temporary}" ] || mount -o remount,bind,ro "$mount" 2>/dev/null
done </proc/self/mountinfo
touch /etc/letsencrypt/x /etc/dovecot/x /etc/postfix/x /var/log/x /run/x /dev/shm/x 2>/dev/null && exit 99
SSL_CERT_FILE=/run/lab/trusted.pem exec certbot-dovecot doctor
"""
    result = unwritten.run("unshare", "--mount", "--propagation", "private", "sh", "-c", script, check=False)
    assert result.stdout.startswith("Nothing found."), result.stdout
    assert (result.code, result.stderr) == (0, "")


def test_it_works_while_certbots_locks_are_held(host):
    import fcntl

    paths = ["/etc/letsencrypt/dovecot.lock", "/etc/dovecot/.certbot.lock", "/etc/postfix/master.cf.tmp"]
    with contextlib.ExitStack() as stack:
        for path in [path for path in paths if not os.path.exists(path)]:
            stack.callback(os.unlink, path)
        for path in paths:
            fcntl.lockf(stack.enter_context(open(path, "a")), fcntl.LOCK_EX)
        assert findings(host) == []


# Postfix.


@pytest.mark.parametrize("setting", SHADOWS)
def test_main_cf_wins_and_the_remedy_mends_it(host, setting):
    with restored(MASTER), put(host, MAIN, f"{setting}\n"):
        every = findings(host)
        found = [one for one in every if one["check"] == "shadow"]
        # A self-signed certificate in the place of ours is told as such, too.
        assert {one["check"] for one in every} <= {"shadow", "nobody-renews"}
        # Both services, 465 and 587.
        assert len(found) == 2
        line = view.read(MAIN).decode().splitlines().index(setting.splitlines()[0]) + 1
        assert {one["where"] for one in found} == {f"{MAIN}:{line}"}
        assert {one["lineage"] for one in found} == {NAME}
        remedy(host, found[0])
        assert findings(host) == []
    host.run("postfix", "reload")


def test_main_cf_names_a_file_of_one_year(host):
    with put(host, MAIN, f"smtpd_tls_cert_file = {STORE}/2026.pem\nsmtpd_tls_key_file = {STORE}/2026.key\n"):
        found = findings(host)
    assert [one["check"] for one in found] == ["left-behind"] * 2
    assert "--dovecot-postfix-services all" in found[0]["todo"]


def test_options_of_a_service_that_is_commented_out(host):
    text = view.read(MASTER).decode()
    head = next(line for line in text.splitlines() if line.startswith("submissions"))
    with instead(host, MASTER, head, f"#{head}"):
        found = findings(host)
    assert {one["check"] for one in found} == {"orphan-options"}
    assert found[0]["where"] == f"{MASTER}:{text.splitlines().index(head) + 2}"


def test_a_name_twice_in_main_cf(host):
    """Postfix is stopped meanwhile, for it may hang of that."""
    host.stop("postfix")
    try:
        with restored(MAIN):
            host.write(MAIN, view.read(MAIN).decode() + "always_bcc = a@example.test\nalways_bcc = b@example.test\n")
            assert "overriding earlier entry: always_bcc" in host.run("postconf", "-n").stderr
            one = only(host)
            same = view.read(MAIN).decode().replace("b@example", "a@example")
            host.write(MAIN, same)
            assert "overriding" not in host.run("postconf", "-n").stderr
            assert findings(host) == []
    finally:
        host.start("postfix")
    assert (one["check"], one["severity"]) == ("double-setting", "warning")
    assert "maillog_file" in one["what"]


def test_without_postfix(host):
    with host.hidden("/usr/sbin/postconf"):
        result = doctor(host)
    assert result.code == 0
    assert "shadow, left-behind, orphan-options, double-setting (Postfix is not installed here)." in result.stdout
    assert "(--postfix-services none)" in doctor(host, "--postfix-services", "none").stdout


# Dovecot.


def test_a_limit_of_memory(host, ca):
    pair = ca.leaf([SECOND]).write("/run/lab", "second")
    inner = view.tls(pair.fullchain, pair.key, "  ")
    with put(host, LOCAL, f"service config {{\n  vsz_limit = 32 M\n}}\nlocal_name {SECOND} {{\n{inner}}}\n"):
        one = only(host)
    assert one["check"] == "vsz-limit"
    assert one["where"] == f"{LOCAL}:2"
    assert "vsz_limit = 64 M" in one["todo"]


@contextlib.contextmanager
def live_is(made):
    """Another certificate in the place of the lineage's newest."""
    with restored(f"{LIVE}/cert.pem", f"{LIVE}/fullchain.pem"):
        for name, data in (("cert", made.cert_pem), ("fullchain", made.fullchain_pem)):
            with open(f"{LIVE}/{name}.pem", "wb") as file:
                file.write(data)
        yield


def test_reloads_that_come_often(host, ca):
    with live_is(ca.leaf([NAME], begin=0, end=6 * DAY)):
        assert only(host)["check"] == "shutdown-clients"
        with put(host, LOCAL, "shutdown_clients = no\n"):
            assert findings(host) == []


def test_old_clients(host):
    with put(host, LOCAL, "ssl_min_protocol = TLSv1\n"):
        one = only(host)
    assert (one["check"], one["severity"], one["where"]) == ("rsa-clients", "note", f"{LOCAL}:1")
    with put(host, MAIN, "smtpd_tls_mandatory_protocols = >=TLSv1\n"):
        assert "turned away by Postfix" in only(host)["what"]


def test_ciphers_that_do_not_go_with_the_certificate(host):
    with put(host, LOCAL, "ssl_cipher_list = aRSA\n"):
        host.restart("dovecot")
        one = only(host)
    host.restart("dovecot")
    assert (one["check"], one["severity"]) == ("rsa-clients", "warning")
    assert one["where"].startswith("Dovecot imap 127.0.0.1:993")


def test_servers_that_do_not_run(host):
    host.stop("dovecot")
    result = doctor(host)
    host.start("dovecot")
    assert result.code == 0
    assert "Could not be told: rsa-clients (Dovecot imap 127.0.0.1:993 (TLS): connection refused)." in result.stdout


# Names, files, chains.


def test_a_name_with_another_certificate(host, ca):
    pair = ca.leaf([SECOND]).write("/run/lab", "second")
    inner = view.tls(pair.fullchain, pair.key, "  ")
    with put(host, LOCAL, f"# x\nlocal_name {SECOND} {{\n{inner}}}\nlocal_name third.example.test {{\n{inner}}}\n"):
        one = only(host)
        assert one["check"] == "sni-names"
        assert one["where"] == f"{LOCAL}:6"
        assert "third.example.test" in one["what"]


def test_a_name_of_the_certificate_that_gets_another_one(host, ca):
    pair = ca.leaf([SECOND]).write("/run/lab", "second")
    with put(host, LOCAL, f"local_name {NAME} {{\n{view.tls(pair.fullchain, pair.key, '  ')}}}\n"):
        found = findings(host)
    assert {one["check"] for one in found} == {"sni-names"}
    assert any(f"certbot install --cert-name {NAME}" in one["todo"] for one in found)


def test_files_that_are_gone_or_do_not_match(host, ca):
    one, other = (ca.leaf([SECOND]).write("/run/lab", name) for name in ("one", "other"))
    with put(host, LOCAL, f"local_name {SECOND} {{\n{view.tls(one.fullchain, other.key, '  ')}}}\n"):
        found = only(host)
        assert (found["check"], found["where"]) == ("missing-files", other.key)
        assert "it is not the key of" in found["what"]
        os.unlink(other.key)
        assert "No such file" in only(host)["what"]
    with restored(f"{STORE}/2026.key"):
        os.unlink(f"{STORE}/2026.key")
        assert only(host)["lineage"] == NAME
        host.run("certbot-dovecot", "deploy", NAME)
        assert findings(host) == []


def test_a_lineage_that_certbot_does_not_know_any_more(host):
    with restored(CONF):
        os.unlink(CONF)
        found = findings(host)
    assert [one["check"] for one in found] == ["nobody-renews"] * 2
    assert {one["where"] for one in found} == {f"{STORE}/2026.pem"}


def test_an_intermediate_is_missing(host):
    leaf = bundles.blocks(view.read(f"{STORE}/2026.pem"), "")[0].decode()
    with restored(f"{STORE}/2026.pem"):
        host.write(f"{STORE}/2026.pem", leaf + "\n")
        one = only(host)
    assert (one["check"], one["where"]) == ("chain", f"{STORE}/2026.pem")
    assert "the intermediate certificates are missing" in one["what"]


# What renews.


def test_must_staple(host):
    with put(host, CONF, "must_staple = True\n"):
        one = only(host)
        assert (one["check"], one["lineage"]) == ("must-staple", NAME)
        assert one["where"] == f"{CONF}:{len(view.read(CONF).decode().splitlines())}"
    with put(host, "/etc/letsencrypt/cli.ini", "must-staple = true\n"):
        assert only(host)["where"].startswith("/etc/letsencrypt/cli.ini:")


def test_overdue(host):
    later = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time.time() + 75 * DAY))
    found = {one["check"]: one for one in findings(host, at=later)}
    assert found["overdue"]["where"] == f"{LIVE}/fullchain.pem"
    with put(host, CONF, "renew_before_expiry = 10 days\n"):
        assert "overdue" not in {one["check"] for one in findings(host, at=later)}


def test_no_line_of_cron(host):
    with restored(CRON):
        host.write(CRON, "# 0 */12 * * * root certbot -q renew\n")
        assert only(host)["check"] == "timer"
        os.makedirs("/var/spool/cron/crontabs")
        host.write("/var/spool/cron/crontabs/root", "@daily certbot renew\n")
        assert findings(host) == []
        shutil.rmtree("/var/spool/cron")


def test_timers_of_systemd(host, tmp_path):
    """The lab has no systemd: a program that says what systemctl says stands in its place, for this one check."""
    program, known = tmp_path / "systemctl", "certbot.timer"
    path = f"PATH={tmp_path}:{host.environment()['PATH']}"

    def says(active, states):
        program.write_text(f"#!/bin/sh\ncase $1 in list-timers) echo '{active}';; *) echo '{states}';; esac\n")
        program.chmod(0o755)
        return findings(host, env=(path,))

    os.makedirs("/run/systemd/system")
    try:
        with restored(CRON):
            # Debian's line, which leaves it to systemd.
            host.write(CRON, "0 0 * * * root test -x /usr/bin/certbot -a \\! -d /run/systemd/system && certbot -q renew\n")
            assert says(f"Wed 2026-11-25 11:48:54 UTC 11h n/a n/a {known} certbot.service", f"{known} enabled enabled") == []
            (stopped,) = says("", f"{known} disabled enabled")
            assert stopped["todo"] == "systemctl enable --now certbot.timer"
            (none,) = says("", "")
            assert "no timer of systemd and no line of cron" in none["what"]
            program.write_text("#!/bin/sh\necho 'Failed to connect to bus' >&2\nexit 1\n")
            result = doctor(host, env=(path,))
            assert result.code == 0
            assert "Could not be told: timer (systemd's timers cannot be listed: Failed to connect to bus)." in result.stdout
    finally:
        shutil.rmtree("/run/systemd")


def test_the_deploy_hook(host):
    with instead(host, CONF, "installer = dovecot\n", ""), restored(HOOK):
        # The hook is there from the first install on.
        os.unlink(HOOK)
        assert only(host)["what"].endswith("until it expires")
        # The remedy: certbot install writes the hook.
        host.certbot("install", "--cert-name", NAME, "--installer", "dovecot")
        assert findings(host) == []
        os.chmod(HOOK, 0o644)
        assert "is not executable" in only(host)["what"]
        os.chmod(HOOK, 0o755)
        host.write(HOOK, re.sub("(?m)^command=.*$", "command=/opt/gone/certbot-dovecot", view.read(HOOK).decode()))
        one = only(host)
        assert (one["check"], one["where"], one["lineage"]) == ("deploy-hook", HOOK, NAME)
        assert "/opt/gone/certbot-dovecot, which is gone" in one["what"]
        if host.certbot_version >= (2, 3):
            remedy(host, one)
            assert findings(host) == []


def test_permissions(host):
    with restored(f"{STORE}/2026.key"):
        os.chmod(f"{STORE}/2026.key", 0o640)
        one = only(host)
        assert (one["check"], one["where"]) == ("permissions", f"{STORE}/2026.key")
        host.run(*one["todo"].split(";")[0].split())
        assert findings(host) == []
    os.chmod(STORE, 0o777)
    one = only(host)
    os.chmod(STORE, 0o755)
    assert one["where"] == STORE


def test_a_key_of_an_earlier_year(host):
    state = json.loads(view.read(f"{STORE}/state.json"))
    with restored(f"{STORE}/state.json"):
        state["years"] = dict.fromkeys(state["years"], 2025)
        host.write(f"{STORE}/state.json", json.dumps(state))
        one = only(host)
        assert (one["check"], one["severity"]) == ("key-age", "note")
        assert "its key is of 2025: the renewals of this year kept it" in one["what"]
        state["options"]["key_rotation"] = "never"
        host.write(f"{STORE}/state.json", json.dumps(state))
        assert findings(host) == []
        state["years"] = dict.fromkeys(state["years"], 2024)
        host.write(f"{STORE}/state.json", json.dumps(state))
        assert "--dovecot-key-rotation never" in only(host)["what"]


# What cannot be read, and wrong usage.


def test_a_broken_configuration_of_one_server_and_the_other_is_looked_at(host):
    with put(host, LOCAL, "protocol imap {\n"), put(host, MAIN, f"smtpd_tls_cert_file = {STORE}/2026.pem\n"):
        found = findings(host)
        shown = doctor(host).stdout
    assert [(one["severity"], one["check"]) for one in found] == [("error", "configuration"), ("warning", "left-behind")]
    assert found[0]["where"].startswith(LOCAL)
    assert "vsz-limit, shutdown-clients (Dovecot's configuration cannot be read)." in shown
    with put(host, MASTER, "nonsense inet n\n"):
        found = findings(host)
    assert [one["check"] for one in found] == ["configuration"]
    assert found[0]["where"].startswith(MASTER)


@pytest.mark.parametrize("path", [f"{STORE}/state.json", CONF, f"{LIVE}/cert.pem"])
def test_a_damaged_record(host, path):
    with restored(path):
        host.write(path, "[[[")
        found = findings(host)
    broken = [one for one in found if one["check"] == "configuration"]
    assert [(one["severity"], one["where"], one["lineage"]) for one in broken] == [("error", path, NAME)]


def test_without_dovecot_nothing_can_be_told(host):
    with host.hidden("/usr/bin/doveconf"):
        result = doctor(host)
    assert (result.code, result.stdout) == (1, "")
    assert result.stderr.startswith("certbot-dovecot: the command doveconf is not installed.")
    result = doctor(host, "--server-root", "/no/where")
    assert result.code == 1
    assert result.stderr.startswith("certbot-dovecot: /no/where/dovecot.conf: ")


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("no.such.test",), 1, "/etc/letsencrypt/renewal/no.such.test.conf: there is no such lineage"),
        (("--config-dir", "/no/where"), 1, "/no/where: there is no such directory"),
        (("--postfix-services", "nonsense"), 4, ""),
        (("--nonsense",), 64, "usage: certbot-dovecot"),
        (("--dns", "--json", "a", "--what"), 64, "usage: certbot-dovecot"),
    ],
)
def test_bad_input(host, args, code, said):
    result = doctor(host, *args)
    assert result.code == code, result
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_a_reader_that_has_seen_enough(host):
    result = host.run("sh", "-c", "certbot-dovecot doctor | head -c 1", check=False)
    assert result.stderr == ""
