"""The command ``certbot-dovecot``: what it prints, and its exit codes."""

from __future__ import annotations

import json

import pytest

from tests.integration import view
from tests.integration.test_install import INSTALL, NAME, STORE


def command(mailhost, *args):
    return mailhost.run("certbot-dovecot", *args, check=False)


@pytest.mark.parametrize(
    "args",
    [
        (), ("nonsense",), ("tlsa", "--nonsense"), ("deploy", "--nonsense"), ("plan",), ("plan", "--cert", "x"),
        ("plan", "--lineage", "x", "--cert", "y"), ("standby",), ("standby", "x", "y"), ("rollover",),
        ("rollover", "x", "--reason", "y"), ("csr",), ("install-cert",), ("undo",), ("status", "--warning", "x"),
        ("doctor", "--nonsense"),
    ],
)  # fmt: skip
def test_wrong_usage(mailhost, args):
    result = command(mailhost, *args)
    assert result.code == 64
    assert "usage: certbot-dovecot" in result.stderr


def test_help_tells_the_exit_codes(mailhost):
    result = command(mailhost, "--help")
    assert result.code == 0
    codes = (
        "0 done, 1 a problem (told on stderr), 2 plan shows changes, 3 another key is not safe yet, 4 status or doctor found "
        "something, 64 wrong usage"
    )
    assert codes in " ".join(result.stdout.split())


@pytest.mark.parametrize("verb", ["tlsa", "deploy"])
def test_a_lineage_that_is_not_there(mailhost, verb):
    result = command(mailhost, verb, "no.such.test")
    assert result.code == 1
    assert "/etc/letsencrypt/renewal/no.such.test.conf" in result.stderr
    assert "Traceback" not in result.stderr


def test_json(mailhost):
    mailhost.certbot(*INSTALL)
    [document] = json.loads(command(mailhost, "tlsa", "--json").stdout)
    assert document["lineage"] == NAME
    assert {(entry["owner"], entry["data"]) for entry in document["records"]} == {
        (f"_{port}._tcp.{NAME}.", view.spki(f"{STORE}/2026.pem")) for port in view.tls_ports()
    }


def test_a_broken_configuration_leaves_the_filed_data(mailhost):
    mailhost.certbot(*INSTALL)
    filed = view.read(f"{STORE}/tlsa.zone")
    mailhost.append("/etc/dovecot/local.conf", "protocol imap {\n")
    result = command(mailhost, "tlsa", NAME)
    assert result.code == 1
    assert "/etc/dovecot/local.conf" in result.stderr
    assert view.read(f"{STORE}/tlsa.zone") == filed


def test_deploy_of_what_is_not_installed_touches_nothing(mailhost):
    mailhost.certbot("certonly", "-a", "standalone", "-d", NAME)
    before = mailhost.snapshot("/etc/dovecot", "/etc/postfix")
    assert command(mailhost, "deploy", NAME).code == 0
    assert mailhost.snapshot("/etc/dovecot", "/etc/postfix") == before
    assert mailhost.reloads("dovecot") == 0
