"""What should stand in the DNS at an owner name, and what must change for it.  Pure: sets of records in, the difference out.

Wanted is the record of every key that is served there, and of the one that comes next (rule D9); ``3 1 1``, and ``3 1 2`` too
where somebody else publishes such records: of every digest in a set, one record must match whatever is served (rules D1, D2;
RFC 7671 section 9).  Only the difference is ever sent, and only records that we put there are ever deleted, so that a person or
a program that edits the same set never loses a record.

:func:`credentials` reads the file that certbot's own plugin for dynamic updates (RFC 2136) reads.  Nothing here asks or changes
a name server.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from shlex import quote
from typing import Optional

from certbot_dovecot import files
from certbot_dovecot.dane import tlsa
from certbot_dovecot.dane.answers import AddressAnswer, Data, Key, Outcome, Survey
from certbot_dovecot.dane.standing import MOST_RECORDS
from certbot_dovecot.problems import ConfProblem

#: What TSIG may be computed with, as certbot's plugin has it (RFC 8945 section 6).
ALGORITHMS = ("HMAC-MD5", "HMAC-SHA1", "HMAC-SHA224", "HMAC-SHA256", "HMAC-SHA384", "HMAC-SHA512")


@dataclass(frozen=True)
class Change:
    """What must change at one owner name.

    :param owner: absolute; where the records stand, aliases followed (rule D15).
    :param present: the set that this was computed from: it must not have changed when the change is made.
    :param add: what is not there.
    :param delete: what is ours, and neither served nor next.
    :param ttl: for what is added, seconds; a set has one TTL (RFC 2181 section 5.2), so what is added sets it for all.
    :param refused: why the name server did not take the change; empty if it did, or was not asked.
    :param optional: whether only names that the certificate does not have lead to a change that was refused.
    """

    owner: str
    present: frozenset[Data]
    add: frozenset[Data] = frozenset()
    delete: frozenset[Data] = frozenset()
    ttl: int = tlsa.TTL
    refused: str = ""
    optional: bool = False

    @property
    def after(self) -> frozenset[Data]:
        """The set after the change."""
        return (self.present - self.delete) | self.add

    @property
    def idle(self) -> bool:
        """Whether nothing changes."""
        return not (self.add or self.delete)

    @property
    def crowded(self) -> bool:
        """Whether the set would be larger than some senders can take, and grow (rule D4)."""
        return len(self.after) > MOST_RECORDS and len(self.after) > len(self.present)


@dataclass(frozen=True)
class Credentials:
    """How the primary name server takes updates.

    :param address: of the server.
    :param key: name of the TSIG key.
    :param secret: base64; never shown.
    :param algorithm: one of :data:`ALGORITHMS`.
    :param sign_query: whether questions to it are signed too.
    """

    address: str
    port: int
    key: str
    secret: str = field(repr=False)
    algorithm: str = "HMAC-MD5"
    sign_query: bool = False


def wanted(keys: Iterable[Key], present: AbstractSet[Data], ours: AbstractSet[Data], exact: bool = True) -> frozenset[Data]:
    """The records that should stand at an owner name.

    Ours of ``3 1 2`` go together with the last one of somebody else, where it is known what stands there.  Name servers that
    lag do not tell: one of two could be deleted that way, and the other one, alone of its kind, stops mail.

    :param keys: those that are served there, and the next one; none where nothing of ours is served.
    :param present: what stands there.
    :param ours: what we put there.
    :param exact: whether ``present`` is what stands there, and not only what name servers give.
    """
    known = list(keys)
    others = present - ours if exact else present | ours
    both = any((data.usage, data.selector, data.matching) == (3, 1, 2) for data in others)
    # A client looks at the strongest digest only: either every key has it, or none has.
    both = both and all(key.digest(2) for key in known)
    digests = [(matching, key.digest(matching)) for key in known for matching in ((1, 2) if both else (1,))]
    return frozenset(Data(3, 1, matching, digest) for matching, digest in digests if digest)


@dataclass(frozen=True)
class Place:
    """What belongs to one place in the DNS, at which one or more owner names stand (aliases lead to it, rule D15).

    :param name: absolute.
    :param owners: the owner names.
    :param keys: every key that is served at one of their ports, and the next one.
    :param present: every record that a name server gave.
    :param dark: whether a port does not tell what it serves; then nothing changes here.
    :param ttl: of what is added, seconds: that of the set, where it is not longer than what we would take.
    :param blind: whether no name server could be asked, so that ``present`` says nothing.
    :param addresses: what every address that shares the record set serves (rule D18).
    :param optional: whether only names that the certificate does not have lead here (rule D19); another party may run their
        zone.
    :param by_hand: whether what we publish with does not publish here.
    :param foreign: answers of ports that are not ours and share the record set (rule D25), where it is not one of our keys that
        is served, or not known; then nothing is added here (rule D13).
    :param served: of ``keys``, those of ours that are served at one of the ports.
    :param partial: whether some name server gives no set, and others do: it may begin there, or be gone already.
    """

    name: str
    owners: tuple[str, ...]
    keys: tuple[Key, ...] = ()
    present: frozenset[Data] = frozenset()
    dark: bool = False
    ttl: int = tlsa.TTL
    blind: bool = False
    addresses: tuple[AddressAnswer, ...] = ()
    optional: bool = False
    by_hand: bool = False
    foreign: tuple[AddressAnswer, ...] = ()
    served: tuple[Key, ...] = ()
    partial: bool = False


def places(
    survey: Survey,
    served: Mapping[str, Optional[Iterable[Key]]],
    following: Optional[Key],
    retired: Sequence[Key] = (),
    ours: Callable[[str], AbstractSet[Data]] = lambda place: frozenset(),
    guarded: AbstractSet[str] = frozenset(),
) -> tuple[Place, ...]:
    """Where records belong, and whose.

    Another host of the same name may serve a key that this one does not serve any more (rule D18).  So a key that an address
    serves belongs to the set if its record stands there, or if the set begins and the key is one of ours.  Where an address
    could not be asked, every retired key belongs to the set whose record stands there, or, if the set begins again, was put
    there by us.

    :param survey: tells where aliases lead.
    :param served: owner name to those of our keys that are served at its port; None if that cannot be told.  An owner name that
        is not in here is none of ours.
    :param following: the key that comes next; None for none.
    :param retired: keys that were served once.
    :param ours: gives what we put into a place.
    :param guarded: owner names of ports that are not ours.
    """
    found: dict[str, Place] = {}
    for owner in survey.owners:
        if owner.name not in served:
            continue
        was, here = found.get(owner.place, Place(owner.place, ())), served[owner.name]
        keys, given = dict.fromkeys([*was.keys, *(here or ())]), owner.given
        found[owner.place] = Place(
            owner.place,
            (*was.owners, owner.name),
            tuple(keys),
            was.present | (given or frozenset()),
            was.dark or here is None,
            min([was.ttl, *(seen.ttl for seen in owner.seen if seen.outcome is Outcome.ANSWER and not seen.alias)]),
            was.blind or given is None,
            partial=was.partial or (bool(given) and any(seen.outcome is Outcome.ABSENT for seen in owner.seen)),
        )
    nexts = (following,) if following else ()
    shared: dict[str, list[AddressAnswer]] = {}
    leads = {owner.name: owner.place for owner in survey.owners}
    for answer in survey.addresses:
        shared.setdefault(leads.get(answer.owner, answer.owner), []).append(answer)

    def complete(one: Place) -> Place:
        answers = tuple(shared.get(one.name, ()))
        stands = {data.digest for data in one.present or ours(one.name)}
        # A set that begins has to match every address, too.
        known = stands | {key.sha256 for key in retired if not one.present}
        standing = [answer.key for answer in answers if answer.key and answer.key.sha256 in known]
        if not all(answer.key for answer in answers):
            standing += [key for key in retired if key.sha256 in stands]
        keys = {key.sha256: key for key in [*standing, *one.keys, *nexts]} if one.keys else {}
        lineage = {key.sha256 for key in (*one.keys, *nexts, *retired)}
        strange = tuple(a for a in answers if a.owner in guarded and (a.key is None or a.key.sha256 not in lineage))
        return replace(one, keys=tuple(keys.values()), addresses=answers, foreign=strange, served=one.keys)

    return tuple(map(complete, found.values()))


def change(
    owner: str,
    keys: Iterable[Key],
    present: AbstractSet[Data],
    ours: AbstractSet[Data],
    ttl: int = tlsa.TTL,
    exact: bool = True,
) -> Change:
    """What must change at ``owner``; parameters as :func:`wanted` and :class:`Change` have them."""
    want = wanted(keys, present, ours, exact)
    add = want - present
    if not exact and any(data.matching == 2 for data in add):
        # Together or not at all: a name server that lags may show one that is gone.
        add |= {data for data in want if data.matching == 2}
    return Change(owner, frozenset(present), add, frozenset((ours & present) - want), ttl)


def without_beginning(made: Change, place: Place) -> Change:
    """A change as name servers let it be computed, where the set may be gone already: not with a next key alone (rule D30)."""
    if place.partial and not {Data(3, 1, 1, key.sha256) for key in place.served} <= made.add:
        return replace(made, add=frozenset())
    return made


def by_hand(made: Change, place: Place, begin: bool = False) -> tuple[Data, ...]:
    """The records that an admin is told to add at a place (rule D30), those of served keys first.

    A next key's record goes where a set exists.  Where the set may be gone, those of served keys are told with it.  Where there
    is none, no sender looks, and none is begun.

    :param begin: whether a set may be begun all the same, with the records of served keys.
    """
    served = frozenset(Data(3, 1, 1, key.sha256) for key in place.served)
    if not place.present:
        return tuple(sorted(made.add & served)) if begin else ()
    more = served if place.partial and made.add else frozenset()
    return tuple(sorted(made.add | more, key=lambda data: (data not in served, data)))


def vanished(place: Place, made: Change, ours: AbstractSet[Data]) -> frozenset[tuple[str, Data]]:
    """What was ours at a place, and neither stands nor is to stand there any more.

    :param made: what must change there.
    """
    return frozenset((place.name, data) for data in ours - place.present - made.add)


def document(changes: Iterable[Change]) -> bytes:
    """The changes for an admin's program, as JSON: for each owner what is present, wanted, to be added and to be deleted."""
    entries = [
        {
            "owner": one.owner,
            "ttl": one.ttl,
            "type": "TLSA",
            "present": sorted(map(str, one.present)),
            "wanted": sorted(map(str, one.after)),
            "add": sorted(map(str, one.add)),
            "delete": sorted(map(str, one.delete)),
        }
        for one in changes
        if not one.idle
    ]
    return (json.dumps({"changes": entries}, indent=1) + "\n").encode()


def credentials(path: str) -> Credentials:
    """What the INI file ``path`` says, with the names of certbot-dns-rfc2136 (``dns_rfc2136_server`` and so on).

    :raises FileProblem: it cannot be read.
    :raises ConfProblem: a line is missing or wrong, or everybody may read the key.
    """
    from configobj import ConfigObj, ConfigObjError

    data = files.read(path)
    if os.stat(path).st_mode & 0o007:
        raise _wrong(path, "everybody may read the TSIG key in this file", f"chmod 600 {quote(path)}")
    try:
        conf = ConfigObj(data.decode().splitlines(), interpolation=False, list_values=False)
    except (ConfigObjError, UnicodeDecodeError) as exc:
        raise _wrong(path, f"this is not an INI file: {exc}", "Mend that line") from exc

    def said(name: str, default: str = "") -> str:
        value = str(conf.get(f"dns_rfc2136_{name}", default)).strip().strip("\"'")
        if not value:
            raise _wrong(path, f"dns_rfc2136_{name} is missing", "Add it, as certbot-dns-rfc2136 has it")
        return value

    address, port, algorithm = said("server"), said("port", "53"), said("algorithm", "HMAC-MD5").upper()
    try:
        ipaddress.ip_address(address)
    except ValueError as exc:
        raise _wrong(path, f"dns_rfc2136_server is no address: {address}", "Give the primary server's address") from exc
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise _wrong(path, f"dns_rfc2136_port is no port: {port}", "Give a number, mostly 53")
    if algorithm not in ALGORITHMS:
        raise _wrong(path, f"dns_rfc2136_algorithm is not known: {algorithm}", f"Give one of {', '.join(ALGORITHMS)}")
    signs = said("sign_query", "false").lower() in ("true", "yes", "1")
    return Credentials(address, int(port), said("name"), said("secret"), algorithm, signs)


def _wrong(path: str, what: str, todo: str) -> ConfProblem:
    return ConfProblem(what, where=path, left="Nothing was published", todo=todo)
