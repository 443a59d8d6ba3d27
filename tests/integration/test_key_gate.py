"""The key gate (rule D28): no key leaves an endpoint while TLSA records match it and not the next one, by whatever command."""

from __future__ import annotations

import re

import pytest

from tests.integration import view
from tests.integration.test_commercial import AUTHORITY, TREES, csr, digest, everywhere, install, mailed
from tests.integration.test_dane import INSTALL, LIVE, NAME, key_of
from tests.lab import names as name_servers

OTHER = "another"
PORTS = (110, 143, 465, 587, 993, 995, 4190)


def served(host) -> set[str]:
    """The keys of all ports that are ours."""
    return {host.served(port, sni=NAME).spki for port in PORTS}


def publish(servers, *keys: str, owners=("_dane", "_993._tcp.mail")) -> None:
    """Records of ``keys``, everywhere, and no others; ``_465._tcp.mail`` is an alias of ``_dane``."""
    records = [f"3 1 1 {key}" for key in keys]
    servers.replace("secure.test", {"_dane": [], **dict.fromkeys(owners, records)})
    servers.catch_up()
    servers.flush()


@pytest.fixture
def host(mailhost, names):
    """Our lineage is served, and records of its key are published for two ports."""
    mailhost.certbot(*INSTALL)
    publish(names, key_of(NAME))
    return mailhost


def test_d28_another_lineage_for_the_same_names(host, names):
    first = key_of(NAME)
    host.certbot("certonly", "-a", "standalone", "--cert-name", OTHER, "-d", NAME)
    before = host.snapshot(*TREES)
    plan = host.run("certbot-dovecot", "plan", "--lineage", OTHER, check=False)
    refused = host.certbot("install", "--installer", "dovecot", "--cert-name", OTHER, check=False)
    for result in (plan, refused):
        assert result.code == 1
        assert "has a TLSA record of the key that is served now" in result.stderr
        assert f"_993._tcp.{NAME}. {name_servers.TTL} IN TLSA 3 1 1 {key_of(OTHER)}" in result.stderr
        assert "Nothing was changed" in result.stderr
    assert (host.snapshot(*TREES), served(host)) == (before, {first})
    # As it says: the records are added, and when caches have them the change is made as it says.
    publish(names, first, key_of(OTHER))
    early = host.certbot("install", "--installer", "dovecot", "--cert-name", OTHER, check=False)
    assert early.code == 1
    assert "it is not known since when" in early.stderr
    command = f"certbot install --installer dovecot --cert-name {OTHER} --dovecot-force"
    assert command in early.stderr
    forced = host.certbot(*command.split()[1:])
    assert "The key changes, as you say" in forced.stdout
    assert served(host) == {key_of(OTHER)}


def test_d28_files_of_another_client(host, names):
    """Certbot installs them with the option that the message names, and that one only."""
    first = key_of(NAME)
    host.certbot("certonly", "-a", "standalone", "--cert-name", OTHER, "-d", NAME)
    for kind in ("privkey", "cert", "chain", "fullchain"):
        host.write(f"/root/{kind}.pem", view.read(f"{LIVE}/{OTHER}/{kind}.pem").decode())
    files = [f"--{kind}-path=/root/{file}.pem" for kind, file in (("key", "privkey"), ("cert", "cert"), ("chain", "chain"))]
    install = ("install", "--installer", "dovecot", "-d", NAME, *files, "--fullchain-path=/root/fullchain.pem")
    refused = host.certbot(*install, "--dovecot-resolver", name_servers.CACHE, check=False)
    assert (refused.code, served(host)) == (1, {first})
    assert "make the change with the same command and --dovecot-force" in refused.stderr
    host.certbot(*install, "--dovecot-resolver", name_servers.CACHE, "--dovecot-force")
    assert served(host) == {key_of(OTHER)}


def test_d28_a_rollback(mailhost, names):
    mailhost.certbot(*INSTALL)
    old = view.leaves(mailhost)
    publish(names, key_of(NAME))
    before, now = mailhost.snapshot("/etc/dovecot", "/etc/postfix"), view.leaves(mailhost)
    checkpoints = mailhost.snapshot("/var/lib/letsencrypt/backups")
    refused = mailhost.certbot("rollback", "--installer", "dovecot", check=False)
    assert refused.code == 1
    assert "has a TLSA record of the key that is served now" in refused.stderr
    assert mailhost.snapshot("/etc/dovecot", "/etc/postfix") == before
    assert (mailhost.snapshot("/var/lib/letsencrypt/backups"), view.leaves(mailhost)) == (checkpoints, now)
    forced = mailhost.certbot("rollback", "--installer", "dovecot", "--dovecot-force")
    assert "defer their mail" in forced.stderr
    assert view.leaves(mailhost) != now
    assert old == now


def test_d28_a_rollback_of_port_25(mailhost, names):
    """It is of no lineage, and its command line does not say which services of Postfix are ours."""
    mailhost.certbot(*INSTALL, "--dovecot-postfix-services", "all")
    publish(names, key_of(NAME), owners=("_25._tcp.mail",))
    before = mailhost.snapshot("/etc/dovecot", "/etc/postfix")
    refused = mailhost.certbot("rollback", "--installer", "dovecot", check=False)
    assert refused.code == 1
    assert f"_25._tcp.{NAME}. has a TLSA record of the key that is served now" in refused.stderr
    assert mailhost.snapshot("/etc/dovecot", "/etc/postfix") == before
    assert mailhost.served(25, sni=NAME).spki == key_of(NAME)


def test_d28_a_rollback_of_a_configuration_that_cannot_be_read(mailhost, names):
    """Who serves what cannot be told then; records that count keep the key."""
    mailhost.certbot(*INSTALL)
    publish(names, key_of(NAME))
    mailhost.append("/etc/dovecot/conf.d/10-ssl.conf", "protocol imap {\n")
    before = mailhost.snapshot("/etc/dovecot", "/etc/postfix")
    refused = mailhost.certbot("rollback", "--installer", "dovecot", check=False)
    assert refused.code == 1
    assert re.search(rf"_tcp\.{NAME}\. has TLSA records, and /etc/dovecot/\S+: [^.]+ \(and", refused.stderr)
    assert mailhost.snapshot("/etc/dovecot", "/etc/postfix") == before
    mailhost.certbot("rollback", "--installer", "dovecot", "--dovecot-force")
    assert mailhost.snapshot("/etc/dovecot") != before


def test_d28_a_port_that_is_down_has_the_key_of_its_configuration(mailhost, names):
    mailhost.certbot(*INSTALL, "--dovecot-postfix-services", "all")
    publish(names, key_of(NAME), owners=("_25._tcp.mail",))
    mailhost.stop("postfix")
    before = mailhost.snapshot("/etc/dovecot", "/etc/postfix")
    refused = mailhost.run("certbot-dovecot", "undo", NAME, check=False)
    assert refused.code == 1
    assert f"_25._tcp.{NAME}. has a TLSA record of the key that is served now" in refused.stderr
    assert mailhost.snapshot("/etc/dovecot", "/etc/postfix") == before


def test_d28_what_the_dns_does_not_say_keeps_the_key(host, names):
    for daemon in names.daemons.values():
        daemon.stop()
    before = host.snapshot("/etc/dovecot", "/etc/postfix")
    refused = host.run("certbot-dovecot", "undo", NAME, check=False)
    assert refused.code == 1
    assert "If no TLSA records are published for these hosts, make the change with certbot-dovecot undo" in refused.stderr
    assert host.snapshot("/etc/dovecot", "/etc/postfix") == before


def test_d28_deploy_of_a_key_that_certonly_made(host):
    first = key_of(NAME)
    host.certbot("certonly", "-a", "standalone", "--cert-name", NAME, "-d", NAME, "--new-key", "--force-renewal", check=False)
    assert key_of(NAME) != first
    assert served(host) == {first}
    refused = host.run("certbot-dovecot", "deploy", NAME, check=False)
    assert refused.code == 1
    assert f"certbot-dovecot deploy {NAME} --force" in refused.stderr
    assert served(host) == {first}
    forced = host.run("certbot-dovecot", "deploy", NAME, "--force", check=False)
    # The records are still those of the former key, and that is said.
    assert forced.code == 1
    assert "match only a former one" in forced.stderr
    assert served(host) == {view.spki(f"{LIVE}/{NAME}/cert.pem")}


def behind_our_back(host) -> str:
    """A new key of the lineage that is served, as another program makes it; its renewal configuration names us again."""
    host.certbot("certonly", "-a", "standalone", "--cert-name", NAME, "-d", NAME, "--new-key", "--force-renewal", check=False)
    host.run("sed", "-i", "/^authenticator/a installer = dovecot", f"/etc/letsencrypt/renewal/{NAME}.conf")
    return key_of(NAME)


def test_d28_a_new_key_that_waits_comes_by_itself(host, names):
    first = key_of(NAME)
    new = behind_our_back(host)
    told = host.certbot("renew", "-q", at="2026-12-20 12:00:00", check=False)
    assert told.code == 1
    lines = re.findall(r"(\S+) \d+ IN TLSA (3 1 1 \w+)", told.stderr.split("Add to the DNS:")[1])
    assert {(owner, data) for owner, data in lines} == {
        (owner, f"3 1 1 {new}") for owner in ("_dane.secure.test.", f"_993._tcp.{NAME}.")
    }
    assert "certbot renew makes the change by itself" in told.stderr
    # As it says, and nothing else.
    publish(names, first, new)
    for at in ("2026-12-20 20:00:00", "2026-12-21 20:00:00", "2026-12-22 19:00:00"):
        assert host.certbot("renew", "-q", at=at, check=False).code == 1
        assert served(host) == {first}
    host.certbot("renew", "-q", at="2026-12-22 21:00:00")
    assert served(host) == {new}


def test_d28_with_a_standby_the_servers_change_to_it_instead_of_a_key_that_waits(host, names):
    first = key_of(NAME)
    host.run("certbot-dovecot", "standby", NAME)
    second = key_of(f"{NAME}-standby")
    publish(names, first, second)
    new = behind_our_back(host)
    for at in ("2026-12-20 20:00:00", "2026-12-21 20:00:00"):
        told = host.certbot("renew", "-q", at=at, check=False)
        assert told.code == 1
        assert "certbot renew changes to the key of the lineage that stands by" in told.stderr
        assert new not in told.stderr
        assert served(host) == {first}
    host.certbot("renew", "-q", at="2026-12-22 21:00:00")
    assert served(host) == {second}


def test_d28_the_first_certificate_from_elsewhere_over_a_lineage_of_ours(host):
    csr(host, NAME)
    made = AUTHORITY.answer(view.read(f"/etc/letsencrypt/dovecot/{NAME}-external/2026.csr"))
    before, now = host.snapshot("/etc/dovecot", "/etc/postfix"), view.leaves(host)
    refused = install(host, *mailed(made), "--resolver", name_servers.CACHE, check=False)
    assert refused.code == 3
    # Only where there is a set already: another one would begin with a key that is not served (rule D30).
    lines = [line for line in refused.stdout.splitlines() if " IN TLSA " in line]
    assert {line.split()[0] for line in lines} == {"_dane.secure.test.", f"_993._tcp.{NAME}."}
    assert (host.snapshot("/etc/dovecot", "/etc/postfix"), view.leaves(host)) == (before, now)
    install(host, *mailed(made), "--resolver", name_servers.CACHE, "--force")
    assert everywhere(host) == digest(made)
