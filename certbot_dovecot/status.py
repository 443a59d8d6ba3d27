"""How things are on this host: what is installed, what every endpoint serves now, and what the DNS said of the keys.

It only looks: nothing is written, no lock is taken, and no server is told anything, so that it is safe at any time, also on a
file system that is mounted read-only, and without being root where the servers' configurations can be read.  What only root may
read is left out then, and said.

The DNS is not asked, unless that is wished; what is shown is what the last ``certbot renew`` found (``survey.json``).

What is installed is what a configuration names, whatever our record says: a lineage that certbot has deleted is shown for as
long as a server names its files.  Every endpoint is asked without a name, and for every name of every lineage that it serves
(:mod:`certbot_dovecot.monitoring.questions` has the limits); what is served there is judged whosever it is (rules R13 and R17).

A lineage or a server that cannot be looked at is a finding, and the others are looked at.  Fails as a
:class:`~certbot_dovecot.problems.Problem` only if a lineage that is asked for is not there, or no record can be read at all.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Optional

from certbot_dovecot import jobs, ledger, lineages, pairs, renewals, rotation, seen, sharing, store, surroundings, watch
from certbot_dovecot.dane import gates, standing
from certbot_dovecot.dane.answers import Owner, host_of, port_of
from certbot_dovecot.dane.standing import Standing
from certbot_dovecot.monitoring import findings, leaves, questions, remedies
from certbot_dovecot.monitoring.keepers import Keepers, origin
from certbot_dovecot.monitoring.model import Asked, Deployed, Leaf, Status
from certbot_dovecot.monitoring.questions import Wanted
from certbot_dovecot.problems import NotInstalled, Problem
from certbot_dovecot.renewals import By
from certbot_dovecot.servers import discovery, probe
from certbot_dovecot.servers.contract import Endpoint, IMailServer, Served
from certbot_dovecot.servers.probe import Question
from certbot_dovecot.state import Options, State
from certbot_dovecot.store import Folder
from certbot_dovecot.watch import Way

#: Seconds for all questions.
SECONDS = 10.0


@dataclass(frozen=True)
class _Installation:
    """A lineage with our record of it.

    :param servers: those of its options.
    :param naming: names of the servers whose configuration names its files.
    """

    name: str
    record: State
    place: Folder
    servers: tuple[IMailServer, ...]
    naming: frozenset[str]

    @property
    def installed(self) -> tuple[str, ...]:
        """Names of the servers that serve it, by our record or by their configuration."""
        return tuple(sorted({*self.record.servers, *self.record.installing, *self.naming}))

    @property
    def open(self) -> tuple[str, ...]:
        """Names of the servers that are still to be reloaded or proven."""
        return tuple(sorted({*self.record.installing, *self.record.reload, *self.record.verify}))

    @property
    def withdrawn(self) -> tuple[str, ...]:
        """Names of the servers that it is installed on by our record, and that do not name its files any more."""
        looked_at = {server.name for server in self.servers}
        return tuple(name for name in self.record.servers if name in looked_at - self.naming - set(self.open))

    @property
    def once(self) -> tuple[str, ...]:
        """The same, with those of which the admin was told already."""
        return tuple(sorted({*self.withdrawn, *self.record.withdrawn} - self.naming))


def make(way: Way, names: Sequence[str] = (), every: bool = False, dns: bool = False) -> Status:
    """Look.

    :param names: lineages; empty for all that are installed.
    :param every: ask every endpoint for every name, however many that are.
    :param dns: ask the DNS now, also for keys that nobody looks after.
    :raises Problem: there is no such lineage.
    """
    others = _others(way, names)
    records, damaged = _records(way, names, others.values())
    held = [one.options for one in records.values() if one.servers or one.installing or one.withdrawn]
    chosen = held + [records[name].options for name in names if name in records]
    servers, failures, dark, notes = _servers(way, chosen or [Options()])
    all_of_them = [_installation(way, name, record, servers) for name, record in records.items()]
    here = {one.name for one in all_of_them if one.installed}
    instead = {name: other for name, other in others.items() if other in here and name not in here}
    shown = {one.name: one for one in all_of_them if one.name in here or (one.name in names and one.name not in instead)}
    notes = [*(pairs.told(name, other) for name, other in instead.items()), *notes]
    found = {name: _deployed(way, one) for name, one in shown.items()}
    ours = {name: _ours(shown[name], one) for name, one in found.items()}
    found = {name: _with_dns(way, shown[name], one, ours[name], dns) for name, one in found.items()}
    found = _with_renewals(way, found, {name: one.record.options for name, one in shown.items()})
    notes += dict.fromkeys(note for one in found.values() for note in one.dns_notes)
    once = {one.name: found.get(one.name) or _deployed(way, one) for one in all_of_them if one.once}
    endpoints, unasked = _look(way, all_of_them, found, once, ours, servers, every)
    if unasked:
        notes.append(
            f"{len(endpoints)} of {len(endpoints) + unasked} combinations of name and endpoint were asked. To ask all: --all, "
            "or name a lineage."
        )
    known = {name: _own(shown[name], one.owners, ours[name]) for name, one in found.items()}
    unread = [(server.name, table) for some in servers.values() for server in some for table in server.look().unread]
    deployed = tuple(sorted([*damaged, *found.values()], key=lambda one: one.name))
    endpoints = tuple(replace(one, dane=_standing(one, known.get(one.lineage, ()), deployed)) for one in endpoints)
    made = Status(
        way.clock(),
        deployed,
        endpoints,
        failures,
        once=tuple((server, once[one.name]) for one in all_of_them for server in one.once),
        unasked=unasked,
        dns=dns,
        dark=dark,
        chosen=tuple(names),
        unread=tuple(dict.fromkeys(unread)),
    )
    return replace(made, notes=(*notes, *findings.tables(made)))


def _others(way: Way, names: Iterable[str]) -> dict[str, str]:
    """Lineage to the other one of its pair, of those that are in one; what cannot be read is told by :func:`_with_dns`."""
    found = {}
    for name in names:
        with contextlib.suppress(Problem):
            found[name] = pairs.partner(way.home, name)
    return {name: other for name, other in found.items() if other}


def _records(way: Way, names: Sequence[str], others: Iterable[str]) -> tuple[dict[str, State], list[Deployed]]:
    """The records of ``names`` and ``others``, or of all lineages; and what is said of those that cannot be read."""
    records, damaged = {}, []
    for name in dict.fromkeys([*names, *others]) if names else store.lineages(way.home):
        try:
            record = jobs.remembered(way.config_dir, name)
        except Problem as problem:
            damaged.append(Deployed(name, problem=str(problem)))
            continue
        if record is None and name in names and lineages.load(way.config_dir, name) is None:
            raise jobs.missing(way.config_dir, name)
        records[name] = record or State()
    return records, damaged


def _installation(way: Way, name: str, record: State, servers: _Servers) -> _Installation:
    place = store.folder(way.home, record.options.store, name)
    mine = servers.get(_which(record.options))
    if mine is None:
        # Not installed by our record: any server may name its files all the same.
        mine = tuple(server for some in servers.values() for server in some)
    naming = frozenset(server.name for server in mine if _names(server, place, record))
    return _Installation(name, record, place, mine, naming)


def _names(server: IMailServer, place: Folder, record: State) -> bool:
    """Whether a server's configuration names a lineage's files; by our record, where this user may not read all of it."""
    view = server.look()
    return any(place.owns(pair.cert) for pair in view.pairs) or bool(view.unread and server.name in record.servers)


def _deployed(way: Way, known: _Installation) -> Deployed:
    record, name = known.record, known.name
    lineage = lineages.load(way.config_dir, name)
    external = name.endswith(store.EXTERNAL)
    one = Deployed(
        name,
        servers=known.installed,
        stem=record.stem,
        year=record.years.get(record.spki),
        external=external,
        lost=not external and lineages.is_deleted(way.config_dir, name),
        open=known.open,
        withdrawn=known.withdrawn,
        publishes=record.options.publishes,
        dane_off=record.options.dane == "off",
    )
    try:
        if record.stem:
            one = replace(one, leaf=leaves.read(known.place.cert(record.stem)))
        # Without being root, certbot's own copy cannot be read: then nothing is said of it.
        if lineage is not None and os.access(lineage.source.cert, os.R_OK):
            live = leaves.read(lineage.source.cert)
            one = replace(one, live=live.digest, leaf=one.leaf or live)
        return one
    except Problem as problem:
        return replace(one, problem=str(problem))


def _with_dns(way: Way, known: _Installation, one: Deployed, ours: Sequence[Served], now: bool) -> Deployed:
    """With the standby, and what was found at the last look at the DNS, or is found now."""
    if one.problem:
        return one
    try:
        if one.servers:
            return _recalled(way, known, one, ours, now)
        # Where the record of its pair cannot be read, nobody knows what is installed in its place.
        first = pairs.first_of(way.home, one.name)
        there = first != one.name and lineages.load(way.config_dir, first) is not None
        return replace(one, first=first if there else "")
    except Problem as problem:
        return replace(one, problem=str(problem))


def _recalled(way: Way, known: _Installation, one: Deployed, ours: Sequence[Served], now: bool) -> Deployed:
    place = store.folder(way.home, "", pairs.first_of(way.home, one.name))
    noted = ledger.load(place)
    if noted is None and not now:
        return one
    one = replace(one, standby=pairs.partner(way.home, one.name), asked=noted.asked if noted else None)
    other = lineages.load(way.config_dir, one.standby) if one.standby else None
    if other is not None and os.access(other.source.cert, os.R_OK):
        one = replace(one, standby_leaf=leaves.read(other.source.cert))
    pair = way.pair(one.name) if one.live else None
    if pair is not None and now:
        seen = watch.look(way, pair, note=False)
        one = replace(one, owners=seen.survey.owners, step=seen.step, asked=seen.survey.at, dns_notes=seen.survey.notes)
        one = replace(one, looked_up=True)
        # What an address of this host serves is said of its endpoints.
        here = {served.endpoint.port for served in ours}
        elsewhere = [each for each in seen.survey.addresses if port_of(each.owner) not in here or not way.is_own(each.address)]
        one = replace(one, mismatches=gates.mismatches(replace(seen.survey, addresses=tuple(elsewhere))))
    elif one.asked is not None and (survey := ledger.survey_of(place)) is not None:
        one = replace(one, owners=survey.owners)
        if pair is not None:
            own = {owner.name for owner in _own(known, survey.owners, ours)}
            one = replace(one, step=watch.recall(pair, survey, {served.endpoint.port for served in ours}, own))
    if pair is None:
        return one
    return replace(one, due=rotation.is_due(pair.options.key_rotation, pair.since(), way.clock()))


def _with_renewals(way: Way, found: Mapping[str, Deployed], options: Mapping[str, Options]) -> dict[str, Deployed]:
    """With what the renewals of each do, by certbot's configuration as it is now."""
    if not any(one.servers for one in found.values()):
        return dict(found)
    settings, hook = surroundings.settings(way.config_dir, surroundings.HERE), surroundings.deploy_hook(way.config_dir)
    return {name: _with_renewal(way, one, options[name], settings, hook) for name, one in found.items()}


def _with_renewal(way: Way, one: Deployed, chosen: Options, settings: renewals.Settings, hook: renewals.Hook) -> Deployed:
    """Likewise, for one."""
    parameters = lineages.parameters(way.config_dir, one.name)
    if not one.servers or one.external or one.problem or not parameters:
        return one
    renewing = renewals.judge(parameters, settings, hook)
    if chosen.reuse_key is False or str(parameters.get("reuse_key")).lower() == "false":
        # A new key at every renewal is what the admin wants.
        renewing = replace(renewing, keeps_key=True)
    one = replace(one, renewing=renewing, certbot=renewals.version())
    try:
        pair = way.pair(one.name) if one.live else None
        if pair is None or pair.serving.lineage.name != one.name:
            return one
        if one.owners and pair.standby is None and chosen.dane != "off":
            one = replace(one, stale=tuple(sharing.stale(one.owners, pair.current(), pair.retired())))
        if renewing.by is By.INSTALLER:
            return one
        since = pair.since()
        return replace(one, since=since, due=rotation.is_due(chosen.key_rotation, since, way.clock()))
    except Problem as problem:
        return replace(one, problem=str(problem))


_Servers = dict[tuple[str, str, str], tuple[IMailServer, ...]]


def _servers(
    way: Way, chosen: Iterable[Options]
) -> tuple[_Servers, tuple[tuple[str, str], ...], tuple[Endpoint, ...], list[str]]:
    """The servers by the options that name them; those that cannot be looked at, with the reason; endpoints likewise; notes."""
    found: _Servers = {}
    failures: dict[str, str] = {}
    dark: dict[Endpoint, None] = {}
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
                dark.update(dict.fromkeys(each.endpoint for each in view.unasked))
        found[which] = tuple(usable)
        notes.update(dict.fromkeys(host.notes))
    return found, tuple(failures.items()), tuple(dark), list(notes)


def _which(options: Options) -> tuple[str, str, str]:
    return options.server_root, options.postfix_root, options.postfix_services


def _ours(known: _Installation, one: Deployed) -> list[Served]:
    """Endpoints for which the configuration names its files, for clients that ask for the first name that it is served for."""
    if not one.servers or one.leaf is None:
        return []
    return [each for each in _served(known, _main(known, one.leaf)) if _is_ours(known, each)]


def _main(known: _Installation, leaf: Leaf) -> Optional[str]:
    return seen.name_of(known.servers, leaf.names, known.place.owns)


def _served(known: _Installation, sni: Optional[str]) -> list[Served]:
    return [each for server in known.servers for each in server.look(sni).served]


def _is_ours(known: _Installation, served: Served) -> bool:
    return served.pair is not None and known.place.owns(served.pair.cert)


def _would_be_ours(known: _Installation, served: Served) -> bool:
    """Whether its files are configured, be it that a table of somebody else's decides."""
    over = served.table.over if served.table else None
    return _is_ours(known, served) or (over is not None and known.place.owns(over.cert))


def _look(
    way: Way,
    known: Sequence[_Installation],
    found: Mapping[str, Deployed],
    once: Mapping[str, Deployed],
    ours: Mapping[str, Sequence[Served]],
    servers: _Servers,
    every: bool,
) -> tuple[tuple[Asked, ...], int]:
    """Ask the endpoints; and how many questions were not asked.

    :param known: all lineages that there are records of.
    :param found: those that are shown.
    :param once: those that a server does not name any more.
    :param ours: the endpoints that are configured with them, for clients that ask for the first name that each is served for.
    """
    shown = [one for one in known if one.name in found]
    owners = {os.path.normpath(one.place.path): found[one.name] for one in shown}
    wanted, unasked = _questions(shown, found, ours, servers, owners, every)
    asked = _ask(wanted, [one.record.options for one in shown])
    keepers = Keepers(way.config_dir, {one.place.path: one.name for one in known})
    asked = [replace(one, keeper=keepers.of(one.leaf.digest, one.path)) if _foreign(one) and one.leaf else one for one in asked]
    usable = {server.name: server for some in servers.values() for server in some}
    return tuple(_with_remedy(one, usable, known, {**once, **found}) for one in asked), unasked


def _questions(
    shown: Sequence[_Installation],
    found: Mapping[str, Deployed],
    ours: Mapping[str, Sequence[Served]],
    servers: _Servers,
    owners: Mapping[str, Deployed],
    every: bool,
) -> tuple[list[Wanted], int]:
    """What is asked, and how many questions are not.

    :param owners: folder to whose it is.
    """

    def owner(served: Served) -> Optional[Deployed]:
        return owners.get(os.path.dirname(os.path.normpath(served.pair.cert))) if served.pair else None

    rest = {each.endpoint: each for some in servers.values() for server in some for each in server.look().served}
    bare = [Wanted(each, owner(each), None) for each in sorted(rest.values(), key=str)]
    first: list[list[Wanted]] = []
    further: list[tuple[_Installation, str]] = []
    for known in shown:
        one = found[known.name]
        hosts = [sni for name in (one.leaf.names if one.leaf and one.servers else ()) if (sni := probe.sni_for([name]))]
        main = _main(known, one.leaf) if one.leaf else None
        first.append([Wanted(each, one, main, known.name if main else "") for each in ours[known.name]])
        further += [(known, host) for host in dict.fromkeys(hosts)]
    looked = further if every else questions.spread(further, questions.MOST)
    unlooked = sum(len(_served(known, None)) for known, _ in further) - sum(len(_served(known, None)) for known, _ in looked)
    # A name is asked for where its lineage is served to anybody: elsewhere, the admin's own certificate stays (rule R14).
    here = {known.name: {each.endpoint for each in ours[known.name]} for known in shown}
    for known in shown:
        here[known.name] |= {one.served.endpoint for one in bare if one.lineage is found[known.name]}
    seen = {(one.served.endpoint, one.sni) for some in first for one in some}
    views = [(known, name, _served(known, name)) for known, name in looked]
    for known, _, served in views:
        here[known.name] |= {each.endpoint for each in served if _would_be_ours(known, each)}
    names: list[list[Wanted]] = []
    for known, name, served in views:
        group = [each for each in served if each.endpoint in here[known.name] and (each.endpoint, name) not in seen]
        seen |= {(each.endpoint, name) for each in group}
        names.append([Wanted(each, owner(each), name, known.name) for each in group])
    chosen, left_out = questions.choose(first, bare, names, every)
    return chosen, left_out + unlooked


def _ask(wanted: Sequence[Wanted], options: Sequence[Options]) -> list[Asked]:
    """Ask the endpoints."""
    seconds = min([SECONDS, *(each.probe_timeout for each in options)])
    asked = [Question(one.served.endpoint, one.sni, _algorithm(one.lineage)) for one in wanted]
    answers = probe.ask_each(asked, seconds)
    parsed: dict[bytes, Optional[Leaf]] = {}
    expected: dict[str, str] = {}
    found = []
    for one, answer in zip(wanted, answers):
        if answer.leaf is not None and answer.leaf not in parsed:
            parsed[answer.leaf] = leaves.parse(answer.leaf)
        leaf = parsed.get(answer.leaf) if answer.leaf is not None else None
        path = one.served.pair.cert if one.served.pair else ""
        if one.lineage is None and leaf is not None:
            path = origin([*one.served.others, *([path] if path else [])], leaf.digest)
        elif one.lineage is not None and path not in expected:
            expected[path] = leaves.digest(path)
        found.append(
            Asked(
                one.served.endpoint,
                one.lineage.name if one.lineage else "",
                one.sni or "",
                expected[path] if one.lineage else "",
                leaf,
                answer.error or ("" if leaf else "it cannot be parsed"),
                whose=one.whose,
                path=path,
                table=one.served.table,
            )
        )
    return found


def _foreign(one: Asked) -> bool:
    """Whether something is to be told of what was served that is not about the lineage which the configuration names."""
    return one.leaf is not None and (not one.lineage or not one.covered)


def _with_remedy(
    one: Asked, servers: Mapping[str, IMailServer], known: Sequence[_Installation], found: Mapping[str, Deployed]
) -> Asked:
    """With where the configuration names what is served, and whose install would change that."""
    server = servers.get(one.endpoint.server)
    if server is not None and one.lineage and one.leaf is not None and not one.expects:
        # Of two with keys of one algorithm, a server has the last only.
        instead = next((path for path in server.look().others if leaves.digest(path) == one.leaf.digest), "")
        one = replace(one, instead=instead, places=remedies.places(server, instead))
    if not _foreign(one) or server is None or one.instead:
        return one
    mine = [each for each in known if each.name in found and one.whose in ("", each.name)]
    mine = [each for each in mine if one.endpoint.server in (*each.installed, *each.once)]
    healing = next((each.name for each in mine if _heals(each, found[each.name], server, one)), "")
    places = remedies.places(server, one.path)
    if one.table is not None and not places:
        places = (one.table.where,)
    return replace(one, places=places, heals=healing)


def _heals(known: _Installation, one: Deployed, server: IMailServer, asked: Asked) -> bool:
    """Whether to install a lineage again would have the endpoint serve it."""
    if one.external or one.lost or not known.record.stem or one.leaf is None:
        return False
    return remedies.heals(server, known.place, known.record.stem, one.leaf.names, asked.sni or None, [asked.endpoint])


def _own(known: _Installation, owners: Sequence[Owner], ours: Sequence[Served]) -> list[Owner]:
    """Those of the owner names whose clients do not get another certificate than the lineage's."""
    hosts = dict.fromkeys(host_of(owner.name) for owner in owners)
    elsewhere = seen.elsewhere(hosts, ours, lambda host: _served(known, host), known.place.owns)
    return [owner for owner in owners if owner.name not in elsewhere]


def _standing(one: Asked, owners: Sequence[Owner], found: Sequence[Deployed]) -> Optional[Standing]:
    """What the records for an endpoint mean for the key that it serves, of all names of its lineage the worst."""
    lineage = next((each for each in found if each.name == one.lineage), None)
    if one.leaf is None or lineage is None or lineage.asked is None:
        return None
    mine = [owner for owner in owners if owner.port == one.endpoint.port]
    order = (Standing.MISMATCH, Standing.PARTLY, Standing.DOUBT, Standing.MATCH, Standing.NONE)
    return min((standing.of(owner, one.leaf.key) for owner in mine), key=order.index, default=None)


def _algorithm(lineage: Optional[Deployed]) -> Optional[str]:
    return lineage.leaf.algorithm.split(" ")[0].lower() if lineage and lineage.leaf else None
