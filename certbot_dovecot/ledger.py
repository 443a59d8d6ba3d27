"""``dane.json``: what we know of a lineage's keys in the DNS, and of the lineage that stands by for it.

It lies beside ``state.json`` in a file of its own, because a reconcile writes that one while it holds what it read, and the two
have nothing to say to each other.  A lineage that stands by has one too, which only says for whom (``first``); everything else
is in the record of the first lineage, also after the two have changed places.

What the DNS said at the last look is filed in ``survey.json``, as evidence; only :func:`survey_of` reads it.

A ``certbot renew`` with nothing due looks into it by itself (:mod:`~certbot_dovecot.glance`).  Fails as a
:class:`~certbot_dovecot.problems.StateProblem` if a file is not what we write; it is never overwritten then.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Optional

from certbot_dovecot import files, glance
from certbot_dovecot.dane.answers import AddressAnswer, Data, Key, Outcome, Owner, Seen, Survey, Validity
from certbot_dovecot.dane.evidence import LONGEST, Evidence
from certbot_dovecot.files import Signature
from certbot_dovecot.problems import StateProblem
from certbot_dovecot.store import Folder

FORMAT = 1
#: How many switches are remembered.
_TURNS = 20
#: So long, nobody is asked to delete what we deleted.
_LATELY = datetime.timedelta(days=14)
_LONG_AGO = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


@dataclass(frozen=True)
class Turn:
    """One switch from one lineage's key to the other's.

    :param at: UTC.
    :param to: name of the lineage that is served since.
    :param spki: its key.
    :param reason: in words.
    """

    at: datetime.datetime
    to: str
    spki: str
    reason: str


@dataclass(frozen=True)
class Ledger:
    """The record.

    :param first: for a lineage that was made to stand by: for whom; everything else is empty then.
    :param standby: name of the lineage that was made to stand by; empty for none.
    :param turning: name of the lineage that the servers are being switched to; empty but after a kill.
    :param turns: the switches so far, oldest first.
    :param asked: when the DNS was asked last, UTC.
    :param signature: of the files that the last look was about.
    :param evidence: what all surveys amount to.
    :param ours: (owner name where it stands, data) of every record that we put into the DNS.
    :param dropped: likewise, and when, of what we deleted: a cache or a late name server may go on giving it for a while, and
        that is not for an admin to mend.
    :param said: what was said to the admin, and when.
    """

    first: str = ""
    standby: str = ""
    turning: str = ""
    turns: tuple[Turn, ...] = ()
    asked: Optional[datetime.datetime] = None
    signature: Signature = ()
    evidence: Optional[Evidence] = None
    ours: frozenset[tuple[str, Data]] = frozenset()
    dropped: frozenset[tuple[str, Data, datetime.datetime]] = frozenset()
    said: Mapping[str, datetime.datetime] = field(default_factory=dict)

    def at(self, owner: str) -> frozenset[Data]:
        """What we put there."""
        return frozenset(data for name, data in self.ours if name == owner)

    def added(self, owner: str, records: Iterable[Data]) -> Ledger:
        """With records that are about to be added."""
        return replace(self, ours=self.ours | {(owner, data) for data in records})

    def deleted(self, owner: str, records: Iterable[Data], now: datetime.datetime) -> Ledger:
        """Without records that were deleted."""
        gone = {(owner, data) for data in records}
        lately = {(name, data, when) for name, data, when in self.dropped if now - when < _LATELY and (name, data) not in gone}
        return replace(self, ours=self.ours - gone, dropped=frozenset(lately | {(*one, now) for one in gone}))

    def late(self, owner: str, now: datetime.datetime) -> frozenset[Data]:
        """What we deleted there lately."""
        return frozenset(data for name, data, when in self.dropped if name == owner and now - when < _LATELY)

    def turned(self, turn: Turn) -> Ledger:
        """With one switch more, which is not under way any longer."""
        return replace(self, turns=(*self.turns, turn)[-_TURNS:], turning="").anew()

    def anew(self) -> Ledger:
        """With T0 for none, as another pair of keys needs it, and the DNS to be asked."""
        return replace(self, evidence=replace(self.evidence, since=None) if self.evidence else None, asked=None)

    def quiet(self, topic: str, now: datetime.datetime, pause: datetime.timedelta) -> bool:
        """Whether something was said within ``pause``; a clock that ran backwards does not silence anything."""
        said = self.said.get(topic)
        return said is not None and datetime.timedelta(0) <= now - said < pause

    def due(self, now: datetime.datetime) -> bool:
        """Whether the DNS is to be asked; see :func:`certbot_dovecot.glance.is_due`."""
        return glance.is_due(self.turning, self.asked, self.signature, now)


def path_of(place: Folder) -> str:
    """Where the record of a lineage is."""
    return os.path.join(os.path.dirname(place.state), "dane.json")


def load(place: Folder) -> Optional[Ledger]:
    """The record, or None if there is none.

    :raises StateProblem: it is not one that this version can read.
    :raises FileProblem: it cannot be read.
    """
    path = path_of(place)
    data = files.read_if_there(path)
    return None if data is None else parse(data, path)


def save(place: Folder, ledger: Ledger) -> None:
    """Write the record, if it changed.

    :raises FileProblem: it cannot be written.
    """
    path, data = path_of(place), dump(ledger)
    if files.read_if_there(path) != data:
        files.make_directory(os.path.dirname(path))
        files.write(path, data)


def forget(place: Folder) -> None:
    """Remove the record and the survey."""
    for path in (path_of(place), _survey_path(place)):
        if os.path.lexists(path):
            files.remove(path)


def parse(data: bytes, path: str) -> Ledger:
    """The record in ``data``; pure.

    :param path: for messages.
    :raises StateProblem: rubbish, or from another version.
    """
    try:
        raw = json.loads(data)
        if raw.pop("format") != FORMAT:
            raise ValueError("another format")
        evidence = raw["evidence"]
        return Ledger(
            first=_text(raw["first"]),
            standby=_text(raw["standby"]),
            turning=_text(raw["turning"]),
            turns=tuple(Turn(_time(at), _text(to), _text(spki), _text(why)) for at, to, spki, why in raw["turns"]),
            asked=_time_or_none(raw["asked"]),
            signature=tuple((_text(p), int(m), int(s), int(i)) for p, m, s, i in raw["signature"]),
            evidence=None if evidence is None else _evidence(evidence),
            ours=frozenset((_text(owner), _data(one)) for owner, one in raw["ours"]),
            dropped=frozenset((_text(owner), _data(one), _time(when)) for owner, one, when in raw["dropped"]),
            said={_text(topic): _time(when) for topic, when in raw["said"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise StateProblem(
            "this record is damaged, or of another version of certbot-dovecot",
            where=path,
            left="Nothing was changed, and every key stays",
            todo="Move it away, then run certbot-dovecot standby again for that lineage",
        ) from exc


def dump(ledger: Ledger) -> bytes:
    """The bytes of ``dane.json``."""
    evidence = ledger.evidence
    raw = {
        "format": FORMAT,
        "first": ledger.first,
        "standby": ledger.standby,
        "turning": ledger.turning,
        "turns": [(turn.at.isoformat(), turn.to, turn.spki, turn.reason) for turn in ledger.turns],
        "asked": _said(ledger.asked),
        "signature": ledger.signature,
        "evidence": evidence
        and {
            "current": evidence.current,
            "following": evidence.following,
            "owners": sorted(evidence.owners),
            "since": _said(evidence.since),
            # What a version before the ones below reads.
            "ttl": evidence.ttl,
            "stood": evidence.stood,
            "ttls": [(seconds, when.isoformat()) for seconds, when in evidence.ttls],
            "looked": _said(evidence.looked),
            "gap": _said(evidence.gap),
            "least": _said(evidence.least),
        },
        "ours": sorted((owner, str(data)) for owner, data in ledger.ours),
        "dropped": sorted((owner, str(data), when.isoformat()) for owner, data, when in ledger.dropped),
        "said": {topic: when.isoformat() for topic, when in ledger.said.items()},
    }
    return (json.dumps(raw, indent=1, sort_keys=True) + "\n").encode()


def file_survey(place: Folder, survey: Survey) -> None:
    """Keep a survey as evidence.

    :raises FileProblem: it cannot be written.
    """
    files.write(_survey_path(place), (json.dumps(asdict(survey), default=_plain, indent=1) + "\n").encode())


def survey_of(place: Folder) -> Optional[Survey]:
    """The survey that was filed last, or None.

    :raises StateProblem: it is not one.
    """
    path = _survey_path(place)
    data = files.read_if_there(path)
    if data is None:
        return None
    try:
        raw = json.loads(data)
        # A survey of 0.1.0 has no addresses.
        asked = tuple(map(_address, raw.get("addresses", ())))
        return Survey(_time(raw["at"]), tuple(map(_owner, raw["owners"])), tuple(map(_text, raw["notes"])), asked)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise StateProblem("this is not a survey that we filed", where=path, todo="Remove it") from exc


def _survey_path(place: Folder) -> str:
    return os.path.join(os.path.dirname(place.state), "survey.json")


def _plain(value: object) -> object:
    """What JSON has no type for."""
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, (frozenset, set)):
        return sorted(map(str, value))
    return value.value if isinstance(value, (Outcome, Validity)) else str(value)


def _owner(raw: Mapping[str, Any]) -> Owner:
    seen = (
        Seen(
            _text(one["server"]), Outcome(one["outcome"]), _set(one["records"]), int(one["ttl"]), bool(one["signed"]),
            # A survey of an earlier format has none of these.
            _time_or_none(one.get("inception")), _time_or_none(one.get("expiration")), _text(one.get("alias", "")),
        )
        for one in raw["seen"]
    )  # fmt: skip
    return Owner(
        _text(raw["name"]), tuple(seen), Validity(raw["validity"]), _set(raw["resolved"]), _text(raw["target"]),
        _text(raw.get("wildcard", "")), bool(raw.get("secured", False)),
    )  # fmt: skip


def _address(raw: Mapping[str, Any]) -> AddressAnswer:
    key = raw["key"]
    known = None if key is None else Key(_text(key["sha256"]), _text(key["sha512"]))
    return AddressAnswer(_text(raw["owner"]), _text(raw["address"]), known, _text(raw["error"]))


def _set(raw: Iterable[object]) -> frozenset[Data]:
    return frozenset(map(_data, raw))


def _data(raw: object) -> Data:
    usage, selector, matching, digest = _text(raw).split(" ")
    return Data(int(usage), int(selector), int(matching), digest)


def _evidence(raw: Mapping[str, Any]) -> Evidence:
    since = _time_or_none(raw["since"])
    # Of an earlier format: it does not say when a TTL was seen, nor when the last look was, so that T0 begins anew.
    ttls = raw.get("ttls", [(raw["ttl"], (since or _LONG_AGO).isoformat())])
    return Evidence(
        _text(raw["current"]),
        _text(raw["following"]),
        frozenset(map(_text, raw["owners"])),
        since,
        tuple((min(int(seconds), LONGEST), _time(when)) for seconds, when in ttls),
        bool(raw["stood"]),
        _time_or_none(raw.get("looked")),
        _time_or_none(raw.get("gap")),
        _time_or_none(raw.get("least")),
    )


def _said(time: Optional[datetime.datetime]) -> Optional[str]:
    return time.isoformat() if time else None


def _time_or_none(raw: object) -> Optional[datetime.datetime]:
    return None if raw is None else _time(raw)


def _time(raw: object) -> datetime.datetime:
    found = datetime.datetime.fromisoformat(_text(raw))
    if found.tzinfo is None:
        raise ValueError("a time without a zone")
    return found


def _text(raw: object) -> str:
    if not isinstance(raw, str):
        raise TypeError("not a text")
    return raw
