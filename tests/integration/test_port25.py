"""Port 25, where mail from other hosts comes in: only if it is chosen, behind postscreen too, and with its TLSA records."""

from __future__ import annotations

import os
import re
import time

import pytest

from certbot_dovecot import commands
from certbot_dovecot.servers.contract import Claim, Pair
from certbot_dovecot.servers.postfix import Postfix
from tests.integration import view
from tests.integration.test_install import INSTALL, NAME, STORE
from tests.integration.test_names import OTHER, SNI_MAP, install
from tests.integration.test_postfix_forms import leaf
from tests.integration.test_renew import NEW_YEAR

MAIN, MASTER = "/etc/postfix/main.cf", "/etc/postfix/master.cf"
ALL = ("--dovecot-postfix-services", "all")
SMTP = "smtp      inet  n       -       y       -       -       smtpd\n"
POSTSCREEN = """\
smtp      inet  n       -       y       -       1       postscreen
smtpd     pass  -       -       y       -       -       smtpd
dnsblog   unix  -       -       y       -       0       dnsblog
tlsproxy  unix  -       -       y       -       0       tlsproxy
"""
#: With these, postscreen lets nobody in at once, and a client's STARTTLS is tlsproxy's.
TESTING = "postscreen_access_list =\npostscreen_pipelining_enable = yes\npostscreen_greet_wait = 1s\n"
#: What main.cf may say that wins over certificate and key, one at a time, for smtpd, tlsproxy, or both.
SHADOWS = {
    "chain": "smtpd_tls_chain_files = {both}\n",
    "chain of tlsproxy": "tlsproxy_tls_chain_files = {both}\n",
    "eccert": "smtpd_tls_eccert_file = {cert}\nsmtpd_tls_eckey_file = {key}\n",
    "eccert alone": "smtpd_tls_eccert_file = {both}\n",
    "eccert of tlsproxy": "tlsproxy_tls_eccert_file = {cert}\ntlsproxy_tls_eckey_file = {key}\n",
    "certificate of tlsproxy": "tlsproxy_tls_cert_file = {cert}\ntlsproxy_tls_key_file = {key}\n",
    "names": "tls_server_sni_maps = inline:{{{{" + NAME + " = {both}}}}}\n",
}


def set_services(mailhost, services, main=""):
    """Put other services on port 25 into master.cf, and settings into main.cf."""
    text = view.read(MASTER).decode()
    assert text.count(SMTP) == 1
    mailhost.write(MASTER, text.replace(SMTP, services))
    set_main(mailhost, main)


def set_main(mailhost, main):
    if main:
        mailhost.append(MAIN, main)
    mailhost.run("postfix", "reload")


def leaf25(name=NAME, address="127.0.0.1"):
    return leaf(25, address, False, name)


def settled25(expected):
    """What is served some moments after a reload: until then, processes of before may take a connection."""
    deadline = time.monotonic() + 5
    while (found := leaf25()) != expected and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def zone():
    return view.read(f"{STORE}/tlsa.zone").decode()


def asked(mailhost):
    return mailhost.run("certbot-dovecot", "tlsa", NAME).stdout


def record(stem="2026"):
    return f"_25._tcp.{NAME}. 3600 IN TLSA 3 1 1 {view.spki(f'{STORE}/{stem}.pem')}\n"


@pytest.fixture
def other(mailhost, ca):
    """A pair of the admin's."""
    made = ca.leaf([NAME]).write("/etc/dovecot/private", "other")
    mailhost.write("/etc/dovecot/private/both.pem", view.read(made.key).decode() + view.read(made.fullchain).decode())
    return made


def test_all_takes_port_25_and_keeps_it_true_until_it_is_rolled_back(mailhost):
    before, theirs = mailhost.snapshot("/etc/postfix"), leaf25()
    assert view.key_kind("/etc/dovecot/private/dovecot.key")[0] == "rsa"
    result = mailhost.certbot(*INSTALL, *ALL)
    assert leaf25() == leaf25(address="::1") == view.live_leaf(NAME)
    assert set(view.leaves(mailhost).values()) == {view.live_leaf(NAME)}
    after = mailhost.snapshot("/etc/postfix")
    assert view.changed(before, after) == {MASTER}
    lines = [f"+  -o smtpd_tls_cert_file={STORE}/2026.pem", f"+  -o smtpd_tls_key_file={STORE}/2026.key"]
    assert view.diff(before, after, MASTER) == lines * 3
    assert record() in zone()
    assert record() in asked(mailhost)
    assert "Postfix 25 (smtp), 465 (submission), 587 (submission) at 127.0.0.1, ::1" in result.stdout
    assert "If the DNS has TLSA records for it (_25._tcp)" in result.stdout
    mailhost.certbot("renew", "--force-renewal", at=NEW_YEAR)
    assert leaf25() == leaf25(address="::1") == view.live_leaf(NAME) == view.leaf_in(f"{STORE}/2027.pem")
    assert record("2027") in zone()
    assert record("2026") not in zone()
    mailhost.certbot("rollback", "--installer", "dovecot", "--checkpoints", "2")
    assert mailhost.snapshot("/etc/postfix") == before
    assert leaf25() == theirs


def test_without_the_word_there_is_no_record_and_all_may_come_later(mailhost):
    set_main(mailhost, "smtp_tls_cert_file = $smtpd_tls_cert_file\nsmtp_tls_key_file = $smtpd_tls_key_file\n")
    client = "Postfix: smtp_tls_cert_file in main.cf shows /etc/ssl/certs/ssl-cert-snakeoil.pem to other mail servers"
    assert client not in mailhost.certbot(*INSTALL).stdout
    assert "_25." not in zone() + asked(mailhost)
    shown = mailhost.run("certbot-dovecot", "plan", "--lineage", NAME, "--postfix-services", "all", check=False)
    assert shown.code == 2
    assert "Would ask:     Postfix smtp 127.0.0.1:25 (STARTTLS)\n" in shown.stdout
    assert "Postfix: port 25 gets another certificate." in shown.stdout
    assert client in shown.stdout
    result = mailhost.certbot(*INSTALL, *ALL, "--keep-until-expiring")
    assert leaf25() == view.live_leaf(NAME)
    assert record() in zone()
    assert "Postfix: port 25 gets another certificate." in result.stdout
    assert client in result.stdout
    # And back again: it is said that nobody looks after it.
    result = mailhost.certbot(*INSTALL, "--dovecot-postfix-services", "submission", "--keep-until-expiring")
    assert "_25." not in zone()
    assert f"Postfix: smtp (inet) at {MASTER}:" in result.stdout
    assert "is not chosen by --dovecot-postfix-services" in result.stdout


def test_a_list_that_names_it(mailhost):
    before = view.leaf_at(mailhost, 465)
    mailhost.certbot(*INSTALL, "--dovecot-postfix-services", "smtp")
    assert leaf25() == view.live_leaf(NAME)
    assert view.leaf_at(mailhost, 465) == before
    assert record() in zone()
    assert "_465." not in zone()


def test_behind_postscreen_both_ways_serve_it(mailhost):
    set_services(mailhost, POSTSCREEN)
    before = mailhost.snapshot("/etc/postfix")
    mailhost.certbot(*INSTALL, *ALL)
    after = mailhost.snapshot("/etc/postfix")
    assert view.changed(before, after) == {MASTER}
    pair = [f"smtpd_tls_cert_file={STORE}/2026.pem", f"smtpd_tls_key_file={STORE}/2026.key"]
    assert view.diff(before, after, MASTER) == [
        *(f"+  -o {line}" for line in pair),
        *(f"+  -o {line.replace('smtpd', 'tlsproxy')}" for line in pair),
        *(f"+  -o {line}" for line in pair * 2),
    ]
    assert leaf25() == view.live_leaf(NAME)
    assert record() in zone()
    set_main(mailhost, TESTING)
    assert leaf25() == view.live_leaf(NAME)
    assert record() in asked(mailhost)
    assert "tlsproxy" in mailhost.log("postfix")
    mailhost.certbot("renew", "--force-renewal", at=NEW_YEAR)
    assert leaf25() == view.live_leaf(NAME) == view.leaf_in(f"{STORE}/2027.pem")
    assert record("2027") in zone()
    mailhost.certbot("rollback", "--installer", "dovecot", "--checkpoints", "2")
    assert mailhost.snapshot(MASTER) == {MASTER: before[MASTER]}


@pytest.mark.parametrize("shadow", SHADOWS)
def test_what_main_cf_sets_does_not_win(mailhost, other, ca, shadow):
    """With postscreen, whose two ways have all there is; without certbot, for time's sake."""
    text = SHADOWS[shadow].format(both="/etc/dovecot/private/both.pem", cert=other.fullchain, key=other.key)
    set_services(mailhost, POSTSCREEN, text)
    theirs = view.leaf_in(other.cert)
    handed = leaf25()
    assert (handed == theirs) == ("tlsproxy" not in shadow)
    set_main(mailhost, TESTING)
    assert settled25(theirs) == theirs
    made = ca.leaf([NAME], kind="rsa").write("/etc/dovecot/private", "new")
    claim = Claim(Pair(made.fullchain, made.key), (NAME,), owns=lambda path: path == made.fullchain)
    server = Postfix("/etc/postfix", commands.run, "all")
    for edit in server.plan(claim).edits:
        server.apply(edit)
    server.check()
    server.reload()
    assert settled25(view.leaf_in(made.cert)) == view.leaf_in(made.cert)
    set_main(mailhost, "postscreen_access_list = permit_mynetworks\n")
    assert settled25(view.leaf_in(made.cert)) == view.leaf_in(made.cert)
    [one] = [one for one in server.look(NAME).served if one.endpoint.port == 25 and one.endpoint.address == "127.0.0.1"]
    assert (one.pair, one.mixed, one.endpoint.protocol) == (claim.pair, False, "smtp")
    assert server.plan(claim).edits == ()


def test_a_further_lineage_by_name_on_both_ways(mailhost):
    set_services(mailhost, POSTSCREEN)
    mailhost.certbot(*INSTALL, *ALL)
    install(mailhost, OTHER, services="all")
    for main in ("", TESTING):
        set_main(mailhost, main)
        assert leaf25() == leaf25(None) == view.live_leaf(NAME)
        assert leaf25(OTHER) == view.live_leaf(OTHER)
    assert view.read(MASTER).decode().count(f"  -o tls_server_sni_maps=regexp:{SNI_MAP}\n") == 4
    assert f"_25._tcp.{OTHER}. " in view.read(f"/etc/letsencrypt/dovecot/{OTHER}/tlsa.zone").decode()


def test_a_tlsproxy_of_the_admins_gets_no_record_and_is_said(mailhost, other):
    set_services(mailhost, POSTSCREEN)
    mailhost.certbot(*INSTALL, *ALL)
    text = view.read(MASTER).decode()
    theirs = text.replace(f"tlsproxy_tls_cert_file={STORE}/2026.pem", f"tlsproxy_tls_cert_file={other.fullchain}")
    mailhost.write(MASTER, theirs.replace(f"tlsproxy_tls_key_file={STORE}/2026.key", f"tlsproxy_tls_key_file={other.key}"))
    mailhost.run("postfix", "reload")
    assert leaf25() == view.live_leaf(NAME)
    [note] = Postfix("/etc/postfix", commands.run, "all").look().notes
    assert note.startswith(f"Postfix: tlsproxy (unix) at {MASTER}:")
    assert "no TLSA record is made for the port" in note
    assert "_25." not in asked(mailhost)
    # What the admin pointed elsewhere stays, and an install by hand takes it back.
    mailhost.certbot("renew", "--force-renewal")
    assert other.fullchain in view.read(MASTER).decode()
    assert "_25." not in zone()
    assert "names another certificate" not in mailhost.certbot(*INSTALL, *ALL, "--keep-until-expiring").stdout
    assert view.read(MASTER).decode() == text
    assert record() in zone()


def test_what_fails_on_port_25_is_put_back(mailhost):
    """It agrees to RSA only, which the old certificate has and the new one has not."""
    options = "  -o smtpd_tls_exclude_ciphers=aECDSA\n  -o smtpd_tls_protocols=TLSv1.2\n"
    set_services(mailhost, SMTP + options)
    before, theirs = mailhost.snapshot("/etc/dovecot", "/etc/postfix"), leaf25()
    assert theirs
    result = mailhost.certbot(*INSTALL, *ALL, "--dovecot-probe-timeout", "1.5", check=False)
    assert result.code == 1
    assert "not every endpoint served the new certificate: Postfix smtp 127.0.0.1:25 (STARTTLS)" in result.stderr
    assert "The files are as they were before" in result.stderr
    assert mailhost.snapshot("/etc/dovecot", "/etc/postfix") == before
    assert leaf25() == theirs
    assert not os.path.exists(STORE)


#: Services on port 25, those that are chosen, whether the endpoint is served in more than one way (None without an endpoint),
#: and what is said.
LOOKS = (
    (SMTP + "  -o smtpd_tls_security_level=none\n", "all", None,
     "smtp in {} has no TLS; set smtpd_tls_security_level=may."),
    ("", "all", None, "nothing on port 25 (smtpd or postscreen) is enabled in {}."),
    (POSTSCREEN.replace("tlsproxy  unix", "#tlsproxy  unix"), "all", False,
     "smtp in {} is postscreen, and there is no service tlsproxy: clients that it tests get no TLS."),
    (POSTSCREEN.replace("smtpd     pass", "#smtpd     pass"), "all", None,
     "smtp in {} is postscreen, and the service of type pass that it hands clients to is not there."),
    (f"127.0.0.1:{SMTP}[::1]:{SMTP}  -o smtpd_tls_cert_file=/o.pem\n", "127.0.0.1:smtp", True,
     "[::1]:smtp (inet) at {}:N names another certificate than 127.0.0.1:smtp (inet) at {}:N. Some clients of port 25 get "
     "that one, and no TLSA record is made for the port."),
    (f"127.0.0.1:{SMTP}[::1]:{SMTP}", "127.0.0.1:smtp", False, ""),
)  # fmt: skip


def test_what_a_look_finds_on_port_25(mailhost):
    original = view.read(MASTER).decode()
    for services, words, mixed, note in LOOKS:
        mailhost.write(MASTER, original.replace(SMTP, services))
        found = Postfix("/etc/postfix", commands.run, words).look()
        said = [re.sub(r"master\.cf:\d+", "master.cf:N", one) for one in found.notes]
        assert said == ([f"Postfix: {note.format(MASTER, MASTER)}"] if note else [])
        assert {one.mixed for one in found.served if one.endpoint.port == 25} == {mixed} - {None}
