"""Several lineages on one host: the first is the default certificate, further ones are served by name (SNI)."""

from __future__ import annotations

import os

from tests.integration import view
from tests.integration.test_install import INSTALL, NAME

SNI_MAP = "/etc/postfix/certbot-dovecot-sni"
SNI_FILE = "/etc/dovecot/certbot-dovecot-sni.conf"
OTHER = "imap.example.org"
STORE = "/etc/letsencrypt/dovecot"


def install(mailhost, *names, check=True, services="submission"):
    wanted = [part for name in names for part in ("-d", name)]
    wanted += ["--dovecot-postfix-services", services]
    return mailhost.certbot("--installer", "dovecot", "-a", "standalone", *wanted, check=check)


def served(mailhost, name, port=993):
    return mailhost.served(port, sni=name).digest


def test_a_further_lineage_is_served_by_name_and_the_first_stays(mailhost):
    mailhost.certbot(*INSTALL)
    install(mailhost, OTHER, "pop.example.org")
    for port in (110, 143, 993, 995, 4190):
        assert served(mailhost, NAME, port) == served(mailhost, None, port) == view.live_leaf(NAME)
        assert served(mailhost, OTHER, port) == served(mailhost, "POP.example.org", port) == view.live_leaf(OTHER)


def test_on_postfix_too(mailhost):
    mailhost.certbot(*INSTALL)
    before = mailhost.snapshot("/etc/postfix")
    install(mailhost, OTHER, "pop.example.org")
    for port in (465, 587):
        assert served(mailhost, NAME, port) == served(mailhost, None, port) == view.live_leaf(NAME)
        assert served(mailhost, OTHER, port) == served(mailhost, "POP.example.org", port) == view.live_leaf(OTHER)
    after = mailhost.snapshot("/etc/postfix")
    assert view.changed(before, after) == {"/etc/postfix/master.cf", SNI_MAP}
    option = f"+  -o tls_server_sni_maps=regexp:{SNI_MAP}"
    assert view.diff(before, after, "/etc/postfix/master.cf") == [option] * 2
    assert after[SNI_MAP].mode == 0o644
    assert "PRIVATE" not in after[SNI_MAP].data.decode()
    assert served(mailhost, None, 25) not in (view.live_leaf(NAME), view.live_leaf(OTHER))


def test_a_table_of_the_admins_for_a_postfix_service_goes_on_to_count_after_ours(mailhost, ca):
    mailhost.certbot(*INSTALL)
    theirs = ca.leaf(["shop.example.net", OTHER]).write("/etc/dovecot/private", "shop")
    for name in ("shop.example.net", OTHER):
        mailhost.append("/etc/postfix/sni", f"{name} {theirs.key} {theirs.fullchain}\n")
    kind = mailhost.run("postconf", "-h", "default_database_type").stdout.strip()
    mailhost.run("postmap", "-F", f"{kind}:/etc/postfix/sni")
    mailhost.append("/etc/postfix/main.cf", f"tls_server_sni_maps = {kind}:/etc/postfix/sni\n")
    mailhost.run("postfix", "reload")
    install(mailhost, OTHER)
    for port in (465, 587):
        assert served(mailhost, OTHER, port) == view.live_leaf(OTHER)
        assert served(mailhost, "shop.example.net", port) == view.leaf_in(theirs.cert)
        assert served(mailhost, NAME, port) == view.live_leaf(NAME)


def test_the_file_of_our_own_is_included_once(mailhost):
    mailhost.certbot(*INSTALL)
    for name in (OTHER, "mx.example.net"):
        install(mailhost, name)
    main = view.read("/etc/dovecot/dovecot.conf").decode()
    assert main.count("!include_try certbot-dovecot-sni.conf\n") == 1
    for name in (OTHER, "mx.example.net"):
        assert served(mailhost, name) == view.live_leaf(name)
    before = mailhost.snapshot("/etc/dovecot", "/etc/postfix")
    install(mailhost, OTHER)
    assert mailhost.snapshot("/etc/dovecot", "/etc/postfix") == before


def test_renewals_keep_both_true(mailhost):
    mailhost.certbot(*INSTALL)
    install(mailhost, OTHER)
    before = mailhost.snapshot("/etc/dovecot", "/etc/postfix")
    mailhost.certbot("renew", "--force-renewal")
    assert mailhost.snapshot("/etc/dovecot", "/etc/postfix") == before
    assert served(mailhost, OTHER) == view.live_leaf(OTHER)
    assert served(mailhost, NAME) == view.live_leaf(NAME)
    assert served(mailhost, OTHER, 465) == view.live_leaf(OTHER)
    mailhost.certbot("renew", "--force-renewal", at="2027-01-25 12:00:00")
    assert served(mailhost, OTHER) == view.live_leaf(OTHER) == view.leaf_in(f"{STORE}/{OTHER}/2027.pem")
    assert served(mailhost, NAME) == view.live_leaf(NAME) == view.leaf_in(f"{STORE}/{NAME}/2027.pem")
    assert served(mailhost, OTHER, 465) == served(mailhost, OTHER, 587) == view.live_leaf(OTHER)
    assert served(mailhost, NAME, 465) == served(mailhost, None, 587) == view.live_leaf(NAME)


def test_both_are_gone_after_a_rollback(mailhost):
    before = mailhost.snapshot("/etc/dovecot", "/etc/postfix")
    mailhost.certbot(*INSTALL)
    install(mailhost, OTHER)
    mailhost.certbot("rollback", "--installer", "dovecot", "--checkpoints", "2")
    after = mailhost.snapshot("/etc/dovecot", "/etc/postfix")
    assert after == before
    assert view.live_leaf(OTHER) not in (served(mailhost, OTHER), served(mailhost, OTHER, 465))


def test_a_wildcard_scope_of_the_admin_does_not_win(mailhost, ca):
    """2.3 takes the first match in the file, 2.4 the last: ours comes before, or after."""
    wild = ca.leaf(["*.example.org"]).write("/etc/dovecot/private", "wild")
    block = f"local_name *.example.org {{\n{view.tls(wild.fullchain, wild.key, '  ')}}}\n"
    mailhost.write("/etc/dovecot/local.conf", block)
    mailhost.restart("dovecot")
    mailhost.certbot(*INSTALL)
    install(mailhost, OTHER)
    assert served(mailhost, OTHER) == view.live_leaf(OTHER)
    assert served(mailhost, "other.example.org") == view.leaf_in(wild.cert)
    assert served(mailhost, NAME) == view.live_leaf(NAME)


def test_an_exact_scope_of_the_admin_is_edited_in_place(mailhost, ca):
    own = ca.leaf([OTHER]).write("/etc/dovecot/private", "own")
    block = f"local_name {OTHER} {{\n{view.tls(own.fullchain, own.key, '  ')}}}\n"
    mailhost.write("/etc/dovecot/local.conf", block)
    mailhost.restart("dovecot")
    mailhost.certbot(*INSTALL)
    assert served(mailhost, OTHER) == view.leaf_in(own.cert)
    install(mailhost, OTHER)
    assert served(mailhost, OTHER) == view.live_leaf(OTHER)
    text = view.read("/etc/dovecot/local.conf").decode()
    assert f"local_name {OTHER} {{\n  {view.setting('cert')}{STORE}/{OTHER}/2026.pem\n" in text
    assert not os.path.exists(SNI_FILE)


def test_the_later_of_two_for_one_name_wins_and_says_so(mailhost):
    mailhost.certbot(*INSTALL)
    install(mailhost, OTHER)
    shown = mailhost.certbot(
        "--installer", "dovecot", "-a", "standalone", "-d", OTHER, "-d", "new.example.org", "--cert-name", "second"
    ).stdout
    assert f"{OTHER} was served with {STORE}/{OTHER}/2026.pem" in shown
    for port in (993, 465):
        assert served(mailhost, OTHER, port) == served(mailhost, "new.example.org", port) == view.live_leaf("second")
    assert served(mailhost, NAME) == view.live_leaf(NAME)
    # The one that lost is left alone, and its renewal is no fault.
    assert mailhost.certbot("renew", "--force-renewal").code == 0
    assert served(mailhost, OTHER) == view.live_leaf("second")


def test_what_dovecot_cannot_combine_is_refused_before_anything_is_written(mailhost, ca):
    """2.3 drops connections for a name when protocol and local_name both set the certificate; 2.4 takes the later one."""
    mailhost.certbot(*INSTALL)
    own = ca.leaf(["old.example.net"]).write("/etc/dovecot/private", "own")
    mailhost.write("/etc/dovecot/local.conf", f"protocol imap {{\n{view.tls(own.fullchain, own.key, '  ')}}}\n")
    mailhost.restart("dovecot")
    before = mailhost.snapshot("/etc/dovecot", "/etc/postfix")
    result = install(mailhost, OTHER, check=False)
    if view.dovecot_version() < (2, 4):
        assert result.code == 1
        assert "/etc/dovecot/local.conf:2: protocol imap sets ssl_cert here" in result.stderr
        assert mailhost.snapshot("/etc/dovecot", "/etc/postfix") == before
    else:
        assert result.code == 0
        assert served(mailhost, OTHER) == view.live_leaf(OTHER)


def test_a_deleted_lineage_is_served_on_and_the_next_run_says_so_once(mailhost):
    mailhost.certbot(*INSTALL)
    install(mailhost, OTHER, "pop.example.org")
    leaf = view.live_leaf(OTHER)
    mailhost.certbot("delete", "--cert-name", OTHER)
    said = mailhost.certbot("renew", "-q").stderr.splitlines()
    assert len(said) == 2
    for line, server in zip(said, ("Dovecot", "Postfix")):
        assert line.startswith(f"certbot does not know the certificate {OTHER} any more, but {server} still serves its copy in")
        assert f"to clients that ask for {OTHER}, pop.example.org. Nobody renews it." in line
    again = mailhost.certbot("renew", "-q")
    assert (again.code, again.stderr) == (0, "")
    mailhost.restart("dovecot")
    assert served(mailhost, OTHER) == served(mailhost, OTHER, 465) == leaf
