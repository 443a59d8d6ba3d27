"""Postfix: the chosen services, the certificate that each is configured with, and the edits that change it.

Only ``-o`` options of the chosen services in master.cf are edited (which these are:
:mod:`~certbot_dovecot.servers.postfix_services`; which options: :mod:`~certbot_dovecot.servers.postfix_plan`); main.cf stays as
it is, and port 25 unless it is chosen.  The first lineage is a service's certificate; further ones, for other names, go into a
table of our own that the service's ``tls_server_sni_maps`` names (:mod:`~certbot_dovecot.servers.sni_map`).
Promises and failures are those of :class:`~certbot_dovecot.servers.contract.IMailServer`.

Traps that shaped this room (facts/postfix.md): setting certificate and key is not enough, what main.cf sets may shadow them and
must be cleared for the service; ``postfix reload`` exits 0 even if the master process dies of it; edits take part in Postfix's
own lock, ``flock`` on ``master.cf.tmp``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Optional

from zope.interface import implementer

from certbot_dovecot import files
from certbot_dovecot.commands import Command, Runner
from certbot_dovecot.files import Edit
from certbot_dovecot.problems import ConfProblem, LockProblem, NotInstalled, ServerProblem
from certbot_dovecot.servers import addresses, contract, mail_domains, master_cf, postfix_plan, postfix_services, sni_map
from certbot_dovecot.servers.contract import Claim, Endpoint, IMailServer, MailDomains, Pair, Planned, Served, View
from certbot_dovecot.servers.master_cf import Entry
from certbot_dovecot.servers.postfix_services import MX_PORT, Main, Named, Part, Service
from certbot_dovecot.servers.sni_map import Table

#: Where Debian's and Fedora's packages have it.
DEFAULT_ROOT = "/etc/postfix"

_LOG = "See its log, then start it (postfix start)"
#: The mode that our table had at first.  Who may read the certificates' names in Dovecot's configuration may read them here.
_FORMER_MODE = 0o600
#: Seconds that a table may take for an answer; some are on other hosts.
_PATIENCE = 10.0
_ASKED = (*postfix_services.ASKED, "inet_interfaces", "inet_protocols", "myhostname")


@dataclass(frozen=True)
class _Seen:
    """What a look found.

    :param services: (endpoint, what its clients get): first of the service that can be asked, then of those that serve some
        clients of the same port and cannot.
    :param unasked: likewise, at addresses that are not this host's now.
    :param table: our table.
    :param our_map: as ``tls_server_sni_maps`` names it.
    :param pairs: every pair that the chosen services name.
    :param name: ``myhostname``.
    :param others: files with certificates that they name beside those.
    :param tables: tables of somebody else's.
    :param closed: path of our table, if this user may not read it; else empty.
    """

    services: tuple[tuple[Endpoint, tuple[Named, ...]], ...]
    table: Table
    our_map: str
    pairs: tuple[Pair, ...]
    mapped: bool
    notes: tuple[str, ...]
    name: str
    signature: files.Signature = ()
    unasked: tuple[tuple[Endpoint, tuple[Named, ...]], ...] = ()
    others: tuple[str, ...] = ()
    tables: Optional[_Tables] = None
    closed: str = ""

    @property
    def sources(self) -> tuple[str, ...]:
        """The files of somebody else's tables, indexed ones too."""
        every = (one for _, some in (*self.services, *self.unasked) for named in some for one in named.maps)
        paths = [path for kind, _, path in (one.partition(":") for one in every if one != self.our_map) if path[:1] == "/"]
        return tuple(dict.fromkeys(f"{path}{end}" for path in paths for end in ("", ".db", ".lmdb", ".cdb")))

    def view(self, sni: Optional[str]) -> View:
        """For a client that asks for ``sni``."""
        served, unasked = self._served(self.services, sni), self._served(self.unasked, sni)
        names = tuple(self.table.named.items()) if self.mapped else ()
        shields = self.table.shields.values() if self.mapped else ()
        pairs = dict.fromkeys([*self.pairs, *(pair for _, pair in names), *shields])
        unread = [self.closed] if self.closed and self.mapped else []
        unread += self.tables.unread if self.tables else ()
        return View(served, self.signature, tuple(pairs), self.notes, names, unasked, self.others, tuple(unread))

    def _served(self, some: Sequence[tuple[Endpoint, tuple[Named, ...]]], sni: Optional[str]) -> tuple[Served, ...]:
        """What endpoints serve; without those of which that cannot be told, for a table that may not be read."""
        entry, found = self.table.find(sni), []
        for one, (first, *rest) in some:
            try:
                here, *others = [self._answer(one, named, sni, entry) for named in (first, *rest)]
            except _Unread:
                continue
            same = all(first.same(other, self.our_map, entry) for other in rest)
            found.append(replace(here, mixed=not same or any((o.pair, o.table) != (here.pair, here.table) for o in others)))
        return tuple(found)

    def _answer(self, one: Endpoint, named: Named, sni: Optional[str], entry: Optional[Pair]) -> Served:
        """What an endpoint serves by one of its services.

        :raises _Unread: a table that counts may not be read.
        """
        pair = named.to(self.our_map, entry)
        by_name = bool(sni and named.maps)
        if by_name and self.closed and self.our_map in named.maps:
            raise _Unread
        won = None
        if sni and self.tables and any(table != self.our_map for table in named.maps):
            won = postfix_services.winner(named.maps, self.our_map, sni.lower(), entry, self.tables.look_up)
        if won is not None:
            name, value = won
            return Served(one, None, others=postfix_services.paths(value), table=contract.Table(name, named.where, pair))
        return Served(one, pair, others=named.others if pair == named.pair else ())


class _Unread(Exception):
    """A table may not be read by this user."""


class _Tables:
    """What tables of somebody else's have for names, as Postfix itself looks it up.

    The value is a list of files, or in an indexed table their contents (``postmap -F``), with private keys: it goes nowhere.

    :ivar unread: those that this user may not read.
    """

    def __init__(self, root: str, run: Runner) -> None:
        self._root = root
        self._run = run
        self._known: dict[tuple[str, str], dict[str, str]] = {}
        self.unread: list[str] = []

    def look_up(self, table: str, name: str) -> dict[str, str]:
        """What a table has for a name, and for what follows its dots; nothing for one that Postfix cannot ask either.

        :raises _Unread: it may not be read.
        """
        if table in self.unread:
            raise _Unread
        if (table, name) not in self._known:
            self._known[(table, name)] = self._ask(table, postfix_services.name_keys(name))
        return self._known[(table, name)]

    def _ask(self, table: str, keys: Sequence[str]) -> dict[str, str]:
        given = "".join(f"{key}\n" for key in keys).encode()
        try:
            done = self._run(Command(("postmap", "-c", self._root, "-q", "-", table), seconds=_PATIENCE, given=given))
        except ServerProblem:
            return {}
        if b"Permission denied" in done.err:
            self.unread.append(table)
            raise _Unread
        lines = (line.partition("\t") for line in os.fsdecode(done.out).splitlines())
        return {key: value for key, _, value in lines}


_memory: dict[tuple[str, str], _Seen] = {}


def find_root(run: Runner) -> Optional[str]:
    """Postfix's configuration directory, or None without Postfix."""
    try:
        done = run(Command(("postconf", "-h", "config_directory")))
    except NotInstalled:
        return None
    # With a broken configuration it says nothing; what is wrong with it is told when it is read.
    return os.fsdecode(done.out.strip()) or None if done.code == 0 else DEFAULT_ROOT


@implementer(IMailServer)
class Postfix:
    """Postfix under one configuration directory.

    :param root: the directory of main.cf and master.cf.
    :param run: runs its commands.
    :param services: ``submission``, ``all``, or a comma list of service names of master.cf.
    :param ipv6: whether this host has IPv6.
    """

    name = "Postfix"

    def __init__(self, root: str, run: Runner, services: str = "submission", ipv6: Optional[bool] = None) -> None:
        self.root = root
        self.master = os.path.join(root, "master.cf")
        self.table = os.path.join(root, sni_map.NAME)
        self.services = services
        self._run = run
        self._ipv6 = os.path.exists("/proc/net/if_inet6") if ipv6 is None else ipv6

    def describe(self) -> str:
        """Version, root and services."""
        version = os.fsdecode(self._ask("postconf", "-h", "mail_version").strip())
        ports = sorted({served.endpoint.port for served in self.look().served})
        return f"Postfix {version}, {self.master}, TLS on {', '.join(map(str, ports)) or 'no chosen service'}"

    def look(self, sni: Optional[str] = None) -> View:
        """One ``postconf`` call, or none if nothing has changed since the last."""
        return self._look().view(sni)

    def names(self) -> tuple[str, ...]:
        """``myhostname``, if it is fully qualified."""
        name = self._look().name.lower()
        return (name,) if "." in name else ()

    def known(self) -> tuple[bytes, tuple[Entry, ...], Main, tuple[Service, ...]]:
        """What a look is worked out from: master.cf, its entries, what main.cf says, and the services that are ours to edit."""
        data = files.read(self.master)
        entries, main = master_cf.parse(data, self.master), self._main()
        return data, entries, main, tuple(self._chosen(entries, main))

    def plan(self, claim: Claim) -> Planned:
        """See the contract: our table of names before the master.cf that may name it."""
        data = files.read(self.master)
        entries = master_cf.parse(data, self.master)
        main = self._main()
        for path in (claim.pair.cert, claim.pair.key):
            if re.search(r"[\s{}$]", path):
                raise ConfProblem(
                    f"it cannot name the file {path}, for a space, brace or dollar in it",
                    where=self.master,
                    left="Nothing was changed",
                    todo="Give --dovecot-store a directory without these",
                )
        there = files.read_if_there(self.table)
        table = sni_map.parse(there)
        new, wanted, notes = postfix_plan.plan(data, entries, main, self._chosen(entries, main), table, claim, self._place)
        edits = [] if new == data else [Edit(self.master, data, new)]
        if wanted != table or sni_map.is_former(there) or self._is_hidden():
            edits.insert(0, Edit(self.table, there, sni_map.dump(wanted)))
        return Planned(tuple(edits), tuple(notes))

    def without(self, claim: Claim) -> tuple[Edit, ...]:
        """See the contract: the edit of our table."""
        there = files.read_if_there(self.table)
        if there is None:
            return ()
        if sni_map.is_former(there):
            # master.cf, which names it by its type, is not ours to change here.
            return (Edit(self.table, there, sni_map.former_without(there, claim.owns)),)
        entries, table = master_cf.parse(files.read(self.master), self.master), sni_map.parse(there)
        wanted = postfix_plan.without(entries, self._main(), table, claim, self._place)
        if not (wanted.named or wanted.shields):
            return (Edit(self.table, there, None),)
        return () if wanted == table else (Edit(self.table, there, sni_map.dump(wanted)),)

    def preview(self, edits: Sequence[Edit], sni: Optional[str]) -> tuple[Served, ...]:
        """See the contract: files are read as the edits leave them."""
        after = {edit.path: edit.new for edit in edits}
        table = after[self.table] if self.table in after else files.read_if_there(self.table)
        return self._see(after.get(self.master) or files.read(self.master), table).view(sni).served

    def apply(self, edit: Edit) -> None:
        """Write under Postfix's own lock, if the file still has the bytes that the edit was computed from."""
        hidden = edit.path == self.table and edit.new is not None and self._is_hidden()
        with self.edit_lock():
            files.apply(edit)
            if hidden:
                files.set_mode(edit.path, 0o644)

    @contextlib.contextmanager
    def edit_lock(self) -> Iterator[None]:
        """Postfix's own lock for editing: ``flock`` on ``master.cf.tmp``, which is gone when the edit is done."""
        path = f"{self.master}.tmp"
        descriptor = _flock(path)
        try:
            yield
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            os.close(descriptor)

    def check(self) -> None:
        """``postfix check``."""
        done = self._run(Command(("postfix", "-c", self.root, "check"), reads=False))
        if done.code:
            raise ServerProblem(f"postfix check refuses it: {done.message}", where=self.root, todo="Mend it first")

    def running(self) -> bool:
        """``postfix status``."""
        return self._run(Command(("postfix", "-c", self.root, "status"), reads=False)).code == 0

    def mail_domains(self) -> MailDomains:
        """The domains of mydestination, virtual_alias_domains, virtual_mailbox_domains and relay_domains."""
        return mail_domains.listed(self._ask("postconf", "-x", "-h", *mail_domains.PARAMETERS), self.root, self._run)

    def hint(self) -> str:
        """Nothing is known that is silent."""
        return ""

    def reload(self) -> None:
        """``postfix reload``, and a look whether the master process lived through it."""
        done = self._run(Command(("postfix", "-c", self.root, "reload"), reads=False))
        if done.code:
            raise ServerProblem(f"postfix reload failed: {done.message}", where=self.root, todo=_LOG)
        if not self.running():
            raise ServerProblem("the master process died of the reload", where=self.root, todo=_LOG)

    def start(self) -> None:
        """``postfix start``."""
        done = self._run(Command(("postfix", "-c", self.root, "start"), reads=False))
        if done.code:
            raise ServerProblem(f"postfix start failed: {done.message}", where=self.root, todo=_LOG)

    def _is_hidden(self) -> bool:
        """Whether our table still has the mode that it was made with at first, though it names nothing that is secret."""
        try:
            return stat.S_IMODE(os.lstat(self.table).st_mode) == _FORMER_MODE
        except OSError:
            return False

    def _ask(self, *argv: str) -> bytes:
        done = self._run(Command((argv[0], "-c", self.root, *argv[1:])))
        if done.code:
            raise ServerProblem(f"{argv[0]} refuses its configuration: {done.message}", where=self.root, todo="Mend it first")
        return done.out

    def _main(self) -> Main:
        """What is effective in main.cf, of the parameters that we need."""
        found = {}
        for line in os.fsdecode(self._ask("postconf", "-x", *_ASKED)).splitlines():
            name, _, value = line.partition("=")
            found[name.strip()] = value.strip()
        text = os.fsdecode(files.read(os.path.join(self.root, "main.cf")))
        return Main(found, text, lambda name: os.fsdecode(self._ask("postconf", "-x", "-h", name).strip()))

    @property
    def our_map(self) -> str:
        """Our table of names, as ``tls_server_sni_maps`` names it."""
        return f"{sni_map.TYPE}:{self.table}"

    @property
    def _place(self) -> postfix_plan.Place:
        return postfix_plan.Place(self.master, self.our_map, self.services)

    def _look(self) -> _Seen:
        known = _memory.get((self.root, self.services))
        if known is None or not files.unchanged(known.signature):
            signature = files.sign([os.path.join(self.root, "main.cf"), self.master, self.table])
            closed = os.path.exists(self.table) and not os.access(self.table, os.R_OK)
            table = None if closed else files.read_if_there(self.table)
            known = self._see(files.read(self.master), table, signature)
            # What other tables say is asked later.
            known = replace(known, signature=signature + files.sign(known.sources), closed=self.table if closed else "")
            _memory[(self.root, self.services)] = known
        return known

    def _see(self, data: bytes, table: Optional[bytes], signature: files.Signature = ()) -> _Seen:
        """What master.cf says if its bytes are ``data``, and our table ``table``."""
        entries = master_cf.parse(data, self.master)
        main = self._main()
        chosen = self._chosen(entries, main)
        served: list[tuple[Endpoint, tuple[Named, ...]]] = []
        unasked: list[tuple[Endpoint, tuple[Named, ...]]] = []
        notes: list[str] = []
        everyone: list[Named] = []
        last = {(entry.host, entry.port): entry for entry in entries if entry.fields[1] == "inet"}
        listening = [one for one in chosen if one.entry.port and last[(one.entry.host, one.entry.port)] is one.entry]
        for service in listening:
            entry, wrong = service.entry, self._without_tls(service, main)
            notes += wrong
            if wrong:
                continue
            smtpd = service.smtpds[-1]
            implicit = postfix_services.value(smtpd.entry, main, "smtpd_tls_wrappermode") == "yes"
            protocol = "smtp" if entry.port == MX_PORT or service.postscreen else "submission"
            names, differ = self._everyone(service, chosen, entries, main, data)
            notes += differ
            everyone += [postfix_services.named(part, main) for part in service.running]
            proxy = postfix_services.proxy(entry, main)
            for address in self._addresses(entry, main):
                one = Endpoint("Postfix", protocol, address, entry.port or 0, implicit, proxy)
                if addresses.is_here(address):
                    served.append((one, names))
                else:
                    unasked.append((one, names))
                    notes.append(addresses.elsewhere(one, address))
        notes += self._absent(bool(served or notes), listening)
        for line in master_cf.orphans(data):
            notes.append(f"Postfix: {self.master}:{line} belongs to the service above the commented-out one; was that meant?")
        served.sort(key=lambda one: (one[0].port, one[0].address))
        return _Seen(
            services=tuple(served),
            table=sni_map.parse(table),
            our_map=self.our_map,
            pairs=tuple(one.pair for one in everyone if one.pair),
            mapped=any(self.our_map in one.maps for one in everyone),
            notes=tuple(notes),
            name=main.values.get("myhostname", ""),
            signature=signature,
            unasked=tuple(unasked),
            others=tuple(dict.fromkeys(path for one in everyone for path in one.others)),
            tables=_Tables(self.root, self._run),
        )

    def _chosen(self, entries: Sequence[Entry], main: Main) -> list[Service]:
        """The services that are ours to edit."""
        return postfix_services.chosen(self.services, entries, main, self.master)

    def _without_tls(self, service: Service, main: Main) -> list[str]:
        """Why no client gets a certificate; empty if clients do."""
        where = f"{service.entry.name} in {self.master}"
        if not service.smtpds:
            return [f"Postfix: {where} is postscreen, and the service of type pass that it hands clients to is not there."]
        if postfix_services.has_tls(service.smtpds[-1].entry, main):
            return []
        # Mail from other hosts must come in without TLS too (RFC 3207 section 4).
        level = "may" if postfix_services.receives(service.entry) else "encrypt"
        return [f"Postfix: {where} has no TLS; set smtpd_tls_security_level={level}."]

    def _everyone(
        self, service: Service, chosen: Sequence[Service], entries: Sequence[Entry], main: Main, data: bytes
    ) -> tuple[tuple[Named, ...], list[str]]:
        """What clients of a service's port get, that of the service itself first; and where they get different ones, a note."""
        parts = list(service.running)
        notes = []
        if service.postscreen and not service.proxies:
            notes.append(
                f"Postfix: {service.entry.name} in {self.master} is postscreen, and there is no service tlsproxy: clients that "
                "it tests get no TLS."
            )
        if service.entry.port == MX_PORT:
            ours = [one.entry for one in chosen]
            others = [entry for entry in entries if entry.fields[1] == "inet" and postfix_services.receives(entry)]
            for entry in others:
                if entry not in ours:
                    parts += postfix_services.service(entry, entries, main).running
        names = [self._named(part, main, data) for part in parts]
        for part, one in zip(parts[1:], names[1:]):
            if one != names[0]:
                notes.append(
                    f"Postfix: {postfix_plan.place(part.entry, self.master)} names another certificate than "
                    f"{postfix_plan.place(parts[0].entry, self.master)}. Some clients of port {service.entry.port} get that "
                    "one, and no TLSA record is made for the port."
                )
        return tuple(names), notes

    def _named(self, part: Part, main: Main, data: bytes) -> Named:
        return replace(postfix_services.named(part, main), where=postfix_services.maps_place(part, main, data, self.root))

    def _absent(self, anything: bool, listening: Sequence[Service]) -> list[str]:
        """What to say if a service is not there that the word of the admin means."""
        word = self.services.strip().lower()
        if word == "all" and not any(postfix_services.receives(one.entry) for one in listening):
            return [f"Postfix: nothing on port 25 (smtpd or postscreen) is enabled in {self.master}."]
        return [] if anything else [f"Postfix: no submission service (465, 587) is enabled in {self.master}."]

    def _addresses(self, entry: Entry, main: Main) -> list[str]:
        """Addresses to connect to."""
        if entry.host:
            return [entry.host if entry.host != "localhost" else "127.0.0.1"]
        protocols = main.values.get("inet_protocols", "all")
        loopback = (["127.0.0.1"] if protocols != "ipv6" else []) + (["::1"] if self._ipv6 and protocols != "ipv4" else [])
        found: list[str] = []
        for name in main.values.get("inet_interfaces", "all").replace(",", " ").split():
            found += loopback if name in ("all", "loopback-only") else [name.strip("[]")]
        return list(dict.fromkeys(found))


def _flock(path: str) -> int:
    """Open and lock the file ``path``, and see that it is still the one of that name: a descriptor.

    :raises LockProblem: it cannot be made, or someone holds it for too long.
    """
    deadline = time.monotonic() + files.LOCK_PATIENCE
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as exc:
            raise files.problem(path, exc, "Postfix's lock file cannot be made") from exc
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            here, there = os.fstat(descriptor), os.stat(path)
            if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
                return descriptor
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(descriptor)
        if time.monotonic() > deadline:
            raise LockProblem(
                "someone else edits master.cf all the time",
                where=path,
                left="Nothing was changed",
                todo="Run the command again later",
            )
        time.sleep(0.01)


