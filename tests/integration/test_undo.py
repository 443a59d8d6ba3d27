"""``certbot-dovecot undo``: back to the byte, with an admin's edits and other lineages kept."""

from __future__ import annotations

import os

import pytest

from certbot_dovecot import commands, jobs, watch
from certbot_dovecot import undo as deed
from certbot_dovecot.transaction import NoCheckpoint
from tests.integration import view
from tests.integration.test_commercial_kill import killed
from tests.integration.test_install import INSTALL, NAME, STORE
from tests.integration.test_names import OTHER, install
from tests.integration.test_renew import CONFIGURATIONS, NEW_YEAR


def undo(mailhost, *args, check=False):
    return mailhost.run("certbot-dovecot", "undo", *args, check=check)


def configuration(mailhost):
    """Every file but the lock that certbot's own installers leave too."""
    return {path: one for path, one in mailhost.snapshot(*CONFIGURATIONS).items() if not path.endswith(".certbot.lock")}


def test_to_the_byte_and_what_was_before_is_served(mailhost):
    before, served = configuration(mailhost), view.leaves(mailhost)
    mailhost.certbot(*INSTALL)
    mailhost.certbot("renew", "-q", at=NEW_YEAR)
    assert "2027.pem" in mailhost.run("postconf", "-P").stdout
    result = undo(mailhost, NAME)
    assert result.code == 0, result
    assert "Put back: /etc/postfix/master.cf\n" in result.stdout
    assert configuration(mailhost) == before
    assert view.leaves(mailhost) == served
    # The files stay, and renewals leave the servers alone from now on, without a word.
    assert os.path.exists(f"{STORE}/2027.key")
    assert not os.path.exists(f"{STORE}/former.json")
    assert mailhost.certbot("renew", "-q", "--force-renewal").stderr == ""
    assert configuration(mailhost) == before
    # A second time there is nothing to do; and the way is open to install it again.
    again = undo(mailhost, NAME)
    assert (again.code, again.stdout) == (0, "No server names its files: there is nothing to put back.\n")
    assert "former.json" not in os.listdir(STORE)
    install(mailhost, NAME)
    assert undo(mailhost, NAME).code == 0
    assert configuration(mailhost) == before


def test_an_admins_edits_since_stay(mailhost):
    mailhost.certbot(*INSTALL)
    mailhost.append("/etc/postfix/master.cf", "# mine\nmine unix - - n - - pipe argv=/bin/true\n")
    path = "/etc/dovecot/dovecot.conf"
    mailhost.write(path, "# mine\n" + view.read(path).decode())
    result = undo(mailhost, NAME)
    assert result.code == 0, result
    master = view.read("/etc/postfix/master.cf").decode()
    assert master.endswith("# mine\nmine unix - - n - - pipe argv=/bin/true\n")
    assert "letsencrypt" not in master
    assert view.read(path).startswith(b"# mine\n")
    assert "letsencrypt" not in mailhost.run("doveconf", "-n").stdout


def test_that_certbot_goes_on_renewing_is_said_of_what_certbot_knows(mailhost):
    mailhost.certbot(*INSTALL)
    said = undo(mailhost, NAME).stdout
    assert f"its keys and certificates stay in {STORE}.\ncertbot still renews it." in said
    install(mailhost, NAME)
    mailhost.certbot("delete", "--cert-name", NAME)
    said = undo(mailhost, NAME).stdout
    assert f"stay in {STORE}." in said
    assert "certbot" not in said.partition(f"stay in {STORE}.")[2]


def test_lines_that_were_edited_since_are_refused_and_the_message_says_what_was_there(mailhost):
    mailhost.certbot(*INSTALL)
    path = "/etc/postfix/master.cf"
    text = view.read(path).decode()
    mailhost.write(path, text.replace("  -o smtpd_tls_cert_file=", "  -o smtpd_tls_loglevel=1 -o smtpd_tls_cert_file=", 1))
    before, served = configuration(mailhost), view.leaves(mailhost)
    result = undo(mailhost, NAME)
    assert result.code == 1
    assert f"{path}: lines that certbot-dovecot wrote there were edited since" in result.stderr
    assert "Put back by hand what was there before: nothing, instead of '-o smtpd_tls_cert_file=" in result.stderr
    assert (configuration(mailhost), view.leaves(mailhost)) == (before, served)


@pytest.mark.parametrize("order", [(NAME, OTHER), pytest.param((OTHER, NAME), marks=pytest.mark.long)])
def test_of_two_lineages_each_goes_alone(mailhost, order):
    before, served = configuration(mailhost), view.leaves(mailhost)
    mailhost.certbot(*INSTALL)
    mailhost.certbot("certonly", "-a", "standalone", "-d", OTHER)
    install(mailhost, OTHER)
    first, second = order
    assert undo(mailhost, first).code == 0
    for port, ours in ((993, "Dovecot"), (465, "Postfix")):
        assert mailhost.served(port, sni=second).digest == view.live_leaf(second), ours
        assert mailhost.served(port, sni=first).digest != view.live_leaf(first), ours
    assert undo(mailhost, second).code == 0
    assert configuration(mailhost) == before
    assert view.leaves(mailhost) == served


def test_what_two_lineages_by_name_share_goes_with_the_last_one(mailhost):
    before = configuration(mailhost)
    third = f"third.{NAME}"
    mailhost.certbot(*INSTALL)
    for name in (OTHER, third):
        mailhost.certbot("certonly", "-a", "standalone", "-d", name)
        install(mailhost, name)
    for gone, stay in ((OTHER, third), (NAME, third)):
        assert undo(mailhost, gone).code == 0
        assert mailhost.served(993, sni=stay).digest == view.live_leaf(stay)
        assert mailhost.served(465, sni=stay).digest == view.live_leaf(stay)
    assert undo(mailhost, third).code == 0
    assert configuration(mailhost) == before


def test_a_server_that_does_not_run_is_not_started(mailhost):
    before = configuration(mailhost)
    mailhost.certbot(*INSTALL)
    mailhost.stop("postfix")
    result = undo(mailhost, NAME)
    assert result.code == 0
    assert "Postfix does not run: it was not reloaded.\n" in result.stdout
    assert configuration(mailhost) == before
    assert not mailhost.processes("postfix")


def test_what_fails_is_put_back(mailhost):
    """The certificate of before is not there any more."""
    mailhost.certbot(*INSTALL)
    before, served = configuration(mailhost), view.leaves(mailhost)
    os.rename("/etc/dovecot/private/dovecot.pem", "/etc/dovecot/private/elsewhere.pem")
    result = undo(mailhost, NAME)
    assert result.code == 1
    assert "/etc/dovecot/private/dovecot.pem" in result.stderr
    assert "The files are as they were before." in result.stderr
    os.rename("/etc/dovecot/private/elsewhere.pem", "/etc/dovecot/private/dovecot.pem")
    assert (configuration(mailhost), view.leaves(mailhost)) == (before, served)
    assert undo(mailhost, NAME).code == 0


def test_an_interrupt_between_two_reloads_brings_both_back(mailhost):
    mailhost.certbot(*INSTALL)
    before, served = configuration(mailhost), view.leaves(mailhost)
    told = []

    def run(command):
        if tuple(command.argv)[::3] == ("postfix", "reload") and not told:
            # Dovecot has reloaded by now.
            told.append(command)
            raise KeyboardInterrupt
        return commands.run(command)

    way = watch.Way("/etc/letsencrypt", jobs.now, run, NoCheckpoint(), watch.ask_dns, watch.look_up)
    with pytest.raises(KeyboardInterrupt):
        deed.undo(way, NAME, now=True)
    assert told
    assert (configuration(mailhost), view.leaves(mailhost)) == (before, served)


@pytest.mark.long
def test_a_kill_at_every_write_is_finished_by_the_next_run(mailhost, tmp_path):
    before, served = configuration(mailhost), view.leaves(mailhost)
    mailhost.certbot(*INSTALL)
    points = 0
    for number in killed(mailhost, tmp_path, "undo", NAME):
        assert undo(mailhost, NAME).code == 0, number
        # What a killed write leaves beside a file is hidden, and read by nobody.
        assert {path: one for path, one in configuration(mailhost).items() if not path.endswith(".tmp")} == before, number
        assert view.leaves(mailhost) == served, number
        assert not os.path.exists(f"{STORE}/former.json"), number
        points += 1
    # Dovecot's file, Postfix's, and the record.
    assert points >= 3


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (("no.such.test",), 1, "it is not installed by certbot-dovecot"),
        ((), 64, "usage: certbot-dovecot undo"),
        ((NAME, "--nonsense"), 64, "usage: certbot-dovecot"),
    ],
)
def test_bad_input(mailhost, args, code, text):
    result = undo(mailhost, *args)
    assert result.code == code
    assert text in result.stderr
    assert "Traceback" not in result.stderr


def test_without_a_record_of_what_was_before(mailhost):
    mailhost.certbot(*INSTALL)
    os.unlink(f"{STORE}/former.json")
    result = undo(mailhost, NAME)
    assert result.code == 1
    assert "it is not known what the configuration was" in result.stderr
    mailhost.write(f"{STORE}/former.json", "{}")
    result = undo(mailhost, NAME)
    assert (result.code, "damaged" in result.stderr) == (1, True)
    # A renewal does not wait for it, nor writes over it.
    mailhost.certbot("renew", "-q", at=NEW_YEAR)
    assert "2027.pem" in mailhost.run("postconf", "-P").stdout
    assert view.read(f"{STORE}/former.json") == b"{}"
