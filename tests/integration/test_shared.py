"""A host with a web server and mail servers: one certificate for both, or one for each; judged on 443, 993 and 465."""

from __future__ import annotations

import datetime
import importlib.util
import re
import time

import pytest

from tests.integration import view
from tests.integration.test_install import NAME
from tests.integration.test_status import UNLOOKED
from tests.lab import names as name_servers
from tests.lab import nginx, packages

PORTS = (443, 993, 465)
NEW_YEAR = "2027-01-05 12:00:00"
SECURE = "mail.secure.test"
#: What status ends with if there is something to tell.
FOUND = 4
#: What no advice may say while a record of the present key counts.
NEW_KEY = "--new-key"


@pytest.fixture
def web(mailhost):
    """The host, with nginx on it."""
    if packages.missing(packages.WEB_SERVERS):
        pytest.skip("nginx is not installed")
    if importlib.util.find_spec("certbot_nginx") is None:
        pytest.skip("certbot-nginx is not installed")
    with nginx.run(f"{NAME} {SECURE}"):
        yield mailhost


@pytest.fixture
def turn(lab):
    """Call it, and it is the new year for the CA too: the year of a key is that of its first certificate."""
    yield lambda: lab.acme.date(datetime.datetime.fromisoformat(f"{NEW_YEAR}+00:00").timestamp() - 3600)
    lab.acme.date(time.time())


def served(host, name: str = NAME) -> dict[int, tuple[str, str]]:
    """Port to leaf and key."""
    return {port: (answer.digest, answer.spki) for port in PORTS for answer in [host.served(port, sni=name)]}


def live(name: str) -> tuple[str, str]:
    return view.live_leaf(name), view.spki(f"/etc/letsencrypt/live/{name}/cert.pem")


def status(host, *args: str, at=None):
    return host.run("certbot-dovecot", "status", *args, at=at, check=False)


def advised(text: str, behind: str) -> list[str]:
    """The command that stands behind some words, up to the stop."""
    found = re.search(rf"{re.escape(behind)}\s*(certbot[^\n]*?)(?:\.\s|\.$|$)", text, re.MULTILINE)
    assert found, text
    return found[1].replace("'", "").split(" ")


def do(host, command: list[str], at=None):
    """Do as told; the lab's CA is no Let's Encrypt, which is all that is added."""
    more = ["--server", host.acme] if command[1] == "reconfigure" else []
    return host.run(command[0], *command[1:], *more, at=at) if command[0] != "certbot" else host.certbot(
        *command[1:], *more, at=at
    )


def conf(name: str) -> str:
    return view.read(f"/etc/letsencrypt/renewal/{name}.conf").decode()


def test_a_shared_lineage_keeps_its_key_all_year_and_changes_it_once_in_the_next(web, turn):
    web.certbot("--nginx", "-d", NAME)
    shown = web.certbot("install", "--installer", "dovecot", "--cert-name", NAME).stdout
    assert "is shared with nginx. A certificate of its own for mail is better" in shown
    assert set(served(web).values()) == {live(NAME)}
    keep = advised(shown, "To keep the key all year:")
    # Without that, the key is lost at every renewal, and status and doctor say so until it is done.
    first = live(NAME)
    assert web.certbot("renew", "-q", "--force-renewal").stderr == ""
    assert live(NAME)[1] != first[1]
    said = status(web)
    assert said.code == FOUND
    assert "every renewal takes a new key" in said.stdout
    assert advised(said.stdout, "To keep the key:") == keep
    assert " ".join(keep) in web.run("certbot-dovecot", "doctor", check=False).stdout
    key = live(NAME)[1]
    do(web, keep)
    assert "installer = nginx" in conf(NAME)
    assert "reuse_key = True" in conf(NAME)
    assert live(NAME)[1] == key
    assert (status(web).code, status(web).stdout.splitlines()[-1]) == (0, UNLOOKED)
    assert "reuse-key: " not in web.run("certbot-dovecot", "doctor", check=False).stdout
    for _ in range(2):
        old = live(NAME)
        web.certbot("renew", "-q", "--force-renewal")
        assert live(NAME) != old
        assert set(served(web).values()) == {(view.live_leaf(NAME), key)}
    # The new year: certbot keeps the key, and it is said that a change is due.
    turn()
    web.certbot("renew", "-q", "--force-renewal", at=NEW_YEAR)
    assert set(served(web).values()) == {(view.live_leaf(NAME), key)}
    told = web.certbot("renew", "--force-renewal", at=NEW_YEAR)
    assert "a new key is due, for the present one is of 2026" in told.stdout + told.stderr
    # The DNS was asked just now, by the hook.
    said = status(web, at=NEW_YEAR)
    assert said.code == FOUND
    change = advised(said.stdout, "To change it now:")
    asked = web.run("certbot-dovecot", "doctor", "--dns", at=NEW_YEAR, check=False).stdout
    assert " ".join(change) in asked
    do(web, change, at=NEW_YEAR)
    new = live(NAME)[1]
    assert new != key
    assert set(served(web).values()) == {(view.live_leaf(NAME), new)}
    assert status(web, at=NEW_YEAR).code == 0
    web.certbot("renew", "-q", "--force-renewal", at="2027-01-06 12:00:00")
    assert set(served(web).values()) == {(view.live_leaf(NAME), new)}


@pytest.mark.long
def test_a_lineage_of_its_own_for_mail_is_the_better_way(web, turn):
    web.certbot("--nginx", "-d", NAME)
    shown = web.certbot("install", "--installer", "dovecot", "--cert-name", NAME).stdout
    do(web, advised(shown, "and the same timer renews both:"))
    mail = f"{NAME}-mail"
    assert served(web) == {443: live(NAME), 993: live(mail), 465: live(mail)}
    # The servers have left the first one, which is said until its next renewal; nothing else is said of it.
    assert "reuse_key" not in status(web).stdout
    web_key, mail_key = live(NAME)[1], live(mail)[1]
    for _ in range(2):
        web.certbot("renew", "-q", "--force-renewal")
        assert served(web) == {443: live(NAME), 993: live(mail), 465: live(mail)}
    assert status(web).code == 0
    assert live(NAME)[1] != web_key
    assert live(mail)[1] == mail_key
    turn()
    said = web.certbot("renew", "-q", "--force-renewal", at=NEW_YEAR).stderr
    assert served(web) == {443: live(NAME), 993: live(mail), 465: live(mail)}
    assert live(mail)[1] != mail_key
    assert f"3 1 1 {live(mail)[1]}" in said
    assert status(web, at=NEW_YEAR).code == 0


@pytest.mark.skipif(bool(packages.missing(packages.NAME_SERVERS)), reason="it needs name servers")
@pytest.mark.long
def test_a_new_key_under_published_records_is_critical_until_the_dns_follows(web, names, turn):
    web.certbot("--nginx", "-d", SECURE)
    install = ("install", "--installer", "dovecot", "--cert-name", SECURE)
    web.certbot(*install, "--dovecot-resolver", name_servers.CACHE, "--dovecot-postfix-services", "all")
    first = live(SECURE)[1]

    def publish(key: str) -> None:
        names.replace("secure.test", {f"_{port}._tcp.{SECURE}.": [f"3 1 1 {key}"] for port in (25, 993)})
        names.catch_up()
        names.flush()

    publish(first)
    assert "only a former one" not in status(web, "--dns").stdout
    shown = web.certbot("renew", "--force-renewal")
    second = live(SECURE)[1]
    assert second != first
    # A hook is heard without -q only.
    assert "match only a former one" in shown.stdout + shown.stderr
    quiet = web.certbot("renew", "-q", "--force-renewal")
    assert (quiet.code, quiet.stdout, quiet.stderr) == (0, "", "")
    key = live(SECURE)[1]
    said = status(web)
    assert said.code == FOUND
    wanted = f"TLSA records of _25._tcp.{SECURE}., _993._tcp.{SECURE}. match only a former one. Publish 3 1 1 {key} there now"
    assert wanted in said.stdout
    assert status(web, "--nagios").code == 2
    # What it says, done: the DNS, then the command.
    publish(key)
    do(web, advised(said.stdout, "there now; then")[:3])
    assert "only a former one" not in status(web).stdout
    # A new year, the key kept: no advice to change it while its records are published.
    do(web, advised(status(web).stdout, "To keep the key:"))
    names.set_clock(NEW_YEAR)
    turn()
    told = web.certbot("renew", "--force-renewal", at=NEW_YEAR)
    assert live(SECURE)[1] == key
    told = told.stdout + told.stderr
    due = status(web, at=NEW_YEAR)
    doctor = web.run("certbot-dovecot", "doctor", at=NEW_YEAR, check=False)
    for text in (told, due.stdout, doctor.stdout):
        assert f"certbot-dovecot standby {SECURE}" in text
        assert NEW_KEY not in text


def test_a_shared_lineage_without_directory_hooks_gets_a_hook_of_its_own(web):
    """The remedy must not take the web server's installer away."""
    web.certbot("--nginx", "-d", NAME, "--reuse-key")
    web.certbot("install", "--installer", "dovecot", "--cert-name", NAME)
    web.append("/etc/letsencrypt/cli.ini", "no-directory-hooks = true\n")
    said = status(web)
    assert said.code == FOUND
    assert "its renewals do not reach the servers: directory hooks are switched off" in said.stdout
    assert "installer dovecot" not in said.stdout
    options, hook = re.search(r"or give it a hook of its own: (certbot .*?) --deploy-hook '(.*?)'", said.stdout).groups()
    do(web, [*options.split(), "--deploy-hook", hook])
    assert status(web).code == 0
    web.certbot("renew", "-q", "--force-renewal")
    assert set(served(web).values()) == {live(NAME)}
    assert "installer = nginx" in conf(NAME)
