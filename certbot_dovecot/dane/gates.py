"""The gate that a TLSA record passes before it leaves a record set, or begins one.  Pure.

Several hosts may share one record set: each address of a host name, and each alias that leads to the set.  A host that still
serves a former key needs that key's record (rule D18).  So before a record of ours is deleted, and before an admin is told to
delete one, every address is asked what it serves, and the answers are judged here:

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

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Optional

from certbot_dovecot.dane import rollover
from certbot_dovecot.dane.answers import AddressAnswer, Data, Key, Survey, host_of, port_of
from certbot_dovecot.dane.publish import Change, Place
from certbot_dovecot.dane.rollover import Standing


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
        standing = rollover.standing(owner, one.key) if one.key else Standing.DOUBT
        if one.key is None or standing in (Standing.MISMATCH, Standing.PARTLY):
            same = Mismatch(one.address, host_of(one.owner), (), one.key, standing, one.error)
            found.setdefault(same, []).append(owner.port)
    return tuple(replace(one, ports=tuple(sorted(set(ports)))) for one, ports in found.items())
