"""The mail host of a simulated world: what certbot, the installer and a kill do to two lineages and the servers.

Every decision is the product's own: :mod:`~certbot_dovecot.rotation`, :mod:`~certbot_dovecot.pairs`,
:mod:`~certbot_dovecot.ledger`, :mod:`~certbot_dovecot.dane.rollover`, :mod:`~certbot_dovecot.dane.publish`,
:func:`certbot_dovecot.watch.judge` and :func:`certbot_dovecot.handover.allows`.  What is here is the shell around them, in the
order in which :mod:`~certbot_dovecot.handover`, :mod:`~certbot_dovecot.door_key` and :mod:`~certbot_dovecot.publishing` do
things, with files and daemons left out.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Callable, Optional

from certbot_dovecot import handover, pairs, publishing, rotation, watch
from certbot_dovecot.dane import gates, publish, rollover, standing
from certbot_dovecot.dane.answers import AddressAnswer, Data, Key, Survey
from certbot_dovecot.dane.publish import Change, Place
from certbot_dovecot.dane.rollover import Kind, Step
from certbot_dovecot.ledger import Ledger, Turn
from certbot_dovecot.pairs import Member, Pair
from certbot_dovecot.rotation import Role, Why, Wish
from certbot_dovecot.state import Options, State
from certbot_dovecot.store import Folder

FIRST, OTHER = "mail", "mail-standby"
PLACE = Folder("/nowhere", "/nowhere/state.json")
#: Of a file that is not there, and never was: nothing has changed.
SIGNATURE = (("/nowhere/cert.pem", -1, -1, -1),)
SERVERS = ("dovecot", "postfix")
#: Points at which a run can be killed.
KILLS = ("before sending", "after sending", "before the switch", "half way", "before noting", "after noting")


class Failed(Exception):
    """What is done for a lineage ends here, with an error; the run goes on."""


class Killed(Exception):
    """The run ends here, without a word."""


@dataclass(eq=False)
class Line:
    """A lineage of certbot's, as :class:`certbot_dovecot.lineages.Lineage` is one."""

    name: str
    keys: list[tuple[Key, datetime.datetime]]

    def names(self) -> frozenset[str]:
        return frozenset({"mail.example.org"})

    def history(self) -> Sequence[tuple[str, datetime.datetime]]:
        return [(key.sha256, at) for key, at in self.keys]


class Known(Member):
    """One of the two, whose key is not in a file."""

    def key(self) -> Key:
        return self.lineage.keys[-1][0]


@dataclass
class Run:
    """How one run of the timer goes.

    :param renew: names of the lineages that are due.
    :param ca: whether the CA answers.
    :param sends: ``yes``; ``no``: an update is lost; ``unsure``: its answer is lost.
    :param kill: one of :data:`KILLS`, or empty.
    :param proves: whether the servers serve what they were told to.
    :param dark: whether an endpoint does not tell what it serves.
    """

    order: tuple[str, ...] = (OTHER, FIRST)
    renew: frozenset[str] = frozenset()
    ca: bool = True
    sends: str = "yes"
    kill: str = ""
    proves: bool = True
    dark: bool = False


@dataclass
class Host:
    """The host.

    :param clock: now.
    :param ask: makes a survey.
    :param changed: called after each change of what a port serves, with why: ``renewal``, ``proven``, ``free``, ``emergency``.
    :param send: brings a change to the primary.
    :param present: what stands at the primary.
    :param ports: owner name to the server that serves it; what is not in here is not ours.
    :param guarded: owner names of ports that are not ours.
    :param kept: owner name to the server that serves it, of hosts that the certificate does not name (rule D19).
    :param elsewhere: what the other addresses of an owner name's host serve (rule D18).
    """

    clock: Callable[[], datetime.datetime]
    ask: Callable[[], Survey]
    changed: Callable[[str, Key, Survey], None]
    send: Callable[[Change], None]
    present: Callable[[str], frozenset[Data]]
    options: Options
    ports: dict[str, str]
    guarded: frozenset[str]
    kept: dict[str, str] = field(default_factory=dict)
    elsewhere: Callable[[str], Sequence[AddressAnswer]] = lambda owner: ()
    lines: dict[str, Line] = field(default_factory=dict)
    records: dict[str, State] = field(default_factory=dict)
    serves: dict[str, tuple[str, Key]] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger)
    told: list[tuple[str, str]] = field(default_factory=list)
    run: Run = field(default_factory=Run)
    meant: set[tuple[str, Data]] = field(default_factory=set)
    made: int = 0

    def new_key(self) -> Key:
        self.made += 1
        return Key(f"{self.made:064X}", f"{self.made:0128X}")

    def issue(self, name: str, fresh: bool) -> None:
        line = self.lines.setdefault(name, Line(name, []))
        line.keys.append((self.new_key() if fresh or not line.keys else line.keys[-1][0], self.clock()))
        # A file that the last look was about has changed.
        self.ledger = replace(self.ledger, signature=())

    def pair(self) -> Pair:
        one, other = Known(self.lines[FIRST], self.records.get(FIRST)), None
        if self.ledger.standby:
            other = Known(self.lines[OTHER], self.records.get(OTHER))
        found = pairs.arrange(PLACE, self.ledger, FIRST, one, other)
        assert found is not None
        return found

    def begin(self) -> None:
        """The first installation."""
        self.issue(FIRST, True)
        self._record(FIRST, SERVERS)
        self.serves = dict.fromkeys(SERVERS, (FIRST, self.lines[FIRST].keys[-1][0]))

    def register(self) -> None:
        """``certbot-dovecot standby``."""
        self.issue(OTHER, False)
        self.ledger = replace(self.ledger, standby=OTHER, asked=None)

    def timer(self, run: Run) -> None:
        """``certbot renew``."""
        self.run = run
        try:
            for name in run.order:
                if name in self.lines:
                    try:
                        if name in run.renew:
                            self.renew(name)
                        self.tend()
                    except Failed:
                        continue
        except Killed:
            pass

    def renew(self, name: str) -> None:
        """As door_key decides, and what certbot does then."""
        pair, now = self.pair(), self.clock()
        role = pair.role(name)
        key, record = self.lines[name].keys[-1][0], self.records.get(name)
        year = rotation.year_of(key.sha256, record.years if record else {}, self.lines[name].history())
        choice = rotation.choose(Wish(), rotation.Key(key.sha256, "ecdsa", "secp256r1"), year, now, role)
        if role in (Role.ALONE, Role.SERVING) and choice.why is not Why.NONE and self.look(pair)[2].kind is not Kind.FREE:
            choice = rotation.hold(rotation.Key(key.sha256, "ecdsa", "secp256r1"), "records are published")
        if not self.run.ca:
            raise Failed
        self.issue(name, bool(choice.new_key))
        self.finish(self.pair())
        if any(lineage == name for lineage, _ in self.serves.values()):
            self._record(name, SERVERS)
            for server, (lineage, _) in self.serves.items():
                if lineage == name:
                    self._serve(server, name, "renewal")

    def tend(self) -> None:
        pair = self.pair()
        if not (pair.standby or pair.options.publishes):
            return
        finished = self.finish(pair)
        if finished is None and not pair.ledger.due(self.clock()):
            return
        self.advance(finished or self.pair())

    def look(self, pair: Pair, wanted: bool = False) -> tuple[Pair, Survey, Step]:
        """As watch.look does."""
        said = self.ask()
        current, following = pair.serving.key(), pair.following()
        keys = [key for key in (current, following) if key]
        relevant = rollover.relevant(said, self.guarded, keys, self.kept.keys(), pair.retired())
        asked = tuple(one for owner in relevant.owners if standing.counts(owner) for one in self.elsewhere(owner.name))
        relevant = replace(relevant, addresses=asked)
        floor = datetime.timedelta(hours=pair.options.dane_floor)
        evidence = rollover.observe(pair.ledger.evidence, relevant, current, following, floor)
        self.ledger = replace(self.ledger, asked=said.at, signature=SIGNATURE, evidence=evidence)
        pair = replace(pair, ledger=self.ledger)
        return pair, relevant, watch.judge(pair, relevant, self.clock(), wanted, self.guarded)

    def places(self, pair: Pair, survey: Survey) -> tuple[Place, ...]:
        """As watch.places does."""
        known = {key.sha256: key for key in (*pair.retired(), pair.serving.key(), pair.following()) if key}
        counting = {owner.name for owner in survey.owners if owner.published} | {name for name, _ in self.ledger.ours}
        mine = {**self.ports, **{owner: server for owner, server in self.kept.items() if owner in counting}}
        served = {owner: None if self.run.dark else [known[self.serves[server][1].sha256]] for owner, server in mine.items()}
        asked = tuple(one for owner in mine for one in self.elsewhere(owner))
        return publish.places(replace(survey, addresses=asked), served, pair.following(), pair.retired(), self.ledger.at)

    def advance(self, pair: Pair, wanted: bool = False) -> None:
        """As handover._advance does."""
        pair, survey, step = self.look(pair, wanted)
        places = self.places(pair, survey)
        places = publishing.after(places, self.publish(places))
        pair = self.pair()
        due = wanted or rotation.is_due(pair.options.key_rotation, pair.since(), self.clock())
        dark = any(place.dark for place in places)
        if due and handover.allows(pair, step) and not dark:
            self.switch(pair, "free" if step.kind is Kind.FREE else "proven", survey)
            pair = self.pair()
            places = self.places(pair, survey)
            places = publishing.after(places, self.publish(places))
        todo = publishing.todo(self.pair(), places, self.clock())
        if step.kind not in (Kind.KEEP, Kind.LOOK, Kind.FREE):
            self.told = [("add", line) for line in todo.add]
        self.told += [("remove", line) for line in todo.remove]

    def roll_now(self) -> bool:
        """``certbot-dovecot rollover --now``; whether it switched."""
        pair = self.pair()
        if pair.standby is None or pair.standby.spent():
            return False
        pair = self.finish(pair) or self.pair()
        self.switch(pair, "emergency", None)
        pair, survey, _ = self.look(self.pair())
        self.publish(self.places(pair, survey))
        return True

    def finish(self, pair: Pair) -> Optional[Pair]:
        if not pair.ledger.turning or pair.standby is None:
            return None
        if all(lineage != pair.ledger.turning for lineage, _ in self.serves.values()):
            self.records[pair.ledger.turning] = replace(self.records[pair.ledger.turning], servers=(), spki="")
            self.ledger = replace(self.ledger, turning="")
            return None
        self.switch(pair, "finish", None)
        return self.pair()

    def switch(self, pair: Pair, why: str, survey: Optional[Survey]) -> None:
        """As handover.switch and a reconcile do, server by server."""
        assert pair.standby is not None
        new, old = pair.standby.lineage.name, pair.serving.lineage.name
        turn = Turn(self.clock(), new, pair.standby.key().sha256, why)
        before, turning = (dict(self.serves), dict(self.records)), self.ledger.turning
        self.ledger = replace(self.ledger, turning=new)
        self._record(new, SERVERS)
        self._maybe("before the switch")
        for server in SERVERS:
            self._serve(server, new, why, survey)
            self._maybe("half way")
        if not self.run.proves and before[0] != self.serves:
            self.serves, self.records = before
            self.ledger = replace(self.ledger, turning=turning)
            raise Failed
        self.records[old] = replace(self.records[old], servers=())
        self.told = []
        self._maybe("before noting")
        self.ledger = self.ledger.turned(turn)
        self._maybe("after noting")

    def publish(self, places: Sequence[Place]) -> tuple[Change, ...]:
        """As publishing does."""
        made = []
        if not self.options.publishes:
            return ()
        for place in places:
            if place.dark or (place.blind and self.options.publish_command):
                continue
            exact = bool(self.options.publish_rfc2136)
            present = self.present(place.name) if exact else place.present
            change = publish.change(place.name, place.keys, present, self.ledger.at(place.name), place.ttl, exact)
            if self.options.publish_command:
                gone = publish.vanished(place, change, self.ledger.at(place.name))
                self.ledger = replace(self.ledger, ours=self.ledger.ours - gone)
            change = gates.allowed(change, place)
            change = change if exact else publish.without_beginning(change, place)
            if change.crowded:
                raise Failed
            if change.idle:
                continue
            owned = {(change.owner, data) for data in change.add}
            self.ledger = replace(self.ledger, ours=self.ledger.ours | owned)
            self.meant |= owned
            self._maybe("before sending")
            if self.run.sends != "no":
                self.send(change)
            self._maybe("after sending")
            if self.run.sends != "yes":
                raise Failed
            if self.options.publish_rfc2136:
                self.ledger = self.ledger.deleted(change.owner, change.delete, self.clock())
            made.append(change)
        return tuple(made)

    def _serve(self, server: str, name: str, why: str, survey: Optional[Survey] = None) -> None:
        key, was = self.lines[name].keys[-1][0], self.serves[server]
        self.serves[server] = (name, key)
        if was[1] != key:
            self.changed(why, key, survey)

    def _record(self, name: str, servers: tuple[str, ...]) -> None:
        key, was = self.lines[name].keys[-1][0], self.records.get(name, State(options=self.options))
        year = rotation.year_of(key.sha256, was.years, self.lines[name].history()) or self.clock().year
        self.records[name] = replace(was, years={**was.years, key.sha256: year}, spki=key.sha256, servers=servers)

    def _maybe(self, point: str) -> None:
        if self.run.kill == point:
            raise Killed
