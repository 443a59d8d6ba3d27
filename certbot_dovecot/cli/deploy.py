"""``certbot-dovecot deploy``: bring lineages to the servers that they are installed on; the directory hook runs it.

As certbot's hook it leaves a lineage alone whose renewal conf names the installer: certbot calls that right after the hook,
and ``-q`` hides what a hook says, a new key's records among it, but not what the installer says on stderr (rule R6).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

from certbot_dovecot.cli import common
from certbot_dovecot.problems import Problem


def add(commands: common.Commands) -> None:
    """Declare it."""
    deploy = commands.add_parser(
        "deploy",
        help="bring lineages to the servers that they are installed on",
        description="Bring lineages to the servers that they are installed on, and prove it; what is not installed is not "
        "touched. This is what the hook in renewal-hooks/deploy runs; as a hook (RENEWED_LINEAGE is set, and no LINEAGE given) "
        "it leaves to the installer what certbot calls the installer for. Not as a hook, every endpoint is asked, and a server "
        "that serves something else is reloaded, even if all files are as they should be.",
    )
    common.add_lineages(deploy)
    common.add_config_dir(deploy)
    common.add_servers(deploy)
    common.add_force(deploy)
    deploy.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    from certbot_dovecot import glance, handover, jobs, orphans, reconcile, sharing, store, summary

    config_dir, names = common.lineages_of(args)
    if common.is_hook(args) and _installer_follows(config_dir, names):
        return 0
    code = 0
    for name in names if common.is_hook(args) else _served(config_dir, names):
        new_key = False
        try:
            # An admin who runs this may have seen an endpoint serve something else, which no file tells.
            if not common.is_hook(args) or not glance.settled(jobs.home(config_dir), name):
                chosen = jobs.options(config_dir, name, common.said(args))
                host = common.host_of(config_dir, chosen)
                job = jobs.of_external(config_dir, name, chosen)
                job = job or jobs.of_lineage(config_dir, jobs.existing(config_dir, name), chosen)
                report = reconcile.converge(host, replace(job, prove=not common.is_hook(args), force=args.force))
                if report.changed:
                    print(summary.text(report))
                new_key = report.new_key
                if report.withdrawn:
                    print(summary.withdrawn(name, report.withdrawn), file=sys.stderr)
            # What came from elsewhere has no lineage whose records could be looked after.
            if name.endswith(store.EXTERNAL):
                continue
            told, stale = sharing.look_after(common.way_of(config_dir), name, new_key)
            common.tell(told)
            code = 1 if stale else code
            if not glance.tended(jobs.home(config_dir), name, jobs.now()):
                common.tell(handover.tend(common.way_of(config_dir), name))
        except Problem as problem:
            print(f"certbot-dovecot: {name}: {problem}", file=sys.stderr)
            code = 1
    gone = glance.gone(config_dir, jobs.home(config_dir))
    if gone:
        host = common.host_of(config_dir, jobs.options(config_dir, "", common.said(args)))
        print("\n".join(orphans.tell(host, gone)), file=sys.stderr)
    return code


def _served(config_dir: str, names: Sequence[str]) -> list[str]:
    """The lineages that are meant: of two that change places, the one that is installed."""
    from certbot_dovecot import jobs, pairs

    found: dict[str, None] = {}
    for name in names:
        try:
            served = pairs.installed(jobs.home(config_dir), name)
        except Problem:
            # It is told where the lineage is deployed.
            served = name
        if served not in (name, *names):
            print(pairs.told(name, served))
        found.setdefault(served)
    return list(found)


def _installer_follows(config_dir: str, names: Sequence[str]) -> bool:
    """Whether certbot calls the installer for the renewed lineage: certbot wrote its renewal conf before it ran the hook."""
    from certbot_dovecot import lineages

    return any(found.installer == "dovecot" for name in names if (found := lineages.load(config_dir, name)))
