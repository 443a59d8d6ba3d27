"""Dovecot: what runs, what it serves, and its commands.

What is effective is asked of ``doveconf`` (one call a look), where it is written of
:mod:`~certbot_dovecot.servers.dovecot_conf`; which endpoint serves what is worked out in
:mod:`~certbot_dovecot.servers.dovecot_view`, which bytes change in :mod:`~certbot_dovecot.servers.dovecot_plan`.  Promises and
failures are those of :class:`~certbot_dovecot.servers.contract.IMailServer`.

Traps that shaped this room (facts/dovecot.md): ``doveadm reload`` exits 0 when a reload is refused, so nothing here takes its
word; ``doveconf KEY`` is no check of a configuration, so all of it is asked for, and the answer serves both as the check and as
the next look.
"""

from __future__ import annotations

import dataclasses
import glob
import os
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Optional

from zope.interface import implementer

from certbot_dovecot import files
from certbot_dovecot.commands import Command, Runner
from certbot_dovecot.files import Edit
from certbot_dovecot.problems import ConfProblem, FileProblem, ServerProblem
from certbot_dovecot.servers import addresses, dovecot_plan, dovecot_view
from certbot_dovecot.servers import dovecot_conf as conf
from certbot_dovecot.servers.contract import Claim, IMailServer, MailDomains, Planned, Served, View
from certbot_dovecot.servers.dovecot_conf import Tree
from certbot_dovecot.servers.dovecot_view import Effective

#: Bytes.  Dovecot would read more.
LONGEST_LINE = 1 << 20

_EXIT = {75: "it is not running", 89: "its configuration is broken"}


@dataclass(frozen=True)
class _Memory:
    """What the last look found, to be taken again while no file has changed."""

    tree: Tree
    effective: Effective
    signature: files.Signature
    version: str


_memory: dict[str, _Memory] = {}


@implementer(IMailServer)
class Dovecot:
    """Dovecot under one configuration directory.

    :param root: the directory that holds ``dovecot.conf``.
    :param run: runs its commands.
    :param ipv6: whether this host has IPv6.
    """

    name = "Dovecot"

    def __init__(self, root: str, run: Runner, ipv6: Optional[bool] = None) -> None:
        self.root = root
        self.main = os.path.join(root, "dovecot.conf")
        self._run = run
        self._ipv6 = has_ipv6() if ipv6 is None else ipv6

    def describe(self) -> str:
        """Version and root."""
        known = self._look()
        ports = sorted({endpoint.port for endpoint in known.effective.endpoints})
        return f"Dovecot {known.version}, {self.main}, TLS on {', '.join(map(str, ports)) or 'no port'}"

    def look(self, sni: Optional[str] = None) -> View:
        """One ``doveconf`` call, or none if nothing has changed since the last."""
        known = self._look()
        effective = known.effective
        return View(
            served=effective.served(sni),
            signature=known.signature,
            pairs=effective.every_pair,
            notes=effective.notes,
            by_name=effective.by_name,
            unasked=effective.served_unasked(sni),
            others=effective.alternatives,
        )

    def names(self) -> tuple[str, ...]:
        """The fully qualified names of local_name scopes."""
        return tuple(sorted(name for name in self._look().effective.names if "." in name and "*" not in name))

    def known(self) -> tuple[Tree, Effective]:
        """What a look is worked out from: the files, and what ``doveconf`` says."""
        found = self._look()
        return found.tree, found.effective

    def plan(self, claim: Claim) -> Planned:
        """See the contract."""
        edits, notes = dovecot_plan.plan(self._now(), self.main, claim, self._sni_file())
        return Planned(tuple(edits), tuple(notes))

    def without(self, claim: Claim) -> tuple[Edit, ...]:
        """See the contract."""
        return tuple(dovecot_plan.without(self._now(), self.main, claim, self._sni_file()))

    def _now(self) -> Tree:
        """The configuration as it is now."""
        known = _memory.get(self.main)
        return known.tree if known is not None and files.unchanged(known.signature) else self._tree()

    def _sni_file(self) -> Optional[bytes]:
        return files.read_if_there(os.path.join(self.root, dovecot_plan.SNI_FILE))

    def preview(self, edits: Sequence[Edit], sni: Optional[str]) -> tuple[Served, ...]:
        """See the contract: the files are read as the edits leave them."""
        after = {edit.path: edit.new or b"" for edit in edits}

        def read(path: str) -> bytes:
            return after[path] if path in after else _read(path)

        def there(pattern: str) -> Optional[list[str]]:
            return [pattern] if pattern in after else expand(pattern)

        tree = conf.read(self.main, read, there)
        found = dovecot_view.pairs_of(tree.assignments, tree.dialect)
        pairs = {scope: found[scope] for scope in dovecot_view.as_made(found, [block.scope for block in tree.blocks])}
        return dataclasses.replace(self._look().effective, pairs=pairs).served(sni)

    def apply(self, edit: Edit) -> None:
        """See the contract."""
        files.apply(edit)

    def edit_lock(self) -> AbstractContextManager[None]:
        """Certbot's lock on the root; Dovecot has none of its own."""
        return files.locked(os.path.join(self.root, ".certbot.lock"))

    def check(self) -> None:
        """Ask ``doveconf`` for everything; it fails on what cannot be loaded."""
        _memory.pop(self.main, None)
        self._look()

    def running(self) -> bool:
        """Whether the process of ``master.pid`` is there."""
        try:
            pid = int(files.read(os.path.join(self._look().effective.settings["base_dir"], "master.pid")))
            os.kill(pid, 0)
        except PermissionError:
            return True
        except (FileProblem, ValueError, OSError):
            return False
        return True

    def mail_domains(self) -> MailDomains:
        """None: mail from other hosts comes in through Postfix."""
        return MailDomains()

    def hint(self) -> str:
        """The memory of the config process, which a reload with many names exceeds without a word (facts/dovecot.md)."""
        effective = self._look().effective
        needed, limit = dovecot_view.memory(effective) >> 20, effective.memory_limit >> 20
        if needed <= limit:
            return ""
        return (
            f"Dovecot's config process may use {limit} MB, which is little for {len(effective.names)} names in local_name"
            f" blocks: set vsz_limit = {needed} M in a block service config, and restart Dovecot"
        )

    def reload(self) -> None:
        """``doveadm reload``."""
        done = self._run(Command(("doveadm", "-c", self.main, "reload"), reads=False))
        if done.code:
            raise ServerProblem(
                f"doveadm reload failed: {_EXIT.get(done.code, f'exit code {done.code}')} ({done.message})",
                where=self.main,
                todo="See that Dovecot runs, and its log",
            )

    def start(self) -> None:
        """Start the master process."""
        done = self._run(Command(("dovecot", "-c", self.main), reads=False))
        if done.code:
            raise ServerProblem(f"Dovecot does not start: {done.message}", where=self.main, todo="See its log, then start it")

    def _ask(self, *argv: str) -> bytes:
        done = self._run(Command(argv))
        if done.code:
            raise ServerProblem(f"its own check refuses it: {done.message}", where=self.main, todo="Mend it first")
        return done.out

    def _tree(self) -> Tree:
        return conf.read(self.main, _read, expand)

    def _look(self) -> _Memory:
        known = _memory.get(self.main)
        if known is not None and files.unchanged(known.signature):
            return known
        tree = self._tree()
        signature = files.sign([*tree.files, *tree.directories])
        # 2.3 prints its defaults only with -a, 2.4 not even then.
        dump = self._ask("doveconf", "-c", self.main, "-a" if tree.dialect is conf.V23 else "-n", "-P")
        effective = dovecot_view.effective(conf.parse_dump(dump, tree.dialect), tree.dialect, self._ipv6, addresses.is_here)
        if any(files.read_if_there(path) != data for path, data in tree.files.items()):
            signature = ()
        version = ".".join(map(str, conf.version_of(dump))) or "?"
        _memory[self.main] = known = _Memory(tree, effective, signature, version)
        return known


def _read(path: str) -> bytes:
    """A configuration file; not one that is something else by mistake, which is not ours to edit."""
    data = files.read(path)
    if len(data) > LONGEST_LINE:
        for number, line in enumerate(data.split(b"\n"), 1):
            if len(line) > LONGEST_LINE:
                raise ConfProblem(
                    f"a line of {len(line) >> 20} MB is not what a configuration has",
                    where=f"{path}:{number}",
                    left="Nothing was changed",
                    todo="See what wrote it",
                )
    return data


def has_ipv6() -> bool:
    """Whether this host has an IPv6 address."""
    try:
        with open("/proc/net/if_inet6", "rb") as file:
            return bool(file.read(1))
    except OSError:
        return False


def expand(pattern: str) -> Optional[list[str]]:
    """The files that an include's path or glob means, in Dovecot's order, which is that of ``glob(3)`` with braces.

    :returns: without directories, which do not count; None if nothing matches.
    """
    found = []
    for one in _braces(pattern):
        found += sorted(glob.glob(one)) if glob.has_magic(one) else [one] if os.path.exists(one) else []
    return [path for path in found if not os.path.isdir(path)] if found else None


def _braces(pattern: str) -> list[str]:
    """``a{b,c}`` as ``ab`` and ``ac``."""
    match = re.search(r"\{([^{}]*)\}", pattern)
    if not match:
        return [pattern]
    return [
        one for part in match.group(1).split(",") for one in _braces(pattern[: match.start()] + part + pattern[match.end() :])
    ]
