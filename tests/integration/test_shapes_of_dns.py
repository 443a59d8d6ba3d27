"""Record sets of all shapes on real name servers: aliases (D25), wildcards (D21), two zones (D23), judged by openssl."""

from __future__ import annotations

import json
import os

import pytest

from tests.integration.conftest import CREDENTIALS
from tests.integration.test_dane import RFC2136, renew
from tests.integration.test_several_hosts import INSTALL, NAME, OTHER, ZONE, accepted, key_of
from tests.lab import names as name_servers
from tests.lab.names import NEGATIVE, PRIMARY, SECONDARY, TTL, Zone

_HEAD = (
    f"$ORIGIN {ZONE}.\n$TTL {TTL}\n@ IN SOA ns1 hostmaster 1 3600 600 86400 {NEGATIVE}\n@ IN NS ns1\n@ IN NS ns2\n"
    f"ns1 IN A {PRIMARY}\nns2 IN A {SECONDARY}\nmail IN A 127.0.0.1\n"
)
TO_MX = f"{_HEAD}_465._tcp.mail IN CNAME _25._tcp.mail\n"
BOTH = f"{_HEAD}_465._tcp.mail IN CNAME _dane\n_25._tcp.mail IN CNAME _dane\n"
WILD = _HEAD
#: A zone that takes no updates.
STILL = "still.test"


@pytest.fixture
def servers(mailhost, request):
    """Name servers with a zone whose text is the parameter, and one that takes no updates."""
    still = Zone(STILL, _HEAD.replace(ZONE, STILL), signed=True, updates=False)
    with name_servers.run("knot", [Zone(ZONE, request.param, signed=True), still]) as names:
        mailhost.write(
            CREDENTIALS,
            f"dns_rfc2136_server = {PRIMARY}\ndns_rfc2136_name = lab\ndns_rfc2136_secret = {names.secret}\n"
            "dns_rfc2136_algorithm = HMAC-SHA256\n",
        )
        os.chmod(CREDENTIALS, 0o600)
        yield names


def stands(names, owner):
    """Digests at an owner name of the primary, aliases followed."""
    from tests.integration.test_dane import primary

    return {data.digest for data in primary(names).present(f"{owner}.{ZONE}.")[1]}


def key_at(host, port):
    return host.served(port, sni=NAME).spki


@pytest.mark.parametrize("servers", [TO_MX], indirect=True)
def test_d25_one_record_set_for_all_ports_of_which_one_serves_another_key(mailhost, servers):
    """``_465._tcp CNAME _25._tcp``, by update: the record of port 25 stays alone, and the switch does not go on."""
    mailhost.certbot(*INSTALL, *RFC2136)
    theirs = key_at(mailhost, 25)
    assert theirs != key_of(NAME)
    servers.update(ZONE, ("_25._tcp.mail", f"3 1 1 {theirs}"))
    servers.catch_up()
    told = mailhost.certbot("renew", "-q", "--force-renewal").stderr
    assert stands(servers, "_25._tcp.mail") == {theirs}
    assert "No TLSA record of this key is added at _25._tcp.mail" in told
    assert f"127.0.0.1 (port 25) serves another key, 3 1 1 {theirs}" in told
    assert accepted(servers, "127.0.0.1", 25)
    # The admin does as told: the names are parted, and each has a record of its own.
    assert "remove the alias" in told


@pytest.mark.parametrize("servers", [BOTH], indirect=True)
def test_d25_in_an_emergency_the_old_record_stays_for_port_25(mailhost, servers):
    """Both are aliases of ``_dane``, and ``main.cf`` goes on with the key of before."""
    mailhost.certbot(*INSTALL, *RFC2136)
    first = key_of(NAME)
    mailhost.run("cp", "-L", f"/etc/letsencrypt/live/{NAME}/fullchain.pem", f"/etc/letsencrypt/live/{NAME}/privkey.pem",
                 "/etc/postfix/")  # fmt: skip
    mailhost.run("postconf", "smtpd_tls_cert_file=/etc/postfix/fullchain.pem", "smtpd_tls_key_file=/etc/postfix/privkey.pem")
    mailhost.run("postfix", "reload")
    servers.update(ZONE, ("_dane", f"3 1 1 {first}"))
    servers.catch_up()
    mailhost.run("certbot-dovecot", "standby", NAME)
    second = key_of(OTHER)
    assert {first, second} <= stands(servers, "_dane")
    shown = mailhost.run("certbot-dovecot", "status", "--dns", NAME, check=False).stdout
    assert f"_25._tcp.{NAME}. shares its records with _465._tcp.{NAME}." in shown
    done = mailhost.run("certbot-dovecot", "rollover", NAME, "--now", "--reason", "lost")
    assert (key_at(mailhost, 465), key_at(mailhost, 25)) == (second, first)
    assert {first, second} <= stands(servers, "_dane")
    assert "127.0.0.1 (port 25) still serves the key" in done.stderr
    assert accepted(servers, "127.0.0.1", 25)
    assert accepted(servers, "127.0.0.1", 465)


@pytest.mark.parametrize("servers", [WILD], indirect=True)
def test_d21_a_wildcard_is_changed_itself(mailhost, servers):
    mailhost.certbot(*INSTALL)
    first, theirs, star = key_of(NAME), key_at(mailhost, 25), f"*._tcp.{NAME}."
    servers.update(ZONE, ("*._tcp.mail", f"3 1 1 {first}"))
    servers.catch_up()
    # Port 25 serves another key, and is behind it; it gets a record of its own, as told.
    shown = mailhost.run("certbot-dovecot", "status", "--dns", NAME, check=False).stdout
    assert f"add the record of the key that this port serves at _25._tcp.{NAME}. itself" in shown
    servers.update(ZONE, ("_25._tcp.mail", f"3 1 1 {theirs}"))
    servers.catch_up()
    # By hand: the line is for the wildcard, and hides nothing.
    told = mailhost.run("certbot-dovecot", "standby", NAME).stderr
    second = key_of(OTHER)
    assert [line.strip() for line in told.splitlines() if " IN TLSA " in line] == [f"{star} {TTL} IN TLSA 3 1 1 {second}"]
    # By update: it is the wildcard that is changed.
    mailhost.certbot(*INSTALL, *RFC2136, "--keep-until-expiring")
    renew(mailhost, servers, "2026-12-01 12:00:00")
    assert stands(servers, "*._tcp.mail") == {first, second}
    assert stands(servers, "_993._tcp.mail") == {first, second}
    assert stands(servers, "_25._tcp.mail") == {theirs}
    assert all(accepted(servers, "127.0.0.1", port) for port in (25, 465, 993))


@pytest.mark.parametrize("servers", [WILD], indirect=True)
def test_d23_a_zone_that_takes_no_updates_stops_nothing_in_another(mailhost, servers):
    mailhost.certbot(*INSTALL, "-d", f"mail.{STILL}", *RFC2136)
    first = key_of(NAME)
    told = mailhost.certbot("renew", "-q").stderr
    assert stands(servers, "_993._tcp.mail") == {first}
    assert f"_993._tcp.mail.{STILL}." in told
    assert "it does not know the TSIG key lab for this zone" in told
    assert "The other zones are published." in told
    # A set may begin there with what is served, no more.
    assert f"_993._tcp.mail.{STILL}. 3600 IN TLSA 3 1 1 {first}" in told
    made = mailhost.run("certbot-dovecot", "standby", NAME)
    second = key_of(OTHER)
    assert stands(servers, "_993._tcp.mail") == {first, second}
    # The next key begins no set, and no run fails for this zone; it is not told again every time.
    assert not [line for line in made.stderr.splitlines() if STILL in line and second in line]
    servers.catch_up()
    assert STILL not in renew(mailhost, servers, "2026-12-01 12:00:00").stderr
    with open(f"/etc/letsencrypt/dovecot/{NAME}/dane.json") as file:
        assert STILL not in str(json.load(file)["ours"])


@pytest.mark.parametrize("servers", [WILD], indirect=True)
def test_d20_the_key_at_a_port_that_is_not_ours(mailhost, servers):
    mailhost.certbot(*INSTALL)
    shown = mailhost.run("certbot-dovecot", "status", "--dns", NAME, check=False).stdout
    assert f"DANE {NAME}: No TLSA records are published; the key may change at any time." in shown
    servers.update(ZONE, ("_443._tcp.mail", f"3 1 1 {key_of(NAME)}"))
    servers.catch_up()
    shown = mailhost.run("certbot-dovecot", "status", "--dns", NAME, check=False).stdout
    assert f"_443._tcp.{NAME}. has a record of this key, and that port is not served by this installer" in shown
