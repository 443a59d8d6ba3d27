"""Every remedy of ``status``: how its situation comes about, and what is played; or why it cannot be played."""

from __future__ import annotations

import os
from typing import Any

from tests.integration import view
from tests.integration.remedies import Bench, Case, restart, without_block
from tests.integration.sound import CONF, LOCAL
from tests.integration.test_install import NAME, STORE
from tests.lab.ca import DAY, self_signed

SSL = "/etc/dovecot/conf.d/10-ssl.conf"
SNAKEOIL = "/etc/dovecot/private/dovecot"
SECOND = "second.example.test"
ARCHIVE = f"/etc/letsencrypt/archive/{NAME}"

#: Findings whose remedy is not played, with the reason.
UNPLAYED = {
    "... cannot be looked at: ...": "it has no remedy of its own: the words of the server's tools say what to do",
    "the change of the key is due, and held up: ...": "what to mend is the reason that follows; tests/rehearsal",
    "a change of the key would be held up: ...": "likewise",
    "the DNS lacks a record: ...": "test_dane.py publishes what certbot-dovecot tlsa shows, and looks again",
    "... serves a key that not every set of its TLSA records matches": "as where no set matches, which is played",
}


def delete(bench: Bench) -> None:
    bench.host.certbot("delete", "--cert-name", NAME)
    bench.host.certbot("renew", "-q")


def roll_back(bench: Bench) -> None:
    bench.host.certbot("rollback", "--installer", "dovecot")


def roll_back_and_be_told(bench: Bench) -> None:
    roll_back(bench)
    bench.host.certbot("renew", "-q")


def ends_soon(bench: Bench, left: float = 3) -> None:
    """What is served and what certbot has is near its end."""
    made = bench.ca.leaf([NAME], begin=-85 * DAY, end=left * DAY)
    for path, data in ((f"{ARCHIVE}/cert1.pem", made.cert_pem), (f"{ARCHIVE}/chain1.pem", made.chain_pem)):
        bench.write(path, data.decode())
    for path in (f"{ARCHIVE}/fullchain1.pem", f"{STORE}/2026.pem"):
        bench.write(path, made.fullchain_pem.decode())
    for path in (f"{ARCHIVE}/privkey1.pem", f"{STORE}/2026.key"):
        bench.write(path, made.key_pem().decode())
    bench.host.restart("dovecot")
    bench.host.restart("postfix")


def renewed_behind_our_back(bench: Bench) -> None:
    bench.replace(CONF, "installer = dovecot\n", "")
    bench.host.certbot("renew", "-q", "--force-renewal", "--no-directory-hooks")


def unproven(bench: Bench) -> None:
    bench.host.stop("postfix")
    bench.host.certbot("renew", "-q", "--force-renewal", check=False)
    bench.host.start("postfix")


def a_reload_forgotten(bench: Bench) -> None:
    """The configuration names ours again, and the server has read what it named meanwhile."""
    text = bench.text(SSL)
    bench.write(SSL, text.replace(f"{STORE}/2026.pem", f"{SNAKEOIL}.pem").replace(f"{STORE}/2026.key", f"{SNAKEOIL}.key"))
    bench.host.restart("dovecot")
    bench.write(SSL, text)
    # Somebody who ran it before does not have it proven.
    bench.host.certbot("renew", "-q")


def own_default(bench: Bench, **how: Any) -> None:
    """An own certificate in the place of ours, and the admin was told."""
    own = bench.pair(SECOND, **how)
    bench.write(SSL, bench.text(SSL).replace(f"{STORE}/2026.pem", own.fullchain).replace(f"{STORE}/2026.key", own.key))
    bench.host.restart("dovecot")
    bench.host.certbot("renew", "-q")


def own_protocol(bench: Bench) -> None:
    own = self_signed("host.invalid").write("/etc/dovecot/private")
    bench.write(LOCAL, f"protocol pop3 {{\n{view.tls(own.fullchain, own.key, '  ')}}}\n")
    bench.host.restart("dovecot")


def shadowed(bench: Bench) -> None:
    own = bench.pair(SECOND)
    bench.write(LOCAL, f"local_name {NAME} {{\n{view.tls(own.fullchain, own.key, '  ')}}}\n")
    bench.host.restart("dovecot")


def old_copy(bench: Bench) -> None:
    """Certbot deleted it, the configuration was changed, and nobody reloaded."""
    bench.host.certbot("certonly", "-a", "standalone", "-d", SECOND)
    live = f"/etc/letsencrypt/live/{SECOND}"
    text = bench.text(SSL).replace(f"{STORE}/2026.pem", f"{live}/fullchain.pem")
    bench.host.certbot("delete", "--cert-name", NAME)
    bench.write(SSL, text.replace(f"{STORE}/2026.key", f"{live}/privkey.pem"))


def tlsa_of_another_key(bench: Bench) -> None:
    bench.names.replace("secure.test", {"_993._tcp.mail": [f"3 1 1 {'AB' * 32}"]}, 3)
    bench.names.catch_up()


def publish_too(bench: Bench, finding: dict[str, Any]) -> None:
    record = " ".join(finding["todo"].split()[1:5])
    bench.names.replace("secure.test", {"_993._tcp.mail": [f"3 1 1 {'AB' * 32}", record]}, 3)
    bench.names.catch_up()


def move_away(bench: Bench, _finding: dict[str, Any]) -> None:
    os.rename(f"{STORE}/state.json", f"{STORE}/state.json.old")


def damage(bench: Bench) -> None:
    bench.write(f"{STORE}/state.json", "{")


LOST = "certbot does not know it any more, and nobody renews what the servers serve"
FOREIGN = "... serves a certificate ... that expires on ... UTC, in ..."
EXPIRED = "... serves a certificate ... that expired on ... UTC"
SELF_SIGNED = "... serves a self-signed certificate ..., on a server that is to serve ..."
UNCOVERED = "... serves a certificate ..., which is not for that name"

CASES = {
    "a deleted lineage, again": Case(LOST, delete, leaves=False),
    "a deleted lineage, undone": Case(LOST, delete, pick=1, leaves=False, serves=False),
    "expired and deleted": Case(
        "... expires on ... UTC, in ...", delete, args=("--critical", "1000"), pick=1, leaves=False, serves=False
    ),
    "a rollback": Case("... does not name its files any more, and is left alone", roll_back),
    "self-signed after a rollback": Case(SELF_SIGNED, roll_back_and_be_told),
    "self-signed, and meant": Case(SELF_SIGNED, roll_back_and_be_told, pick=1, leaves=False, serves=False),
    "self-signed for one protocol": Case(
        SELF_SIGNED,
        own_protocol,
        robot=without_block(),
    ),
    "ends soon": Case("... expires on ... UTC, in ...", ends_soon),
    "ended": Case("... expired on ... UTC", lambda bench: ends_soon(bench, -1)),
    "an own one ends": Case(FOREIGN, lambda bench: own_default(bench, begin=-85 * DAY, end=3 * DAY)),
    "an own one ended": Case(EXPIRED, lambda bench: own_default(bench, begin=-85 * DAY, end=-DAY)),
    "renewed without the installer": Case(
        "certbot has another certificate than the servers", renewed_behind_our_back, leaves=False
    ),
    "unproven": Case("what was installed is not proven on ...", unproven),
    "a server that does not run": Case(
        "... serves no usable certificate: ...", lambda bench: bench.host.stop("dovecot"), robot=restart("dovecot")
    ),
    "a reload that was forgotten": Case("... serves another certificate, ...", a_reload_forgotten),
    "a name of ours in a block of the admin's": Case(UNCOVERED, shadowed),
    "a copy of a deleted one": Case(
        "... serves a copy of ..., which certbot does not know any more and the configuration does not name",
        old_copy,
        leaves=False,
        serves=False,
    ),
    "nothing is installed": Case(
        "no certificate is installed by certbot-dovecot on this host", lambda bench: bench.host.reset(), leaves=False
    ),
    "a damaged record": Case("not everything could be looked at: ...", damage, robot=move_away, leaves=False),
    "a record of another key": Case(
        "... serves a key that no set of its TLSA records matches",
        tlsa_of_another_key,
        robot=publish_too,
        args=("--dns",),
        dns=True,
    ),
    "due, and no next key": Case(
        "the change of the key is due, and waits: ...", lambda bench: due_and_published(bench), args=("--dns",), dns=True
    ),
}


def due_and_published(bench: Bench) -> None:
    """A record of the key is in the DNS, and the key is of last year."""
    store = "/etc/letsencrypt/dovecot/mail.secure.test"
    key = view.spki(f"{store}/2026.pem")
    bench.names.replace("secure.test", {f"_{port}._tcp.mail": [f"3 1 1 {key}"] for port in (465, 587, 993)}, 3)
    bench.names.catch_up()
    bench.replace(f"{store}/state.json", f'"{key}": 2026', f'"{key}": 2025')

