"""How keys are rolled: the ways that others have, to compare with, and ours.

Two of the others must fail, or the rehearsal proves nothing:

* *replace at once* (LetsDNS, Stalwart): a renewal takes a new key, and the record set is replaced in one update.  Caches hold
  the old set until it runs out.
* *a fixed two days, one resolver* (danebot): the next record is published, one resolver is asked until it shows it, two days
  are waited, the servers switch.  A name server that lags is never asked.

* *by the book* is the second one with the right question: every name server is asked.  It must not fail, or the judge is worth
  nothing.

All of them use this installer for what they have none for, the servers, with its own care for the DNS switched off, where it
has any.

*Ours* is :func:`begin` once, and then the timer of certbot (:func:`timer`): nothing else.
"""

from __future__ import annotations

import datetime
import glob
import os
import re
import shutil
import time
from collections.abc import Sequence
from typing import Optional, Union

import dns.message
import dns.query

from certbot_dovecot import bundle as bundles
from certbot_dovecot import files
from tests.lab.commands import Failed, Result
from tests.lab.names import PRIMARY, SECONDARY
from tests.rehearsal.world import INI, NAME, PORTS, RESOLVER, World

STANDBY = f"{NAME}-standby"
#: Where ours files the records that belong into the zone.
ZONE_FILE = f"/etc/letsencrypt/dovecot/{NAME}/tlsa.zone"
_INSTALL = ("--installer", "dovecot", "-a", "standalone", "-d", NAME)
_OFF = ("--dovecot-dane", "off")
_LINE = re.compile(r"(?m)^_(\d+)\._tcp\.\S+ \d+ IN TLSA ([^;\n]+?) *(?:;.*)?$")


def day(text: str) -> datetime.datetime:
    """``2031-01-01``, or with a time of the day, ``2031-01-01 00:30``."""
    form = "%Y-%m-%d %H:%M" if " " in text else "%Y-%m-%d"
    return datetime.datetime.strptime(text, form).replace(tzinfo=datetime.timezone.utc)


def hours(number: float) -> datetime.timedelta:
    return datetime.timedelta(hours=number)


def served(world: World, port: int = 465) -> str:
    """The key that a port serves now: SHA-256 of its SubjectPublicKeyInfo."""
    return world.host.served(port).spki or ""


def key_of(lineage: str) -> str:
    """The key of a lineage, likewise."""
    path = f"/etc/letsencrypt/live/{lineage}/cert.pem"
    return bundles.spki_of(bundles.leaf_of(files.read(path), path))


def renewals() -> int:
    """How many certificates of all lineages are not the first of their lineage."""
    numbers = [
        max(int(re.sub(r"\D", "", os.path.basename(path))) for path in glob.glob(f"{archive}/cert*.pem"))
        for archive in glob.glob("/etc/letsencrypt/archive/*")
    ]
    return sum(numbers) - len(numbers)


def sure(true: bool, text: str) -> None:
    """A scenario is as it should be.

    :raises Failed: it is not.
    """
    if not true:
        raise Failed(text)


# What others do.


def replace_at_once(world: World) -> None:
    """A new key at the first renewal of a year, and its record in the place of the old one, at once."""
    world.certbot(*_INSTALL, *_OFF)
    old = served(world)
    _publish(world, old)
    # The certificate of November is due from January 19 on.
    world.until(day("2031-01-25 06:00"))
    world.certbot("renew", "-q")
    sure(served(world) == key_of(NAME) != old, "the servers do not serve a new key")
    _publish(world, served(world))
    for _ in range(3):
        world.advance(hours(40))


def fixed_two_days(world: World) -> None:
    """The next record, one resolver, two days, the switch; the secondary does not hear of it."""
    _two_lineages(world, (RESOLVER,), None)


def by_the_book(world: World) -> None:
    """The same, but every name server is asked: one hears of it a week later.  It takes longer, and no mail is lost."""
    _two_lineages(world, (PRIMARY, SECONDARY), hours(7 * 24))


def _two_lineages(world: World, asked: Sequence[str], lag: Optional[datetime.timedelta]) -> None:
    """Publish, ask until all who are asked show it, wait for two days, switch."""
    world.certbot(*_INSTALL, *_OFF)
    old = served(world)
    _publish(world, old)
    world.until(day("2030-12-30"))
    world.lag = lag
    world.certbot("certonly", "-a", "standalone", "-d", NAME, "--cert-name", "following")
    following = key_of("following")
    _publish(world, old, following)
    for server in asked:
        _until_shown(world, server, following)
    world.advance(hours(48))
    world.certbot("install", "--cert-name", "following", "--installer", "dovecot", *_OFF)
    sure(served(world) == following, "the servers do not serve the other lineage")
    _publish(world, following)
    world.advance(hours(48))
    world.advance(hours(48))


def _publish(world: World, *keys: str) -> None:
    """Put the records of keys in the place of what is there, at every port that serves the first or the last of them."""
    ports = [port for port in PORTS if served(world, port) in keys]
    world.publish({port: [f"3 1 1 {key}" for key in keys] for port in ports})


def _until_shown(world: World, server: str, key: str, seconds: float = 60) -> None:
    """Wait until a resolver or a name server shows the record of a key."""
    deadline, question = time.monotonic() + seconds, dns.message.make_query(f"_465._tcp.{NAME}", "TLSA")
    while key not in dns.query.udp(question, server, 3).to_text().upper():
        sure(time.monotonic() < deadline, f"{server} never shows the next record")
        time.sleep(0.2)
    world.say(f"{server} shows the next record")


# What ours does.


def begin(
    world: World, by_hand: bool = False, standby: bool = True, options: tuple[str, ...] = (), paste_it: bool = True
) -> None:
    """The first certificate, its records, and a standby whose records are published by update, or by an admin's hand.

    :param paste_it: whether an admin publishes what stands in ``tlsa.zone``.
    """
    how = () if by_hand else ("--dovecot-publish-rfc2136", INI)
    chosen = ("--dovecot-resolver", RESOLVER, "--dovecot-postfix-services", "all", *how, *options)
    world.certbot(*_INSTALL, *chosen)
    if by_hand and paste_it:
        paste(world)
    if standby:
        add_standby(world)


def add_standby(world: World) -> Result:
    """Make the standby."""
    result = world.run("certbot-dovecot", "standby", NAME)
    sure(key_of(STANDBY) != key_of(NAME), "the standby has the same key")
    return result


def paste(world: World) -> None:
    """What an admin does: put the lines of ``tlsa.zone`` in the place of the record sets."""
    with open(ZONE_FILE) as file:
        found = _LINE.findall(file.read())
    sets: dict[int, list[str]] = {}
    for port, data in found:
        sets.setdefault(int(port), []).append(data)
    sure(bool(sets), f"{ZONE_FILE} has no records")
    world.publish(sets)


def timer(
    world: World, until: Union[str, datetime.timedelta], every: float = 29 * 24, expect: Optional[int] = None
) -> list[Result]:
    """Run ``certbot renew -q`` now and then, until a date, or for some time; around each new year, day by day.

    :param every: hours in between.
    :param expect: the exit code of each; None for any.
    """
    end, results = day(until) if isinstance(until, str) else world.now() + until, []
    while world.now() < end:
        results.append(world.certbot("renew", "-q", check=False))
        code = results[-1].code
        sure(expect is None or code == expect, f"{world.now():%Y-%m-%d}: certbot renew ends with {code}\n{results[-1]}")
        world.until(min(_next(world.now(), every), end))
    return results


def _next(now: datetime.datetime, every: float) -> datetime.datetime:
    """The next run of the timer: a date, and those around a new year before it."""
    date = now + hours(every)
    for year in (now.year, now.year + 1):
        for around in ("01-01 00:30", "01-02 12:30", "01-04 06:30", "01-06 06:30", "12-30 12:30"):
            special = day(f"{year}-{around}")
            if now < special < date:
                date = special
    return date


def killed(world: World, number: int) -> bool:
    """Run the timer's command once, and kill it (SIGKILL) right before it renames a file for the ``number``-th time.

    :returns: whether it came to that.
    """
    # certbot renames its logs, one more at every run: without them, the numbers are the same each time.
    shutil.rmtree("/var/log/letsencrypt", ignore_errors=True)
    calls = "rename,renameat,renameat2"
    under = ("strace", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e", f"inject={calls}:signal=SIGKILL:when={number}")
    result = world.run("certbot", "renew", "-q", check=False, under=under)
    # faketime is its parent, and says it in words.
    return result.code in (-9, 137) or "Caught Killed" in result.stderr
