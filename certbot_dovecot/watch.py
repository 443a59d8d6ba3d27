"""A look at what the DNS says of a lineage's keys, and what it means.

Which owner names are asked for: :mod:`certbot_dovecot.rollover.owner_names`.  Port 25 of these hosts is *guarded* where it is
not ours (:func:`certbot_dovecot.dane.rollover.relevant`): a ``main.cf`` that names the lineage's own files must not lose its
record either.  Every address behind a name with records is asked what it serves (:mod:`certbot_dovecot.rollover.addresses`).

A look is noted in the ledger (:mod:`~certbot_dovecot.ledger`), with the evidence, and the survey is filed; deciding is
:func:`certbot_dovecot.dane.rollover.decide`'s part.  No look changes anything else.

What the DNS does is never a failure here, but a reason to keep the key.  Fails as a
:class:`~certbot_dovecot.problems.Problem` if a server's configuration, a lineage or a record cannot be read.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Callable, Optional

from certbot_dovecot import files, jobs, ledger, pairs, progress, records, rotation, store
from certbot_dovecot.commands import Runner
from certbot_dovecot.dane import evidence, gates, publish, rollover, tlsa
from certbot_dovecot.dane.answers import Key, Survey
from certbot_dovecot.dane.hosts import Lookup
from certbot_dovecot.dane.publish import Place
from certbot_dovecot.dane.rollover import Kind, Step
from certbot_dovecot.ledger import Ledger
from certbot_dovecot.pairs import Pair
from certbot_dovecot.problems import ConfProblem
from certbot_dovecot.rollover import addresses, owner_names
from certbot_dovecot.rollover.owner_names import OwnerNames
from certbot_dovecot.servers import probe
from certbot_dovecot.servers.probe import Answer, Question
from certbot_dovecot.state import Options
from certbot_dovecot.transaction import Checkpoint

if TYPE_CHECKING:
    from certbot_dovecot.dane.wire import Server

#: Asks the DNS for the records of owner names: the real one is :func:`ask_dns`.
Ask = Callable[[Options, Sequence[str]], Survey]
#: Asks a resolver for hosts and mail domains: the real one is :func:`look_up`.
LookUp = Callable[[Options, Sequence[str], Sequence[str]], Lookup]


@dataclass(frozen=True)
class Way:
    """What a look and a switch work with, passed in by a door.

    :param config_dir: certbot's.
    :param clock: now, UTC.
    :param run: runs commands.
    :param checkpoint: keeps configuration files for ``certbot rollback``.
    :param ask: asks the DNS for records.
    :param look_up: asks a resolver for addresses, aliases and MX hosts.
    :param ask_each: asks endpoints what they serve.
    :param is_own: whether an address is one of this host's.
    """

    config_dir: str
    clock: Callable[[], datetime.datetime]
    run: Runner
    checkpoint: Checkpoint
    ask: Ask
    look_up: LookUp
    ask_each: Callable[[Sequence[Question], float], tuple[Answer, ...]] = probe.ask_each
    is_own: Callable[[str], bool] = probe.is_own

    @property
    def home(self) -> str:
        """``CONFIG_DIR/dovecot``."""
        return jobs.home(self.config_dir)

    def pair(self, name: str) -> Optional[Pair]:
        """The pair that lineage ``name`` is in; None if there is no such lineage.

        :raises StateProblem: a record cannot be read.
        """
        return pairs.find(self.config_dir, self.home, name)


@dataclass(frozen=True)
class Look:
    """What was seen.

    :param pair: with the ledger as it is after the look.
    :param survey: all of it; what is relevant of it made the step.
    :param step: what it means.
    :param ports: owner name to port, of what is to be kept true.
    :param names: what was asked for.
    """

    pair: Pair
    survey: Survey
    step: Step
    ports: Mapping[str, int]
    names: OwnerNames

    @property
    def ttl(self) -> int:
        """The longest that a cache may hold one of these sets, seconds."""
        known = self.pair.ledger.evidence.ttl if self.pair.ledger.evidence else 0
        return max([known, *(evidence.lasts(seen) for owner in self.survey.owners for seen in owner.seen)])


def ask_dns(chosen: Options, owners: Sequence[str]) -> Survey:
    """Ask the DNS of real life for records.

    :raises ConfProblem: ``--dovecot-resolver`` is no address.
    """
    from certbot_dovecot.dane import survey

    by = _resolver(chosen)
    with progress.waiting("Asking every name server for the TLSA records"):
        return survey.make(owners, by, jobs.now, survey.routes_ipv6())


def look_up(chosen: Options, hosts: Sequence[str], domains: Sequence[str]) -> Lookup:
    """Ask the resolver of real life for hosts and mail domains.

    :raises ConfProblem: ``--dovecot-resolver`` is no address.
    """
    from certbot_dovecot.dane import survey

    by = _resolver(chosen)
    with progress.waiting("Asking the resolver under which names this host is reached"):
        return survey.look_up(hosts, domains, by)


def _resolver(chosen: Options) -> Optional[Server]:
    """The resolver to ask.

    :raises ConfProblem: ``--dovecot-resolver`` is no address.
    """
    from certbot_dovecot.dane import survey

    try:
        return survey.resolver(chosen.resolver)
    except ValueError as exc:
        raise ConfProblem(
            f"--dovecot-resolver is no address: {chosen.resolver}",
            left="The DNS was not asked, and the key stays",
            todo="Give it as ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT",
        ) from exc


def look(way: Way, pair: Pair, wanted: bool = False, note: bool = True) -> Look:
    """Ask the DNS, take a note, and say what it means.

    :param wanted: a switch is wanted, whatever the year.
    :param note: whether to take a note; without, nothing is written.
    :raises Problem: as the module says.
    """
    signature = files.sign(_watched(way.home, pair))
    names = owner_names.find(way, pair)
    said = way.ask(pair.options, names.every)
    said = endpoints(way, names, said)
    current, following = pair.current(), pair.following()
    keys = [key for key in (current, following) if key]
    relevant = rollover.relevant(said, names.guarded, keys, names.others.keys(), pair.retired())
    served = addresses.ask(way, names, relevant.owners)
    said, relevant = (replace(one, addresses=served) for one in (said, relevant))
    said = replace(said, notes=(*said.notes, *names.hosts.notes))
    known = _note(way, pair, said, relevant, current, following, signature, note)
    pair = replace(pair, ledger=known)
    step = rollover.among_others(judge(pair, relevant, way.clock(), wanted, names.guarded), said)
    unknown = names.hosts.unknown
    if unknown and step.kind is not Kind.KEEP:
        step = Step(Kind.KEEP, f"no host is known that {unknown} stands for (Postfix's myhostname, or this host's own name)")
    ports = owner_names.in_charge(names, relevant.owners, (owner for owner, _ in known.ours))
    return Look(pair, said, step, ports, names)


def endpoints(way: Way, names: OwnerNames, said: Survey) -> Survey:
    """A survey without the owner names at which nobody is.

    Where aliases of ours lead to is a place; a port's own name is an endpoint as well, and stays one (D25).  Behind a wildcard
    every port has records, also one at which nothing listens (D21): of the ports that are not ours, those count that serve what
    the records match, and port 25 if it is there.
    """
    targets = {owner.place for owner in said.owners if owner.name in names.ports}
    behind = [one for one in said.owners if one.wildcard and one.port and one.name in names.guarded]
    empty = rollover.unused(behind, addresses.ask(way, names, behind, every=True)) if behind else frozenset()
    kept = (one for one in said.owners if one.name in names.ports or one.port or one.name not in targets)
    return replace(said, owners=tuple(one for one in kept if one.name not in empty))


def judge(pair: Pair, relevant: Survey, now: datetime.datetime, wanted: bool, guarded: AbstractSet[str]) -> Step:
    """What a survey that is noted in the pair's ledger means; pure, but for the leaves that it reads.

    :param relevant: what is relevant of it.
    :param wanted: a switch is wanted, whatever the year.
    :param guarded: owner names of ports that are not ours.
    :raises Problem: a leaf cannot be read.
    """
    chosen, current = pair.options, pair.current()
    due = wanted or is_due(pair, now)
    floor = datetime.timedelta(hours=chosen.dane_floor)
    known, retired = pair.ledger.evidence, pair.retired() if pair.standby else ()
    retired = tuple(key for key in retired if gates.may_go(relevant, key))
    ours = {name for name, _ in pair.ledger.ours} if chosen.publishes else set()
    return rollover.decide(relevant, known, current, pair.following(), now, floor, due, retired, guarded, ours)


def is_due(pair: Pair, now: datetime.datetime) -> bool:
    """Whether another key is to be served: a new year has begun, or a new key of the lineage waits at the key gate.

    :raises Problem: a leaf cannot be read.
    """
    return pair.waits() or rotation.is_due(pair.options.key_rotation, pair.since(), now)


def recall(pair: Pair, survey: Survey, ports: Collection[int], own: Collection[str]) -> Step:
    """What the survey that was filed last meant, at its time.

    :param ports: those that are ours.
    :param own: owner names whose clients do not get another lineage's certificate.
    :raises Problem: a leaf cannot be read.
    """
    guarded = frozenset(owner.name for owner in survey.owners if owner.port not in ports)
    names = pair.serving.lineage.names()
    every = [owner.name for owner in survey.owners]
    others = {name for name in every if name not in own or not owner_names.is_named(pair.options, names, name)}
    keys = [key for key in (pair.current(), pair.following()) if key]
    relevant = rollover.relevant(survey, guarded, keys, others, pair.retired())
    return rollover.among_others(judge(pair, relevant, survey.at, False, guarded), survey)


def guard(way: Way, pair: Pair, key: Key) -> str:
    """Why a key that the servers do not serve any more must stay all the same; empty if it may go.

    Port 25, where it is not ours, may be served with a lineage's own files (``main.cf`` names them), whose key the switch did
    not change and a renewal would (D13).  So may any other port (D20).

    :raises Problem: as the module says.
    """
    names = owner_names.find(way, pair)
    guarded = names.guarded & frozenset(owner_names.well_known(names.hosts))
    if not guarded:
        return ""
    asked = endpoints(way, names, way.ask(pair.options, sorted(guarded)))
    kept = rollover.relevant(asked, guarded, [key]).owners
    return next((said for owner in kept if (said := rollover.foreign(owner, key))), "")


def places(way: Way, seen: Look) -> tuple[Place, ...]:
    """Ask every endpoint what it serves now, and say which records belong where (R5); files ``tlsa.zone``, too.

    :raises Problem: a server's configuration cannot be read.
    """
    pair, chosen = seen.pair, seen.pair.options
    names, following = sorted(pair.serving.lineage.names()), pair.following()
    configured, answers = records.ask(chosen, names, owner_names.owner_of(way, pair), way.run)
    known = {key.sha256: key for key in (*pair.retired(), pair.serving.key(), pair.current(), following) if key}
    unasked = {one.endpoint.port for one in configured} - {answer.endpoint.port for answer in answers}
    dark = {answer.endpoint.port for answer in answers if answer.leaf is None}
    # Port 25 is told only by all of its endpoints.
    told = {answer.endpoint for answer in answers}
    dark |= {one.endpoint.port for one in configured if one.endpoint.port == 25 and one.endpoint not in told}
    by_port = records.served(configured, answers, known.keys())
    served: dict[str, Optional[list[Key]]] = {
        owner: None if port in dark else [known[spki] for spki in by_port.get(port, ())] for owner, port in seen.ports.items()
    }
    # What we put there goes, for none of our ports is there any more; what nobody can see stays.
    left = [one for one in seen.survey.owners if one.name not in served and one.port not in unasked]
    served.update({owner.name: [] for owner in left if pair.ledger.at(owner.name)})
    name = pair.serving.lineage.name
    place = store.folder(way.home, chosen.store, name)
    if not dark:
        every = tlsa.records(seen.names.hosts.named, by_port, following.sha256 if following else "")
        made = [record for record in every if record.owner not in seen.names.elsewhere]
        with files.locked(f"{way.home}.lock"):
            store.file_tlsa(place, name, made, names, tlsa.patterns(names, by_port, following.sha256 if following else ""))
    mine = [owner for owner in seen.survey.owners if served.get(owner.name) or seen.ports.get(owner.name) in unasked]
    rest = [owner for owner in seen.survey.owners if owner not in mine and owner.name in {*served, *seen.names.guarded}]
    beside = {owner.place for owner in mine}
    mine_too = [owner for owner in rest if owner.place in beside]
    asked = (
        *addresses.ask(way, seen.names, [*mine, *mine_too], every=True),
        *addresses.ask(way, seen.names, [owner for owner in rest if owner not in mine_too]),
    )
    for owner in mine:
        if seen.ports[owner.name] in unasked:
            # Such a port is behind a proxy: what clients get is what the addresses of the host serve.
            there = {one.key.sha256 for one in asked if one.owner == owner.name and one.key}
            served[owner.name] = [known[spki] for spki in sorted(there & known.keys())] or None
    known_all = replace(seen.survey, addresses=asked)
    found = publish.places(known_all, served, following, pair.retired(), pair.ledger.at, seen.names.guarded)
    return tuple(replace(one, optional=not any(owner in seen.names.ports for owner in one.owners)) for one in found)


def named(way: Way, pair: Pair, name: str) -> bool:
    """Whether a server's configuration names files of lineage ``name``.

    :raises Problem: a server's configuration cannot be read.
    """
    place = store.folder(way.home, pair.options.store, name)
    return any(one.pair and place.owns(one.pair.cert) for one in owner_names.configured(way, pair))


def write_down(way: Way, pair: Pair, change: Callable[[Ledger], Ledger]) -> Pair:
    """Change the ledger, as it is on disk now.

    :returns: the pair with it.
    :raises Problem: it cannot be read or written.
    """
    with files.locked(f"{way.home}.lock"):
        known = change(ledger.load(pair.place) or Ledger())
        ledger.save(pair.place, known)
    return replace(pair, ledger=known)


def _note(
    way: Way,
    pair: Pair,
    said: Survey,
    relevant: Survey,
    current: Key,
    following: Optional[Key],
    signature: files.Signature,
    note: bool,
) -> Ledger:
    """Take the look down; the ledger as it is then."""

    def add(known: Ledger) -> Ledger:
        floor = datetime.timedelta(hours=pair.options.dane_floor)
        made = rollover.observe(known.evidence, relevant, current, following, floor)
        return replace(known, asked=said.at, signature=signature, evidence=made)

    if not note or (pair.standby is None and not pair.serving.installed):
        # None of our business: nothing of it is kept.
        return add(pair.ledger)
    noted = write_down(way, pair, add)
    ledger.file_survey(pair.place, said)
    return noted.ledger


def _watched(home: str, pair: Pair) -> list[str]:
    """The files that a look is about; while they stay, and it is not long ago, there is nothing to look for."""
    members = [member.lineage for member in (pair.serving, pair.standby) if member]
    return [path for one in members for path in (one.source.cert, store.folder(home, "", one.name).state)]
