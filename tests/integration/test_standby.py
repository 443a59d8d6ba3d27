"""The closed loop on a real host with real name servers: a standby, its record, the switch of a new year, and the emergency.

The zone ``secure.test`` is signed; its secondary never hears of an update before it looks by itself, which in these tests it does
not.  So what is to be everywhere goes to both (:func:`everywhere`).
"""

from __future__ import annotations

import json
import os

import pytest

from certbot_dovecot.dane import publish, update
from certbot_dovecot.dane.answers import Data
from tests.integration import view
from tests.lab import names as name_servers

NAME = "mail.secure.test"
OTHER = f"{NAME}-standby"
HOME = "/etc/letsencrypt/dovecot"
LIVE = "/etc/letsencrypt/live"
CREDENTIALS = "/etc/letsencrypt/rfc2136.ini"
INSTALL = ("--installer", "dovecot", "-a", "standalone", "-d", NAME, "--dovecot-resolver", name_servers.CACHE)
RFC2136 = ("--dovecot-publish-rfc2136", CREDENTIALS)
#: Proven after two days; a new year.
LATER, NEW_YEAR = "2026-12-20 12:00:00", "2027-01-02 12:00:00"


@pytest.fixture
def names(mailhost):
    """Name servers; the file of credentials is there."""
    with name_servers.run() as servers:
        mailhost.write(
            CREDENTIALS,
            f"dns_rfc2136_server = {name_servers.PRIMARY}\ndns_rfc2136_name = lab\ndns_rfc2136_secret = {servers.secret}\n"
            "dns_rfc2136_algorithm = HMAC-SHA256\n",
        )
        os.chmod(CREDENTIALS, 0o600)
        yield servers


def key_of(lineage: str) -> str:
    return view.spki(f"{LIVE}/{lineage}/cert.pem")


def served(host) -> set[str]:
    """The keys of all ports that are ours."""
    return {host.served(port, sni=NAME).spki for port in (110, 143, 465, 587, 993, 995, 4190)}


def primary(servers):
    said = publish.Credentials(name_servers.PRIMARY, 53, "lab", servers.secret, "HMAC-SHA256")
    return update.Primary(said, seconds=3)


def stands(servers, port: int) -> set[str]:
    """Digests of the records for a port at the primary."""
    return {data.digest for data in primary(servers).present(f"_{port}._tcp.{NAME}.")[1]}


def ledger() -> dict:
    return json.loads(view.read(f"{HOME}/{NAME}/dane.json"))


def test_a_year_with_dynamic_updates(mailhost, names):
    mailhost.certbot(*INSTALL, *RFC2136)
    first = key_of(NAME)
    mailhost.certbot("renew", "-q")
    assert first in stands(names, 993)
    made = mailhost.run("certbot-dovecot", "standby", NAME)
    assert f"{OTHER} stands by for {NAME}" in made.stdout
    second = key_of(OTHER)
    assert second != first
    assert served(mailhost) == {first}
    assert stands(names, 993) >= {first, second}
    assert f"TLSA 3 1 1 {second}  ; next key, not served yet" in view.read(f"{HOME}/{NAME}/tlsa.zone").decode()
    names.catch_up()
    mailhost.certbot("renew", "-q", at=LATER)
    assert ledger()["evidence"]["since"].startswith("2026-12-20")
    # The new year: proven, so the servers change; the old record goes.
    mailhost.certbot("renew", "-q", at=NEW_YEAR)
    assert served(mailhost) == {second}
    assert stands(names, 993) & {first, second} == {second}
    assert ledger()["turns"][0][1:3] == [OTHER, second]
    # The former one takes a new key at its next renewal, and is the standby; what is served keeps its key.
    mailhost.certbot("renew", "-q", "--force-renewal", at="2027-02-01 12:00:00")
    third = key_of(NAME)
    assert third not in (first, second)
    assert key_of(OTHER) == second
    assert served(mailhost) == {second}
    assert stands(names, 993) & {first, second, third} == {second, third}
    names.catch_up()
    mailhost.certbot("renew", "-q", "--force-renewal", at="2027-04-01 12:00:00")
    assert (key_of(NAME), key_of(OTHER)) == (third, second)
    mailhost.certbot("renew", "-q", at="2028-01-01 12:00:00")
    assert served(mailhost) == {third}
