"""``certbot-dovecot doctor``: what would hurt later, each with the remedy; nothing is changed."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from certbot_dovecot import progress
from certbot_dovecot.certificates.names import shown
from certbot_dovecot.cli import common, screen

if TYPE_CHECKING:
    from certbot_dovecot.checks import Diagnosis
    from certbot_dovecot.checks.findings import Finding

_WORDS = ("error", "warning", "note")


def add(commands: common.Commands) -> None:
    """Declare it."""
    doctor = commands.add_parser(
        "doctor",
        help="say what would hurt later, with the remedy",
        description="Look at the servers' configurations, the lineages, their certificates and keys, and what renews them, "
        "and print what would hurt later, each with its remedy. Nothing is written and no lock is taken, so it is safe at any "
        "time. Exit codes: 0 nothing was found, 1 it could not be told, 4 something was found.",
    )
    doctor.add_argument("lineage", nargs="*", metavar="LINEAGE", help="default: all that are known")
    doctor.add_argument("--json", action="store_true", help="print the findings as a list in JSON")
    doctor.add_argument("--dns", action="store_true", help="ask the DNS now; else what it said at the last look counts")
    common.add_config_dir(doctor)
    common.add_servers(doctor)
    doctor.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    from certbot_dovecot import doctor
    from certbot_dovecot.problems import Problem

    config_dir = common.config_dir_of(args)
    if os.geteuid():
        # What this user may not read is not what is missing.
        raise Problem(
            "only root may read the private keys and all of the configuration", where="doctor", todo="Run it as root"
        )
    if args.config_dir and not os.path.isdir(config_dir):
        raise Problem(
            "there is no such directory", where=config_dir, todo=f"Give certbot's, which is mostly {common.CONFIG_DIR}"
        )
    with progress.waiting("Looking at servers, lineages and keys" + (", and asking the DNS" if args.dns else "")):
        found = doctor.examine(common.way_of(config_dir), args.lineage, common.said(args), args.dns)
    if args.json:
        print(json.dumps([as_json(finding) for finding in found.findings], indent=1))
        for line in not_run(found):
            print(line, file=sys.stderr)
    else:
        paragraphs = [paragraph(same) for same in alike(found.findings)]
        screen.put("\n\n".join([*paragraphs, "\n".join(map(shown, summary(found)))]))
    return 4 if found.findings else 0


def as_json(finding: Finding) -> dict[str, str]:
    """A finding, as ``--json`` has it."""
    made = {name: getattr(finding, name) for name in ("check", "where", "what", "todo")}
    lineage = {"lineage": finding.lineage} if finding.lineage else {}
    return {**made, "severity": finding.severity.value, **lineage}


def alike(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Findings that differ in nothing but the lineage and the place, together: a hundred lineages may have one fault."""
    groups: dict[tuple[str, ...], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.check, finding.severity.value, finding.what, finding.todo), []).append(finding)
    return list(groups.values())


def paragraph(same: Sequence[Finding]) -> str:
    """A headline, and the remedy indented.

    :param same: findings that are alike.
    """
    finding, word = same[0], same[0].severity.value
    head = screen.painted(word.upper(), word.upper())
    lineages, places = ([*dict.fromkeys(filter(None, all_of))] for all_of in zip(*((one.lineage, one.where) for one in same)))
    about, where = _few(lineages), _few(places)
    told = shown(f"{about and f'{about}: '}{finding.what}{where and f' ({where})'}")
    return f"{head}  {finding.check}: {told}\n    {shown(finding.todo)}."


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def summary(found: Diagnosis) -> list[str]:
    """What was found, what was looked for in vain, and what could not be looked at."""
    words = [finding.severity.value for finding in found.findings]
    counts = [f"{words.count(word)} {word}{'s' if words.count(word) > 1 else ''}" for word in _WORDS if word in words]
    clean = f" Looked for, not found: {', '.join(found.clean)}." if found.clean else ""
    return [f"{', '.join(counts) or 'Nothing found'}.{clean}", *not_run(found)]


def not_run(found: Diagnosis) -> list[str]:
    """A line for each reason why checks could not look."""
    reasons: dict[str, list[str]] = {}
    for name, reason in found.blind.items():
        reasons.setdefault(reason, []).append(name)
    return [f"Could not be told: {', '.join(names)} ({reason})." for reason, names in reasons.items()]
