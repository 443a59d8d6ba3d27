"""``certbot-dovecot install-cert``: install what came back from a commercial CA, and prove it."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace

from certbot_dovecot.cli import common


def add(commands: common.Commands) -> None:
    """Declare it."""
    install = commands.add_parser(
        "install-cert",
        help="install what came back from a commercial CA",
        description="Install a certificate that a commercial CA sent: sort out its chain, find its private key in the store, "
        "check all of it, install it as a renewal does, ask every endpoint, write the TLSA data. Files may be PEM, DER or "
        "PKCS #7 (.p7b), in any order, with the root or without. Exit codes: 0 done; 1 a problem; 2 with --dry-run, there are "
        "changes; 3 nothing was changed, for TLSA records of the present key are in the DNS, and not those of the new one.",
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
    install.add_argument("--resolver", metavar="ADDRESS[:PORT]", help="a validating resolver that is believed on TLSA records")
    common.add_force(install, "--now")
    common.add_config_dir(install)
    common.add_servers(install)
    install.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    from certbot_dovecot import install_cert, jobs, summary
    from certbot_dovecot.problems import KeyHeld

    config_dir = common.config_dir_of(args)
    given = install_cert.Given(
        os.path.abspath(args.cert),
        tuple(os.path.abspath(path) for path in args.ca_bundle),
        args.key and os.path.abspath(args.key),
        args.lineage,
    )
    ready = install_cert.prepare(config_dir, given, common.said(args), jobs.now())
    host = common.host_of(config_dir, ready.job.options)
    ready = replace(ready, job=replace(ready.job, force=args.force))
    if args.dry_run:
        return common.show(host, ready.job, ready.notes)
    try:
        report = install_cert.converge(host, ready)
    except KeyHeld as held:
        if held.add:
            print("\n".join(["These records are to be in the DNS, beside the present ones:", *held.add]), flush=True)
        print(
            f"certbot-dovecot: {held} Add the records of one name in one change, and none at another name. Or ask the CA for a "
            "certificate of the present key (certbot-dovecot csr --reuse-key).",
            file=sys.stderr,
        )
        return 3
    print(summary.text(report))
    return 0
