"""The first install, as a user types it, on a real mail host with default paths."""

from __future__ import annotations

import json
import os
import stat

import pytest

from tests.integration import view

NAME = "mail.example.test"
STORE = f"/etc/letsencrypt/dovecot/{NAME}"
INSTALL = ("--installer", "dovecot", "-a", "standalone", "-d", NAME)


def test_one_command_and_every_port_serves_the_new_certificate(mailhost):
    before = view.leaves(mailhost)
    assert set(before) == {110, 143, 465, 587, 993, 995, 4190}
    result = mailhost.certbot(*INSTALL)
    leaf = view.live_leaf(NAME)
    assert leaf not in before.values()
    assert view.leaves(mailhost) == dict.fromkeys(before, leaf)
    assert view.leaves(mailhost, address="::1") == dict.fromkeys(before, leaf)
    assert view.key_kind(f"{STORE}/2026.key") == ("ecdsa", "secp256r1")
    assert result.code == 0


def test_the_store_is_private_where_it_must_be(mailhost):
    mailhost.certbot(*INSTALL)
    assert sorted(os.listdir(STORE)) == ["2026.key", "2026.pem", "former.json", "state.json", "tlsa.json", "tlsa.zone"]
    # A configuration may have passwords.
    for secret in ("2026.key", "former.json"):
        assert stat.S_IMODE(os.stat(f"{STORE}/{secret}").st_mode) == 0o600
    assert view.read(f"{STORE}/2026.pem") == view.read(f"/etc/letsencrypt/live/{NAME}/fullchain.pem")
    assert view.read(f"{STORE}/2026.key") == view.read(f"/etc/letsencrypt/live/{NAME}/privkey.pem")


def test_only_the_settings_change(mailhost):
    before = mailhost.snapshot("/etc/dovecot", "/etc/postfix")
    mailhost.certbot(*INSTALL)
    after = mailhost.snapshot("/etc/dovecot", "/etc/postfix")
    assert view.changed(before, after) == {"/etc/dovecot/conf.d/10-ssl.conf", "/etc/postfix/master.cf"}
    assert set(view.diff(before, after, "/etc/dovecot/conf.d/10-ssl.conf")) == {
        f"-{view.setting('cert')}/etc/dovecot/private/dovecot.pem",
        f"-{view.setting('key')}/etc/dovecot/private/dovecot.key",
        f"+{view.setting('cert')}{STORE}/2026.pem",
        f"+{view.setting('key')}{STORE}/2026.key",
    }
    added = view.diff(before, after, "/etc/postfix/master.cf")
    assert added == [
        f"+  -o smtpd_tls_cert_file={STORE}/2026.pem",
        f"+  -o smtpd_tls_key_file={STORE}/2026.key",
    ] * 2


def test_port_25_keeps_its_certificate(mailhost):
    before = view.leaf_at(mailhost, 25)
    mailhost.certbot(*INSTALL)
    assert view.leaf_at(mailhost, 25) == before != view.live_leaf(NAME)


def test_several_names_are_written_once_and_reloaded_once(mailhost):
    more = ("-d", "imap.example.test", "-d", "smtp.example.test")
    mailhost.certbot(*INSTALL, *more)
    assert mailhost.reloads("dovecot") == 1
    assert mailhost.reloads("postfix") == 1
    assert set(view.leaves(mailhost).values()) == {view.live_leaf(NAME)}
    zone = view.read(f"{STORE}/tlsa.zone").decode()
    assert "_993._tcp.imap.example.test. 3600 IN TLSA 3 1 1 " in zone
    assert "_465._tcp.smtp.example.test. 3600 IN TLSA 3 1 1 " in zone


def test_tlsa_data_of_what_is_served_and_never_of_port_25(mailhost):
    mailhost.certbot(*INSTALL)
    spki = view.spki(f"{STORE}/2026.pem")
    lines = [line for line in view.read(f"{STORE}/tlsa.zone").decode().splitlines() if not line.startswith(";")]
    ports = view.tls_ports()
    assert lines == [f"_{port}._tcp.{NAME}. 3600 IN TLSA 3 1 1 {spki}" for port in ports]
    records = json.loads(view.read(f"{STORE}/tlsa.json"))["records"]
    assert [(entry["owner"], entry["data"]) for entry in records] == [(line.split()[0], spki) for line in lines]


def test_the_summary_is_in_the_order_an_admin_reads(mailhost):
    out = mailhost.certbot(*INSTALL).stdout
    wanted = [
        f"3 1 1 {view.spki(f'{STORE}/2026.pem')}",
        f"{STORE}/2026.key",
        f"/etc/letsencrypt/live/{NAME}/cert.pem",
        f"/etc/letsencrypt/live/{NAME}/chain.pem",
        f"{STORE}/2026.pem",
        f"{STORE}/tlsa.zone",
        "update the DNS",
    ]
    places = [out.index(text) for text in wanted]
    assert places == sorted(places)


def test_of_many_records_the_screen_shows_the_first_and_names_the_file(mailhost):
    more = [part for number in range(5) for part in ("-d", f"n{number}.example.test")]
    out = mailhost.certbot(*INSTALL, *more).stdout
    count = 6 * len(view.tls_ports())
    assert out.count(" IN TLSA 3 1 1 ") == 20
    assert f"and {count - 20} more, in {STORE}/tlsa.zone" in out
    assert view.read(f"{STORE}/tlsa.zone").decode().count(" IN TLSA 3 1 1 ") == count


def test_running_it_again_changes_and_reloads_nothing(mailhost):
    mailhost.certbot(*INSTALL)
    before = mailhost.snapshot("/etc/dovecot", "/etc/postfix", STORE)
    reloads = mailhost.reloads("dovecot"), mailhost.reloads("postfix")
    mailhost.certbot(*INSTALL, "--keep-until-expiring")
    assert view.changed(before, mailhost.snapshot("/etc/dovecot", "/etc/postfix", STORE)) <= {f"{STORE}/state.json"}
    assert (mailhost.reloads("dovecot"), mailhost.reloads("postfix")) == reloads


def test_commented_out_settings_are_added_where_debian_has_them(mailhost):
    path = "/etc/dovecot/conf.d/10-ssl.conf"
    cert, key = view.setting("cert"), view.setting("key")
    text = view.read(path).decode().replace(f"\n{cert}", f"\n#{cert}").replace(f"\n{key}", f"\n#{key}")
    mailhost.write(path, text)
    mailhost.certbot(*INSTALL)
    now = view.read(path).decode()
    assert f"\n#{cert}/etc/dovecot/private/dovecot.pem\n{cert}{STORE}/2026.pem\n" in now
    assert view.leaf_at(mailhost, 993) == view.live_leaf(NAME)


def test_local_conf_overrides_and_is_edited(mailhost):
    mailhost.write("/etc/dovecot/local.conf", view.tls("/etc/dovecot/private/dovecot.pem", "/etc/dovecot/private/dovecot.key"))
    before = mailhost.snapshot("/etc/dovecot")
    mailhost.certbot(*INSTALL)
    assert view.changed(before, mailhost.snapshot("/etc/dovecot")) == {"/etc/dovecot/local.conf"}
    assert view.leaf_at(mailhost, 993) == view.live_leaf(NAME)


@pytest.mark.parametrize("shadow", ["smtpd_tls_chain_files", "smtpd_tls_eccert_file"])
def test_what_main_cf_sets_is_cleared_for_the_services_and_main_cf_stays(mailhost, shadow):
    key, cert = "/etc/dovecot/private/dovecot.key", "/etc/dovecot/private/dovecot.pem"
    lines = {
        "smtpd_tls_chain_files": f"smtpd_tls_chain_files = {key}, {cert}\n",
        "smtpd_tls_eccert_file": f"smtpd_tls_eccert_file = {cert}\nsmtpd_tls_eckey_file = {key}\n",
    }
    mailhost.append("/etc/postfix/main.cf", lines[shadow])
    mailhost.restart("postfix")
    main_cf = view.read("/etc/postfix/main.cf")
    mailhost.certbot(*INSTALL)
    assert view.leaf_at(mailhost, 465) == view.leaf_at(mailhost, 587) == view.live_leaf(NAME)
    assert view.read("/etc/postfix/main.cf") == main_cf
    master_cf = view.read("/etc/postfix/master.cf").decode()
    assert f"-o {shadow}=\n" in master_cf
    other = next(name for name in lines if name != shadow)
    assert other not in master_cf


def test_postfix_services_none_leaves_postfix_alone(mailhost):
    before = mailhost.snapshot("/etc/postfix")
    mailhost.certbot(*INSTALL, "--dovecot-postfix-services", "none")
    assert mailhost.snapshot("/etc/postfix") == before
    assert mailhost.reloads("postfix") == 0
    assert view.leaf_at(mailhost, 993) == view.live_leaf(NAME) != view.leaf_at(mailhost, 465)


def test_the_options_of_the_first_install_are_remembered(mailhost):
    mailhost.certbot(*INSTALL, "--dovecot-postfix-services", "none")
    before = mailhost.snapshot("/etc/postfix")
    mailhost.certbot(*INSTALL, "--force-renewal")
    assert mailhost.snapshot("/etc/postfix") == before
    assert view.leaf_at(mailhost, 993) == view.live_leaf(NAME)


def test_another_store(mailhost, tmp_path):
    store = tmp_path / "keys"
    mailhost.certbot(*INSTALL, "--dovecot-store", str(store))
    assert sorted(os.listdir(store / NAME)) == ["2026.key", "2026.pem", "tlsa.json", "tlsa.zone"]
    mailhost.certbot(*INSTALL, "--force-renewal")
    assert view.leaf_at(mailhost, 993) == view.live_leaf(NAME)
    assert not os.path.exists(f"{STORE}/2026.pem")


def test_plugins_and_help_say_what_there_is(mailhost):
    shown = mailhost.certbot("plugins", "--prepare").stdout
    assert "dovecot" in shown
    assert "/etc/dovecot" in shown
    assert "/etc/postfix" in shown
    text = mailhost.certbot("--help", "dovecot").stdout
    for option in ("server-root", "postfix-root", "postfix-services", "store", "key-rotation", "probe-timeout"):
        assert f"--dovecot-{option}" in text
    for default in ("/etc/dovecot", "submission", "CONFIG_DIR/dovecot", "annual", "10"):
        assert default in text


def test_must_staple_is_refused_by_certbot_itself(mailhost):
    before = mailhost.snapshot("/etc/dovecot", "/etc/postfix")
    result = mailhost.certbot(*INSTALL, "--must-staple", check=False)
    assert result.code == 1
    assert "stapling is not supported" in result.stderr
    assert mailhost.snapshot("/etc/dovecot", "/etc/postfix") == before


def test_enhance_says_there_is_nothing(mailhost):
    mailhost.certbot(*INSTALL)
    result = mailhost.certbot("enhance", "--installer", "dovecot", "--cert-name", NAME, "--hsts", check=False)
    assert "not supported" in result.stderr + result.stdout


def test_a_certificate_from_elsewhere_has_a_folder_of_its_own(mailhost, ca):
    made = ca.leaf(["mail.other.test"])
    paths = made.write("/etc/dovecot/private")
    mailhost.certbot(
        "install", "--installer", "dovecot", "-d", "mail.other.test",
        "--cert-path", paths.cert, "--key-path", paths.key, "--chain-path", paths.chain,
    )  # fmt: skip
    assert sorted(os.listdir("/etc/letsencrypt/dovecot")) == ["mail.other.test-external"]
    assert view.leaf_at(mailhost, 993) == view.leaf_at(mailhost, 465) == view.leaf_in(paths.cert)
