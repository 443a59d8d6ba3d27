"""Which key, when: pure decisions about the annual key.

One private key per lineage and calendar year (UTC).  Renewals reuse it; the first renewal in a new year takes a new one.  The
year of a key is the one it was made in, wherever its certificates came from since, so that 90-day, 45-day and 6-day
certificates all keep it (rule D11).  What the admin says (``--new-key``, ``--no-reuse-key``, ``--key-type`` and its
companions) goes before everything, and on any doubt the old key stays (rule R4).

A key whose TLSA records are published is another matter: what :func:`choose` says is then held back (:func:`hold`) unless the
admin asks for a new key in so many words.  Of two lineages for the same names, one is served and the other stands by with its
own key, which is published already.  The key that is served never changes by itself, the servers change to the other one; the
one that was served until then is spent, and its lineage takes a new one at its next renewal.

Nothing here does I/O or fails.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Optional


class Role(Enum):
    """What a lineage is to the servers.

    ``ALONE``: there is no other lineage for its names.  ``SERVING``: its key is served, and another one stands by.
    ``STANDBY``: it stands by, with a key that was never served.  ``SPENT``: its key was served until a switch.
    """

    ALONE = "alone"
    SERVING = "serving"
    STANDBY = "standby"
    SPENT = "spent"


class Why(Enum):
    """Why there is a new key, or is none.

    ``NONE``: there is none.  ``SAID``: the admin asks for it now.  ``ALWAYS``: for one at every renewal.  ``YEAR``: the year
    turned.
    """

    NONE = "none"
    SAID = "said"
    ALWAYS = "always"
    YEAR = "year"


@dataclass(frozen=True)
class Key:
    """What is known of a lineage's key.

    :param spki: SHA-256 of its SubjectPublicKeyInfo, upper-case hex.
    :param algorithm: ``ecdsa`` or ``rsa``.
    :param parameter: the curve's name (``secp256r1``) or the number of bits (``2048``), as certbot's options have them.
    """

    spki: str
    algorithm: str
    parameter: str


@dataclass(frozen=True)
class Wish:
    """What the admin said, on the command line, in ``cli.ini`` or at an earlier run; None where nothing was said.

    :param rotation: ``annual`` or ``never`` (``--dovecot-key-rotation``).
    """

    rotation: str = "annual"
    reuse_key: Optional[bool] = None
    new_key: bool = False
    key_type: Optional[str] = None
    elliptic_curve: Optional[str] = None
    rsa_key_size: Optional[int] = None


@dataclass(frozen=True)
class Choice:
    """What certbot is told; None leaves its own value.

    :param reason: in words, for the log.
    :param why: why the key changes.
    """

    reason: str
    why: Why = Why.NONE
    reuse_key: Optional[bool] = None
    new_key: Optional[bool] = None
    key_type: Optional[str] = None
    elliptic_curve: Optional[str] = None
    rsa_key_size: Optional[int] = None


def choose(
    wish: Wish, current: Optional[Key], year: Optional[int], now: datetime.datetime, role: Role = Role.ALONE
) -> Choice:
    """Decide for the next issuance of a lineage.

    :param current: the lineage's key; None for a new lineage.
    :param year: the year ``current`` was made in; None if that cannot be told.
    :param now: the clock, UTC.
    """
    if wish.reuse_key is False:
        return Choice("a new key at every renewal, as --no-reuse-key says", Why.ALWAYS)
    if current is None:
        return Choice("a new lineage: a new key, reused until the year ends", reuse_key=True)
    same = _parameters(wish, current)
    if wish.new_key:
        return _choice("a new key, as --new-key says", same, Why.SAID)
    if differs(wish, current):
        return _choice("a new key, since another kind of key was asked for", same, Why.SAID)
    if role is Role.SPENT:
        return _choice("a new key: the old one was served until the switch", same, Why.YEAR)
    if role is not Role.ALONE:
        return _choice("the key stays: the servers change between two lineages", same)
    if wish.rotation == "never":
        return _choice("the key stays, as --dovecot-key-rotation never says", same)
    if year is None:
        return _choice("the key stays, since its year cannot be told", same)
    if year < now.year:
        return _choice(f"a new key for {now.year}: the old one is of {year}", same, Why.YEAR)
    return _choice(f"the key of {year} stays", same)


def hold(current: Key, reason: str) -> Choice:
    """The key stays after all.

    :param reason: in words.
    """
    # Also where the admin said --new-key.
    return replace(_choice(f"the key stays: {reason}", _parameters(Wish(), current)), new_key=False)


def role_of(spki: str, served: str, serving: bool) -> Role:
    """What one of two lineages for the same names is.

    :param spki: its key.
    :param served: the key of it that was served last, from our record; empty for none.
    :param serving: whether the servers serve it.
    """
    if serving:
        return Role.SERVING
    return Role.SPENT if served and served == spki else Role.STANDBY


def is_due(wish_rotation: str, since: Optional[int], now: datetime.datetime) -> bool:
    """Whether the servers are to change to the standby's key.

    :param wish_rotation: ``annual`` or ``never``.
    :param since: the year since which the key that they serve is served; None if that cannot be told.
    """
    return wish_rotation == "annual" and since is not None and since < now.year


def year_of(
    spki: str, recorded: Mapping[str, int], certificates: Iterable[tuple[str, datetime.datetime]]
) -> Optional[int]:
    """The year a key was made in.

    :param spki: the key.
    :param recorded: our own record, SPKI to year.
    :param certificates: (SPKI, start of validity) of the lineage's archived certificates: the earliest one with this key
        tells, if we have no record.  The archive keeps only some versions, so the record goes first.
    :returns: None if neither knows the key.
    """
    if spki in recorded:
        return recorded[spki]
    starts = [start for other, start in certificates if other == spki]
    # Let's Encrypt back-dates notBefore by an hour: a certificate of the first hour of a year counts for that year.
    return (min(starts) + datetime.timedelta(hours=1)).year if starts else None


def stem_for(spki: str, year: int, taken: Mapping[str, str]) -> str:
    """The file name (without suffix) under which the store keeps a key: ``2026``, or ``2026-2`` for a second one.

    :param taken: stem to SPKI, of the keys that the store holds already.
    """
    for stem, other in taken.items():
        if other == spki:
            return stem
    stem, number = str(year), 1
    while stem in taken:
        number += 1
        stem = f"{year}-{number}"
    return stem


def _choice(reason: str, same: Choice, why: Why = Why.NONE) -> Choice:
    return replace(same, reason=reason, why=why, reuse_key=True, new_key=None if why is Why.NONE else True)


def _parameters(wish: Wish, current: Key) -> Choice:
    """Kind and size of the current key, where the admin said nothing else: certbot forgets them under ``run``."""
    if wish.key_type not in (None, current.algorithm):
        return Choice("")
    if current.algorithm == "rsa":
        return Choice("", key_type="rsa", rsa_key_size=wish.rsa_key_size or int(current.parameter))
    return Choice("", key_type="ecdsa", elliptic_curve=wish.elliptic_curve or current.parameter)


def differs(wish: Wish, current: Key) -> bool:
    """Whether another kind of key is wished for."""
    if wish.key_type not in (None, current.algorithm):
        return True
    if current.algorithm == "rsa":
        return wish.rsa_key_size not in (None, int(current.parameter))
    return wish.elliptic_curve not in (None, current.parameter)
