"""The shapes of well-known suites: a certificate is installed into each, proven, and rolled back to the byte."""

from __future__ import annotations

import os
import shutil

import pytest

from certbot_dovecot.servers import probe
from certbot_dovecot.servers.contract import Endpoint
from tests.integration import view
from tests.integration.test_postfix_forms import replace_services
from tests.lab.layouts import LAYOUTS, Words

NAME = "mail.a.test"
STORE = f"/etc/letsencrypt/dovecot/{NAME}-external"
DOVECOT = ((143, "imap", False), (993, "imap", True), (110, "pop3", False), (995, "pop3", True), (4190, "sieve", False))


@pytest.fixture(params=LAYOUTS)
def suite(request, mailhost, ca):
    """A host of this shape, running, and the layout."""
    layout = LAYOUTS[request.param]
    words = Words(view.dovecot_version() >= (2, 4))
    theirs = ca.leaf([NAME, "mail.b.test", "autoconfig.b.test"]).write("/etc/ssl/private", "theirs")
    for source, target in ((theirs.fullchain, layout.cert), (theirs.key, layout.key)):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copy(source, target)
    both = os.path.join(os.path.dirname(layout.key), "both.pem")
    mailhost.write(both, view.read(theirs.key).decode() + view.read(theirs.fullchain).decode())
    shutil.rmtree("/etc/dovecot/conf.d")
    os.mkdir("/etc/dovecot/conf.d")
    for path, text in layout.dovecot(words, layout.cert, layout.key):
        mailhost.write(f"/etc/dovecot/{path}", text)
    replace_services(mailhost, layout.services)
    main = view.read("/etc/postfix/main.cf").decode()
    kept = [line for line in main.splitlines(keepends=True) if "tls_" not in line]
    mailhost.write("/etc/postfix/main.cf", "".join(kept) + layout.main.format(cert=layout.cert, key=layout.key, name=NAME))
    mailhost.run("postfix", "reload")
    mailhost.restart("dovecot")
    yield layout
    for path in (layout.cert, layout.key, both):
        os.unlink(path)


def leaves(layout):
    endpoints = [Endpoint("lab", *where) for where in ((protocol, "127.0.0.1", port, tls) for port, protocol, tls in DOVECOT)]
    endpoints += [Endpoint("lab", "submission", "127.0.0.1", port, implicit) for port, implicit in layout.ports]
    return {answer.endpoint.port: answer.digest for answer in probe.ask_all(endpoints, NAME, 10)}


def test_install_and_rollback(suite, mailhost, ca):
    before, served = mailhost.snapshot("/etc/dovecot", "/etc/postfix"), leaves(suite)
    ours = ca.leaf([NAME]).write("/etc/ssl/private", "ours")
    command = ["--cert-path", ours.cert, "--key-path", ours.key, "--chain-path", ours.chain, "-d", NAME]
    mailhost.certbot("install", "--installer", "dovecot", *command)
    after = mailhost.snapshot("/etc/dovecot", "/etc/postfix")
    assert view.changed(before, after) == suite.changed
    assert set(leaves(suite).values()) == {view.leaf_in(ours.cert)}
    effective = mailhost.run("doveconf", "-n").stdout
    assert f"{STORE}/2026.pem" in effective
    overrides = mailhost.run("postconf", "-P").stdout
    for port in ("smtp/inet/smtpd_tls_cert_file", "pickup"):
        assert port not in overrides
    assert overrides.count(f"smtpd_tls_cert_file = {STORE}/2026.pem") == len(suite.ports)
    assert overrides.count(f"smtpd_tls_key_file = {STORE}/2026.key") == len(suite.ports)
    mailhost.certbot("rollback", "--installer", "dovecot")
    assert mailhost.snapshot("/etc/dovecot", "/etc/postfix") == before
    assert leaves(suite) == served
