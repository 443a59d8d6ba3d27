"""The domains that Postfix takes mail for from other hosts: ADDRESS_CLASS_README, postconf(5).

They are the values of ``mydestination``, ``virtual_alias_domains``, ``virtual_mailbox_domains`` and ``relay_domains``.  Each is
a list of names, of files with names, and of lookup tables whose keys are names.  Indexed tables are listed with ``postmap -s``,
text tables are read.  A table that can only be asked (a database server, a regular expression) cannot be listed; a note says
so.

Nothing here fails: what cannot be listed is a note.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from certbot_dovecot import files
from certbot_dovecot.certificates.names import is_host_name
from certbot_dovecot.commands import Command, Runner
from certbot_dovecot.problems import Problem
from certbot_dovecot.servers.contract import MailDomains

PARAMETERS = ("mydestination", "virtual_alias_domains", "virtual_mailbox_domains", "relay_domains")
#: Types that ``postmap -s`` can list (postmap(1)), and types that are text.
_INDEXED = ("btree", "cdb", "dbm", "hash", "lmdb", "sdbm")
_TEXT = ("texthash",)
_SEPARATORS = re.compile(r"[\s,]+")


def listed(values: bytes, root: str, run: Runner) -> MailDomains:
    """List the domains.

    :param values: what ``postconf -x -h`` says of :data:`PARAMETERS`.
    :param root: Postfix's configuration directory.
    :param run: runs ``postmap``.
    """
    found: dict[str, None] = {}
    notes: dict[str, None] = {}
    for value in os.fsdecode(values).splitlines():
        for word in filter(None, _SEPARATORS.split(value)):
            try:
                found.update(dict.fromkeys(_names(root, word, run)))
            except _Unlisted as reason:
                notes[
                    f"Postfix: the domains in {word} cannot be listed ({reason}), so their MX hosts were not looked for. If an "
                    "MX host is not a name of the certificate, name it: --dovecot-dane-hosts HOST."
                ] = None
    return MailDomains(tuple(sorted(name for name in found if _is_domain(name))), tuple(notes))


class _Unlisted(Exception):
    """A list cannot be read; the text says why."""


def _names(root: str, word: str, run: Runner) -> Iterator[str]:
    """The names that one word of a list stands for.

    :raises _Unlisted: they cannot be listed.
    """
    word = word.removeprefix("proxy:")
    kind, colon, rest = word.partition(":")
    if word.startswith("!"):
        return
    if word.startswith("/"):
        yield from _lines(word)
    elif not colon:
        yield word.lower()
    elif kind in _INDEXED:
        done = run(Command(("postmap", "-c", root, "-s", word)))
        if done.code:
            raise _Unlisted(done.message)
        yield from (line.split(None, 1)[0].lower() for line in os.fsdecode(done.out).splitlines() if line.strip())
    elif kind in _TEXT:
        yield from _lines(rest)
    else:
        raise _Unlisted(f"a table of type {kind} has no list")


def _lines(path: str) -> Iterator[str]:
    """The first words of a text file; comments and continuation lines left out."""
    try:
        text = os.fsdecode(files.read(path))
    except Problem as problem:
        raise _Unlisted(str(problem).rstrip(".")) from problem
    for line in text.splitlines():
        if line.strip() and not line[0].isspace() and not line.startswith("#"):
            yield line.split(None, 1)[0].lower()


def _is_domain(name: str) -> bool:
    """Whether a key of a table is a domain: tables have addresses and parts of addresses, too."""
    return is_host_name(name, wildcard=False) and "." in name
