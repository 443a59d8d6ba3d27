"""``status`` and ``undo`` of a lineage whose TLSA records are in the DNS."""

from __future__ import annotations

import json

from tests.integration import view
from tests.integration.test_dane import INSTALL, LATER, NAME, OTHER, RFC2136, key_of, served, stands
from tests.integration.test_renew import CONFIGURATIONS


def status(mailhost, *args, at=None):
    return mailhost.run("certbot-dovecot", "status", *args, at=at, check=False)


def test_the_step_and_its_time_from_the_records_and_from_the_dns(mailhost, names):
    mailhost.certbot(*INSTALL, *RFC2136)
    mailhost.run("certbot-dovecot", "standby", NAME)
    names.catch_up()
    mailhost.certbot("renew", "-q")
    result = status(mailhost)
    # The lab's zone has a record from elsewhere for port 465.
    assert result.code == 4
    assert "NO MATCH" in result.stdout
    assert f"DANE {NAME}: " in result.stdout
    assert f"{NAME}  2026  ECDSA P-256" in result.stdout
    assert OTHER in result.stdout.splitlines()[1]
    [lineage] = json.loads(status(mailhost, "--json").stdout)["lineages"]
    step = lineage["dane"]
    assert (lineage["standby"]["name"], step["due"], step["asked"] < step["asked_again"]) == (OTHER, False, True)
    before = mailhost.snapshot("/etc/letsencrypt")
    asked = json.loads(status(mailhost, "--json", "--dns").stdout)
    assert asked["lineages"][0]["dane"]["step"] in ("wait", "look")
    assert {one["dane"] for one in asked["endpoints"]} == {"match"}
    assert asked["at"] >= asked["lineages"][0]["dane"]["asked"] > step["asked"]
    # It takes no note: what is everywhere now has not been proven to be for long.
    later = json.loads(status(mailhost, "--json", "--dns", at=LATER).stdout)
    assert later["lineages"][0]["dane"]["step"] == "wait"
    assert later["lineages"][0]["dane"]["until"] > "2026-12-22"
    assert mailhost.snapshot("/etc/letsencrypt") == before


def test_a_record_that_nothing_matches(mailhost, names):
    mailhost.certbot(*INSTALL)
    names.update("secure.test", ("_993._tcp.mail", f"3 1 1 {'AB' * 32}"))
    names.catch_up()
    result = status(mailhost, "--dns")
    assert result.code == 4
    assert "NO MATCH" in result.stdout
    where = "Dovecot imap 127.0.0.1:993 (TLS), Dovecot imap [::1]:993 (TLS)"
    assert f"WARNING {NAME}: {where}, Postfix" in result.stdout
    assert "serves a key that no set of its TLSA records matches" in result.stdout
    assert f"Publish 3 1 1 {key_of(NAME)} there now" in result.stdout


def test_a_key_whose_records_are_there_is_not_taken_from_the_servers(mailhost, names):
    before = mailhost.snapshot(*CONFIGURATIONS)
    old = served(mailhost)
    mailhost.certbot(*INSTALL, *RFC2136)
    mailhost.run("certbot-dovecot", "standby", NAME)
    names.catch_up()
    installed = mailhost.snapshot(*CONFIGURATIONS)
    refused = mailhost.run("certbot-dovecot", "undo", NAME, check=False)
    assert refused.code == 1
    assert f"_tcp.{NAME}. has a TLSA record of the key that is served now" in refused.stderr
    assert mailhost.snapshot(*CONFIGURATIONS) == installed
    # They change places first: what is served is what goes.
    assert mailhost.run("certbot-dovecot", "rollover", NAME, "--now", "--reason", "a test", check=False).code == 0
    assert served(mailhost) == {view.spki(f"/etc/letsencrypt/dovecot/{OTHER}/2026.pem")}
    done = mailhost.run("certbot-dovecot", "undo", NAME, "--now")
    assert f"{NAME} does not stand by any more" in done.stdout
    after = {path: one for path, one in mailhost.snapshot(*CONFIGURATIONS).items() if not path.endswith(".certbot.lock")}
    assert after == before
    assert served(mailhost) == old
    # What we published is gone, and nobody publishes it again.
    assert stands(names, 993) == set()
    assert mailhost.certbot("renew", "-q").stderr == ""
    assert stands(names, 993) == set()
