"""Which options of master.cf change, and which entries of our table of names, so that a lineage is served.  Pure.

The first lineage is the certificate of every chosen service.  Where a service has the certificate of another lineage of ours, a
further lineage is served by name, from a table of our own (:mod:`~certbot_dovecot.servers.sni_map`).

Nobody's certificate is taken away (rule R14).  A service that has, by options of its own, a certificate for other names keeps
it, unless the admin lists that service; and so does a table of somebody else's in ``tls_server_sni_maps``, which comes after
ours.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from certbot_dovecot.servers import by_name, master_cf, postfix_services
from certbot_dovecot.servers.contract import Claim, Pair
from certbot_dovecot.servers.master_cf import Entry
from certbot_dovecot.servers.postfix_services import SNI_MAPS, Main, Part, Service
from certbot_dovecot.servers.sni_map import Table

#: Options to be set, by the number of an entry's first line.
_Values = Mapping[int, Mapping[str, str]]


@dataclass(frozen=True)
class Place:
    """What is planned for.

    :param master: path of master.cf, for messages.
    :param our_map: our table, as ``tls_server_sni_maps`` names it.
    :param words: which services are chosen, as the admin said it.
    """

    master: str
    our_map: str
    words: str


class _Way(enum.Enum):
    """How a service is to serve a lineage: to clients that ask for no name, by name, or not at all."""

    OWN = enum.auto()
    BY_NAME = enum.auto()
    NOT = enum.auto()


def plan(
    data: bytes, entries: Sequence[Entry], main: Main, chosen: Sequence[Service], table: Table, claim: Claim, here: Place
) -> tuple[bytes, Table, list[str]]:
    """The bytes of master.cf and our table after which the lineage of ``claim`` is served, and what the admin should know.

    :param data: master.cf; ``entries`` are its.
    :raises ConfProblem: an entry to be edited has options that its daemon dies of.
    """
    values = postfix_services.by_present_type(entries)
    ways: dict[Part, _Way] = {}
    kept: list[str] = []
    for part in [part for service in chosen for part in service.parts]:
        ways[part], names = _way(claim, part, main, here)
        if names:
            kept.append(
                f"Postfix: {place(part.entry, here.master)} keeps its certificate, which is for other names "
                f"({by_name.shown(names)}). To replace it, list the service in --dovecot-postfix-services."
            )
        if ways[part] is _Way.OWN:
            # What an admin put beside our certificate since the install is not for a renewal to change.
            cleared = postfix_services.cleared(part, main, here.our_map)
            cleared = {name: value for name, value in cleared.items() if claim.explicit or name != SNI_MAPS}
            here_too = values.get(part.entry.line, {})
            values[part.entry.line] = {**here_too, part.cert: claim.pair.cert, part.key: claim.pair.key, **cleared}
        elif ways[part] is _Way.BY_NAME and postfix_services.maps(part, main)[:1] != (here.our_map,):
            values[part.entry.line] = {SNI_MAPS: postfix_services.with_table(part, main, here.our_map)}
    # Beside somebody else's table, the names of a service's own certificate must be in ours.
    named = _Way.BY_NAME in ways.values() or (claim.explicit and any(SNI_MAPS in some for some in values.values()))
    own = _without_name(claim, entries, main, values, here)
    had = _had(claim, ways, main)
    wanted, taken = _table(claim, table, own, had, named, _Way.OWN in ways.values())
    notes = []
    if claim.explicit:
        served = [one for one in chosen if any(ways[part] is not _Way.NOT for part in one.parts)]
        notes = [*_told(claim, chosen, served, entries, main, table, here), *kept, *taken]
    return master_cf.set_options(data, entries, values, here.master), wanted, notes


def without(entries: Sequence[Entry], main: Main, table: Table, claim: Claim, here: Place) -> Table:
    """Our table without the lineage of ``claim``."""
    own = _without_name(claim, entries, main, {}, here)
    had = {name for pair in own if claim.owns(pair.cert) for name in claim.covers(pair.cert) or ()}
    named, _ = by_name.assign(table.named, claim, (), had=had)
    return Table(named, by_name.shields(named, {pair: names for pair, names in own.items() if not claim.owns(pair.cert)}))


def place(entry: Entry, path: str) -> str:
    """Where an entry is, for a message.

    :param path: of master.cf.
    """
    return f"{entry.name} ({entry.fields[1]}) at {path}:{entry.line}"


def _way(claim: Claim, part: Part, main: Main, here: Place) -> tuple[_Way, tuple[str, ...]]:
    """How a part is to serve the claim; with the names of the certificate that it keeps because of them."""
    cert, key = part.entry.option(part.cert), part.entry.option(part.key)
    if any(claim.owns(path) for path in (cert, key) if path):
        return _Way.OWN, ()
    if not claim.explicit:
        return _Way.NOT, ()
    pair = postfix_services.named(part, main).pair
    for path in (cert, pair.cert if pair else None):
        if path and claim.another(path):
            return (_Way.BY_NAME if _keeps(claim, path) else _Way.OWN), ()
    names = postfix_services.others_names(claim, part, main)
    if names and not postfix_services.named_by_admin(here.words):
        return _Way.NOT, names
    return _Way.OWN, ()


def _keeps(claim: Claim, cert: str) -> bool:
    """Whether a service keeps the certificate of another lineage: it is for a name that the claim has not."""
    names = claim.covers(cert)
    return names is None or not names <= {name.lower() for name in claim.names}


def _without_name(
    claim: Claim, entries: Sequence[Entry], main: Main, values: _Values, here: Place
) -> dict[Pair, list[str]]:
    """The pairs of ours that clients get who ask for no name, where our table counts, with the names of their certificates."""
    found: dict[Pair, list[str]] = {}
    listening = [entry for entry in entries if entry.fields[1] == "inet" and entry.command in ("smtpd", "postscreen")]
    for part in [part for entry in listening for part in postfix_services.service(entry, entries, main).parts]:
        new = values.get(part.entry.line, {})
        maps = postfix_services.tables(new[SNI_MAPS]) if SNI_MAPS in new else postfix_services.maps(part, main)
        pair = claim.pair if part.cert in new else postfix_services.named(part, main).pair
        if pair is None or pair in found or here.our_map not in maps:
            continue
        if claim.owns(pair.cert):
            found[pair] = by_name.keys(claim.names)
        elif claim.another(pair.cert):
            found[pair] = by_name.keys(claim.covers(pair.cert) or ())
    return found


def _had(claim: Claim, ways: Mapping[Part, _Way], main: Main) -> set[str]:
    """The names of the lineage's certificate that clients got until now who ask for no name."""
    pairs = {postfix_services.named(part, main).pair for part, way in ways.items() if way is _Way.OWN}
    certs = {pair.cert for pair in pairs if pair is not None and claim.owns(pair.cert)}
    return {name for cert in certs for name in claim.covers(cert) or ()}


def _table(
    claim: Claim, table: Table, own: Mapping[Pair, list[str]], had: Collection[str], named: bool, unnamed: bool
) -> tuple[Table, list[str]]:
    """Our table as it is to be, and notes of what is taken from other lineages.

    :param own: what :func:`_without_name` found.
    :param had: what :func:`_had` found.
    :param named: whether the lineage of an explicit claim is to be served by name.
    :param unnamed: whether it is to be served to clients that ask for no name.
    """
    names = by_name.keys(claim.names)
    if not claim.explicit:
        named = any(claim.owns(pair.cert) for pair in table.named.values())
    held = {name for pair, some in own.items() if not claim.owns(pair.cert) for name in some}
    entries, taken = by_name.assign(table.named, claim, names if named else (), names if unnamed else (), had, held)
    notes = [f"Postfix: {name} was served with {table.named[name].cert}; it is served with this lineage now." for name in taken]
    return Table(entries, by_name.shields(entries, own)), notes


def _told(
    claim: Claim,
    chosen: Sequence[Service],
    served: Sequence[Service],
    entries: Sequence[Entry],
    main: Main,
    table: Table,
    here: Place,
) -> list[str]:
    """What an admin should know of an install: of port 25, and of what is left out.

    :param served: of the chosen services, those that will serve the lineage.
    """
    notes = []
    incoming = [one for one in served if postfix_services.receives(one.entry)]
    running = [postfix_services.named(part, main) for one in incoming for part in one.running]
    found = [table.find(name) for name in by_name.keys(claim.names)]
    now = [one.to(here.our_map, entry) for one in running for entry in found]
    if any(not pair or not claim.owns(pair.cert) for pair in now):
        notes.append(
            "Postfix: port 25 gets another certificate. If the DNS has TLSA records for it (_25._tcp), servers that use "
            "DANE send no mail while these do not match its key: see to them at once."
        )
    if incoming:
        notes += postfix_services.client_notes(claim, incoming, main)
    edited = {part.entry.line for service in chosen for part in service.parts}
    for entry in entries:
        named = [entry.option(prefix + "cert_file") for prefix in (postfix_services.SMTPD, postfix_services.PROXY)]
        if entry.line not in edited and any(path and claim.owns(path) for path in named):
            notes.append(
                f"Postfix: {place(entry, here.master)} names a file of this certificate, but is not chosen by "
                "--dovecot-postfix-services: it will stay with that key when a new one is made."
            )
    return notes
