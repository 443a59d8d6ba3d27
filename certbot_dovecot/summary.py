"""What the screen shows after a deployment, in the order an admin reads it.  Pure; nothing here fails."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from shlex import quote
from typing import Optional

from certbot_dovecot.bundle import Source
from certbot_dovecot.certificates.names import shown
from certbot_dovecot.reconcile import Report
from certbot_dovecot.servers.contract import Endpoint

#: How many records the screen shows; a lineage of a hundred names has hundreds, and the zone file has them all.
_RECORDS = 20


def text(report: Report) -> str:
    """The summary of what is installed and served now; only notes if the lineage is installed nowhere."""
    plan = report.plan
    if plan is None or not plan.targets:
        return "\n".join(map(shown, report.notes))
    rows = [("TLSA data", f"3 1 1 {spki}") for spki in sorted({record.spki for record in report.records})]
    rows += [
        ("Private key", plan.pair.key),
        ("Certificate", plan.job.source.cert),
        ("CA bundle", _chain(plan.job.source) or "none"),
        ("Certificate and CA bundle", plan.pair.cert),
        ("TLSA records", plan.place.zone),
    ]
    lines = [f"{label + ':':<27}{value}" for label, value in rows]
    lines += [f"{'Serving it now:':<27}{line}" for line in endpoints([answer.endpoint for answer in report.answers])]
    lines += map(shown, report.notes)
    if report.new_key:
        lines += ["", new_key(report)]
    return "\n".join(lines)


def new_key(report: Report) -> str:
    """What an admin with DANE must do now that the servers serve another key."""
    lines = [
        "The private key is new. If you publish TLSA records (DANE) for these hosts, update the DNS now,"
        " and remove the records of the old key:"
    ]
    lines += [f"  {record}" for record in report.records[:_RECORDS]]
    left = len(report.records) - _RECORDS
    if left > 0 and report.plan is not None:
        lines.append(f"  and {left} more, in {report.plan.place.zone}")
    return "\n".join(lines)


def withdrawn(lineage: str, servers: Sequence[str]) -> str:
    """What is said once when a server no longer names our files."""
    return (
        f"{' and '.join(servers)} no longer use{'s' if len(servers) == 1 else ''} the certificate {lineage} from "
        "certbot-dovecot's store: the configuration names other files now. It is left alone. To install it again: "
        f"certbot install --installer dovecot --cert-name {quote(lineage)}"
    )


def _chain(source: Source) -> Optional[str]:
    return source.chain or source.fullchain


def endpoints(some: Sequence[Endpoint]) -> list[str]:
    """One line a server: ``Dovecot imap 143, 993 (127.0.0.1, ::1)``."""
    lines = []
    for server, group in groupby(sorted(some, key=lambda e: (e.server, e.port)), key=lambda e: e.server):
        mine = list(group)
        ports = ", ".join(f"{port} ({protocol})" for port, protocol in sorted({(e.port, e.protocol) for e in mine}))
        lines.append(f"{server} {ports} at {', '.join(sorted({e.address for e in mine}))}")
    return lines
