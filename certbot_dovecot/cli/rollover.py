"""``certbot-dovecot rollover``: change the servers to the standby's key, if that is proven, or at once."""

from __future__ import annotations

import argparse
import sys

from certbot_dovecot.cli import common
from certbot_dovecot.problems import Problem, sentence


def add(commands: common.Commands) -> None:
    """Declare it."""
    rollover = commands.add_parser(
        "rollover",
        help="change the servers to the standby's key",
        description="Change the servers to the lineage that stands by, if it is proven that its TLSA record is everywhere, "
        "whatever the year; else say what is missing, and end with 3. With --now, for a key that is lost: at once, and the "
        "lost key is replaced.",
    )
    rollover.add_argument("name", metavar="NAME", help="one of the two lineages")
    rollover.add_argument("--now", action="store_true", help="whatever the DNS says")
    rollover.add_argument("--reason", metavar="TEXT", help="with --now: why, for the record")
    common.add_config_dir(rollover)
    rollover.set_defaults(run=run, usage=rollover.error)


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    from certbot_dovecot import handover

    if args.reason and not args.now:
        args.usage("--reason goes with --now")
    config_dir = common.config_dir_of(args)
    way = common.way_of(config_dir)
    if not args.now:
        told = handover.roll(way, args.name)
        common.tell(told)
        if told.switched or told.step is None:
            return 0
        print(f"{args.name}: the servers keep their key: {sentence(told.step.reason)}", file=sys.stderr)
        return 3
    common.tell(handover.roll_now(way, args.name, args.reason or "at once"))
    pair = way.pair(args.name)
    former = pair.standby.lineage.name if pair and pair.standby else ""
    dirs = ["--config-dir", config_dir] if args.config_dir else []
    try:
        common.certbot(
            ["renew", "--non-interactive", "--no-random-sleep-on-renew", "--force-renewal", *dirs, "--cert-name", former],
            f"{former} takes a new key at its next renewal",
        )
    except Problem as problem:
        print(f"certbot-dovecot: the lost key is out of service, but not replaced yet: {problem}", file=sys.stderr)
    return 0
