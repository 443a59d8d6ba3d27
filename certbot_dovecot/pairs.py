"""Two lineages for the same names: the one that is served, and the one that stands by with a key of its own.

The second one is plain certbot's (``certbot-dovecot standby``, or ``certbot run --dovecot-standby-for``); that the two belong
together is in our record (:mod:`~certbot_dovecot.ledger`), and which of them is served is what the record of the installation
says.  After a switch they have changed places, and the pair keeps the name of the first.

Nothing is written here.  Fails as a :class:`~certbot_dovecot.problems.Problem` if a record cannot be read.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Optional

from certbot_dovecot import bundle as bundles
from certbot_dovecot import files, ledger, lineages, rotation, state, store
from certbot_dovecot.dane.answers import Key
from certbot_dovecot.ledger import Ledger
from certbot_dovecot.lineages import Lineage
from certbot_dovecot.rotation import Role
from certbot_dovecot.state import Options, State
from certbot_dovecot.store import Folder


@dataclass(frozen=True)
class Member:
    """One of the two, or the only one.

    :param record: what we know of its installation; None if it never was installed.
    :param store: where its deployed files are; None if it never was installed.
    """

    lineage: Lineage
    record: Optional[State]
    store: Optional[Folder] = None

    @property
    def installed(self) -> bool:
        """Whether a server serves it, or is about to."""
        return self.record is not None and bool(self.record.servers or self.record.installing)

    def key(self) -> Key:
        """Its public key.

        :raises Problem: the leaf cannot be read.
        """
        path = self.lineage.source.cert
        return Key(*bundles.digests_of(bundles.leaf_of(files.read(path), path)))

    def deployed(self) -> Key:
        """The key that the servers have: an older one than :meth:`key`, if the key gate holds that one.

        :raises Problem: a leaf cannot be read.
        """
        present, record = self.key(), self.record
        if record is None or self.store is None or not self.installed or record.spki in ("", present.sha256):
            return present
        path = self.store.cert(record.stem)
        return Key(*bundles.digests_of(bundles.leaf_of(files.read(path), path)))

    def spent(self) -> bool:
        """Whether its key was served before, and must not be the next one.

        :raises Problem: the leaf cannot be read.
        """
        served = self.record.spki if self.record else ""
        return rotation.role_of(self.key().sha256, served, serving=False) is Role.SPENT


@dataclass(frozen=True)
class Pair:
    """A lineage with the one that stands by for it, if there is one.

    :param name: of the first lineage; the ledger is its.
    :param place: where the ledger is.
    :param ledger: what we know of the keys in the DNS.
    :param serving: the one that the servers serve.
    :param standby: the other one; None if there is none.
    """

    name: str
    place: Folder
    ledger: Ledger
    serving: Member
    standby: Optional[Member] = None

    @property
    def options(self) -> Options:
        """What the admin chose for what is served."""
        return self.serving.record.options if self.serving.record else Options()

    def current(self) -> Key:
        """The key that the servers have.

        :raises Problem: a leaf cannot be read.
        """
        return self.serving.deployed()

    def waits(self) -> bool:
        """Whether the lineage that is served has a new key that the servers do not have.

        :raises Problem: a leaf cannot be read.
        """
        return self.current() != self.serving.key()

    def standing_by(self) -> Optional[Key]:
        """The key of the lineage that stands by; None if there is none, or with a spent key.

        :raises Problem: a leaf cannot be read.
        """
        if self.standby is None or self.standby.spent():
            return None
        return self.standby.key()

    def following(self) -> Optional[Key]:
        """The key that comes next: that of the one that stands by, else one that waits; None if there is neither.

        :raises Problem: a leaf cannot be read.
        """
        return self.standing_by() or (self.serving.key() if self.waits() else None)

    def role(self, name: str) -> Role:
        """What the lineage ``name``, one of the two, is to the servers.

        :raises Problem: a leaf cannot be read.
        """
        if self.standby is None:
            return Role.ALONE
        # While a switch is under way, the servers may serve either: neither key may be taken for spent.
        serving = name in (self.serving.lineage.name, self.ledger.turning)
        member = self.serving if self.serving.lineage.name == name else self.standby
        return rotation.role_of(member.key().sha256, member.record.spki if member.record else "", serving)

    def retired(self) -> tuple[Key, ...]:
        """Every key that we know and that is neither served, nor next, nor waits.

        :raises Problem: a leaf cannot be read.
        """
        members = [member for member in (self.serving, self.standby) if member]
        known = {spki for member in members if member.record for spki in member.record.years}
        known |= {spki for member in members for spki, _ in member.lineage.history()}
        alive = {key.sha256 for key in (self.current(), self.serving.key(), self.standing_by()) if key}
        return tuple(Key(spki) for spki in sorted(known - alive))

    def unfit(self, now: datetime.datetime) -> str:
        """Why the servers must not change to the one that stands by, in words; empty if they may.

        Its bundle is checked as any other before it is written; here is what concerns the two of them.

        :raises Problem: a leaf cannot be read.
        """
        if self.standby is None:
            return "no lineage stands by for it"
        here, there = self.serving.lineage.names(), self.standby.lineage.names()
        if here != there:
            differ = ", ".join(sorted(here ^ there))
            return f"{self.serving.lineage.name} and {self.standby.lineage.name} have not the same names ({differ})"
        bundles.read(self.standby.lineage.source, now)
        return ""

    def since(self) -> Optional[int]:
        """The year since which the key that is served is served; None if that cannot be told.

        :raises Problem: a leaf cannot be read.
        """
        if self.ledger.turns:
            return self.ledger.turns[-1].at.year
        record, lineage = self.serving.record, self.serving.lineage
        return rotation.year_of(self.current().sha256, record.years if record else {}, lineage.history())


def first_of(home: str, name: str) -> str:
    """The first of the two that ``name`` is one of; ``name`` itself if it is alone.

    :param home: ``CONFIG_DIR/dovecot``.
    """
    found = ledger.load(store.folder(home, "", name))
    return found.first or name if found else name


def find(config_dir: str, home: str, name: str) -> Optional[Pair]:
    """The pair that the lineage ``name`` is in; with nobody standing by if it is alone.

    :param home: ``CONFIG_DIR/dovecot``.
    :returns: None if there is no such lineage.
    :raises StateProblem: a record cannot be read.
    """
    first = first_of(home, name)
    place = store.folder(home, "", first)
    known = ledger.load(place) or Ledger()
    one, other = _member(config_dir, home, first), _member(config_dir, home, known.standby) if known.standby else None
    return arrange(place, known, first, one, other)


def arrange(place: Folder, known: Ledger, first: str, one: Optional[Member], other: Optional[Member]) -> Optional[Pair]:
    """Which of the two is served, and which stands by; pure.

    :param one: the lineage ``first``; None if certbot does not know it (any more).
    :param other: the one that was made to stand by; likewise.
    :returns: None if there is neither.
    """
    if one is None or (other is not None and _serves(known, one, other)):
        one, other = other, one
    return None if one is None else Pair(first, place, known, one, other)


def partner(home: str, name: str) -> str:
    """The other lineage of the pair that ``name`` is in; empty if it is alone."""
    first = first_of(home, name)
    known = ledger.load(store.folder(home, "", first))
    if known is None or not known.standby:
        return ""
    return known.standby if name == first else first


def installed(home: str, name: str) -> str:
    """Which of the pair that ``name`` is in is installed, by our record: itself if it is, or if neither is.

    That needs no lineage of certbot's: one that was deleted may be served for long.

    :raises StateProblem: a record cannot be read.
    """
    for one in filter(None, (name, partner(home, name))):
        record = state.load(store.folder(home, "", one).state)
        if record is not None and (record.servers or record.installing):
            return one
    return name


def told(name: str, other: str) -> str:
    """What is said to an admin who asks for ``name``, where the other one of the two is installed; a full sentence."""
    return f"{name} and {other} are two lineages that change places: {other} is installed now, and {name} is not."


def _serves(known: Ledger, one: Member, other: Member) -> bool:
    """Whether the second of the two is the one that is served."""
    if known.turning:
        # Half way: the rest of the servers follows.
        return known.turning == one.lineage.name
    return other.installed and not one.installed


def _member(config_dir: str, home: str, name: str) -> Optional[Member]:
    lineage = lineages.load(config_dir, name)
    if lineage is None:
        return None
    record = state.load(store.folder(home, "", name).state)
    return Member(lineage, record, store.folder(home, record.options.store, name) if record else None)
