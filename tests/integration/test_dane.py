"""The closed loop on a real host with real name servers: a standby, its record, the switch of a new year, and the emergency.

The zone ``secure.test`` is signed.  Its secondary hears of an update only when it is told to catch up.
"""

from __future__ import annotations

import json
import os
import re

from certbot_dovecot.dane import publish, update
from tests.integration import view
from tests.integration.conftest import CREDENTIALS
from tests.lab import names as name_servers

NAME = "mail.secure.test"
OTHER = f"{NAME}-standby"
HOME = "/etc/letsencrypt/dovecot"
LIVE = "/etc/letsencrypt/live"
INSTALL = ("--installer", "dovecot", "-a", "standalone", "-d", NAME, "--dovecot-resolver", name_servers.CACHE)
RFC2136 = ("--dovecot-publish-rfc2136", CREDENTIALS)
#: Proven after two days; a new year.
LATER, NEW_YEAR = "2026-12-20 12:00:00", "2027-01-02 12:00:00"
#: Looks that are never farther apart than two days, up to the new year.
TIMER = ("2026-12-30 12:00:00", "2026-12-31 20:00:00")


def renew(host, servers, at: str, *more: str):
    """The timer's run, at a time of its own, which is the primary name server's too."""
    for before in TIMER if at == NEW_YEAR else ():
        renew(host, servers, before)
    if at == NEW_YEAR:
        # No cache holds a set of last year.
        servers.flush()
    servers.set_clock(at)
    return host.certbot("renew", "-q", *more, at=at)


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
    renew(mailhost, names, LATER)
    assert ledger()["evidence"]["since"].startswith("2026-12-20")
    # The new year: proven, so the servers change; the old record goes.
    renew(mailhost, names, NEW_YEAR)
    assert served(mailhost) == {second}
    assert stands(names, 993) & {first, second} == {second}
    assert ledger()["turns"][0][1:3] == [OTHER, second]
    # The former one takes a new key at its next renewal, and is the standby; what is served keeps its key.
    renew(mailhost, names, "2027-02-01 12:00:00", "--force-renewal")
    third = key_of(NAME)
    assert third not in (first, second)
    assert key_of(OTHER) == second
    assert served(mailhost) == {second}
    assert stands(names, 993) & {first, second, third} == {second, third}
    renew(mailhost, names, "2027-02-10 12:00:00", "--force-renewal")
    assert (key_of(NAME), key_of(OTHER)) == (third, second)


def test_by_hand_without_a_standby_the_key_stays(mailhost, names):
    mailhost.certbot(*INSTALL)
    first = key_of(NAME)
    names.update("secure.test", *((f"_{port}._tcp.mail", f"3 1 1 {first}") for port in (993, 587)))
    names.catch_up()
    done = mailhost.certbot("renew", "-q", "--force-renewal", at=NEW_YEAR)
    # The renewal succeeds, and says what makes the rotation safe; once a day.
    assert f"certbot-dovecot standby {NAME}" in done.stderr
    assert (key_of(NAME), served(mailhost)) == (first, {first})
    assert mailhost.certbot("renew", "-q", "--force-renewal", at="2027-01-02 20:00:00").stderr == ""
    assert "certbot-dovecot standby" in mailhost.certbot("renew", "-q", "--force-renewal", at="2027-01-03 20:00:00").stderr
    # So it does where a new key is asked for; what the admin forces is done, with a warning.
    done = mailhost.certbot("renew", "-q", "--force-renewal", "--new-key", at="2027-01-04 11:00:00")
    assert "the key stays, although a new one is asked for" in done.stderr
    assert (key_of(NAME), served(mailhost)) == (first, {first})
    done = mailhost.certbot("renew", "-q", "--force-renewal", "--new-key", "--dovecot-force", at="2027-01-04 12:00:00")
    assert "the key changes, as you say" in done.stderr
    assert key_of(NAME) != first


def test_by_hand_with_a_standby(mailhost, names):
    mailhost.certbot(*INSTALL)
    first = key_of(NAME)
    names.update("secure.test", ("_993._tcp.mail", f"3 1 1 {first}"), ("_dane", f"3 1 1 {first}"))
    made = mailhost.run("certbot-dovecot", "standby", NAME)
    second = key_of(OTHER)
    # As long as the set lives, not longer.
    line = f"_993._tcp.{NAME}. {name_servers.TTL} IN TLSA 3 1 1 {second}"
    assert line in made.stderr
    # Forgotten: the year turns, and nothing changes; the admin is told every day what is missing.
    told = mailhost.certbot("renew", "-q", "--force-renewal", at=NEW_YEAR)
    assert line in told.stderr
    assert (key_of(NAME), key_of(OTHER), served(mailhost)) == (first, second, {first})
    assert line not in mailhost.certbot("renew", "-q", at="2027-01-03 08:00:00").stderr
    # Added: after the floor the next run switches.
    names.update("secure.test", ("_993._tcp.mail", f"3 1 1 {second}"), ("_dane", f"3 1 1 {second}"))
    names.catch_up()
    mailhost.certbot("renew", "-q", at="2027-01-04 12:00:00")
    assert served(mailhost) == {first}
    assert mailhost.run("certbot-dovecot", "rollover", NAME, at="2027-01-05 12:00:00", check=False).code == 3
    told = mailhost.certbot("renew", "-q", at="2027-01-06 12:01:00")
    assert served(mailhost) == {second}
    assert f"_993._tcp.{NAME}. {name_servers.TTL} IN TLSA 3 1 1 {first}" in told.stderr
    assert "remove them from the DNS" in told.stderr


def test_dns_that_does_not_answer_keeps_the_key(mailhost):
    refused = mailhost.certbot(*INSTALL, check=False)
    assert "could not be found" in refused.stderr
    told = re.search("If no TLSA records are published for these hosts, make the change with (certbot .*)[.]\n", refused.stderr)
    # As it is printed: it has what was said, which nothing remembers yet.
    mailhost.certbot(*told.group(1).split()[1:])
    first = key_of(NAME)
    done = mailhost.certbot("renew", "-q", "--force-renewal", at=NEW_YEAR)
    assert "could not be found" in done.stderr
    assert key_of(NAME) == first
    mailhost.certbot(*INSTALL, "--dovecot-dane", "off", "--keep-until-expiring")
    mailhost.certbot("renew", "-q", "--force-renewal", at="2027-01-05 12:00:00")
    assert key_of(NAME) != first


def test_a_bogus_zone_keeps_the_key(mailhost, names):
    mailhost.certbot(*INSTALL[:-4], "-d", "mail.bogus.test", *INSTALL[-2:], "--dovecot-force")
    first = key_of("mail.bogus.test")
    done = mailhost.certbot("renew", "-q", "--force-renewal", at=NEW_YEAR)
    assert "does not validate" in done.stderr
    assert key_of("mail.bogus.test") == first


def test_the_emergency(mailhost, names):
    mailhost.certbot(*INSTALL, *RFC2136)
    mailhost.run("certbot-dovecot", "standby", NAME)
    first, second = key_of(NAME), key_of(OTHER)
    done = mailhost.run("certbot-dovecot", "rollover", NAME, "--now", "--reason", "a stolen backup")
    assert served(mailhost) == {second}
    assert "Caches may hold the record of the old key for" in done.stdout
    # Nobody had proven the next record: that is said, with the seconds.
    assert "senders that hold an older set defer their mail" in done.stderr
    # The lost key is replaced, and the new one comes next.
    third = key_of(NAME)
    assert third not in (first, second)
    assert stands(names, 993) & {first, second, third} == {second, third}
    assert ledger()["turns"][0][3] == "a stolen backup"


def test_the_emergency_while_the_ca_and_the_dns_are_down(mailhost, names):
    mailhost.certbot(*INSTALL)
    mailhost.run("certbot-dovecot", "standby", NAME)
    first, second = key_of(NAME), key_of(OTHER)
    mailhost.write("/etc/letsencrypt/cli.ini", view.read("/etc/letsencrypt/cli.ini").decode().replace("14000", "1"))
    mailhost.write("/etc/resolv.conf", "nameserver 127.0.0.99\n")
    done = mailhost.run("certbot-dovecot", "rollover", NAME, "--now", "--reason", "lost")
    mailhost.write("/etc/resolv.conf", "nameserver 127.0.0.1\n")
    assert served(mailhost) == {second}
    assert "not replaced yet" in done.stderr
    assert key_of(NAME) == first


def test_a_standby_removed(mailhost, names):
    mailhost.certbot(*INSTALL, *RFC2136)
    mailhost.run("certbot-dovecot", "standby", NAME)
    second = key_of(OTHER)
    assert second in stands(names, 993)
    mailhost.run("certbot-dovecot", "standby", NAME, "--remove")
    assert second not in stands(names, 993)
    assert key_of(NAME) in stands(names, 993)
    assert not os.path.exists(f"{LIVE}/{OTHER}")
    assert not os.path.exists(f"{HOME}/{OTHER}")
    assert mailhost.run("certbot-dovecot", "standby", NAME, "--remove", check=False).code == 1


def test_a_program_publishes(mailhost, names):
    """``--dovecot-publish-command``: a program of the admin's gets the changes as JSON."""
    program, out = "/etc/letsencrypt/publish", "/etc/letsencrypt/published.json"
    mailhost.write(program, f"#!/bin/sh\ncat > {out}\n")
    os.chmod(program, 0o755)
    mailhost.certbot(*INSTALL, "--dovecot-publish-command", program)
    mailhost.certbot("renew", "-q")
    told = {one["owner"]: one for one in json.loads(view.read(out))["changes"]}
    assert told[f"_993._tcp.{NAME}."]["add"] == [f"3 1 1 {key_of(NAME)}"]
    mailhost.write(program, "#!/bin/sh\ncat > /dev/null; echo no luck >&2; exit 3\n")
    failed = mailhost.certbot("renew", "-q", at="2026-11-30 12:00:00", check=False)
    assert failed.code == 1
    assert "exit code 3 (no luck)" in failed.stderr


def test_d13_port_25_that_serves_the_lineages_own_files(mailhost, names):
    """A main.cf that names certbot's live files: a record for port 25 would stop mail if that key changed."""
    mailhost.certbot(*INSTALL)
    names.update("secure.test", ("_25._tcp.mail", f"3 1 1 {key_of(NAME)}"))
    names.catch_up()
    first = key_of(NAME)
    done = mailhost.certbot("renew", "-q", "--force-renewal", at=NEW_YEAR)
    assert "_25._tcp.mail.secure.test. has a record of this key" in done.stderr
    assert key_of(NAME) == first


def test_the_dns_is_asked_once_in_six_hours(mailhost, names):
    mailhost.certbot(*INSTALL)
    mailhost.run("certbot-dovecot", "standby", NAME)
    mailhost.certbot("renew", "-q", at="2026-12-01 00:00:00")
    asked = ledger()["asked"]
    mailhost.certbot("renew", "-q", at="2026-12-01 05:59:00")
    assert ledger()["asked"] == asked
    mailhost.certbot("renew", "-q", at="2026-12-01 06:01:00")
    assert ledger()["asked"] != asked


def test_d26_a_host_that_was_down_does_not_switch_at_its_first_look(mailhost, names):
    """The next record was out in December and in again, and nobody saw it: T0 begins anew, and that is said."""
    mailhost.certbot(*INSTALL)
    first = key_of(NAME)
    names.update("secure.test", ("_993._tcp.mail", f"3 1 1 {first}"), ("_dane", f"3 1 1 {first}"))
    mailhost.run("certbot-dovecot", "standby", NAME)
    second = key_of(OTHER)
    names.update("secure.test", ("_993._tcp.mail", f"3 1 1 {second}"), ("_dane", f"3 1 1 {second}"))
    names.catch_up()
    mailhost.certbot("renew", "-q", at="2026-11-28 12:00:00")
    mailhost.certbot("renew", "-q", at="2026-11-30 11:00:00")
    since = ledger()["evidence"]["since"]
    told = mailhost.certbot("renew", "-q", at=NEW_YEAR)
    assert served(mailhost) == {first}
    assert ledger()["evidence"]["since"] > since
    assert "not seen as a whole between 2026-11-30 11:00 and 2027-01-02 12:00 UTC" in told.stderr
    mailhost.certbot("renew", "-q", at="2027-01-03 12:00:00")
    mailhost.certbot("renew", "-q", at="2027-01-04 12:01:00")
    assert served(mailhost) == {second}


def test_a_switch_that_is_done_is_said_to_be_done_when_publishing_fails(mailhost, names):
    program, broken = "/etc/letsencrypt/publish", "/etc/letsencrypt/broken"
    mailhost.write(program, f"#!/bin/sh\ncat > /dev/null\ntest ! -e {broken} || {{ echo no luck >&2; exit 3; }}\n")
    os.chmod(program, 0o755)
    mailhost.certbot(*INSTALL, "--dovecot-publish-command", program)
    mailhost.certbot("renew", "-q")
    mailhost.run("certbot-dovecot", "standby", NAME)
    first, second = key_of(NAME), key_of(OTHER)
    for key in (first, second):
        ports = [(f"_{port}._tcp.mail", f"3 1 1 {key}") for port in (110, 143, 587, 993, 995, 4190)]
        names.update("secure.test", *ports, ("_dane", f"3 1 1 {key}"))
    names.catch_up()
    for at in TIMER:
        mailhost.certbot("renew", "-q", at=at)
    mailhost.write(broken, "")
    failed = mailhost.certbot("renew", "-q", at=NEW_YEAR, check=False)
    assert failed.code == 1
    assert served(mailhost) == {second}
    assert f"the servers serve the key of {OTHER} now (3 1 1 {second}). What belongs to it in the DNS" in failed.stderr
    assert "no luck" in failed.stderr
