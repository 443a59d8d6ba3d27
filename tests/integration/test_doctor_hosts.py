"""``certbot-dovecot doctor`` on hosts of their own: as just installed, and with certificates of other kinds."""

from __future__ import annotations

import json
import os
import resource
import time

from certbot_dovecot import bundle as bundles
from certbot_dovecot.servers import sni_map
from certbot_dovecot.servers.contract import Pair
from tests.integration import view
from tests.integration.sound import CONF, LOCAL, MAIN, WATCHED, checks, doctor, findings, only, trust
from tests.integration.test_install import INSTALL, NAME, STORE


def test_a_fresh_host_has_nothing(mailhost):
    before = mailhost.snapshot(*WATCHED)
    result = mailhost.run("certbot-dovecot", "doctor", check=False)
    assert (result.code, result.stderr) == (0, "")
    assert result.stdout.startswith("Nothing found. Looked for, not found: configuration, missing-files, ")
    assert "(no certificate is installed).\n" in result.stdout
    assert view.changed(before, mailhost.snapshot(*WATCHED)) == set()


def test_a_fresh_install_on_the_lab_has_what_is_true_of_the_lab(mailhost):
    """Nothing renews anything there, and its CA is Pebble."""
    mailhost.certbot(*INSTALL)
    result = mailhost.run("certbot-dovecot", "doctor", check=False)
    assert result.code == 4
    timer, chain, summary = result.stdout.split("\n\n")
    assert timer.startswith("WARNING  timer: no timer of systemd and no line of cron was found")
    assert chain.startswith(f"WARNING  chain: {NAME}: it is from a CA for tests (CN=Pebble Root CA ")
    assert f"({STORE}/2026.pem)\n    Get one from the CA itself" in chain
    assert summary.startswith("2 warnings. Looked for, not found: configuration, ")
    assert "\x1b" not in result.stdout


def test_old_clients_are_served_with_an_rsa_certificate(mailhost):
    mailhost.certbot(*INSTALL, "--key-type", "rsa")
    trust()
    mailhost.append(LOCAL, "ssl_min_protocol = TLSv1\nssl_cipher_list = aRSA\n")
    mailhost.restart("dovecot")
    assert checks(mailhost) == ["warning timer"]


def test_an_own_ca_is_a_note(mailhost, ca):
    paths = ca.leaf([NAME]).write("/etc/letsencrypt")
    mailhost.certbot(
        "install", "--installer", "dovecot", "--cert-path", paths.cert, "--key-path", paths.key, "--chain-path", paths.chain,
        "--fullchain-path", paths.fullchain, "-d", NAME,
    )  # fmt: skip
    trust()
    one = only(mailhost)
    assert (one["check"], one["severity"], one["lineage"]) == ("chain", "note", f"{NAME}-external")
    with open("/run/lab/trusted.pem", "ab") as file:
        file.write(ca.root.cert_pem)
    assert findings(mailhost) == []


def many(host, ca, count):
    """So many lineages more, as installs would leave them, each with a name that Dovecot and Postfix serve it for."""
    conf, state = view.read(CONF).decode(), json.loads(view.read(f"{STORE}/state.json"))
    blocks, table = "", {}
    for number in range(count):
        name = f"n{number}.example.test"
        live, place, made = f"/etc/letsencrypt/live/{name}", f"/etc/letsencrypt/dovecot/{name}", ca.leaf([name])
        for directory in (live, place):
            os.mkdir(directory)
        for path, data in (
            (f"{live}/cert.pem", made.cert_pem),
            (f"{live}/chain.pem", made.chain_pem),
            (f"{live}/fullchain.pem", made.fullchain_pem),
            (f"{live}/privkey.pem", made.key_pem()),
            (f"{place}/2026.pem", made.fullchain_pem),
            (f"{place}/2026.key", made.key_pem()),
        ):
            with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
                file.write(data)
        spki = bundles.spki_of(made.cert)
        host.write(f"{place}/state.json", json.dumps({**state, "years": {spki: 2026}, "spki": spki}))
        host.write(f"/etc/letsencrypt/renewal/{name}.conf", conf.replace(NAME, name))
        blocks += f"local_name {name} {{\n{view.tls(f'{place}/2026.pem', f'{place}/2026.key', '  ')}}}\n"
        table[name] = Pair(f"{place}/2026.pem", f"{place}/2026.key")
    host.write(LOCAL, blocks)
    host.write("/etc/postfix/certbot-dovecot-sni", sni_map.dump(sni_map.Table(table)).decode())
    host.append(MAIN, "tls_server_sni_maps = regexp:/etc/postfix/certbot-dovecot-sni\n")


def test_a_hundred_lineages_take_less_than_three_seconds(mailhost, ca):
    mailhost.certbot(*INSTALL)
    trust()
    many(mailhost, ca, 100)
    with open("/run/lab/trusted.pem", "ab") as file:
        file.write(ca.root.cert_pem)
    taken, computed = [], []
    for _ in range(3):
        begin, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        result = doctor(mailhost)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(time.monotonic() - begin)
        computed.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    # Many lineages mean many reloads, and nothing renews them on the lab; all else is in order.
    assert checks(mailhost) == ["note shutdown-clients", "warning timer"], result.stdout
    assert min(computed) < 3
    # By the clock, too, but where others have the processors.
    assert min(taken) < 3 or os.getloadavg()[0] > 3 * (os.cpu_count() or 1), taken
    assert checks(mailhost, "n7.example.test") == ["warning timer"]
