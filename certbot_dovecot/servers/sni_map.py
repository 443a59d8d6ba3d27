"""The file of our own that tells Postfix which certificate to serve for which name: reader and writer.  Pure.

It is a ``regexp`` table for ``tls_server_sni_maps`` (postconf(5), regexp_table(5)), with lines ``PATTERN KEY-FILE CERT-FILE``.
Postfix reads the table, and the files that it names, when a process starts: as root, before it goes into its chroot.

Why not ``texthash``, whose lines are easier to read: there, ``.example.org`` stands for names of any depth below example.org,
which a certificate for ``*.example.org`` does not cover.  Why not ``hash`` and ``postmap -F``, as postconf(5) shows it: such a
map is a copy of all private keys, and one that can be older than the files.  Here one rename changes what is served, a kill
leaves the old table or the new one, and keys stay where they are.
An entry whose files are missing is skipped with a warning in the log, and costs no other name its certificate.

Postfix asks for the whole name, then for what follows each of its dots, with the dot; no pattern matches the latter.  The first
pattern that matches counts, so exact names come before wildcards.  Letter case does not count.

There is nothing in it that Dovecot's configuration and master.cf do not have too.  So all may read it, as a monitoring agent
has to that is not root.

Lines that are not of this form are left out: the file is ours, and is written anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Optional

from certbot_dovecot.certificates.names import is_host_name, is_word, shown
from certbot_dovecot.problems import ConfProblem
from certbot_dovecot.servers import by_name
from certbot_dovecot.servers.contract import Pair

#: The file, in Postfix's configuration directory.
NAME = "certbot-dovecot-sni"
#: Its type, as ``tls_server_sni_maps`` names it; and the type that it had at first, which hosts may still have.
TYPE, FORMER_TYPE = "regexp", "texthash"

_HEAD = "# Written by certbot-dovecot: the certificates of further lineages, by name.  Edits are lost at the next install.\n"
_SHIELDS = "# Names of a service's own certificate, which another entry would take:\n"
_NAMED = "# Names of further lineages:\n"
_LINE = re.compile(r"/\^(\[\^\.\]\+\\\.)?([a-z0-9_\\.-]+)\$/ (\S+) (\S+)")


@dataclass(frozen=True)
class Table:
    """What is in the file.

    :param named: name or wildcard to the pair of a further lineage, in the order in which they came.
    :param shields: name to the pair of a service's own certificate (:mod:`~certbot_dovecot.servers.by_name`).
    """

    named: Mapping[str, Pair] = field(default_factory=dict)
    shields: Mapping[str, Pair] = field(default_factory=dict)

    def find(self, name: Optional[str]) -> Optional[Pair]:
        """What is served for ``name``; None for the service's own certificate."""
        return by_name.find({**self.named, **self.shields}, name)


def is_former(data: Optional[bytes]) -> bool:
    """Whether the file is a table of :data:`FORMER_TYPE`."""
    return any(map(_former, (data or b"").decode("utf-8", "surrogateescape").splitlines()))


def former_without(data: bytes, owns: Callable[[str], bool]) -> bytes:
    """A table of :data:`FORMER_TYPE` without the entries of one lineage.

    :param owns: whether a file is the lineage's.
    """
    lines = data.decode("utf-8", "surrogateescape").splitlines(keepends=True)
    kept = [line for line in lines if not ((entry := _former(line)) and owns(entry[1].cert))]
    return "".join(kept).encode("utf-8", "surrogateescape")


def parse(data: Optional[bytes]) -> Table:
    """What is in the file, also if it is a table of :data:`FORMER_TYPE`; nothing if there is none."""
    named: dict[str, Pair] = {}
    shields: dict[str, Pair] = {}
    into = named
    for line in (data or b"").decode("utf-8", "surrogateescape").splitlines(keepends=True):
        if line in (_SHIELDS, _NAMED):
            into = shields if line == _SHIELDS else named
        match, former = _LINE.fullmatch(line.rstrip()), _former(line)
        if former:
            named.setdefault(*former)
        elif match:
            wild, name, key, cert = match.groups()
            into.setdefault(("*." if wild else "") + name.replace("\\", ""), Pair(cert=cert, key=key))
    return Table(named, shields)


def dump(table: Table) -> bytes:
    """The bytes of a table; of an empty one, too: Postfix refuses clients while a table that it is told of is not there.

    :raises ConfProblem: a name or a path would be read as something else: at a blank or a comma another one begins.
    """
    lines = [_HEAD]
    if table.shields:
        lines += [_SHIELDS, *(_line(name, pair) for name, pair in _ordered(table.shields)), _NAMED]
    lines += [_line(name, pair) for name, pair in _ordered(table.named)]
    return "".join(lines).encode("utf-8", "surrogateescape")


def _former(line: str) -> Optional[tuple[str, Pair]]:
    """Name or wildcard, and pair, of a line ``NAME KEY-FILE CERT-FILE`` or ``.DOMAIN KEY-FILE CERT-FILE``."""
    fields = line.split()
    if len(fields) != 3 or not is_host_name(fields[0].removeprefix("."), wildcard=False) or not fields[1].startswith("/"):
        return None
    name = fields[0].lower()
    return f"*{name}" if name.startswith(".") else name, Pair(cert=fields[2], key=fields[1])


def _ordered(entries: Mapping[str, Pair]) -> list[tuple[str, Pair]]:
    return sorted(entries.items(), key=lambda entry: by_name.is_wildcard(entry[0]))


def _line(name: str, pair: Pair) -> str:
    path = next((path for path in (pair.key, pair.cert) if re.search(r"[\s,$]", path) or shown(path) != path), None)
    if path is not None:
        raise ConfProblem(
            f"a table of Postfix cannot name the file {path}: there is a blank, a comma, a dollar or a control character in it",
            left="Nothing was changed",
            todo="Give --dovecot-store a directory without these",
        )
    if not is_word(name) or ":" in name or "*" in name.removeprefix("*."):
        raise ConfProblem(
            f"a table of Postfix cannot have an entry for {name}: it is not a host name",
            left="Nothing was changed",
            todo="Get a certificate for host names alone",
        )
    pattern = name.lower().removeprefix("*.").replace(".", "\\.")
    if by_name.is_wildcard(name):
        pattern = r"[^.]+\." + pattern
    return f"/^{pattern}$/ {pair.key} {pair.cert}\n"
