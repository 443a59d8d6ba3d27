"""What the records of one owner name mean for those who look at them.  Pure.

What is not understood is doubt: a matching type of ``3 1`` but SHA2-256 and SHA2-512, digests of another length, sets of more
than twelve records (rule D4).  A record of another usage or selector is none: one record that matches is enough (D22).

Nothing here does I/O or fails.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from enum import Enum

from certbot_dovecot.dane.answers import Data, Key, Outcome, Owner, Survey, Validity

#: Rule D4: some senders fail with more.
MOST_RECORDS = 12
#: Matching type to the length of its digest, in hexadecimal digits.
LENGTHS = {1: 64, 2: 128}
#: What a name server says that can be believed.
USABLE = (Outcome.ANSWER, Outcome.ABSENT)


class Standing(Enum):
    """What the records of one owner name mean for a sender that meets a key there.

    ``NONE``: there are none, or the zone is unsigned, so that nobody looks at them.  ``DOUBT``: the DNS does not say, or what
    is there is not understood.  ``MATCH``: every set that somebody gives has a record of the key.  ``PARTLY``: some have not.
    ``MISMATCH``: none has.
    """

    NONE = "none"
    DOUBT = "doubt"
    MATCH = "match"
    PARTLY = "partly"
    MISMATCH = "mismatch"


def of(owner: Owner, key: Key) -> Standing:
    """What the records of ``owner`` mean for a sender that meets ``key`` there."""
    if unclear(owner):
        return Standing.DOUBT
    if not counts(owner):
        return Standing.NONE
    known_sets = [records for records in sets(owner) if records]
    matching = [any(data.usage == 3 and data.selector == 1 and is_of(data, key) for data in records) for records in known_sets]
    if all(matching):
        return Standing.MATCH
    if any(matching):
        return Standing.PARTLY
    # A record by a certificate's digest or by its CA may match as well.
    known = all((data.usage, data.selector) == (3, 1) for records in known_sets for data in records)
    return Standing.MISMATCH if known else Standing.DOUBT


def doubt(owner: Owner) -> str:
    """Why nothing can be said of an owner name; empty if something can.

    Name servers that cannot be asked are no doubt where a resolver says that there is no record, and nobody says otherwise:
    many hosts may only ask their resolver.
    """
    said = unclear(owner)
    absent = bool(owner.target) and owner.validity is not Validity.BOGUS and not any(sets(owner))
    return "" if absent else said


def beside(survey: Survey, key: Key) -> tuple[tuple[str, Data, bool], ...]:
    """Which records of other kinds stand beside those of ``key``, and may not match what is served (rule D22).

    :returns: place, record, and whether no address that shares the place needs it; sorted.
    """
    places: dict[str, list[Owner]] = {}
    for owner in survey.owners:
        if counts(owner):
            places.setdefault(owner.place, []).append(owner)
    found = []
    for place, owners in places.items():
        keys = [one.key for one in survey.addresses if one.owner in {owner.name for owner in owners}]
        idle = all(one is not None and of(owners[0], one) is Standing.MATCH for one in keys)
        if of(owners[0], key) is Standing.MATCH:
            others = {data for owner in owners for data in owner.published if (data.usage, data.selector) != (3, 1)}
            found += [(place, data, idle) for data in sorted(others)]
    return tuple(sorted(found))


def is_of(data: Data, key: Key) -> bool:
    """Whether a record has the key's digest."""
    return bool(data.digest) and data.digest == key.digest(data.matching)


def sets(owner: Owner) -> Sequence[frozenset[Data]]:
    """Every set that somebody gave for an owner name."""
    return [*(seen.records for seen in owner.seen), owner.resolved]


def counts(owner: Owner) -> bool:
    """Whether clients look at the records of an owner name: there are some, and the zone is not plainly unsigned."""
    if not any(sets(owner)):
        return False
    return not unsigned(owner)


def is_older(records: AbstractSet[Data], key: Key) -> bool:
    """Whether a cache holds a set without a record of ``key``."""
    return bool(records) and not any((data.usage, data.selector) == (3, 1) and is_of(data, key) for data in records)


def unsigned(owner: Owner) -> bool:
    """Whether the zone is plainly unsigned."""
    return not any(seen.signed for seen in owner.seen) and owner.validity is Validity.INSECURE and not owner.secured


def silent(owner: Owner) -> bool:
    """Whether somebody who should say something of an owner name did not (D27)."""
    return not owner.seen or any(seen.outcome is Outcome.SILENT for seen in owner.seen)


def wrong_clock(owner: Owner, at: datetime.datetime) -> str:
    """How the clock of a look disagrees with the signatures of an answer (D26); empty if it does not."""
    for seen in owner.seen:
        if seen.inception is None or seen.expiration is None or seen.inception <= at <= seen.expiration:
            continue
        if at < seen.inception:
            dates, why = f"valid only from {seen.inception:%Y-%m-%d %H:%M:%S} UTC on", "or that of the signer is"
        else:
            dates, why = f"not valid after {seen.expiration:%Y-%m-%d %H:%M:%S} UTC", "or the zone was not signed again in time"
        return (
            f"the signatures that {seen.server} gives for {owner.name} are {dates}, and the clock of this host says "
            f"{at:%Y-%m-%d %H:%M:%S} UTC: the clock is wrong, {why}"
        )
    return ""


def unclear(owner: Owner) -> str:
    """Why nothing certain can be said of an owner name, a name server that cannot be asked included; empty if something can."""
    if owner.validity is Validity.BOGUS:
        return f"{owner.name} does not validate (DNSSEC)"
    if owner.secured and (owner.validity is Validity.INSECURE or not any(seen.signed for seen in owner.seen)):
        return (
            f"the zone of {owner.name} is signed, as its parent zone says (DS), and this host gets an answer that is not: "
            "others may see another zone than this host does (--dovecot-resolver)"
        )
    if not owner.seen:
        return f"the name servers of {owner.name} could not be found"
    for seen in owner.seen:
        if seen.outcome not in USABLE:
            return f"{seen.server} gives no usable answer for {owner.name} ({seen.outcome.value})"
    if any(sets(owner)) and owner.validity is Validity.UNKNOWN:
        return f"no validating resolver that is trusted says whether {owner.name} is secure (--dovecot-resolver)"
    if any(seen.signed and seen.records for seen in owner.seen) and owner.validity is not Validity.SECURE:
        return f"{owner.name} is signed, but the validating resolver does not call it secure"
    return ""


def unknown(owner: Owner) -> str:
    """What in the sets of an owner name is not understood; empty if all is."""
    for records in sets(owner):
        if len(records) > MOST_RECORDS:
            return f"{owner.name} has {len(records)} TLSA records, which is more than some senders can take"
        for data in sorted(records):
            if (data.usage, data.selector) == (3, 1) and LENGTHS.get(data.matching) != len(data.digest):
                said = f"{owner.name} has the record {str(data)[:40]}"
                return f"{said}, of which it is not known whether the next key matches it"
    return ""
