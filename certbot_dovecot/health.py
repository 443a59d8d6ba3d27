"""Whether all is as it should be, and what an admin has to know.  Pure: what was seen goes in, findings come out.

The grades are those of monitoring plugins: *critical* is what clients meet now or within days, *warning* what will become so
if nobody does anything, *unknown* what could not be told.  Certificates are judged by their own lifetime, so that those of six
days and those of a year get the notice that fits: a warning when a quarter of the lifetime is left (certbot renews earlier),
but not before 30 days; critical at a tenth, but not before 10 days.

Nothing here does I/O or fails.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from shlex import quote
from typing import Optional

from certbot_dovecot import renewals
from certbot_dovecot.dane.answers import Key, Owner
from certbot_dovecot.dane.gates import Mismatch
from certbot_dovecot.dane.rollover import Kind, Standing, Step
from certbot_dovecot.problems import sentence
from certbot_dovecot.renewals import By, Renewing
from certbot_dovecot.servers.contract import Endpoint

#: The port that other hosts' mail comes in at: the only one whose records senders look at (RFC 7672).
MX_PORT = 25

#: Of endpoints with the same trouble, so many are named.
_SHOWN = 4

DAY = datetime.timedelta(days=1)


class Grade(IntEnum):
    """How bad it is: the exit codes of monitoring plugins."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


@dataclass(frozen=True)
class Finding:
    """Something that an admin has to know.

    :param lineage: whose; empty for the host's.
    :param what: one sentence, without its stop.
    :param todo: what to do now, likewise; empty if there is nothing.
    """

    grade: Grade
    lineage: str
    what: str
    todo: str = ""

    def __str__(self) -> str:
        whose = f"{self.lineage}: " if self.lineage else ""
        return " ".join(sentence(part) for part in (whose + self.what, self.todo) if part)


@dataclass(frozen=True)
class Leaf:
    """A certificate.

    :param names: its DNS names and addresses.
    :param digest: SHA-256 of it, upper-case hex.
    :param key: its public key.
    :param algorithm: ``ECDSA P-256``, ``RSA 2048``.
    """

    names: tuple[str, ...]
    digest: str
    key: Key
    algorithm: str
    not_before: datetime.datetime
    not_after: datetime.datetime


@dataclass(frozen=True)
class Deployed:
    """A lineage, and what is known of its copy in the store.

    :param servers: those that it is installed on; empty for one that is not installed.
    :param stem: name of the deployed key, ``2026``.
    :param year: the year the key was made in; None if that is not known.
    :param leaf: the deployed certificate; None if it cannot be read, or nothing is deployed.
    :param live: SHA-256 of the certificate that certbot has; empty if it cannot be read.
    :param external: whether it is no lineage of certbot's.
    :param lost: whether certbot does not know it any more.
    :param open: servers that are still to be reloaded or proven.
    :param withdrawn: servers whose configuration does not name its files any more.
    :param standby: name of the lineage that stands by; empty for none.
    :param standby_leaf: its certificate; None if it cannot be read.
    :param step: what the DNS allows; None if it was not asked.
    :param asked: when it was asked, UTC.
    :param due: whether a change of the key is due.
    :param since: the year since which the key is served; None if that was not looked at.
    :param dane_off: whether TLSA records do not matter (``--dovecot-dane off``).
    :param publishes: whether records are published by us.
    :param owners: what was said of the owner names.
    :param mismatches: addresses of its hosts whose key the records do not match, if the DNS was asked now (rule D18).
    :param dns_notes: what of the DNS was not looked at, if it was asked now; full sentences.
    :param renewing: what its renewals do; None if certbot does not know it, or that could not be told.
    :param stale: owner names whose records match a former key of it only.
    :param certbot: certbot's version.
    :param problem: what stood in the way of all this; empty for nothing.
    """

    name: str
    servers: tuple[str, ...] = ()
    stem: str = ""
    year: Optional[int] = None
    leaf: Optional[Leaf] = None
    live: str = ""
    external: bool = False
    lost: bool = False
    open: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()
    standby: str = ""
    standby_leaf: Optional[Leaf] = None
    step: Optional[Step] = None
    asked: Optional[datetime.datetime] = None
    due: bool = False
    since: Optional[int] = None
    dane_off: bool = False
    publishes: bool = False
    owners: tuple[Owner, ...] = ()
    mismatches: tuple[Mismatch, ...] = ()
    dns_notes: tuple[str, ...] = ()
    renewing: Optional[Renewing] = None
    stale: tuple[str, ...] = ()
    certbot: tuple[int, ...] = (5, 8)
    problem: str = ""


@dataclass(frozen=True)
class Asked:
    """One endpoint, as a client met it that asked for a lineage's name.

    :param lineage: whose certificate the configuration names for it; empty for none of ours.
    :param sni: the name that was asked for; empty for none.
    :param expected: SHA-256 of the certificate that should be served; empty if it cannot be told.
    :param leaf: what was served; None for nothing.
    :param error: why not.
    :param dane: what the records for it mean; None if the DNS was not asked.
    """

    endpoint: Endpoint
    lineage: str
    sni: str = ""
    expected: str = ""
    leaf: Optional[Leaf] = None
    error: str = ""
    dane: Optional[Standing] = None

    @property
    def right(self) -> bool:
        """Whether it serves what it should; where nothing of ours is named, whatever it serves."""
        return self.leaf is not None and (not self.lineage or self.leaf.digest == self.expected)


@dataclass(frozen=True)
class Status:
    """Everything that was seen.

    :param at: when, UTC.
    :param failures: (server, what its own tools say) of servers that could not be looked at.
    :param notes: full sentences.
    """

    at: datetime.datetime
    lineages: tuple[Deployed, ...] = ()
    endpoints: tuple[Asked, ...] = ()
    failures: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    warning: Optional[datetime.timedelta] = None
    critical: Optional[datetime.timedelta] = None


def findings(status: Status) -> tuple[Finding, ...]:
    """What an admin has to know, the worst first.

    :param status: its ``warning`` and ``critical`` say how long before its end a certificate is; None as the module says.
    """
    found = [
        Finding(Grade.CRITICAL, "", f"{server} cannot be looked at: {text.rstrip('.')}") for server, text in status.failures
    ]
    for lineage in status.lineages:
        found += [*_records(lineage), *_expiry(lineage, status), *_keys(lineage), *_addresses(lineage), *_stale(lineage)]
        found += _renewals(lineage, status)
    found += _endpoints(status.endpoints)
    if not any(lineage.servers for lineage in status.lineages) and not status.failures:
        todo = "certbot --installer dovecot -d NAME gets and installs one"
        found.append(Finding(Grade.UNKNOWN, "", "no certificate is installed by certbot-dovecot on this host", todo))
    return tuple(sorted(found, key=lambda one: (_rank(one.grade), one.lineage)))


def grade(found: Iterable[Finding]) -> Grade:
    """The worst; what could not be told is less than what is known to be critical."""
    return min((one.grade for one in found), key=_rank, default=Grade.OK)


def limits(leaf: Leaf, status: Status) -> tuple[datetime.timedelta, datetime.timedelta]:
    """How long before the end of ``leaf`` there is a warning, and how long before it is critical."""
    lifetime = leaf.not_after - leaf.not_before
    warning = min(lifetime / 4, 30 * DAY) if status.warning is None else status.warning
    critical = min(lifetime / 10, 10 * DAY) if status.critical is None else status.critical
    return warning, critical


def _rank(grade: Grade) -> int:
    return (Grade.CRITICAL, Grade.UNKNOWN, Grade.WARNING, Grade.OK).index(grade)


def _records(one: Deployed) -> list[Finding]:
    """What the records of an installation tell."""
    found = []
    if one.problem:
        found.append(Finding(Grade.UNKNOWN, one.name, f"not everything could be looked at: {one.problem.rstrip('.')}"))
    if not one.servers:
        return found
    if one.lost:
        found.append(
            Finding(
                Grade.WARNING, one.name, "certbot does not know it any more, and nobody renews what the servers serve",
                f"Install another certificate for its names, or certbot-dovecot undo {quote(one.name)}",
            )
        )  # fmt: skip
    if one.withdrawn:
        again = f"certbot install --installer dovecot --cert-name {quote(one.name)}"
        if one.external:
            again = "certbot-dovecot install-cert, with the files that the CA sent"
        which = f"the configuration of {' and '.join(one.withdrawn)}"
        found.append(
            Finding(
                Grade.WARNING, one.name, f"{which} does not name its files any more, and is left alone",
                f"To install it again: {again}",
            )
        )  # fmt: skip
    if one.open:
        # No certbot renew comes by for what is no lineage of certbot's.
        who = "The next certbot renew does it, or now:" if _each_run(one) else "This does it:"
        found.append(
            Finding(
                Grade.WARNING, one.name, f"what was installed is not proven on {' and '.join(one.open)}",
                f"{who} certbot-dovecot deploy {quote(one.name)}",
            )
        )  # fmt: skip
    elif one.live and one.leaf and one.live != one.leaf.digest:
        found.append(
            Finding(
                Grade.WARNING, one.name, "certbot has another certificate than the servers",
                f"{'The next certbot renew brings it there, or now:' if _each_run(one) else 'This brings it there:'} "
                f"certbot-dovecot deploy {quote(one.name)}",
            )
        )  # fmt: skip
    return found


def _expiry(one: Deployed, status: Status) -> list[Finding]:
    """Certificates that end soon, or have."""
    found = []
    certificates = [(one.leaf, one.name, "its certificate")] if one.servers else []
    certificates += [(one.standby_leaf, one.standby, f"its standby {one.standby}")] if one.standby else []
    for leaf, name, whose in certificates:
        if leaf is None:
            continue
        left, (warning, critical) = leaf.not_after - status.at, limits(leaf, status)
        if left >= max(warning, critical):
            continue
        when = f"{leaf.not_after:%Y-%m-%d %H:%M}"
        what = f"{whose} expires on {when} UTC, in {days(left)}"
        if left < datetime.timedelta(0):
            what = f"{whose} expired on {when} UTC"
        todo = f"certbot renew --cert-name {quote(name)} says why it is not renewed; see that certbot's timer runs"
        if one.external:
            todo = "Get a new one: certbot-dovecot csr, then certbot-dovecot install-cert"
        found.append(Finding(Grade.CRITICAL if left < critical else Grade.WARNING, one.name, what, todo))
    return found


def _keys(one: Deployed) -> list[Finding]:
    """A change of the key that is held up."""
    step = one.step
    if not one.servers or step is None:
        return []
    if step.kind is Kind.KEEP and (one.due or step.lasting):
        what = "the change of the key is due, and held up" if one.due else "a change of the key would be held up"
        first = "Mend that, then ask the DNS again" if step.lasting else "To ask the DNS again now"
        todo = f"{first}: certbot-dovecot status --dns {quote(one.name)}"
        return [Finding(Grade.WARNING, one.name, f"{what}: {step.reason}", todo)]
    if step.kind is Kind.STANDBY and one.due:
        todo = f"Make the change safe: certbot-dovecot standby {quote(one.name)}"
        return [Finding(Grade.WARNING, one.name, f"the change of the key is due, and waits: {step.reason}", todo)]
    if step.kind is Kind.PUBLISH and not one.publishes:
        todo = f"Add the records: certbot-dovecot tlsa {quote(one.name)} shows them"
        return [Finding(Grade.WARNING, one.name, f"the DNS lacks a record: {step.reason}", todo)]
    return []


def _addresses(one: Deployed) -> list[Finding]:
    """Addresses under which others reach the same names, and whose key has no record (rule D18)."""
    found = []
    for each in one.mismatches:
        if each.key is None:
            what = f"{each.where} could not be asked, so it is not known whether a TLSA record matches its key: {each.error}"
            todo = "See that it can be reached from this host, or take the address out of the DNS if nobody is served there"
            found.append(Finding(Grade.UNKNOWN, one.name, what, todo))
            continue
        none = each.standing is Standing.MISMATCH
        which = "no set of its TLSA records matches" if none else "not every set of its TLSA records matches"
        todo = f"Bring the certificate that this host serves to {each.address}, or publish 3 1 1 {each.key.sha256} for it"
        grade = Grade.CRITICAL if none and MX_PORT in each.ports else Grade.WARNING
        what = f"{each.where} serves the key 3 1 1 {each.key.sha256}, which {which}"
        found.append(Finding(grade, one.name, what, f"{todo} beside what stands there"))
    return found


def _each_run(one: Deployed) -> bool:
    """Whether the next ``certbot renew`` looks after it, due or not."""
    return not one.external and (one.renewing is None or one.renewing.each_run)


def _stale(one: Deployed) -> list[Finding]:
    """A key that changed while records of the one before are published."""
    if not one.servers or not one.stale or one.leaf is None:
        return []
    what = f"the key has changed, and the TLSA records of {_some(one.stale)} match only a former one"
    todo = f"Publish 3 1 1 {one.leaf.key.sha256} there now; then certbot-dovecot deploy {quote(one.name)} asks the DNS again"
    return [Finding(Grade.CRITICAL, one.name, what, todo)]


def _renewals(one: Deployed, status: Status) -> list[Finding]:
    """Renewals that do not reach the servers, or whose key is not looked after, by what certbot's configuration says now."""
    renewing, found = one.renewing, []
    if renewing is None or one.external or one.lost or set(one.servers) <= set(one.withdrawn):
        return []
    if renewing.by is By.NOTHING:
        what = f"its renewals do not reach the servers: {renewing.why}, and its renewal conf does not name the installer"
        found.append(Finding(Grade.WARNING, one.name, what, f"{renewals.remedy(one.name, renewing, one.certbot)}"))
    if not renewing.keeps_key:
        what = "every renewal takes a new key, for certbot does it without the installer, and without reuse_key"
        todo = f"To keep the key: {renewals.keep_key(one.name, renewing.installer, one.certbot)}"
        found.append(Finding(Grade.WARNING, one.name, what, todo))
    elif renewing.by is not By.INSTALLER and one.due and not one.standby:
        what = f"a new key is due, for the present one is of {one.since}, and certbot renews it without the installer"
        found.append(Finding(Grade.WARNING, one.name, what, f"{_change(one, status.at)}"))
    if renewing.by is By.INSTALLER and not renewing.each_run and (one.standby or one.publishes):
        what = f"nobody looks after its TLSA records between renewals: {renewing.where} says disable-renew-updates"
        todo = f"Take that out; or run certbot-dovecot deploy {quote(one.name)} every day"
        found.append(Finding(Grade.WARNING, one.name, what, todo))
    return found


def _change(one: Deployed, now: datetime.datetime) -> str:
    """How a key that is due is changed, where the installer is not called."""
    step = one.step
    if one.dane_off or (step is not None and step.kind is Kind.FREE and one.asked and renewals.recent(one.asked, now)):
        return f"Nothing is published of it. To change it now: {renewals.new_key(one.name)}"
    if step is None or step.kind is Kind.FREE:
        return f"Whether it may change now, the DNS says: certbot-dovecot status --dns {quote(one.name)}"
    return f"It must wait: {step.reason}. Make the change safe: certbot-dovecot standby {quote(one.name)}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _endpoints(asked: Sequence[Asked]) -> list[Finding]:
    """Endpoints that do not serve what they should, or whose records are not theirs; the same of several is said once."""
    places: dict[Finding, list[Endpoint]] = {}
    for one in asked:
        for finding in _endpoint(one):
            places.setdefault(finding, []).append(one.endpoint)
    return [replace(finding, what=f"{_listed(where)}{finding.what}") for finding, where in places.items()]


def _listed(endpoints: Sequence[Endpoint]) -> str:
    shown = ", ".join(map(str, endpoints[:_SHOWN]))
    return f"{shown} and {len(endpoints) - _SHOWN} more" if len(endpoints) > _SHOWN else shown


def _endpoint(one: Asked) -> list[Finding]:
    """What is wrong with one; each is to begin with the endpoint."""
    found = []
    asked = f", asked for {one.sni}," if one.sni else ""
    if one.leaf is None:
        grade = Grade.CRITICAL if one.lineage else Grade.WARNING
        why = one.error or "there is none"
        return [Finding(grade, one.lineage, f"{asked} serves no usable certificate: {why}", _SEE_THE_LOG)]
    if not one.right:
        todo = f"certbot-dovecot deploy {quote(one.lineage)} reloads and asks again"
        found.append(Finding(Grade.CRITICAL, one.lineage, f"{asked} serves another certificate, {_about(one.leaf)}", todo))
    if one.dane in (Standing.MISMATCH, Standing.PARTLY):
        all_of_them = one.dane is Standing.MISMATCH
        what = " serves a key that not every set of its TLSA records matches"
        if all_of_them:
            what = " serves a key that no set of its TLSA records matches"
        grade = Grade.CRITICAL if one.endpoint.port == MX_PORT and all_of_them else Grade.WARNING
        todo = f"Publish 3 1 1 {one.leaf.key.sha256} there now, beside what stands there"
        found.append(Finding(grade, one.lineage, what, todo))
    return found


def _about(leaf: Leaf) -> str:
    names = ", ".join(leaf.names[:3]) + (", ..." if len(leaf.names) > 3 else "")
    return f"of {names or 'no name'} until {leaf.not_after:%Y-%m-%d}"


def days(left: datetime.timedelta) -> str:
    """``89 days``, ``5 hours``; what is over is ``0 hours``."""
    if left >= 2 * DAY:
        return f"{left // DAY} days"
    hours = max(left, datetime.timedelta(0)) // datetime.timedelta(hours=1)
    return f"{hours} hour{'' if hours == 1 else 's'}"


def worst(found: Collection[Finding], lineage: str) -> Grade:
    """The grade of one lineage."""
    return grade([one for one in found if one.lineage == lineage])


_SEE_THE_LOG = "See the server's log (doveadm log errors, journalctl, mail.log)"
