"""``certbot-dovecot plan``: what an install would change, as a diff; nothing is changed."""

from __future__ import annotations

import argparse
import os

from certbot_dovecot.cli import common


def add(commands: common.Commands) -> None:
    """Declare it."""
    plan = commands.add_parser(
        "plan",
        help="show what an install would change, and change nothing",
        description="Print, as one unified diff (for patch -p0, in /), what an install of a lineage or of given files would "
        "change in the servers' configurations, and below it what else would be done. Nothing is written, no server needs "
        "to run. Exit codes: 0 nothing to do, 1 a problem, 2 changes.",
    )
    plan.add_argument("--lineage", metavar="NAME", help="a lineage of certbot's")
    plan.add_argument("--cert", metavar="FILE", help="a certificate from elsewhere, with --key and --chain")
    plan.add_argument("--key", metavar="FILE", help="its private key")
    plan.add_argument("--chain", metavar="FILE", help="the certificates between it and the root")
    plan.add_argument("--names", metavar="NAMES", help="comma list of host names (default: those of the certificate)")
    common.add_config_dir(plan)
    common.add_servers(plan)
    plan.set_defaults(run=run, usage=plan.error)


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    from certbot_dovecot import jobs, standby
    from certbot_dovecot.bundle import Source
    from certbot_dovecot.certificates.names import checked

    if bool(args.lineage) == bool(args.cert) or bool(args.cert) != bool(args.key) or (args.chain and not args.cert):
        args.usage("give either --lineage, or --cert and --key (and --chain)")
    config_dir = common.config_dir_of(args)
    if args.lineage:
        standby.refuse_install(common.way_of(config_dir), args.lineage)
        chosen = jobs.options(config_dir, args.lineage, common.said(args))
        job = jobs.of_lineage(config_dir, jobs.existing(config_dir, args.lineage), chosen, explicit=True)
    else:
        source = Source(os.path.abspath(args.key), os.path.abspath(args.cert), args.chain and os.path.abspath(args.chain))
        names = checked(map(str.strip, args.names.split(",")), "--names") if args.names else jobs.names_in(source)
        job = jobs.of_files(source, names, jobs.options(config_dir, jobs.external_name(names), common.said(args)))
    return common.show(common.host_of(config_dir, job.options), job)
