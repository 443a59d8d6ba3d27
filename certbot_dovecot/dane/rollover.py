"""When a key whose TLSA records are published may be replaced.  Pure: surveys and a clock in, the next step and its reason out.

The danger: a sender that validates DANE takes the set of records that its cache holds, and refuses to deliver if none of them
matches the key that is served (RFC 7672 section 2.2).  A cache may hold the set of yesterday for as long as its TTL says.  So
the next key's record is published beside the current one, and the switch comes when no cache can hold a set without it (RFC
7671 section 8.1):

* T0 is the moment at which *every* address of *every* name server gives both, and the answer validates (D5).  Any later survey
  that shows less takes T0 back: a regression resets it.
* Evidence needs continuity and a true clock (D26).  Nobody knows what was published while nobody looked: where two looks are
  farther apart than :func:`longest_gap`, T0 begins anew at the second one.  So it does where the clock ran backwards.  A look
  from a clock outside the validity of the answers' signatures proves nothing.
* Silence is no regression (D27).  A name server that does not answer holds the switch, and if it stays silent its silence is a
  gap; T0 stays.  What the others give counts all the same.
* The earliest switch is T0 + max(2 x the largest TTL that is remembered, the negative TTL among them while there was no set,
  a floor of 48 hours) (D6).  A TTL is remembered until looks without a gap have not seen it for three times itself (D29).
* Right before the switch the DNS is asked again (D7).  On any doubt the key stays, and the renewal succeeds with it (R4).
* Of every matching type of ``3 1`` in a set, one record matches what is served now and one what is served next (D2).

A port that is not ours to configure (25, unless the admin says otherwise) is *guarded*: its owner name counts only if a record
of one of our keys stands there, or if it shares its record set with a port of ours (D25).  Then the key must stay, for what
serves that port would not be switched with the others (D13).

What is not understood is doubt: a matching type of ``3 1`` but SHA2-256 and SHA2-512, digests of another length, sets of more
than twelve records (D4).  A stale ``3 1 1`` that matches nothing is harmless, and holds up nothing.  Nor does a record of
another usage or selector, ``2 1 1`` or ``3 0 1``, hold anything up: one record that matches is enough, and digests are compared
within one usage and selector (D22; RFC 6698 section 4.1, RFC 7671 section 9).  That it may not match is worth a warning
(:func:`~certbot_dovecot.dane.standing.beside`).

Why no signature bridges a gap: that a set has the signature of the last look does not prove that it was there in between.  A
signer may make the same one again (PowerDNS signs with dates that change once a week), and a zone may come from a backup.

Nothing here does I/O or fails.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from enum import Enum
from typing import Optional

from certbot_dovecot.dane import standing
from certbot_dovecot.dane.answers import AddressAnswer, Data, Key, Outcome, Owner, Survey, Validity
from certbot_dovecot.dane.evidence import FLOOR, Evidence, longest_gap, remembered

#: A survey is "right before the switch" (D7) for so long.
FRESH = datetime.timedelta(minutes=5)

#: What an address says at which nothing listens.
CLOSED = "connection refused"

_MX = 25
_NEVER = datetime.datetime.min.replace(tzinfo=datetime.timezone.utc)


class Kind(Enum):
    """What to do next.

    ``FREE``: no record counts anywhere, the key may change at once.  ``KEEP``: the key stays.  ``STANDBY``: it stays for want
    of a next key.  ``PUBLISH``: a record is missing somewhere.  ``WAIT``: until caches cannot lack it.  ``LOOK``: ask the DNS
    again, then decide.  ``READY``: a switch is safe, and not due.  ``SWITCH``: it is due, now.  ``RETIRE``: the record of a key
    that is not served any more may go.
    """

    FREE = "free"
    KEEP = "keep"
    STANDBY = "standby"
    PUBLISH = "publish"
    WAIT = "wait"
    LOOK = "look"
    READY = "ready"
    SWITCH = "switch"
    RETIRE = "retire"


@dataclass(frozen=True)
class Step:
    """The next step.

    :param reason: in words, without a stop.
    :param until: the earliest switch, where it is known.
    :param lasting: whether it stays so until an admin changes something in the DNS.
    """

    kind: Kind
    reason: str
    until: Optional[datetime.datetime] = None
    lasting: bool = False


def observe(
    was: Optional[Evidence], survey: Survey, current: Key, following: Optional[Key], floor: datetime.timedelta = FLOOR
) -> Evidence:
    """Add a survey to the evidence.

    TTLs outlive keys: what a cache holds was given under the TTL of that time, and a record of another key, or an edit, may
    have lowered it since.

    A look that cannot see everything (a name server is silent, the clock is wrong) makes no evidence.  It only takes some away,
    if what it does see is less than there was.

    :param was: the evidence so far; None for none.
    :param following: None if there is none.
    :param floor: as :func:`decide` has it.
    """
    if was is None:
        was = Evidence("", "", frozenset())
    if not _concerns(was, current, following):
        was = replace(was, current=current.sha256, following=_sha256(following), owners=frozenset(), since=None, gap=None)
    stood = was.stood or any(map(standing.counts, survey.owners))
    at, limit = survey.at, longest_gap(floor)
    wrong = any(standing.wrong_clock(owner, at) for owner in survey.owners)
    if wrong or any(map(standing.silent, survey.owners)):
        owners, since = _left(was, survey, current, following, wrong)
        return replace(was, owners=owners, since=since, stood=stood, ttls=remembered(was, survey, False, limit))
    counting = [owner for owner in survey.owners if standing.counts(owner) or standing.unclear(owner)]
    owners = frozenset(owner.name for owner in counting)
    if counting:
        complete = following is not None and not any(_lacks(owner, current, following) for owner in counting)
    else:
        complete = bool(survey.owners)
    back = was.looked is not None and at < was.looked
    # Where nobody looked there may have been records, or none.  That there are none now is as good as at a first look.
    apart = was.looked is None or (at - was.looked > limit and bool(owners))
    # T0 is one moment, the end of all records another.
    held = was.since is not None and not back and owners <= was.owners and bool(owners) == bool(was.owners)
    # A clock that is put right by less than a gap is not noticed.  T0 must not lie before that, then.
    least = at + limit if back else was.least
    ttls = remembered(was, survey, True, limit, back or apart)
    made = replace(was, owners=owners, ttls=ttls, stood=stood, looked=at, least=least)
    if not complete:
        return replace(made, since=None, gap=None)
    if held and not apart:
        return made
    return replace(made, since=max(at, least) if least else at, gap=was.looked if held else None)


def _left(
    was: Evidence, survey: Survey, current: Key, following: Optional[Key], wrong: bool
) -> tuple[frozenset[str], Optional[datetime.datetime]]:
    """What a look that cannot see everything leaves of the owner names and of T0.

    :param wrong: whether the clock is, so that nothing validates at this host's resolver either.
    """
    heard = [replace(owner, seen=tuple(s for s in owner.seen if s.outcome is not Outcome.SILENT)) for owner in survey.owners]
    heard = [replace(owner, validity=Validity.SECURE) if wrong else owner for owner in heard if owner.seen]
    counting = {owner.name: owner for owner in heard if standing.counts(owner) or standing.unclear(owner)}
    gone = {owner.name for owner in heard if owner.name not in counting}
    owners = was.owners - gone
    less = following is None or any(_lacks(owner, current, following) for owner in counting.values())
    if counting and less:
        return owners, None
    return owners, was.since if bool(owners) == bool(was.owners) else None


def relevant(
    survey: Survey,
    guarded: AbstractSet[str],
    keys: Sequence[Key],
    others: AbstractSet[str] = frozenset(),
    retired: Sequence[Key] = (),
) -> Survey:
    """A survey without the owner names that count only where a record of ours stands, and for certain have none.

    Of one that may have a record of ours, for a name server does not say, what others give is left out: it is not ours.

    An owner name whose records are those of a port of ours counts, whatever they are (rule D25).

    :param guarded: owner names of ports that are not ours.
    :param keys: the key that is served, and the next one.
    :param others: owner names of our ports, at hosts that the certificate does not name (rule D19).
    :param retired: keys that were served once: at ``others``, a record of one of these is ours, and late.
    """
    ours = _digests(keys)
    once = ours | _digests(retired)
    conditional = guarded | others
    shared = {owner.place for owner in survey.owners if owner.name not in conditional}

    def counting(owner: Owner) -> Optional[Owner]:
        wanted = ours if owner.name in guarded else once
        if owner.name not in conditional or any(data.digest in wanted for data in owner.published):
            return owner
        if owner.place in shared and owner.published:
            return owner
        unheard = tuple(seen for seen in owner.seen if seen.outcome not in standing.USABLE)
        return replace(owner, seen=unheard, resolved=frozenset()) if unheard or not owner.seen else None

    return replace(survey, owners=tuple(one for one in map(counting, survey.owners) if one is not None))


def unused(owners: Iterable[Owner], addresses: Iterable[AddressAnswer]) -> frozenset[str]:
    """Of the ports that are not ours and have records by a wildcard, those at which nothing depends on the records.

    :param addresses: what the addresses of their hosts serve.
    """
    answers = list(addresses)

    def used(owner: Owner) -> bool:
        mine = [one for one in answers if one.owner == owner.name]
        if owner.port == _MX:
            return any(one.key or one.error != CLOSED for one in mine)
        return any(data.digest == one.key.digest(data.matching) for one in mine if one.key for data in owner.published)

    return frozenset(owner.name for owner in owners if not used(owner))


def _digests(keys: Iterable[Key]) -> set[str]:
    return {digest for key in keys for matching in standing.LENGTHS if (digest := key.digest(matching))}


def earliest(evidence: Evidence, floor: datetime.timedelta = FLOOR) -> Optional[datetime.datetime]:
    """The earliest switch (D6); None while T0 is not reached."""
    if evidence.since is None:
        return None
    return evidence.since + max(2 * datetime.timedelta(seconds=evidence.ttl), floor)


def decide(
    survey: Optional[Survey],
    evidence: Optional[Evidence],
    current: Key,
    following: Optional[Key],
    now: datetime.datetime,
    floor: datetime.timedelta = FLOOR,
    due: bool = True,
    retired: Sequence[Key] = (),
    guarded: AbstractSet[str] = frozenset(),
    ours: AbstractSet[str] = frozenset(),
) -> Step:
    """The next step.

    :param survey: the last one, what is :func:`relevant` of it; None if the DNS could not be asked.
    :param evidence: what :func:`observe` made of all of them, this one too.
    :param current: the key that is served.
    :param following: the key of the standby; None if there is none.
    :param now: the clock, UTC.
    :param due: whether a switch is wanted now.
    :param retired: keys that were served once.
    :param guarded: owner names of ports that are not ours.
    :param ours: where we publish, and have put records already.
    """
    if survey is None:
        return Step(Kind.KEEP, "the DNS could not be asked")
    if not timely(survey, now):
        return Step(Kind.LOOK, "the last look at the DNS is too long ago")
    doubt = next(
        (said for owner in survey.owners if (said := standing.wrong_clock(owner, survey.at) or standing.unclear(owner))), ""
    )
    if doubt:
        return Step(Kind.KEEP, doubt)
    late = next(
        (one for one in survey.owners if one.place in ours and not any(standing.sets(one)) and not standing.unsigned(one)), None
    )
    if late:
        return Step(Kind.PUBLISH, f"no name server has the records yet that were published for {late.name}")
    known = evidence if evidence is not None and _concerns(evidence, current, following) else None
    until = earliest(known, floor) if known is not None else None
    counting = [owner for owner in survey.owners if standing.counts(owner)]
    if not counting:
        if evidence is None or not evidence.stood or (until is not None and now >= until):
            if any(map(standing.unsigned, survey.owners)) and any(any(standing.sets(owner)) for owner in survey.owners):
                return Step(Kind.FREE, "the TLSA records are in a zone that is not signed; the key may change at any time")
            return Step(Kind.FREE, "no TLSA records are published; the key may change at any time")
        left = f" until {until:%Y-%m-%d %H:%M} UTC" if until else ""
        return Step(Kind.KEEP, f"TLSA records are gone that caches may hold{left}", until)
    other = next((owner for owner in counting if owner.name in guarded), None)
    if other:
        return Step(Kind.KEEP, _foreign(other, survey, guarded, [key for key in (current, following) if key]), lasting=True)
    wrong = next((said for owner in counting if (said := standing.unknown(owner))), "")
    if wrong:
        return Step(Kind.KEEP, wrong, lasting=True)
    stale = next((said for owner in counting if (said := _stale(owner, retired))), "")
    if following is None:
        if stale:
            return Step(Kind.RETIRE, stale)
        return Step(Kind.STANDBY, f"{counting[0].name} has TLSA records, and no next key is published")
    lack = next((said for owner in counting if (said := _lacks(owner, current, following))), "")
    if lack:
        return Step(Kind.PUBLISH, lack)
    if until is None:
        return Step(Kind.LOOK, "both records are everywhere since now")
    older = next((owner.name for owner in counting if standing.is_older(owner.resolved, following)), "")
    if older and now >= until:
        # It should be forgotten by now.  Whoever asks that resolver would find no match (D7).
        return Step(Kind.WAIT, f"the resolver still returns a set for {older} without the record of the next key", until)
    proven = "the next key's record has been everywhere for longer than any cache holds an older set"
    if due and now >= until:
        return Step(Kind.SWITCH, proven, until)
    if stale:
        return Step(Kind.RETIRE, stale, until)
    if now < until:
        wait = f"caches may still hold the records of before, until {until:%Y-%m-%d %H:%M} UTC"
        return Step(Kind.WAIT, f"{_unseen(known, floor)}{wait}", until)
    return Step(Kind.READY, proven, until)


def among_others(step: Step, survey: Survey) -> Step:
    """A step that says exactly what is not published, where a survey has records of others that do not count."""
    if step.kind is Kind.FREE and any(standing.counts(owner) for owner in survey.owners):
        return replace(step, reason="no TLSA records of this key are published; the key may change at any time")
    return step


def foreign(owner: Owner, key: Key) -> str:
    """Why ``key`` must stay for a guarded owner name that is :func:`relevant`; empty if its zone is plainly unsigned."""
    return standing.unclear(owner) or (
        _foreign(owner, Survey(_NEVER, ()), frozenset(), [key]) if standing.counts(owner) else ""
    )


def timely(survey: Survey, now: datetime.datetime) -> bool:
    """Whether a survey is fresh enough to act on; one from the future is not, for a clock has jumped."""
    return survey.at <= now <= survey.at + FRESH


def _unseen(evidence: Optional[Evidence], floor: datetime.timedelta) -> str:
    """That the wait began anew because nobody looked for too long, as the beginning of a sentence; empty if it did not."""
    if evidence is None or evidence.gap is None or evidence.since is None:
        return ""
    hours = longest_gap(floor).total_seconds() / 3600
    return (
        f"the DNS was not seen as a whole between {evidence.gap:%Y-%m-%d %H:%M} and {evidence.since:%Y-%m-%d %H:%M} UTC, which "
        f"is more than {hours:g} hours, so that the wait began anew (certbot renew must run more often than that, best twice a "
        "day); "
    )


def _foreign(owner: Owner, survey: Survey, guarded: AbstractSet[str], keys: Sequence[Key]) -> str:
    """Why a guarded owner name keeps the key, and what ends that."""
    sharing = sorted(one.name for one in survey.owners if one.place == owner.place and one.name not in guarded)
    todo = _parting(owner, sharing, survey, keys)
    if owner.port == _MX and (not keys or standing.of(owner, keys[0]) is standing.Standing.MATCH):
        # What would be served there then must have its record.
        todo = f"--dovecot-postfix-services all, or {todo}"
    if sharing:
        return f"{owner.name} shares its records with {sharing[0]}, and that port is not served by this installer ({todo})"
    return f"{owner.name} has a record of this key, and that port is not served by this installer ({todo})"


def _parting(owner: Owner, sharing: Sequence[str], survey: Survey, keys: Sequence[Key]) -> str:
    """What takes a guarded port out of the way, without a record set that is left without a match.

    A whole set may go, or an alias: clients do not check that name then.  One record of a set may go only if what the port
    serves is known, and is matched by the others.
    """
    if owner.wildcard:
        return f"add the record of the key that this port serves at {owner.name} itself"
    if owner.place != owner.name:
        return f"remove the alias of {owner.name} to {owner.place}"
    if sharing:
        return f"remove the alias of {' and that of '.join(sharing)} to it"
    ours = frozenset(data for data in owner.published if data.digest in _digests(keys))
    answers = [one for one in survey.addresses if one.owner == owner.name]
    others = [Data(3, 1, 1, one.key.sha256) for one in answers if one.key]
    if others and len(others) == len(answers) and all(set(others) <= records - ours for records in standing.sets(owner)):
        return f"remove {' and '.join(map(str, sorted(ours)))} there"
    return "remove all TLSA records of that name"


def _sha256(key: Optional[Key]) -> str:
    return key.sha256 if key else ""


def _concerns(evidence: Evidence, current: Key, following: Optional[Key]) -> bool:
    """Whether T0 of this evidence is about these keys."""
    return (evidence.current, evidence.following) == (current.sha256, _sha256(following))


def _stale(owner: Owner, retired: Sequence[Key]) -> str:
    """Which record of an owner name may go; empty if none."""
    for key in retired:
        if any(standing.is_of(data, key) for data in owner.published):
            return f"{owner.place} still has the record 3 1 1 {key.sha256} of a key that is not served any more"
    return ""


def _lacks(owner: Owner, current: Key, following: Key) -> str:
    """What an owner name lacks of T0's condition (D5, D2); empty if nothing."""
    said = standing.unclear(owner) or standing.unknown(owner)
    if said:
        return said
    if owner.validity is not Validity.SECURE:
        return f"{owner.name} is not secure"
    # A name server of an alias was asked for the alias.  What stands where it leads others were asked.
    given = [(seen.server, seen.records) for seen in owner.seen if not seen.alias]
    for place, records in [*given, ("the resolver", owner.resolved)]:
        # A resolver may hold the older set for its TTL; that is what the wait is for, but what it says must not be wrong.
        wanted = (current,) if place == "the resolver" else (current, following)
        for key in wanted:
            for matching in {1, *(data.matching for data in records if (data.usage, data.selector) == (3, 1))}:
                if Data(3, 1, matching, key.digest(matching) or "") not in records:
                    which = "the next key" if key is following else "the key that is served"
                    return f"{place} does not have the record 3 1 {matching} of {which} for {owner.name}"
    return ""
