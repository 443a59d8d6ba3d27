"""A switch between two lineages that was killed: what the next run makes of it.

The states are those that a kill leaves, made from a switch that was not killed: the configuration of one server, or nothing,
is put back, and the ledger says that the switch is under way.
"""

from __future__ import annotations

import json

import pytest

from tests.integration import view
from tests.lab.mailhost import PORTS

NAME = "mail.example.test"
OTHER = f"{NAME}-standby"
LEDGER = f"/etc/letsencrypt/dovecot/{NAME}/dane.json"
POSTFIX = "/etc/postfix/master.cf"


def key_of(lineage: str) -> str:
    return view.spki(f"/etc/letsencrypt/live/{lineage}/cert.pem")


def served(host) -> dict[int, str]:
    return {port: host.served(port, sni=NAME).spki for port, _, _ in PORTS if port != 25}


def ledger() -> dict:
    return json.loads(view.read(LEDGER))


def is_under_way(host) -> None:
    """As the ledger is before the first byte of the switch."""
    host.write(LEDGER, json.dumps({**ledger(), "turning": OTHER, "turns": []}))


@pytest.fixture
def host(mailhost):
    """With a standby; no TLSA records are published for its name."""
    mailhost.certbot("--installer", "dovecot", "-a", "standalone", "-d", NAME)
    mailhost.run("certbot-dovecot", "standby", NAME)
    return mailhost


@pytest.fixture
def half(host):
    """Killed after Dovecot, and before Postfix."""
    before = view.read(POSTFIX).decode()
    host.run("certbot-dovecot", "rollover", NAME)
    host.write(POSTFIX, before)
    host.run("postfix", "reload")
    is_under_way(host)
    assert set(served(host).values()) == {key_of(NAME), key_of(OTHER)}
    return host


def test_nothing_was_changed_yet(host):
    """What was proven for it may be long ago: it is forgotten, and decided again when it is due."""
    is_under_way(host)
    host.certbot("renew", "-q")
    assert set(served(host).values()) == {key_of(NAME)}
    assert (ledger()["turning"], ledger()["turns"]) == ("", [])
    host.certbot("renew", "-q", at="2027-01-02 12:00:00")
    assert set(served(host).values()) == {key_of(OTHER)}


def test_only_its_record_was_written(host):
    """The first write of a switch says what is about to be served; a key that never was is not spent by that."""
    mine, paths = f"/etc/letsencrypt/dovecot/{NAME}/state.json", ("/etc/dovecot/conf.d/10-ssl.conf", POSTFIX)
    before = {path: view.read(path).decode() for path in (mine, *paths)}
    host.run("certbot-dovecot", "rollover", NAME)
    for path, text in before.items():
        host.write(path, text)
    host.run("doveadm", "reload")
    host.run("postfix", "reload")
    is_under_way(host)
    second = key_of(OTHER)
    host.certbot("renew", "-q", "--force-renewal")
    assert (ledger()["turning"], key_of(OTHER)) == ("", second)
    host.certbot("renew", "-q", at="2027-01-02 12:00:00")
    assert set(served(host).values()) == {second}


def test_all_was_proven_and_not_noted(host):
    host.run("certbot-dovecot", "rollover", NAME)
    is_under_way(host)
    assert host.certbot("renew", "-q").stderr == ""
    assert set(served(host).values()) == {key_of(OTHER)}
    assert ledger()["turning"] == ""
    assert [turn[1:3] for turn in ledger()["turns"]] == [[OTHER, key_of(OTHER)]]


def test_half_way(half):
    half.certbot("renew", "-q")
    assert set(served(half).values()) == {key_of(OTHER)}
    assert ledger()["turning"] == ""


def test_half_way_and_the_lineage_is_due(half):
    """Its key is served by one of the servers: it must not be taken for one that was served before, and replaced."""
    second = key_of(OTHER)
    half.certbot("renew", "-q", "--force-renewal")
    assert key_of(OTHER) == second
    assert set(served(half).values()) == {second}


def test_half_way_and_it_cannot_be_finished_yet(half):
    """It stays under way: with one server at each lineage, neither key may be taken for spent."""
    second = key_of(OTHER)
    with half.hidden("/usr/sbin/postfix"):
        assert half.certbot("renew", "-q", check=False).code == 1
    assert ledger()["turning"] == OTHER
    half.certbot("renew", "-q", "--force-renewal")
    assert key_of(OTHER) == second
    assert set(served(half).values()) == {second}
    assert ledger()["turning"] == ""
