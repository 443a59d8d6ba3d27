"""What a purge of the Debian package leaves, and what comes back: tests for a tree that has it installed.

``make packages`` runs them.  No run of all tests finds them by their name: they install and purge with dpkg.
"""

from __future__ import annotations

import glob
import os
import subprocess

import pytest

from tests.integration import view
from tests.integration.test_install import INSTALL, NAME, STORE

PACKAGE = "python3-certbot-dovecot"
HOOK = "/etc/letsencrypt/renewal-hooks/deploy/certbot-dovecot"
CONF = f"/etc/letsencrypt/renewal/{NAME}.conf"
SERVERS = ("/etc/dovecot", "/etc/postfix")
CONFIGURATIONS = (*SERVERS, "/etc/letsencrypt/dovecot", "/etc/letsencrypt/renewal")


def dpkg(*arguments):
    done = subprocess.run(["dpkg", *arguments], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def back():
    return dpkg("--install", *glob.glob(f"/out/{PACKAGE}_*.deb"))


@pytest.fixture
def served(mailhost):
    """What every port serves after an installation; the package is back when the test is over."""
    back()
    mailhost.first = (mailhost.snapshot(*SERVERS), view.leaves(mailhost))
    mailhost.certbot(*INSTALL)
    yield view.leaves(mailhost)
    back()


def test_a_purge_leaves_servers_that_serve_as_before_and_tells(mailhost, served):
    before = mailhost.snapshot(*CONFIGURATIONS)
    said = dpkg("--purge", PACKAGE)
    assert f"Dovecot and Postfix still serve {NAME} from {STORE}" in said
    assert f"certbot-dovecot undo {NAME}" in said
    assert "dovecot" not in mailhost.certbot("plugins", "--installers").stdout
    assert not glob.glob("/usr/lib/python3/dist-packages/certbot_dovecot*")
    assert not os.path.exists("/usr/bin/certbot-dovecot")
    assert mailhost.snapshot(*CONFIGURATIONS) == before
    for server in ("dovecot", "postfix"):
        mailhost.restart(server)
    assert view.leaves(mailhost) == served


def test_certbot_renews_without_the_plugin_and_servers_keep_their_copy(mailhost, served):
    """What certbot itself does when an installer is gone; docs/packagers.rst says so."""
    dpkg("--purge", PACKAGE)
    not_due = mailhost.certbot("renew", "-q")
    assert "Could not select or initialize the requested installer dovecot" in not_due.stderr
    assert "installer = dovecot" in view.read(CONF).decode()
    due = mailhost.certbot("renew", "--force-renewal")
    assert "/usr/bin/certbot-dovecot is gone: mail servers keep their old certificate" in due.stderr
    assert "installer" not in view.read(CONF).decode()
    assert view.live_leaf(NAME) not in served.values()
    assert view.leaves(mailhost) == served
    log = "/var/log/letsencrypt/letsencrypt.log"
    told = view.read(log).count(b"is gone: mail servers keep their old certificate")
    assert mailhost.certbot("renew", "-q", "--force-renewal").stderr == ""
    logs = b"".join(view.read(path) for path in glob.glob(f"{log}*"))
    assert logs.count(b"is gone: mail servers keep their old certificate") > told


def test_what_was_missed_is_made_up_for_when_the_package_is_back(mailhost, served):
    dpkg("--purge", PACKAGE)
    mailhost.certbot("renew", "--force-renewal")
    assert "certbot-dovecot deploy" in back()
    mailhost.run("certbot-dovecot", "deploy")
    assert set(view.leaves(mailhost).values()) == {view.live_leaf(NAME)}
    # certbot has forgotten the installer, the hook has not.
    mailhost.certbot("renew", "--force-renewal")
    assert set(view.leaves(mailhost).values()) == {view.live_leaf(NAME)}


def test_after_an_undo_a_removal_leaves_nothing_of_ours_to_run(mailhost, served):
    mailhost.run("certbot-dovecot", "undo", NAME)
    configuration, leaves = mailhost.first
    ours = {path: one for path, one in mailhost.snapshot(*SERVERS).items() if not path.endswith(".certbot.lock")}
    assert ours == configuration
    assert view.leaves(mailhost) == leaves
    assert "still serve" not in dpkg("--purge", PACKAGE)
    assert not os.path.exists(HOOK)
    assert os.path.exists(f"{STORE}/2026.key")


def test_an_upgrade_says_nothing_and_touches_nothing(mailhost, served):
    before = mailhost.snapshot(*CONFIGURATIONS)
    said = back()
    assert "certbot-dovecot:" not in said
    assert mailhost.snapshot(*CONFIGURATIONS) == before
    assert view.leaves(mailhost) == served
