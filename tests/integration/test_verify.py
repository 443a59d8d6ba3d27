"""A change that the servers do not survive: whoever made it, both servers run afterwards and serve what they did.

Postfix's master process dies of a reload when it cannot listen where master.cf says, and ``postfix reload`` still returns 0.
The tests make it die of the reload with the new bytes alone.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import socket

import pytest

from certbot_dovecot import commands, jobs, watch
from certbot_dovecot import undo as deed
from certbot_dovecot.transaction import NoCheckpoint
from tests.integration import view
from tests.integration.test_failure import refuse_reloads
from tests.integration.test_install import INSTALL, NAME, STORE
from tests.integration.test_names import OTHER
from tests.integration.test_renew import CONFIGURATIONS
from tests.lab import namespace

MASTER = "/etc/postfix/master.cf"
BACKUPS = "/var/lib/letsencrypt/backups"

#: Interrupts who called it, once, when Dovecot has reloaded already.
_INTERRUPTS = """#!/bin/sh
case " $* " in
*" reload "*)
    if [ ! -e {real}.told ]; then
        : >{real}.told
        kill -{when} $PPID
        sleep 1
    fi
    ;;
esac
exec {real} "$@"
"""
#: Kills Postfix's master process as a reload of a bad master.cf does, once the lock of its pid file is free.
_DIES = """#!/bin/sh
case " $* " in
*" reload "*)
    if {when}; then
        pid=$(sed 1q /var/spool/postfix/pid/master.pid)
        kill $pid
        while kill -0 $pid 2>/dev/null; do sleep 0.01; done
        exit 0
    fi
    ;;
esac
exec {real} "$@"
"""


@contextlib.contextmanager
def in_its_place(script_text, when):
    """A script in the place of the command ``postfix``."""
    real, script = f"{namespace.PLACE}/postfix", f"{namespace.PLACE}/postfix.sh"
    shutil.copy2("/usr/sbin/postfix", real)
    with open(script, "w") as file:
        file.write(script_text.format(when=when, real=real))
    os.chmod(script, 0o755)
    namespace.mount(script, "/usr/sbin/postfix", "", namespace.MS_BIND)
    try:
        yield
    finally:
        namespace.unmount("/usr/sbin/postfix")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{real}.told")


def dies_of_reload(when):
    """Postfix dies of a reload while ``when``, a command of a shell, is true."""
    return in_its_place(_DIES, when)


def looks(mailhost):
    """What must be as it was: every file, and what is served."""
    snapshot = mailhost.snapshot(*CONFIGURATIONS)
    return {path: one for path, one in snapshot.items() if not path.endswith(".certbot.lock")}, view.leaves(mailhost)


def names(what):
    return f"grep -q {what} {MASTER}"


def test_an_install(mailhost):
    before = looks(mailhost)
    with dies_of_reload(names(STORE)):
        result = mailhost.certbot(*INSTALL, check=False)
    assert result.code == 1
    assert "/etc/postfix: the master process died of the reload. The files are as they were before, and " in result.stderr
    assert looks(mailhost) == before
    assert mailhost.processes("postfix")


def test_an_undo(mailhost):
    mailhost.certbot(*INSTALL)
    before = looks(mailhost)
    with dies_of_reload(f"! {names(STORE)}"):
        result = mailhost.run("certbot-dovecot", "undo", NAME, check=False)
    assert result.code == 1
    assert "the master process died of the reload. The files are as they were before, and Dovecot and Postfix were " in (
        result.stderr
    )
    assert looks(mailhost) == before
    # The lineage is installed as before, and can be undone.
    assert mailhost.certbot("renew", "-q").stderr == ""
    assert mailhost.run("certbot-dovecot", "undo", NAME).code == 0


def test_a_switch(mailhost):
    mailhost.certbot(*INSTALL)
    mailhost.run("certbot-dovecot", "standby", NAME)
    before = looks(mailhost)
    with dies_of_reload(names(f"{NAME}-standby")):
        result = mailhost.run("certbot-dovecot", "rollover", NAME, "--now", "--reason", "test", check=False)
    assert result.code == 1
    assert "the master process died of the reload. The files are as they were before, and " in result.stderr
    assert looks(mailhost) == before
    mailhost.run("certbot-dovecot", "rollover", NAME)
    assert view.leaf_at(mailhost, 465) == view.live_leaf(f"{NAME}-standby")


def test_an_undo_that_kills_it_for_good_says_so(mailhost):
    """What is left is not what it was, and the message must not say that it is."""
    mailhost.certbot(*INSTALL)
    # An admin's edit, not reloaded yet: neither state can be loaded.
    mailhost.append(MASTER, "127.0.0.1:993 inet n - y - - smtpd\n")
    before, _ = looks(mailhost)
    result = mailhost.run("certbot-dovecot", "undo", NAME, check=False)
    assert result.code == 1
    assert "Not everything could be put back: " in result.stderr
    assert "Postfix does not run. " in result.stderr
    assert "See the log of Postfix, and start it. " in result.stderr
    assert "The files are as they were before" not in result.stderr
    after, served = looks(mailhost)
    assert after == before
    assert served[993] == view.live_leaf(NAME)
    assert served[465] == ""


def kept():
    """The checkpoints, file for file."""
    paths = sorted(path for path in glob.glob(f"{BACKUPS}/*/*"))
    return {path: (view.read(path), os.stat(path).st_mode, os.stat(path).st_mtime) for path in paths}


def test_a_rollback_with_a_postfix_that_dies_of_it(mailhost):
    mailhost.certbot(*INSTALL)
    checkpoint = next(path for path in kept() if "/master.cf_" in path)
    # The service listened at that time; something else has the port now.
    with open(checkpoint, "a") as file:
        file.write("127.0.0.1:2525 inet n - y - - smtpd\n")
    before, state, backups = looks(mailhost), view.read(f"{STORE}/state.json"), kept()
    with socket.create_server(("127.0.0.1", 2525)):
        result = mailhost.certbot("rollback", "--installer", "dovecot", check=False)
    assert result.code == 1
    assert "The files are as they were before, and Dovecot and Postfix were reloaded with them" in result.stderr
    assert looks(mailhost) == before
    assert (view.read(f"{STORE}/state.json"), kept()) == (state, backups)
    assert os.listdir("/var/lib/letsencrypt") == ["backups"]
    # Nothing has the port any more: the same rollback works.
    mailhost.certbot("rollback", "--installer", "dovecot")
    assert view.read(MASTER).endswith(b"127.0.0.1:2525 inet n - y - - smtpd\n")
    assert kept() == {}
    assert os.listdir("/var/lib/letsencrypt") == ["backups"]
    assert view.leaf_at(mailhost, 465) == view.leaf_in("/etc/ssl/certs/ssl-cert-snakeoil.pem")


def test_a_rollback_that_dovecot_refuses(mailhost):
    mailhost.certbot(*INSTALL)
    os.rename("/etc/dovecot/private/dovecot.pem", "/etc/dovecot/private/elsewhere.pem")
    before, backups = looks(mailhost), kept()
    result = mailhost.certbot("rollback", "--installer", "dovecot", check=False)
    assert result.code == 1
    assert "/etc/dovecot/private/dovecot.pem" in result.stderr
    assert "The files are as they were before" in result.stderr
    assert (looks(mailhost), kept()) == (before, backups)


def test_a_rollback_that_dovecot_ignores(mailhost):
    """A certificate of another name is gone: Dovecot refuses every reload, with exit 0."""
    mailhost.certbot(*INSTALL)
    refuse_reloads(mailhost)
    before, backups = looks(mailhost), kept()
    result = mailhost.certbot("rollback", "--installer", "dovecot", check=False)
    assert result.code == 1
    assert "not every endpoint serves what its configuration names now: Dovecot " in result.stderr
    assert "The files are as they were before" in result.stderr
    assert (looks(mailhost), kept()) == (before, backups)


def test_a_rollback_where_a_server_was_down_is_done_and_does_not_start_it(mailhost):
    before = mailhost.snapshot(*CONFIGURATIONS)
    mailhost.certbot(*INSTALL)
    mailhost.stop("postfix")
    result = mailhost.certbot("rollback", "--installer", "dovecot", check=False)
    assert result.code == 1
    assert "the configuration is back, but not everything works with it: Postfix does not run. " in result.stderr
    assert mailhost.snapshot(*CONFIGURATIONS) == before
    assert not mailhost.processes("postfix")
    assert view.leaf_at(mailhost, 993) == view.leaf_in("/etc/dovecot/private/dovecot.pem")
    assert kept() == {}


def test_a_rollback_that_mends_what_was_broken(mailhost):
    """A configuration that cannot be read is no reason to go back to it."""
    before = mailhost.snapshot(*CONFIGURATIONS)
    mailhost.certbot(*INSTALL)
    mailhost.append("/etc/dovecot/conf.d/10-ssl.conf", "protocol imap {\n")
    mailhost.certbot("rollback", "--installer", "dovecot")
    assert mailhost.snapshot(*CONFIGURATIONS) == before
    assert view.leaf_at(mailhost, 993) == view.leaf_in("/etc/dovecot/private/dovecot.pem")


@pytest.mark.parametrize("signal", ["INT", "TERM"])
def test_an_interrupted_install_goes_back_one_step_not_two(mailhost, signal):
    """Certbot asks for a rollback then; our checkpoint is gone already, and the one before it is another install's."""
    mailhost.certbot(*INSTALL)
    before, backups = looks(mailhost), kept()
    with in_its_place(_INTERRUPTS, signal):
        mailhost.certbot("--installer", "dovecot", "-a", "standalone", "-d", OTHER, check=False)
        assert os.path.exists(f"{namespace.PLACE}/postfix.told")
    assert kept() == backups
    assert looks(mailhost) == before
    assert os.path.exists(f"/etc/letsencrypt/live/{OTHER}")


def test_an_interrupted_undo_does_not_start_what_was_down(mailhost):
    mailhost.certbot(*INSTALL)
    mailhost.stop("postfix")
    before = looks(mailhost)

    def run(command):
        if command.argv[0] == "doveadm" and command.argv[-1] == "reload" and not told:
            told.append(command)
            raise KeyboardInterrupt
        return commands.run(command)

    told = []
    with pytest.raises(KeyboardInterrupt):
        deed.undo(watch.Way("/etc/letsencrypt", jobs.now, run, NoCheckpoint(), watch.ask_dns, watch.look_up), NAME, now=True)
    assert looks(mailhost) == before
    assert not mailhost.processes("postfix")
