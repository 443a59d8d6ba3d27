"""Nobody's certificate is taken away: services and blocks with an explicit certificate for other names, on both servers."""

from __future__ import annotations

import json

import pytest

from tests.integration import view
from tests.integration.test_install import INSTALL, NAME, STORE
from tests.integration.test_names import OTHER, SNI_MAP, install
from tests.integration.test_postfix_forms import MASTER, leaf, replace_services
from tests.integration.test_renew import NEW_YEAR
from tests.integration.test_undo import configuration, undo

THEIRS = "mail.example.net"
ADDRESSES = ("192.0.2.10", "192.0.2.11")
#: A service for ours; three ways to name a certificate of others'; and one that says what main.cf says.
SERVICES = """\
192.0.2.10:587 inet n - y - - smtpd
192.0.2.11:587 inet n - y - - smtpd
  -o smtpd_tls_cert_file=$their_cert
  -o smtpd_tls_key_file={key}
192.0.2.11:465 inet n - y - - smtpd
  -o smtpd_tls_wrappermode=yes
  -o smtpd_tls_chain_files={both}
192.0.2.11:10465 inet n - y - - smtpd
  -o smtpd_tls_wrappermode=yes
  -o smtpd_tls_eccert_file={cert}
  -o smtpd_tls_eckey_file={key}
192.0.2.10:465 inet n - y - - smtpd
  -o smtpd_tls_wrappermode=yes
  -o smtpd_tls_cert_file={main_cert}
  -o smtpd_tls_key_file={main_key}
"""
OURS = {(587, "192.0.2.10"), (465, "192.0.2.10"), (993, "192.0.2.10")}
THEIR_ENDPOINTS = {(587, "192.0.2.11"), (465, "192.0.2.11"), (10465, "192.0.2.11"), (993, "192.0.2.11")}


@pytest.fixture
def two(mailhost, ca):
    """Two addresses; on the second, another owner's certificate."""
    for address in ADDRESSES:
        mailhost.run("ip", "addr", "add", f"{address}/32", "dev", "lo")
    made = ca.leaf([THEIRS, f"imap.{THEIRS}"]).write("/etc/dovecot/private", "theirs")
    both = "/etc/dovecot/private/both.pem"
    mailhost.write(both, view.read(made.key).decode() + view.read(made.fullchain).decode())
    mailhost.append("/etc/postfix/main.cf", f"their_cert = {made.fullchain}\n")
    cert, key = (mailhost.run("postconf", "-h", f"smtpd_tls_{one}_file").stdout.strip() for one in ("cert", "key"))
    replace_services(
        mailhost, SERVICES.format(cert=made.fullchain, key=made.key, both=both, main_cert=cert, main_key=key)
    )
    block = f"local 192.0.2.11 {{\n{view.tls(made.fullchain, made.key, '  ')}}}\n"
    mailhost.write("/etc/dovecot/local.conf", f"listen = 127.0.0.1, {', '.join(ADDRESSES)}\n{block}")
    mailhost.restart("dovecot")
    yield view.leaf_in(made.cert)
    for address in ADDRESSES:
        mailhost.run("ip", "addr", "del", f"{address}/32", "dev", "lo")


def served(mailhost, name=NAME):
    found = {(993, address): mailhost.served(993, address, sni=name).digest for address in ADDRESSES}
    for port, address in {*OURS, *THEIR_ENDPOINTS} - set(found):
        found[(port, address)] = leaf(port, address, port != 587, name)
    return found


def expected(theirs, ours):
    return {**dict.fromkeys(THEIR_ENDPOINTS, theirs), **dict.fromkeys(OURS, ours)}


def test_a_certificate_of_others_stays_where_it_is(mailhost, two):
    before, was = configuration(mailhost), served(mailhost)
    assert {was[one] for one in THEIR_ENDPOINTS} == {two}
    mailhost.certbot("certonly", "-a", "standalone", "-d", NAME)
    planned = mailhost.run("certbot-dovecot", "plan", "--lineage", NAME, check=False).stdout
    shown = mailhost.certbot(*INSTALL, "--force-renewal").stdout
    for said in (planned, shown):
        for port in (587, 465, 10465):
            assert f"Postfix: 192.0.2.11:{port} (inet) at {MASTER}:" in said
        keeps = f"keeps its certificate, which is for other names (imap.{THEIRS}, {THEIRS})."
        assert said.count(f"{keeps} To replace it, list the service in --dovecot-postfix-services.") == 3
        assert f"Dovecot: /etc/dovecot/local.conf:3 {keeps}" in said
    assert "192.0.2.11" not in "".join(line for line in planned.splitlines() if line.startswith("Would ask:"))
    assert served(mailhost) == served(mailhost, THEIRS) == expected(two, view.live_leaf(NAME))
    endpoints = json.loads(mailhost.run("certbot-dovecot", "status", "--json", check=False).stdout)["endpoints"]
    whose = {(one["port"], one["address"]): one["lineage"] for one in endpoints}
    assert {whose[one] for one in OURS} == {NAME}
    assert NAME not in {whose[one] for one in THEIR_ENDPOINTS}
    # Neither a renewal nor a further lineage takes it.
    mailhost.certbot("renew", "--force-renewal", at=NEW_YEAR)
    assert served(mailhost) == expected(two, view.leaf_in(f"{STORE}/2027.pem"))
    assert undo(mailhost, NAME).code == 0
    assert configuration(mailhost) == before
    assert served(mailhost) == was


def test_a_service_that_the_admin_lists_gets_ours(mailhost, two):
    before = configuration(mailhost)
    mailhost.certbot(*INSTALL, "--dovecot-postfix-services", "192.0.2.10:587,192.0.2.11:587")
    found = served(mailhost)
    assert found[(587, "192.0.2.10")] == found[(587, "192.0.2.11")] == view.live_leaf(NAME)
    assert found[(465, "192.0.2.11")] == two
    assert undo(mailhost, NAME).code == 0
    assert configuration(mailhost) == before


def test_with_nothing_but_services_of_others_postfix_is_left_alone_and_that_is_said(mailhost, two):
    text = view.read(MASTER).decode()
    alone = text.replace("192.0.2.10:587 inet n - y - - smtpd\n", "")
    head, tail = alone.index("192.0.2.11:465"), alone.index("pickup")
    mailhost.write(MASTER, alone[:head] + alone[tail:])
    mailhost.run("postfix", "reload")
    before = mailhost.snapshot("/etc/postfix")
    shown = mailhost.certbot(*INSTALL).stdout
    assert "Postfix: 192.0.2.11:587 (inet) at" in shown
    assert mailhost.snapshot("/etc/postfix") == before
    assert mailhost.certbot("renew", "--force-renewal").code == 0
    assert leaf(587, "192.0.2.11", False) == two


def test_a_table_of_the_admins_goes_on_to_count(mailhost, ca):
    """In main.cf, in a form with blanks: its names stay theirs, and ours are ours."""
    theirs = ca.leaf([THEIRS, NAME]).write("/etc/dovecot/private", "theirs")
    both = "/etc/dovecot/private/both.pem"
    mailhost.write(both, view.read(theirs.key).decode() + view.read(theirs.fullchain).decode())
    mailhost.append("/etc/postfix/main.cf", f"tls_server_sni_maps = inline:{{ {{{THEIRS} = {both}}}, {{{NAME} = {both}}} }}\n")
    mailhost.run("postfix", "reload")
    before = configuration(mailhost)
    mailhost.certbot(*INSTALL)
    assert view.read(MASTER).decode().count(f"-o {{ tls_server_sni_maps = regexp:{SNI_MAP},inline:{{ {{{THEIRS} = ") == 2
    for port in (465, 587):
        assert mailhost.served(port).digest == mailhost.served(port, sni=None).digest == view.live_leaf(NAME)
        assert mailhost.served(port, sni=THEIRS).digest == view.leaf_in(theirs.cert)
    install(mailhost, OTHER)
    mailhost.certbot("renew", "--force-renewal", at=NEW_YEAR)
    assert mailhost.served(465).digest == view.live_leaf(NAME)
    assert mailhost.served(465, sni=OTHER).digest == view.live_leaf(OTHER)
    assert mailhost.served(465, sni=THEIRS).digest == view.leaf_in(theirs.cert)
    for name in (OTHER, NAME):
        assert undo(mailhost, name).code == 0
    assert configuration(mailhost) == before
