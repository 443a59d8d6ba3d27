"""A world in which keys are rotated: a mail host, a zone, name servers, caches, admins who err, and years that go by.

What happens is chosen by whoever drives it: Hypothesis in ``test_world.py``, which shrinks what it finds, or chance, as far and
as long as one likes::

    python -m tests.unit.world --steps 1000000 --seed 7

After every event, and after every single server that changes its key, these hold, for every answer that any cache can hold:

* A set that is not empty has a record of each key that is served (by the strongest digest, where one of ours has it).
* At a switch that was waited for, an answer that holds no record at all is too old to be held, too.
* The same holds for the keys of other hosts of the same names, which follow late or never (rule D18), and at a name that the
  certificate does not have (rule D19).
* Nothing is deleted that we did not mean to put there; no set that we know grows past twelve by us.
* The key of a standby that comes to the servers was never served before; within a year there is one switch.

And when nothing is wrong any more, the switch of the next new year happens, within a number of runs that is known: some for
the renewals and the updates, a TTL for each of two sets that the resolver may still have, and the wait.
"""

from __future__ import annotations

import argparse
import datetime
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable, TypeVar

from certbot_dovecot.dane.answers import AddressAnswer, Data, Key, Outcome, Survey, Validity
from certbot_dovecot.dane.publish import Change
from certbot_dovecot.dane.standing import MOST_RECORDS
from certbot_dovecot.state import Options
from tests.unit.world_dns import GAP, SIGNED, Episode, Version, Zone, emergency, excuse, has
from tests.unit.world_host import FIRST, KILLS, OTHER, SERVERS, Host, Run

T = TypeVar("T")
Choose = Callable[[Sequence[T]], T]

SUBMISSION, IMAP, MX = (f"_{port}._tcp.mail.example.org." for port in (465, 993, 25))
PORTS = {SUBMISSION: "postfix", IMAP: "dovecot"}
#: A name that the certificate does not have.
KEPT = {"_993._tcp.mx.example.org.": "dovecot"}
SERVED = {**PORTS, **KEPT}
OWNERS = [*SERVED, MX]
TTLS = (300, 3600, 6 * 3600, 86400, 2 * 86400, 3 * 86400, 7 * 86400)
BEGIN = datetime.datetime(2026, 10, 1, tzinfo=datetime.timezone.utc)
HOUR = datetime.timedelta(hours=1)
#: A timer runs so often when nothing is wrong.
TIMER = 12 * HOUR
#: Runs for a renewal, an update and a look that come before the wait.
SLACK = 8
#: What another host may serve before it follows.
STRANGE = Key("0" * 4 + "E" * 60, "0" * 4 + "E" * 124)
NEVER_OURS = [f"{n:064X}" for n in range(0xF00000, 0xF00010)]


@dataclass
class Other:
    """Another host of the same names."""

    address: str
    key: Key
    up: bool = True


class World:
    """One world.

    :param choose: picks one of some things; drives everything.
    """

    def __init__(self, choose: Choose) -> None:
        self.steps: Counter[str] = Counter()
        self.once: list[Key] = []
        self.turns: dict[int, int] = {}
        self.validity, self.lost, self.resolver = Validity.SECURE, False, 0
        #: How wrong the host's clock is.
        self.wrong = datetime.timedelta(0)
        self.mode = choose(["rfc2136", "hand", "command"])
        how = {"rfc2136": {"publish_rfc2136": "/f"}, "hand": {}, "command": {"publish_command": "/c"}}[self.mode]
        self.host = Host(
            clock=lambda: self.zone.now + self.wrong, ask=self._ask, changed=self._changed, send=self._send,
            present=lambda owner: self.zone.primary.at(owner), ports=PORTS, guarded=frozenset({MX}), kept=KEPT,
            elsewhere=self._elsewhere,
            options=Options(dane_floor=choose([0.0, 0.0, 1.0, 48.0]), **how),
        )  # fmt: skip
        servers = choose([[False], [False, False], [True], [False, True], [False, False, False, True]])
        self.zone = Zone(Version({}, choose(TTLS[:6])), OWNERS, servers, BEGIN)
        self.host.begin()
        self.once.append(self.served())
        keys = [self.served()] * 5 + [STRANGE]
        self.others = [Other(f"192.0.2.{number}", choose(keys)) for number in range(choose([0, 0, 0, 1, 2]))]
        if choose([False, False, True]):
            # The key is of the year before.
            self.zone.advance(datetime.timedelta(days=100))
        if choose([True, True, False]) and STRANGE not in [one.key for one in self.others]:
            self._start(choose([[SUBMISSION, IMAP], [SUBMISSION], [*KEPT], [*SERVED]]), choose(TTLS))
            self.host.tend()
        if choose([True, True, False]):
            self.host.register()
            self.host.tend()
        self.check()

    def served(self) -> Key:
        """The key of the first server; all others have it too but after a kill."""
        return self.host.serves[SERVERS[0]][1]

    # What happens.

    def time_goes_by(self, choose: Choose) -> None:
        self.zone.advance(choose([1, 3, 6, 6, 12, 12, 12, 24, 48, 72, 24 * 7, 24 * 30, 24 * 60]) * HOUR)

    def a_server_catches_up(self, choose: Choose) -> None:
        machine = choose(choose(self.zone.servers).machines)
        self.zone.take(machine, choose([self.zone.newest, choose(self.zone.ahead(machine))]))

    def all_catch_up(self, _choose: Choose) -> None:
        self.zone.everywhere()

    def a_server_changes(self, choose: Choose) -> None:
        choose(self.zone.servers).state = choose(
            [Outcome.ANSWER, Outcome.ANSWER, Outcome.ANSWER, Outcome.SILENT, Outcome.LAME, Outcome.ERROR]
        )

    def a_server_more(self, choose: Choose) -> None:
        if len(self.zone.servers) < 4:
            self.zone.add_server(choose([True, False]))

    def another_host_follows(self, choose: Choose) -> None:
        """It gets what this host serves now."""
        if self.others:
            choose(self.others).key = self.served()

    def another_host_is_down(self, choose: Choose) -> None:
        """Or is back, with the key that it had."""
        if self.others:
            other = choose(self.others)
            other.up = not other.up

    def the_timer(self, choose: Choose) -> None:
        self.validity = choose([Validity.SECURE] * 12 + [Validity.BOGUS, Validity.UNKNOWN])
        self.lost = choose([False] * 12 + [True])
        self.resolver = choose(range(4))
        self._run(
            Run(
                order=choose([(OTHER, FIRST), (FIRST, OTHER)]),
                renew=choose([frozenset(), frozenset(), frozenset({FIRST}), frozenset({OTHER}), frozenset({FIRST, OTHER})]),
                ca=choose([True, True, True, False]),
                sends=choose(["yes", "yes", "yes", "no", "unsure"]),
                kill=choose(["", "", "", "", *KILLS]),
                proves=choose([True, True, True, False]),
                dark=choose([False] * 5 + [True]),
            )
        )
        self.validity, self.lost = Validity.SECURE, False

    def a_good_timer(self, choose: Choose) -> None:
        """Runs as they mostly are."""
        for _ in range(choose([1, 1, 2, 5])):
            self._run(Run())
            self.zone.advance(TIMER)

    def the_clock_is_wrong(self, choose: Choose) -> None:
        """For some runs; then it is put right.  Signatures tell, or that it ran backwards: else nobody could know."""
        evidence, day = self.host.ledger.evidence, datetime.timedelta(days=1)
        if self.host.ledger.turning or evidence is None or evidence.looked is None:
            return
        self.wrong = choose([-400 * day, SIGNED[1] + day, 400 * day, evidence.looked - self.zone.now - HOUR])
        for _ in range(choose([1, 2, 3])):
            self._run(Run())
            if self.wrong > SIGNED[1]:
                # It jumps about.
                self.wrong += choose([GAP - 7 * HOUR, GAP])
            self.zone.advance(choose([1, 6]) * HOUR)
        self.wrong = 0 * day
        if choose([True, False]):
            self._run(Run())

    def the_host_is_down(self, choose: Choose) -> None:
        """For days or months, or all name servers are silent, and one of the records goes and comes back."""
        silent = choose([False, True])
        self.the_admin_withdraws(choose)
        self.zone.everywhere()
        for server in self.zone.servers:
            server.state = Outcome.SILENT if silent else server.state
        for _ in range(choose([3, 5, 5, 5, 20]) * 2):
            self.zone.advance(TIMER / 2)
            if silent:
                self._run(Run())
        for server in self.zone.servers:
            server.state = Outcome.ANSWER if silent else server.state
        self.the_admin_puts_it_back(choose)
        self.zone.everywhere()
        self.zone.advance(choose([0, 1, 6]) * HOUR)

    def a_packet_is_lost(self, choose: Choose) -> None:
        """At one run, and at no other; or all of them, for longer than a gap."""
        server = choose(self.zone.servers)
        server.state = Outcome.SILENT
        for _ in range(choose([1, 1, 2, 6])):
            self._run(Run())
            self.zone.advance(TIMER)
        server.state = Outcome.ANSWER

    def a_new_year(self, choose: Choose) -> None:
        year = self.zone.now.year + 1
        then = datetime.datetime(year, 1, 1, choose(range(24)), tzinfo=datetime.timezone.utc)
        self.zone.advance(then - self.zone.now)

    def a_standby(self, _choose: Choose) -> None:
        if not self.host.ledger.standby:
            self._run(Run(), self.host.register)

    def the_admin_does_as_told(self, choose: Choose) -> None:
        """All of it, or what concerns one owner name."""
        only = choose(["", *SERVED])
        blocks: dict[tuple[str, str], set[Data]] = {}
        for what, line in self.host.told:
            owner, _, _, _, data = line.split(" ", 4)
            if only in ("", owner):
                blocks.setdefault((what, owner), set()).add(_data(data))
        for (what, owner), some in blocks.items():
            records, begins = frozenset(some), not self.zone.primary.at(owner)
            self.zone.edit(owner, records if what == "add" else frozenset(), records if what == "remove" else frozenset())
            self._began(owner, begins)

    def the_admin_changes_ttls(self, choose: Choose) -> None:
        owner = choose(["", *SERVED])
        if owner:
            if self.zone.primary.at(owner):
                self.zone.edit(owner, ttl=choose(TTLS))
        else:
            self.zone.edit(negative=choose(TTLS[:6]))

    def the_admin_withdraws(self, choose: Choose) -> None:
        """By mistake, and never what is served."""
        owner, keys = choose(list(SERVED)), {*(key for _, key in self.host.serves.values()), *(one.key for one in self.others)}
        here = self.zone.primary.at(owner)
        others = [key for line in self.host.lines.values() for key, _ in line.keys if key not in keys]
        others = [key for key in dict.fromkeys(others) if Data(3, 1, 1, key.sha256) in here]
        if others:
            key = choose(others)
            gone = here & choose([_records(key), _records(key), {Data(3, 1, 2, key.sha512)}])
            self.zone.edit(owner, delete=gone, episodes=(Episode(owner, key, gone),) if gone else ())

    def the_admin_puts_it_back(self, choose: Choose) -> None:
        episodes = [episode for episode in self.zone.primary.episodes if self.zone.primary.at(episode.owner)]
        if episodes:
            self._put_back(choose(episodes))

    def the_admin_ends_dane(self, choose: Choose) -> None:
        """Every record of every name, or of one.

        What people and programs are told comes from name servers, so these must know.
        """
        for owner in choose([list(SERVED), [IMAP]]):
            gone = self.zone.primary.at(owner)
            keys = {key for line in self.host.lines.values() for key, _ in line.keys}
            lost = [Episode(owner, key, gone & _records(key)) for key in sorted(keys, key=str)]
            self.zone.edit(owner, delete=gone, episodes=tuple(one for one in lost if one.records))
        self.host.told = []
        if self.mode != "rfc2136":
            self.zone.everywhere()

    def the_admin_starts_dane(self, choose: Choose) -> None:
        """At a name without records, and looks whether they are everywhere."""
        owners = [owner for owner in SERVED if not self.zone.primary.at(owner)]
        if owners and not self.host.ledger.turning and all(one.key == self.served() for one in self.others):
            self._start(owners[: choose([1, 2, 3])], choose(TTLS))

    def someone_else_edits(self, choose: Choose) -> None:
        """Adds a record that is none of ours, where some stand, or takes one away."""
        owner, digest = choose(list(PORTS)), choose(NEVER_OURS)
        here = self.zone.primary.at(owner)
        if not here:
            return
        foreign = sorted(data for data in here if data.digest[-64:] in NEVER_OURS)
        more = choose([Data(3, 1, 1, digest)] * 2 + [Data(3, 1, 2, "F" * 64 + digest)] * 4 + [Data(2, 1, 1, digest)])
        if foreign and choose([True, True, False]):
            self.zone.edit(owner, delete=frozenset({choose(foreign)}))
        else:
            self.zone.edit(owner, frozenset({more}))

    def someone_crowds(self, choose: Choose) -> None:
        owner = choose(list(PORTS))
        if self.zone.primary.at(owner):
            self.zone.edit(owner, frozenset(Data(3, 1, 1, digest) for digest in NEVER_OURS[: choose([7, 9, 10, 11])]))

    def an_emergency(self, choose: Choose) -> None:
        self._run(Run(kill=choose(["", "", *KILLS])), self.host.roll_now)

    def nothing_is_wrong_any_more(self, choose: Choose) -> None:
        """From now on all goes well; then the next new year's switch comes, in time.

        Other hosts are up, and follow later or never.  What others have of ``3 1 2`` may stay, and calls for ours.
        """
        for server in self.zone.servers:
            server.state = Outcome.ANSWER
        for other in self.others:
            other.up = True
        for owner in OWNERS:
            strange = [data for data in self.zone.primary.at(owner) if data.digest[-64:] in NEVER_OURS]
            self.zone.edit(owner, delete=frozenset(data for data in strange if (data.usage, data.matching) != (3, 2)))
        for episode in self.zone.primary.episodes:
            if self.zone.primary.at(episode.owner):
                self._put_back(episode)
        self.a_standby(choose)
        self.a_new_year(choose)
        year = self.zone.now.year
        runs = 0
        while runs < SLACK + 4 * datetime.timedelta(seconds=self.zone.heard) / TIMER + (48 * HOUR + GAP) / TIMER:
            self.zone.everywhere()
            self._run(Run(renew=frozenset({FIRST, OTHER}) if runs < 2 else frozenset()))
            runs += 1
            self.the_admin_does_as_told(lambda options: options[0])
            if self.host.ledger.turns and self.host.ledger.turns[-1].at.year == year:
                return
            self.zone.advance(TIMER)
        raise AssertionError(f"no switch in {year}: {self.host.ledger}")

    # What must be true.

    def check(self) -> None:
        """Every cache accepts every key that is served."""
        for version, owner, records in self.zone.held():
            if owner not in SERVED or not records:
                continue
            for key in dict.fromkeys([self.host.serves[SERVED[owner]][1], *(one.key for one in self.others)]):
                assert has(records, key) or version.excuses(owner, key), (
                    f"a cache has for {owner} {sorted(map(str, records))}, and {key.sha256[-4:]} is served"
                )

    def _proven(self, key: Key, survey: Survey) -> None:
        """At a switch that was waited for, no cache holds what is older than the next key's record."""
        for version, owner, records in self.zone.held():
            counts = any(one.published for one in survey.owners if one.name == owner)
            if owner in SERVED and counts:
                assert has(records, key) or version.excuses(owner, key), f"{owner} is not proven"

    def _changed(self, why: str, key: Key, survey: Survey) -> None:
        if key not in self.once[-1:]:
            assert key not in self.once, "a key is served again"
            self.once.append(key)
            self._turned(why)
        # A switch that failed and was put back is tried again, with the same key.
        if why != "finish":
            excuse(self.zone, key, unseen=why in ("renewal", "free"))
        if why == "emergency":
            emergency(self.zone, key)
        if why == "proven":
            self._proven(key, survey)
        self.check()

    def _turned(self, why: str) -> None:
        self.steps[f"switches ({why})"] += 1
        if why != "emergency":
            year = self.zone.now.year
            assert self.turns.get(year, 0) < 1, f"two switches in {year}"
            self.turns[year] = 1

    # How it is done.

    def _put_back(self, episode: Episode) -> None:
        """By strongest digest too, if the key that is served has one beside."""
        served = self.host.serves[SERVED[episode.owner]][1]
        kinds = {data.matching for data in self.zone.primary.at(episode.owner) & _records(served)}
        self.zone.edit(episode.owner, frozenset(data for data in episode.records if data.matching in kinds))

    def _run(self, run: Run, act: Callable[[], object] = lambda: None) -> None:
        from tests.unit.world_host import Failed, Killed

        self.host.run = run
        try:
            act()
        except (Failed, Killed):
            return
        self.host.timer(run)

    def _ask(self) -> Survey:
        return self.zone.look(self.validity, self.lost, self.resolver, self.host.guarded | KEPT.keys(), self.wrong)

    def _elsewhere(self, owner: str) -> Sequence[AddressAnswer]:
        return [AddressAnswer(owner, one.address, *((one.key, "") if one.up else (None, "timed out"))) for one in self.others]

    def _send(self, change: Change) -> None:
        assert {(change.owner, data) for data in change.delete} <= self.host.meant, f"not ours: {change}"
        assert len(change.after) <= max(MOST_RECORDS, len(change.present)), f"crowded: {change}"
        assert self.mode == "command" or change.present == self.zone.primary.at(change.owner)
        begins = not self.zone.primary.at(change.owner)
        self.zone.edit(change.owner, change.add, change.delete, ttl=change.ttl if change.add else None, sent=True)
        self._began(change.owner, begins)
        self.check()

    def _began(self, owner: str, begins: bool) -> None:
        """Where a set begins, it is nobody's knowledge what a host serves that is down."""
        down = {one.key for one in self.others if begins and not one.up}
        self.zone.primary.excused |= {(owner, key) for key in down if not has(self.zone.primary.at(owner), key)}

    def _start(self, owners: Sequence[str], ttl: int) -> None:
        pair = self.host.pair()
        keys = [key for key in (pair.serving.key(), pair.following()) if key]
        for owner in owners:
            self.zone.edit(owner, frozenset(Data(3, 1, 1, key.sha256) for key in keys), ttl=ttl)
        self.zone.everywhere()


def _records(key: Key) -> frozenset[Data]:
    return frozenset({Data(3, 1, 1, key.sha256), Data(3, 1, 2, key.sha512)})


def _data(said: str) -> Data:
    usage, selector, matching, digest = said.split()
    return Data(int(usage), int(selector), int(matching), digest)


#: What happens, and how often.
EVENTS: dict[Callable[[World, Choose], None], int] = {
    World.time_goes_by: 12,
    World.a_server_catches_up: 6,
    World.all_catch_up: 5,
    World.a_server_changes: 3,
    World.a_server_more: 1,
    World.another_host_follows: 3,
    World.another_host_is_down: 2,
    World.the_timer: 10,
    World.a_good_timer: 8,
    World.the_clock_is_wrong: 2,
    World.the_host_is_down: 2,
    World.a_packet_is_lost: 2,
    World.a_new_year: 3,
    World.a_standby: 2,
    World.the_admin_does_as_told: 8,
    World.the_admin_changes_ttls: 3,
    World.the_admin_withdraws: 3,
    World.the_admin_puts_it_back: 4,
    World.the_admin_ends_dane: 1,
    World.the_admin_starts_dane: 3,
    World.someone_else_edits: 4,
    World.someone_crowds: 1,
    World.an_emergency: 1,
}


def wander(steps: int, seed: int, length: int = 120) -> Counter[str]:
    """World after world, by chance.

    :param steps: how many events in all.
    :param length: of one world's history.
    :returns: how often what happened.
    :raises AssertionError: with the seed of the world.
    """
    total: Counter[str] = Counter()
    events, weights = list(EVENTS), list(EVENTS.values())
    while sum(total[event.__name__] for event in events) < steps:
        chance = random.Random(seed)
        world, done = World(chance.choice), []
        try:
            for event in chance.choices(events, weights, k=length):
                done.append(event.__name__)
                event(world, chance.choice)
                world.check()
            world.nothing_is_wrong_any_more(chance.choice)
        except AssertionError as exc:
            raise AssertionError(f"world {seed} after {len(done)} events (the last ones: {done[-5:]}): {exc}") from exc
        total.update(done)
        total.update(world.steps)
        total["worlds"] += 1
        seed += 1
    return total


def main() -> None:
    """Run long."""
    parser = argparse.ArgumentParser(description="Let worlds go by in which keys are rotated")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for name, count in sorted(wander(args.steps, args.seed).items()):
        print(f"{count:9} {name}")


if __name__ == "__main__":
    main()
