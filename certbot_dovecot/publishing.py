"""Bring the records that should stand in the DNS into it, the way the admin chose.

By dynamic update (``--dovecot-publish-rfc2136``), by a program of the admin's (``--dovecot-publish-command``), or not at all,
which is the default: then :func:`todo` says which lines are to be added and which may go.

Only the difference is sent, and only records that the ledger calls ours are deleted.  A record is called ours before it is
sent, and no longer after its deletion was taken (where a program takes it: once no name server gives it any more): a kill in
between leaves a record that may be deleted later, never one that is forgotten.  Where a port does not tell what it serves,
nothing changes.

Zones are independent (rule D23): where one takes no updates, the others are published all the same, and its lines are for the
hand.

Fails as a :class:`~certbot_dovecot.problems.Problem`, where no zone takes updates; what was published before stays, and the
next run does the rest.
"""

from __future__ import annotations

import datetime
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from certbot_dovecot import watch
from certbot_dovecot.commands import Command
from certbot_dovecot.dane import gates, publish
from certbot_dovecot.dane.answers import Data
from certbot_dovecot.dane.publish import Change, Place
from certbot_dovecot.ledger import Ledger
from certbot_dovecot.pairs import Pair
from certbot_dovecot.problems import Problem, ServerProblem, ZoneProblem
from certbot_dovecot.watch import Way

if TYPE_CHECKING:
    from certbot_dovecot.dane.update import Primary

#: Seconds that the admin's program may take.
SECONDS = 120.0


@dataclass(frozen=True)
class Todo:
    """What an admin has to do by hand.

    :param add: zone-file lines to be added.
    :param remove: zone-file lines that may go.
    :param held: why records of former keys must stay, one clause a record set.
    :param refused: why a set does not begin, likewise.
    :param barred: why nothing is added to a set that a port of others shares, likewise.
    """

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    barred: tuple[str, ...] = ()


def publish_them(way: Way, pair: Pair, places: Sequence[Place]) -> tuple[Pair, tuple[Change, ...]]:
    """Publish, if the admin chose a way to.

    :returns: the pair with its ledger as it is then, and what was changed.
    :raises Problem: as the module says.
    """
    chosen = pair.options
    if not chosen.publishes:
        return pair, ()
    if chosen.publish_rfc2136 and chosen.publish_command:
        raise Problem(
            "--dovecot-publish-rfc2136 and --dovecot-publish-command are both given",
            where=pair.name,
            left="Nothing was published",
            todo="Give one of them, and '' for the other (certbot install --installer dovecot --cert-name NAME)",
        )
    places = [place for place in places if not place.dark]
    if chosen.publish_rfc2136:
        return _by_update(way, pair, places)
    return _by_command(way, pair, [place for place in places if not place.blind])


def after(places: Sequence[Place], changes: Sequence[Change]) -> tuple[Place, ...]:
    """The places with what was changed at them, or refused."""
    made = {change.owner: change for change in changes}

    def changed(one: Place) -> Place:
        change = made.get(one.name)
        if change is None:
            return one
        if change.refused:
            return replace(one, by_hand=True)
        return replace(one, present=(one.present - change.delete) | change.add)

    return tuple(map(changed, places))


def todo(pair: Pair, places: Sequence[Place], now: datetime.datetime) -> Todo:
    """What is missing in the DNS, and what may go, that is not ours to delete."""
    retired = {key.sha256 for key in pair.retired()}
    add, remove, held, refused, barred = [], [], [], [], []
    for place in places:
        if place.dark or place.blind:
            continue
        exact = bool(pair.options.publish_rfc2136)
        wanted = publish.change(place.name, place.keys, place.present, pair.ledger.at(place.name), exact=exact)
        made = gates.allowed(wanted, place)
        by_hand = place.by_hand or not pair.options.publishes
        begins = bool(wanted.add) and not place.present
        if wanted.add and place.foreign:
            barred.append(f"at {place.name}, because {' and '.join(gates.barred(place))}")
        elif begins and (others := gates.refused(wanted.after, place.addresses)):
            refused.append(f"at {place.name}, because {' and '.join(others)}")
        if by_hand and not (begins and gates.refused(wanted.after, place.addresses, sure=True)):
            add += _lines(place, publish.by_hand(made, place, begin=place.by_hand))
        # What goes by update is gone; what a cache or a late name server may still give is nobody's task.
        gone = made.delete | pair.ledger.late(place.name, now)
        former = frozenset(data for data in place.present - gone if data.digest in retired) | (wanted.delete - gone)
        left = place.present | made.add
        may_go = gates.guarded(Change(place.name, left - gone, delete=former), place.addresses).delete
        remove += _lines(place, sorted(data for data in may_go if data.digest in retired))
        stay = former - may_go
        if stay:
            reasons = gates.held(left, left - gone - former, place.addresses)
            held.append(f"{' and '.join(map(str, sorted(stay)))} stays at {place.name}, because {' and '.join(reasons)}")
    return Todo(tuple(add), tuple(remove), tuple(held), tuple(refused), tuple(barred))


def lines_of(places: Sequence[Place], spki: str) -> tuple[str, ...]:
    """The zone-file lines of one key that stand in the DNS."""
    return tuple(line for one in places for line in _lines(one, sorted(data for data in one.present if data.digest == spki)))


def missing(places: Sequence[Place]) -> tuple[str, ...]:
    """The zone-file lines that sets which exist lack, for a key that comes next."""
    changes = [publish.change(one.name, one.keys, one.present, frozenset()) for one in places]
    return tuple(line for one, made in zip(places, changes) for line in _lines(one, publish.by_hand(made, one)))


def _lines(place: Place, records: Iterable[Data]) -> list[str]:
    return [f"{place.name} {place.ttl} IN TLSA {data}" for data in records]


def _by_update(way: Way, pair: Pair, places: Sequence[Place]) -> tuple[Pair, tuple[Change, ...]]:
    """One update a place."""
    from certbot_dovecot.dane.update import Primary

    primary, made = Primary(publish.credentials(pair.options.publish_rfc2136)), []
    taken: list[Place] = []
    refused: list[tuple[Place, ZoneProblem]] = []
    for place in places:
        known = pair.ledger.ours

        def before(change: Change) -> None:
            nonlocal pair
            pair = _note(way, pair, change, False)

        def gate(change: Change, place: Place = place) -> Change:
            return gates.allowed(change, place)

        try:
            change = primary.publish(place.name, place.keys, pair.ledger.at(place.name), before, place.ttl, gate)
        except ServerProblem as problem:
            if isinstance(problem, ZoneProblem):
                # It was called ours before it was sent, and is not there.
                pair = _unnote(way, pair, pair.ledger.ours - known)
                refused += [] if place.optional else [(place, problem)]
            elif not place.optional:
                raise
            made.append(Change(place.name, place.present, refused=str(problem), optional=place.optional))
            continue
        taken.append(place)
        if not change.idle:
            pair = _note(way, pair, change, True)
            made.append(change)
    if refused:
        zones = {_zone(primary, place) for place, _ in refused}
        if all(_zone(primary, place) in zones for place in taken):
            raise refused[0][1]
    return pair, tuple(made)


def _zone(primary: Primary, place: Place) -> str:
    """The zone of a place; empty if the server has none.

    :raises ServerProblem: no answer.
    """
    try:
        return primary.zone(place.name).to_text()
    except ZoneProblem:
        return ""


def _by_command(way: Way, pair: Pair, places: Sequence[Place]) -> tuple[Pair, tuple[Change, ...]]:
    """One call for all, computed from what the name servers said.

    They may still say for a while what has been deleted, and it must not be taken for somebody else's then: it stays ours until
    none of them says it any more.
    """
    changes = [
        publish.change(one.name, one.keys, one.present, pair.ledger.at(one.name), one.ttl, exact=False) for one in places
    ]
    made = zip(places, changes)
    gone = {one for place, change in made for one in publish.vanished(place, change, pair.ledger.at(place.name))}
    changes = [publish.without_beginning(gates.allowed(change, place), place) for place, change in zip(places, changes)]
    if gone:
        pair = watch.write_down(way, pair, lambda known: replace(known, ours=known.ours - gone))
    changes = [change for change in changes if not change.idle]
    command = pair.options.publish_command
    crowded = next((change for change in changes if change.crowded), None)
    if crowded:
        raise Problem(
            f"{crowded.owner} would have {len(crowded.after)} TLSA records, which is more than some senders can take",
            left="Nothing was published",
            todo="Remove the records of keys that are not served any more",
        )
    if not changes:
        return pair, ()
    try:
        argv = shlex.split(command)
    except ValueError as exc:
        raise Problem(
            f"--dovecot-publish-command cannot be read: {exc}", left="Nothing was published", todo="Mend its quotes"
        ) from exc
    for change in changes:
        pair = _note(way, pair, change, False)
    done = way.run(Command(argv, seconds=SECONDS, given=publish.document(changes)))
    if done.code:
        raise ServerProblem(
            f"it ended with exit code {done.code} ({done.message or 'it said nothing'})",
            where=command,
            left="It is not known whether it published anything; the next certbot renew that asks the DNS calls it again",
            todo="Run it by hand with the JSON of the documentation on its standard input",
        )
    return pair, tuple(changes)


def _unnote(way: Way, pair: Pair, records: frozenset[tuple[str, Data]]) -> Pair:
    """What was not taken is not ours."""
    return watch.write_down(way, pair, lambda known: replace(known, ours=known.ours - records)) if records else pair


def _note(way: Way, pair: Pair, change: Change, made: bool) -> Pair:
    """Before a change is made, what it adds is ours; after it, what it deleted is not any more."""

    def note(known: Ledger) -> Ledger:
        if made:
            return known.deleted(change.owner, change.delete, way.clock())
        return known.added(change.owner, change.add)

    return watch.write_down(way, pair, note) if (change.delete if made else change.add) else pair
