"""What goes wrong, on real servers: restored to the byte, told in words, finished by the next renewal."""

from __future__ import annotations

import os

import pytest

from tests.integration import view
from tests.integration.test_install import INSTALL, NAME, STORE
from tests.integration.test_renew import CONFIGURATIONS, NEW_YEAR

LOCAL = "/etc/dovecot/local.conf"


def refuse_reloads(mailhost) -> None:
    """A ``local_name`` whose certificate is gone: Dovecot refuses every reload from now on, with exit 0 (facts)."""
    cert, key = "/etc/dovecot/private/dovecot.pem", "/etc/dovecot/private/dovecot.key"
    mailhost.write("/etc/dovecot/private/other.pem", view.read(cert).decode())
    block = view.tls("/etc/dovecot/private/other.pem", key, "  ")
    mailhost.write(LOCAL, f"local_name other.example.test {{\n{block}}}\n")
    mailhost.restart("dovecot")
    assert "" not in view.leaves(mailhost).values()
    os.unlink("/etc/dovecot/private/other.pem")


def test_a_reload_that_is_not_applied_is_seen_on_the_wire_and_undone(mailhost):
    refuse_reloads(mailhost)
    before, served = mailhost.snapshot(*CONFIGURATIONS), view.leaves(mailhost)
    result = mailhost.certbot(*INSTALL, check=False)
    assert result.code == 1
    assert "not every endpoint served the new certificate: Dovecot " in result.stderr
    assert "127.0.0.1:993 (TLS)" in result.stderr, result.stderr
    assert "The files are as they were before" in result.stderr
    assert "Traceback" not in result.stderr
    assert mailhost.snapshot(*CONFIGURATIONS) == before
    assert view.leaves(mailhost) == served
    assert not os.path.exists(STORE)


def test_the_same_at_a_renewal_keeps_the_old_and_the_next_renewal_finishes(mailhost):
    mailhost.certbot(*INSTALL)
    old = view.live_leaf(NAME)
    refuse_reloads(mailhost)
    before = mailhost.snapshot(*CONFIGURATIONS, f"{STORE}/2026.pem")
    result = mailhost.certbot("renew", "-q", "--force-renewal", at=NEW_YEAR, check=False)
    assert result.code == 1
    assert "The files are as they were before" in result.stderr
    assert mailhost.snapshot(*CONFIGURATIONS, f"{STORE}/2026.pem") == before
    assert set(view.leaves(mailhost).values()) == {old}
    os.unlink(LOCAL)
    mailhost.certbot("renew", "-q", at=NEW_YEAR)
    assert set(view.leaves(mailhost).values()) == {view.live_leaf(NAME)} != {old}
    assert f"{STORE}/2027.pem" in view.read("/etc/dovecot/conf.d/10-ssl.conf").decode()


def test_a_server_that_is_down_is_told_and_proven_later(mailhost):
    mailhost.stop("dovecot")
    result = mailhost.certbot(*INSTALL, check=False)
    assert result.code == 1
    assert "Dovecot does not run, and did not before" in result.stderr
    assert f"{STORE}/2026.pem" in view.read("/etc/dovecot/conf.d/10-ssl.conf").decode()
    assert view.leaf_at(mailhost, 465) == view.live_leaf(NAME)
    assert "_993." not in view.read(f"{STORE}/tlsa.zone").decode()
    again = mailhost.certbot("renew", "-q", check=False)
    assert again.code == 1
    assert "Dovecot does not run" in again.stderr
    mailhost.start("dovecot")
    mailhost.certbot("renew", "-q")
    assert set(view.leaves(mailhost).values()) == {view.live_leaf(NAME)}
    assert "_993." in view.read(f"{STORE}/tlsa.zone").decode()


def test_a_broken_configuration_stops_an_install_before_anything_is_issued(mailhost):
    mailhost.append(LOCAL, "protocol imap {\n")
    before = mailhost.snapshot(*CONFIGURATIONS)
    result = mailhost.certbot(*INSTALL, check=False)
    assert result.code == 1
    assert LOCAL in result.stderr
    assert not os.path.exists(f"/etc/letsencrypt/live/{NAME}")
    assert mailhost.snapshot(*CONFIGURATIONS) == before


def test_a_broken_configuration_at_a_renewal_keeps_the_installer(mailhost):
    """Certbot drops an installer, in silence, whose prepare() raises under renew (facts)."""
    mailhost.certbot(*INSTALL)
    old = view.live_leaf(NAME)
    mailhost.append(LOCAL, "protocol imap {\n")
    result = mailhost.certbot("renew", "-q", "--force-renewal", check=False)
    assert result.code == 1
    assert LOCAL in result.stderr
    assert view.live_leaf(NAME) != old
    assert "installer = dovecot" in view.read(f"/etc/letsencrypt/renewal/{NAME}.conf").decode()
    assert set(view.leaves(mailhost).values()) == {old}
    os.unlink(LOCAL)
    mailhost.certbot("renew", "-q")
    assert set(view.leaves(mailhost).values()) == {view.live_leaf(NAME)}


def test_an_endpoint_that_was_broken_before_does_not_hold_up_the_others(mailhost):
    mailhost.certbot(*INSTALL)
    path = "/etc/postfix/master.cf"
    good = view.read(path).decode()
    # smtpd of port 587 dies of this at every start, and master throttles it: the port accepts, and hangs.
    mailhost.write(path, good.replace("smtpd_tls_security_level=encrypt", "smtpd_tls_security_level=bogus"))
    mailhost.restart("postfix")
    result = mailhost.certbot("renew", "-q", "--force-renewal", "--dovecot-probe-timeout", "3", check=False)
    assert result.code == 1
    assert "Postfix submission 127.0.0.1:587 (STARTTLS)" in result.stderr
    assert "did not work before" in result.stderr
    assert view.leaf_at(mailhost, 993) == view.leaf_at(mailhost, 465) == view.live_leaf(NAME)
    assert "_587." not in view.read(f"{STORE}/tlsa.zone").decode()
    mailhost.write(path, good)
    mailhost.restart("postfix")
    mailhost.certbot("renew", "-q")
    assert "_587." in view.read(f"{STORE}/tlsa.zone").decode()


def test_a_master_cf_that_kills_postfix_is_not_ours_to_make(mailhost):
    """A bad -o in the service throttles it: told, and nothing is left behind."""
    mailhost.append("/etc/postfix/master.cf", "2525 inet n - y - - smtpd\n  -o syslog_name = bad\n")
    before = view.read("/etc/dovecot/conf.d/10-ssl.conf")
    result = mailhost.certbot(*INSTALL, "--dovecot-postfix-services", "2525", check=False)
    assert result.code == 1
    assert "/etc/postfix/master.cf" in result.stderr
    assert view.read("/etc/dovecot/conf.d/10-ssl.conf") == before


def test_read_only_configuration(mailhost):
    with mailhost.read_only("/etc/dovecot"):
        before = mailhost.snapshot(*CONFIGURATIONS)
        result = mailhost.certbot(*INSTALL, check=False)
        assert result.code == 1
        assert "Read-only file system" in result.stderr
        assert "/etc/dovecot" in result.stderr
        assert mailhost.snapshot(*CONFIGURATIONS) == before
    assert not os.path.exists(STORE)


def test_a_renewal_within_the_year_needs_no_writable_configuration(mailhost):
    mailhost.certbot(*INSTALL)
    with mailhost.read_only("/etc/dovecot"), mailhost.read_only("/etc/postfix"):
        mailhost.certbot("renew", "-q", "--force-renewal")
    assert set(view.leaves(mailhost).values()) == {view.live_leaf(NAME)}


def test_full_disk(mailhost):
    with mailhost.full_disk(STORE.rsplit("/", 1)[0]) as fill:
        mailhost.certbot("certonly", "-a", "standalone", "-d", NAME)
        fill()
        before = mailhost.snapshot(*CONFIGURATIONS)
        result = mailhost.certbot("install", "--cert-name", NAME, "--installer", "dovecot", check=False)
        assert result.code == 1
        assert "No space left on device" in result.stderr
        assert mailhost.snapshot(*CONFIGURATIONS) == before
        assert not os.path.exists(STORE)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"{", "damaged"), (b'{"format": 99}', "format 99"), (b"\x00\xff", "damaged"), (b"[]", "damaged")],
)
def test_a_record_that_is_not_ours_stops_everything(mailhost, content, said):
    mailhost.certbot(*INSTALL)
    served = view.leaves(mailhost)
    with open(f"{STORE}/state.json", "wb") as file:
        file.write(content)
    before = mailhost.snapshot(*CONFIGURATIONS, STORE)
    for command in (("renew", "-q"), ("renew", "-q", "--force-renewal"), (*INSTALL, "--force-renewal")):
        result = mailhost.certbot(*command, check=False)
        assert result.code == 1
        assert said in result.stderr
        assert f"{STORE}/state.json" in result.stderr
        assert "Traceback" not in result.stderr
    assert mailhost.snapshot(*CONFIGURATIONS, STORE) == before
    assert view.leaves(mailhost) == served
    assert "installer = dovecot" in view.read(f"/etc/letsencrypt/renewal/{NAME}.conf").decode()
