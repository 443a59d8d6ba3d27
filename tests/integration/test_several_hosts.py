"""Two hosts behind one name (rule D18), and names that the certificate does not have (rule D19), judged by openssl."""

from __future__ import annotations

import datetime
import re
import subprocess

import pytest

from tests.integration import view
from tests.integration.conftest import updated_by
from tests.integration.test_dane import LATER, LIVE, NEW_YEAR, RFC2136, primary, renew
from tests.lab import names as name_servers
from tests.lab import second as seconds
from tests.lab.names import NEGATIVE, PRIMARY, SECONDARY, TTL, Zone

ZONE, NAME, MX = "several.test", "mail.several.test", "mx.several.test"
OTHER = f"{NAME}-standby"
HEAD = (
    f"$ORIGIN {ZONE}.\n$TTL {TTL}\n@ IN SOA ns1 hostmaster 1 3600 600 86400 {NEGATIVE}\n@ IN NS ns1\n@ IN NS ns2\n"
    f"ns1 IN A {PRIMARY}\nns2 IN A {SECONDARY}\n"
)
TWO = f"{HEAD}mail IN A {seconds.HERE}\nmail IN A {seconds.THERE}\n"
MAIL_HOST = f"{HEAD}@ IN MX 10 mx\nmail IN A 127.0.0.1\nmx IN A 127.0.0.1\nalias IN CNAME host1\nhost1 IN A 127.0.0.1\n"
INSTALL = ("--installer", "dovecot", "-a", "standalone", "-d", NAME, "--dovecot-resolver", name_servers.CACHE)


@pytest.fixture
def servers(mailhost, request):
    with updated_by(mailhost, [Zone(ZONE, request.param, signed=True)]) as names:
        yield names


def key_of(lineage):
    return view.spki(f"{LIVE}/{lineage}/cert.pem")


def stands(names, port, host=NAME):
    return {data.digest for data in primary(names).present(f"_{port}._tcp.{host}.")[1]}


def today(names):
    """The primary's clock as that of the one who edits the zone."""
    names.set_clock(f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M:%S}")


def doctor(mailhost, at):
    return mailhost.run("certbot-dovecot", "doctor", "--dns", at=at, check=False, seconds=120).stdout


def accepted(names, address, port, host=NAME):
    """Whether a client that checks DANE accepts what an address serves, by openssl's own verdict."""
    records = [word for data in primary(names).present(f"_{port}._tcp.{host}.")[1] for word in ("-dane_tlsa_rrdata", str(data))]
    # With usage 3, a client that delivers mail checks no name (RFC 7672 section 3.1.1).
    how = ("-brief", "-dane_ee_no_namechecks", "-dane_tlsa_domain", host)
    argv = ["openssl", "s_client", "-connect", f"{address}:{port}", *how, *records]
    if port in (25, 587):
        argv += ["-starttls", "smtp"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=15, check=False)
    assert "CONNECTION ESTABLISHED" in done.stderr, done.stderr
    return "matched EE certificate" in done.stderr


@pytest.mark.parametrize("servers", [TWO], indirect=True)
def test_d18_the_old_record_stays_until_every_address_has_the_new_key(mailhost, servers):
    mailhost.certbot(*INSTALL, *RFC2136)
    mailhost.certbot("renew", "-q")
    mailhost.run("certbot-dovecot", "standby", NAME)
    first, second = key_of(NAME), key_of(OTHER)
    with seconds.run() as other:
        servers.catch_up()
        renew(mailhost, servers, LATER)
        told = renew(mailhost, servers, NEW_YEAR)
        # This host has changed; the other one is late, and its clients need the old record.
        assert mailhost.served(993, sni=NAME).spki == second
        assert mailhost.served(993, seconds.THERE, sni=NAME).spki == first
        assert {first, second} <= stands(servers, 993)
        assert accepted(servers, seconds.THERE, 993)
        assert accepted(servers, seconds.HERE, 993)
        assert f"{seconds.THERE} (port 993) still serves the key 3 1 1 {first}" in told.stderr
        # Not again at once, and status is honest.
        assert f"{seconds.THERE}" not in renew(mailhost, servers, "2027-01-03 12:00:00").stderr
        servers.catch_up()
        shown = mailhost.run("certbot-dovecot", "status", "--dns", at="2027-01-03 13:00:00", check=False)
        assert seconds.THERE not in shown.stdout
        # Somebody takes the old record out: that is a finding, with the address.
        today(servers)
        servers.replace(ZONE, {"_993._tcp.mail": [f"3 1 1 {second}"]})
        servers.catch_up()
        shown = mailhost.run("certbot-dovecot", "status", "--dns", at="2027-01-03 14:00:00", check=False)
        assert shown.code == 4
        assert f"{seconds.THERE} ({NAME}, port 993) serves the key 3 1 1 {first}" in shown.stdout
        said = doctor(mailhost, "2027-01-03 14:00:00")
        [line] = [one for one in said.splitlines() if f"{seconds.THERE} ({NAME}, port 993) serves the key 3 1 1 {first}" in one]
        # No mail server of others comes in there.
        # A cache may still have the set before.
        assert re.search("set of its TLSA records matches: clients that check TLSA records (do|may) not accept it there", line)
        assert "senders" not in line
        assert f"    Publish 3 1 1 {first} beside the others; if {seconds.THERE} is another host, bringing it the" in said
        # The remedy: the record beside, or the certificate there.
        servers.update(ZONE, ("_993._tcp.mail", f"3 1 1 {first}"))
        servers.catch_up()
        shown = mailhost.run("certbot-dovecot", "status", "--dns", at="2027-01-03 15:00:00", check=False)
        assert seconds.THERE not in shown.stdout
        assert seconds.THERE not in doctor(mailhost, "2027-01-03 15:00:00")
        # It cannot be asked: that is not "all is well", and the record stays.
        other.down()
        shown = mailhost.run("certbot-dovecot", "status", "--dns", at="2027-01-03 16:00:00", check=False, seconds=120)
        assert f"{seconds.THERE} ({NAME}, ports" in shown.stdout
        assert "could not be asked" in shown.stdout
        assert "All is well" not in shown.stdout
        unreached = "so the records of former keys stay in the DNS"
        assert unreached in doctor(mailhost, "2027-01-03 16:00:00")
        renew(mailhost, servers, "2027-01-04 12:00:00")
        assert first in stands(servers, 993)
        # The remedies: the address goes out of the DNS, or it is seen to that it can be reached.
        today(servers)
        servers.address(ZONE, "mail", seconds.HERE)
        servers.catch_up()
        servers.flush()
        assert seconds.THERE not in doctor(mailhost, "2027-01-04 13:00:00")
        shown = mailhost.run("certbot-dovecot", "status", "--dns", at="2027-01-04 13:00:00", check=False)
        assert seconds.THERE not in shown.stdout
        servers.address(ZONE, "mail", seconds.HERE, seconds.THERE)
        servers.catch_up()
        servers.flush()
        assert unreached in doctor(mailhost, "2027-01-04 14:00:00")
        other.up()
        assert seconds.THERE not in doctor(mailhost, "2027-01-04 15:00:00")
        # The other way where a record is missing: the certificate comes to that host.
        servers.replace(ZONE, {"_465._tcp.mail": [f"3 1 1 {second}"]})
        servers.catch_up()
        assert f"{seconds.THERE} ({NAME}, port 465) serves the key" in doctor(mailhost, "2027-01-04 16:00:00")
        shown = mailhost.run("certbot-dovecot", "status", "--dns", at="2027-01-04 16:00:00", check=False)
        assert f"Bring the certificate that this host serves to {seconds.THERE}, or publish" in shown.stdout
        # It follows, and the old record goes.
        other.follow()
        assert seconds.THERE not in doctor(mailhost, "2027-01-04 17:00:00")
        shown = mailhost.run("certbot-dovecot", "status", "--dns", at="2027-01-04 17:00:00", check=False)
        assert seconds.THERE not in shown.stdout
        assert mailhost.served(993, seconds.THERE, sni=NAME).spki == second
        renew(mailhost, servers, "2027-01-05 12:00:00")
        assert first not in stands(servers, 993)
        assert accepted(servers, seconds.THERE, 993)
        shown = mailhost.run("certbot-dovecot", "status", "--dns", at="2027-01-05 13:00:00", check=False)
        assert "could not be asked" not in shown.stdout


@pytest.mark.parametrize("servers", [MAIL_HOST], indirect=True)
def test_d19_a_record_at_the_mx_host_counts(mailhost, servers):
    mailhost.append("/etc/postfix/main.cf", f"mydestination = {ZONE}, localhost\n")
    mailhost.certbot(*INSTALL, "--dovecot-postfix-services", "all")
    first = key_of(NAME)
    servers.update(ZONE, ("_25._tcp.mx", f"3 1 1 {first}"))
    servers.catch_up()
    assert accepted(servers, "127.0.0.1", 25, MX)
    shown = mailhost.run("certbot-dovecot", "status", "--dns", NAME, check=False).stdout
    assert f"DANE {NAME}: standby: _25._tcp.{MX}. has TLSA records" in shown
    told = mailhost.certbot("renew", "-q", "--force-renewal", at=NEW_YEAR)
    assert key_of(NAME) == first
    assert f"_25._tcp.{MX}. has TLSA records" in told.stderr
    assert accepted(servers, "127.0.0.1", 25, MX)
    # With a standby, its record is told for that name too, and the year changes the key.
    made = mailhost.run("certbot-dovecot", "standby", NAME)
    line = f"_25._tcp.{MX}. {TTL} IN TLSA 3 1 1 {key_of(OTHER)}"
    assert line in made.stderr
    servers.update(ZONE, ("_25._tcp.mx", f"3 1 1 {key_of(OTHER)}"))
    servers.catch_up()
    for at in ("2027-01-04 12:01:00", "2027-01-05 12:01:00", "2027-01-06 12:30:00"):
        mailhost.certbot("renew", "-q", at=at)
    assert mailhost.served(25, sni=MX).spki == key_of(OTHER)
    assert accepted(servers, "127.0.0.1", 25, MX)


@pytest.mark.parametrize("servers", [MAIL_HOST], indirect=True)
def test_d19_canonical_and_added_names_count(mailhost, servers):
    mailhost.certbot(*INSTALL[:-4], "-d", f"alias.{ZONE}", *INSTALL[-2:])
    first = key_of(f"alias.{ZONE}")
    for record, more in (("_465._tcp.host1", ()), ("_993._tcp.mx", ("--dovecot-dane-hosts", MX, "--keep-until-expiring"))):
        servers.replace(ZONE, {record: [f"3 1 1 {first}"]})
        servers.catch_up()
        if more:
            mailhost.certbot(*INSTALL[:-4], "-d", f"alias.{ZONE}", *INSTALL[-2:], *more)
        told = mailhost.certbot("renew", "-q", "--force-renewal", at=f"2027-01-0{3 + len(more)} 12:00:00")
        assert f"{record}.{ZONE}. has TLSA records" in told.stderr
        assert key_of(f"alias.{ZONE}") == first
        servers.replace(ZONE, {record: []})


@pytest.mark.parametrize("servers", [MAIL_HOST], indirect=True)
def test_d19_the_next_record_is_published_at_the_mx_host_where_a_set_stands(mailhost, servers):
    mailhost.append("/etc/postfix/main.cf", f"mydestination = {ZONE}, localhost\n")
    mailhost.certbot(*INSTALL, *RFC2136, "--dovecot-postfix-services", "all")
    first = key_of(NAME)
    servers.update(ZONE, ("_25._tcp.mx", f"3 1 1 {first}"))
    servers.catch_up()
    mailhost.run("certbot-dovecot", "standby", NAME)
    assert stands(servers, 25, MX) == {first, key_of(OTHER)}
    assert stands(servers, 993, MX) == set()
