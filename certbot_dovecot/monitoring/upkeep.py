"""Findings about the upkeep of a lineage: what its renewals do, and whether its TLSA records are true everywhere.  Pure."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from shlex import quote

from certbot_dovecot import renewals
from certbot_dovecot.dane.rollover import Kind
from certbot_dovecot.dane.standing import Standing
from certbot_dovecot.monitoring.model import Deployed, Finding, Grade, Status
from certbot_dovecot.renewals import By

#: The port that other hosts' mail comes in at: the only one whose records senders look at (RFC 7672).
MX_PORT = 25
#: Of names with the same trouble, so many are named.
_SHOWN = 4


def addresses(one: Deployed) -> list[Finding]:
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


def each_run(one: Deployed) -> bool:
    """Whether the next ``certbot renew`` looks after it, due or not."""
    return not one.external and (one.renewing is None or one.renewing.each_run)


def stale(one: Deployed) -> list[Finding]:
    """A key that changed while records of the one before are published."""
    if not one.servers or not one.stale or one.leaf is None:
        return []
    what = f"the key has changed, and the TLSA records of {_some(one.stale)} match only a former one"
    todo = f"Publish 3 1 1 {one.leaf.key.sha256} there now; then certbot-dovecot deploy {quote(one.name)} asks the DNS again"
    return [Finding(Grade.CRITICAL, one.name, what, todo)]


def upkeep(one: Deployed, status: Status) -> list[Finding]:
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
        found.append(Finding(Grade.WARNING, one.name, what, f"{change_of(one, status.at)}"))
    if renewing.by is By.INSTALLER and not renewing.each_run and (one.standby or one.publishes):
        what = f"nobody looks after its TLSA records between renewals: {renewing.where} says disable-renew-updates"
        found.append(Finding(Grade.WARNING, one.name, what, "Take that out"))
    return found


def change_of(one: Deployed, now: datetime.datetime) -> str:
    """How a key that is due is changed, where the installer is not called."""
    step = one.step
    if one.dane_off or (step is not None and step.kind is Kind.FREE and one.asked and renewals.recent(one.asked, now)):
        return f"Nothing is published of it. To change it now: {renewals.new_key(one.name)}"
    if step is None or step.kind is Kind.FREE:
        return f"Whether it may change now, the DNS says: certbot-dovecot status --dns {quote(one.name)}"
    return f"It must wait: {step.reason}. Make the change safe: certbot-dovecot standby {quote(one.name)}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
