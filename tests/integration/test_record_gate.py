"""The record gate (rule D28): no record leaves a set while an endpoint that shares it serves its key, whatever is lost."""

from __future__ import annotations

import os

import pytest

from tests.integration.test_dane import HOME, INSTALL, LIVE, NAME, OTHER, RFC2136, key_of, renew, served, stands

AFTER = "2026-12-20 12:00:00"
LATER = "2026-12-28 12:00:00"


@pytest.fixture
def host(mailhost, names):
    """After a switch: the standby's lineage is served."""
    mailhost.certbot(*INSTALL, *RFC2136)
    mailhost.certbot("renew", "-q")
    mailhost.run("certbot-dovecot", "standby", NAME)
    names.catch_up()
    mailhost.run("certbot-dovecot", "rollover", NAME, "--now", "--reason", "a test", check=False)
    names.catch_up()
    names.flush()
    assert served(mailhost) == {key_of(OTHER)}
    return mailhost


def test_d28_the_served_lineage_is_deleted(host, names):
    second = key_of(OTHER)
    host.certbot("delete", "--cert-name", OTHER)
    for at in (AFTER, LATER):
        renew(host, names, at)
        names.catch_up()
        names.flush()
    assert served(host) == {second}
    assert second in stands(names, 993)


@pytest.mark.parametrize("how", ["lost", "damaged"])
def test_d28_the_ledger_is_lost_after_a_switch(host, names, how):
    second, path = key_of(OTHER), f"{HOME}/{NAME}/dane.json"
    if how == "lost":
        os.remove(path)
    else:
        host.write(path, "{")
        refused = host.certbot("renew", "-q", "--force-renewal", check=False)
        assert refused.code == 1
        assert "Move it away, then run certbot-dovecot standby again for that lineage" in refused.stderr
        assert (served(host), key_of(OTHER)) == ({second}, second)
        os.remove(path)
        host.run("certbot-dovecot", "standby", NAME)
    for at in (AFTER, LATER):
        renew(host, names, at, "--force-renewal")
        names.catch_up()
        names.flush()
        assert served(host) & stands(names, 993) == served(host), at
    assert second in stands(names, 993)
    assert os.path.exists(f"{LIVE}/{OTHER}")
