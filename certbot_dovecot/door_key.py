"""What is decided about the key before certbot issues a certificate, and how certbot is told.

certbot asks no plugin about keys; but what ``prepare`` sets in its configuration (``reuse_key``, ``new_key``, the kind of key)
takes effect for ``run`` and ``renew`` in every version.  So this room finds the lineage that certbot is about to renew, makes
the choice (:mod:`~certbot_dovecot.rotation`), and holds it back where TLSA records of the present key are published (rule R4).

Under ``renew`` certbot does not say which lineage it is: it is found by its names, its kind of key, and by the option
``dovecot_standby_for``, which is all that tells a lineage from the one that stands by for it.  One with the same names that a
web server has is told by its installer: certbot does not prepare us for it.  On doubt the key stays.

Raises :class:`~certbot_dovecot.problems.Problem` only; certbot's options are then as they were.
"""

from __future__ import annotations

import datetime
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Optional

from certbot_dovecot import handover, jobs, lineages, renewals, rotation, standby, watch
from certbot_dovecot.certificates.names import shown_lines
from certbot_dovecot.dane.rollover import Kind, Step
from certbot_dovecot.door import Door, Start
from certbot_dovecot.lineages import Lineage
from certbot_dovecot.pairs import Pair
from certbot_dovecot.problems import Problem
from certbot_dovecot.rollover import messages
from certbot_dovecot.rotation import Choice, Role, Why, Wish

#: Verbs that may issue a certificate.
_ISSUING = ("run", "certonly", "renew", "reconfigure")


def choose(door: Door) -> Start:
    """Decide about the key, and set certbot's options so.

    :raises Problem: the lineage or our record of it cannot be read.
    """
    return _Choosing(door).choose() if door.config.verb in _ISSUING else Start()


class _Choosing:
    """One decision."""

    def __init__(self, door: Door) -> None:
        self.door, self.config = door, door.config

    def choose(self) -> Start:
        lineage, doubt = self._lineage()
        if doubt:
            self._set(Choice(f"{' and '.join(doubt)} have the same names: the key stays", reuse_key=True))
            self._tell_doubt(doubt)
            return Start()
        current = year = pair = None
        role = Role.ALONE
        if lineage is not None:
            current = lineage.key()
            record = jobs.remembered(self.config.config_dir, lineage.name)
            year = rotation.year_of(current.spki, record.years if record else {}, lineage.history())
            pair = self.door.way().pair(lineage.name)
            role = pair.role(lineage.name) if pair is not None else role
            if role is Role.SERVING and pair is not None and pair.options.dane == "off":
                role = Role.ALONE
        # Before certbot's options are set: after that, what the admin said cannot be told from what we did.
        said = self._reuse_said(lineage)
        choice = rotation.choose(self._wish(lineage, said), current, year, jobs.now(), role)
        if current is not None and pair is not None and role in (Role.ALONE, Role.SERVING):
            choice = self._guard(choice, current, pair)
        if current is not None and pair is not None and role is Role.SPENT:
            choice = self._guard_spent(choice, current, pair)
        self._set(choice)
        return Start(current.spki if current else "", said)

    def _guard(self, choice: Choice, current: rotation.Key, pair: Pair) -> Choice:
        """Hold a new key back, or warn of it, if TLSA records of the present one are published."""
        if choice.why is Why.NONE or self.config.dry_run or self.door.options(pair.serving.lineage.name).dane == "off":
            return choice
        way, name = self.door.way(), pair.serving.lineage.name
        try:
            step = watch.look(way, pair).step
        except Problem as problem:
            step = Step(Kind.KEEP, str(problem).rstrip("."))
        if step.kind is Kind.FREE:
            return choice
        said = choice.why is Why.SAID or (self.config.verb != "renew" and self.door.explicit("reuse_key"))
        if said and self.door.plugin.conf("force"):
            self._warn(pair, "said", messages.said_new(name, step), datetime.timedelta(0))
            return choice
        if said:
            self._warn(pair, "said", messages.kept_said(name, step), datetime.timedelta(0))
            return rotation.hold(current, step.reason)
        self._warn(pair, f"kept {step.kind.value}", messages.kept(name, step), handover.DAY)
        return rotation.hold(current, step.reason)

    def _guard_spent(self, choice: Choice, current: rotation.Key, pair: Pair) -> Choice:
        """Hold a new key back if port 25 is not ours and has a record of the key that was served until the switch."""
        if choice.why is not Why.YEAR or self.config.dry_run or pair.options.dane == "off" or pair.standby is None:
            return choice
        name = pair.standby.lineage.name
        try:
            reason = watch.guard(self.door.way(), pair, pair.standby.key())
        except Problem as problem:
            reason = str(problem).rstrip(".")
        if not reason:
            return choice
        self._warn(pair, f"spent {name}", messages.held(name, reason), handover.DAY)
        return rotation.hold(current, reason)

    def _warn(self, pair: Pair, topic: str, sentence: str, pause: datetime.timedelta) -> None:
        """Tell the admin, also under ``-q``, but not again within ``pause``."""
        way = self.door.way()
        known, now = way.pair(pair.name), jobs.now()
        if known is not None and known.ledger.quiet(topic, now, pause):
            return
        print(shown_lines(sentence), file=sys.stderr)
        if pair.serving.installed:
            watch.write_down(way, pair, lambda ledger: replace(ledger, said={**ledger.said, topic: now}))

    def _set(self, choice: Choice) -> None:
        for option in ("reuse_key", "new_key", "key_type", "elliptic_curve", "rsa_key_size"):
            value = getattr(choice, option)
            if value is not None and getattr(self.config, option) != value:
                setattr(self.config, option, value)

    def _tell_doubt(self, names: Sequence[str]) -> None:
        """Two lineages that belong together, and cannot be told apart: an admin must know (R6)."""
        for name in names:
            first = standby.stands_by_for(self.door.way(), name)
            pair = self.door.way().pair(first) if first in names else None
            if pair is not None and not self.config.dry_run:
                self._warn(pair, "doubt", messages.doubtful(first, name), handover.DAY)

    def _lineage(self) -> tuple[Optional[Lineage], Sequence[str]]:
        """The lineage that certbot is about to renew (None for a new one), or those that it may be.

        :raises Problem: ``--dovecot-standby-for`` does not go with the names or the lineage.
        """
        certname, names = self.config.certname, self._names()
        first = self.door.plugin.conf("standby-for")
        if self.config.verb != "renew" and (first or certname):
            first = first or standby.stands_by_for(self.door.way(), certname)
            standby.check(self.door.way(), first, certname, names)
            if first and first != self.door.plugin.conf("standby-for"):
                # certbot forgets plugin options when it meets a lineage again; without this one, the two cannot be told apart.
                self.config.dovecot_standby_for = first
        if certname:
            return lineages.load(self.config.config_dir, certname), ()
        kind = self.config.key_type if self.config.verb == "renew" else None
        found = lineages.matching(self.config.config_dir, names, kind)
        if self.config.verb == "renew" and len(found) > 1:
            found = self._ours(found)
            found = [lineage for lineage in found if lineage.standby_for == first] or found
        if len(found) > 1:
            return None, [lineage.name for lineage in found]
        return (found[0] if found else None), ()

    def _ours(self, found: list[Lineage]) -> list[Lineage]:
        """Those of several that certbot prepares us for: their renewal confs name us, unless an installer is said for all."""
        argv = any(re.match(r"(-i|--inst)", argument) for argument in sys.argv[1:])
        inis = renewals.read_inis(self.config.config_dir)
        if argv or any(renewals.cli_says(text, "installer") for _, text in inis):
            return found
        return [lineage for lineage in found if lineage.installer == renewals.OURS] or found

    def _names(self) -> list[str]:
        """The names that certbot was told; since 5.3 it keeps addresses apart."""
        return [str(name) for name in [*self.config.domains, *getattr(self.config, "ip_addresses", ())]]

    def _reuse_said(self, lineage: Optional[Lineage]) -> Optional[bool]:
        """What the admin says about reusing the key; None for nothing.

        It goes into our record: certbot before 2.7 stores ``--no-reuse-key`` only until the next renewal.
        """
        config = self.config
        stored = lineage.reuse_key if lineage and config.verb == "renew" else None
        if self.door.explicit("reuse_key") or (stored is False and not config.reuse_key):
            return bool(config.reuse_key)
        return None

    def _wish(self, lineage: Optional[Lineage], reuse: Optional[bool]) -> Wish:
        config = self.config
        kind = config.key_type if config.verb == "renew" or self._differs("key_type", "ecdsa") else None
        remembered = self.door.options(lineage.name if lineage else "")
        return Wish(
            rotation=remembered.key_rotation,
            reuse_key=remembered.reuse_key if reuse is None else reuse,
            new_key=bool(config.new_key),
            key_type=kind,
            elliptic_curve=config.elliptic_curve if self._differs("elliptic_curve", "secp256r1") else None,
            rsa_key_size=config.rsa_key_size if self._differs("rsa_key_size", 2048) else None,
        )

    def _differs(self, variable: str, default: object) -> bool:
        return getattr(self.config, variable) != default or self.door.explicit(variable)
