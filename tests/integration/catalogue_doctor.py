"""Every remedy of ``doctor``: how its situation comes about, and what is played; or why it cannot be played."""

from __future__ import annotations

import json
import os
import re
from typing import Any, Callable

from tests.integration import view
from tests.integration.catalogue_status import (
    CLI_INI,
    DNS_STORE,
    SECOND,
    SECURE,
    SNAKEOIL,
    chain_of_own,
    delete,
    due_and_published,
    due_without_the_installer,
    ends_soon,
    key_of_last_year,
    own_default,
    published,
    roll_back_and_be_told,
    table_before_ours,
)
from tests.integration.remedies import Bench, Case, restart, without_block, without_line
from tests.integration.sound import CONF, CRON, HOOK, LOCAL, MAIN, MASTER
from tests.integration.test_install import NAME, STORE
from tests.lab import names as name_servers
from tests.lab.ca import DAY

#: Places whose remedy is not played, with the reason.
UNPLAYED = {
    "certificates.py:judge_chain:2": "needs a CA whose intermediate ends before its certificates",
    "certificates.py:judge_chain:5": "a certificate that everybody trusts needs a real CA",
    "certificates.py:_kept:1": "a standby's records must stand for hours before the switch; tests/rehearsal plays it",
    "certificates.py:_kept:3": "likewise",
    "certificates.py:_kept:4": "needs a commercial CA; test_commercial.py plays the request and the answer",
    "host.py:_scheduled:1": "the lab has no systemd",
    "host.py:_scheduled:2": "likewise",
    "host.py:_scheduled:3": "the lab has no cron; test_docs.py has the finding, and test_doctor.py the daemon",
    "certificates.py:_kept:7": "test_shared.py plays it: what doctor --dns says is what status says, and is done",
    "dane.py:addresses:1": "it needs a second host; test_several_hosts.py plays every way of both remedies",
    "dane.py:resolver:2": "the zone's DS record is at a registrar",
}


def add(path: str, text: str, *restarted: str) -> Callable[[Bench], None]:
    """Text at the end of a file."""

    def put(bench: Bench) -> None:
        bench.host.append(path, text)
        for server in restarted:
            bench.host.restart(server)

    return put


def without(path: str, old: str, new: str = "") -> Callable[[Bench], None]:
    return lambda bench: bench.replace(path, old, new)


def mode(path: str, bits: int) -> Callable[[Bench], None]:
    return lambda _bench: os.chmod(path, bits)


def old_key(year: int, **options: Any) -> Callable[[Bench], None]:
    """A key of another year, by our record."""

    def put(bench: Bench) -> None:
        state = json.loads(bench.text(f"{STORE}/state.json"))
        bench.state(years=dict.fromkeys(state["years"], year), options={**state["options"], **options})

    return put


def no_installer(bench: Bench) -> None:
    """Certbot renews it with the same key, and calls the deploy hook only."""
    text = re.sub(r"(?m)^(installer|reuse_key) .*\n", "", bench.text(CONF))
    bench.write(CONF, text.replace("[renewalparams]\n", "[renewalparams]\nreuse_key = True\n"))


def old_key_without_the_installer(bench: Bench) -> None:
    """Where nothing is published, by the admin's word."""
    key_of_last_year(bench, STORE)
    bench.options(dane="off")
    no_installer(bench)


def no_hook(bench: Bench) -> None:
    no_installer(bench)
    os.unlink(HOOK)


def broken_hook(bench: Bench) -> None:
    no_installer(bench)
    os.chmod(HOOK, 0o644)


def hooks_off(bench: Bench) -> None:
    no_installer(bench)
    bench.host.append(CLI_INI, "no-directory-hooks = true\n")


def hook_away(bench: Bench, finding: dict[str, Any]) -> None:
    assert f"remove {HOOK}, if it is there, and certbot install" in finding["todo"]
    if os.path.exists(HOOK):
        os.unlink(HOOK)


def chain(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Bench], None]:
    """Another chain in the store, as a hand made it."""

    def put(bench: Bench) -> None:
        blocks = view.bundles.blocks(view.read(f"{STORE}/2026.pem"), "")
        bench.write(f"{STORE}/2026.pem", b"\n".join([*change(blocks), b""]).decode())

    return put


def a_foreign_certificate_in_the_chain(bench: Bench) -> None:
    blocks = view.bundles.blocks(view.read(f"{STORE}/2026.pem"), "")
    bench.write(f"{STORE}/2026.pem", b"\n".join([blocks[0], bench.ca.signer.cert_pem, *blocks[1:], b""]).decode())


def the_root_too(bench: Bench) -> None:
    bench.write(f"{STORE}/2026.pem", bench.text(f"{STORE}/2026.pem") + view.read("/run/lab/trusted.pem").decode())


def a_ca_of_ones_own(bench: Bench) -> None:
    ends_soon(bench, 60)
    bench.replace(CONF, "server = ", "server = https://acme.invalid/directory\n# ")


def trust_it(bench: Bench, _finding: dict[str, Any]) -> None:
    with open("/run/lab/trusted.pem", "ab") as file:
        file.write(bench.ca.root.cert_pem)


def another_ca(bench: Bench, _finding: dict[str, Any]) -> None:
    bench.replace(CONF, "server = https://acme.invalid/directory\n# ", "server = ")
    bench.host.certbot("renew", "-q", "--force-renewal")


def an_rsa_certificate(bench: Bench, finding: dict[str, Any]) -> None:
    assert "get an RSA certificate (--key-type rsa)" in finding["todo"]
    bench.host.certbot("renew", "-q", "--force-renewal", "--new-key", "--key-type", "rsa")


def block_for(bench: Bench, *names: str, cert_names: tuple[str, ...] = (SECOND,)) -> None:
    pair = bench.pair(*cert_names)
    bench.write(LOCAL, "".join(f"local_name {name} {{\n{view.tls(pair.fullchain, pair.key, '  ')}}}\n" for name in names))
    bench.host.restart("dovecot")


def lost_key(_bench: Bench) -> None:
    os.unlink(f"{STORE}/2026.key")


def foreign_key(bench: Bench) -> None:
    one, other = bench.pair(SECOND), bench.pair("third.example.test", stem="another")
    bench.kept["pair"] = one
    bench.write(LOCAL, f"local_name {SECOND} {{\n{view.tls(one.fullchain, other.key, '  ')}}}\n")


def the_right_key(bench: Bench, finding: dict[str, Any]) -> None:
    bench.write(finding["where"], bench.text(bench.kept["pair"].key))


def another_pair(bench: Bench, finding: dict[str, Any]) -> None:
    assert LOCAL in finding["todo"]
    bench.replace(LOCAL, finding["where"], bench.kept["pair"].key)


def service(bench: Bench, *options: str) -> None:
    lines = "".join(f"  -o {option}\n" for option in options)
    bench.host.append(MASTER, f"2525 inet n - y - - smtpd\n  -o smtpd_tls_security_level=may\n{lines}")
    bench.host.run("postfix", "reload")


def without_the_ciphers(bench: Bench, finding: dict[str, Any]) -> None:
    os.unlink(LOCAL)
    restart("dovecot")(bench, finding)


def name_live(bench: Bench, finding: dict[str, Any]) -> None:
    """Name certbot's own files where the file of one year is named."""
    cert, key = re.findall(r"/etc/letsencrypt/live/\S+\.pem", finding["todo"])
    path = finding["where"].partition(":")[0]
    bench.replace(path, f"{STORE}/2026.pem", cert) if path == MAIN else _in_service(bench, cert, key)
    if path == MAIN:
        bench.replace(path, f"{STORE}/2026.key", key)


def _in_service(bench: Bench, cert: str, key: str) -> None:
    head, _, tail = bench.text(MASTER).rpartition("2525 inet")
    bench.write(MASTER, head + "2525 inet" + tail.replace(f"{STORE}/2026.pem", cert).replace(f"{STORE}/2026.key", key))


def without_both(bench: Bench, finding: dict[str, Any]) -> None:
    """Take out a certificate, and the key beside it."""
    path = finding["where"].partition(":")[0]
    head, mark, tail = bench.text(path).rpartition("2525 inet") if path == MASTER else ("", "", bench.text(path))
    bench.write(path, head + mark + re.sub(rf"(?m)^.*{STORE}.*\n", "", tail))


def commented_out(bench: Bench) -> None:
    head = next(line for line in bench.text(MASTER).splitlines() if line.startswith("submissions"))
    bench.kept["head"] = head
    bench.replace(MASTER, head, f"#{head}")


def head_again(bench: Bench, _finding: dict[str, Any]) -> None:
    bench.replace(MASTER, f"#{bench.kept['head']}", bench.kept["head"])


def options_of_no_service(bench: Bench) -> None:
    bench.host.append(MASTER, "#2525 inet n - y - - smtpd\n  -o smtpd_tls_security_level=may\n")


def comment_out(bench: Bench, finding: dict[str, Any]) -> None:
    bench.replace(MASTER, "\n  -o smtpd_tls_security_level=may\n", "\n#  -o smtpd_tls_security_level=may\n")


def twice(bench: Bench) -> None:
    """Postfix is stopped meanwhile, for it may hang of that."""
    bench.host.stop("postfix")
    bench.write(MAIN, bench.text(MAIN) + "always_bcc = a@example.test\nalways_bcc = b@example.test\n")


def once(bench: Bench, finding: dict[str, Any]) -> None:
    without_line(bench, finding)
    bench.replace(MAIN, "always_bcc = a@example.test\n", "")
    bench.host.start("postfix")


def little_memory(bench: Bench) -> None:
    pair = bench.pair(SECOND)
    block = f"local_name {SECOND} {{\n{view.tls(pair.fullchain, pair.key, '  ')}}}\n"
    bench.write(LOCAL, f"service config {{\n  vsz_limit = 32 M\n}}\n{block}")


def more_memory(bench: Bench, finding: dict[str, Any]) -> None:
    (said,) = re.findall(r"vsz_limit = \d+ M", finding["todo"])
    bench.replace(LOCAL, "vsz_limit = 32 M", said)
    bench.host.restart("dovecot")


def short_lived(bench: Bench) -> None:
    ends_soon(bench, 6)
    made = bench.ca.leaf([NAME], begin=0, end=6 * DAY, key=None)
    for name in ("cert", "fullchain"):
        data = made.cert_pem if name == "cert" else made.fullchain_pem
        bench.write(f"/etc/letsencrypt/archive/{NAME}/{name}1.pem", data.decode())


def sessions_live_on(bench: Bench, _finding: dict[str, Any]) -> None:
    bench.host.append(LOCAL, "shutdown_clients = no\n")


def cron_stops(bench: Bench) -> None:
    bench.write(CRON, "")


def cron_again(bench: Bench, finding: dict[str, Any]) -> None:
    assert "certbot renew -q" in finding["todo"]
    bench.write(CRON, "0 */12 * * * root certbot renew -q\n")


def publish_what_tlsa_prints(bench: Bench, _finding: dict[str, Any]) -> None:
    printed = bench.host.run("certbot-dovecot", "tlsa", "mail.secure.test").stdout
    record = re.findall(r"_993\._tcp\S+ \d+ IN TLSA (3 1 1 \w+)", printed)[0]
    published(record)(bench)


def shorter_ttl(bench: Bench, _finding: dict[str, Any]) -> None:
    """And wait until caches hold the old one no more."""
    published("3 1 1 KEY", ttl=3600)(bench)
    bench.names.flush()


def reuse(value: str, installer: bool = True) -> Callable[[Bench], None]:
    def put(bench: Bench) -> None:
        published("3 1 1 KEY")(bench)
        conf = "/etc/letsencrypt/renewal/mail.secure.test.conf"
        text = re.sub(r"(?m)^reuse_key.*\n" + ("" if installer else "|^installer.*\n"), "", bench.text(conf))
        bench.write(conf, text.replace("[renewalparams]\n", f"[renewalparams]\n{value}"))
        if not installer:
            bench.host.certbot("install", "--cert-name", "mail.secure.test", "--installer", "dovecot")

    return put


def no_resolver(bench: Bench) -> None:
    published("3 1 1 KEY")(bench)
    bench.host.run("certbot-dovecot", "standby", SECURE)
    state = json.loads(bench.text(f"{DNS_STORE}/state.json"))
    state["options"]["resolver"] = ""
    bench.write(f"{DNS_STORE}/state.json", json.dumps(state))
    bench.write("/etc/resolv.conf", "nameserver 192.0.2.1\n")


def a_resolver_of_ones_own(bench: Bench, _finding: dict[str, Any]) -> None:
    bench.write("/etc/resolv.conf", f"nameserver {name_servers.CACHE}\n")


def a_resolver(bench: Bench, finding: dict[str, Any]) -> None:
    assert "--dovecot-resolver ADDRESS" in finding["todo"]
    bench.host.certbot("renew", "-q", "--force-renewal", "--dovecot-resolver", name_servers.CACHE)


TWO = f"smtpd_tls_cert_file = {STORE}/2026.pem\nsmtpd_tls_key_file = {STORE}/2026.key\n"
OPTIONS = (f"smtpd_tls_cert_file={STORE}/2026.pem", f"smtpd_tls_key_file={STORE}/2026.key")
SHADOW = f"smtpd_tls_chain_files = {SNAKEOIL}.key, {SNAKEOIL}.pem\n"
NO_HOOK = "host.py:deploy_hook:1"
LEFT, SHADOWED = "postfix.py:_left:1", "postfix.py:_shadowed:1"

CASES = {
    "must-staple in cli.ini": Case(
        "certificates.py:must_staple:1", add(CLI_INI, "must-staple = true\n"), "OCSP stapling", robot=without_line
    ),
    "must-staple": Case(
        "certificates.py:must_staple:2", add(CONF, "must_staple = True\n"), "OCSP stapling", robot=without_line
    ),
    "a chain in disorder": Case(
        "certificates.py:judge_chain:1", a_foreign_certificate_in_the_chain, "did not issue the one before it"
    ),
    "a root in the chain": Case("certificates.py:judge_chain:3", the_root_too, "which no client needs"),
    "no intermediates": Case(
        "certificates.py:judge_chain:4", chain(lambda blocks: blocks[:1]), "the intermediate certificates are missing"
    ),
    "an own CA": Case(
        "certificates.py:judge_chain:6", a_ca_of_ones_own, "does not trust", robot=trust_it, leaves=False
    ),
    "an own CA, and another": Case(
        "certificates.py:judge_chain:6", a_ca_of_ones_own, "does not trust", pick=1, robot=another_ca, leaves=False
    ),
    "a key that never changes": Case(
        "certificates.py:key_age:1", old_key(2024, key_rotation="never"), "never changes by itself", leaves=False
    ),
    "a key without the installer": Case(
        "certificates.py:_kept:8", old_key_without_the_installer, "certbot renews it without the installer", leaves=False
    ),
    "a key without the installer, by the DNS": Case(
        "certificates.py:_kept:6", due_without_the_installer(), "certbot renews it without the installer", dns=True
    ),
    "a key that renewals kept": Case(
        "certificates.py:_kept:5", old_key(2025), "the renewals of this year kept it", leaves=False
    ),
    "overdue": Case("certificates.py:overdue:1", ends_soon, "was not renewed", leaves=False),
    "a name with another certificate": Case(
        "certificates.py:sni_names:1",
        lambda bench: block_for(bench, "third.example.test"),
        "and it is not for that name",
        leaves=False,
    ),
    "a name with another certificate, out": Case(
        "certificates.py:sni_names:1",
        lambda bench: block_for(bench, "third.example.test"),
        "and it is not for that name",
        pick=1,
        robot=without_block(),
    ),
    "a name of ours shadowed": Case(
        "certificates.py:_not_served:1", lambda bench: block_for(bench, NAME), "is for that and installed", leaves=False
    ),
    "a lost key": Case("certificates.py:_unreadable:1", lost_key, "names this file"),
    "a key of another": Case("certificates.py:_unreadable:1", foreign_key, "names this file", robot=the_right_key),
    "a key of another, and another pair": Case(
        "certificates.py:_unreadable:1", foreign_key, "names this file", pick=1, robot=another_pair
    ),
    "deleted, again": Case("certificates.py:nobody_renews:1", delete, "does not know this lineage any more", leaves=False),
    "deleted, undone": Case(
        "certificates.py:nobody_renews:1", delete, "does not know this lineage any more", pick=1, leaves=False, serves=False
    ),
    "an own one ends": Case(
        "certificates.py:_elsewhere:1",
        lambda bench: own_default(bench, begin=-85 * DAY, end=3 * DAY),
        "nobody that is known here renews it",
        leaves=False,
    ),
    "self-signed": Case("certificates.py:_elsewhere:1", roll_back_and_be_told, "self-signed", leaves=False),
    "self-signed, and meant": Case(
        "certificates.py:_elsewhere:1", roll_back_and_be_told, "self-signed", pick=1, leaves=False, serves=False
    ),
    "ciphers of RSA": Case(
        "certificates.py:rsa_clients:1",
        add(LOCAL, "ssl_cipher_list = aRSA\n", "dovecot"), "agrees on no cipher", robot=without_the_ciphers,
    ),
    "ciphers of RSA, and a certificate": Case(
        "certificates.py:rsa_clients:1",
        add(LOCAL, "ssl_cipher_list = aRSA\n", "dovecot"),
        "agrees on no cipher",
        pick=1,
        robot=an_rsa_certificate,
        leaves=False,
    ),
    "old clients": Case(
        "certificates.py:rsa_clients:2", add(LOCAL, "ssl_min_protocol = TLSv1\n"), "old clients are wanted", leaves=False
    ),
    "old clients, unwanted": Case(
        "certificates.py:rsa_clients:2",
        add(LOCAL, "ssl_min_protocol = TLSv1\n"),
        "old clients are wanted",
        pick=1,
        robot=without_block(),
    ),
    "a long TTL": Case(
        "dane.py:tlsa_ttl:1",
        published("3 1 1 KEY", ttl=7200),
        "may be held by caches",
        robot=shorter_ttl,
        args=("--dns",),
        dns=True,
    ),
    **{
        f"a record {record[:5]}": Case(
            f"dane.py:constants:{number}",
            published("3 1 1 KEY", record),
            words,
            robot=publish_what_tlsa_prints,
            args=("--dns",),
            dns=True,
        )
        for number, record, words in (
            (1, f"2 1 1 {'CD' * 32}", "names the CA's certificate"),
            (2, f"3 0 1 {'CD' * 32}", "names the certificate itself"),
            (3, "1 1 1 KEY", "is one that mail servers do not use"),
        )
    },
    "a resolver that is not believed": Case(
        "dane.py:resolver:1", no_resolver, "is ever proven to be safe", robot=a_resolver_of_ones_own, dns=True
    ),
    "a resolver that is not believed, and another": Case(
        "dane.py:resolver:1", no_resolver, "is ever proven to be safe", pick=1, robot=a_resolver, dns=True
    ),
    "a key that DANE keeps": Case(
        "certificates.py:_kept:2", due_and_published, "no next key is published", args=("--dns",), dns=True
    ),
    "keys that renewals ask for": Case(
        "dane.py:reuse_key:1", reuse("reuse_key = False\n"), "every renewal asks for a new key", args=("--dns",), dns=True
    ),
    "keys of renewals without the installer": Case(
        "dane.py:reuse_key:2", reuse("", False), "with a new key each time", args=("--dns",), dns=True
    ),
    "sessions that end often": Case(
        "dovecot.py:shutdown_clients:1",
        short_lived,
        "each reload ends every",
        robot=sessions_live_on,
        leaves=False,
        serves=False,
    ),
    "little memory": Case(
        "dovecot.py:vsz_limit:1", little_memory, "config process may use", robot=more_memory, leaves=False
    ),
    "left out of renew": Case(
        "host.py:timer:1", add(CONF, "autorenew = False\n"), "leaves this lineage out", robot=without_line
    ),
    "nothing renews": Case("host.py:_scheduled:4", cron_stops, "no line of cron was found", pick=1, robot=cron_again),
    "no hook": Case(NO_HOOK, no_hook, "does not name the installer", leaves=False),
    "no hook, written": Case(NO_HOOK, no_hook, "does not name the installer", pick=1, robot=hook_away, leaves=False),
    "a broken hook": Case(NO_HOOK, broken_hook, "does not name the installer", pick=1, robot=hook_away, leaves=False),
    "hooks are off": Case(NO_HOOK, hooks_off, "does not name the installer", pick=1, robot=without_line, leaves=False),
    "updates are off": Case(
        "host.py:renew_updates:1",
        add(CLI_INI, "disable-renew-updates = true\n"),
        "calls the installer only when",
        robot=without_line,
    ),
    "a key that others read": Case("host.py:permissions:1", mode(f"{STORE}/2026.key", 0o640), "others may read this"),
    "a folder that others write": Case("host.py:permissions:1", mode(STORE, 0o777), "others may put files there"),
    "a key of another user": Case(
        "host.py:permissions:2", lambda _bench: os.chown(f"{STORE}/2026.key", 65534, 0), "it belongs to the user"
    ),
    "self-signed in a chain": Case("certificates.py:_elsewhere:1", chain_of_own, "self-signed", leaves=False),
    "a table before ours": Case(SHADOWED, table_before_ours, "wins over the certificate", leaves=False),
    "main.cf wins": Case(SHADOWED, add(MAIN, SHADOW), "wins over the certificate", leaves=False),
    "main.cf wins, taken out": Case(SHADOWED, add(MAIN, SHADOW), "wins over the certificate", pick=1, robot=without_line),
    "a file of one year": Case(LEFT, add(MAIN, TWO), "names a file of one key year", robot=name_live, leaves=False),
    "a file of one year, port 25": Case(
        LEFT, add(MAIN, TWO), "names a file of one key year", pick=1, robot=without_both, leaves=False
    ),
    "a service of another port": Case(
        LEFT, lambda bench: service(bench, *OPTIONS), "names a file of one key year", robot=name_live, leaves=False
    ),
    "a service of another port, looked after": Case(
        LEFT, lambda bench: service(bench, *OPTIONS), "names a file of one key year", pick=1, robot=without_both, leaves=False
    ),
    "options of no service": Case(
        "postfix.py:orphan_options:1", options_of_no_service, "is commented out", robot=comment_out, leaves=False
    ),
    "options of a service that is to be": Case(
        "postfix.py:orphan_options:1", commented_out, "is commented out", pick=1, robot=head_again
    ),
    "twice in main.cf": Case("postfix.py:double_setting:1", twice, "is set here and in line", robot=once),
}
