"""Every later ``certbot renew`` keeps it so: the same key all year, a new one in the new year, retry, and leaving alone."""

from __future__ import annotations

import os

import pytest

from tests.integration import view
from tests.integration.test_install import INSTALL, NAME, STORE

NEW_YEAR = "2027-01-25 12:00:00"
LIVE = f"/etc/letsencrypt/live/{NAME}"
CONFIGURATIONS = ("/etc/dovecot", "/etc/postfix")


def keys() -> list[str]:
    return sorted(name for name in os.listdir(STORE) if name.endswith(".key"))


def test_a_renewal_keeps_the_key_and_touches_one_file(mailhost):
    mailhost.certbot(*INSTALL)
    old, key = view.live_leaf(NAME), view.spki(f"{STORE}/2026.pem")
    before = mailhost.snapshot(*CONFIGURATIONS, STORE)
    mailhost.certbot("renew", "--force-renewal")
    assert view.live_leaf(NAME) != old
    assert set(view.leaves(mailhost).values()) == {view.live_leaf(NAME)}
    assert view.spki(f"{STORE}/2026.pem") == key
    after = mailhost.snapshot(*CONFIGURATIONS, STORE)
    assert view.changed(before, after) == {f"{STORE}/2026.pem", f"{STORE}/state.json"}
    assert (mailhost.reloads("dovecot"), mailhost.reloads("postfix")) == (2, 2)


def test_nothing_due_does_nothing_and_asks_no_server(mailhost):
    mailhost.certbot(*INSTALL)
    before = mailhost.snapshot(*CONFIGURATIONS, STORE)
    mailhost.stop("postfix")
    mailhost.certbot("renew", "-q")
    assert mailhost.snapshot(*CONFIGURATIONS, STORE) == before
    assert mailhost.reloads("dovecot") == 1


def test_the_new_year_takes_a_new_key_in_files_of_its_own(mailhost):
    mailhost.certbot(*INSTALL)
    old_pair = view.read(f"{STORE}/2026.key"), view.read(f"{STORE}/2026.pem")
    result = mailhost.certbot("renew", "-q", "--force-renewal", at=NEW_YEAR)
    assert keys() == ["2026.key", "2027.key"]
    assert (view.read(f"{STORE}/2026.key"), view.read(f"{STORE}/2026.pem")) == old_pair
    assert view.spki(f"{STORE}/2027.pem") != view.spki(f"{STORE}/2026.pem")
    assert set(view.leaves(mailhost).values()) == {view.live_leaf(NAME)}
    assert f"{STORE}/2027.key" in view.read("/etc/dovecot/conf.d/10-ssl.conf").decode()
    assert f"={STORE}/2027.pem" in view.read("/etc/postfix/master.cf").decode()
    # A quiet timer's mail must tell an admin with DANE.
    assert f"3 1 1 {view.spki(f'{STORE}/2027.pem')}" in result.stderr
    mailhost.certbot("renew", "-q", "--force-renewal", at="2027-02-10 12:00:00")
    assert keys() == ["2026.key", "2027.key"]


def test_rotation_never_keeps_the_key_over_the_new_year(mailhost):
    mailhost.certbot(*INSTALL, "--dovecot-key-rotation", "never")
    mailhost.certbot("renew", "--force-renewal", at=NEW_YEAR)
    assert keys() == ["2026.key"]
    assert set(view.leaves(mailhost).values()) == {view.live_leaf(NAME)}


def test_new_key_within_the_year_gets_a_number(mailhost):
    mailhost.certbot(*INSTALL)
    mailhost.certbot("renew", "--force-renewal", "--new-key")
    assert keys() == ["2026-2.key", "2026.key"]
    assert view.leaf_at(mailhost, 993) == view.leaf_at(mailhost, 465) == view.live_leaf(NAME)


def test_no_reuse_key_wins(mailhost):
    mailhost.certbot(*INSTALL, "--no-reuse-key")
    mailhost.certbot("renew", "--force-renewal")
    assert keys() == ["2026-2.key", "2026.key"]
    mailhost.certbot("renew", "--force-renewal")
    assert keys() == ["2026-2.key", "2026-3.key", "2026.key"]


def test_another_key_type_on_request(mailhost):
    mailhost.certbot(*INSTALL)
    mailhost.certbot(*INSTALL, "--cert-name", NAME, "--key-type", "rsa", "--force-renewal")
    assert view.key_kind(f"{STORE}/2026-2.key") == ("rsa", "2048")
    assert set(view.leaves(mailhost).values()) == {view.live_leaf(NAME)}
    mailhost.certbot(*INSTALL, "--force-renewal")
    assert view.key_kind(f"{STORE}/2026-2.key") == ("rsa", "2048")
    assert keys() == ["2026-2.key", "2026.key"]


def test_curve_and_size_survive_the_new_year(mailhost):
    mailhost.certbot(*INSTALL, "--elliptic-curve", "secp384r1")
    mailhost.certbot(*INSTALL, "--force-renewal", at=NEW_YEAR)
    assert view.key_kind(f"{STORE}/2027.key") == ("ecdsa", "secp384r1")


def test_a_dry_run_touches_nothing(mailhost):
    mailhost.certbot(*INSTALL)
    before = mailhost.snapshot(*CONFIGURATIONS, STORE)
    mailhost.certbot("renew", "--dry-run", "--server", mailhost.acme)
    assert mailhost.snapshot(*CONFIGURATIONS, STORE) == before
    assert mailhost.reloads("dovecot") == 1


def test_certonly_of_an_installed_lineage_is_deployed(mailhost):
    mailhost.certbot(*INSTALL)
    mailhost.certbot("certonly", *INSTALL, "--force-renewal")
    assert set(view.leaves(mailhost).values()) == {view.live_leaf(NAME)}
    assert keys() == ["2026.key"]


def test_certonly_of_another_lineage_touches_nothing(mailhost):
    before = mailhost.snapshot(*CONFIGURATIONS)
    mailhost.certbot("certonly", *INSTALL)
    mailhost.certbot("renew", "--force-renewal")
    assert mailhost.snapshot(*CONFIGURATIONS) == before
    assert not os.path.exists(STORE)
    assert mailhost.reloads("dovecot") == 0


@pytest.mark.parametrize("how", ["install", "run"])
def test_a_lineage_made_without_us_is_kept_true_once_installed(mailhost, how):
    """Rule R11: its renewal conf does not name the installer, and certbot renews without calling us."""
    mailhost.certbot("certonly", "-a", "standalone", "-d", NAME)
    if how == "install":
        shown = mailhost.certbot("install", "--cert-name", NAME, "--installer", "dovecot").stdout
    else:
        shown = mailhost.certbot(*INSTALL, "--keep-until-expiring").stdout
    assert "installer = " not in view.read(f"/etc/letsencrypt/renewal/{NAME}.conf").decode()
    assert "/etc/letsencrypt/renewal-hooks/deploy/certbot-dovecot" in shown
    assert set(view.leaves(mailhost).values()) == {view.live_leaf(NAME)}
    mailhost.certbot("renew", "--force-renewal", "-q")
    assert set(view.leaves(mailhost).values()) == {view.live_leaf(NAME)}
    # certbot alone takes a new key at every renewal; our store keeps both pairs.
    assert view.read(f"{STORE}/2026-2.pem") == view.read(f"{LIVE}/fullchain.pem")


def test_two_lineages_with_the_same_names_keep_their_kinds_of_key(mailhost):
    mailhost.certbot(*INSTALL)
    mailhost.certbot("certonly", *INSTALL, "--cert-name", "rsa", "--key-type", "rsa", "--force-renewal")
    mailhost.certbot("renew", "--force-renewal", at=NEW_YEAR)
    assert keys() == ["2026.key", "2027.key"]
    assert view.key_kind(f"{STORE}/2027.key") == ("ecdsa", "secp256r1")
    archive = sorted(os.listdir("/etc/letsencrypt/archive/rsa"))
    assert "privkey2.pem" in archive
    assert view.spki("/etc/letsencrypt/archive/rsa/cert1.pem") != view.spki("/etc/letsencrypt/archive/rsa/cert2.pem")


def test_two_that_cannot_be_told_apart_keep_their_keys(mailhost):
    mailhost.certbot(*INSTALL)
    mailhost.certbot("certonly", *INSTALL, "--cert-name", "twin", "--force-renewal")
    mailhost.certbot("renew", "--force-renewal", at=NEW_YEAR)
    assert keys() == ["2026.key"]


def test_rollback_gives_the_original_bytes_back_and_the_servers_serve_them(mailhost):
    before, served = mailhost.snapshot(*CONFIGURATIONS), view.leaves(mailhost)
    mailhost.certbot(*INSTALL)
    mailhost.certbot("rollback", "--installer", "dovecot")
    assert mailhost.snapshot(*CONFIGURATIONS) == before
    assert view.leaves(mailhost) == served
    first = mailhost.certbot("renew", "-q")
    assert "left alone" in first.stderr
    second = mailhost.certbot("renew", "--force-renewal", "-q")
    assert "left alone" not in second.stderr
    assert mailhost.snapshot(*CONFIGURATIONS) == before
    assert view.leaves(mailhost) == served


def test_what_the_admin_points_elsewhere_stays_there(mailhost):
    mailhost.certbot(*INSTALL)
    path = "/etc/dovecot/conf.d/10-ssl.conf"
    text = view.read(path).decode().replace(f"{STORE}/2026.pem", "/etc/dovecot/private/dovecot.pem")
    mailhost.write(path, text.replace(f"{STORE}/2026.key", "/etc/dovecot/private/dovecot.key"))
    mailhost.restart("dovecot")
    mailhost.certbot("renew", "--force-renewal")
    assert view.leaf_at(mailhost, 993) == view.leaf_in("/etc/dovecot/private/dovecot.pem")
    assert view.leaf_at(mailhost, 465) == view.live_leaf(NAME)


def test_a_deleted_lineage_goes_on_being_served(mailhost):
    mailhost.certbot(*INSTALL)
    leaf = view.live_leaf(NAME)
    mailhost.certbot("delete", "--cert-name", NAME)
    mailhost.restart("dovecot")
    assert view.leaf_at(mailhost, 993) == leaf


def test_the_deploy_hook_sees_the_new_key_as_next(mailhost):
    """A deploy hook runs before the installer: what is served then is the old key (DESIGN, one lock)."""
    mailhost.certbot(*INSTALL)
    out = "/etc/letsencrypt/hook.out"
    mailhost.certbot("renew", "--force-renewal", "--deploy-hook", f"certbot-dovecot tlsa > {out}", at=NEW_YEAR)
    old, new = view.spki(f"{STORE}/2026.pem"), view.spki(f"{STORE}/2027.pem")
    lines = [line for line in view.read(out).decode().splitlines() if line.startswith("_993.")]
    assert lines == [
        f"_993._tcp.{NAME}. 3600 IN TLSA 3 1 1 {old}",
        f"_993._tcp.{NAME}. 3600 IN TLSA 3 1 1 {new}  ; next key, not served yet",
    ]
    assert old not in view.read(f"{STORE}/tlsa.zone").decode()


def test_tlsa_of_a_lineage_that_was_installed_by_hand(mailhost):
    mailhost.certbot("certonly", "-a", "standalone", "-d", NAME)
    assert "TLSA 3 1 1" not in mailhost.run("certbot-dovecot", "tlsa", NAME).stdout
    path = "/etc/dovecot/conf.d/10-ssl.conf"
    text = view.read(path).decode().replace("/etc/dovecot/private/dovecot.pem", f"{LIVE}/fullchain.pem")
    mailhost.write(path, text.replace("/etc/dovecot/private/dovecot.key", f"{LIVE}/privkey.pem"))
    mailhost.restart("dovecot")
    lines = mailhost.run("certbot-dovecot", "tlsa", NAME).stdout.splitlines()
    spki = view.spki(f"{LIVE}/cert.pem")
    assert [line for line in lines if not line.startswith(";")] == [
        f"_{port}._tcp.{NAME}. 3600 IN TLSA 3 1 1 {spki}" for port in view.tls_ports() if port not in (465, 587)
    ]


def test_reconfigure_stores_the_installer(mailhost):
    mailhost.certbot("certonly", "-a", "standalone", "-d", NAME)
    mailhost.certbot("install", "--cert-name", NAME, "--installer", "dovecot")
    if mailhost.certbot_version < (2, 3):
        pytest.skip("certbot before 2.3 has no reconfigure")
    before = mailhost.snapshot(*CONFIGURATIONS)
    mailhost.certbot("reconfigure", "--cert-name", NAME, "--installer", "dovecot", "--server", mailhost.acme)
    assert "installer = dovecot" in view.read(f"/etc/letsencrypt/renewal/{NAME}.conf").decode()
    assert mailhost.snapshot(*CONFIGURATIONS) == before
    mailhost.certbot("renew", "--force-renewal")
    assert set(view.leaves(mailhost).values()) == {view.live_leaf(NAME)}


def test_the_hook_leaves_the_new_key_to_the_installer_which_is_heard(mailhost):
    """``certbot -q`` hides what a hook says, and not what the installer says, which comes right after it (rule R6)."""
    mailhost.certbot("certonly", "-a", "standalone", "-d", NAME)
    mailhost.certbot("install", "--cert-name", NAME, "--installer", "dovecot")
    assert os.path.exists("/etc/letsencrypt/renewal-hooks/deploy/certbot-dovecot")
    conf = f"/etc/letsencrypt/renewal/{NAME}.conf"
    if mailhost.certbot_version < (2, 3):
        mailhost.write(conf, f"{view.read(conf).decode()}installer = dovecot\n")
    else:
        mailhost.certbot("reconfigure", "--cert-name", NAME, "--installer", "dovecot", "--server", mailhost.acme)
    assert "installer = dovecot" in view.read(conf).decode()
    # Without a new year the key stays from now on, and there is nothing to say.
    assert "TLSA" not in mailhost.certbot("renew", "-q", "--force-renewal").stderr
    result = mailhost.certbot("renew", "-q", "--force-renewal", at=NEW_YEAR)
    assert set(view.leaves(mailhost).values()) == {view.live_leaf(NAME)}
    assert keys() == ["2026.key", "2027.key"]
    record = f"_993._tcp.{NAME}. 3600 IN TLSA 3 1 1 {view.spki(f'{STORE}/2027.pem')}"
    assert result.stderr.count(record) == 1, result.stderr
