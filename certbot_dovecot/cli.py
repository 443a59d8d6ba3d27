"""The command ``certbot-dovecot``.

Exit codes, kept promises: 0 done, or nothing to do; 1 a problem, told on stderr, with nothing changed unless it says so; 2
``plan`` shows changes; 3 ``rollover`` changed nothing, for it is not proven to be safe yet; 64 wrong usage (``EX_USAGE`` of
sysexits.h).

``tlsa`` and ``deploy`` are made for certbot's deploy hooks: without a lineage on the command line they take the one of
``RENEWED_LINEAGE``.  A deploy hook runs *before* the installer: at that moment the renewed key is next, not served.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Optional

import certbot_dovecot
from certbot_dovecot.problems import Problem, sentence

if TYPE_CHECKING:
    from certbot_dovecot.handover import Told
    from certbot_dovecot.watch import Way

CONFIG_DIR = "/etc/letsencrypt"


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    # What follows a double dash is certbot's, whatever it looks like.
    cut = words.index("--") if "standby" in words[:1] and "--" in words else len(words)
    args = _parser().parse_args(words[:cut])
    args.more = words[cut + 1 :]
    try:
        code: int = args.run(args)
        return code
    except Problem as problem:
        print(f"certbot-dovecot: {problem}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of our output (head, less) has seen enough; nothing may be flushed to it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(os.EX_USAGE, f"{self.prog}: error: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="certbot-dovecot",
        description="The companion of certbot's dovecot installer.",
        epilog="Exit codes: 0 done, 1 a problem (told on stderr), 2 plan shows changes, 3 a rollover is not safe yet, 64 wrong "
        "usage.",
    )
    parser.add_argument("--version", action="version", version=f"certbot-dovecot {certbot_dovecot.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    tlsa = commands.add_parser(
        "tlsa",
        help="print and file the TLSA records of the keys that are served now",
        description="Ask every endpoint of this host which key it serves, print the TLSA records of the lineages' keys that "
        "are served, with a lineage's renewed key as next, and file them in the store (tlsa.zone, tlsa.json). "
        'Usable as certbot renew --deploy-hook "certbot-dovecot tlsa".',
    )
    tlsa.add_argument("--json", action="store_true", help="print JSON")
    tlsa.set_defaults(run=_tlsa)
    deploy = commands.add_parser(
        "deploy",
        help="bring lineages to the servers that they are installed on",
        description="Bring lineages to the servers that they are installed on, and prove it; what is not installed is not "
        "touched. This is what the hook in renewal-hooks/deploy runs.",
    )
    deploy.set_defaults(run=_deploy)
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
    plan.set_defaults(run=_plan, usage=plan.error)
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
    standby.set_defaults(run=_standby)
    rollover = commands.add_parser(
        "rollover",
        help="change the servers to the standby's key",
        description="Change the servers to the lineage that stands by, if it is proven that its TLSA record is everywhere, "
        "whatever the year; else say what is missing, and end with 3. With --now, for a key that is lost: at once, and the "
        "lost key is replaced.",
    )
    rollover.add_argument("name", metavar="NAME", help="one of the two lineages")
    rollover.add_argument("--now", action="store_true", help="whatever the DNS says; needs --reason")
    rollover.add_argument("--reason", metavar="TEXT", help="for the record")
    rollover.set_defaults(run=_rollover, usage=rollover.error)
    for command in (standby, rollover):
        command.add_argument("--config-dir", metavar="DIR", help=f"certbot's configuration directory (default: {CONFIG_DIR})")
    for command in (tlsa, deploy):
        command.add_argument("lineage", nargs="*", metavar="LINEAGE", help="default: RENEWED_LINEAGE, else all that are known")
    for command in (tlsa, deploy, plan):
        command.add_argument("--config-dir", metavar="DIR", help=f"certbot's configuration directory (default: {CONFIG_DIR})")
        command.add_argument("--server-root", metavar="DIR", help="Dovecot's configuration directory")
        command.add_argument("--postfix-root", metavar="DIR", help="Postfix's configuration directory")
        command.add_argument(
            "--postfix-services", metavar="SERVICES", help="'submission', 'all' (port 25 too), 'none', or services of master.cf"
        )
        command.add_argument("--store", metavar="DIR", help="where keys and certificates are kept")
    return parser


def _tlsa(args: argparse.Namespace) -> int:
    import json

    from certbot_dovecot import jobs, records
    from certbot_dovecot.dane import tlsa

    config_dir, names = _lineages(args)
    documents = []
    for name in names:
        made, hosts = records.make(config_dir, name, jobs.options(config_dir, name, _said(args)))
        if args.json:
            documents.append(json.loads(tlsa.as_json(name, made)))
        else:
            print(tlsa.zone(name, made, hosts).decode(), end="")
    if args.json:
        print(json.dumps(documents, indent=1))
    return 0


def _plan(args: argparse.Namespace) -> int:
    from certbot_dovecot import commands, jobs, preview
    from certbot_dovecot.bundle import Source
    from certbot_dovecot.transaction import NoCheckpoint

    if bool(args.lineage) == bool(args.cert) or bool(args.cert) != bool(args.key) or (args.chain and not args.cert):
        args.usage("give either --lineage, or --cert and --key (and --chain)")
    config_dir = os.path.abspath(args.config_dir or CONFIG_DIR)
    if args.lineage:
        chosen = jobs.options(config_dir, args.lineage, _said(args))
        job = jobs.of_lineage(config_dir, jobs.existing(config_dir, args.lineage), chosen, explicit=True)
    else:
        source = Source(os.path.abspath(args.key), os.path.abspath(args.cert), args.chain and os.path.abspath(args.chain))
        names = args.names.split(",") if args.names else jobs.names_in(source)
        job = jobs.of_files(source, names, jobs.options(config_dir, jobs.external_name(names), _said(args)))
    host = jobs.host(config_dir, job.options, commands.run, NoCheckpoint())
    found = preview.make(host, job)
    if found is None:
        print("Nothing to do.")
        return 0
    sys.stdout.flush()
    sys.stdout.buffer.write(preview.diff(found))
    sys.stdout.buffer.flush()
    print(preview.text(found))
    return 2 if found.changes else 0


def _deploy(args: argparse.Namespace) -> int:
    from certbot_dovecot import commands, glance, handover, jobs, orphans, reconcile, summary
    from certbot_dovecot.transaction import NoCheckpoint

    config_dir, names = _lineages(args)
    code = 0
    for name in names:
        try:
            if not glance.settled(jobs.home(config_dir), name):
                chosen = jobs.options(config_dir, name, _said(args))
                host = jobs.host(config_dir, chosen, commands.run, NoCheckpoint())
                job = jobs.of_lineage(config_dir, jobs.existing(config_dir, name), chosen)
                report = reconcile.converge(host, job)
                if report.changed:
                    print(summary.text(report))
                if report.withdrawn:
                    print(summary.withdrawn(name, report.withdrawn), file=sys.stderr)
            if not glance.tended(jobs.home(config_dir), name, jobs.now()):
                _tell(handover.tend(_way(config_dir), name))
        except Problem as problem:
            print(f"certbot-dovecot: {name}: {problem}", file=sys.stderr)
            code = 1
    gone = glance.gone(config_dir, jobs.home(config_dir))
    if gone:
        host = jobs.host(config_dir, jobs.options(config_dir, "", _said(args)), commands.run, NoCheckpoint())
        print("\n".join(orphans.tell(host, gone)), file=sys.stderr)
    return code


def _standby(args: argparse.Namespace) -> int:
    from certbot_dovecot import standby

    config_dir = os.path.abspath(args.config_dir or CONFIG_DIR)
    way, dirs = _way(config_dir), ["--config-dir", config_dir] if args.config_dir else []
    if args.remove:
        name, by_hand = standby.remove(way, args.name)
        print(f"{name} does not stand by any more.")
        if by_hand:
            print(f"Its record may go from the DNS:\n{by_hand}")
        _certbot(["delete", "--non-interactive", *dirs, "--cert-name", name, *args.more], f"{name} is still certbot's")
        return 0
    _certbot(standby.arguments(way, args.name, dirs, args.more), "Nothing was registered")
    pair = way.pair(args.name)
    if pair is None or pair.standby is None:
        # The lineage was there and is not due: certbot had nothing to issue, and did not call the installer.
        _tell(standby.register(way, args.name, f"{args.name}{standby.SUFFIX}"))
    return 0


def _rollover(args: argparse.Namespace) -> int:
    from certbot_dovecot import handover

    if args.now != bool(args.reason):
        args.usage("--now and --reason go together")
    config_dir = os.path.abspath(args.config_dir or CONFIG_DIR)
    way = _way(config_dir)
    if not args.now:
        told = handover.roll(way, args.name)
        _tell(told)
        if told.switched or told.step is None:
            return 0
        print(f"{args.name}: the servers keep their key: {sentence(told.step.reason)}", file=sys.stderr)
        return 3
    _tell(handover.roll_now(way, args.name, args.reason))
    pair = way.pair(args.name)
    former = pair.standby.lineage.name if pair and pair.standby else ""
    dirs = ["--config-dir", config_dir] if args.config_dir else []
    try:
        _certbot(
            ["renew", "--non-interactive", "--no-random-sleep-on-renew", "--force-renewal", *dirs, "--cert-name", former],
            f"{former} takes a new key at its next renewal",
        )
    except Problem as problem:
        print(f"certbot-dovecot: the lost key is out of service, but not replaced yet: {problem}", file=sys.stderr)
    return 0


def _certbot(arguments: Sequence[str], left: str) -> None:
    """Run certbot and show what it says.

    :raises Problem: it fails.
    """
    from certbot_dovecot import commands, standby

    argv = [standby.certbot(), *arguments]
    print(f"Running certbot {arguments[0]}, which may take a while...", flush=True)
    done = commands.run(commands.Command(argv, reads=False, seconds=1800))
    sys.stdout.write(done.out.decode("utf-8", "replace"))
    sys.stdout.flush()
    sys.stderr.write(done.err.decode("utf-8", "replace"))
    if done.code:
        raise Problem(
            f"certbot {arguments[0]} ended with exit code {done.code}, see above", left=left, todo="See /var/log/letsencrypt"
        )


def _tell(told: Told) -> None:
    """Notes on stdout, warnings on stderr."""
    if told.notes:
        print("\n".join(told.notes), flush=True)
    for warning in told.warnings:
        print(warning, file=sys.stderr)


def _way(config_dir: str) -> Way:
    """What the deeds work with, outside of certbot."""
    from certbot_dovecot import commands, jobs, watch
    from certbot_dovecot.transaction import NoCheckpoint

    return watch.Way(config_dir, jobs.now, commands.run, NoCheckpoint(), watch.ask_dns)


def _lineages(args: argparse.Namespace) -> tuple[str, list[str]]:
    """Certbot's configuration directory, and the lineages that are meant."""
    from certbot_dovecot import jobs, store

    renewed = os.environ.get("RENEWED_LINEAGE", "")
    config_dir = os.path.abspath(args.config_dir or CONFIG_DIR)
    if args.lineage:
        return config_dir, list(args.lineage)
    if renewed:
        # .../live/NAME, wherever this certbot keeps its configuration
        live, name = os.path.split(renewed.rstrip("/"))
        return os.path.abspath(args.config_dir or os.path.dirname(live)), [name]
    return config_dir, store.lineages(jobs.home(config_dir))


def _said(args: argparse.Namespace) -> dict[str, Any]:
    """The options on this command line, as :class:`~certbot_dovecot.state.Options` has them."""
    said = {name: getattr(args, name) for name in ("server_root", "postfix_root", "store") if getattr(args, name) is not None}
    paths = {name: os.path.abspath(path) for name, path in said.items()}
    return paths if args.postfix_services is None else {**paths, "postfix_services": args.postfix_services}
