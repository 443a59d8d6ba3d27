"""``certbot-dovecot standby``: make, or remove, the lineage whose key comes next."""

from __future__ import annotations

import argparse

from certbot_dovecot.cli import common


def add(commands: common.Commands) -> None:
    """Declare it."""
    standby = commands.add_parser(
        "standby",
        usage="certbot-dovecot standby NAME [--remove] [--config-dir DIR] [-- CERTBOT OPTIONS]",
        help="make a second lineage for the same names, whose key is published and comes next",
        description="Make the lineage NAME-standby with stock certbot, from what NAME is renewed with: the same names, a key "
        "of its own. It is renewed by the same timer and not installed; its TLSA record stands in the DNS beside the one that "
        "is served, so that the servers can change to it. What follows -- goes to certbot as it is.",
    )
    standby.add_argument("name", metavar="NAME", help="the lineage that is installed")
    standby.add_argument("--remove", action="store_true", help="undo it: take its record out of the DNS, delete the lineage")
    common.add_config_dir(standby)
    standby.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    from certbot_dovecot import standby

    config_dir = common.config_dir_of(args)
    way, dirs = common.way_of(config_dir), ["--config-dir", config_dir] if args.config_dir else []
    if args.remove:
        name, by_hand = standby.remove(way, args.name)
        print(f"{name} does not stand by any more.")
        if by_hand:
            print(f"Its record may go from the DNS:\n{by_hand}")
        common.certbot(["delete", "--non-interactive", *dirs, "--cert-name", name, *args.more], f"{name} is still certbot's")
        return 0
    common.certbot(standby.arguments(way, args.name, dirs, args.more), "Nothing was registered")
    pair = way.pair(args.name)
    if pair is None or pair.standby is None:
        # The lineage was there and is not due: certbot had nothing to issue, and did not call the installer.
        common.tell(standby.register(way, args.name, f"{args.name}{standby.SUFFIX}"))
    return 0
