"""Postfix: the submission services, the certificate that each is configured with, and the edits that change it.

Only ``-o`` options of the chosen services in master.cf are edited; main.cf and port 25 stay as they are.  The first lineage is
a service's certificate; further ones, for other names, go into a table of our own that the service's ``tls_server_sni_maps``
names (:mod:`~certbot_dovecot.servers.sni_map`).  Promises and failures are those of
:class:`~certbot_dovecot.servers.contract.IMailServer`.

Traps that shaped this room (facts/postfix.md): setting certificate and key is not enough, what main.cf sets may shadow them and
must be cleared for the service; ``postfix reload`` exits 0 even if the master process dies of it; edits take part in Postfix's
own lock, ``flock`` on ``master.cf.tmp``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from zope.interface import implementer

from certbot_dovecot import files
from certbot_dovecot.commands import Command, Runner
from certbot_dovecot.files import Edit
from certbot_dovecot.problems import ConfProblem, LockProblem, NotInstalled, ServerProblem
from certbot_dovecot.servers import master_cf, sni_map
from certbot_dovecot.servers.contract import Claim, Endpoint, IMailServer, Pair, Planned, Served, View
from certbot_dovecot.servers.master_cf import Entry

#: Where Debian's and Fedora's packages have it.
DEFAULT_ROOT = "/etc/postfix"
CERT, KEY = "smtpd_tls_cert_file", "smtpd_tls_key_file"

#: What wins over certificate and key file if it is not empty.
SHADOWS = ("smtpd_tls_chain_files", "smtpd_tls_eccert_file", "smtpd_tls_eckey_file", "tls_server_sni_maps")
SNI_MAPS = SHADOWS[-1]

_ASKED = (
    CERT, KEY, *SHADOWS, "smtpd_tls_wrappermode", "smtpd_tls_security_level", "smtpd_use_tls", "smtpd_enforce_tls",
    "inet_interfaces", "inet_protocols", "myhostname",
)  # fmt: skip


@dataclass(frozen=True)
class _Seen:
    """What a look found.

    :param services: (endpoint, the pair of the service, whether it has our table of names).
    :param table: our table.
    :param name: ``myhostname``.
    """

    services: tuple[tuple[Endpoint, Optional[Pair], bool], ...]
    table: dict[str, Pair]
    notes: tuple[str, ...]
    name: str
    signature: files.Signature = ()

    def view(self, sni: Optional[str]) -> View:
        """For a client that asks for ``sni``."""
        named = sni_map.find(self.table, sni)
        served = tuple(Served(endpoint, named if mapped and named else pair) for endpoint, pair, mapped in self.services)
        by_name = tuple(self.table.items()) if any(mapped for _, _, mapped in self.services) else ()
        pairs = dict.fromkeys([*(pair for _, pair, _ in self.services if pair), *(pair for _, pair in by_name)])
        return View(served, self.signature, tuple(pairs), self.notes, by_name)


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
    :param services: ``submission``, or a comma list of service names of master.cf.
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

    def plan(self, claim: Claim) -> Planned:
        """See the contract: our table of names before the master.cf that may name it."""
        data = files.read(self.master)
        entries = master_cf.parse(data, self.master)
        main = self._main()
        for path in (claim.pair.cert, claim.pair.key):
            if re.search(r"[\s{}$]", path):
                raise ConfProblem(f"it cannot name the file {path}, for a space, brace or dollar in it", where=self.master)
        there = files.read_if_there(self.table)
        table = sni_map.parse(there)
        values: dict[int, dict[str, str]] = {}
        notes: list[str] = []
        by_name = False
        for entry in self._chosen(entries, main):
            maps = _maps(entry, main)
            ours = any(claim.owns(value) for value in (entry.option(CERT), entry.option(KEY)) if value)
            if not claim.explicit and not ours:
                continue
            if claim.explicit and not ours and _keeps(claim, entry.option(CERT)):
                by_name = True
                if self._our_map not in maps:
                    values[entry.line] = {SNI_MAPS: ",".join([self._our_map, *maps])}
                continue
            values[entry.line] = {CERT: claim.pair.cert, KEY: claim.pair.key, **self._cleared(entry, main)}
        new = master_cf.set_options(data, entries, values, self.master)
        edits = [] if new == data else [Edit(self.master, data, new)]
        wanted = _table(table, claim, by_name, notes)
        if wanted != table:
            edits.insert(0, Edit(self.table, there, sni_map.dump(wanted), 0o600))
        return Planned(tuple(edits), tuple(notes))

    def preview(self, edits: Sequence[Edit], sni: Optional[str]) -> tuple[Served, ...]:
        """See the contract: files are read as the edits leave them."""
        after = {edit.path: edit.new for edit in edits}
        table = after[self.table] if self.table in after else files.read_if_there(self.table)
        return self._see(after.get(self.master) or files.read(self.master), table).view(sni).served

    def apply(self, edit: Edit) -> None:
        """Write under Postfix's own lock, if the file still has the bytes that the edit was computed from."""
        with self.edit_lock():
            files.apply(edit)

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

    def hint(self) -> str:
        """Nothing is known that is silent."""
        return ""

    def reload(self) -> None:
        """``postfix reload``, and a look whether the master process lived through it."""
        done = self._run(Command(("postfix", "-c", self.root, "reload"), reads=False))
        if done.code:
            raise ServerProblem(f"postfix reload failed: {done.message}", where=self.root)
        if not self.running():
            raise ServerProblem("the master process died of the reload", where=self.root)

    def start(self) -> None:
        """``postfix start``."""
        done = self._run(Command(("postfix", "-c", self.root, "start"), reads=False))
        if done.code:
            raise ServerProblem(f"postfix start failed: {done.message}", where=self.root)

    def _ask(self, *argv: str) -> bytes:
        done = self._run(Command((argv[0], "-c", self.root, *argv[1:])))
        if done.code:
            raise ServerProblem(f"{argv[0]} refuses its configuration: {done.message}", where=self.root, todo="Mend it first")
        return done.out

    def _main(self) -> dict[str, str]:
        """What is effective in main.cf, of the parameters that we need."""
        found = {}
        for line in os.fsdecode(self._ask("postconf", "-x", *_ASKED)).splitlines():
            name, _, value = line.partition("=")
            found[name.strip()] = value.strip()
        return found

    @property
    def _our_map(self) -> str:
        return f"texthash:{self.table}"

    def _look(self) -> _Seen:
        known = _memory.get((self.root, self.services))
        if known is None or not files.unchanged(known.signature):
            signature = files.sign([os.path.join(self.root, "main.cf"), self.master, self.table])
            known = self._see(files.read(self.master), files.read_if_there(self.table), signature)
            _memory[(self.root, self.services)] = known
        return known

    def _see(self, data: bytes, table: Optional[bytes], signature: files.Signature = ()) -> _Seen:
        """What master.cf says if its bytes are ``data``, and our table ``table``."""
        entries = master_cf.parse(data, self.master)
        main = self._main()
        served: list[tuple[Endpoint, Optional[Pair], bool]] = []
        notes = []
        last = {(entry.host, entry.port): entry for entry in entries if entry.fields[1] == "inet"}
        for entry in self._chosen(entries, main):
            if last[(entry.host, entry.port)] is not entry or entry.port is None:
                continue
            if not _tls(entry, main):
                notes.append(f"Postfix: {entry.name} in {self.master} has no TLS; set smtpd_tls_security_level=encrypt.")
                continue
            implicit = _value(entry, main, "smtpd_tls_wrappermode") == "yes"
            protocol = "smtp" if entry.port == 25 else "submission"
            pair, mapped = self._pair(entry, main), self._our_map in _maps(entry, main)
            for address in self._addresses(entry, main):
                served.append((Endpoint("Postfix", protocol, address, entry.port, implicit), pair, mapped))
        if not served and not notes:
            notes.append(f"Postfix: no submission service (465, 587) is enabled in {self.master}.")
        for line in master_cf.orphans(data):
            notes.append(f"Postfix: {self.master}:{line} belongs to the service above the commented-out one; was that meant?")
        served.sort(key=lambda one: (one[0].port, one[0].address))
        return _Seen(tuple(served), sni_map.parse(table), tuple(notes), main.get("myhostname", ""), signature)

    def _chosen(self, entries: Sequence[Entry], main: Mapping[str, str]) -> list[Entry]:
        """The entries that are ours to edit."""
        inet = [entry for entry in entries if entry.fields[1] == "inet"]
        if self.services.strip().lower() == "submission":
            return [
                entry
                for entry in inet
                if entry.command == "smtpd"
                and entry.port != 25
                and (entry.port in (465, 587) or _value(entry, main, "smtpd_tls_wrappermode") == "yes")
            ]
        chosen = []
        for name in filter(None, (name.strip() for name in self.services.split(","))):
            found = [entry for entry in inet if entry.name == name]
            if not found:
                raise ConfProblem(
                    f"there is no service {name} of type inet (there is {', '.join(entry.name for entry in inet)})",
                    where=self.master,
                    left="Nothing was changed",
                    todo="Give --dovecot-postfix-services names from that list",
                )
            chosen += found
        return chosen

    def _cleared(self, entry: Entry, main: Mapping[str, str]) -> dict[str, str]:
        """What would win over our certificate in this service, emptied but for our own table.

        A mere default of another parameter is not cleared.
        """
        explicit = [name for name in SHADOWS if re.search(rf"(?m)^{name}[ \t]*=", self._main_cf())]
        own = {name: entry.option(name) for name in SHADOWS}
        shadows = [name for name in SHADOWS if own[name] or (own[name] is None and main.get(name) and name in explicit)]
        cleared = dict.fromkeys(shadows, "")
        if SNI_MAPS in cleared and self._our_map in _maps(entry, main):
            cleared[SNI_MAPS] = self._our_map
        return cleared

    def _main_cf(self) -> str:
        return os.fsdecode(files.read(os.path.join(self.root, "main.cf")))

    def _pair(self, entry: Entry, main: Mapping[str, str]) -> Optional[Pair]:
        """What the service serves an ordinary client, as far as files can say it (facts/postfix.md, the table)."""
        if self._expanded(entry, main, "smtpd_tls_chain_files"):
            return None
        eccert = self._expanded(entry, main, "smtpd_tls_eccert_file")
        cert, key = self._expanded(entry, main, CERT), self._expanded(entry, main, KEY)
        if eccert:
            return Pair(eccert, self._expanded(entry, main, "smtpd_tls_eckey_file") or eccert)
        return Pair(cert, key or cert) if cert else None

    def _expanded(self, entry: Entry, main: Mapping[str, str], name: str) -> str:
        """The effective value of a parameter, with ``$other`` of main.cf filled in."""

        def fill(match: re.Match[str]) -> str:
            other = next(group for group in match.groups() if group)
            own = entry.option(other)
            return own if own is not None else os.fsdecode(self._ask("postconf", "-x", "-h", other).strip())

        value = _value(entry, main, name)
        return re.sub(r"\$(?:(\w+)|\{(\w+)\}|\((\w+)\))", fill, value) if "$" in value else value

    def _addresses(self, entry: Entry, main: Mapping[str, str]) -> list[str]:
        """Addresses to connect to."""
        if entry.host:
            return [entry.host if entry.host != "localhost" else "127.0.0.1"]
        protocols = main.get("inet_protocols", "all")
        loopback = (["127.0.0.1"] if protocols != "ipv6" else []) + (["::1"] if self._ipv6 and protocols != "ipv4" else [])
        found: list[str] = []
        for name in main.get("inet_interfaces", "all").replace(",", " ").split():
            found += loopback if name in ("all", "loopback-only") else [name.strip("[]")]
        return list(dict.fromkeys(found))


def _keeps(claim: Claim, cert: Optional[str]) -> bool:
    """Whether a service keeps its certificate: another lineage's, for a name that the claim has not."""
    if not cert or not claim.another(cert):
        return False
    names = claim.covers(cert)
    return names is None or not names <= {name.lower() for name in claim.names}


def _maps(entry: Entry, main: Mapping[str, str]) -> list[str]:
    """The tables of ``tls_server_sni_maps``, which are asked in turn."""
    return _value(entry, main, SNI_MAPS).replace(",", " ").split()


def _table(table: Mapping[str, Pair], claim: Claim, by_name: bool, notes: list[str]) -> dict[str, Pair]:
    """Our table with what the claim wants of it; what it takes from another lineage is noted.

    :param by_name: whether a service serves the claim's lineage by name.
    """
    if not claim.explicit:
        return {name: claim.pair if claim.owns(pair.cert) else pair for name, pair in table.items()}
    wanted = sni_map.keys(claim.names)
    taken = [name for name in wanted if name in table and not claim.owns(table[name].cert)]
    notes += [f"Postfix: {name} was served with {table[name].cert}; it is served with this lineage now." for name in taken]
    kept = {name: pair for name, pair in table.items() if name not in wanted and not claim.owns(pair.cert)}
    return {**kept, **dict.fromkeys(wanted, claim.pair)} if by_name else kept


def _value(entry: Entry, main: Mapping[str, str], name: str) -> str:
    own = entry.option(name)
    return own if own is not None else main.get(name, "")


def _tls(entry: Entry, main: Mapping[str, str]) -> bool:
    """Whether the service does TLS at all."""
    if _value(entry, main, "smtpd_tls_wrappermode") == "yes":
        return True
    level = _value(entry, main, "smtpd_tls_security_level")
    if level:
        return level != "none"
    return "yes" in (_value(entry, main, "smtpd_use_tls"), _value(entry, main, "smtpd_enforce_tls"))


def _flock(path: str) -> int:
    """Open and lock the file ``path``, and see that it is still the one of that name: a descriptor.

    :raises LockProblem: it cannot be made, or someone holds it for too long.
    """
    deadline = time.monotonic() + files.LOCK_PATIENCE
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
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
            raise LockProblem("someone else edits master.cf all the time", where=path, left="Nothing was changed")
        time.sleep(0.01)


