"""Every remedy of ``status``: how its situation comes about, and what is played; or why it cannot be played."""

from __future__ import annotations

import json
import os
import re
from typing import Any, Callable

from tests.integration import view
from tests.integration.remedies import Bench, Case, restart, without_block, without_line
from tests.integration.sound import CONF, LOCAL, MAIN
from tests.integration.test_install import NAME, STORE
from tests.lab.ca import DAY, self_signed
from tests.lab.names import TTL

SSL = "/etc/dovecot/conf.d/10-ssl.conf"
SNAKEOIL = "/etc/dovecot/private/dovecot"
SECOND = "second.example.test"
SECURE = "mail.secure.test"
DNS_STORE = f"/etc/letsencrypt/dovecot/{SECURE}"
CLI_INI = "/etc/letsencrypt/cli.ini"
SNI, BOTH = "/etc/postfix/sni", "/etc/dovecot/private/both.pem"
ARCHIVE = f"/etc/letsencrypt/archive/{NAME}"

#: Findings whose remedy is not played, with the reason.
UNPLAYED = {
    "what ... serves by name could not be judged: ... may not be read by this user": (
        "it needs a user who is not root; test_status.py plays it"
    ),
    "... cannot be looked at: ...": "it has no remedy of its own: the words of the server's tools say what to do",
    "the change of the key is due, and held up: ...": "what to mend is the reason that follows; tests/rehearsal",
    "a change of the key would be held up: ...": "likewise",
    "the DNS lacks a record: ...": "test_dane.py publishes what certbot-dovecot tlsa shows, and looks again",
    "... serves a key that not every set of its TLSA records matches": "as where no set matches, which is played",
    "the key has changed, and the TLSA records of ... match only a former one": (
        "test_shared.py plays it on a host with a web server"
    ),
    "every renewal takes a new key, for certbot does it without the installer, and without reuse_key": (
        "test_shared.py plays it with a web server, and test_reach.py without"
    ),
    "its renewals do not reach the servers: ..., and its renewal conf does not name the installer": (
        "test_reach.py plays every way, and test_shared.py that of a web server's lineage; doctor says the same, see there"
    ),
    "... serves the key 3 1 1 ..., which ...": "it needs a second host; test_several_hosts.py plays both ways",
    "... could not be asked, so it is not known whether a TLSA record matches its key: ...": (
        "it needs a second host; test_several_hosts.py plays both ways"
    ),
}


def delete(bench: Bench) -> None:
    bench.host.certbot("delete", "--cert-name", NAME)
    bench.host.certbot("renew", "-q")


def roll_back(bench: Bench) -> None:
    """All of it: an earlier case may have installed again."""
    bench.host.certbot("rollback", "--installer", "dovecot", "--checkpoints", "9")


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


def a_reload_forgotten_but_for_one_name(bench: Bench) -> None:
    """The admin has a block for our name, with our files: who asks for it gets the right one all the time."""
    bench.write(LOCAL, f"local_name {NAME} {{\n{view.tls(f'{STORE}/2026.pem', f'{STORE}/2026.key', '  ')}}}\n")
    a_reload_forgotten(bench)


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


def table_before_ours(bench: Bench, *names: str, **how: Any) -> None:
    """The admin has a table for Postfix that has our name, and is asked first."""
    own = bench.pair(*(names or (SECOND,)), **how)
    bench.write(SNI, f"{NAME} {own.key} {own.fullchain}\n")
    bench.host.append(MAIN, f"tls_server_sni_maps = texthash:{SNI}\n")
    bench.host.run("postfix", "reload")


def without_the_name(bench: Bench, finding: dict[str, Any]) -> None:
    assert f"take that out of texthash:{SNI}" in finding["todo"]
    bench.replace(SNI, f"{NAME} ", "elsewhere.example.test ")


def alternative(bench: Bench) -> None:
    """An alternative certificate in Dovecot, whose key has the same algorithm."""
    own = bench.pair(SECOND)
    bench.write(LOCAL, f"{view.setting('alt_cert')}{own.fullchain}\n{view.setting('alt_key')}{own.key}\n")
    bench.host.restart("dovecot")


def chain_of_own(bench: Bench) -> None:
    """Key and certificate in one file, for every service: the admin dropped ours, and was told."""
    own = self_signed("host.invalid").write("/etc/dovecot/private")
    bench.write(BOTH, bench.text(own.key) + bench.text(own.fullchain))
    bench.host.append(MAIN, f"smtpd_tls_chain_files = {BOTH}\n")
    bench.host.run("postfix", "reload")
    bench.host.certbot("renew", "-q")


def old_copy(bench: Bench) -> None:
    """Certbot deleted it, the configuration was changed, and nobody reloaded."""
    bench.host.certbot("certonly", "-a", "standalone", "-d", SECOND)
    live = f"/etc/letsencrypt/live/{SECOND}"
    text = bench.text(SSL).replace(f"{STORE}/2026.pem", f"{live}/fullchain.pem")
    bench.host.certbot("delete", "--cert-name", NAME)
    bench.write(SSL, text.replace(f"{STORE}/2026.key", f"{live}/privkey.pem"))


def move_away(bench: Bench, _finding: dict[str, Any]) -> None:
    os.rename(f"{STORE}/state.json", f"{STORE}/state.json.old")


def damage(bench: Bench) -> None:
    bench.write(f"{STORE}/state.json", "{")


def published(*records: str, ttl: int = TTL - 1) -> Callable[[Bench], None]:
    """Records at the ports of the lineage, ``KEY`` for that of its key; none at port 25, where it is not served.

    In the lab's zone, port 465 has an alias, ``_dane``.  Caches forget them before ``catch_up`` returns.
    """

    def put(bench: Bench) -> None:
        key = view.spki(f"{DNS_STORE}/2026.pem")
        made = [record.replace("KEY", key) for record in records]
        owners = {"_25._tcp.mail": [], **dict.fromkeys(("_dane", "_587._tcp.mail", "_993._tcp.mail"), made)}
        bench.names.replace("secure.test", owners, ttl)
        bench.names.catch_up()

    return put


def publish_too(bench: Bench, finding: dict[str, Any]) -> None:
    published(ANOTHER, " ".join(finding["todo"].split()[1:5]))(bench)


def key_of_last_year(bench: Bench, store: str = DNS_STORE) -> None:
    """By our record."""
    state = json.loads(bench.text(f"{store}/state.json"))
    bench.write(f"{store}/state.json", json.dumps({**state, "years": dict.fromkeys(state["years"], 2025), "settled": []}))


def due_and_published(bench: Bench) -> None:
    published("3 1 1 KEY")(bench)
    key_of_last_year(bench)


def due_without_the_installer(*records: str) -> Callable[[Bench], None]:
    """Certbot renews it with the same key, and calls the deploy hook only."""

    def put(bench: Bench) -> None:
        published(*records)(bench)
        key_of_last_year(bench)
        conf = f"/etc/letsencrypt/renewal/{SECURE}.conf"
        text = re.sub(r"(?m)^(installer|reuse_key) .*\n", "", bench.text(conf))
        bench.write(conf, text.replace("[renewalparams]\n", "[renewalparams]\nreuse_key = True\n"))

    return put


def updates_off(bench: Bench) -> None:
    """On a host that publishes its records itself."""
    bench.options(publish_command="/bin/true")
    bench.host.append(CLI_INI, "disable-renew-updates = true\n")


def take_it_out(bench: Bench, finding: dict[str, Any]) -> None:
    without_line(bench, {**finding, "where": finding["what"]})


ANOTHER = f"3 1 1 {'AB' * 32}"
LOST = "certbot does not know it any more, and nobody renews what the servers serve"
FOREIGN = "... serves a certificate ... that expires on ... UTC, in ..."
EXPIRED = "... serves a certificate ... that expired on ... UTC"
SELF_SIGNED = "... serves a self-signed certificate ..., on a server that is to serve ..."
DUE = "a new key is due, for the present one is of ..., and certbot renews it without the installer"
UNCOVERED = "... serves a certificate ..., which is not for that name"

TABLE = "... serves a certificate ..., which is not for that name: ..."

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
    "a reload that was forgotten, but for one name": Case(
        "... serves another certificate, ...", a_reload_forgotten_but_for_one_name, leaves=False
    ),
    "a name of ours in a block of the admin's": Case(UNCOVERED, shadowed),
    "a name of ours in a table of the admin's": Case(TABLE, table_before_ours, leaves=False),
    "a name of ours in a table of the admin's, taken out": Case(
        TABLE, table_before_ours, pick=1, robot=without_the_name, leaves=False
    ),
    "an own one in a table ended": Case(
        EXPIRED, lambda bench: table_before_ours(bench, NAME, begin=-85 * DAY, end=-DAY), leaves=False
    ),
    "an alternative": Case(
        "... serves another certificate, ..., which ... has, an alternative that takes its place", alternative,
        robot=without_block(), leaves=False,
    ),
    "self-signed in a chain": Case(SELF_SIGNED, chain_of_own, leaves=False),
    "a copy of a deleted one": Case(
        "... serves a copy of ..., which certbot does not know any more and the configuration does not name",
        old_copy,
        leaves=False,
        serves=False,
    ),
    "nothing is installed": Case(
        "no certificate is installed by certbot-dovecot on this host", lambda bench: bench.host.reset(), leaves=False
    ),
    "one is not installed": Case(
        "it is not installed by certbot-dovecot on this host",
        lambda bench: bench.host.run("certbot-dovecot", "undo", NAME),
        args=(NAME,),
        leaves=False,
    ),
    "a damaged record": Case("not everything could be looked at: ...", damage, robot=move_away, leaves=False),
    "a record of another key": Case(
        "... serves a key that no set of its TLSA records matches",
        published(ANOTHER),
        robot=publish_too,
        args=("--dns",),
        dns=True,
    ),
    "updates are off": Case(
        "nobody looks after its TLSA records between renewals: ... says disable-renew-updates",
        updates_off,
        robot=take_it_out,
        leaves=False,
    ),
    "due, without the installer": Case(DUE, due_without_the_installer(), dns=True),
    "due, without the installer, and published": Case(
        DUE, due_without_the_installer("3 1 1 KEY"), args=("--dns",), dns=True
    ),
    "due, and no next key": Case(
        "the change of the key is due, and waits: ...", due_and_published, args=("--dns",), dns=True
    ),
}
