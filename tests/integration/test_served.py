"""``status`` judges what endpoints serve, whosever it is, and says so for as long as it is so (rules R13 and R17)."""

from __future__ import annotations

import json
import os

import pytest

from tests.integration import view
from tests.integration.sound import LOCAL, findings
from tests.integration.test_install import INSTALL, NAME, STORE
from tests.integration.test_names import OTHER, install
from tests.integration.test_status import status
from tests.lab.ca import DAY

SSL = "/etc/dovecot/conf.d/10-ssl.conf"
SECOND = "second.example.test"


def found(mailhost, *args):
    """What status finds."""
    return json.loads(status(mailhost, "--json", *args).stdout)["findings"]


def names_pair(mailhost, path, cert, key):
    """Have Dovecot's default certificate be another one."""
    text = view.read(SSL).decode().replace(f"{STORE}/2026.pem", cert).replace(f"{STORE}/2026.key", key)
    mailhost.write(SSL, text)
    mailhost.restart("dovecot")


def doctors(mailhost, *names):
    """What doctor finds, of these checks."""
    return [one for one in findings(mailhost) if one["check"] in names]


def test_a_deleted_lineage_is_told_as_long_as_it_is_served(mailhost):
    mailhost.certbot(*INSTALL)
    install(mailhost, OTHER)
    mailhost.certbot("delete", "--cert-name", NAME)
    assert len(mailhost.certbot("renew", "-q").stderr.splitlines()) == 2
    assert mailhost.certbot("renew", "-q").stderr == ""
    for _ in range(2):
        result = status(mailhost)
        assert result.code == 4
        assert f"WARNING {NAME}: certbot does not know it any more, and nobody renews what the servers serve." in result.stdout
        assert f"certbot --installer dovecot --cert-name {NAME} -d {NAME}" in result.stdout
        line = status(mailhost, "--nagios")
        assert (line.code, line.stdout.split(" - ")[0]) == (1, "CERTBOT-DOVECOT WARNING")
        mailhost.certbot("renew", "-q")
    [one] = [one for one in json.loads(status(mailhost, "--json").stdout)["lineages"] if one["name"] == NAME]
    assert (one["grade"], one["servers"]) == ("warning", ["Dovecot", "Postfix"])
    assert {each["where"] for each in doctors(mailhost, "nobody-renews")} == {f"{STORE}/2026.pem"}
    # Expired, and still served.
    late = mailhost.run("certbot-dovecot", "status", "--nagios", at="2035-01-01 12:00:00", check=False)
    assert late.code == 2
    assert "expired on 20" in late.stdout
    status(mailhost, "--prometheus", "/run/certbot-dovecot.prom")
    metrics = view.read("/run/certbot-dovecot.prom").decode()
    assert f'certbot_dovecot_lineage_grade{{lineage="{NAME}"}} 1\n' in metrics
    mailhost.run("certbot-dovecot", "undo", NAME)
    mailhost.certbot("install", "--installer", "dovecot", "--cert-name", OTHER)
    assert status(mailhost).code == 0, status(mailhost)


def test_a_server_that_went_back_to_a_self_signed_certificate(mailhost):
    mailhost.certbot(*INSTALL)
    mailhost.certbot("rollback", "--installer", "dovecot")
    assert [one["lineage"] for one in found(mailhost) if "left alone" in one["what"]] == [NAME]
    mailhost.certbot("renew", "-q")
    mailhost.certbot("renew", "-q")
    for _ in range(2):
        several = [one for one in found(mailhost) if "self-signed" in one["what"]]
        assert [(one["grade"], one["lineage"]) for one in several] == [("warning", NAME)] * len(several)
        told = " ".join(one["what"] for one in several)
        assert "Dovecot imap 127.0.0.1:143 (STARTTLS)" in told
        assert f"and {2 * len(view.tls_ports()) - 4} more serves a self-signed certificate" in told
        assert "on a server that is to serve mail.example.test" in told
        assert f"certbot install --installer dovecot --cert-name {NAME}" in several[0]["todo"]
        # A user who may not read certbot's own files is told the same.
        nobody = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
        assert "self-signed" in status(mailhost, under=nobody).stdout
        mailhost.certbot("renew", "-q", "--force-renewal")
    assert {one["check"] for one in doctors(mailhost, "nobody-renews")} == {"nobody-renews"}
    # The admin's word: it is meant.
    mailhost.run("certbot-dovecot", "undo", NAME)
    assert [one["grade"] for one in found(mailhost)] == ["unknown"]
    assert doctors(mailhost, "nobody-renews") == []


def test_an_own_certificate_is_no_finding_until_it_ends(mailhost, ca):
    mailhost.certbot(*INSTALL)
    own = ca.leaf([SECOND]).write("/etc/dovecot/private", "own")
    names_pair(mailhost, SSL, own.fullchain, own.key)
    mailhost.certbot("renew", "-q")
    assert status(mailhost).code == 0, status(mailhost)
    assert "second.example.test, until" in status(mailhost).stdout
    assert doctors(mailhost, "nobody-renews", "sni-names") == []
    for left, grade in ((20, "warning"), (3, "critical"), (-1, "critical")):
        ca.leaf([SECOND], begin=-80 * DAY, end=left * DAY).write("/etc/dovecot/private", "own")
        mailhost.restart("dovecot")
        [one] = found(mailhost)
        assert (one["grade"], one["lineage"]) == (grade, NAME)
        assert ("expired on" if left < 0 else "that expires on") in one["what"]
        assert "Dovecot imap 127.0.0.1:143 (STARTTLS)" in one["what"]
        [where] = [each["where"] for each in doctors(mailhost, "nobody-renews")]
        assert where.startswith(f"{SSL}:")


def test_a_certificate_of_certbots_that_a_server_names_by_hand(mailhost):
    """As of a web server's lineage: certbot renews it, and nobody reloads the server."""
    mailhost.certbot(*INSTALL)
    mailhost.certbot("certonly", "-a", "standalone", "-d", SECOND)
    live = f"/etc/letsencrypt/live/{SECOND}"
    names_pair(mailhost, SSL, f"{live}/fullchain.pem", f"{live}/privkey.pem")
    mailhost.certbot("renew", "-q")
    assert found(mailhost) == []
    strange = [one for one in json.loads(status(mailhost, "--json").stdout)["endpoints"] if not one["lineage"]]
    assert {one["renewed_by"]["name"] for one in strange} == {SECOND}
    # A renewal, and no reload: the old one is served until its end.
    mailhost.certbot("renew", "-q", "--force-renewal", "--cert-name", SECOND)
    todo = "certbot has a newer one, and doveadm reload has it read again"
    assert todo in [one["todo"] for one in found(mailhost, "--warning", "1000")]


def test_a_name_that_gets_a_certificate_of_other_names(mailhost, ca):
    mailhost.certbot(*INSTALL, "-d", SECOND)
    pair = ca.leaf(["third.example.test"]).write("/etc/dovecot/private", "third")
    mailhost.write(LOCAL, f"# mine\nlocal_name {SECOND} {{\n{view.tls(pair.fullchain, pair.key, '  ')}}}\n")
    mailhost.restart("dovecot")
    [one] = found(mailhost)
    assert (one["grade"], one["lineage"]) == ("warning", NAME)
    assert f"asked for {SECOND}, serves a certificate of third.example.test until" in one["what"]
    assert "which is not for that name" in one["what"]
    assert one["todo"] == f"certbot install --installer dovecot --cert-name {NAME} puts the right one there"
    table = status(mailhost)
    assert table.code == 4
    mailhost.certbot("install", "--installer", "dovecot", "--cert-name", NAME)
    assert found(mailhost) == []


def test_what_was_not_asked_is_said(mailhost):
    names = [f"n{number}.example.org" for number in range(12)]
    mailhost.certbot("--installer", "dovecot", "-a", "standalone", *(part for name in names for part in ("-d", name)))
    result = status(mailhost)
    assert result.code == 0
    assert "combinations of name and endpoint were asked. To ask all: --all, or name a lineage." in result.stdout
    assert "Not looked at: " in result.stdout.splitlines()[-1]
    assert " combinations of name and endpoint (--all asks them); the DNS (--dns asks it).\n" in result.stdout
    assert "; not looked at: " in status(mailhost, "--nagios").stdout
    assert status(mailhost, "--all").stdout.endswith("Not looked at: the DNS (--dns asks it).\n")
    # An endpoint is asked without a name all the same.
    asked = json.loads(status(mailhost, "--json").stdout)["endpoints"]
    assert {one["port"] for one in asked if one["sni"] is None} == set(view.tls_ports())
    assert {one["sni"] for one in asked} == {None, *names}


def table(mailhost, kind, text):
    """A table of the admin's for Postfix, in main.cf."""
    mailhost.write("/etc/postfix/sni", text)
    if kind in ("hash", "lmdb"):
        # It holds the key then.
        os.chmod("/etc/postfix/sni", 0o600)
        mailhost.run("postmap", "-F", f"{kind}:/etc/postfix/sni")
    mailhost.run("postconf", "-e", f"tls_server_sni_maps = {kind}:/etc/postfix/sni")
    # After a reload, a process of before may still answer for a moment.
    mailhost.restart("postfix")


@pytest.mark.parametrize("kind", ["texthash", "regexp", "indexed"])
def test_a_table_of_the_admins_that_is_asked_first(mailhost, ca, kind):
    """Its certificate is for the name, so that it is no finding; it is said, and no renewal fails of it."""
    mailhost.certbot(*INSTALL)
    own = ca.leaf([NAME]).write("/etc/dovecot/private", "own")
    if kind == "indexed":
        kind = mailhost.run("postconf", "-h", "default_database_type").stdout.strip()
    pattern = f"/^{NAME}$/" if kind == "regexp" else NAME
    table(mailhost, kind, f"{pattern} {own.key} {own.fullchain}\n")
    assert mailhost.served(465, sni=NAME).digest == view.leaf_in(own.cert)
    assert mailhost.served(465, sni=None).digest == view.live_leaf(NAME)
    result = status(mailhost)
    assert result.code == 0, result.stdout
    assert "deploy" not in result.stdout
    assert f"asked for {NAME}: {kind}:/etc/postfix/sni has one for it, and is asked before the certificate" in result.stdout
    assert "(/etc/postfix/main.cf:" in result.stdout
    assert f"certbot install --installer dovecot --cert-name {NAME}" in result.stdout
    nobody = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    unread = "could not be judged: " in status(mailhost, under=nobody).stdout
    assert unread == (kind not in ("texthash", "regexp"))
    assert [one["where"].split(":")[0] for one in doctors(mailhost, "shadow")] == ["/etc/postfix/main.cf"] * 2
    assert "renewals leave that as it is" in doctors(mailhost, "shadow")[0]["what"]
    renewed = mailhost.certbot("renew", "--force-renewal", check=False)
    assert renewed.code == 0, renewed.stderr
    assert mailhost.served(465, sni=NAME).digest == view.leaf_in(own.cert)
    assert mailhost.served(465, sni=None).digest == view.live_leaf(NAME)
    # It comes to its end.
    own = ca.leaf([NAME], begin=-80 * DAY, end=3 * DAY).write("/etc/dovecot/private", "own")
    table(mailhost, kind, f"{pattern} {own.key} {own.fullchain}\n")
    [one] = found(mailhost)
    assert (one["grade"], "Postfix" in one["what"], "Dovecot" in one["what"]) == ("critical", True, False)
    assert one["todo"] == f"certbot install --installer dovecot --cert-name {NAME} puts its certificate there"
    mailhost.certbot("install", "--installer", "dovecot", "--cert-name", NAME)
    assert mailhost.served(465, sni=NAME).digest == view.live_leaf(NAME)
    assert status(mailhost).code == 0
    assert doctors(mailhost, "shadow") == []


def test_a_table_before_ours_has_a_name_of_a_further_lineage(mailhost, ca):
    """Postfix serves it to nobody then, and is asked all the same."""
    mailhost.certbot(*INSTALL)
    mailhost.certbot("--installer", "dovecot", "-a", "standalone", "-d", SECOND)
    own = ca.leaf(["strange.example.test"]).write("/etc/dovecot/private", "own")
    mailhost.write("/etc/postfix/sni", f"{SECOND} {own.key} {own.fullchain}\n")
    text = view.read("/etc/postfix/master.cf").decode()
    ours = "-o tls_server_sni_maps=regexp:/etc/postfix/certbot-dovecot-sni"
    assert text.count(ours) == 2
    first = "-o tls_server_sni_maps=texthash:/etc/postfix/sni,regexp:/etc/postfix/certbot-dovecot-sni"
    mailhost.write("/etc/postfix/master.cf", text.replace(ours, first))
    mailhost.run("postfix", "reload")
    one, other = found(mailhost)
    assert (one["grade"], one["lineage"], other["todo"]) == ("warning", SECOND, one["todo"])
    assert f"asked for {SECOND}, serves a certificate of strange.example.test" in one["what"]
    assert "texthash:/etc/postfix/sni has one for it" in one["what"]
    assert "(/etc/postfix/master.cf:" in one["what"]
    assert one["todo"].startswith(f"certbot install --installer dovecot --cert-name {SECOND}, which puts a table with it")
    mailhost.certbot("install", "--installer", "dovecot", "--cert-name", SECOND)
    assert status(mailhost).code == 0
    # Behind ours, it has a name that ours has not.
    mailhost.write("/etc/postfix/sni", f".example.test {own.key} {own.fullchain}\n")
    mailhost.run("postfix", "reload")
    assert mailhost.served(465, sni=SECOND).digest == view.live_leaf(SECOND)
    one, other = found(mailhost)
    assert f"asked for {NAME}, serves a certificate of strange.example.test" in one["what"]
    mailhost.certbot("install", "--installer", "dovecot", "--cert-name", NAME)
    assert status(mailhost).code == 0, status(mailhost).stdout


def test_a_certificate_in_a_chain_file_is_judged(mailhost, ca):
    mailhost.certbot(*INSTALL)
    own, other = ca.leaf([SECOND]), ca.leaf([SECOND], begin=-80 * DAY, end=3 * DAY, kind="rsa")
    both = "/etc/dovecot/private/both.pem"
    pairs = [(one.key_pem() + one.fullchain_pem).decode() for one in (own, other)]
    mailhost.write(both, "".join(pairs))
    mailhost.append("/etc/postfix/main.cf", f"smtpd_tls_chain_files = {both}\n")
    mailhost.run("postfix", "reload")
    mailhost.certbot("renew", "-q")
    # The second one is for old clients.
    [one] = doctors(mailhost, "nobody-renews")
    assert one["what"].startswith("Postfix names this certificate, which ends on ")
    assert one["where"].startswith("/etc/postfix/main.cf:")
    assert one["todo"].startswith(f"certbot install --installer dovecot --cert-name {NAME} puts its certificate there")
    mailhost.write(both, pairs[1])
    mailhost.run("postfix", "reload")
    [one] = found(mailhost)
    assert (one["grade"], "expires on" in one["what"]) == ("critical", True)
    assert one["todo"].startswith(f"certbot install --installer dovecot --cert-name {NAME} puts its certificate there")
    mailhost.certbot("install", "--installer", "dovecot", "--cert-name", NAME)
    assert status(mailhost).code == 0
    assert doctors(mailhost, "nobody-renews") == []
