"""``certbot-dovecot csr``: the annual key, and a certificate request for a commercial CA."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING

from certbot_dovecot.cli import common

if TYPE_CHECKING:
    from certbot_dovecot.csr import Made

#: What RSA keys may have, bits: certbot's own least, and the most that TLS handshakes are still quick with.
_RSA = (2048, 8192)


def add(commands: common.Commands) -> None:
    """Declare it."""
    csr = commands.add_parser(
        "csr",
        help="make the annual key and a certificate request for a commercial CA",
        description="Make the annual private key, once a year, and a certificate request (CSR) for a commercial CA with all "
        "names. Nothing is installed: certbot-dovecot install-cert takes what comes back. A second run in the same year gives "
        "the same key.",
    )
    csr.add_argument("names", nargs="+", metavar="NAME", help="host name, wildcard or IP address; the first is the common name")
    csr.add_argument("--key-type", choices=("rsa", "ecdsa"), help="kind of a key that is made (default: ecdsa)")
    csr.add_argument(
        "--elliptic-curve",
        choices=("secp256r1", "secp384r1", "secp521r1"),
        help="curve of an ecdsa key (default: secp256r1)",
    )
    csr.add_argument("--rsa-key-size", type=int, metavar="N", help=f"bits of an rsa key (default, and least: {_RSA[0]})")
    which = csr.add_mutually_exclusive_group()
    which.add_argument("--new-key", action="store_true", help="make another key, though there is one of this year")
    which.add_argument("--reuse-key", action="store_true", help="go on with the key that is installed, whatever the year")
    csr.add_argument("--country", metavar="CC", default="", help="of the organisation, two letters")
    csr.add_argument("--state", default="", help="state or province")
    csr.add_argument("--locality", default="", help="city")
    csr.add_argument("--organization", default="", help="its legal name")
    csr.add_argument("--lineage", metavar="NAME", default="", help="name of the folder (default: the first NAME, -external)")
    common.add_config_dir(csr)
    common.add_store(csr)
    csr.set_defaults(run=run, usage=csr.error)


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    _check(args)
    from certbot_dovecot import csr, jobs, request
    from certbot_dovecot.request import Subject
    from certbot_dovecot.rotation import Wish

    config_dir = common.config_dir_of(args)
    names = request.names(args.names)
    about = request.subject(Subject(args.country, args.state, args.locality, args.organization))
    folder = csr.folder_name(config_dir, names, args.lineage)
    kind = args.key_type or ("ecdsa" if args.elliptic_curve else "rsa" if args.rsa_key_size else None)
    wish = Wish("annual", args.reuse_key or None, args.new_key, kind, args.elliptic_curve, args.rsa_key_size)
    chosen = jobs.options(config_dir, folder, common.said(args))
    made = csr.make(config_dir, folder, names, about, wish, chosen, jobs.now())
    dirs = ["--config-dir", config_dir] if args.config_dir else []
    dirs += ["--store", chosen.store] if args.store else []
    print(_text(made, names, shlex.join(["certbot-dovecot", "install-cert", *dirs])))
    return 0


def _check(args: argparse.Namespace) -> None:
    size = args.rsa_key_size
    if size is not None and not _RSA[0] <= size <= _RSA[1]:
        args.usage(f"--rsa-key-size is from {_RSA[0]} to {_RSA[1]}")
    if args.elliptic_curve and (args.key_type == "rsa" or size is not None):
        args.usage("--elliptic-curve is for --key-type ecdsa")
    if size is not None and args.key_type == "ecdsa":
        args.usage("--rsa-key-size is for --key-type rsa")


def _text(made: Made, names: tuple[str, ...], install: str) -> str:
    """What the screen shows."""
    rows = [
        ("Private key", made.key),
        ("Certificate request", made.request),
        ("Names", ", ".join(names)),
        ("Key", f"{made.held.algorithm} {made.held.parameter}, {'made now' if made.new else 'there already'}: {made.reason}"),
        ("TLSA data", f"3 1 1 {made.held.spki}"),
    ]
    lines = [f"{label + ':':<27}{value}" for label, value in rows]
    if made.deployed:
        lines += [
            "",
            "The servers have another key now. If you publish TLSA records (DANE) for these hosts, add that of the new key",
            "wherever one of the present key stands, before you install its certificate, and wait until it is everywhere",
            "(twice the TTL). A name without TLSA records gets none: alone, the new key's record would stop mail.",
            f"  now:   3 1 1 {made.deployed}",
            f"  next:  3 1 1 {made.held.spki}",
            "To go on with the present key instead: --reuse-key.",
        ]
    lines += ["", "Send the request to your CA; the private key stays here. With what comes back:"]
    return "\n".join([*lines, f"  {install} --cert FILE --ca-bundle FILE"])
