"""``certbot-dovecot plan``: it shows what an install does, byte for byte, and does nothing."""

from __future__ import annotations

import os

import pytest

from tests.integration import view
from tests.integration.test_install import INSTALL, NAME
from tests.integration.test_names import OTHER, install
from tests.integration.test_renew import CONFIGURATIONS


def plan(mailhost, *args, check=False):
    return mailhost.run("certbot-dovecot", "plan", *args, check=check)


def patched(mailhost, tmp_path, text):
    """The configuration as ``patch`` makes it of what was printed, then put back."""
    before = mailhost.snapshot(*CONFIGURATIONS)
    file = tmp_path / "plan.diff"
    file.write_text(text)
    mailhost.run("patch", "-p0", "-d", "/", "-i", str(file))
    after = mailhost.snapshot(*CONFIGURATIONS)
    mailhost.run("patch", "-R", "-p0", "-d", "/", "-i", str(file))
    assert mailhost.snapshot(*CONFIGURATIONS) == before
    return after


def data(snapshot):
    return {path: entry.data for path, entry in snapshot.items() if entry.data is not None and not path.endswith(".lock")}


def test_what_it_prints_is_what_an_install_does(mailhost, tmp_path):
    mailhost.certbot("certonly", "-a", "standalone", "-d", NAME)
    before = mailhost.snapshot(*CONFIGURATIONS, "/etc/letsencrypt")
    result = plan(mailhost, "--lineage", NAME)
    assert result.code == 2
    assert mailhost.snapshot(*CONFIGURATIONS, "/etc/letsencrypt") == before
    after = patched(mailhost, tmp_path, result.stdout)
    assert "Would reload:  Dovecot\nWould reload:  Postfix\n" in result.stdout
    assert "Would ask:     Dovecot imap 127.0.0.1:993 (TLS)\n" in result.stdout
    assert f"{NAME}/2026.key (0600)" in result.stdout
    assert "PRIVATE KEY" not in result.stdout
    mailhost.certbot("install", "--cert-name", NAME, "--installer", "dovecot")
    assert data(mailhost.snapshot(*CONFIGURATIONS)) == data(after)
    assert plan(mailhost, "--lineage", NAME).stdout == "Nothing to do.\n"
    assert plan(mailhost, "--lineage", NAME).code == 0


def test_a_further_lineage(mailhost, tmp_path):
    mailhost.certbot(*INSTALL)
    mailhost.certbot("certonly", "-a", "standalone", "-d", OTHER)
    result = plan(mailhost, "--lineage", OTHER)
    assert result.code == 2
    after = patched(mailhost, tmp_path, result.stdout)
    install(mailhost, OTHER)
    assert data(mailhost.snapshot(*CONFIGURATIONS)) == data(after)


def test_no_server_needs_to_run(mailhost, ca):
    mailhost.stop("dovecot")
    mailhost.stop("postfix")
    paths = ca.leaf(["a.test"]).write("/etc/letsencrypt")
    result = plan(mailhost, "--cert", paths.cert, "--key", paths.key, "--chain", paths.chain)
    assert result.code == 2, result
    assert "/etc/letsencrypt/dovecot/a.test-external/2026.pem" in result.stdout
    assert not os.path.exists("/etc/letsencrypt/dovecot")


@pytest.mark.parametrize("last_line_end", ["", "\n", "\r\n"])
def test_line_ends(mailhost, ca, tmp_path, last_line_end):
    path = "/etc/dovecot/local.conf"
    text = view.tls("/etc/dovecot/private/dovecot.pem", "/etc/dovecot/private/dovecot.key").rstrip("\n")
    with open(path, "w", newline="") as file:
        file.write((text.replace("\n", "\r\n") if "\r" in last_line_end else text) + last_line_end)
    paths = ca.leaf(["a.test"]).write("/etc/letsencrypt")
    given = ("--cert", paths.cert, "--key", paths.key, "--chain", paths.chain)
    result = mailhost.run("sh", "-c", 'certbot-dovecot plan "$@" > /run/plan.diff', "sh", *given, check=False)
    assert result.code == 2
    mailhost.run("patch", "--binary", "-p0", "-d", "/", "-i", "/run/plan.diff")
    assert f"{view.setting('cert')}/etc/letsencrypt/dovecot/a.test-external/2026.pem" in view.read(path).decode()


def test_bad_input(mailhost, ca):
    mine, other = ca.leaf(["a.test"]).write("/etc/letsencrypt", "mine"), ca.leaf(["b.test"]).write("/etc/letsencrypt", "other")
    result = plan(mailhost, "--cert", mine.cert, "--key", other.key, "--chain", mine.chain)
    assert result.code == 1
    assert "key" in result.stderr
    assert "Traceback" not in result.stderr
    assert plan(mailhost, "--lineage", "no.such.test").code == 1
