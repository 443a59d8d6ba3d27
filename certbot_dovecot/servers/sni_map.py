"""The file of our own that tells Postfix which certificate to serve for which name: reader and writer.  Pure.

It is a ``texthash`` table for ``tls_server_sni_maps`` (postconf(5)): a line ``NAME KEY-FILE CERTIFICATE-FILE`` each, where
``.example.org`` stands for the names below example.org.  Postfix reads the table, and the files that it names, when a process
starts: as root, before it goes into its chroot.

Why not ``hash`` and ``postmap -F``, as postconf(5) shows it: such a map is a copy of all private keys, and one that can be
older than the files.  Here one rename changes what is served, a kill leaves the old table or the new one, and keys stay where
they are.
An entry whose files are missing is skipped with a warning in the log, and costs no other name its certificate.

Lines that are not of this form are left out: the file is ours, and is written anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Optional

from certbot_dovecot.certificates.names import is_address, is_word, shown
from certbot_dovecot.problems import ConfProblem
from certbot_dovecot.servers.contract import Pair

#: The file, in Postfix's configuration directory.
NAME = "certbot-dovecot-sni"

_HEAD = "# Written by certbot-dovecot: the certificates of further lineages, by name.  Edits are lost at the next install.\n"


def parse(data: Optional[bytes]) -> dict[str, Pair]:
    """Name to pair, in the order of the file; empty if there is none."""
    found: dict[str, Pair] = {}
    for line in (data or b"").decode("utf-8", "surrogateescape").splitlines():
        fields = line.split()
        if len(fields) == 3 and _is_key(fields[0]):
            # texthash: the last line of a name counts.
            found[fields[0].lower()] = Pair(cert=fields[2], key=fields[1])
    return found


def dump(table: Mapping[str, Pair]) -> bytes:
    """The bytes of a table.

    :raises ConfProblem: a name or a path would be read as something else: at a blank or a comma another one begins.
    """
    for name, pair in table.items():
        path = next((path for path in (pair.key, pair.cert) if re.search(r"[\s,]", path) or shown(path) != path), None)
        if path is not None:
            raise ConfProblem(
                f"a table of Postfix cannot name the file {path}: there is a blank, a comma or a control character in it",
                left="Nothing was changed",
                todo="Give --dovecot-store a directory without these",
            )
        if not _is_key(name):
            raise ConfProblem(
                f"a table of Postfix cannot have an entry for {name}: it is not a host name",
                left="Nothing was changed",
                todo="Get a certificate for host names alone",
            )
    lines = [f"{name} {pair.key} {pair.cert}\n" for name, pair in table.items()]
    return (_HEAD + "".join(lines)).encode("utf-8", "surrogateescape")


def _is_key(name: str) -> bool:
    """Whether ``name`` is read as it is: a colon is a name's nowhere, and postmap warns of it."""
    return is_word(name) and ":" not in name


def find(table: Mapping[str, Pair], name: Optional[str]) -> Optional[Pair]:
    """What is served for ``name``: its own entry, else that of the nearest domain above with a dot before it."""
    rest = (name or "").lower().rstrip(".")
    while rest:
        if rest in table:
            return table[rest]
        at = rest.find(".", 1)
        rest = rest[at:] if at > 0 else ""
    return None


def keys(names: Iterable[str]) -> list[str]:
    """The entries for a certificate's names: ``.example.org`` for ``*.example.org``, none for an address (RFC 6066 section 3).

    :returns: in lower case, each once.
    """
    made = []
    for name in names:
        if not is_address(name):
            made.append(name.lower()[1:] if name.startswith("*.") else name.lower())
    return list(dict.fromkeys(made))
