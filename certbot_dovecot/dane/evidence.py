"""What all looks at the DNS amount to: T0, and the TTLs that count.  Pure.

How a look is added is :func:`certbot_dovecot.dane.rollover.observe`'s part.  Nothing here does I/O or fails.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Optional

from certbot_dovecot.dane.answers import Seen, Survey

#: Rule D6.
FLOOR = datetime.timedelta(hours=48)
#: The longest TTL (RFC 2181 section 8).  One with the top bit set is no TTL by that text, and a very long one by RFC 8767
#: section 4; it counts as the longest.
LONGEST = 2**31 - 1
#: A TTL that is not seen any more is forgotten after so many times itself: two for what caches hold, one for a late server.
_FORGET = 3


@dataclass(frozen=True)
class Evidence:
    """What all surveys so far amount to, for one pair of keys.

    :param current: SHA-256 of the key that is served; T0 for another pair of keys is none.
    :param following: of the one that comes next; empty if there is none.
    :param owners: the owner names that have records; when one is added, T0 begins anew.
    :param since: T0, or since when there are no records any more; None while neither is reached.
    :param ttls: the TTLs that count, whatever the keys: seconds, and when a set with it may have been given last.  The longest
        one first; the last one is what the last look saw.
    :param stood: whether a record that counts was ever seen.
    :param looked: the last look that could see everything; None in a record of an earlier format, which proves no
        continuity.
    :param gap: the look before that one, if T0 began anew because they were too far apart.
    :param least: before this, T0 cannot be: a clock ran backwards, and may be put right again.
    """

    current: str
    following: str
    owners: frozenset[str]
    since: Optional[datetime.datetime] = None
    ttls: tuple[tuple[int, datetime.datetime], ...] = ()
    stood: bool = False
    looked: Optional[datetime.datetime] = None
    gap: Optional[datetime.datetime] = None
    least: Optional[datetime.datetime] = None

    @property
    def ttl(self) -> int:
        """The largest TTL that counts, seconds."""
        return max((seconds for seconds, _ in self.ttls), default=0)


def longest_gap(floor: datetime.timedelta) -> datetime.timedelta:
    """How far apart two looks may be (D26): as far as the floor.  Whoever looks once a week needs a floor of more than that."""
    return max(floor, FLOOR)


def lasts(seen: Seen) -> int:
    """How long a cache that validates may hold what a name server gave, seconds.

    No longer than its signatures are valid: a validator must not give it any more when they have expired (RFC 4035 section
    5.3.3), and what is not validated is nothing to a sender that checks DANE.
    """
    ttl = min(seen.ttl, LONGEST)
    if seen.inception is None or seen.expiration is None or seen.expiration <= seen.inception:
        return ttl
    return min(ttl, int((seen.expiration - seen.inception).total_seconds()))


def remembered(
    was: Evidence, survey: Survey, whole: bool, limit: datetime.timedelta, apart: bool = False
) -> tuple[tuple[int, datetime.datetime], ...]:
    """The TTLs that count after a look.

    :param whole: whether the look could see everything.
    :param apart: whether it proves nothing of the time since the last one.
    """
    seconds = max((lasts(seen) for owner in survey.owners for seen in owner.seen), default=0)
    last = was.ttls[-1:]
    if not whole:
        # Nothing is known to be over: what was seen last is seen still.
        seconds = max([seconds, *(one for one, _ in last)])
        return (*(one for one in was.ttls if one[0] > seconds), (seconds, last[0][1] if last else survey.at))
    # What was given at the last look may have been given until now.
    known = [(one, survey.at if apart or (one, when) in last else when) for one, when in was.ttls]

    def counts(one: int, when: datetime.datetime) -> bool:
        return one > seconds and survey.at <= when + _FORGET * datetime.timedelta(seconds=one) + limit

    return (*(pair for pair in known if counts(*pair)), (seconds, survey.at))
