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
from dataclasses import replace
from shlex import quote
from typing import Optional

from certbot_dovecot.dane.rollover import Kind
from certbot_dovecot.dane.standing import Standing
from certbot_dovecot.monitoring import upkeep
from certbot_dovecot.monitoring.model import Asked, Deployed, Finding, Grade, Leaf, Status
from certbot_dovecot.servers import probe, sni_map

#: Of endpoints with the same trouble, so many are named.
_SHOWN = 4

DAY = datetime.timedelta(days=1)

#: What has a server read its configuration and its certificates again.
RELOAD = {"Dovecot": "doveadm reload", "Postfix": "postfix reload"}


def findings(status: Status) -> tuple[Finding, ...]:
    """What an admin has to know, the worst first.

    :param status: its ``warning`` and ``critical`` say how long before its end a certificate is; None as the module says.
    """
    found = [
        Finding(Grade.CRITICAL, "", f"{server} cannot be looked at: {text.rstrip('.')}") for server, text in status.failures
    ]
    for server, table in status.unread:
        what = f"what {server} serves by name could not be judged: {table} may not be read by this user"
        found.append(Finding(Grade.UNKNOWN, "", what, "Run this as root" + _opened(server, table, status)))
    for lineage in status.lineages:
        found += [*_records(lineage), *_expiry(lineage, status), *_keys(lineage)]
        found += [*upkeep.addresses(lineage), *upkeep.stale(lineage), *upkeep.upkeep(lineage, status)]
    found += _endpoints(status.endpoints)
    return ranked([*found, *_not_installed(status)])


def _not_installed(status: Status) -> list[Finding]:
    """Lineages that were asked for and no server has; or the host's, where there is none at all.

    Where a server or a record cannot be read, nobody knows.
    """
    if status.failures:
        return []
    if status.chosen:
        gone = [one for one in status.lineages if one.name in status.chosen and not one.servers and not one.problem]
        what = "it is not installed by certbot-dovecot on this host"
        return [Finding(Grade.UNKNOWN, one.name, what, again(_first(one))) for one in gone]
    if any(lineage.servers or lineage.problem for lineage in status.lineages):
        return []
    todo = "certbot --installer dovecot -d NAME gets and installs one"
    return [Finding(Grade.UNKNOWN, "", "no certificate is installed by certbot-dovecot on this host", todo)]


def _opened(server: str, table: str, status: Status) -> str:
    """How our own table is opened to all, which it was not at first."""
    name = next((one.name for one in status.lineages if server in one.servers and not (one.external or one.lost)), "")
    if not name or table.rpartition("/")[2] != sni_map.NAME:
        return ""
    return f"; or as root, once: certbot-dovecot deploy {quote(name)}, which opens it to all, for it holds no key"


def ranked(found: Iterable[Finding]) -> tuple[Finding, ...]:
    """The worst first, and each once."""
    return tuple(sorted(dict.fromkeys(found), key=lambda one: (_rank(one.grade), one.lineage)))


def grade(found: Iterable[Finding]) -> Grade:
    """The worst; what could not be told is less than what is known to be critical."""
    return min((one.grade for one in found), key=_rank, default=Grade.OK)


def limits(leaf: Leaf, status: Status) -> tuple[datetime.timedelta, datetime.timedelta]:
    """How long before the end of ``leaf`` there is a warning, and how long before it is critical."""
    warning, critical = usual_limits(leaf.not_after - leaf.not_before)
    return (
        warning if status.warning is None else status.warning,
        critical if status.critical is None else status.critical,
    )


def usual_limits(lifetime: datetime.timedelta) -> tuple[datetime.timedelta, datetime.timedelta]:
    """How long before the end of a certificate of this lifetime there is a warning, and how long before it is critical."""
    return min(lifetime / 4, 30 * DAY), min(lifetime / 10, 10 * DAY)


def _rank(grade: Grade) -> int:
    return (Grade.CRITICAL, Grade.UNKNOWN, Grade.WARNING, Grade.OK).index(grade)


def _records(one: Deployed) -> list[Finding]:
    """What the records of an installation tell."""
    found = []
    if one.problem:
        found.append(Finding(Grade.UNKNOWN, one.name, f"not everything could be looked at: {one.problem.rstrip('.')}"))
    if not one.servers:
        return found
    if one.lost and set(one.servers) - set(one.withdrawn):
        what = "certbot does not know it any more, and nobody renews what the servers serve"
        found.append(Finding(Grade.WARNING, one.name, what, again_or_undo(one.name, one.leaf.names if one.leaf else ())))
    if one.withdrawn and not one.lost:
        which = f"the configuration of {' and '.join(one.withdrawn)}"
        found.append(
            Finding(
                Grade.WARNING, one.name, f"{which} does not name its files any more, and is left alone",
                again(one),
            )
        )  # fmt: skip
    if one.open:
        # No certbot renew comes by for what is no lineage of certbot's.
        who = "The next certbot renew does it, or now:" if upkeep.each_run(one) else "This does it:"
        found.append(
            Finding(
                Grade.WARNING, one.name, f"what was installed is not proven on {' and '.join(one.open)}",
                f"{who} certbot-dovecot deploy {quote(one.name)}",
            )
        )  # fmt: skip
    elif one.live and one.leaf and one.live != one.leaf.digest and set(one.servers) - set(one.withdrawn):
        found.append(
            Finding(
                Grade.WARNING, one.name, "certbot has another certificate than the servers",
                f"{'The next certbot renew brings it there, or now:' if upkeep.each_run(one) else 'This brings it there:'} "
                f"certbot-dovecot deploy {quote(one.name)}",
            )
        )  # fmt: skip
    return found


def _first(one: Deployed) -> Deployed:
    """Of two lineages that change places and are not installed, the one that can be."""
    return replace(one, name=one.first) if one.first else one


def again(one: Deployed) -> str:
    """How a certificate comes to the servers again."""
    if one.external:
        return "To install it again: certbot-dovecot install-cert, with the files that the CA sent"
    if one.lost:
        return again_from_the_ca(one.name, one.leaf.names if one.leaf else ())
    return f"To install it again: certbot install --installer dovecot --cert-name {quote(one.name)}"


def again_from_the_ca(name: str, names: Iterable[str]) -> str:
    """How a lineage that certbot does not know any more comes to the servers again.

    :param names: of its certificate; empty if that cannot be read.
    """
    hosts = [host for host in names if probe.sni_for([host])] or ["NAME"]
    return f"To get it again: certbot --installer dovecot --cert-name {quote(name)} {' '.join(f'-d {host}' for host in hosts)}"


def again_or_undo(name: str, names: Iterable[str]) -> str:
    """What to do about a lineage that certbot does not know any more and that servers serve; parameters likewise."""
    return f"{again_from_the_ca(name, names)}; to take it out of the configuration: certbot-dovecot undo {quote(name)}"


def _expiry(one: Deployed, status: Status) -> list[Finding]:
    """Certificates that end soon, or have."""
    found = []
    certificates = [(one.leaf, one.name, "its certificate")] if one.servers else []
    certificates += [(one.standby_leaf, one.standby, f"its standby {one.standby}")] if one.standby else []
    for leaf, name, whose in certificates:
        if leaf is None:
            continue
        ending = ends_soon(leaf, status)
        if ending is None:
            continue
        what = f"{whose} expires on {ends(leaf)} UTC, in {days(leaf.not_after - status.at)}"
        if leaf.not_after < status.at:
            what = f"{whose} expired on {ends(leaf)} UTC"
        todo = f"certbot renew --cert-name {quote(name)} says why it is not renewed; see that certbot's timer runs"
        if one.external:
            todo = "Get a new one: certbot-dovecot csr, then certbot-dovecot install-cert"
        elif one.lost and name == one.name:
            todo = again_or_undo(one.name, one.leaf.names if one.leaf else ())
        found.append(Finding(ending, one.name, what, todo))
    return found


def ends_soon(leaf: Leaf, status: Status) -> Optional[Grade]:
    """How bad it is that a certificate ends when it does; None if there is time."""
    left, (warning, critical) = leaf.not_after - status.at, limits(leaf, status)
    if left < critical:
        return Grade.CRITICAL
    return Grade.WARNING if left < warning else None


def ends(leaf: Leaf) -> str:
    """``2027-01-23 12:00``, which is UTC."""
    return f"{leaf.not_after:%Y-%m-%d %H:%M}"


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


def _endpoints(asked: Sequence[Asked]) -> list[Finding]:
    """Endpoints that do not serve what they should, or whose records are not theirs; the same of several is said once."""
    return grouped((one, finding) for one in asked for finding in _endpoint(one))


def grouped(found: Iterable[tuple[Asked, Finding]]) -> list[Finding]:
    """The same cause at several endpoints, or for several names, is said once.

    :param found: findings whose ``what`` goes on behind the endpoint, and the names that it was asked for.
    """
    causes: dict[Finding, list[Asked]] = {}
    for one, finding in found:
        causes.setdefault(finding, []).append(one)
    made = []
    for finding, some in causes.items():
        names = [*dict.fromkeys(one.sni for one in some)]
        # What a client gets that asks for no name is not a matter of the name.
        asked = "" if "" in names else f", asked for {_listed(names)},"
        made.append(replace(finding, what=f"{_listed([str(one.endpoint) for one in some])}{asked}{finding.what}"))
    return made


def _listed(things: Sequence[str]) -> str:
    each = [*dict.fromkeys(things)]
    shown = ", ".join(each[:_SHOWN])
    return f"{shown} and {len(each) - _SHOWN} more" if len(each) > _SHOWN else shown


def _endpoint(one: Asked) -> list[Finding]:
    """What is wrong with one; each is to begin with the endpoint."""
    found = []
    if one.leaf is None:
        grade = Grade.CRITICAL if one.lineage else Grade.WARNING
        why = one.error or "there is none"
        return [Finding(grade, one.lineage, f" serves no usable certificate: {why}", _SEE_THE_LOG)]
    if not one.expects and one.instead:
        what = f" serves another certificate, {about(one.leaf)}, which {one.instead} has, an alternative that takes its place"
        where = ", ".join(one.places) or one.instead
        todo = f"Take that pair out of the configuration ({where}), then {RELOAD[one.endpoint.server]}"
        found.append(Finding(Grade.CRITICAL, one.lineage, what, todo))
    elif not one.expects:
        todo = f"certbot-dovecot deploy {quote(one.lineage)} reloads and asks again"
        found.append(Finding(Grade.CRITICAL, one.lineage, f" serves another certificate, {about(one.leaf)}", todo))
    if one.dane in (Standing.MISMATCH, Standing.PARTLY):
        all_of_them = one.dane is Standing.MISMATCH
        what = " serves a key that not every set of its TLSA records matches"
        if all_of_them:
            what = " serves a key that no set of its TLSA records matches"
        grade = Grade.CRITICAL if one.endpoint.port == upkeep.MX_PORT and all_of_them else Grade.WARNING
        todo = f"Publish 3 1 1 {one.leaf.key.sha256} there now, beside what stands there"
        found.append(Finding(grade, one.lineage, what, todo))
    return found


def about(leaf: Leaf) -> str:
    """``of mail.example.org until 2027-01-23``."""
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
