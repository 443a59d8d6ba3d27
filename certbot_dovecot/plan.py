"""What would be done, and why: looking and deciding, before the first write.

:func:`make` checks the bundle, looks at the servers, asks the endpoints what they serve now, and computes every byte that an
install or a renewal would write.  It writes nothing.  The deed, :mod:`certbot_dovecot.reconcile`, carries a plan out; a command
that only shows one ends here.

Fails as a :class:`~certbot_dovecot.problems.Problem`, with nothing changed.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Callable, Optional

from certbot_dovecot import bundle as bundles
from certbot_dovecot import files, rotation, seen, state, store
from certbot_dovecot.bundle import Bundle, Source
from certbot_dovecot.deploy import verify
from certbot_dovecot.deploy.key_gate import Proposed
from certbot_dovecot.files import Edit, Signature
from certbot_dovecot.problems import Problem
from certbot_dovecot.servers import probe
from certbot_dovecot.servers.contract import Claim, Endpoint, IMailServer, Pair, Planned, View
from certbot_dovecot.servers.probe import Answer
from certbot_dovecot.state import Options, State
from certbot_dovecot.store import Folder

#: Of the names of a certificate, so many are asked for where an admin has it proven.
_OTHERS = 100


@dataclass(frozen=True)
class Job:
    """One lineage to be brought to the servers.

    :param lineage: its name, and its folder's.
    :param source: the files it holds now.
    :param options: what the admin chose.
    :param history: gives (SPKI, start of validity) of its archived certificates, to tell a key's year.
    :param before: the lineage's SPKI before this run may have issued a certificate, empty for a new lineage; None if it is not
        known.  A key that is another one now was made by this run, whatever its certificate's dates say.
    :param explicit: true for ``run`` and ``install``: add it to every server.
    :param replaces: name of the lineage whose place it takes, on every server that serves that one; empty for none.
    :param following: SPKI of the key that comes next, for the TLSA data; empty for none.
    :param retried: whether the next ``certbot renew`` tries again what could not be proven.
    :param prove: ask every endpoint even if all files are as they should be, and reload a server that serves something else.
    :param force: whatever the key gate says (rule D28).
    :param again: what the admin runs to do so, for messages.
    """

    lineage: str
    source: Source
    options: Options
    history: Callable[[], Sequence[tuple[str, datetime.datetime]]] = tuple
    explicit: bool = False
    before: Optional[str] = None
    replaces: str = ""
    following: str = ""
    retried: bool = True
    prove: bool = False
    force: bool = False
    again: str = "--force"


@dataclass(frozen=True)
class Target:
    """A server that shall serve the lineage, as it was found.

    :param edits: what its configuration needs; empty if it names the pair already.
    :param running: whether its master process runs.
    :param before: what its endpoints served.
    """

    server: IMailServer
    view: View
    edits: tuple[Edit, ...]
    running: bool
    before: tuple[Answer, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Everything that is known and decided before the first write.

    :param was: the record as it was; None for a lineage that we know nothing of.
    :param signature: of the source files, taken before they were read.
    :param stem: the key's name in the store.
    :param store_edits: the key, then the combined file; empty if both are there.
    :param reload: names of the targets to be reloaded.
    :param verify: names of the targets to be proven on the wire.
    :param sni: the host name that endpoints are asked for.
    :param withdrawn: servers that no longer name our files, to be left alone.
    :param broken: servers that the lineage is installed on and whose own tools refuse now, with the reason.
    :param notes: what the admin should know of the edits, full sentences.
    """

    job: Job
    place: Folder
    was: Optional[State]
    bundle: Bundle
    signature: Signature
    stem: str
    years: tuple[tuple[str, int], ...]
    targets: tuple[Target, ...]
    store_edits: tuple[Edit, ...]
    reload: frozenset[str]
    verify: frozenset[str]
    sni: Optional[str]
    withdrawn: tuple[str, ...] = ()
    broken: tuple[tuple[str, Problem], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def pair(self) -> Pair:
        """The files that every target's configuration names in the end."""
        return Pair(self.place.cert(self.stem), self.place.key(self.stem))

    @property
    def installing(self) -> frozenset[str]:
        """Names of the targets that the lineage is added to, rather than kept on."""
        return frozenset(t.server.name for t in self.targets if _adds(self.job, self.was, t.server.name))

    def again(self, server: IMailServer) -> tuple[Edit, ...]:
        """The edits of ``server``, computed again from what its files are now."""
        return server.plan(_claim(self.place, self.pair, self.bundle, server.name in self.installing)).edits

    def proposed(self) -> Proposed:
        """What the key gate is asked: the servers of which an endpoint may get another key."""

        def may_change(target: Target) -> bool:
            ours = {served.endpoint for served in target.view.served if served.pair == self.pair}
            return bool(target.edits) or any(
                answer.endpoint in ours and answer.spki != self.bundle.spki for answer in target.before if answer.leaf
            )

        return Proposed(
            self.job.lineage,
            self.job.options,
            tuple(self.bundle.names),
            tuple((target.server, target.edits) for target in self.targets if may_change(target)),
            {self.pair.cert: self.bundle.combined},
            self.job.again,
            self.job.force,
            self.job.retried,
        )

    @property
    def down(self) -> frozenset[str]:
        """Names of the targets that do not run."""
        return frozenset(target.server.name for target in self.targets if not target.running)

    @property
    def sick(self) -> frozenset[Endpoint]:
        """Endpoints that served no certificate at all before anything was changed."""
        return frozenset(answer.endpoint for target in self.targets for answer in target.before if answer.leaf is None)

    @property
    def degraded(self) -> bool:
        """Whether something was down or broken before: what cannot be proven then is no reason to go back."""
        return bool(self.down or self.sick or self.broken)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to write, to reload or to prove."""
        return not (self.store_edits or self.reload or self.verify or any(target.edits for target in self.targets))


def make(
    servers: Sequence[IMailServer], home: str, job: Job, now: datetime.datetime, ask: bool = True
) -> Optional[Plan]:
    """Look and decide.

    :param home: ``CONFIG_DIR/dovecot``.
    :param ask: ask the endpoints what they serve; without it no server needs to run.
    :returns: None if the lineage is installed nowhere and is not to be.
    :raises Problem: something is wrong that must be mended first; nothing was changed.
    """
    place = store.folder(home, job.options.store, job.lineage, job.replaces)
    was = state.load(place.state)
    views, targets, withdrawn, broken = _survey(servers, place, was, job)
    if not targets and not broken and not withdrawn:
        return None
    signature = files.sign(job.source.paths)
    bundle = bundles.read(job.source, now)
    stem, years = _stem(job, was, place, bundle, now)
    pair = Pair(place.cert(stem), place.key(stem))
    looked = {server.name: server for server in servers if server.name in views}
    # An install takes every name; a renewal takes none from a lineage that was installed later.
    sni = probe.sni_for(bundle.names) if job.explicit else seen.name_of(looked.values(), bundle.names, place.owns)
    views = {name: server.look(sni) for name, server in looked.items()}
    planned = [(server, server.plan(_claim(place, pair, bundle, _adds(job, was, server.name)))) for server in targets]
    notes = tuple(note for _, made in planned for note in made.notes)
    # A server without a single TLS endpoint (Postfix without a submission service) has nothing to install into, nor has one
    # whose services keep the certificates of others.
    planned = [(server, made) for server, made in planned if made.edits or _names(views[server.name], place)]
    decided = _decide(job, place, was, bundle, signature, (stem, years), planned, views, sni, (withdrawn, broken), ask)
    return replace(decided, notes=notes)


def would_serve(
    server: IMailServer, place: Folder, pair: Pair, names: Sequence[str], sni: Optional[str]
) -> dict[Endpoint, Optional[Pair]]:
    """What every endpoint of ``server`` would name after an explicit install; nothing is written.

    :param place: the lineage's folder.
    :param pair: its files there.
    :param names: of its certificate.
    :param sni: the name that clients ask for; None for none.
    :raises Problem: the install would be refused.
    """
    claim = Claim(pair, tuple(names), True, place.owns, place.is_another, _covers)
    return {one.endpoint: one.pair for one in server.preview(server.plan(claim).edits, sni)}


def concerns(servers: Sequence[IMailServer], home: str, job: Job) -> bool:
    """Whether there is anything to plan: the lineage is on a server, was, or is to be.

    :raises Problem: as :func:`make`.
    """
    place = store.folder(home, job.options.store, job.lineage, job.replaces)
    return any(_survey(servers, place, state.load(place.state), job)[1:])


def _survey(
    servers: Sequence[IMailServer], place: Folder, was: Optional[State], job: Job
) -> tuple[dict[str, View], list[IMailServer], tuple[str, ...], tuple[tuple[str, Problem], ...]]:
    """What the servers are configured with; those that shall serve the lineage, those that no longer do, those that refuse."""
    views, refused = _look(servers)
    if job.explicit and refused:
        raise next(iter(refused.values()))
    targets = [server for server in servers if server.name in views and _concerns(job, was, place, server.name, views)]
    before = was.servers if was else ()
    broken = tuple((name, problem) for name, problem in refused.items() if name in before)
    withdrawn = tuple(name for name in before if name in views and name not in [server.name for server in targets])
    return views, targets, withdrawn, broken


def _claim(place: Folder, pair: Pair, bundle: Bundle, explicit: bool) -> Claim:
    """What the lineage wants of a configuration."""
    return Claim(pair, tuple(bundle.names), explicit, place.owns, place.is_another, _covers)


def leaving(place: Folder) -> Claim:
    """The claim of a lineage that is to be taken out of what several lineages share."""
    return Claim(Pair("", ""), (), False, place.owns, place.is_another, _covers)


def _covers(path: str) -> Optional[frozenset[str]]:
    """The names of the certificate in a file, lower case; None if that cannot be told."""
    try:
        return frozenset(name.lower() for name in bundles.names_of(bundles.leaf_of(files.read(path), path)))
    except Problem:
        return None


def _look(servers: Sequence[IMailServer]) -> tuple[dict[str, View], dict[str, Problem]]:
    views: dict[str, View] = {}
    refused: dict[str, Problem] = {}
    for server in servers:
        try:
            views[server.name] = server.look()
        except Problem as problem:
            refused[server.name] = problem
    return views, refused


def _names(view: View, place: Folder) -> bool:
    """Whether the effective configuration names a file of the lineage's folder: what "installed" means."""
    return any(place.owns(pair.cert) for pair in view.pairs)


def _concerns(job: Job, was: Optional[State], place: Folder, name: str, views: dict[str, View]) -> bool:
    """Whether the lineage is, or shall be, on this server.

    A name in the record's ``installing`` was about to be installed when the run was killed.
    """
    return _adds(job, was, name) or _names(views[name], place)


def _adds(job: Job, was: Optional[State], name: str) -> bool:
    """Whether the lineage is to be added to this server, rather than kept where it is."""
    return job.explicit or (was is not None and name in was.installing)


def _stem(
    job: Job, was: Optional[State], place: Folder, bundle: Bundle, now: datetime.datetime
) -> tuple[str, tuple[tuple[str, int], ...]]:
    """The key's name in the store, and the record of years with this key in it."""
    recorded = dict(was.years) if was else {}
    if job.before in (None, bundle.spki) or bundle.spki in recorded:
        year = rotation.year_of(bundle.spki, recorded, job.history()) or now.year
    else:
        year = now.year
    recorded[bundle.spki] = year
    return rotation.stem_for(bundle.spki, year, store.keys(place)), tuple(sorted(recorded.items()))


def _decide(
    job: Job,
    place: Folder,
    was: Optional[State],
    bundle: Bundle,
    signature: Signature,
    key: tuple[str, tuple[tuple[str, int], ...]],
    planned: Sequence[tuple[IMailServer, Planned]],
    views: dict[str, View],
    sni: Optional[str],
    lost: tuple[tuple[str, ...], tuple[tuple[str, Problem], ...]],
    ask: bool,
) -> Plan:
    stem, years = key
    pair = Pair(place.cert(stem), place.key(stem))
    store_edits = store.edits(place, stem, bundle) if planned else ()
    open_before = frozenset(was.reload + was.verify) if was else frozenset()
    unproven = job.explicit or job.prove or was is None or was.leaf != bundle.leaf
    changes = bool(store_edits or any(made.edits for _, made in planned))
    # All or none: the TLSA data is written for every endpoint that was seen, in one go.
    prove = bool(planned) and (changes or unproven or bool(open_before))
    targets, reload = [], set()
    for server, made in planned:
        before: tuple[Answer, ...] = ()
        running = True
        seconds = min(verify.FIRST_LOOK, job.options.probe_timeout)
        if prove and ask:
            running = server.running()
            endpoints = [served.endpoint for served in views[server.name].served]
            before = probe.ask_all(endpoints, sni, seconds) if running else ()
        changed = bool(made.edits or store_edits or (was and server.name in was.reload))
        for_others = job.prove and running and ask
        stale = _stale(before, views[server.name], pair, bundle)
        if changed or stale or (for_others and _stale_for_others(server, pair, bundle, sni, seconds)):
            reload.add(server.name)
        targets.append(Target(server, views[server.name], made.edits, running, before))
    return Plan(
        job=job,
        place=place,
        was=was,
        bundle=bundle,
        signature=signature,
        stem=stem,
        years=years,
        targets=tuple(targets),
        store_edits=store_edits,
        reload=frozenset(reload),
        verify=frozenset(target.server.name for target in targets) if prove else frozenset(),
        sni=sni,
        withdrawn=lost[0],
        broken=lost[1],
    )


def _stale(answers: Sequence[Answer], view: View, pair: Pair, bundle: Bundle) -> bool:
    """Whether an endpoint that should serve the leaf already serves something else: a reload that never happened."""
    ours = {served.endpoint for served in view.served if served.pair == pair}
    return any(answer.endpoint in ours and answer.digest not in ("", bundle.leaf) for answer in answers)


def _stale_for_others(server: IMailServer, pair: Pair, bundle: Bundle, first: Optional[str], seconds: float) -> bool:
    """The same of clients that ask for another name of the certificate than ``first``, or for none.

    A server may have a block of its own for one name, and what is right there tells nothing of the others.
    """
    names = dict.fromkeys([None, *(probe.sni_for([one]) for one in bundle.names[:_OTHERS])])
    questions = [
        probe.Question(served.endpoint, name)
        for name in names
        if name != first
        for served in server.look(name).served
        if served.pair == pair
    ]
    return any(answer.digest not in ("", bundle.leaf) for answer in probe.ask_each(questions, seconds))
