"""What the key gate asks, and what it says (rule D28); how it decides is :func:`certbot_dovecot.dane.gates.keys_held`.

Before the first write of any change of what the servers serve, it is worked out which owner names are concerned: the ports of
the servers that change, at the host names of the certificate that comes, of the certificates that go, and at the other names
under which this host is reached (rule D19).  The DNS is asked for these.  Where records count, the endpoint is asked what it
serves to clients of that name, and the configuration, as it would be, what they would get.

Most runs ask nothing: a renewal with the same key changes no configuration.  A host without TLSA records costs one look.

Raises :class:`~certbot_dovecot.problems.KeyHeld` if a key must stay, and any other
:class:`~certbot_dovecot.problems.Problem` if a server's configuration cannot be read; nothing was changed then.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import Enum
from shlex import quote
from typing import Optional

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from certbot_dovecot import bundle as bundles
from certbot_dovecot import files, jobs, store
from certbot_dovecot.dane import gates, standing, tlsa
from certbot_dovecot.dane.answers import Key, Owner, host_of, port_of
from certbot_dovecot.dane.gates import HeldKey, Hold, KeyChange
from certbot_dovecot.deploy.key_gate import KeyGate, Proposed
from certbot_dovecot.problems import ConfProblem, KeyHeld, Problem, sentence
from certbot_dovecot.rollover import addresses, owner_names
from certbot_dovecot.servers.contract import Served
from certbot_dovecot.servers.probe import Question
from certbot_dovecot.state import Options
from certbot_dovecot.watch import Way

#: Where nothing is known of a TTL: what most zones have at most, seconds.
_TTL = 86400


def of(way: Way) -> KeyGate:
    """The gate of this host."""

    def gate(proposed: Proposed) -> tuple[str, ...]:
        return check(way, proposed)

    return gate


def check(way: Way, proposed: Proposed) -> tuple[str, ...]:
    """Ask and decide.

    :returns: what is to be said of a change that is forced, full sentences.
    :raises Problem: as the module says.
    """
    if not proposed.edits:
        return ()
    proposed = replace(proposed, options=_chosen(way, proposed))
    if proposed.options.dane == "off":
        return ()
    try:
        held = _held(way, proposed)
    except ConfProblem as problem:
        held = _blind(way, proposed, problem)
    if not held:
        return ()
    if proposed.force:
        return tuple(dict.fromkeys(map(_warning, held)))
    raise _problem(proposed, held, _by_itself(way, proposed))


def _chosen(way: Way, proposed: Proposed) -> Options:
    """What the admin chose for this change and, of how the DNS is asked, for the lineages that are installed.

    :raises Problem: a record cannot be read.
    """
    records = [jobs.remembered(way.config_dir, name) for name in store.lineages(way.home)]
    installed = [record.options for record in records if record is not None and record.servers]
    chosen = proposed.options
    resolvers = [one.resolver for one in (chosen, *installed) if one.resolver]
    hosts = ",".join(dict.fromkeys(one.dane_hosts for one in (chosen, *installed) if one.dane_hosts))
    # A rollback is of no lineage: it asks unless nobody wants to know.
    off = not proposed.lineage and installed and all(one.dane == "off" for one in installed)
    return replace(chosen, resolver=resolvers[0] if resolvers else "", dane_hosts=hosts, dane="off" if off else chosen.dane)


def _held(way: Way, proposed: Proposed) -> tuple[HeldKey, ...]:
    chosen = proposed.options
    ports = {one.endpoint.port for server, _ in proposed.edits for one in server.look().every}
    hosts = owner_names.hosts_of(way, chosen, _names(proposed))
    owners = [f"_{port}._tcp.{host}." for host in hosts.every for port in sorted(ports)]
    if not owners:
        return ()
    survey = way.ask(chosen, owners)
    told = [owner for owner in survey.owners if standing.counts(owner) or standing.doubt(owner)]
    changes = _changes(way, proposed, told)
    pair = way.pair(proposed.lineage) if proposed.lineage else None
    evidence = pair.ledger.evidence if pair is not None else None
    if evidence is not None and evidence.stood:
        # What is gone may still be held by caches.
        gone = [owner for owner in survey.owners if owner not in told]
        changes = (*changes, *_changes(way, proposed, gone))
    return gates.keys_held(changes, survey, evidence, way.clock(), datetime.timedelta(hours=chosen.dane_floor))


def _blind(way: Way, proposed: Proposed, problem: ConfProblem) -> tuple[HeldKey, ...]:
    """What must stay where the configuration as it is cannot be read, so that it is not known who serves what.

    A change that mends it, a rollback mostly, must be possible where no record counts.

    :param problem: why it cannot be read.
    :raises Problem: a record cannot be read.
    """
    paths = []
    for lineage in store.lineages(way.home):
        record = jobs.remembered(way.config_dir, lineage)
        if record is not None and record.servers:
            paths.append(store.folder(way.home, record.options.store, lineage).cert(record.stem))
    added = proposed.options.dane_hosts.replace(",", " ").split()
    hosts = dict.fromkeys(name.lower() for name in (*proposed.names, *_names_in(paths), *added) if tlsa.is_host(name))
    survey = way.ask(proposed.options, [f"_{port}._tcp.{host}." for host in hosts for port in owner_names.WELL_KNOWN])
    broken = f"{problem.where}: {problem.what}"
    return tuple(
        HeldKey(one.name, one.place, Hold.UNKNOWN, standing.doubt(one) or f"{one.name} has TLSA records, and {broken}", None)
        for one in survey.owners
        if standing.counts(one) or standing.doubt(one)
    )


def _names(proposed: Proposed) -> list[str]:
    """Host names of the certificate that comes, and of those that are named now."""
    paths = [path for server, _ in proposed.edits for path in sorted({pair.cert for pair in server.look().pairs})]
    return list(dict.fromkeys(name.lower() for name in (*proposed.names, *_names_in(paths))))


def _names_in(paths: Iterable[str]) -> Iterable[str]:
    """Host names of the certificates in files.  One that cannot be read has none; what is served is asked all the same."""
    for path in paths:
        with contextlib.suppress(Problem):
            yield from bundles.names_of(bundles.leaf_of(files.read(path), path))


def _changes(way: Way, proposed: Proposed, owners: Sequence[Owner]) -> tuple[KeyChange, ...]:
    """What becomes of the keys at ``owners``; one an endpoint."""
    made: list[tuple[str, Served, Optional[Key]]] = []
    for host in dict.fromkeys(host_of(owner.name) for owner in owners):
        mine = {port_of(owner.name): owner.name for owner in owners if host_of(owner.name) == host}
        for server, edits in proposed.edits:
            before = server.look(host).every
            after = {one.endpoint: one.pair for one in server.preview(edits, host)}
            for one in before:
                if one.endpoint.port in mine:
                    coming = after.get(one.endpoint)
                    made.append((mine[one.endpoint.port], one, _key_in(proposed, coming.cert) if coming else None))
    asked = [(owner, one) for owner, one, _ in made]
    answers = way.ask_each([Question(one.endpoint, host_of(owner)) for owner, one in asked], addresses.SECONDS)
    found = []
    for (owner, one, key), answer in zip(made, answers):
        configured = _key_in(proposed, one.pair.cert, written=True) if one.pair else None
        found.append(KeyChange(owner, _parsed(answer.leaf) if answer.leaf else configured, key))
    return tuple(found)


def _key_in(proposed: Proposed, path: str, written: bool = False) -> Optional[Key]:
    """The key of the certificate in a file; None if it cannot be read.

    :param written: as it is on disk, whatever is to be written there.
    """
    try:
        data = None if written else proposed.coming.get(path)
        return Key(*bundles.digests_of(bundles.leaf_of(files.read(path) if data is None else data, path)))
    except Problem:
        return None


def _parsed(leaf: bytes) -> Optional[Key]:
    try:
        return Key(*bundles.digests_of(x509.load_der_x509_certificate(leaf)))
    except (ValueError, UnsupportedAlgorithm):
        return None


def _warning(held: HeldKey) -> str:
    """What is to be said of a change that is forced."""
    seconds = held.ttl or _TTL
    if held.hold is Hold.UNKNOWN:
        return f"The key changes, as you say, although it is not known what senders hold: {sentence(held.reason)}"
    return (
        f"The key changes, as you say: {sentence(held.reason)} Senders that check TLSA records (DANE) and have them in a cache "
        f"defer their mail for up to {seconds} s after the records match."
    )


class _Itself(Enum):
    """What ``certbot renew`` does by itself of a change that is held.

    ``NOTHING``: nothing.  ``DEPLOY``: it makes the change when that is proven.  ``SWITCH``: it changes to the key of the
    lineage that stands by when that is proven.
    """

    NOTHING = "nothing"
    DEPLOY = "deploy"
    SWITCH = "switch"


def _by_itself(way: Way, proposed: Proposed) -> _Itself:
    """What ``certbot renew`` does by itself.

    :raises Problem: a record or a leaf cannot be read.
    """
    pair = way.pair(proposed.lineage) if proposed.lineage and proposed.retried else None
    if pair is None or pair.serving.lineage.name != proposed.lineage or not pair.waits():
        return _Itself.NOTHING
    return _Itself.SWITCH if pair.standing_by() else _Itself.DEPLOY


def _problem(proposed: Proposed, held: Sequence[HeldKey], itself: _Itself) -> KeyHeld:
    """Why the change must not be made, and what makes it safe."""
    first = min(held, key=lambda one: list(Hold).index(one.hold))
    add = tuple(dict.fromkeys(_lines(held)))
    more = len({one.owner for one in held}) - 1
    others = f" (and {more} more owner name{'s' if more > 1 else ''})" if more else ""
    seconds = 2 * max([*(one.ttl for one in held), int(proposed.options.dane_floor * 1800)])
    hours = -(-seconds // 3600)
    if itself is _Itself.SWITCH and first.hold is not Hold.UNKNOWN:
        add = ()
        todo = (
            "certbot renew changes to the key of the lineage that stands by, as soon as its records are proven to be "
            f"everywhere; certbot-dovecot rollover {quote(proposed.lineage)} says what is missing for that"
        )
    elif itself is _Itself.DEPLOY and first.hold is not Hold.UNKNOWN:
        lead = f"Add to the DNS: {'; '.join(add)}. " if add and not proposed.options.publishes else ""
        todo = (
            f"{lead}certbot renew makes the change by itself when it has seen the records of both keys everywhere for {hours} "
            f"hours; to make it at once, which lets senders defer their mail: {proposed.again}"
        )
    elif first.hold is Hold.NEEDED and add:
        todo = (
            f"Add to the DNS: {'; '.join(add)}. When every name server has had these records for {hours} hours, make the "
            f"change with {proposed.again}"
        )
    elif first.hold is Hold.NEEDED:
        todo = f"It can be made all the same with {proposed.again}; senders that check TLSA records defer their mail then"
    elif first.hold is Hold.UNPROVEN:
        todo = f"If every name server has had the records of both keys for {hours} hours, make the change with {proposed.again}"
    elif first.hold is Hold.EARLY:
        todo = "Run it again after that time"
    else:
        todo = (
            "Mend that, then run it again. If no TLSA records are published for these hosts, make the change with "
            f"{proposed.again}"
        )
    return KeyHeld(
        "the key that clients get would change, and senders that check TLSA records (DANE) may not deliver: "
        f"{first.reason}{others}",
        left="Nothing was changed",
        todo=todo,
        add=add,
    )


def _lines(held: Iterable[HeldKey]) -> Iterable[str]:
    """Zone-file lines that are missing; only where a set is there already (rule D30)."""
    for one in held:
        if one.hold is Hold.NEEDED and one.after is not None:
            yield f"{one.place} {one.ttl or tlsa.TTL} IN TLSA 3 1 1 {one.after.sha256}"
