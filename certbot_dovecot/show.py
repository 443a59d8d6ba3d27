"""A status as a table for people, as JSON, as one line for monitoring plugins, and as metrics for Prometheus.

Pure; nothing here fails.  The JSON has a format number, which changes when a name in it changes its meaning or goes; names may
be added.  Metrics are those of the text exposition format 0.0.4, for node_exporter's textfile collector.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Sequence
from typing import Callable, Optional

from certbot_dovecot import glance, health
from certbot_dovecot.certificates.names import shown
from certbot_dovecot.dane.rollover import Kind
from certbot_dovecot.dane.standing import Standing
from certbot_dovecot.monitoring import unlooked
from certbot_dovecot.monitoring.model import Asked, Deployed, Finding, Grade, Leaf, Status
from certbot_dovecot.problems import sentence
from certbot_dovecot.servers.contract import Endpoint

FORMAT = 1

#: Colours a text of a grade, or leaves it as it is.
Paint = Callable[[Grade, str], str]

_DANE = {
    Standing.NONE: "no record",
    Standing.DOUBT: "not known",
    Standing.MATCH: "match",
    Standing.PARTLY: "match in part",
    Standing.MISMATCH: "NO MATCH",
}


def table(status: Status, found: Sequence[Finding], paint: Paint) -> str:
    """What ``certbot-dovecot status`` prints."""
    parts = []
    if status.lineages:
        rows = [_lineage(one, status) for one in status.lineages]
        marks = [health.worst(found, one.name) for one in status.lineages]
        parts.append(_columns(("LINEAGE", "KEY", "ALGORITHM", "EXPIRES", "STANDBY", "STATE"), rows, marks, paint))
    if status.endpoints:
        endpoints = _endpoints(status.endpoints)
        marks = [Grade.OK if right else Grade.CRITICAL for _, right in endpoints]
        head = ("PORT", "SERVER", "ADDRESSES", "LINEAGE", "SERVES", "DANE")
        parts.append(_columns(head, [row for row, _ in endpoints], marks, paint))
    dane = [shown(line) for one in status.lineages for line in _dane(one)]
    if status.lineages and not dane:
        dane = ["DANE: no lineage's records are looked after here; --dns asks for them now."]
    parts += ["\n".join(dane)] if dane else []
    parts += ["\n".join(map(shown, status.notes))] if status.notes else []
    told = [f"{paint(one.grade, one.grade.name)} {shown(str(one))}" for one in found]
    parts.append("\n".join(told) or paint(Grade.OK, _well(status)))
    return "\n\n".join(parts)


def _well(status: Status) -> str:
    """What is said where nothing was found: a claim about what was looked at (rule R13)."""
    left = "; ".join(map(shown, unlooked.of(status)))
    return f"No fault was found in what was looked at. Not looked at: {left}." if left else "All is well."


def as_json(status: Status, found: Sequence[Finding]) -> str:
    """The same for programs."""
    document = {
        "format": FORMAT,
        "at": _time(status.at),
        "grade": health.grade(found).name.lower(),
        "lineages": [_lineage_json(one, found) for one in status.lineages],
        "endpoints": [_endpoint_json(one) for one in status.endpoints],
        "findings": [
            {"grade": one.grade.name.lower(), "lineage": one.lineage, "what": one.what, "todo": one.todo} for one in found
        ],
        "notes": list(status.notes),
        "unasked": status.unasked,
        "unlooked": list(unlooked.of(status)),
    }
    return json.dumps(document, indent=1)


def nagios(status: Status, found: Sequence[Finding]) -> str:
    """One line, with performance data: the days until the first certificate expires, and endpoints that are wrong."""
    installed = [(one.leaf.not_after, one.name) for one in status.lineages if one.servers and one.leaf]
    wrong = len({one.endpoint for one in status.endpoints if not one.right})
    numbers = [f"wrong_endpoints={wrong};;0"]
    said = f"{len(status.endpoints)} answers of endpoints as they should be"
    if installed:
        end, name = min(installed)
        numbers.insert(0, f"days={(end - status.at) / health.DAY:.1f}")
        number = len(installed)
        said = f"{number} certificate{'s' if number > 1 else ''}, the first ({name}) for {health.days(end - status.at)}, {said}"
    left = "; ".join(unlooked.of(status))
    said += f"; not looked at: {left}" if left else ""
    if found:
        said = str(found[0]) + (f" ({len(found) - 1} more)" if len(found) > 1 else "")
    return f"{nagios_line(health.grade(found), said)} | {' '.join(numbers)}"


def nagios_line(grade: Grade, said: str) -> str:
    """The line without performance data; a bar would begin these, and a line break ends the line."""
    text = shown(" ".join(said.split())).replace("|", "/")
    return f"CERTBOT-DOVECOT {grade.name} - {text}"


def prometheus(status: Status, found: Sequence[Finding]) -> str:
    """Metrics."""
    lineages = [one for one in status.lineages if one.servers]
    ends = [({"lineage": one.name}, one.leaf.not_after.timestamp()) for one in lineages if one.leaf]
    ends += [({"lineage": one.standby}, one.standby_leaf.not_after.timestamp()) for one in lineages if one.standby_leaf]
    steps = [(one, one.step) for one in lineages if one.step]
    endpoints = [({"lineage": one.lineage, "sni": one.sni, **_labels(one.endpoint)}, one) for one in status.endpoints]
    matches = [(labels, float(one.dane is Standing.MATCH)) for labels, one in endpoints if one.dane not in _NO_RECORD]
    years = [({"lineage": one.name}, float(one.year)) for one in lineages if one.year]
    asked = [({"lineage": one.name}, one.asked.timestamp()) for one in lineages if one.asked]
    metrics: list[tuple[str, str, Sequence[tuple[dict[str, str], float]]]] = [
        ("grade", "0 ok, 1 warning, 2 critical, 3 unknown.", [({}, float(health.grade(found)))]),
        ("lineage_grade", "The same of one lineage.",
         [({"lineage": one.name}, float(health.worst(found, one.name))) for one in lineages]),
        ("certificate_not_after_seconds", "End of validity, Unix time.", ends),
        ("key_year", "The year the deployed key was made in.", years),
        ("endpoint_right", "Whether an endpoint serves what it should.", [(labels, float(e.right)) for labels, e in endpoints]),
        ("endpoint_dane_match", "Whether its TLSA records match what it serves.", matches),
        ("dane_asked_seconds", "When the DNS was asked last, Unix time.", asked),
        ("dane_step", "1 for what the DNS allows to be done next.",
         [({"lineage": one.name, "step": step.kind.value}, 1.0) for one, step in steps]),
        ("dane_next_step_seconds", "The earliest change of the key, Unix time.",
         [({"lineage": one.name}, step.until.timestamp()) for one, step in steps if step.until]),
        ("status_seconds", "When all this was seen, Unix time.", [({}, status.at.timestamp())]),
    ]  # fmt: skip
    lines = []
    for name, text, samples in metrics:
        if samples:
            lines += [f"# HELP certbot_dovecot_{name} {text}", f"# TYPE certbot_dovecot_{name} gauge"]
            lines += [f"certbot_dovecot_{name}{_label(labels)} {value:.15g}" for labels, value in samples]
    return "\n".join(lines) + "\n"


_NO_RECORD = (None, Standing.NONE, Standing.DOUBT)


def _lineage(one: Deployed, status: Status) -> tuple[str, ...]:
    state = "installed" if one.servers else "not installed"
    if one.open:
        state = f"unproven on {', '.join(one.open)}"
    ends = f"{one.leaf.not_after:%Y-%m-%d} ({health.days(one.leaf.not_after - status.at)})" if one.leaf else "?"
    return one.name, one.stem or "-", one.leaf.algorithm if one.leaf else "?", ends, one.standby or "-", state


def _endpoints(asked: Sequence[Asked]) -> list[tuple[tuple[str, ...], bool]]:
    """A row for all addresses at which the same is served, and whether that is right."""
    rows: dict[tuple[str, str, str, str, str, bool], list[str]] = {}
    for one in sorted(asked, key=lambda each: (each.lineage, each.endpoint.port, each.endpoint.address)):
        where = one.endpoint
        how = f"{where.server} {where.protocol} ({where.how})"
        row = (str(where.port), how, one.lineage or "-", _serves(one), "-" if one.dane is None else _DANE[one.dane], one.right)
        addresses = rows.setdefault(row, [])
        if where.address not in addresses:
            addresses.append(where.address)
    return [
        ((port, how, ", ".join(addresses), lineage, serves, dane), right)
        for (port, how, lineage, serves, dane, right), addresses in rows.items()
    ]


def _serves(one: Asked) -> str:
    if one.leaf is None:
        return one.error
    if not one.lineage:
        return _named(one.leaf)
    return "its certificate" if one.expects else f"another: {_named(one.leaf)}"


def _named(leaf: Leaf) -> str:
    return f"{leaf.names[0] if leaf.names else 'no name'}, until {leaf.not_after:%Y-%m-%d}{', self-signed' * leaf.self_signed}"


def _dane(one: Deployed) -> list[str]:
    """What the DNS allows, since when that is known, and when it is asked again."""
    if one.step is None or one.asked is None:
        return []
    ttl = max([seen.ttl for owner in one.owners for seen in owner.seen], default=0)
    reason = sentence(one.step.reason)
    said = reason[0].upper() + reason[1:] if one.step.kind is Kind.FREE else f"{one.step.kind.value}: {reason}"
    lines = [f"DANE {one.name}: {said}"]
    times = f"  The DNS was asked {one.asked:%Y-%m-%d %H:%M} UTC"
    again = next_look(one)
    times += f", and is again by the first certbot renew after {again:%Y-%m-%d %H:%M} UTC" if again else ""
    lines.append(f"{times}; the largest TTL is {ttl} s.")
    if one.step.until:
        lines.append(f"  The key may change from {one.step.until:%Y-%m-%d %H:%M} UTC on.")
    return lines


def next_look(one: Deployed) -> Optional[datetime.datetime]:
    """When the DNS is asked again, by the first ``certbot renew`` from then on; None if nobody does."""
    return one.asked + glance.EVERY if one.asked and (one.standby or one.publishes) else None


def _columns(head: Sequence[str], rows: Sequence[Sequence[str]], marks: Sequence[Grade], paint: Paint) -> str:
    """Rows below a head, every column as wide as it needs; the colour of a row is that of its grade."""
    rows = [tuple(map(shown, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *rows)]

    def line(row: Iterable[str]) -> str:
        return "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()

    return "\n".join([line(head), *(paint(mark, line(row)) if mark else line(row) for row, mark in zip(rows, marks))])


def _lineage_json(one: Deployed, found: Sequence[Finding]) -> dict[str, object]:
    return {
        "name": one.name,
        "grade": health.worst(found, one.name).name.lower(),
        "servers": list(one.servers),
        "unproven": list(one.open),
        "key": one.stem,
        "key_year": one.year,
        "certificate": _leaf_json(one.leaf),
        "standby": {"name": one.standby, "certificate": _leaf_json(one.standby_leaf)} if one.standby else None,
        "dane": None
        if one.asked is None
        else {
            "asked": _time(one.asked),
            "asked_again": _time(next_look(one)),
            "step": one.step.kind.value if one.step else None,
            "reason": one.step.reason if one.step else None,
            "until": _time(one.step.until) if one.step else None,
            "due": one.due,
        },
        "problem": one.problem or None,
    }


def _leaf_json(leaf: Optional[Leaf]) -> Optional[dict[str, object]]:
    if leaf is None:
        return None
    return {
        "names": list(leaf.names),
        "sha256": leaf.digest,
        "spki_sha256": leaf.key.sha256,
        "algorithm": leaf.algorithm,
        "not_before": _time(leaf.not_before),
        "not_after": _time(leaf.not_after),
        "self_signed": leaf.self_signed,
    }


def _endpoint_json(one: Asked) -> dict[str, object]:
    return {
        "server": one.endpoint.server,
        "protocol": one.endpoint.protocol,
        "address": one.endpoint.address,
        "port": one.endpoint.port,
        "implicit_tls": one.endpoint.implicit,
        **({"proxy": one.endpoint.proxy} if one.endpoint.proxy else {}),
        "lineage": one.lineage or None,
        "sni": one.sni or None,
        "right": one.right,
        "error": one.error or None,
        "serves": _leaf_json(one.leaf),
        "for_its_name": one.covered,
        "renewed_by": {"kind": one.keeper.kind.value, "name": one.keeper.name} if one.keeper else None,
        "dane": one.dane.value if one.dane else None,
    }


def _time(at: Optional[datetime.datetime]) -> Optional[str]:
    return at.isoformat(timespec="seconds") if at else None


def _labels(endpoint: Endpoint) -> dict[str, str]:
    return {
        "server": endpoint.server,
        "protocol": endpoint.protocol,
        "address": endpoint.address,
        "port": str(endpoint.port),
    }


def _label(labels: dict[str, str]) -> str:
    """Labels as the exposition format has them; a backslash, a quote and a line break are escaped, control characters shown."""
    escaped = {name: shown(text).replace("\\", "\\\\").replace('"', '\\"') for name, text in labels.items()}
    return "{" + ",".join(f'{name}="{text}"' for name, text in escaped.items()) + "}" if labels else ""
