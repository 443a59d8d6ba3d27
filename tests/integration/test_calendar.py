"""Another date for all: the CA's clock, and the border where dynamic updates of another year become those of today."""

from __future__ import annotations

import datetime
import subprocess
import sys
import time

import dns.tsig
from cryptography import x509

from certbot_dovecot import bundle as bundles
from tests.integration import view
from tests.lab import names as name_servers
from tests.rehearsal import border

NAME, BORDER = "mail.example.test", "127.0.0.6"
THEN = "2033-06-01 12:00:00"
OWNER = "_993._tcp.mail.secure.test."
#: Run under faketime: publish a record, with the key that is given.
PUBLISH = f"""
import sys
from certbot_dovecot.dane import publish, update
from certbot_dovecot.dane.answers import Key
said = publish.Credentials(sys.argv[1], 53, "lab", sys.argv[2], "HMAC-SHA256")
print(update.Primary(said, 3).publish("{OWNER}", [Key(sys.argv[3] * 32)], set()).add)
"""


def test_the_ca_lives_in_another_year(lab, mailhost):
    try:
        lab.acme.date(datetime.datetime(2033, 6, 1, 12, tzinfo=datetime.timezone.utc).timestamp())
        mailhost.certbot("certonly", "-a", "standalone", "-d", NAME, at=THEN)
    finally:
        lab.acme.date(time.time())
    path = f"/etc/letsencrypt/live/{NAME}/cert.pem"
    begin, end = bundles.validity(x509.load_pem_x509_certificate(view.read(path)))
    assert (begin.strftime("%Y-%m-%d"), end.strftime("%Y-%m-%d")) == ("2033-06-01", "2033-08-30")


def test_an_update_of_another_year_passes_the_border_and_only_there(mailhost):
    def publish(address, secret, digit):
        return mailhost.run(sys.executable, "-c", PUBLISH, address, secret, digit, at=THEN, check=False)

    with name_servers.run() as servers:
        subprocess.run(["ip", "addr", "add", f"{BORDER}/8", "dev", "lo"], check=False, capture_output=True)
        with border.run(BORDER, name_servers.PRIMARY, dns.tsig.Key("lab.", servers.secret, dns.tsig.HMAC_SHA256)):
            assert "differ by more than five minutes" in publish(name_servers.PRIMARY, servers.secret, "AB").stderr
            assert "AB" * 32 in publish(BORDER, servers.secret, "AB").stdout
            assert "didn't like the signature" in publish(BORDER, "AAAA", "CD").stderr
