"""``certbot-dovecot status`` on a real host: good and bad days, each form, and that it changes nothing."""

from __future__ import annotations

import json
import os

import pytest

from tests.integration import view
from tests.integration.test_install import INSTALL, NAME, STORE
from tests.integration.test_names import OTHER, SNI_MAP, install
from tests.integration.test_renew import CONFIGURATIONS

EVERYTHING = (*CONFIGURATIONS, "/etc/letsencrypt", "/var/lib/letsencrypt")


UNLOOKED = "No fault was found in what was looked at. Not looked at: the DNS (--dns asks it)."


def status(mailhost, *args, under=()):
    return mailhost.run(*under, "certbot-dovecot", "status", *args, check=False)


def test_a_host_as_just_installed(mailhost):
    result = status(mailhost)
    assert result.code == 4
    assert "no certificate is installed by certbot-dovecot on this host. certbot --installer dovecot -d NAME" in result.stdout
    # What the ports serve is shown all the same.
    assert "993   Dovecot imap (TLS)             127.0.0.1, ::1  -        mail.example.test, until" in result.stdout
    assert status(mailhost, "--nagios").code == 3
    assert not os.path.exists("/etc/letsencrypt/dovecot")


def test_all_is_well_in_every_form_and_nothing_is_written(mailhost):
    mailhost.certbot(*INSTALL)
    before = mailhost.snapshot(*EVERYTHING)
    result = status(mailhost)
    assert (result.code, result.stderr) == (0, "")
    assert result.stdout.endswith(f"{UNLOOKED}\n")
    assert "\033" not in result.stdout
    assert f"{NAME}  2026  ECDSA P-256" in result.stdout
    document = json.loads(status(mailhost, "--json").stdout)
    assert document["grade"] == "ok"
    assert {(one["port"], one["serves"]["sha256"]) for one in document["endpoints"]} == {
        (port, view.live_leaf(NAME)) for port in view.tls_ports()
    }
    assert set(view.leaves(mailhost).values()) == {view.live_leaf(NAME)}
    assert all(one["right"] for one in document["endpoints"])
    line = status(mailhost, "--nagios")
    assert (line.code, line.stdout.count("\n")) == (0, 1)
    assert line.stdout.startswith(f"CERTBOT-DOVECOT OK - 1 certificate, the first ({NAME}) for ")
    assert status(mailhost, "--prometheus", "/run/certbot-dovecot.prom").code == 0
    metrics = view.read("/run/certbot-dovecot.prom").decode()
    assert "certbot_dovecot_grade 0\n" in metrics
    assert metrics.count("certbot_dovecot_endpoint_right{") == len(document["endpoints"])
    assert mailhost.snapshot(*EVERYTHING) == before


def test_without_a_right_to_write_and_without_being_root(mailhost):
    mailhost.certbot(*INSTALL)
    with mailhost.read_only("/etc/letsencrypt"), mailhost.read_only("/etc/dovecot"), mailhost.read_only("/etc/postfix"):
        assert status(mailhost).code == 0
    # A monitoring agent: what only root may read is left out.
    nobody = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    result = status(mailhost, under=nobody)
    assert (result.code, result.stderr) == (0, "")
    assert result.stdout.count("its certificate") == len(view.tls_ports())
    unread = f"certbot's own copy of {NAME}, which cannot be read"
    assert result.stdout.endswith(f"Not looked at: {unread}; the DNS (--dns asks it).\n")
    # Nor does --dns help then: nothing is said that would not be so.
    result = status(mailhost, "--dns", under=nobody)
    assert result.stdout.endswith(f"Not looked at: {unread}; the DNS for {NAME}.\n")
    # Where DANE is off, the DNS does not matter.
    mailhost.certbot("install", "--installer", "dovecot", "--cert-name", NAME, "--dovecot-dane", "off")
    assert status(mailhost).stdout.endswith("All is well.\n")


def test_a_table_of_names_is_for_all_to_read_and_one_that_is_not_is_said(mailhost):
    mailhost.certbot(*INSTALL)
    install(mailhost, OTHER)
    assert os.stat(SNI_MAP).st_mode & 0o777 == 0o644
    assert "PRIVATE" not in view.read(SNI_MAP).decode()
    nobody = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    result = status(mailhost, under=nobody)
    assert (result.code, result.stderr) == (0, "")
    # As versions before made it.
    os.chmod(SNI_MAP, 0o600)
    result = status(mailhost, under=nobody)
    assert (result.code, result.stderr) == (4, "")
    [line] = [line for line in result.stdout.splitlines() if line.split(" ")[0] in ("CRITICAL", "WARNING", "UNKNOWN")]
    assert line.startswith(f"UNKNOWN what Postfix serves by name could not be judged: {SNI_MAP} may not be read by this user")
    # What does not depend on it is judged.
    document = json.loads(status(mailhost, "--json", under=nobody).stdout)
    ports = {(one["port"], one["sni"]) for one in document["endpoints"]}
    assert {(465, None), (587, None), (993, NAME), (993, OTHER)} <= ports
    assert not {(465, NAME), (465, OTHER)} & ports
    assert all(one["right"] for one in document["endpoints"])
    assert status(mailhost).code == 0
    # The remedy.
    assert f"certbot-dovecot deploy {NAME}" in line or f"certbot-dovecot deploy {OTHER}" in line
    bytes_before = view.read(SNI_MAP)
    name = line.split("certbot-dovecot deploy ")[1].split(",")[0]
    assert mailhost.run("certbot-dovecot", "deploy", name).code == 0
    assert os.stat(SNI_MAP).st_mode & 0o777 == 0o644
    assert view.read(SNI_MAP) == bytes_before
    assert status(mailhost, under=nobody).code == 0
    # A mode that an admin chose stays, and root finds nothing.
    os.chmod(SNI_MAP, 0o640)
    assert mailhost.run("certbot-dovecot", "deploy", name).code == 0
    assert os.stat(SNI_MAP).st_mode & 0o777 == 0o640
    assert status(mailhost).code == 0


def test_a_server_that_is_down_and_one_that_serves_something_else(mailhost):
    mailhost.certbot(*INSTALL)
    mailhost.stop("postfix")
    result = status(mailhost)
    assert result.code == 4
    assert f"CRITICAL {NAME}: Postfix submission 127.0.0.1:465 (TLS)" in result.stdout
    assert "connection refused. See the server's log" in result.stdout
    line = status(mailhost, "--nagios")
    assert (line.code, "wrong_endpoints=4" in line.stdout) == (2, True)
    mailhost.start("postfix")
    # Renewed behind our back, and the servers do not know: the file is new, what is served is not.
    mailhost.write(f"{STORE}/2026.pem", view.read("/etc/dovecot/private/dovecot.pem").decode())
    result = status(mailhost)
    assert result.code == 4
    assert "certbot has another certificate than the servers" in result.stdout
    assert f"serves another certificate, of {NAME} until" in result.stdout


def test_a_certificate_that_ends_soon(mailhost):
    mailhost.certbot(*INSTALL)
    for option, code, word in (("--warning", 1, "WARNING"), ("--critical", 2, "CRITICAL")):
        result = status(mailhost, "--nagios", option, "1000")
        assert (result.code, result.stdout.split(" - ")[0]) == (code, f"CERTBOT-DOVECOT {word}")
    late = mailhost.run("certbot-dovecot", "status", at="2035-01-01 12:00:00", check=False)
    assert (late.code, "expired on 20" in late.stdout) == (4, True)


def test_two_lineages_and_one_that_is_asked_for(mailhost):
    mailhost.certbot(*INSTALL)
    mailhost.certbot("certonly", "-a", "standalone", "-d", OTHER)
    # Certbot's, and not installed: it is shown if it is asked for.
    assert OTHER not in status(mailhost).stdout
    assert "not installed" in status(mailhost, OTHER).stdout
    install(mailhost, OTHER)
    document = json.loads(status(mailhost, "--json").stdout)
    assert [one["name"] for one in document["lineages"]] == sorted([NAME, OTHER])
    for one in document["endpoints"]:
        assert (one["sni"] or NAME, one["serves"]["sha256"]) == (one["lineage"], view.live_leaf(one["lineage"]))
    only = json.loads(status(mailhost, OTHER, "--json").stdout)
    assert [one["name"] for one in only["lineages"]] == [OTHER]
    # Deleted while it is served.
    mailhost.certbot("delete", "--cert-name", OTHER)
    result = status(mailhost)
    assert result.code == 4
    assert f"WARNING {OTHER}: certbot does not know it any more" in result.stdout


def test_what_is_broken_is_told_and_the_rest_is_shown(mailhost):
    mailhost.certbot(*INSTALL)
    mailhost.append("/etc/postfix/master.cf", "broken line\n")
    result = status(mailhost)
    assert result.code == 4
    assert "CRITICAL Postfix cannot be looked at: /etc/postfix/master.cf" in result.stdout
    assert "Dovecot imap (TLS)" in result.stdout
    mailhost.write(f"{STORE}/state.json", "{")
    result = status(mailhost)
    assert result.code == 4
    assert f"UNKNOWN {NAME}: not everything could be looked at: {STORE}/state.json: this record is damaged" in result.stdout


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (("no.such.test",), 1, "there is no such lineage"),
        (("no.such.test", "--nagios"), 3, ""),
        (("--json", "--nagios"), 64, "not allowed with"),
        (("--warning", "soon"), 64, "not a number of days: 'soon'"),
        (("--prometheus", "/nonexistent/x.prom"), 1, "/nonexistent/x.prom: cannot be written"),
    ],
)
def test_bad_input(mailhost, args, code, text):
    result = status(mailhost, *args)
    assert result.code == code
    assert text in result.stderr
    assert "Traceback" not in result.stderr


def test_without_dovecot(mailhost):
    with mailhost.hidden("/usr/bin/doveconf"):
        result = status(mailhost)
    assert (result.code, "doveconf" in result.stdout + result.stderr) == (4, True)
