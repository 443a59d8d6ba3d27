"""Dovecot: its endpoints, the certificate that each is configured with, and the edits that change it.

What is effective is asked of ``doveconf`` (one call a look), where it is written of
:mod:`~certbot_dovecot.servers.dovecot_conf`.  Promises and failures are those of
:class:`~certbot_dovecot.servers.contract.IMailServer`.

Traps that shaped this room (facts/dovecot.md): ``doveadm reload`` exits 0 when a reload is refused, so nothing here takes its
word; a setting is overridden by any later file, so the edit goes where the last one stands; certificate and key must change in
one rename, so where they stand in different files both go into the later one.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Callable, Optional

from zope.interface import implementer

from certbot_dovecot import files
from certbot_dovecot.commands import Command, Runner
from certbot_dovecot.files import Edit
from certbot_dovecot.problems import ConfProblem, FileProblem, ServerProblem
from certbot_dovecot.servers import dovecot_conf as conf
from certbot_dovecot.servers.contract import Endpoint, IMailServer, Pair, Served, View
from certbot_dovecot.servers.dovecot_conf import Assignment, Change, Scope, Tree

CERT, KEY = "ssl_cert", "ssl_key"

#: Protocols with endpoints that we know how to ask.
PROTOCOLS = ("imap", "pop3", "sieve", "submission")

_EXIT = {75: "it is not running", 89: "its configuration is broken"}


@dataclass(frozen=True)
class _Memory:
    """What the last look found, to be taken again while no file has changed."""

    view: View
    base_dir: str
    names: tuple[str, ...]


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
        version = self._ask("dovecot", "--version").decode("ascii", "replace").split()
        ports = sorted({served.endpoint.port for served in self.look().served})
        return f"Dovecot {version[0] if version else '?'}, {self.main}, TLS on {', '.join(map(str, ports)) or 'no port'}"

    def look(self) -> View:
        """One ``doveconf`` call, or none if nothing has changed since the last."""
        return self._look().view

    def names(self) -> tuple[str, ...]:
        """The fully qualified names of local_name scopes."""
        return self._look().names

    def plan(self, pair: Pair, names: Sequence[str], only: Optional[Callable[[str], bool]] = None) -> tuple[Edit, ...]:
        """See the contract."""
        tree = self._tree()
        if only is None:
            off = tree.effective("ssl")
            if off is not None and off.value == "no":
                raise ConfProblem(
                    "TLS is switched off here (ssl = no)", where=off.where, left="Nothing was changed", todo="Set ssl = yes"
                )
        changes: dict[str, list[Change]] = {}
        for scope in self._scopes(tree, names, only):
            for path, made in _switch(tree, scope, pair).items():
                changes.setdefault(path, []).extend(made)
        if only is None and tree.effective(CERT) is None and tree.effective(KEY) is None:
            changes = {**changes, **_add(tree, self.main, pair)}
        edits = [Edit(path, tree.files[path], conf.change(tree.files[path], made)) for path, made in changes.items()]
        return tuple(edit for edit in edits if edit.old != edit.new)

    def apply(self, edit: Edit) -> None:
        """See the contract."""
        files.apply(edit)

    def edit_lock(self) -> AbstractContextManager[None]:
        """Certbot's lock on the root; Dovecot has none of its own."""
        return files.locked(os.path.join(self.root, ".certbot.lock"))

    def check(self) -> None:
        """``doveconf -n``."""
        self._ask("doveconf", "-c", self.main, "-n")

    def running(self) -> bool:
        """Whether the process of ``master.pid`` is there."""
        try:
            pid = int(files.read(os.path.join(self._look().base_dir, "master.pid")))
            os.kill(pid, 0)
        except PermissionError:
            return True
        except (FileProblem, ValueError, OSError):
            return False
        return True

    def reload(self) -> None:
        """``doveadm reload``."""
        done = self._run(Command(("doveadm", "-c", self.main, "reload"), reads=False))
        if done.code:
            raise ServerProblem(
                f"doveadm reload failed: {_EXIT.get(done.code, f'exit code {done.code}')} ({done.message})", where=self.main
            )

    def start(self) -> None:
        """Start the master process."""
        done = self._run(Command(("dovecot", "-c", self.main), reads=False))
        if done.code:
            raise ServerProblem(f"Dovecot does not start: {done.message}", where=self.main)

    def _ask(self, *argv: str) -> bytes:
        done = self._run(Command(argv))
        if done.code:
            raise ServerProblem(f"its own check refuses it: {done.message}", where=self.main, todo="Mend it first")
        return done.out

    def _tree(self) -> Tree:
        return conf.read(self.main, files.read, _expand)

    def _look(self) -> _Memory:
        known = _memory.get(self.main)
        if known is not None and files.unchanged(known.view.signature):
            return known
        tree = self._tree()
        signature = files.sign([*tree.files, *tree.directories])
        dump = conf.parse_dump(self._ask("doveconf", "-c", self.main, "-a", "-P"))
        if any(files.read_if_there(path) != data for path, data in tree.files.items()):
            signature = ()
        _memory[self.main] = known = _remember(dump, signature, self._ipv6)
        return known

    def _scopes(self, tree: Tree, names: Sequence[str], only: Optional[Callable[[str], bool]]) -> list[Scope]:
        """The scopes whose settings are to be switched."""
        scopes = tree.scopes((CERT, KEY))
        if only is not None:
            return [scope for scope in scopes if any(only(value) for value in _values(tree, scope))]
        wanted = {name.lower() for name in names}
        return [
            scope
            for scope in scopes
            if not scope
            or (len(scope) == 1 and scope[0][0] == "protocol" and scope[0][1] in PROTOCOLS)
            or (len(scope) == 1 and scope[0][0] == "local_name" and wanted & set(scope[0][1].lower().split()))
        ]


def has_ipv6() -> bool:
    """Whether this host has an IPv6 address."""
    try:
        with open("/proc/net/if_inet6", "rb") as file:
            return bool(file.read(1))
    except OSError:
        return False


def _expand(pattern: str) -> list[str]:
    if glob.has_magic(pattern):
        return sorted(glob.glob(pattern))
    return [pattern] if os.path.exists(pattern) else []


def _values(tree: Tree, scope: Scope) -> list[str]:
    found = (tree.effective(CERT, scope), tree.effective(KEY, scope))
    return [assignment.value for assignment in found if assignment is not None and assignment.is_file]


def _switch(tree: Tree, scope: Scope, pair: Pair) -> dict[str, list[Change]]:
    """Make one scope name ``pair``, by one change of one file."""
    cert, key = tree.effective(CERT, scope), tree.effective(KEY, scope)
    wanted = {CERT: pair.cert, KEY: pair.key}
    if cert and key and _is(cert, pair.cert) and _is(key, pair.key):
        return {}
    if cert and key and cert.path == key.path:
        changes = [(a, path) for a, path in ((cert, pair.cert), (key, pair.key)) if not _is(a, path)]
        return {cert.path: [conf.set_value(tree, assignment, path) for assignment, path in changes]}
    order = list(tree.assignments)
    last = max((a for a in (cert, key) if a), key=order.index)
    return {last.path: [conf.set_lines(tree, last, wanted)]}


def _is(assignment: Assignment, path: str) -> bool:
    return assignment.is_file and assignment.value == path


def _add(tree: Tree, main: str, pair: Pair) -> dict[str, list[Change]]:
    """Settings that are nowhere: where the layout mentions them, else at the end of the main file."""
    mentions: dict[str, conf.Mention] = {}
    for mention in tree.mentions:
        mentions.setdefault(mention.key, mention)
    both = {setting: mentions[setting] for setting in (CERT, KEY) if setting in mentions}
    together = len(both) == 2 and both[CERT].path == both[KEY].path
    return conf.insert(tree, both if together else {}, main, {CERT: pair.cert, KEY: pair.key})


def _remember(dump: list[Assignment], signature: files.Signature, ipv6: bool) -> _Memory:
    """What ``doveconf -a`` says; pure."""
    settings = {a.key: a.value for a in dump if not a.scope}
    protocols = settings.get("protocols", "").split()
    served, notes = [], []
    if settings.get("ssl") == "no":
        notes.append("Dovecot: TLS is switched off; set ssl = yes.")
    services: dict[str, dict[str, str]] = {}
    listeners: dict[Scope, dict[str, str]] = {}
    for a in dump:
        if len(a.scope) == 1 and a.scope[0][0] == "service":
            services.setdefault(a.scope[0][1], {})[a.key] = a.value
        elif len(a.scope) == 2 and a.scope[1][0] == "inet_listener":
            listeners.setdefault(a.scope, {})[a.key] = a.value
    for scope, listener in listeners.items():
        protocol = services.get(scope[0][1], {}).get("protocol", "")
        port = listener.get("port", "0")
        if protocol not in PROTOCOLS or protocol not in protocols or port == "0" or settings.get("ssl") == "no":
            continue
        if listener.get("haproxy") == "yes":
            notes.append(f"Dovecot: port {port} speaks the HAProxy protocol and cannot be asked.")
            continue
        for address in _addresses(listener.get("address") or settings.get("listen", "*, ::"), ipv6):
            endpoint = Endpoint("Dovecot", protocol, address, int(port), listener.get("ssl") == "yes")
            served.append(Served(endpoint, _pair(dump, protocol, address)))
    ordered = sorted(served, key=lambda one: (one.endpoint.port, one.endpoint.address))
    names = [n.lower() for a in dump for kind, argument in a.scope if kind == "local_name" for n in argument.split()]
    view = View(tuple(ordered), signature, _pairs(dump), tuple(notes))
    hosts = tuple(sorted({name for name in names if "." in name and "*" not in name}))
    return _Memory(view, settings.get("base_dir", "/run/dovecot"), hosts)


def _addresses(listen: str, ipv6: bool) -> Iterable[str]:
    """Addresses to connect to, of a ``listen`` setting."""
    for address in listen.replace(",", " ").split():
        if address == "*":
            yield "127.0.0.1"
        elif address in ("::", "[::]"):
            if ipv6:
                yield "::1"
        else:
            yield address.strip("[]")


def _pair(dump: list[Assignment], protocol: str, address: str) -> Optional[Pair]:
    """What a client without SNI is served; a filter that is more specific wins."""
    scopes: list[Scope] = [(), (("protocol", protocol),), (("local", address),), (("local", address), ("protocol", protocol))]
    found: dict[str, str] = {}
    for scope in scopes:
        found.update({a.key: a.value for a in dump if a.scope == scope and a.key in (CERT, KEY) and a.is_file})
    return Pair(found[CERT], found[KEY]) if len(found) == 2 else None


def _pairs(dump: list[Assignment]) -> tuple[Pair, ...]:
    """Every pair in any scope; what a scope lacks is the global one's."""
    found: dict[Scope, dict[str, str]] = {}
    for a in dump:
        if a.key in (CERT, KEY) and a.is_file:
            found.setdefault(a.scope, {})[a.key] = a.value
    whole = found.get((), {})
    pairs = [{**whole, **pair} for pair in found.values()]
    return tuple(dict.fromkeys(Pair(pair[CERT], pair[KEY]) for pair in pairs if len(pair) == 2))
