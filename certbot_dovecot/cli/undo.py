"""``certbot-dovecot undo``: the servers' configuration as it was before a lineage was first installed."""

from __future__ import annotations

import argparse
from shlex import quote

from certbot_dovecot import progress
from certbot_dovecot.cli import common


def add(commands: common.Commands) -> None:
    """Declare it."""
    undo = commands.add_parser(
        "undo",
        help="put the servers' configuration back as it was before a lineage was installed",
        description="Put the configuration files back as they were before the lineage was first installed; other lineages and "
        "your own edits since stay. The servers reload, and every endpoint is asked whether it serves what its configuration "
        "names now. Keys and certificates in the store stay. Refused while TLSA records of the lineage's key are in the DNS.",
    )
    undo.add_argument("name", metavar="LINEAGE", help="as certbot-dovecot status has it")
    undo.add_argument("--now", "--force", action="store_true", dest="now", help="whatever the DNS says")
    common.add_config_dir(undo)
    undo.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    from certbot_dovecot import lineages, summary, undo

    way = common.way_of(common.config_dir_of(args))
    with progress.waiting("Putting the configuration back, and asking every endpoint"):
        done = undo.undo(way, args.name, args.now)
    for path in done.paths:
        print(f"Put back: {path}")
    for line in summary.endpoints([answer.endpoint for answer in done.answers]):
        print(f"Asked:    {line}; each serves what its configuration names")
    for note in done.notes:
        print(note)
    if done.paths:
        print(f"{done.name} is not installed any more; its keys and certificates stay in {done.kept}.")
        if lineages.load(way.config_dir, done.name) is not None:
            print(f"certbot still renews it. To end that: certbot delete --cert-name {quote(done.name)}")
    return 0
