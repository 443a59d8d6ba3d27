"""Which key, when: pure decisions about the annual key.

One private key per lineage and calendar year (UTC).  Renewals reuse it; the first renewal in a new year takes a new one.  The
year of a key is the one it was made in, wherever its certificates came from since, so that 90-day, 45-day and 6-day
certificates all keep it (rule D11).  What the admin says (``--new-key``, ``--no-reuse-key``, ``--key-type`` and its
companions) goes before everything, and on any doubt the old key stays (rule R4).

Nothing here does I/O or fails.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Optional


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
    """

    reason: str
    reuse_key: Optional[bool] = None
    new_key: Optional[bool] = None
    key_type: Optional[str] = None
    elliptic_curve: Optional[str] = None
    rsa_key_size: Optional[int] = None


def choose(wish: Wish, current: Optional[Key], year: Optional[int], now: datetime.datetime) -> Choice:
    """Decide for the next issuance of a lineage.

    :param current: the lineage's key; None for a new lineage.
    :param year: the year ``current`` was made in; None if that cannot be told.
    :param now: the clock, UTC.
    """
    if wish.reuse_key is False:
        return Choice("a new key at every renewal, as --no-reuse-key says")
    if current is None:
        return Choice("a new lineage: a new key, reused until the year ends", reuse_key=True)
    same = _parameters(wish, current)
    if wish.new_key:
        return _choice("a new key, as --new-key says", same, new=True)
    if _differs(wish, current):
        return _choice("a new key, since another kind of key was asked for", same, new=True)
    if wish.rotation == "never":
        return _choice("the key stays, as --dovecot-key-rotation never says", same)
    if year is None:
        return _choice("the key stays, since its year cannot be told", same)
    if year < now.year:
        return _choice(f"a new key for {now.year}: the old one is of {year}", same, new=True)
    return _choice(f"the key of {year} stays", same)


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


def _choice(reason: str, same: Choice, new: Optional[bool] = None) -> Choice:
    return Choice(reason, True, new, same.key_type, same.elliptic_curve, same.rsa_key_size)


def _parameters(wish: Wish, current: Key) -> Choice:
    """Kind and size of the current key, where the admin said nothing else: certbot forgets them under ``run``."""
    if wish.key_type not in (None, current.algorithm):
        return Choice("")
    if current.algorithm == "rsa":
        return Choice("", key_type="rsa", rsa_key_size=wish.rsa_key_size or int(current.parameter))
    return Choice("", key_type="ecdsa", elliptic_curve=wish.elliptic_curve or current.parameter)


def _differs(wish: Wish, current: Key) -> bool:
    if wish.key_type not in (None, current.algorithm):
        return True
    if current.algorithm == "rsa":
        return wish.rsa_key_size not in (None, int(current.parameter))
    return wish.elliptic_curve not in (None, current.parameter)
