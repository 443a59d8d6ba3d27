"""The closed loop: what a ``certbot renew`` does for keys whose records are in the DNS, and the switch to the other key.

:func:`tend` looks (:mod:`~certbot_dovecot.watch`), publishes (:mod:`~certbot_dovecot.publishing`), and switches if it is due
and proven.  One change at a time (D8): the next record is added, and waited for; the servers switch; every endpoint is asked;
only then does the old record go, and the lineage that was served takes a new key at its next renewal.

The switch is an ordinary reconcile of the other lineage in place of the one that is served: checked before the first write,
proven on the wire, put back if it fails.  What it is about to do is in the ledger before its first byte, so that a run after a
kill finishes it before anything else.

Whatever is doubtful leaves everything as it is, and is told at most once a day (R4, R6).  What fails is a
:class:`~certbot_dovecot.problems.Problem`.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from shlex import quote
from typing import Optional

from certbot_dovecot import files, jobs, publishing, reconcile, rotation, watch
from certbot_dovecot.dane import standing
from certbot_dovecot.dane.publish import Change
from certbot_dovecot.dane.rollover import Kind, Step
from certbot_dovecot.ledger import Ledger, Turn
from certbot_dovecot.pairs import Pair
from certbot_dovecot.plan import Job
from certbot_dovecot.problems import DeployProblem, Problem, ServerProblem, sentence
from certbot_dovecot.publishing import Todo
from certbot_dovecot.rollover import key_gate, messages
from certbot_dovecot.watch import Look, Way

#: How often an admin is told what stands in the way of a rotation that is due, and of one that is not due yet.
DAY, MONTH = datetime.timedelta(days=1), datetime.timedelta(days=30)


@dataclass(frozen=True)
class Told:
    """What came of it.

    :param notes: what is good to know; ``-q`` hides it.
    :param warnings: what an admin must know, also under ``-q`` (R6).
    :param step: the step; None if nothing was looked at.
    :param switched: whether the servers changed to the other key.
    """

    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    step: Optional[Step] = None
    switched: bool = False


def tend(way: Way, name: str) -> Told:
    """Do for the pair that lineage ``name`` is in what is to be done now; nothing if it is not time, or there is nothing.

    :raises Problem: a switch or an update failed; it says what was left as it was.
    """
    pair = way.pair(name)
    if pair is None or pair.options.dane == "off" or not (pair.standby or pair.options.publishes or pair.waits()):
        return Told()
    finished = finish(way, pair)
    if finished is None and not pair.ledger.due(way.clock()):
        return Told()
    if finished is None:
        return _advance(way, _find(way, pair.name))
    try:
        return replace(_advance(way, finished), switched=True)
    except Problem as problem:
        raise _after(finished, problem) from problem


def roll(way: Way, name: str) -> Told:
    """Switch to the standby if that is proven, whatever the year; else say what is missing.

    :raises Problem: nobody stands by, or it failed.
    """
    finished = finish(way, _find(way, name))
    if finished is not None:
        return Told((_switched(finished),), switched=True)
    return _advance(way, _with_standby(way, name), wanted=True)


def roll_now(way: Way, name: str, reason: str) -> Told:
    """Switch to the standby at once (D10), then take the old record out of the DNS.

    :param reason: the admin's, for the record.
    :raises Problem: nobody stands by, or the switch failed; then the servers serve what they did.
    """
    finished = finish(way, _find(way, name))
    if finished is not None:
        return Told(
            (_switched(finished), "That finished a switch that was interrupted. If this is the lost key, run it again."),
            switched=True,
        )
    pair = _with_standby(way, name)
    lost = pair.current().sha256
    evidence, at = pair.ledger.evidence, way.clock()
    pair = switch(way, pair, reason, force=True)
    notes, warnings = [_switched(pair)], []
    try:
        seen = watch.look(way, pair)
        places = watch.places(way, seen)
        held = [place.name for place in places if any(data.digest == lost for data in place.present)]
        pair, changes = publishing.publish_them(way, seen.pair, places)
        places = publishing.after(places, changes)
        notes += messages.published(changes)
        seconds = max([seen.ttl, evidence.ttl if evidence else 0])
        if held:
            until = at + datetime.timedelta(seconds=seconds)
            notes.append(
                f"Caches may hold the record of the old key for {seconds} s after it is gone from the DNS, not before "
                f"{until:%Y-%m-%d %H:%M} UTC; a sender with such a set accepts the old key too."
            )
        todo = publishing.todo(pair, places, way.clock())
        warnings += [*messages.refusals(changes), *_by_hand(todo, seen.step), *map(messages.held_record, todo.held)]
        if seen.step.kind is not Kind.FREE and (evidence is None or evidence.since is None):
            warnings.append(
                f"The record of the new key was not proven to be everywhere: senders that hold an older set defer their mail "
                f"for up to {seconds} s."
            )
    except Problem as problem:
        warnings.append(f"The servers serve the other key now, but the DNS is not up to date: {problem}")
    return Told(tuple(notes), tuple(warnings), switched=True)


def finish(way: Way, pair: Pair) -> Optional[Pair]:
    """Finish a switch that was killed half way; None if there was none.

    One of which no server has anything yet is forgotten: what was proven for it may be long ago.
    """
    if not pair.ledger.turning or pair.standby is None:
        return None
    if not watch.named(way, pair, pair.ledger.turning):
        with files.locked(f"{way.home}.lock"):
            reconcile.release(way.home, pair.ledger.turning, served=False)
        watch.write_down(way, pair, lambda known: replace(known, turning=""))
        return None
    # Half of it is done: whichever way it goes, some endpoints change, and the records were proven for this one.
    return switch(way, pair, "finished after an interruption", force=True)


def switch(way: Way, pair: Pair, reason: str, force: bool = False) -> Pair:
    """Bring the lineage that stands by to the servers, in place of the one that is served, and prove it.

    :param force: whatever the key gate says.
    :returns: the pair, the two having changed places.
    :raises Problem: it must not be done, or could not be proven; the servers serve what they did, unless it says otherwise.
    """
    unfit = pair.unfit(way.clock())
    if unfit or pair.standby is None:
        raise Problem(
            f"the servers cannot change to the standby: {unfit}",
            where=pair.name,
            left="The servers serve what they did",
            todo="See certbot certificates; give both lineages the same names (certbot certonly --cert-name NAME -d ...)",
        )
    new = pair.standby.lineage
    chosen = pair.options
    again = f"certbot-dovecot rollover {quote(pair.name)} --now"
    job = Job(new.name, new.source, chosen, new.history, replaces=pair.serving.lineage.name, force=force, again=again)
    turn = Turn(way.clock(), new.name, pair.standby.key().sha256, reason)
    # What a killed run did of it stays half done if it cannot be finished now, and is to be finished later.
    before = pair.ledger.turning
    pair = watch.write_down(way, pair, lambda known: replace(known, turning=new.name))
    try:
        report = reconcile.converge(jobs.host(way.config_dir, chosen, way.run, way.checkpoint, key_gate.of(way)), job)
    except DeployProblem as problem:
        _settle(way, pair, turn, problem.kept, before)
        raise
    except Problem:
        _settle(way, pair, turn, False, before)
        raise
    # Nothing is left to ask where the run was killed after all was proven.
    turned = report.plan is not None and bool(report.plan.targets)
    _settle(way, pair, turn, turned)
    if not turned:
        raise ServerProblem(
            f"no server names the files of {pair.serving.lineage.name}: there is nothing to switch",
            where=pair.name,
            left="Nothing was changed",
            todo=f"Install it first: certbot install --installer dovecot --cert-name {quote(pair.serving.lineage.name)}",
        )
    return _find(way, pair.name)


def _advance(way: Way, pair: Pair, wanted: bool = False) -> Told:
    """Look, publish, switch if that is proven and due, and say what is to be said."""
    seen = watch.look(way, pair, wanted)
    places = watch.places(way, seen)
    pair, changes = publishing.publish_them(way, seen.pair, places)
    places = publishing.after(places, changes)
    notes, step = [*seen.survey.notes, *messages.published(changes)], seen.step
    dark = any(place.dark for place in places)
    due = wanted or _is_due(pair, step, way.clock())
    if due and allows(pair, step):
        stop = "an endpoint does not tell what it serves" if dark else _stop(way, pair)
        if not stop:
            pair = switch(way, pair, step.reason)
            try:
                # D8: verified, so the old record may go.
                places = watch.places(way, replace(seen, pair=pair))
                pair, changes = publishing.publish_them(way, pair, places)
                notes += [_switched(pair), *messages.published(changes)]
                todo = publishing.todo(pair, publishing.after(places, changes), way.clock())
                more = [*_say_held(way, pair, todo), *_say_beside(way, pair, seen)]
                return Told(tuple(notes), (*messages.refusals(changes), *_by_hand(todo, step), *more), step, True)
            except Problem as problem:
                raise _after(pair, problem) from problem
        step = Step(Kind.KEEP, stop, step.until)
    todo = publishing.todo(pair, places, way.clock())
    if _began_anew(pair, step) and not due:
        notes.append(f"{pair.name}: {sentence(step.reason)}")
    more = [*_say_zones(way, pair, changes, todo, due), *_say_beside(way, pair, seen)]
    theirs = _of_refused(changes, todo)
    todo = replace(todo, add=tuple(line for line in todo.add if line not in theirs))
    held = todo if step.kind is not Kind.FREE else Todo(barred=todo.barred if pair.options.publishes else ())
    return Told(tuple(notes), (*_say(way, pair, step, todo, due), *_say_held(way, pair, held), *more), step)


def _is_due(pair: Pair, step: Step, now: datetime.datetime) -> bool:
    """Whether another key is to be served.

    One that waits is no reason where no record counts: then something else keeps it from the servers, and a deployment tells.

    :raises Problem: a leaf cannot be read.
    """
    if step.kind is Kind.FREE:
        return rotation.is_due(pair.options.key_rotation, pair.since(), now)
    return watch.is_due(pair, now)


def allows(pair: Pair, step: Step) -> bool:
    """Whether the DNS allows to change to the one that stands by, with a key that was never served; pure.

    :raises Problem: a leaf cannot be read.
    """
    return pair.standby is not None and not pair.standby.spent() and step.kind in (Kind.SWITCH, Kind.FREE)


def _began_anew(pair: Pair, step: Step) -> bool:
    """Whether the wait began anew because nobody looked for too long (rule D26): a timer may be too rare."""
    evidence = pair.ledger.evidence
    return step.kind is Kind.WAIT and evidence is not None and evidence.gap is not None


def _after(pair: Pair, problem: Problem) -> Problem:
    """What went wrong after a switch, which is done all the same."""
    return Problem(
        f"{_switched(pair)} What belongs to it in the DNS is not done: {problem}",
        todo="The next certbot renew does the rest, or says what is missing",
    )


def _stop(way: Way, pair: Pair) -> str:
    """Why a switch that the DNS allows must not be done."""
    try:
        return pair.unfit(way.clock())
    except Problem as problem:
        return str(problem).rstrip(".")


def _say(way: Way, pair: Pair, step: Step, todo: Todo, due: bool) -> list[str]:
    """What an admin must know, and was not told lately."""
    name = pair.name
    if step.kind is Kind.KEEP and step.lasting and not due:
        sentences = [f"{name}: a rotation of the key would not be possible as it is: {sentence(step.reason)}"]
    elif step.kind is Kind.KEEP and due:
        sentences = [f"{name}: the rotation of the key is due, and the key stays: {sentence(step.reason)}"]
    elif step.kind is Kind.STANDBY and due and pair.standby is None:
        sentences = [messages.kept(name, step)]
    elif todo.add and step.kind not in (Kind.KEEP, Kind.LOOK, Kind.FREE):
        sentences = [f"{name}: {sentence(step.reason)} Add to the DNS{messages.one_change(todo.add)}:", *_indented(todo.add)]
    elif todo.remove and step.kind is Kind.RETIRE:
        sentences = [f"{name}: records of a key that is not served any more may go:", *_indented(todo.remove)]
    elif _began_anew(pair, step) and due:
        sentences = [f"{name}: the rotation of the key is due, and waits: {sentence(step.reason)}"]
    elif step.kind is Kind.PUBLISH and due:
        sentences = [f"{name}: the rotation of the key is due, and waits until the DNS has the next: {sentence(step.reason)}"]
    else:
        return []
    topic = f"{step.kind.value} {pair.serving.lineage.name}"
    if pair.ledger.quiet(topic, way.clock(), DAY if due else MONTH):
        return []
    watch.write_down(way, pair, lambda known: replace(known, said={**known.said, topic: way.clock()}))
    return ["\n".join(sentences)]


def _say_held(way: Way, pair: Pair, todo: Todo) -> list[str]:
    """Which records of former keys must stay, if the admin was not told lately."""
    topic = f"held {pair.serving.lineage.name}"
    if not (todo.held or todo.refused or todo.barred) or pair.ledger.quiet(topic, way.clock(), MONTH):
        return []
    watch.write_down(way, pair, lambda known: replace(known, said={**known.said, topic: way.clock()}))
    refused = (*map(messages.refused_set, todo.refused), *map(messages.barred_set, todo.barred))
    return [f"{pair.name}: {told}" for told in (*map(messages.held_record, todo.held), *refused)]


def _say_zones(way: Way, pair: Pair, changes: Sequence[Change], todo: Todo, due: bool) -> list[str]:
    """Which zones take no updates, and their lines, if the admin was not told lately."""
    said = messages.refusals(changes)
    lines = _of_refused(changes, todo)
    # Told again as soon as there is something else to add.
    topic = f"zones {hashlib.sha256(' '.join(lines).encode()).hexdigest()[:8]}"
    if not said or pair.ledger.quiet(topic, way.clock(), DAY if due else MONTH):
        return []
    watch.write_down(way, pair, lambda known: replace(known, said={**known.said, topic: way.clock()}))
    told = [f"{pair.name}: {one}" for one in said]
    if lines:
        told[-1] = "\n".join([f"{told[-1]} Add to the DNS{messages.one_change(lines)}:", *_indented(lines)])
    return told


def _of_refused(changes: Sequence[Change], todo: Todo) -> list[str]:
    """The lines to be added of zones that take no updates."""
    owners = {change.owner for change in changes if change.refused and not change.optional}
    return [line for line in todo.add if line.split(" ", 1)[0] in owners]


def _say_beside(way: Way, pair: Pair, seen: Look) -> list[str]:
    """Which records of other kinds may not match what is served, if the admin was not told lately."""
    found = standing.beside(seen.survey, pair.current())
    if not found or pair.ledger.quiet("beside", way.clock(), MONTH):
        return []
    watch.write_down(way, pair, lambda known: replace(known, said={**known.said, "beside": way.clock()}))
    return [f"{pair.name}: {messages.beside_record(*one)}" for one in found]


def _settle(way: Way, pair: Pair, turn: Turn, turned: bool, turning: str = "") -> None:
    """The switch is over, for good or not.

    :param turning: what is still to be finished if not.
    """

    def change(known: Ledger) -> Ledger:
        return known.turned(turn) if turned else replace(known, turning=turning)

    watch.write_down(way, pair, change)


def _with_standby(way: Way, name: str) -> Pair:
    pair = _find(way, name)
    if pair.standby is None:
        raise Problem(
            "no lineage stands by for it",
            where=name,
            left="The servers serve what they did",
            todo=f"Make one: certbot-dovecot standby {quote(pair.name)}. If the key is lost, replace it now: certbot renew "
            f"--cert-name {quote(pair.serving.lineage.name)} --force-renewal --new-key, and its TLSA records in the DNS",
        )
    if pair.standby.spent():
        raise Problem(
            f"the key of {pair.standby.lineage.name} was served before, and is not replaced yet",
            where=name,
            left="The servers serve what they did",
            todo=f"Renew it first: certbot renew --cert-name {quote(pair.standby.lineage.name)} --force-renewal",
        )
    return pair


def _find(way: Way, name: str) -> Pair:
    """The pair, as the files say now.

    :raises Problem: there is no such lineage.
    """
    pair = way.pair(name)
    if pair is None:
        raise jobs.missing(way.config_dir, name)
    return pair


def _switched(pair: Pair) -> str:
    last = pair.ledger.turns[-1]
    return f"{pair.name}: the servers serve the key of {last.to} now (3 1 1 {last.spki})."


def _by_hand(todo: Todo, step: Step) -> list[str]:
    said = []
    if todo.add and step.kind is not Kind.FREE:
        said.append("\n".join([f"Add to the DNS{messages.one_change(todo.add)}:", *_indented(todo.add)]))
    if todo.remove:
        head = "Records of a key that is not served any more; remove them from the DNS:"
        said.append("\n".join([head, *_indented(todo.remove)]))
    return said


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" for line in lines]
