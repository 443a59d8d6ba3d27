"""What is rehearsed: years of renewals, and what goes wrong in them.

Each scenario is played in a process of its own, under the eyes of the judge, and ends with a :class:`Result`.  A comparison
must end with mail lost, everything else without, and with the switches that it should have made: a key that never changes is
safe too, and not what was promised.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.lab import second
from tests.lab.ca import DAY
from tests.lab.commands import Failed
from tests.rehearsal import strategies
from tests.rehearsal import world as worlds
from tests.rehearsal.judge import WAYS, Judge
from tests.rehearsal.strategies import add_standby, begin, day, hours, paste, served, sure, timer
from tests.rehearsal.world import NAME, PORTS, World


@dataclass(frozen=True)
class Scenario:
    """One.

    :param title: for the table.
    :param play: plays it.
    :param switches: how often the key must change, once there are records.
    :param fails: whether it is a comparison, which must lose mail.
    :param world: parameters of :func:`tests.rehearsal.world.enter`.
    """

    title: str
    play: Callable[[World], None]
    switches: int
    fails: bool = False
    world: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """How one ended.

    :param years: that passed by the calendar.
    :param looks: way of the judge to its looks.
    :param failures: moments without a matching record, as text.
    :param waits: looks that got no answer, so that mail waited.
    :param error: why it was not played to its end, or not as it should; empty if it was.
    """

    title: str
    fails: bool
    years: float
    renewals: int
    looks: dict[str, int]
    waits: dict[str, int]
    failures: list[str]
    switches: int
    verdict: str
    error: str
    seconds: float
    story: list[str]

    @property
    def good(self) -> bool:
        """Whether it ended as it must."""
        return not self.error and (self.verdict.startswith("mail lost") if self.fails else self.verdict == "safe")


def play(name: str) -> Result:
    """Play one, in this process, which must not have entered a lab.

    :raises Unavailable: packages or permissions are missing.
    """
    scenario, began = SCENARIOS[name], time.monotonic()
    with worlds.enter(**scenario.world) as world:
        judge, error = Judge(world), ""
        with judge.looking():
            try:
                scenario.play(world)
                sure(judge.switches == scenario.switches, f"{judge.switches} switches instead of {scenario.switches}")
            except Exception as exc:
                error = str(exc) if isinstance(exc, Failed) else f"{type(exc).__name__}: {exc}"
            world.say(f"at the end port 465 serves {served(world)[:8]}, its records are {world.records()}")
        return Result(
            scenario.title,
            scenario.fails,
            round((world.now() - worlds.BEGIN) / datetime.timedelta(days=365.25), 1),
            strategies.renewals(),
            {way: judge.looks[way] for way in WAYS},
            {way: judge.waits[way] for way in WAYS},
            [str(failure) for failure in judge.failures],
            judge.switches,
            judge.verdict(),
            error,
            round(time.monotonic() - began, 1),
            [f"{date:%Y-%m-%d %H:%M} {text}" for date, text in world.story],
        )


def as_dict(result: Result) -> dict[str, Any]:
    """For JSON."""
    return asdict(result)


def _years(world: World) -> None:
    """RFC 2136, and a secondary that is always three days late."""
    world.lag = hours(72)
    begin(world)
    ports = [port for port in PORTS if served(world, port) == served(world)]
    for year in (2031, 2032, 2033, 2034):
        timer(world, f"{year - 1}-12-31 23:00", expect=0)
        key = served(world)
        timer(world, f"{year}-01-08", expect=0)
        sure(served(world) != key, f"the key was not changed in {year}")
        sure({served(world, port) for port in ports} == {served(world)}, "the ports serve different keys")
    timer(world, "2034-02-20", expect=0)


def _one_year(world: World) -> None:
    """The same over one new year."""
    world.lag = hours(72)
    world.until(day("2030-12-24"))
    begin(world)
    world.until(day("2030-12-27"))
    timer(world, "2031-01-12", every=36, expect=0)


def _forgets(world: World) -> None:
    """By hand: the next record months late, and then never."""
    begin(world, by_hand=True)
    key = served(world)
    timer(world, "2031-03-10")
    sure(served(world) == key, "the key was changed without its record in the DNS")
    paste(world)
    timer(world, "2031-03-20", every=36)
    other = served(world)
    sure(other != key, "the key was not changed although its record had been published")
    timer(world, "2032-03-20")
    sure(served(world) == other, "the key was changed without its record in the DNS")


def _secondary_dies(world: World) -> None:
    """A secondary that is dead over the new year, comes back in April, and is two weeks late."""
    begin(world, standby=False)
    timer(world, "2030-12-10")
    world.stop_secondary()
    world.lag = hours(14 * 24)
    add_standby(world)
    key = served(world)
    timer(world, "2031-04-01")
    sure(served(world) == key, "the key was changed while a name server was dead")
    world.start_secondary()
    timer(world, "2031-04-08", every=36)
    sure(served(world) == key, "the key was changed while a name server had the old records")
    timer(world, "2031-05-01", every=36)
    sure(served(world) != key, "the key was not changed although every name server had its record")


def _signatures_expire(world: World) -> None:
    """A primary that stops signing in December, and signs again in February."""
    begin(world)
    timer(world, "2030-12-20")
    key = served(world)
    world.sign(False)
    time.sleep(_SIGNATURES)
    timer(world, "2031-02-01")
    sure(served(world) == key, "the key was changed while the zone did not validate")
    world.sign(True)
    timer(world, "2031-02-12", every=36)
    sure(served(world) != key, "the key was not changed although the zone validates again")


def _ca_down(world: World) -> None:
    """A CA that nobody reaches from December to February."""
    begin(world)
    timer(world, "2030-12-15", expect=0)
    key = served(world)
    with world.ca_down():
        timer(world, "2031-02-01")
        sure(served(world) != key, "the key was not changed, for which no CA is needed")
    timer(world, "2031-04-15", expect=0)


def _six_days(world: World) -> None:
    """Certificates of six days."""
    world.until(day("2030-12-22"))
    begin(world)
    timer(world, "2030-12-31 23:00", every=36, expect=0)
    key, before = served(world), strategies.renewals()
    timer(world, "2031-01-10", every=36, expect=0)
    sure(served(world) != key, "the key was not changed")
    sure(strategies.renewals() > before + 2, "six days, and hardly a renewal")


def _emergency(world: World) -> None:
    """A key that has to go at once, in June: the second of three switches, for the new years have theirs."""
    begin(world)
    timer(world, "2031-06-10", expect=0)
    key = served(world)
    world.run("certbot-dovecot", "rollover", NAME, "--now", "--reason", "the private key was copied")
    sure(served(world) != key, "the key is still served")
    timer(world, "2032-01-08")


def _kills(world: World) -> None:
    """SIGKILL at one step of the switch after the other, each at the next try."""
    begin(world)
    timer(world, "2030-12-31 23:00", expect=0)
    key, kills = served(world), 0
    world.until(day("2031-01-01 00:30"))
    for number in range(1, 61):
        if not strategies.killed(world, number):
            break
        kills += 1
        # The next look at the DNS is six hours later.
        world.advance(hours(7))
    sure(5 <= kills < 60, f"{kills} kills")
    timer(world, hours(14 * 24), every=36, expect=0)
    sure(served(world) != key, "the key was not changed in the end")


def _two_hosts(world: World) -> None:
    """A second host of the same name, which gets the new key five weeks after the first one."""
    begin(world, standby=False)
    with second.run() as other:
        world.addresses = ("127.0.0.1", second.THERE)
        add_standby(world)
        key = served(world)
        timer(world, "2031-01-08", expect=0)
        sure(served(world) != key, "the key was not changed")
        timer(world, "2031-02-10", expect=0)
        sure(key[:8] in world.records(), "the old record is gone, and the second host still serves its key")
        other.follow()
        world.say("the second host has the new key")
        timer(world, "2031-03-01", every=36, expect=0)
        sure(key[:8] not in world.records(), "the old record was never removed")
        world.addresses = ("127.0.0.1",)


def _mx_host(world: World) -> None:
    """Records at the MX host only, whose name the certificate does not have; a standby in February."""
    begin(world, by_hand=True, standby=False, paste_it=False)
    key = served(world, 25)
    world.publish({25: [f"3 1 1 {key}"]})
    timer(world, "2031-02-01", expect=0)
    sure(served(world, 25) == key, "the key was changed without its record in the DNS")
    add_standby(world)
    world.publish({25: [f"3 1 1 {key}", f"3 1 1 {strategies.key_of(strategies.STANDBY)}"]})
    timer(world, "2031-02-20", every=36, expect=0)
    sure(served(world, 25) != key, "the key was not changed although its record had been published")


#: Seconds, real ones, that signatures are valid in the scenario about them.
_SIGNATURES = 36

SCENARIOS: dict[str, Scenario] = {
    "replace": Scenario("replace the records at once", strategies.replace_at_once, 1, fails=True),
    "two-days": Scenario("a fixed two days, one resolver", strategies.fixed_two_days, 1, fails=True),
    "book": Scenario("every name server, then two days", strategies.by_the_book, 1),
    "short": Scenario("ours, RFC 2136, a late secondary, one new year", _one_year, 1),
    "years": Scenario("ours, RFC 2136, a late secondary", _years, 4),
    "forgets": Scenario("ours, by hand: late, then never", _forgets, 1),
    "secondary": Scenario("ours, a secondary dead from December to April", _secondary_dies, 1),
    "signatures": Scenario(
        "ours, signatures expired from December to February", _signatures_expire, 1,
        world={"kind": "knot", "signatures": _SIGNATURES},
    ),
    "ca": Scenario("ours, no CA from December to February", _ca_down, 1),
    "six-days": Scenario("ours, certificates of six days", _six_days, 1, world={"lifetime": 6 * DAY}),
    "emergency": Scenario("ours, an emergency in June", _emergency, 3),
    "two-hosts": Scenario("ours, two hosts of which one follows late", _two_hosts, 1, world={"zone": worlds.TWO_HOSTS}),
    "mx-host": Scenario(
        "ours, by hand, at an MX host that the certificate does not name", _mx_host, 1,
        world={"zone": worlds.MX_HOST, "mx": "mx.example.test"},
    ),
    "kills": Scenario("ours, killed at one step after the other", _kills, 1),
}  # fmt: skip
#: The two that the short form plays; what the long form leaves out.
SHORT: tuple[str, ...] = ("short", "replace")
ALL: tuple[str, ...] = tuple(name for name in SCENARIOS if name != "short")
