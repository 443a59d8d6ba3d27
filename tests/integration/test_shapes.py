"""Configurations as people have them: each is installed into, served, and changed nowhere else."""

from __future__ import annotations

import os
import re
import shutil
import stat

import pytest

from tests.integration import view
from tests.integration.test_install import INSTALL, NAME, STORE

SSL = "/etc/dovecot/conf.d/10-ssl.conf"
MASTER = "/etc/postfix/master.cf"
SNAKEOIL = "/etc/dovecot/private/dovecot"


def edit(mailhost, path, *changes):
    text = view.read(path).decode()
    for pattern, new in changes:
        text, count = re.subn(pattern, new, text)
        assert count, pattern
    mailhost.write(path, text)


def everything_is_served(mailhost):
    assert set(view.leaves(mailhost).values()) == {view.live_leaf(NAME)}
    assert set(view.leaves(mailhost, address="::1").values()) == {view.live_leaf(NAME)}


def test_settings_that_are_nowhere_are_added_to_the_main_file(mailhost):
    edit(mailhost, SSL, (r"(?m)^.*ssl_(server_)?(cert|key)(_file)? = .*\n", ""))
    before = mailhost.snapshot("/etc/dovecot")
    mailhost.certbot(*INSTALL)
    after = mailhost.snapshot("/etc/dovecot")
    assert view.changed(before, after) == {"/etc/dovecot/dovecot.conf"}
    added = view.tls(f"{STORE}/2026.pem", f"{STORE}/2026.key").encode()
    assert after["/etc/dovecot/dovecot.conf"].data == before["/etc/dovecot/dovecot.conf"].data + added
    everything_is_served(mailhost)


def test_line_ends_of_dos_and_a_last_line_without_one(mailhost):
    for path in (SSL, MASTER):
        crlf = view.read(path).decode().rstrip("\n").replace("\n", "\r\n")
        with open(path, "w", newline="") as file:
            file.write(crlf)
    mailhost.restart("dovecot")
    mailhost.restart("postfix")
    before = {path: view.read(path) for path in (SSL, MASTER)}
    mailhost.certbot(*INSTALL)
    for path, old in before.items():
        new = view.read(path)
        assert b"\n" not in new.replace(b"\r\n", b"")
        assert not new.endswith(b"\n")
        settings = (view.setting("cert").encode(), view.setting("key").encode())
        kept = [line for line in old.split(b"\r\n") if not line.startswith(settings)]
        assert [line for line in new.split(b"\r\n") if STORE.encode() not in line] == kept
    everything_is_served(mailhost)


def test_a_link_is_followed_and_owner_and_mode_stay(mailhost, tmp_path):
    for path, name in ((SSL, "ssl.conf"), (MASTER, "master.cf")):
        target = f"/etc/dovecot/private/{name}"
        shutil.move(path, target)
        os.symlink(target, path)
        os.chmod(target, 0o640)
        os.chown(target, 0, 8)
    mailhost.certbot(*INSTALL)
    for path, name in ((SSL, "ssl.conf"), (MASTER, "master.cf")):
        assert os.readlink(path) == f"/etc/dovecot/private/{name}"
        was = os.stat(path)
        assert (stat.S_IMODE(was.st_mode), was.st_uid, was.st_gid) == (0o640, 0, 8)
    everything_is_served(mailhost)


def test_the_snakeoil_pair_behind_the_links_is_never_written(mailhost):
    before = mailhost.snapshot("/etc/dovecot/private", "/etc/ssl/certs", "/etc/ssl/private")
    mailhost.certbot(*INSTALL)
    mailhost.certbot("renew", "--force-renewal")
    assert mailhost.snapshot("/etc/dovecot/private", "/etc/ssl/certs", "/etc/ssl/private") == before


def test_certificate_and_key_in_two_files_go_into_the_later_one(mailhost):
    edit(mailhost, SSL, (r"(?m)^ssl_(server_)?key(_file)? = .*\n", ""))
    mailhost.write("/etc/dovecot/conf.d/99-key.conf", f"{view.setting('key')}{SNAKEOIL}.key\n")
    mailhost.restart("dovecot")
    before = mailhost.snapshot("/etc/dovecot")
    mailhost.certbot(*INSTALL)
    assert view.changed(before, mailhost.snapshot("/etc/dovecot")) == {"/etc/dovecot/conf.d/99-key.conf"}
    everything_is_served(mailhost)


def test_services_under_their_old_and_their_numeric_names(mailhost):
    edit(mailhost, MASTER, (r"(?m)^submissions(\s+inet)", r"smtps\1"), (r"(?m)^submission(\s+inet)", r"587\1"))
    mailhost.restart("postfix")
    mailhost.certbot(*INSTALL)
    everything_is_served(mailhost)


def test_a_service_on_a_port_of_its_own_by_name(mailhost):
    """Only what the admin names; 465 and 587 keep what they have."""
    mailhost.append(MASTER, "127.0.0.1:10465 inet n - y - - smtpd\n  -o smtpd_tls_wrappermode=yes\n")
    mailhost.restart("postfix")
    before = view.leaf_at(mailhost, 465)
    mailhost.certbot(*INSTALL, "--dovecot-postfix-services", "127.0.0.1:10465")
    assert view.leaf_at(mailhost, 465) == before
    assert f"_10465._tcp.{NAME}. 3600 IN TLSA 3 1 1" in view.read(f"{STORE}/tlsa.zone").decode()


def test_a_submission_service_by_wrappermode_alone(mailhost):
    mailhost.append(MASTER, "127.0.0.1:10465 inet n - y - - smtpd\n  -o { smtpd_tls_wrappermode = yes }\n")
    mailhost.restart("postfix")
    mailhost.certbot(*INSTALL)
    assert f"_10465._tcp.{NAME}. 3600 IN TLSA 3 1 1" in view.read(f"{STORE}/tlsa.zone").decode()


def test_dovecot_may_own_the_submission_port(mailhost):
    mailhost.reset(submission="dovecot")
    mailhost.certbot(*INSTALL)
    everything_is_served(mailhost)
    assert f"_587._tcp.{NAME}. " in view.read(f"{STORE}/tlsa.zone").decode()


def test_without_postfix_that_part_is_skipped_and_said(mailhost):
    with mailhost.hidden("/usr/sbin/postconf"):
        shown = mailhost.certbot(*INSTALL).stdout
    assert "Postfix is not installed here; that part is skipped." in shown
    assert view.leaf_at(mailhost, 993) == view.live_leaf(NAME) != view.leaf_at(mailhost, 465)


def test_names_are_offered(mailhost):
    """Postfix's myhostname and Dovecot's local_name scopes; certbot without a terminal says what it would have offered."""
    inner = view.tls(f"{SNAKEOIL}.pem", f"{SNAKEOIL}.key", "  ")
    block = f"local_name imap.example.org {{\n{inner}}}\n"
    mailhost.append("/etc/dovecot/local.conf", block + block.replace("imap.example.org", "*.example.org"))
    result = mailhost.certbot("--installer", "dovecot", "-a", "standalone", check=False)
    assert result.code == 1
    assert NAME in result.stderr
    assert "imap.example.org" in result.stderr
    assert "*.example.org" not in result.stderr


def test_an_address_beside_the_name(mailhost):
    """Certbot 5.3 and later: what is issued for an installed lineage is deployed, addresses or not."""
    if mailhost.certbot_version < (5, 3):
        pytest.skip("certbot before 5.3 knows no addresses")
    mailhost.certbot(*INSTALL)
    mailhost.certbot("certonly", *INSTALL, "--cert-name", NAME, "--ip-address", "127.0.0.1")
    everything_is_served(mailhost)
    assert b"127.0.0.1" not in view.read(f"{STORE}/tlsa.zone")
    mailhost.certbot("renew", "--force-renewal")
    everything_is_served(mailhost)
    assert sorted(name for name in os.listdir(STORE) if name.endswith(".key")) == ["2026.key"]


def test_a_configuration_in_another_place(mailhost):
    """``--dovecot-server-root``: asked, edited, reloaded there, and remembered; what is in the usual place is not looked at."""
    mailhost.stop("dovecot")
    shutil.copytree("/etc/dovecot", "/etc/mail/dovecot", symlinks=True)
    for path in ("/etc/dovecot/dovecot.conf", "/etc/dovecot/conf.d/10-ssl.conf"):
        mailhost.write(path, "broken {\n")
    before = mailhost.snapshot("/etc/dovecot")
    mailhost.run("dovecot", "-c", "/etc/mail/dovecot/dovecot.conf")
    mailhost.certbot(*INSTALL, "--dovecot-server-root", "/etc/mail/dovecot", "--dovecot-postfix-root", "/etc/postfix")
    everything_is_served(mailhost)
    mailhost.certbot("renew", "--force-renewal")
    everything_is_served(mailhost)
    assert mailhost.snapshot("/etc/dovecot") == before
