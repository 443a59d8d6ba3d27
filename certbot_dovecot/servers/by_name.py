"""Which installed lineage is served to clients that ask for a name (SNI), on both servers.  Pure.

A server has a certificate for clients that ask for no name, and a table from names to certificates, in a file of our own.  The
table holds what further lineages are served for.  A client gets the most exact entry: that of the name itself, else that of a
wildcard, else the certificate without a name.

A wildcard is a trap for the certificate without a name: if that is for ``sub.example.net``, and a further lineage is for
``*.example.net``, the wildcard would take a name that has an exact certificate.  So the table also holds such names; these
entries are called *shields*, and are worked out anew by every plan.

Wildcards match as in a certificate: ``*`` is the whole leftmost label, and exactly one (RFC 9525 section 6.3).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Optional

from certbot_dovecot.certificates.names import is_host_name
from certbot_dovecot.servers.contract import Claim, Pair


def keys(names: Iterable[str]) -> list[str]:
    """The names of a certificate that a client can ask for: no addresses (RFC 6066 section 3), nothing that is no host name.

    :returns: in lower case, each once.
    """
    made = []
    for name in names:
        if is_host_name(name):
            made.append(name.lower())
    return list(dict.fromkeys(made))


def is_wildcard(name: str) -> bool:
    """Whether a name of a certificate stands for many."""
    return name.startswith("*.")


def wildcard_over(name: str) -> str:
    """The one wildcard that covers an exact name."""
    return f"*.{name.partition('.')[2]}"


def covers(pattern: str, name: str) -> bool:
    """Whether a name of a certificate is, or covers, ``name``; of two wildcards only if they are the same."""
    pattern, name = pattern.lower(), name.lower()
    return pattern == name or (is_wildcard(pattern) and not is_wildcard(name) and wildcard_over(name) == pattern)


def find(table: Mapping[str, Pair], name: Optional[str]) -> Optional[Pair]:
    """What a client gets that asks for ``name``; None if the table does not say."""
    asked = (name or "").lower().rstrip(".")
    return table.get(asked) or (table.get(wildcard_over(asked)) if "." in asked else None)


def others_names(claim: Claim, certificates: Iterable[str]) -> tuple[str, ...]:
    """The names of certificates that the claim must not take the place of, since all of their names are others' (rule R14).

    A name without a dot counts for nothing: no CA vouches for it, and a distribution's own certificate may be made out to one.

    :param certificates: files that are served together.
    :returns: sorted; empty if one of the names is one of the claim's, or if there are none that could be told.
    """
    known = [claim.covers(path) for path in certificates]
    names = sorted({name for some in known if some for name in some if "." in name})
    ours = [name.lower() for name in claim.names]
    if any(covers(one, name) or covers(name, one) for name in names for one in ours):
        return ()
    return tuple(names)


def shown(names: Collection[str]) -> str:
    """Names for a message."""
    some = sorted(names)
    return ", ".join([*some[:3], *(["..."] if len(some) > 3 else [])])


def assign(
    table: Mapping[str, Pair],
    claim: Claim,
    names: Collection[str],
    elsewhere: Collection[str] = (),
    had: Collection[str] = (),
    held: Collection[str] = (),
) -> tuple[dict[str, Pair], list[str]]:
    """The table, without shields, after a lineage is installed, renewed or taken out.

    Of two lineages for one name, the one that was installed last is served.  A renewal takes no name from another lineage.  A
    name that a lineage is no longer served for goes back to another lineage in the table that has it.

    :param table: as it is, without shields.
    :param claim: the lineage.
    :param names: what it is to be served for by name; nothing if it is taken out.
    :param elsewhere: what it is to be served for as the certificate without a name.
    :param had: what it was served for as such before.
    :param held: names of other lineages' certificates without a name, which a renewal does not take.
    :returns: the table, and the names that are taken from another lineage.
    """
    mine = {name for name, pair in table.items() if claim.owns(pair.cert)}
    taken = [name for name in (*names, *elsewhere) if claim.explicit and name in table and name not in mine]
    wanted = {name for name in names if claim.explicit or name in mine or not (name in table or name in held)}
    lost = mine.union(had).difference(names, elsewhere)
    others = [pair for pair in dict.fromkeys(reversed([*table.values()])) if not claim.owns(pair.cert)] if lost else []
    having = {pair: claim.covers(pair.cert) or frozenset() for pair in others}
    new: dict[str, Pair] = {}
    for name in (*table, *sorted(lost), *names):
        heirs = [pair for pair in others if name in having[pair]] if name in lost else []
        if name in wanted:
            new[name] = claim.pair
        elif name in table and name not in mine and name not in taken:
            new[name] = table[name]
        elif heirs:
            new[name] = heirs[0]
    return new, list(dict.fromkeys(taken))


def shields(table: Mapping[str, Pair], without_name: Mapping[Pair, Collection[str]]) -> dict[str, Pair]:
    """Entries for names of certificates without a name, which a wildcard of the table would take.

    :param table: without shields.
    :param without_name: a pair that clients get who ask for no name, and the names of its certificate.
    :returns: sorted, so that the bytes are the same whoever's plan it is.
    """
    found: dict[str, Pair] = {}
    for pair, names in without_name.items():
        for name in names:
            over = None if is_wildcard(name) else table.get(wildcard_over(name))
            if over not in (None, pair) and name not in table:
                found.setdefault(name, pair)
    return dict(sorted(found.items()))
