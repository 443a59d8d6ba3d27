"""What the subcommands share: options, the lineages that are meant, and how they tell."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from certbot_dovecot.certificates.names import check_lineage, shown
from certbot_dovecot.problems import Problem

if TYPE_CHECKING:
    from certbot_dovecot.handover import Told
    from certbot_dovecot.plan import Job
    from certbot_dovecot.reconcile import Host
    from certbot_dovecot.state import Options
    from certbot_dovecot.watch import Way

    #: Where subcommands are declared, as argparse has it.
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

CONFIG_DIR = "/etc/letsencrypt"


def add_config_dir(command: argparse.ArgumentParser) -> None:
    """The option that every subcommand has."""
    command.add_argument("--config-dir", metavar="DIR", help=f"certbot's configuration directory (default: {CONFIG_DIR})")


def add_servers(command: argparse.ArgumentParser) -> None:
    """The options that say where the servers are; what was said at the install is remembered."""
    command.add_argument("--server-root", metavar="DIR", help="Dovecot's configuration directory")
    command.add_argument("--postfix-root", metavar="DIR", help="Postfix's configuration directory")
    command.add_argument(
        "--postfix-services", metavar="SERVICES", help="'submission', 'all' (port 25 too), 'none', or services of master.cf"
    )
    add_store(command)


def add_store(command: argparse.ArgumentParser) -> None:
    """Where the store is."""
    command.add_argument("--store", metavar="DIR", help="where keys and certificates are kept (default: CONFIG_DIR/dovecot)")


def add_force(command: argparse.ArgumentParser, *former: str) -> None:
    """The option that overrides the key gate.

    :param former: other names of it.
    """
    command.add_argument(
        "--force", *former, action="store_true", dest="force",
        help="change the key that is served even if TLSA records of it are published and none of the new one is proven",
    )  # fmt: skip


def add_lineages(command: argparse.ArgumentParser) -> None:
    """Lineages, of which the deploy hook's environment names one."""
    command.add_argument("lineage", nargs="*", metavar="LINEAGE", help="default: RENEWED_LINEAGE, else all that are known")


def config_dir_of(args: argparse.Namespace) -> str:
    """Certbot's configuration directory, absolute."""
    return os.path.abspath(args.config_dir or CONFIG_DIR)


def is_hook(args: argparse.Namespace) -> bool:
    """Whether certbot runs this as a deploy hook, for the lineage that it has just renewed."""
    return not args.lineage and bool(os.environ.get("RENEWED_LINEAGE"))


def lineages_of(args: argparse.Namespace) -> tuple[str, list[str]]:
    """Certbot's configuration directory, and the lineages that are meant."""
    from certbot_dovecot import jobs, store

    renewed = os.environ.get("RENEWED_LINEAGE", "")
    config_dir = os.path.abspath(args.config_dir or CONFIG_DIR)
    if args.lineage:
        return config_dir, list(args.lineage)
    if renewed:
        # .../live/NAME, wherever this certbot keeps its configuration
        live, name = os.path.split(renewed.rstrip("/"))
        return os.path.abspath(args.config_dir or os.path.dirname(live)), [check_lineage(name)]
    return config_dir, store.lineages(jobs.home(config_dir))


def said(args: argparse.Namespace) -> dict[str, Any]:
    """The options on this command line, as :class:`~certbot_dovecot.state.Options` has them."""
    paths, words = ("server_root", "postfix_root", "store"), ("postfix_services", "resolver")
    said = {name: value for name in (*paths, *words) if (value := getattr(args, name, None)) is not None}
    return {name: os.path.abspath(value) if name in paths else value for name, value in said.items()}


def way_of(config_dir: str) -> Way:
    """What the deeds work with, outside of certbot."""
    from certbot_dovecot import commands, jobs, watch
    from certbot_dovecot.transaction import NoCheckpoint

    return watch.Way(config_dir, jobs.now, commands.run, NoCheckpoint(), watch.ask_dns, watch.look_up)


def host_of(config_dir: str, chosen: Options) -> Host:
    """What a deployment works with, outside of certbot."""
    from certbot_dovecot import commands, jobs
    from certbot_dovecot.rollover import key_gate
    from certbot_dovecot.transaction import NoCheckpoint

    return jobs.host(config_dir, chosen, commands.run, NoCheckpoint(), key_gate.of(way_of(config_dir)))


def show(host: Host, job: Job, notes: Sequence[str] = ()) -> int:
    """Print what an install would change, and change nothing.

    :param notes: what else is to be said, full sentences.
    :returns: the exit code: 2 if there are changes.
    :raises Problem: what would stop the install.
    """
    from certbot_dovecot import preview

    found = preview.make(host, job)
    if found is None:
        print("\n".join(["Nothing to do.", *map(shown, notes)]))
        return 0
    sys.stdout.flush()
    if sys.stdout.isatty():
        print(preview.diff(found).decode("utf-8", "surrogateescape"), end="")
    else:
        # For patch(1): the bytes as they are.
        sys.stdout.buffer.write(preview.diff(found))
        sys.stdout.buffer.flush()
    print("\n".join([preview.text(found), *map(shown, notes)]))
    return 2 if found.changes else 0


def tell(told: Told) -> None:
    """Notes on stdout, warnings on stderr."""
    if told.notes:
        print("\n".join(told.notes), flush=True)
    for warning in told.warnings:
        print(warning, file=sys.stderr)


def certbot(arguments: Sequence[str], left: str) -> None:
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
