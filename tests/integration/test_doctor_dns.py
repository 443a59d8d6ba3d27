"""``certbot-dovecot doctor`` and the DNS: real name servers, a signed zone, and what was published by hand."""

from __future__ import annotations

import json

import pytest

from tests.integration import view
from tests.integration.sound import WATCHED, findings, remedy, restored, trust
from tests.lab import names as name_servers

NAME = "mail.secure.test"
STORE = f"/etc/letsencrypt/dovecot/{NAME}"
INSTALL = ("--installer", "dovecot", "-a", "standalone", "-d", NAME, "--dovecot-resolver", name_servers.CACHE)
CRON = "/etc/cron.d/certbot"


@pytest.fixture
def names(mailhost):
    """Name servers, and a host with a certificate on which all else is in order."""
    with name_servers.run() as servers, restored(CRON):
        mailhost.certbot(*INSTALL)
        trust()
        yield servers


def asked(host, *args):
    """What is found, but that nothing renews on the lab, and that its zones have records of keys that nobody has."""
    return [one for one in findings(host, *args) if one["check"] not in ("timer", "addresses")]


def publish(names, *records, ttl=name_servers.TTL):
    names.replace("secure.test", {f"_{port}._tcp.mail": records for port in (587, 993)}, ttl)
    names.catch_up()


def test_what_is_published_by_hand(mailhost, names):
    key = view.spki(f"{STORE}/2026.pem")
    publish(names, f"3 1 1 {key}")
    before = mailhost.snapshot(*WATCHED)
    assert asked(mailhost) == asked(mailhost, "--dns") == []
    publish(names, f"3 1 1 {key}", f"2 1 1 {'CD' * 32}", f"1 1 1 {key}", ttl=7200)
    # Nobody looked: the DNS is asked only where that is wanted.
    assert asked(mailhost) == []
    found = asked(mailhost, "--dns")
    assert [(one["severity"], one["check"]) for one in found] == [
        ("warning", "tlsa-ttl"), ("warning", "tlsa-usage"), ("note", "tlsa-usage"),
    ]  # fmt: skip
    assert f"_587._tcp.{NAME}., _993._tcp.{NAME}." in found[0]["what"]
    assert "7200 s" in found[0]["what"]
    assert {one["lineage"] for one in found} == {NAME}
    assert view.changed(before, mailhost.snapshot(*WATCHED)) == set()


def test_a_key_that_dane_keeps(mailhost, names):
    publish(names, f"3 1 1 {view.spki(f'{STORE}/2026.pem')}")
    state = json.loads(view.read(f"{STORE}/state.json"))
    mailhost.write(f"{STORE}/state.json", json.dumps({**state, "years": dict.fromkeys(state["years"], 2025)}))
    (one,) = asked(mailhost, "--dns")
    assert (one["check"], one["severity"], one["todo"]) == ("key-age", "warning", f"certbot-dovecot standby {NAME}")
    assert "no next key is published" in one["what"]


def test_with_a_standby_a_long_ttl_is_a_note_and_a_resolver_is_needed(mailhost, names):
    mailhost.run("certbot-dovecot", "standby", NAME)
    keys = [view.spki(f"/etc/letsencrypt/live/{name}/cert.pem") for name in (NAME, f"{NAME}-standby")]
    publish(names, *(f"3 1 1 {key}" for key in keys), ttl=9999)
    (one,) = asked(mailhost, "--dns")
    assert (one["check"], one["severity"]) == ("tlsa-ttl", "note")
    # Filed by a run of certbot's, it counts without asking again.
    mailhost.certbot("renew", "-q")
    state = json.loads(view.read(f"{STORE}/state.json"))
    with restored("/etc/resolv.conf"):
        mailhost.write("/etc/resolv.conf", "nameserver 192.0.2.1\n")
        state["options"]["resolver"] = ""
        mailhost.write(f"{STORE}/state.json", json.dumps(state))
        one = next(one for one in asked(mailhost) if one["check"] == "resolver")
    assert one["where"] == "/etc/resolv.conf"
    assert "192.0.2.1 is not on this host" in one["what"]


def test_renewals_that_would_change_a_published_key(mailhost, names):
    """As ``certbot certonly``, then ``install``, leaves it: the installer is not stored."""
    publish(names, f"3 1 1 {view.spki(f'{STORE}/2026.pem')}")
    conf = f"/etc/letsencrypt/renewal/{NAME}.conf"
    lines = [line for line in view.read(conf).decode().splitlines() if not line.startswith(("installer", "reuse_key"))]
    mailhost.write(conf, "\n".join(lines) + "\n")
    mailhost.certbot("install", "--cert-name", NAME, "--installer", "dovecot")
    assert "installer = " not in view.read(conf).decode()
    (one,) = asked(mailhost, "--dns")
    assert (one["check"], one["severity"]) == ("reuse-key", "warning")
    if mailhost.certbot_version >= (2, 3):
        remedy(mailhost, one)
        assert asked(mailhost, "--dns") == []


def test_a_dns_that_does_not_answer(mailhost, names):
    names.daemons[name_servers.CACHE].stop()
    result = mailhost.run("certbot-dovecot", "doctor", "--dns", check=False)
    assert result.code == 4
    assert "tlsa-ttl, tlsa-usage, addresses (the name servers of _" in result.stdout


def test_a_resolver_that_does_not_validate(mailhost, names):
    """The primary name server, asked as if it was one: it gives the records, with signatures, and vouches for nothing."""
    publish(names, f"3 1 1 {view.spki(f'{STORE}/2026.pem')}")
    state = json.loads(view.read(f"{STORE}/state.json"))
    state["options"]["resolver"] = name_servers.PRIMARY
    mailhost.write(f"{STORE}/state.json", json.dumps(state))
    found = [one for one in asked(mailhost, "--dns") if one["check"] == "resolver"]
    assert len(found) == 1
    assert "is signed, and the resolver does not call it secure" in found[0]["what"]
