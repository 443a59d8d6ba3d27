"""``certbot-dovecot status``: what is installed, what every endpoint serves now, and what the DNS said of the keys."""

from __future__ import annotations

import argparse
import datetime
from dataclasses import replace
from typing import Optional

from certbot_dovecot import progress
from certbot_dovecot.cli import common, screen
from certbot_dovecot.monitoring import model
from certbot_dovecot.problems import Problem


def add(commands: common.Commands) -> None:
    """Declare it."""
    status = commands.add_parser(
        "status",
        help="show what is installed and what every endpoint serves now",
        description="One table: every lineage that is installed, with its key, expiry and standby; every endpoint with what it "
        "serves now, asked over TLS; and the state of its TLSA records. Nothing is written. Exit codes: 0 nothing found, 4 "
        "something needs an admin, 1 it could not be told; with --nagios those of monitoring plugins.",
    )
    status.add_argument("lineage", nargs="*", metavar="LINEAGE", help="default: all that are installed")
    form = status.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--nagios", action="store_true", help="print one line for monitoring plugins, and end with 0, 1, 2 or 3")
    form.add_argument("--prometheus", metavar="FILE", help="write metrics for the textfile collector, atomically; end with 0")
    status.add_argument("--all", action="store_true", help="ask every endpoint for every lineage, however many these are")
    status.add_argument("--dns", action="store_true", help="ask the DNS now (default: what the last certbot renew found)")
    for name in ("warning", "critical"):
        status.add_argument(
            f"--{name}", metavar="DAYS", type=_days, help=f"less than this left is {name} (default: by the lifetime)"
        )
    common.add_config_dir(status)
    status.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    from certbot_dovecot import files, health, show, status
    from certbot_dovecot.monitoring import findings

    try:
        with progress.waiting("Asking the endpoints" + (" and the DNS" if args.dns else "")):
            seen = status.make(common.way_of(common.config_dir_of(args)), args.lineage, args.all, args.dns)
    except Problem as problem:
        if not args.nagios:
            raise
        print(show.nagios_line(model.Grade.UNKNOWN, str(problem)))
        return int(model.Grade.UNKNOWN)
    seen = replace(seen, warning=args.warning, critical=args.critical)
    found = findings.of(seen)
    if args.prometheus:
        files.write_over(args.prometheus, show.prometheus(seen, found).encode())
        return 0
    if args.nagios:
        print(show.nagios(seen, found))
        return int(health.grade(found))
    if args.json:
        print(show.as_json(seen, found))
    else:
        screen.put(show.table(seen, found, lambda grade, text: screen.painted(grade.name, text)))
    return 4 if found else 0


def _days(text: str) -> Optional[datetime.timedelta]:
    try:
        return datetime.timedelta(days=float(text))
    except (ValueError, OverflowError) as exc:
        raise argparse.ArgumentTypeError(f"not a number of days: {text!r}") from exc
