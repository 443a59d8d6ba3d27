"""The two gates of rule D28.  Pure: what is served, what the DNS says and a clock in; what must not be done, and why, out.

**The key gate** (:func:`keys_held`) stands before every change of the key that an endpoint serves: an install, a renewal, a
switch, an undo, a rollback.  A key leaves an endpoint only if no TLSA record that counts matches it, or if the records are
proven to match the key that comes as well.  The endpoint is asked what it serves now.  One that does not answer serves what its
configuration names when it is started.  What cannot be told holds the key.

**The record gate** (:func:`held`, :func:`refused`, :func:`guarded`) stands before every record that leaves a record set, or
begins one.  Several hosts may share one record set: each address of a host name, and each alias that leads to the set.  A host
that still serves a former key needs that key's record (rule D18).  So before a record of ours is deleted, and before an admin
is told to delete one, every address is asked what it serves, and the answers are judged here:

* If records are left in the set, every address must have answered, and one of the records that are left must match its key.
* If none is left, clients no longer check that name.  Then the deletion is held only by an address that is known to serve a key
  which the set matches now.

A record of the stronger digest (``3 1 2``) is added only when every address has answered, since clients look at nothing else
then.

Where there is no set yet, the first record makes clients check every address.  So a set does not begin while an address is
known to serve a key that it would not match.

Owner names whose aliases, or whose wildcard, lead to one place share its record set (rule D25).  Where a port that is not ours
is among them, and does not serve one of our keys, nothing is added there.

Nothing here does I/O or fails.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from enum import Enum
from typing import Optional

from certbot_dovecot.dane import rollover, standing
from certbot_dovecot.dane.answers import AddressAnswer, Data, Key, Owner, Survey, host_of, port_of
from certbot_dovecot.dane.evidence import FLOOR, Evidence
from certbot_dovecot.dane.publish import Change, Place
from certbot_dovecot.dane.standing import Standing


@dataclass(frozen=True)
class KeyChange:
    """What becomes of the key at one owner name, for clients that ask for its host name.

    :param owner: ``_port._tcp.host.``.
    :param now: what they get now, or would get if the endpoint were started; None if neither can be told.
    :param after: what they would get; None if that cannot be told, or if there is no certificate for them any more.
    """

    owner: str
    now: Optional[Key]
    after: Optional[Key]


class Hold(Enum):
    """Why a key must stay.

    ``NEEDED``: a record that counts matches it, and none the key that comes.  ``UNPROVEN``: both match, and it is not known
    since when.  ``EARLY``: both match, and caches may still hold the set of before.  ``UNKNOWN``: the DNS does not tell, or the
    endpoint does not.
    """

    NEEDED = "needed"
    UNPROVEN = "unproven"
    EARLY = "early"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class HeldKey:
    """A key that must stay at one owner name.

    :param owner: the owner name.
    :param place: where its records stand, aliases followed.
    :param hold: why.
    :param reason: the same in words, a clause without a stop.
    :param after: the key that would come; None if that cannot be told.
    :param ttl: the longest that a cache may hold the set, seconds.
    :param until: the earliest moment at which the key may change, where that is known.
    """

    owner: str
    place: str
    hold: Hold
    reason: str
    after: Optional[Key]
    ttl: int = 0
    until: Optional[datetime.datetime] = None


@dataclass(frozen=True)
class Mismatch:
    """An address whose key is not matched by the records for it, or that could not be asked.

    :param address: empty if the addresses of the host could not be found out.
    :param host: whose address it is.
    :param ports: sorted.
    :param key: what it serves at these ports; None if it could not be asked.
    :param standing: what the records mean for that key; ``DOUBT`` if it could not be asked.
    :param error: why it could not be asked; empty if it could.
    """

    address: str
    host: str
    ports: tuple[int, ...]
    key: Optional[Key]
    standing: Standing
    error: str = ""

    @property
    def where(self) -> str:
        """The address in words: ``192.0.2.2 (mail.example.org, ports 25, 465)``."""
        numbers = f"port{'s' if len(self.ports) > 1 else ''} {', '.join(map(str, self.ports))}"
        return f"{self.address} ({self.host}, {numbers})" if self.address else f"the address of {self.host} ({numbers})"


def keys_held(
    changes: Iterable[KeyChange],
    survey: Survey,
    evidence: Optional[Evidence],
    now: datetime.datetime,
    floor: datetime.timedelta = FLOOR,
) -> tuple[HeldKey, ...]:
    """Which keys must stay, and why; empty if every change may be made.

    A change from a key that no record matches is free: it takes nothing from anybody.

    :param survey: what the DNS says of the owner names.
    :param evidence: of earlier looks, about any two keys; None for none.
    :param now: the clock, UTC.
    :param floor: as for :func:`certbot_dovecot.dane.rollover.earliest`.
    """
    owners = {owner.name: owner for owner in survey.owners}
    found = (_held_key(change, owners[change.owner], evidence, now, floor) for change in changes if change.owner in owners)
    return tuple(dict.fromkeys(one for one in found if one is not None))


def _held_key(
    change: KeyChange, owner: Owner, evidence: Optional[Evidence], now: datetime.datetime, floor: datetime.timedelta
) -> Optional[HeldKey]:
    if change.now is not None and change.now == change.after:
        return None
    ttl = max((seen.ttl for seen in owner.seen), default=0)

    def held_by(hold: Hold, reason: str, until: Optional[datetime.datetime] = None) -> HeldKey:
        return HeldKey(owner.name, owner.place, hold, reason, change.after, ttl, until)

    doubt = standing.doubt(owner)
    if doubt:
        return held_by(Hold.UNKNOWN, doubt)
    if not standing.counts(owner):
        gone = _gone(owner, change.now, evidence, now, floor)
        return held_by(Hold.EARLY, *gone) if gone else None
    if change.now is None:
        return held_by(Hold.UNKNOWN, f"{owner.name} has TLSA records, and what is served there could not be found out")
    before = standing.of(owner, change.now)
    if before is Standing.MISMATCH:
        return None
    if before is Standing.DOUBT:
        return held_by(Hold.UNKNOWN, f"{owner.name} has TLSA records of which it is not known whether they match")
    if change.after is None or standing.of(owner, change.after) is not Standing.MATCH:
        return held_by(
            Hold.NEEDED,
            f"{owner.name} has a TLSA record of the key that is served now (3 1 1 {change.now.sha256}), and "
            f"{_without(owner, change.after)} gives none of the key that would be served",
        )
    about = evidence is not None and (evidence.current, evidence.following) == (change.now.sha256, change.after.sha256)
    until = rollover.earliest(evidence, floor) if evidence is not None and about else None
    if until is None:
        return held_by(Hold.UNPROVEN, f"{owner.name} has TLSA records of both keys, and it is not known since when")
    if now < until:
        said = f"caches may hold the records of before for {owner.name} until {until:%Y-%m-%d %H:%M} UTC"
        return held_by(Hold.EARLY, said, until)
    return None


def _without(owner: Owner, key: Optional[Key]) -> str:
    """Who gives a set of an owner name that does not match a key."""
    given = [*((seen.server, seen.records) for seen in owner.seen), ("the resolver", owner.resolved)]
    return next((who for who, records in given if records and not (key and matches(records, key))), "nobody")


def _gone(
    owner: Owner, key: Optional[Key], evidence: Optional[Evidence], now: datetime.datetime, floor: datetime.timedelta
) -> Optional[tuple[str, Optional[datetime.datetime]]]:
    """What to say of records that are gone and that caches may still hold; None if there are none."""
    if evidence is None or not evidence.stood or key is None or evidence.current != key.sha256:
        return None
    until = rollover.earliest(evidence, floor) if not evidence.owners else None
    if (evidence.owners and owner.name not in evidence.owners) or (until is not None and now >= until):
        return None
    left = f" until {until:%Y-%m-%d %H:%M} UTC" if until else ""
    return f"the TLSA records of {owner.name} are gone, and caches may hold them{left}", until


def matches(records: AbstractSet[Data], key: Key) -> bool:
    """Whether a client accepts ``key`` by its ``3 1 x`` records (RFC 7671 sections 5.1 and 9).

    A client may look at the strongest digest only, so that of each matching type in the set one record must match.
    """
    kinds = {data.matching for data in records if (data.usage, data.selector) == (3, 1)}
    return bool(kinds) and all(Data(3, 1, kind, key.digest(kind) or "") in records for kind in kinds)


def held(present: AbstractSet[Data], after: AbstractSet[Data], addresses: Iterable[AddressAnswer]) -> tuple[str, ...]:
    """Why records must not be deleted from a set; empty if they may.

    :param present: the set now.
    :param after: the set without them.
    :param addresses: what every address that shares the set serves.
    :returns: one clause an address, without a stop.
    """
    found = []
    for one in addresses:
        where = _where(one)
        if one.key is None:
            if after:
                found.append(f"{where} could not be asked: {one.error}")
        elif matches(present, one.key) and not matches(after, one.key):
            found.append(f"{where} still serves the key 3 1 1 {one.key.sha256}")
        elif after and not matches(after, one.key):
            found.append(f"{where} serves another key, 3 1 1 {one.key.sha256}, and no record matches it")
    return tuple(dict.fromkeys(found))


def refused(first: AbstractSet[Data], addresses: Iterable[AddressAnswer], sure: bool = False) -> tuple[str, ...]:
    """Why a set must not begin with the records ``first``; empty if it may.

    :param sure: whether every address must have answered: an admin may follow advice when that host is back.
    :returns: one clause an address, without a stop.
    """
    found = []
    for one in addresses:
        if one.key is None and sure:
            found.append(f"{_where(one)} could not be asked: {one.error}")
        elif one.key is not None and not matches(first, one.key):
            found.append(f"{_where(one)} serves another key, 3 1 1 {one.key.sha256}")
    return tuple(dict.fromkeys(found))


def allowed(change: Change, place: Place) -> Change:
    """What of a change may be done at a place: :func:`guarded` by its addresses, and nothing added beside a port of others."""
    return guarded(replace(change, add=frozenset()) if place.foreign else change, place.addresses)


def barred(place: Place) -> tuple[str, ...]:
    """Why nothing is added at a place that a port of others shares; empty if something may be.

    :returns: one clause an address, without a stop.
    """
    found = []
    for one in place.foreign:
        said = f"serves another key, 3 1 1 {one.key.sha256}" if one.key else f"could not be asked: {one.error}"
        found.append(f"{_where(one)} {said}")
    return tuple(dict.fromkeys(found))


def guarded(change: Change, addresses: Iterable[AddressAnswer]) -> Change:
    """``change`` without the deletions that an address holds, and without the records of a set that must not begin."""
    known = tuple(addresses)
    if change.add and not change.present and refused(change.after, known):
        change = replace(change, add=frozenset())
    if not all(one.key for one in known):
        # Where there is a stronger digest, a key without one is not accepted; which key this address serves is not known.
        change = replace(change, add=frozenset(data for data in change.add if data.matching != 2))
    if not change.delete:
        return change
    # All at once if that may be; else one after the other.  Records of the stronger digest may only go together.
    stronger = frozenset(data for data in change.delete if data.matching == 2)
    gone: frozenset[Data] = frozenset()
    for some in (change.delete, stronger, *(frozenset({data}) for data in sorted(change.delete))):
        wanted = replace(change, delete=gone | some)
        if not held(change.present, wanted.after, known):
            gone = wanted.delete
    return replace(change, delete=gone)


def _where(one: AddressAnswer) -> str:
    return f"{one.address or 'an address that could not be found out'} (port {port_of(one.owner)})"


def may_go(survey: Survey, key: Key) -> bool:
    """Whether no address holds the records of ``key``, at any owner name of a survey."""
    # Owner names that share a place share its answers (D25).
    places: dict[str, tuple[frozenset[Data], list[AddressAnswer]]] = {}
    for owner in survey.owners:
        present, answers = places.get(owner.place, (frozenset(), []))
        mine = [one for one in survey.addresses if one.owner == owner.name]
        places[owner.place] = (present | owner.published, [*answers, *mine])
    digests = {key.sha256, key.sha512} - {""}
    return not any(
        held(present, frozenset(data for data in present if data.digest not in digests), answers)
        for present, answers in places.values()
        if any(data.digest in digests for data in present)
    )


def mismatches(survey: Survey) -> tuple[Mismatch, ...]:
    """Every address of a survey that a client who checks the records may not accept, or that could not be asked."""
    owners = {owner.name: owner for owner in survey.owners}
    found: dict[Mismatch, list[int]] = {}
    for one in survey.addresses:
        owner = owners.get(one.owner)
        if owner is None:
            continue
        meant = standing.of(owner, one.key) if one.key else Standing.DOUBT
        if one.key is None or meant in (Standing.MISMATCH, Standing.PARTLY):
            same = Mismatch(one.address, host_of(one.owner), (), one.key, meant, one.error)
            found.setdefault(same, []).append(owner.port)
    return tuple(replace(one, ports=tuple(sorted(set(ports)))) for one, ports in found.items())
