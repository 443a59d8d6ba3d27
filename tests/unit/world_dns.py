"""The DNS of a simulated world: a zone's history, name servers that lag, and every cache that there could be.

No cache is picked by chance.  A cache may ask any machine at any moment, so for each version of the zone it is enough to know
when a machine gave it for the last time: the worst cache asked just then, and holds that answer, or that there was none, for as
long as its TTL says.  What is true of these caches is true of all, also of caches that ask caches.

Behind the address of a name server can stand a second machine (anycast) that no survey reaches.  It is late by one TTL at most:
this is what the second of the two TTLs of rule D6 is for.

What no survey can know is held against nobody:

* A record that was withdrawn and came back between two looks (:class:`Episode`): looks are samples, so a regression is seen if
  it lasts from one look to the next.  Not so where the looks were farther apart than :data:`GAP` (rule D26).
* A TTL larger than all that looks were told lately (:meth:`Zone.largest`) counts as that one.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import Optional

from certbot_dovecot.dane.answers import Data, Key, Outcome, Owner, Seen, Survey, Validity

ABSENT: frozenset[Data] = frozenset()
GAP = datetime.timedelta(hours=48)
#: How long signatures are valid before and after now.
SIGNED = datetime.timedelta(days=1), datetime.timedelta(days=13)


@dataclass(eq=False)
class Episode:
    """The records of a key are withdrawn by mistake.

    :param records: which.
    :param looked: a survey was shown a zone without it.
    :param excused: the servers changed to this key, and no survey had been shown.
    """

    owner: str
    key: Key
    records: frozenset[Data]
    looked: bool = False
    excused: bool = False


@dataclass(eq=False)
class Version:
    """One version of the zone.

    :param sets: owner name to its records and their TTL; an owner name without records is not in here.
    :param negative: how long caches hold that there is none.
    :param episodes: what is withdrawn in it.
    :param excused: (owner name, key) for which it counts for nothing: it was there before an emergency.
    :param given: when it was given for the last time.
    :param largest: the largest TTL that was known then.
    :param looked: a survey was shown it.
    :param sent: owner names at which records of ours stand, which we know of without a look.
    """

    sets: dict[str, tuple[frozenset[Data], int]]
    negative: int
    episodes: tuple[Episode, ...] = ()
    excused: set[tuple[str, Key]] = field(default_factory=set)
    given: Optional[datetime.datetime] = None
    looked: bool = False
    sent: frozenset[str] = frozenset()
    largest: int = 0

    def at(self, owner: str) -> frozenset[Data]:
        return self.sets.get(owner, (ABSENT, 0))[0]

    def excuses(self, owner: str, key: Key) -> bool:
        """Whether it is nobody's fault that it has no record of a key."""
        return (owner, key) in self.excused or any(e.excused and (e.owner, e.key) == (owner, key) for e in self.episodes)


@dataclass(eq=False)
class Machine:
    """One machine that answers.

    :param holds: number of the version that it has.
    :param deadline: when it will have one at the latest, by number; None for a machine that may be as late as it likes.
    """

    holds: int
    deadline: Optional[dict[int, datetime.datetime]] = None


@dataclass(eq=False)
class Server:
    """A name server: the machine that surveys reach, and perhaps one that they do not."""

    name: str
    machines: list[Machine]
    state: Outcome = Outcome.ANSWER


def has(records: frozenset[Data], key: Key) -> bool:
    """Whether a validating sender accepts a key (RFC 7672 section 2.2), by the strongest digest too (RFC 7671 section 9).

    The ``3 1 2`` of others are a mistake of theirs while there is none of ours beside; ours begin with zeros.
    """
    agile = any((data.usage, data.selector, data.matching) == (3, 1, 2) and data.digest.startswith("00") for data in records)
    return Data(3, 1, 1, key.sha256) in records and (not agile or Data(3, 1, 2, key.sha512) in records)


class Zone:
    """A zone at its primary, its name servers, and the caches.

    :param now: the clock of the world.
    """

    def __init__(self, first: Version, owners: list[str], servers: list[bool], now: datetime.datetime) -> None:
        """Begin.

        :param owners: every name that may have records.
        :param servers: for each, whether a second machine stands behind its address.
        """
        self.now, self.owners = now, owners
        self.versions: dict[int, Version] = {0: first}
        self.newest = 0
        self.heard = 0
        self.told: dict[int, datetime.datetime] = {}
        self.whole = now
        self.servers: list[Server] = []
        for hidden in servers:
            self.add_server(hidden)
        self._give()

    @property
    def primary(self) -> Version:
        return self.versions[self.newest]

    def largest(self) -> int:
        """The largest TTL that a look was told, and not longer ago than itself."""
        return max((ttl for ttl, at in self.told.items() if at + datetime.timedelta(seconds=ttl) >= self.now), default=0)

    def add_server(self, hidden: bool) -> None:
        machines = [Machine(self.newest), *([Machine(self.newest, {})] if hidden else [])]
        self.servers.append(Server(f"ns{len(self.servers) + 1}", machines))

    def edit(
        self,
        owner: str = "",
        add: frozenset[Data] = ABSENT,
        delete: frozenset[Data] = ABSENT,
        ttl: Optional[int] = None,
        negative: Optional[int] = None,
        episodes: tuple[Episode, ...] = (),
        sent: bool = False,
    ) -> None:
        """Make a new version at the primary.

        :param ttl: of the set, which has one TTL only (RFC 2181 section 5.2).
        :param episodes: what this withdraws.
        :param sent: by us.
        """
        old = self.primary
        sets = dict(old.sets)
        if owner:
            was, old_ttl = sets.pop(owner, (ABSENT, ttl or 3600))
            records = (was - delete) | add
            if records:
                sets[owner] = (records, ttl or old_ttl)
        made = Version(sets, old.negative if negative is None else negative)
        made.episodes = tuple(
            one for one in (*old.episodes, *episodes) if not has(made.at(one.owner), one.key)
        )
        made.sent = frozenset(name for name in {*old.sent, *([owner] if sent else [])} if made.at(name))
        made.excused = {(name, key) for name, key in old.excused if not has(made.at(name), key)}
        self.newest += 1
        self.versions[self.newest] = made
        for server in self.servers:
            for machine in server.machines:
                if machine.deadline is not None:
                    machine.deadline[self.newest] = self.now + datetime.timedelta(seconds=self.largest())
        self._meet_deadlines()

    def everywhere(self) -> None:
        """Every machine takes the newest version."""
        for server in self.servers:
            for machine in server.machines:
                self.take(machine)

    def ahead(self, machine: Machine) -> list[int]:
        """The versions that a machine may take: the one that it has, and all later ones, for it may follow one that lags."""
        return [number for number in self.versions if number >= machine.holds]

    def take(self, machine: Machine, number: Optional[int] = None) -> None:
        """A machine takes a version; the newest one if nothing else is said."""
        self._give()
        machine.holds = self.newest if number is None else number
        if machine.deadline is not None:
            machine.deadline = {other: due for other, due in machine.deadline.items() if other > machine.holds}
        self._give()

    def advance(self, by: datetime.timedelta) -> None:
        """Time goes by: machines give what they have, and the late ones get what they must have by then."""
        end = self.now + by
        while True:
            dues = [due for machine in self._late() for due in (machine.deadline or {}).values() if due <= end]
            self._give()
            if not dues:
                break
            self.now = max(self.now, min(dues))
            self._give()
            self._meet_deadlines()
        self.now = end
        self._give()
        self._forget()

    def held(self) -> list[tuple[Version, str, frozenset[Data]]]:
        """Every answer that a cache can hold now: the version it came from, owner name, records."""
        found = []
        for version in self.versions.values():
            if version.given is None:
                continue
            for owner in self.owners:
                records, ttl = version.sets.get(owner, (ABSENT, version.negative))
                if version.given + datetime.timedelta(seconds=min(ttl, version.largest)) >= self.now:
                    found.append((version, owner, records))
        return found

    def look(
        self,
        validity: Validity,
        lost: bool,
        resolver: int,
        guarded: frozenset[str],
        wrong: datetime.timedelta = datetime.timedelta(0),
    ) -> Survey:
        """What a survey is told.

        :param guarded: where the TTL of nothing at all does not matter.
        :param lost: it does not even find the name servers.
        :param resolver: which of the versions that are held the resolver has.
        :param wrong: how wrong the clock is of who looks.
        """
        at, signed = self.now + wrong, validity is not Validity.INSECURE
        dates = (self.now - SIGNED[0], self.now + SIGNED[1]) if signed else (None, None)
        if lost:
            return Survey(at, tuple(Owner(name, (), Validity.UNKNOWN) for name in self.owners))
        if not wrong and all(server.state is not Outcome.SILENT for server in self.servers):
            self._mind_the_gap()
        told = []
        cached = [version for version in self.versions.values() if version.given is not None]
        for name in self.owners:
            seen = []
            for server in self.servers:
                if server.state is not Outcome.ANSWER:
                    seen.append(Seen(server.name, server.state))
                    continue
                version = self.versions[server.machines[0].holds]
                records, ttl = version.sets.get(name, (ABSENT, version.negative))
                self.heard = max(self.heard, ttl)
                if name not in guarded:
                    self.told[ttl] = self.now
                version.looked = True
                for episode in version.episodes:
                    episode.looked = True
                outcome = Outcome.ANSWER if records else Outcome.ABSENT
                seen.append(Seen(server.name, outcome, records, ttl, signed, *dates))
            possible = [v for v in cached if self._is_held(v, name)] or [self.primary]
            told.append(Owner(name, tuple(seen), validity, possible[resolver % len(possible)].at(name), name))
        return Survey(at, tuple(told))

    def _mind_the_gap(self) -> None:
        """After a gap in the looks, what was over by its end counts as known: nobody may believe that it never was."""
        apart, self.whole = self.now - self.whole, self.now
        if apart <= GAP:
            return
        behind = min(server.machines[0].holds for server in self.servers)
        ahead = {id(episode) for number, one in self.versions.items() if number >= behind for episode in one.episodes}
        for version in self.versions.values():
            for episode in version.episodes:
                episode.looked |= id(episode) not in ahead

    def _is_held(self, version: Version, owner: str) -> bool:
        ttl = version.sets.get(owner, (ABSENT, version.negative))[1]
        return version.given is not None and version.given + datetime.timedelta(seconds=ttl) >= self.now

    def _late(self) -> list[Machine]:
        return [machine for server in self.servers for machine in server.machines if machine.deadline]

    def _meet_deadlines(self) -> None:
        for machine in self._late():
            deadlines = machine.deadline or {}
            met = [number for number, due in deadlines.items() if due <= self.now]
            if met:
                machine.holds = max([machine.holds, *met])
                machine.deadline = {number: due for number, due in deadlines.items() if number > machine.holds}
        self._give()

    def _give(self) -> None:
        """Machines that a survey cannot reach answer others all the same."""
        for server in self.servers:
            for machine in server.machines:
                version = self.versions[machine.holds]
                version.given, version.largest = self.now, self.largest()

    def _forget(self) -> None:
        """Drop versions that nobody has and nobody will get."""
        oldest = min(machine.holds for server in self.servers for machine in server.machines)
        alive = set(range(oldest, self.newest + 1))
        for number, version in list(self.versions.items()):
            longest = max([version.negative, *(ttl for _, ttl in version.sets.values())])
            gone = version.given is None or version.given + datetime.timedelta(seconds=longest) < self.now
            if number not in alive and gone:
                del self.versions[number]


def excuse(zone: Zone, key: Key, unseen: bool = False) -> None:
    """The servers changed to ``key``: what was withdrawn, and no look was shown, is nobody's fault.

    :param unseen: nor is what came and went between two looks.
    """
    for version in zone.versions.values():
        if unseen and not version.looked:
            version.excused |= {(owner, key) for owner in zone.owners if owner not in version.sent}
        for episode in version.episodes:
            episode.excused |= episode.key == key and not episode.looked


def emergency(zone: Zone, key: Key) -> None:
    """The servers changed to ``key`` whatever the DNS says: only caches that have its record count."""
    for version in zone.versions.values():
        version.excused |= {(owner, key) for owner in zone.owners if not has(version.at(owner), key)}

