"""``certbot-dovecot install-cert``: install what came back from a commercial CA, and prove it."""

from __future__ import annotations

import argparse
import os

from certbot_dovecot.cli import common


def add(commands: common.Commands) -> None:
    """Declare it."""
    install = commands.add_parser(
        "install-cert",
        help="install what came back from a commercial CA",
        description="Install a certificate that a commercial CA sent: sort out its chain, find its private key in the store, "
        "check all of it, install it as a renewal does, ask every endpoint, write the TLSA data. Files may be PEM, DER or "
        "PKCS #7 (.p7b), in any order, with the root or without. Exit codes: 0 done, 1 a problem; with --dry-run 0 nothing to "
        "do, 1 a problem, 2 changes.",
    )
    install.add_argument("--cert", metavar="FILE", required=True, help="the certificate")
    install.add_argument(
        "--ca-bundle",
        metavar="FILE",
        action="append",
        default=[],
        help="the CA's certificates; may be repeated, and left out if they are in the certificate's file",
    )
    install.add_argument("--key", metavar="FILE", default="", help="the private key (default: the one of certbot-dovecot csr)")
    install.add_argument("--lineage", metavar="NAME", default="", help="name of the folder (default: the one with the key)")
    install.add_argument("--dry-run", action="store_true", help="show what would change, as plan does, and change nothing")
    common.add_config_dir(install)
    common.add_servers(install)
    install.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    from certbot_dovecot import commands, install_cert, jobs, summary
    from certbot_dovecot.transaction import NoCheckpoint

    config_dir = common.config_dir_of(args)
    given = install_cert.Given(
        os.path.abspath(args.cert),
        tuple(os.path.abspath(path) for path in args.ca_bundle),
        args.key and os.path.abspath(args.key),
        args.lineage,
    )
    ready = install_cert.prepare(config_dir, given, common.said(args), jobs.now())
    host = jobs.host(config_dir, ready.job.options, commands.run, NoCheckpoint())
    if args.dry_run:
        return common.show(host, ready.job, ready.notes)
    print(summary.text(install_cert.converge(host, ready)))
    return 0
