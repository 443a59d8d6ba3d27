"""What an admin is told when the package is removed, and the one thing that is done then.

``python3 -m certbot_dovecot.leaving`` is for the scripts of packages (``prerm`` of Debian, ``%preun`` of an RPM), before our
files go.  A removal touches no configuration and no file of the store: servers go on serving the copies that they have.  But
nobody renews these any more, and certbot is no help: at the next renewal that is due it drops the installer that is gone
from the renewal conf, ends with 0, and is silent under ``-q``; even when the package is back it does not know us again.

So, where a server still names our files, they are told with the day they end and the way back, and the directory hook
(:mod:`~certbot_dovecot.hook`) is put in place: certbot's log has it that servers keep their old certificate, and after
another installation the next renewal reaches them again (rule R11).  Where none does, the hook goes.

It never fails: whatever cannot be read is told, and the exit code is 0, for a package that cannot be removed is worse.
"""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Optional

from certbot_dovecot import bundle as bundles
from certbot_dovecot import commands, files, hook, jobs, state, store
from certbot_dovecot.certificates.names import shown
from certbot_dovecot.problems import NotInstalled, Problem, sentence
from certbot_dovecot.servers import discovery
from certbot_dovecot.servers.contract import IMailServer, View

HOOKS = os.path.join("renewal-hooks", "deploy")


@dataclass(frozen=True)
class Use:
    """A certificate that servers serve from our files.

    :param name: its lineage's, or of its folder.
    :param path: its folder.
    :param servers: names of the servers; empty if that cannot be told.
    :param until: when the copy ends; None if that cannot be told.
    :param doubt: why something cannot be told; empty if all can.
    """

    name: str
    path: str
    servers: tuple[str, ...]
    until: Optional[datetime.datetime] = None
    doubt: str = ""


def uses(config_dir: str, run: commands.Runner) -> tuple[Use, ...]:
    """Every lineage that a server still serves, or may serve, from our files.

    :param config_dir: certbot's configuration directory.
    """
    home = jobs.home(config_dir)
    looks: dict[tuple[str, str, str], tuple[dict[str, View], str]] = {}
    found = []
    for name in store.lineages(home):
        try:
            record = state.load(store.folder(home, "", name).state)
        except Problem as problem:
            found.append(Use(name, os.path.join(home, name), (), doubt=str(problem)))
            continue
        if record is None:
            continue
        chosen = record.options
        where = chosen.server_root, chosen.postfix_root, chosen.postfix_services
        if where not in looks:
            looks[where] = _look(discovery.find(*where, run).servers)
        views, doubt = looks[where]
        place = store.folder(home, chosen.store, name)
        certs = {server: {pair.cert for pair in view.pairs if place.owns(pair.cert)} for server, view in views.items()}
        serving = tuple(server for server, theirs in certs.items() if theirs)
        if serving or (doubt and record.servers):
            found.append(Use(name, place.path, serving, _end(set().union(*certs.values())), doubt))
    return tuple(found)


def farewell(found: Sequence[Use], path: str) -> tuple[str, ...]:
    """What the admin is told; nothing if no server serves anything of ours.

    :param path: the directory hook's.
    """
    if not found:
        return ()
    names = [use.name for use in found]
    return (
        *(_tell(use) for use in found),
        "No configuration of a server and none of these files is touched, and the servers go on. But from now on nobody "
        "renews these copies: certbot renew does not, and under -q it does not say so.",
        "To give the servers back what they had before, install the package again, and before it is removed: "
        + "; ".join(f"certbot-dovecot undo {quote(name)}" for name in names),
        f"If the package comes back later, run certbot-dovecot deploy: it brings these up to date. {path} stays for that "
        "day; without it certbot would not remember the mail servers. To forget them, remove it.",
    )


def leave(config_dir: str, run: commands.Runner) -> tuple[str, ...]:
    """Put the hook in place if a server needs it, take it away if none does.

    :returns: what the admin is to be told.
    :raises Problem: the records or the hook cannot be read or written.
    """
    hooks = os.path.join(config_dir, HOOKS)
    found = uses(config_dir, run)
    if found:
        return farewell(found, hook.ensure(hooks))
    hook.drop(hooks)
    return ()


def main(argv: Sequence[str]) -> int:
    """Tell on stderr; returns 0.

    :param argv: certbot's configuration directory, if it is another than the usual one.
    """
    try:
        told = leave(argv[0] if argv else "/etc/letsencrypt", commands.run)
    except Problem as problem:
        told = (f"What the mail servers still serve cannot be told: {problem}",)
    for line in told:
        print(f"certbot-dovecot: {shown(sentence(line))}", file=sys.stderr)
    return 0


def _look(servers: Sequence[IMailServer]) -> tuple[dict[str, View], str]:
    """What each server that is there serves, and why something cannot be told."""
    views, doubts = {}, []
    for server in servers:
        try:
            views[server.name] = server.look()
        except NotInstalled:
            continue
        except Problem as problem:
            doubts.append(str(problem))
    return views, " ".join(doubts)


def _end(paths: set[str]) -> Optional[datetime.datetime]:
    """When the first of these certificates ends."""
    ends = []
    for path in paths:
        try:
            ends.append(bundles.validity(bundles.leaf_of(files.read(path), path))[1])
        except Problem:
            continue
    return min(ends, default=None)


def _tell(use: Use) -> str:
    until = f", which ends on {use.until:%Y-%m-%d %H:%M} UTC" if use.until else ""
    if use.servers:
        return f"{' and '.join(use.servers)} still serve{'s' * (len(use.servers) < 2)} {use.name} from {use.path}{until}"
    return f"A server may still serve {use.name} from {use.path}{until}; it cannot be told: {use.doubt}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
