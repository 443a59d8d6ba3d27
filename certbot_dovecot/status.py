"""How things are on this host: what is installed, what every endpoint serves now, and what the DNS said of the keys.

It only looks: nothing is written, no lock is taken, and no server is told anything, so that it is safe at any time, also on a
file system that is mounted read-only, and without being root where the servers' configurations can be read.  What only root may
read is left out then, and said.

The DNS is not asked, unless that is wished; what is shown is what the last ``certbot renew`` found (``survey.json``).

Endpoints are asked for every lineage that the configuration names for them, by its name.  Where that would be more than
:data:`MOST` questions, every lineage is asked for at one endpoint of each server, and every endpoint for some lineages.

A lineage or a server that cannot be looked at is a finding, and the others are looked at.  Fails as a
:class:`~certbot_dovecot.problems.Problem` only if a lineage that is asked for is not there, or no record can be read at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Optional

from cryptography import x509

from certbot_dovecot import bundle as bundles
from certbot_dovecot import (
    files,
    glance,
    jobs,
    ledger,
    lineages,
    pairs,
    renewals,
    rotation,
    sharing,
    store,
    surroundings,
    watch,
)
from certbot_dovecot.dane import gates, rollover
from certbot_dovecot.dane.answers import Key, Owner, port_of
from certbot_dovecot.dane.rollover import Standing
from certbot_dovecot.health import Asked, Deployed, Leaf, Status
from certbot_dovecot.problems import NotInstalled, Problem
from certbot_dovecot.renewals import By
from certbot_dovecot.servers import discovery, probe
from certbot_dovecot.servers.contract import IMailServer, Served
from certbot_dovecot.servers.probe import Question
from certbot_dovecot.state import Options, State
from certbot_dovecot.watch import Way

#: Questions to endpoints, beyond which not every lineage is asked for at every endpoint.
MOST = 100
#: Seconds for all of them.
SECONDS = 10.0

_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


@dataclass(frozen=True)
class Wanted:
    """An endpoint to be asked for a lineage; parameters as for :class:`~certbot_dovecot.health.Asked`."""

    served: Served
    lineage: Optional[Deployed]
    sni: Optional[str]


def make(way: Way, names: Sequence[str] = (), every: bool = False, dns: bool = False) -> Status:
    """Look.

    :param names: lineages; empty for all that are installed.
    :param every: ask every endpoint for every lineage, however many that are.
    :param dns: ask the DNS now, also for keys that nobody looks after.
    :raises Problem: there is no such lineage.
    """
    found, options = _lineages(way, names)
    servers, failures, notes = _servers(way, [options[one.name] for one in found] or [Options()])
    ours = {one.name: _ours(way, one, options[one.name], servers) for one in found}
    named = {which: _folders(some) for which, some in servers.items()}
    found = tuple(
        replace(one, withdrawn=_withdrawn(way, one, options[one.name], named[_which(options[one.name])])) for one in found
    )
    found = tuple(_with_dns(way, one, ours[one.name], dns) for one in found)
    found = _with_renewals(way, found, options)
    rest = {each.endpoint: each for some in servers.values() for server in some for each in server.look().served}
    wanted, left_out = choose([(one, ours[one.name]) for one in found], sorted(rest.values(), key=str), every)
    notes += left_out
    notes += dict.fromkeys(note for one in found for note in one.dns_notes)
    endpoints = _ask(wanted, options)
    known = {one.name: {owner.name: owner for owner in one.owners} for one in found}
    endpoints = tuple(replace(one, dane=_standing(one, known.get(one.lineage, {}), found)) for one in endpoints)
    return Status(way.clock(), found, endpoints, failures, tuple(notes))


def _lineages(way: Way, names: Sequence[str]) -> tuple[tuple[Deployed, ...], dict[str, Options]]:
    """What is deployed, and the options of each."""
    lost = glance.gone(way.config_dir, way.home)
    found, options = [], {}
    for name in names or store.lineages(way.home):
        try:
            record = jobs.remembered(way.config_dir, name)
        except Problem as problem:
            found.append(Deployed(name, problem=str(problem)))
            options[name] = Options()
            continue
        if record is None or not (record.servers or record.installing):
            if not names:
                continue
            if record is None and lineages.load(way.config_dir, name) is None:
                raise jobs.missing(way.config_dir, name)
        record = record or State()
        options[name] = record.options
        found.append(_deployed(way, name, record, name in lost))
    return tuple(found), options


def _deployed(way: Way, name: str, record: State, lost: bool) -> Deployed:
    place = store.folder(way.home, record.options.store, name)
    lineage = lineages.load(way.config_dir, name)
    one = Deployed(
        name,
        servers=tuple(sorted({*record.servers, *record.installing})),
        stem=record.stem,
        year=record.years.get(record.spki),
        external=name.endswith(store.EXTERNAL),
        lost=lost,
        open=tuple(sorted({*record.installing, *record.reload, *record.verify})),
        publishes=record.options.publishes,
    )
    try:
        if record.stem:
            one = replace(one, leaf=_leaf(place.cert(record.stem)))
        # Without being root, certbot's own copy cannot be read: then nothing is said of it.
        if lineage is not None and os.access(lineage.source.cert, os.R_OK):
            live = _leaf(lineage.source.cert)
            one = replace(one, live=live.digest, leaf=one.leaf or live)
        return one
    except Problem as problem:
        return replace(one, problem=str(problem))


def _with_dns(way: Way, one: Deployed, ours: Sequence[Served], now: bool) -> Deployed:
    """With the standby, and what was found at the last look at the DNS, or is found now."""
    if not one.servers or one.problem:
        return one
    try:
        return _recalled(way, one, ours, now)
    except Problem as problem:
        return replace(one, problem=str(problem))


def _recalled(way: Way, one: Deployed, ours: Sequence[Served], now: bool) -> Deployed:
    place = store.folder(way.home, "", pairs.first_of(way.home, one.name))
    known = ledger.load(place)
    if known is None and not now:
        return one
    one = replace(one, standby=pairs.partner(way.home, one.name), asked=known.asked if known else None)
    other = lineages.load(way.config_dir, one.standby) if one.standby else None
    if other is not None and os.access(other.source.cert, os.R_OK):
        one = replace(one, standby_leaf=_leaf(other.source.cert))
    pair = way.pair(one.name) if one.live else None
    if pair is not None and now:
        seen = watch.look(way, pair, note=False)
        one = replace(one, owners=seen.survey.owners, step=seen.step, asked=seen.survey.at, dns_notes=seen.survey.notes)
        # What an address of this host serves is said of its endpoints.
        here = {served.endpoint.port for served in ours}
        elsewhere = [each for each in seen.survey.addresses if port_of(each.owner) not in here or not way.is_own(each.address)]
        one = replace(one, mismatches=gates.mismatches(replace(seen.survey, addresses=tuple(elsewhere))))
    elif one.asked is not None and (survey := ledger.survey_of(place)) is not None:
        one = replace(one, owners=survey.owners)
        if pair is not None:
            one = replace(one, step=watch.recall(pair, survey, {served.endpoint.port for served in ours}))
    if pair is None:
        return one
    return replace(one, due=rotation.is_due(pair.options.key_rotation, pair.since(), way.clock()))


def _with_renewals(way: Way, found: Sequence[Deployed], options: Mapping[str, Options]) -> tuple[Deployed, ...]:
    """With what the renewals of each do, by certbot's configuration as it is now."""
    if not any(one.servers for one in found):
        return tuple(found)
    settings, hook = surroundings.settings(way.config_dir, surroundings.HERE), surroundings.deploy_hook(way.config_dir)
    return tuple(_with_renewal(way, one, options[one.name], settings, hook) for one in found)


def _with_renewal(
    way: Way, one: Deployed, chosen: Options, settings: renewals.Settings, hook: renewals.Hook
) -> Deployed:
    """Likewise, for one."""
    parameters = lineages.parameters(way.config_dir, one.name)
    if not one.servers or one.external or one.problem or not parameters:
        return one
    renewing = renewals.judge(parameters, settings, hook)
    if chosen.reuse_key is False or str(parameters.get("reuse_key")).lower() == "false":
        # A new key at every renewal is what the admin wants.
        renewing = replace(renewing, keeps_key=True)
    one = replace(one, renewing=renewing, certbot=renewals.version(), dane_off=chosen.dane == "off")
    try:
        pair = way.pair(one.name) if one.live else None
        if pair is None or pair.serving.lineage.name != one.name:
            return one
        if one.owners and pair.standby is None and chosen.dane != "off":
            one = replace(one, stale=tuple(sharing.stale(one.owners, pair.serving.key(), pair.retired())))
        if renewing.by is By.INSTALLER:
            return one
        since = pair.since()
        return replace(one, since=since, due=rotation.is_due(chosen.key_rotation, since, way.clock()))
    except Problem as problem:
        return replace(one, problem=str(problem))


_Servers = dict[tuple[str, str, str], tuple[IMailServer, ...]]


def _servers(way: Way, chosen: Iterable[Options]) -> tuple[_Servers, tuple[tuple[str, str], ...], list[str]]:
    """The servers by the options that name them; those that cannot be looked at, with the reason; notes."""
    found: _Servers = {}
    failures: dict[str, str] = {}
    notes: dict[str, None] = {}
    for options in chosen:
        which = _which(options)
        if which in found:
            continue
        host = discovery.find(*which, way.run)
        usable = []
        for server in host.servers:
            try:
                view = server.look()
            except NotInstalled as problem:
                if not os.path.isdir(server.root):
                    raise
                failures[server.name] = str(problem)
            except Problem as problem:
                failures[server.name] = str(problem)
            else:
                usable.append(server)
                notes.update(dict.fromkeys(view.notes))
        found[which] = tuple(usable)
        notes.update(dict.fromkeys(host.notes))
    return found, tuple(failures.items()), list(notes)


def _which(options: Options) -> tuple[str, str, str]:
    return options.server_root, options.postfix_root, options.postfix_services


def _withdrawn(way: Way, one: Deployed, options: Options, named: Mapping[str, frozenset[str]]) -> tuple[str, ...]:
    """Servers that it is installed on by our record, and that do not name its files any more.

    :param named: name of a server to the folders that its configuration names files of.
    """
    folder = os.path.normpath(store.folder(way.home, options.store, one.name).path)
    return tuple(name for name in one.servers if name in named and folder not in named[name] and name not in one.open)


def _folders(servers: Sequence[IMailServer]) -> dict[str, frozenset[str]]:
    """Name of a server to the folders that its configuration names certificates in."""
    return {
        server.name: frozenset(os.path.dirname(os.path.normpath(pair.cert)) for pair in server.look().pairs)
        for server in servers
    }


def _ours(way: Way, one: Deployed, options: Options, servers: _Servers) -> list[Served]:
    """Endpoints for which the configuration names its files, for clients that ask for its name."""
    if not one.servers or one.leaf is None:
        return []
    place, sni = store.folder(way.home, options.store, one.name), probe.sni_for(one.leaf.names)
    served = [each for server in servers[_which(options)] for each in server.look(sni).served]
    return [each for each in served if each.pair and place.owns(each.pair.cert)]


def choose(
    ours: Sequence[tuple[Deployed, Sequence[Served]]], rest: Sequence[Served], every: bool
) -> tuple[list[Wanted], list[str]]:
    """Which endpoints are asked for which lineage, and a note of what is left out; pure.

    :param ours: lineages, and the endpoints that are configured with them.
    :param rest: every endpoint; those that no lineage is named for are asked as well, since an admin wants to see all ports.
    :param every: ask all combinations, however many these are.
    """
    by_lineage = [
        [Wanted(each, one, probe.sni_for(one.leaf.names) if one.leaf else None) for each in served] for one, served in ours
    ]
    seen = {one.served.endpoint for some in by_lineage for one in some}
    others = [Wanted(each, None, None) for each in rest if each.endpoint not in seen]
    total = sum(map(len, by_lineage))
    if every or total <= MOST:
        return [one for some in by_lineage for one in some] + others, []
    chosen = []
    for number, some in enumerate(by_lineage):
        for name in sorted({one.served.endpoint.server for one in some}):
            mine = [one for one in some if one.served.endpoint.server == name]
            chosen.append(mine[number % len(mine)])
    note = (
        f"{len(chosen)} of {total} combinations of lineage and endpoint were asked: every lineage at one endpoint of each "
        "server. To ask all: --all, or name a lineage."
    )
    return chosen + others, [note]


def _ask(wanted: Sequence[Wanted], options: Mapping[str, Options]) -> tuple[Asked, ...]:
    """Ask the endpoints."""
    seconds = min([SECONDS, *(each.probe_timeout for each in options.values())])
    questions = [Question(one.served.endpoint, one.sni, _algorithm(one.lineage)) for one in wanted]
    answers = probe.ask_each(questions, seconds)
    parsed: dict[bytes, Optional[Leaf]] = {}
    expected: dict[str, str] = {}
    found = []
    for one, answer in zip(wanted, answers):
        if answer.leaf is not None and answer.leaf not in parsed:
            parsed[answer.leaf] = _parsed(answer.leaf)
        pair = one.served.pair
        if one.lineage is not None and pair is not None and pair.cert not in expected:
            expected[pair.cert] = _digest(pair.cert)
        leaf = parsed.get(answer.leaf) if answer.leaf is not None else None
        error = answer.error or ("" if leaf else "it cannot be parsed")
        name = one.lineage.name if one.lineage else ""
        wanted_leaf = expected.get(pair.cert, "") if one.lineage and pair else ""
        found.append(Asked(one.served.endpoint, name, one.sni or "", wanted_leaf, leaf, error))
    return tuple(found)


def _standing(one: Asked, owners: Mapping[str, Owner], found: Sequence[Deployed]) -> Optional[Standing]:
    """What the records for an endpoint mean for the key that it serves, of all names of its lineage the worst."""
    lineage = next((each for each in found if each.name == one.lineage), None)
    if one.leaf is None or lineage is None or lineage.asked is None:
        return None
    mine = [owner for owner in owners.values() if owner.port == one.endpoint.port]
    order = (Standing.MISMATCH, Standing.PARTLY, Standing.DOUBT, Standing.MATCH, Standing.NONE)
    return min((rollover.standing(owner, one.leaf.key) for owner in mine), key=order.index, default=None)


def _algorithm(lineage: Optional[Deployed]) -> Optional[str]:
    return lineage.leaf.algorithm.split(" ")[0].lower() if lineage and lineage.leaf else None


def _digest(path: str) -> str:
    try:
        return bundles.digest_of(bundles.leaf_of(files.read(path), path))
    except Problem:
        return ""


def _leaf(path: str) -> Leaf:
    """The first certificate of a file.

    :raises Problem: it cannot be read.
    """
    return describe(bundles.leaf_of(files.read(path), path))


def _parsed(der: bytes) -> Optional[Leaf]:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return describe(x509.load_der_x509_certificate(der))
    except (ValueError, UnsupportedAlgorithm, Problem):
        return None


def describe(certificate: x509.Certificate) -> Leaf:
    """What we say of a certificate."""
    algorithm, parameter = bundles.kind_of(certificate)
    start, end = bundles.validity(certificate)
    shown = f"{algorithm.upper()} {_CURVES.get(parameter, parameter)}"
    key = Key(*bundles.digests_of(certificate))
    return Leaf(bundles.names_of(certificate), bundles.digest_of(certificate), key, shown, start, end)
