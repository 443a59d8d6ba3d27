"""The lineage that stands by, where nothing is published: made, told apart, switched to, refused, and removed.

No name server is needed but the lab's quiet one, so that these run with every certbot; with records in a signed zone it is
test_dane.
"""

from __future__ import annotations

import json
import os

import pytest

from tests.integration import view
from tests.integration.test_install import INSTALL, NAME, STORE

OTHER = f"{NAME}-standby"
LIVE = "/etc/letsencrypt/live"
CONFIGURATIONS = ("/etc/dovecot", "/etc/postfix")
NEW_YEAR = "2027-01-02 12:00:00"


def key_of(lineage: str) -> str:
    return view.spki(f"{LIVE}/{lineage}/cert.pem")


def served(host) -> set[str]:
    """The keys of all ports that are ours."""
    return {host.served(port).spki for port in (110, 143, 465, 587, 993, 995, 4190)}


def ledger() -> dict:
    return json.loads(view.read(f"{STORE}/dane.json"))


def conf(lineage: str) -> str:
    return view.read(f"/etc/letsencrypt/renewal/{lineage}.conf").decode()


@pytest.fixture
def host(mailhost):
    """A host with a lineage that is installed, and one that stands by."""
    mailhost.certbot(*INSTALL)
    made = mailhost.run("certbot-dovecot", "standby", NAME)
    assert f"{OTHER} stands by for {NAME}" in made.stdout
    return mailhost


def test_a_standby_is_made_by_stock_certbot_and_not_installed(host):
    first, second = key_of(NAME), key_of(OTHER)
    assert first != second
    assert served(host) == {first}
    assert f"dovecot_standby_for = {NAME}" in conf(OTHER)
    assert "installer = dovecot" in conf(OTHER)
    assert "authenticator = standalone" in conf(OTHER)
    before = host.snapshot(*CONFIGURATIONS)
    host.certbot("renew", "-q", "--force-renewal")
    # Both are renewed, with their keys.
    assert (key_of(NAME), key_of(OTHER), served(host)) == (first, second, {first})
    assert host.snapshot(*CONFIGURATIONS) == before


def test_the_two_change_places_every_year(host):
    """Nothing is published, so the first run of a new year switches at once; the former one takes a new key when it is due."""
    first, second = key_of(NAME), key_of(OTHER)
    host.certbot("renew", "-q", at=NEW_YEAR)
    assert served(host) == {second}
    assert ledger()["turns"][0][1:3] == [OTHER, second]
    shown = view.read("/etc/dovecot/conf.d/10-ssl.conf").decode() + view.read("/etc/postfix/master.cf").decode()
    assert f"/{OTHER}/2026.pem" in shown
    assert f"/{NAME}/2026.pem" not in shown
    host.certbot("renew", "-q", "--force-renewal", at="2027-01-20 12:00:00")
    third = key_of(NAME)
    assert third not in (first, second)
    assert (key_of(OTHER), served(host)) == (second, {second})
    assert set(view.leaves(host).values()) == {view.live_leaf(OTHER)}
    host.certbot("renew", "-q", "--force-renewal", at="2027-02-10 12:00:00")
    assert (key_of(NAME), key_of(OTHER)) == (third, second)


def test_a_rollover_by_hand_and_back(host):
    before = host.snapshot(*CONFIGURATIONS)
    first, second = key_of(NAME), key_of(OTHER)
    done = host.run("certbot-dovecot", "rollover", NAME)
    assert f"the servers serve the key of {OTHER} now" in done.stdout
    assert served(host) == {second}
    # The key that was served is spent: it is replaced before it may come again.
    refused = host.run("certbot-dovecot", "rollover", NAME, check=False)
    assert refused.code == 1
    assert "was served before" in refused.stderr
    host.certbot("renew", "-q", "--force-renewal", "--cert-name", NAME)
    assert key_of(NAME) != first
    host.run("certbot-dovecot", "rollover", OTHER)
    assert served(host) == {key_of(NAME)}
    after = {path: entry for path, entry in host.snapshot(*CONFIGURATIONS).items() if not path.endswith(".lock")}
    assert view.changed(before, after) == {"/etc/dovecot/conf.d/10-ssl.conf", "/etc/postfix/master.cf"}


@pytest.mark.parametrize("switched", [False, True])
def test_every_command_takes_either_name_of_the_pair(host, switched):
    """What is said of the one that is not served is true, and tells of the other."""
    if switched:
        host.run("certbot-dovecot", "rollover", NAME)
    here, away = (OTHER, NAME) if switched else (NAME, OTHER)
    told = f"{away} and {here} are two lineages that change places: {here} is installed now, and {away} is not."
    plain, by_name, by_the_other = (host.run("certbot-dovecot", "status", *names) for names in ((), (here,), (away,)))
    assert by_name.stdout == plain.stdout
    assert told in by_the_other.stdout
    assert by_the_other.stdout.replace(f"{told}\n", "").replace("\n\n\n", "\n\n") == plain.stdout
    assert host.run("certbot-dovecot", "status", here, away).stdout == by_the_other.stdout
    zone = host.run("certbot-dovecot", "tlsa", here).stdout
    assert f"_993._tcp.{NAME}. 3600 IN TLSA 3 1 1 {key_of(here)}\n" in zone
    assert host.run("certbot-dovecot", "tlsa", away).stdout == f"; {told}\n{zone}"
    # What a deploy hook publishes is never an empty set.
    hook = ("env", f"RENEWED_LINEAGE={LIVE}/{away}")
    assert zone in host.run(*hook, "certbot-dovecot", "tlsa").stdout
    assert host.run("certbot-dovecot", "plan", "--lineage", here).stdout.startswith("Nothing to do")
    refused = host.run("certbot-dovecot", "plan", "--lineage", away, check=False)
    assert refused.code == 1
    assert f"it stands by for {here}, which the servers serve" in refused.stderr
    # A server that serves something else is put right by either name.
    path, store = "/etc/dovecot/conf.d/10-ssl.conf", f"/etc/letsencrypt/dovecot/{here}"
    own = view.read(path).decode()
    host.write(path, own.replace(f"{store}/2026.", "/etc/dovecot/private/dovecot."))
    host.restart("dovecot")
    host.write(path, own)
    assert served(host) != {key_of(here)}
    done = host.run("certbot-dovecot", "deploy", away)
    assert done.stdout.startswith(told)
    assert served(host) == {key_of(here)}
    said = host.run("certbot-dovecot", "doctor", away, check=False).stdout
    assert "no certificate is installed" not in said
    # The one that is served goes, and what is said is of that one.
    undone = host.run("certbot-dovecot", "undo", away)
    assert f"{here} is not installed any more; its keys and certificates stay in {store}." in undone.stdout
    assert f"certbot still renews it. To end that: certbot delete --cert-name {here}\n" in undone.stdout
    assert f"{away} does not stand by any more; to end its renewals: certbot delete --cert-name {away}\n" in undone.stdout
    both = host.run("certbot-dovecot", "status", NAME, OTHER, check=False)
    for name in (NAME, OTHER):
        assert f"{name}: it is not installed by certbot-dovecot on this host." in both.stdout


@pytest.mark.parametrize("switched", [False, True])
def test_a_served_one_that_certbot_deleted_is_undone(host, switched):
    """As status says to do."""
    if switched:
        host.run("certbot-dovecot", "rollover", NAME)
    here, away = (OTHER, NAME) if switched else (NAME, OTHER)
    host.certbot("delete", "--cert-name", here)
    for name in (here, away):
        shown = host.run("certbot-dovecot", "status", name, check=False).stdout
        assert f"to take it out of the configuration: certbot-dovecot undo {here}." in shown
    undone = host.run("certbot-dovecot", "undo", here)
    assert "Put back: /etc/postfix/master.cf" in undone.stdout
    assert f"{here} is not installed any more" in undone.stdout
    assert here not in view.read("/etc/dovecot/conf.d/10-ssl.conf").decode()


def test_a_switch_is_undone_by_certbots_rollback(host):
    configuration = host.snapshot(*CONFIGURATIONS)
    host.certbot("renew", "-q", at=NEW_YEAR)
    host.certbot("rollback", "--installer", "dovecot")
    assert host.snapshot(*CONFIGURATIONS) == configuration
    assert served(host) == {key_of(NAME)}


def test_run_makes_a_standby_too_and_it_is_refused_to_install(mailhost):
    mailhost.certbot(*INSTALL)
    mailhost.certbot(*INSTALL, "--dovecot-standby-for", NAME, "--cert-name", "other")
    assert served(mailhost) == {key_of(NAME)}
    assert ledger()["standby"] == "other"
    refused = mailhost.certbot("install", "--installer", "dovecot", "--cert-name", "other", check=False)
    assert refused.code == 1
    assert "certbot-dovecot rollover" in refused.stderr
    # certbot forgets plugin options; without this one the two could not be told apart, so it is put back.
    mailhost.certbot("certonly", *INSTALL, "--cert-name", "other", "--force-renewal")
    assert f"dovecot_standby_for = {NAME}" in conf("other")


def test_a_standby_for_nothing_is_refused(mailhost):
    for more in (("--dovecot-standby-for", "nobody"), ("--dovecot-standby-for", NAME, "--cert-name", NAME)):
        assert mailhost.certbot(*INSTALL, *more, check=False).code == 1
    mailhost.certbot(*INSTALL)
    refused = mailhost.certbot(
        *INSTALL, "-d", "more.example.test", "--cert-name", "x", "--dovecot-standby-for", NAME, check=False
    )
    assert "must have the same names" in refused.stderr
    assert not os.path.exists(f"{LIVE}/x")


def test_names_that_differ_refuse_the_switch(host):
    host.certbot(*INSTALL, "-d", "more.example.test", "--cert-name", NAME, "--force-renewal")
    for how in ((), ("--now", "--reason", "x")):
        refused = host.run("certbot-dovecot", "rollover", NAME, *how, check=False)
        assert refused.code == (1 if how else 3)
        assert "have not the same names (more.example.test)" in refused.stderr
    told = host.certbot("renew", "-q", at=NEW_YEAR)
    assert "have not the same names" in told.stderr
    assert served(host) == {key_of(NAME)}


def test_a_bundle_that_is_none_changes_nothing(host):
    first, before = key_of(NAME), host.snapshot(*CONFIGURATIONS)
    host.write(f"{LIVE}/{OTHER}/privkey.pem", view.read(f"{LIVE}/{NAME}/privkey.pem").decode())
    done = host.run("certbot-dovecot", "rollover", NAME, "--now", "--reason", "x", check=False)
    assert done.code == 1
    assert "does not belong to the certificate" in done.stderr
    assert (host.snapshot(*CONFIGURATIONS), served(host)) == (before, {first})
    assert ledger()["turning"] == ""


def test_a_switch_that_fails_goes_back(host):
    first, before = key_of(NAME), host.snapshot(*CONFIGURATIONS)
    with host.hidden("/usr/bin/doveadm"):
        done = host.run("certbot-dovecot", "rollover", NAME, "--now", "--reason", "x", check=False)
    assert done.code == 1
    assert "doveadm is not installed" in done.stderr
    assert (host.snapshot(*CONFIGURATIONS), served(host)) == (before, {first})
    assert (ledger()["turning"], ledger()["turns"]) == ("", [])


def test_a_server_that_is_down_holds_up_the_switch(host):
    """R4: on any doubt the old key stays; the emergency does not wait."""
    host.stop("postfix")
    told = host.certbot("renew", "-q", at=NEW_YEAR)
    assert "an endpoint does not tell what it serves" in told.stderr
    assert host.served(993).spki == key_of(NAME)
    host.run("certbot-dovecot", "rollover", NAME, "--now", "--reason", "stolen", check=False)
    host.start("postfix")
    assert served(host) == {key_of(OTHER)}


def test_a_damaged_record_keeps_every_key(host):
    first, second = key_of(NAME), key_of(OTHER)
    host.write(f"{STORE}/dane.json", "{")
    failed = host.certbot("renew", "-q", "--force-renewal", at=NEW_YEAR, check=False)
    assert failed.code == 1
    assert "this record is damaged" in failed.stderr
    assert view.read(f"{STORE}/dane.json") == b"{"
    assert (key_of(NAME), key_of(OTHER), served(host)) == (first, second, {first})
    # What the message says to do.
    os.unlink(f"{STORE}/dane.json")
    made = host.run("certbot-dovecot", "standby", NAME)
    assert f"{OTHER} stands by for {NAME}" in made.stdout
    assert ledger()["standby"] == OTHER
    assert (key_of(OTHER), served(host)) == (second, {first})


@pytest.mark.long
def test_two_that_cannot_be_told_apart_keep_their_keys_and_it_is_said(host):
    keys = key_of(NAME), key_of(OTHER)
    path = f"/etc/letsencrypt/renewal/{OTHER}.conf"
    host.write(path, conf(OTHER).replace(f"dovecot_standby_for = {NAME}\n", ""))
    host.certbot("renew", "-q", at=NEW_YEAR)
    spent = served(host)
    told = host.certbot("renew", "-q", "--force-renewal", at="2027-01-03 12:00:00")
    assert told.stderr.count("cannot be told apart") == 1
    assert (key_of(NAME), key_of(OTHER), served(host)) == (*keys, spent)
    # What the message says to do.
    more = ("--cert-name", OTHER, "--installer", "dovecot", "--dovecot-standby-for", NAME)
    host.certbot("certonly", "-a", "standalone", "-d", NAME, *more, "--force-renewal")
    told = host.certbot("renew", "-q", "--force-renewal", at="2027-01-05 12:00:00")
    assert "cannot be told apart" not in told.stderr
    assert key_of(NAME) not in keys
    assert (key_of(OTHER), served(host)) == (keys[1], spent)


def test_the_directory_hook_switches_too(host):
    """R11: for a lineage that certbot renews without calling the installer."""
    second = key_of(OTHER)
    host.run("certbot-dovecot", "deploy", at=NEW_YEAR)
    assert served(host) == {second}


def test_a_standby_removed(host):
    host.run("certbot-dovecot", "standby", NAME, "--remove")
    assert not os.path.exists(f"{LIVE}/{OTHER}")
    assert not os.path.exists(f"/etc/letsencrypt/dovecot/{OTHER}")
    assert host.run("certbot-dovecot", "standby", NAME, "--remove", check=False).code == 1
    # Alone again: the year's new key is taken at a renewal.
    first = key_of(NAME)
    host.certbot("renew", "-q", "--force-renewal", at=NEW_YEAR)
    assert key_of(NAME) != first
    assert served(host) == {key_of(NAME)}


def test_a_certificate_authority_that_is_down(mailhost):
    mailhost.certbot(*INSTALL)
    path = "/etc/letsencrypt/cli.ini"
    mailhost.write(path, view.read(path).decode().replace("14000", "1"))
    failed = mailhost.run("certbot-dovecot", "standby", NAME, "--", "--server", "https://localhost:1/dir", check=False)
    assert failed.code == 1
    assert "Nothing was registered" in failed.stderr
    assert not os.path.exists(f"{STORE}/dane.json")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("rollover", NAME, "--reason", "x"), 64),
        (("rollover", "nobody"), 1),
        (("rollover", NAME), 1),
        (("standby",), 64),
        (("standby", "nobody"), 1),
    ],
)
def test_wrong_usage(mailhost, words, code):
    if "nobody" not in words:
        mailhost.certbot(*INSTALL)
    assert mailhost.run("certbot-dovecot", *words, check=False).code == code
