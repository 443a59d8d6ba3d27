"""What the scripts of a package run before our files go."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.integration import view
from tests.integration.test_install import INSTALL, NAME, STORE

HOOK = "/etc/letsencrypt/renewal-hooks/deploy/certbot-dovecot"
CONFIGURATIONS = ("/etc/dovecot", "/etc/postfix", "/etc/letsencrypt/dovecot", "/etc/letsencrypt/renewal")


def leave(mailhost):
    done = subprocess.run(
        [sys.executable, "-m", "certbot_dovecot.leaving"],
        env=mailhost.environment(), capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == ""
    return done.stderr


def test_what_is_served_is_told_and_nothing_is_touched(mailhost):
    mailhost.certbot(*INSTALL)
    before, served = mailhost.snapshot(*CONFIGURATIONS), view.leaves(mailhost)
    said = leave(mailhost)
    assert f"Dovecot and Postfix still serve {NAME} from {STORE}, which ends on 20" in said
    assert f"certbot-dovecot undo {NAME}" in said
    assert mailhost.snapshot(*CONFIGURATIONS) == before
    assert view.leaves(mailhost) == served


def test_the_hook_stays_while_a_server_needs_it_and_goes_when_none_does(mailhost):
    mailhost.certbot(*INSTALL)
    os.remove(HOOK)
    leave(mailhost)
    assert os.access(HOOK, os.X_OK)
    mailhost.certbot("rollback", "--installer", "dovecot")
    assert leave(mailhost) == ""
    assert not os.path.exists(HOOK)


def test_a_hook_that_the_admin_wrote_stays(mailhost):
    os.makedirs(os.path.dirname(HOOK))
    mailhost.write(HOOK, "#!/bin/sh\n")
    assert leave(mailhost) == ""
    assert view.read(HOOK) == b"#!/bin/sh\n"


def test_a_configuration_that_cannot_be_read_is_doubt_and_not_silence(mailhost):
    mailhost.certbot(*INSTALL)
    mailhost.append("/etc/dovecot/local.conf", "protocol imap {\n")
    said = leave(mailhost)
    assert f"Postfix still serves {NAME}" in said
    mailhost.write("/etc/postfix/master.cf", "nonsense\n")
    said = leave(mailhost)
    assert f"A server may still serve {NAME} from {STORE}; it cannot be told: " in said
    assert "/etc/dovecot/local.conf" in said
    assert "Traceback" not in said


def test_without_any_installation_nothing_is_said(mailhost):
    assert leave(mailhost) == ""
