"""Every spelling of master.cf that the daemons accept, and everything of main.cf that would win, on a running Postfix."""

from __future__ import annotations

import pytest

from certbot_dovecot.servers import probe
from certbot_dovecot.servers.contract import Endpoint
from tests.integration import view
from tests.integration.test_install import INSTALL, NAME

MASTER = "/etc/postfix/master.cf"
PEM, KEY = f"/etc/letsencrypt/dovecot/{NAME}/2026.pem", f"/etc/letsencrypt/dovecot/{NAME}/2026.key"
OLD = """  -o { smtpd_tls_wrappermode = yes }
# of another time
  -o { smtpd_tls_cert_file = /etc/ssl/old.pem }
"""
SERVICES = f"""\
smtps inet n - y - - smtpd
{OLD}465   inet n - y - - smtpd
{OLD}  -o {{
     smtpd_tls_key_file
     = /etc/ssl/old.key }}
  -o smtpd_tls_cert_file=/etc/ssl/older.pem

  -o smtpd_tls_cert_file=/etc/ssl/oldest.pem
submission inet n - y - - smtpd -o smtpd_tls_security_level=encrypt
  -o
     smtpd_tls_key_file=/etc/ssl/old.key -osmtpd_tls_cert_file=$my_cert
127.0.0.1:10465 inet n - y - - smtpd -o smtpd_tls_wrappermode=yes
[::1]:10465 inet n - y - - smtpd
  -o smtpd_tls_wrappermode=yes   -o smtpd_tls_chain_files=$my_chain
"""
#: What wins over certificate and key file, one at a time.
SHADOWS = {
    "chain": "smtpd_tls_chain_files = {pair}\n",
    "eccert": "smtpd_tls_eccert_file = {cert}\nsmtpd_tls_eckey_file = {key}\n",
    "parameter": "my = {cert}\nmy_key = {key}\nsmtpd_tls_eccert_file = $my\nsmtpd_tls_eckey_file = ${{my_key}}\n",
    "names": "tls_server_sni_maps = inline:{{{{" + NAME + " = {pair}}}}}\n",
}


@pytest.fixture
def other(mailhost, ca, tmp_path):
    """A pair of the admin's, and one file with key and certificate."""
    made = ca.leaf([NAME]).write("/etc/dovecot/private", "other")
    mailhost.write("/etc/dovecot/private/both.pem", view.read(made.key).decode() + view.read(made.fullchain).decode())
    return made


def replace_services(mailhost, services):
    """Put other submission services into master.cf."""
    lines = view.read(MASTER).decode().splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if line.startswith("submission"))
    end = next(number for number in range(at, len(lines)) if lines[number].startswith(("pickup", "628", "#628")))
    mailhost.write(MASTER, "".join(lines[:at]) + services + "".join(lines[end:]))
    mailhost.run("postfix", "reload")


def leaf(port, address="127.0.0.1", implicit=True, name=NAME):
    return probe.ask(Endpoint("lab", "submission", address, port, implicit), name, 5, None).digest


def test_every_spelling(mailhost, other):
    mailhost.append("/etc/postfix/main.cf", f"my_cert = {other.fullchain}\nmy_chain = /etc/dovecot/private/both.pem\n")
    replace_services(mailhost, SERVICES)
    assert leaf(10465, "::1") == view.leaf_in(other.cert)
    mailhost.certbot(*INSTALL)
    assert {leaf(465), leaf(587, implicit=False), leaf(10465), leaf(10465, "::1")} == {view.live_leaf(NAME)}
    text = view.read(MASTER).decode()
    assert text.count(PEM) == text.count(KEY) == 5
    # What a later one of the same name hides stays as it was.
    assert text.count("/etc/ssl/older.pem") == 1
    assert "     smtpd_tls_key_file=" + KEY + " -osmtpd_tls_cert_file=" + PEM + "\n" in text
    assert f"  -o {{ smtpd_tls_key_file = {KEY} }}\n" in text
    assert "  -o smtpd_tls_wrappermode=yes   -o smtpd_tls_chain_files=\n" in text


@pytest.mark.parametrize("shadow", SHADOWS)
def test_what_main_cf_sets_does_not_win(mailhost, other, shadow):
    text = SHADOWS[shadow].format(pair="/etc/dovecot/private/both.pem", cert=other.fullchain, key=other.key)
    mailhost.append("/etc/postfix/main.cf", text)
    mailhost.run("postfix", "reload")
    theirs = view.leaf_in(other.cert)
    assert leaf(465) == leaf(587, implicit=False) == theirs
    before = view.read("/etc/postfix/main.cf")
    mailhost.certbot(*INSTALL)
    assert leaf(465) == leaf(587, implicit=False) == view.live_leaf(NAME)
    assert leaf(25, implicit=False) == theirs
    assert view.read("/etc/postfix/main.cf") == before


def test_an_option_that_its_daemon_would_die_of_is_refused(mailhost):
    replace_services(mailhost, "submission inet n - y - - smtpd\n  -o smtpd_tls_security_level = encrypt\n")
    before = mailhost.snapshot("/etc/dovecot", "/etc/postfix")
    result = mailhost.certbot(*INSTALL, check=False)
    assert result.code == 1
    line = view.read(MASTER).decode().split("\nsubmission inet")[0].count("\n") + 2
    assert f"{MASTER}:{line}: -o smtpd_tls_security_level is not of the form name=value" in result.stderr
    assert mailhost.snapshot("/etc/dovecot", "/etc/postfix") == before
