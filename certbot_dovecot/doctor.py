"""A look at everything that would hurt later: gathers the facts for :mod:`~certbot_dovecot.checks`, and has them judged.

Read-only: no lock is taken and nothing is written, so that it is safe at any time, beside a running certbot too.  Endpoints are
asked once a server, or twice where the configuration wants old clients; the DNS only if that is wanted, else what it said last.
What cannot be read is a finding itself, and everything else is looked at all the same.

Fails as a :class:`~certbot_dovecot.problems.Problem` if nothing can be told at all: there is no Dovecot, or no such lineage.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from certbot_dovecot import bundle as bundles
from certbot_dovecot import checks, files, jobs, ledger, lineages, pairs, renewals, rotation, state, store, surroundings, watch
from certbot_dovecot.checks import certificates
from certbot_dovecot.checks import dovecot as of_dovecot
from certbot_dovecot.checks import postfix as of_postfix
from certbot_dovecot.checks.facts import DovecotFacts, Elsewhere, Facts, Held, Pem, PostfixFacts, Tried
from certbot_dovecot.checks.findings import Finding, Severity
from certbot_dovecot.commands import Command, Result, Runner
from certbot_dovecot.dane import rollover
from certbot_dovecot.dane.answers import Survey
from certbot_dovecot.lineages import Lineage
from certbot_dovecot.monitoring import remedies
from certbot_dovecot.monitoring.keepers import Keepers
from certbot_dovecot.pairs import Pair
from certbot_dovecot.problems import FileProblem, NotInstalled, Problem
from certbot_dovecot.rollover import addresses, owner_names
from certbot_dovecot.rollover.owner_names import OwnerNames
from certbot_dovecot.servers import contract, discovery, probe
from certbot_dovecot.servers.dovecot import Dovecot
from certbot_dovecot.servers.postfix import Postfix
from certbot_dovecot.state import Options, State
from certbot_dovecot.surroundings import Places
from certbot_dovecot.watch import Way

#: Seconds for an endpoint.
SECONDS = 3.0


def examine(
    way: Way, names: Sequence[str], said: Mapping[str, Any], dns: bool, places: Places = surroundings.HERE
) -> checks.Diagnosis:
    """Look at everything, and say what would hurt later.

    :param names: lineages; empty for all that are known.
    :param said: the options that are said now.
    :param dns: whether to ask the DNS now.
    :raises Problem: there is no Dovecot, or one of the lineages is not there.
    """
    return checks.examine(_Gathering(replace(way, run=_once(way.run)), dict(said), dns, places).facts(names))


def _once(run: Runner) -> Runner:
    """Runs each command once: a hundred lineages have few servers, whose configuration does not change meanwhile."""
    known: dict[tuple[tuple[str, ...], Optional[bytes]], Result] = {}

    def ask(command: Command) -> Result:
        asked = tuple(command.argv), command.given
        if asked not in known:
            known[asked] = run(command)
        return known[asked]

    return ask


@dataclass
class _Gathering:
    """What one look collects."""

    way: Way
    said: dict[str, Any]
    dns: bool
    places: Places
    broken: list[Finding] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    dovecot: list[DovecotFacts] = field(default_factory=list)
    postfix: list[PostfixFacts] = field(default_factory=list)
    servers: list[contract.IMailServer] = field(default_factory=list)
    pems: dict[str, Pem] = field(default_factory=dict)

    def facts(self, names: Sequence[str]) -> Facts:
        home, config_dir, now = self.way.home, self.way.config_dir, self.way.clock()
        known = store.lineages(home)
        records = {name: self._record(name) for name in known}
        ours = [name for name in known if not name.endswith(store.EXTERNAL)]
        forgotten = frozenset(name for name in ours if lineages.is_deleted(config_dir, name))
        for name in names:
            if name not in known and not os.path.exists(self._conf(name)):
                raise jobs.missing(config_dir, name)
        chosen = self._with_partners(list(names) or known)
        held = [one for name in chosen if (one := self._held(name, records.get(name))) is not None]
        self._look_at_servers([one.options for one in held] or [replace(Options(), **self.said)])
        held = self._with_dns(held)
        cli_ini = os.path.join(config_dir, "cli.ini")
        views = [*(one.view for one in self.dovecot), *(one.view for one in self.postfix)]
        named = list(dict.fromkeys(pair for view in views for pair in view.pairs))
        said = self.said.get("store")
        places = {name: store.folder(home, said or one.options.store, name).path for name, one in records.items() if one}
        facts = Facts(
            now=now,
            config_dir=config_dir,
            held=tuple(held),
            folders={os.path.normpath(path): name for name, path in places.items()},
            forgotten=forgotten,
            dovecot=tuple(self.dovecot),
            postfix=tuple(self.postfix),
            missing=self.missing,
            pems={pair.cert: self._pem(pair.cert) for pair in named},
            keys={pair.key: self._wrong_key(pair) for pair in named},
            served=dict(self._served(held)),
            elsewhere=tuple(self._elsewhere(held, {path: name for name, path in places.items()})),
            roots=surroundings.trusted(self.places) if held else None,
            schedule=surroundings.schedule(self.way.run, self.places),
            hook=surroundings.deploy_hook(config_dir),
            resolvers=_resolvers({one.options.resolver for one in held if one.dane}),
            cli_ini=(cli_ini, (files.read_if_there(cli_ini) or b"").decode("utf-8", "replace")),
            settings=surroundings.settings(config_dir, self.places),
            certbot=renewals.version(),
        )
        return replace(facts, tried=_try(facts), healed=frozenset(self._healed(facts)), broken=tuple(self.broken))

    def _conf(self, name: str) -> str:
        return os.path.join(self.way.config_dir, "renewal", f"{name}.conf")

    def _record(self, name: str) -> Optional[State]:
        try:
            return state.load(store.folder(self.way.home, "", name).state)
        except Problem as problem:
            self._note(problem, name)
            return None

    def _note(self, problem: Problem, lineage: str = "") -> None:
        todo = problem.todo or "Mend it; the messages of its own tools say more"
        found = Finding("configuration", Severity.ERROR, problem.what, problem.where, todo, lineage)
        if not any((one.what, one.where) == (found.what, found.where) for one in self.broken):
            self.broken.append(found)

    def _with_partners(self, names: list[str]) -> list[str]:
        """The names, and those that stand by for them."""
        found = dict.fromkeys(names)
        for name in names:
            try:
                found.setdefault(pairs.partner(self.way.home, name) or name)
            except Problem as problem:
                self._note(problem, name)
        return list(found)

    def _held(self, name: str, record: Optional[State]) -> Optional[Held]:
        """What is known of one lineage; None if it cannot be read."""
        try:
            options = jobs.options(self.way.config_dir, name, self.said)
            pair = self.way.pair(name)
            place = store.folder(self.way.home, options.store, name)
            conf = self._conf(name)
            lineage = lineages.load(self.way.config_dir, name)
            text = (files.read_if_there(conf) or b"").decode("utf-8", "replace")
            if text and lineage is None:
                raise Problem(
                    "this renewal configuration is damaged, so that certbot does not renew its certificate",
                    where=conf,
                    todo="Mend it, or bring it back from a backup; certbot certificates says whether certbot reads it",
                )
            deployed = self._pem(place.cert(record.stem)) if record and record.stem else None
            one = Held(
                name=name,
                place=place,
                options=options,
                record=record,
                conf=conf,
                text=text,
                parameters=lineages.parameters(self.way.config_dir, name) if lineage else {},
                lineage=lineage,
                live=self._live(lineage) if lineage else None,
                deployed=deployed,
                files=surroundings.bits(place.path, [place.key(stem) for stem in _stems(place.path)]),
                year=_year(pair, name, record, deployed),
            )
            if pair is None:
                return one
            stands_by = pair.serving.lineage.name != name
            return replace(
                one,
                standby=pair.standby.lineage.name if pair.standby and not stands_by else "",
                stands_by=stands_by,
                ledger=pair.ledger,
                survey=None if stands_by else ledger.survey_of(pair.place),
            )
        except Problem as problem:
            self._note(problem, name)
            return None

    def _live(self, lineage: Lineage) -> Pem:
        """Its leaf and chain."""
        leaf, whole = self._pem(lineage.source.cert), self._pem(lineage.source.fullchain or lineage.source.cert)
        return whole if whole.certificates[:1] == leaf.certificates[:1] else leaf

    def _look_at_servers(self, options: Iterable[Options]) -> None:
        """Every server that one of the lineages is for, once.

        :raises Problem: there is no Dovecot.
        """
        done = set()
        for where in dict.fromkeys((one.server_root, one.postfix_root, one.postfix_services) for one in options):
            found = discovery.find(*where, self.way.run)
            if len(found.servers) < 2:
                self.missing["Postfix"] = "Postfix is not installed here" if found.notes else "--postfix-services none"
            for server in found.servers:
                key = (server.name, server.root, where[2] if isinstance(server, Postfix) else "")
                if key not in done:
                    done.add(key)
                    self._look_at(server)

    def _look_at(self, server: contract.IMailServer) -> None:
        try:
            view = server.look()
            if isinstance(server, Dovecot):
                self.dovecot.append(DovecotFacts(server.main, *server.known(), view))
            elif isinstance(server, Postfix):
                self.postfix.append(PostfixFacts(server.root, *server.known(), view, server.our_map))
            self.servers.append(server)
        except Problem as problem:
            gone = isinstance(server, Dovecot) and isinstance(problem, FileProblem) and not os.path.exists(server.main)
            if isinstance(server, Dovecot) and (gone or isinstance(problem, NotInstalled)):
                raise
            self.missing[server.name] = f"{server.name}'s configuration cannot be read"
            self._note(problem)

    def _served(self, held: Iterable[Held]) -> Iterable[tuple[tuple[str, str], tuple[contract.Pair, ...]]]:
        """For every name of what is installed, what the servers name for clients that ask for it."""
        held = [one for one in held if one.installed and one.deployed]
        names = {name for one in held if one.deployed for name in one.deployed.names}
        asked = sorted({asked for name in names if (asked := probe.sni_for([name]))})
        for server in self.servers:
            looks = {name: server.look(name).served for name in (None, *asked)}
            # Where none of ours is named for anybody, the admin's own certificate stays (rule R14).
            ours = {one.endpoint for look in looks.values() for one in look if one.pair and _is_held(held, one.pair)}
            for name in asked:
                named = dict.fromkeys(one.pair for one in looks[name] if one.pair and one.endpoint in ours)
                yield (server.name, name), tuple(pair for pair in named if pair)

    def _elsewhere(self, held: Sequence[Held], folders: Mapping[str, str]) -> Iterable[Elsewhere]:
        """The certificate files that servers name and that are not in the store."""
        known = Keepers(self.way.config_dir, folders)
        stored = {os.path.normpath(path) for path in folders}
        for server in self.servers:
            view = server.look()
            named = dict.fromkeys(pair.cert for pair in view.pairs)
            pems = [(self._pem(path), True) for path in named]
            pems += [(pem, False) for path in view.others if path not in named for pem in _chains(path)]
            for pem, of_a_pair in pems:
                path = pem.path
                if os.path.dirname(os.path.normpath(path)) in stored or not pem.certificates:
                    continue
                keeper = known.of(bundles.digest_of(pem.certificates[0]), path)
                there = [one.endpoint for one in view.served if path in (one.pair.cert if one.pair else "", *one.others)]
                mine = [one for one in held if one.record and server.name in (*one.record.servers, *one.record.withdrawn)]
                healing = next((one.name for one in mine if _heals(one, server, None, there)), "") if keeper is None else ""
                places = remedies.places(server, path)
                yield Elsewhere(server.name, path, keeper, places, healing, None if of_a_pair else pem)

    def _healed(self, facts: Facts) -> Iterable[tuple[str, str, str]]:
        """See :attr:`Facts.healed`: of names that get a certificate which is not for them."""
        for server in self.servers:
            for one in facts.held:
                for name, path in certificates.not_served(facts, one, server.name):
                    asked = probe.sni_for([name])
                    wrong = [each.endpoint for each in server.look(asked).served if each.pair and each.pair.cert == path]
                    if _heals(one, server, asked, wrong):
                        yield server.name, one.name, name

    def _pem(self, path: str) -> Pem:
        """A certificate file, read once."""
        if path not in self.pems:
            from cryptography import x509

            try:
                blocks = bundles.blocks(files.read(path), path)
                self.pems[path] = Pem(path, tuple(x509.load_pem_x509_certificate(block) for block in blocks))
            except Problem as problem:
                self.pems[path] = Pem(path, error=problem.what.replace("\n", " "))
            except ValueError:
                self.pems[path] = Pem(path, error="a certificate in it cannot be parsed")
        return self.pems[path]

    def _wrong_key(self, pair: contract.Pair) -> str:
        """What is wrong with the key of a pair; empty if nothing is, or nobody can tell."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

        pem = self._pem(pair.cert)
        try:
            key = load_pem_private_key(files.read(pair.key), None).public_key()
        except Problem as problem:
            return problem.what
        except (TypeError, UnsupportedAlgorithm):
            # An encrypted one, whose password the configuration has.
            return ""
        except ValueError:
            return "there is no private key in it that can be parsed"
        if not pem.certificates:
            return ""
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        same = hashlib.sha256(spki).hexdigest().upper() == bundles.spki_of(pem.certificates[0])
        return "" if same else f"it is not the key of the certificate {pair.cert} beside it"

    def _with_dns(self, held: list[Held]) -> list[Held]:
        """With what the DNS says now, if it is to be asked; and what that means for keys that are to be changed."""
        asked: dict[str, dict[str, OwnerNames]] = {}
        for one in held:
            if self.dns and not one.stands_by and one.options.dane != "off" and (pair := self._pair(one)):
                try:
                    asked.setdefault(one.options.resolver, {})[one.name] = owner_names.find(self.way, pair)
                except Problem as problem:
                    self._note(problem, one.name)
        surveys: dict[str, Survey] = {}
        for resolver, names in asked.items():
            try:
                wanted = dict.fromkeys(name for some in names.values() for name in some.every)
                said = self.way.ask(Options(resolver=resolver), list(wanted))
            except Problem as problem:
                self._note(problem)
                continue
            for name, owners in names.items():
                mine = tuple(owner for owner in said.owners if owner.name in owners.every)
                mine = watch.endpoints(self.way, owners, replace(said, owners=mine)).owners
                surveys[name] = replace(said, owners=mine, addresses=addresses.ask(self.way, owners, mine))
        return [self._with_step(replace(one, survey=surveys.get(one.name, one.survey))) for one in held]

    def _pair(self, one: Held) -> Optional[Pair]:
        return self.way.pair(one.name) if one.lineage is not None else None

    def _with_step(self, one: Held) -> Held:
        """With what the survey means, for a key that is due to be changed."""
        due = rotation.is_due(one.options.key_rotation, one.year, self.way.clock())
        if one.survey is None or one.stands_by or not due:
            return one
        try:
            pair = self._pair(one)
            if pair is None:
                return one
            names = owner_names.find(self.way, pair)
            following = pair.following()
            keys = [key for key in (pair.current(), following) if key]
            relevant = rollover.relevant(one.survey, names.guarded, keys, names.others.keys(), pair.retired())
            return replace(one, step=watch.judge(pair, relevant, one.survey.at, True, names.guarded))
        except Problem as problem:
            self._note(problem, one.name)
            return one


def _chains(path: str) -> list[Pem]:
    """What is in a file that may have several certificates with their chains, or none; nothing if it cannot be read."""
    from cryptography import x509

    try:
        chains = bundles.chains(files.read(path), path)
        return [Pem(path, tuple(x509.load_pem_x509_certificate(block) for block in chain)) for chain in chains]
    except (Problem, ValueError):
        return []


def _is_held(held: Iterable[Held], pair: contract.Pair) -> bool:
    return any(one.place.owns(pair.cert) for one in held)


def _heals(one: Held, server: contract.IMailServer, sni: Optional[str], endpoints: Sequence[contract.Endpoint]) -> bool:
    """Whether to install a lineage again would have the endpoints serve it."""
    if one.lineage is None or one.record is None or not one.record.stem or one.deployed is None:
        return False
    return remedies.heals(server, one.place, one.record.stem, sorted(one.deployed.names), sni, endpoints)


def _stems(folder: str) -> list[str]:
    try:
        return sorted(name[: -len(".key")] for name in os.listdir(folder) if name.endswith(".key"))
    except OSError:
        return []


def _year(pair: Optional[Pair], name: str, record: Optional[State], deployed: Optional[Pem]) -> Optional[int]:
    """See :attr:`Held.year`.

    :raises Problem: a leaf cannot be read.
    """
    if pair is not None and pair.serving.lineage.name == name:
        return pair.since()
    if pair is None and record is not None and deployed is not None and deployed.certificates:
        return record.years.get(bundles.spki_of(deployed.certificates[0]))
    return None


def _resolvers(said: Iterable[str]) -> dict[str, str]:
    """See :attr:`Facts.resolvers`; nothing is asked."""
    found = {}
    for one in said:
        from certbot_dovecot.dane import survey

        try:
            by = survey.resolver(one)
        except ValueError:
            found[one] = f"{one} is no address of a resolver"
            continue
        if by is None:
            found[one] = "this host has no resolver"
        elif not by.trusted:
            found[one] = f"the resolver {by.address} is not on this host, so that what it says of DNSSEC is not believed"
        else:
            found[one] = ""
    return found


def _try(facts: Facts) -> tuple[Tried, ...]:
    """Ask one endpoint of each server that serves an ECDSA certificate of ours, as clients of before TLS 1.3."""
    wanted = {
        "Dovecot": [of_dovecot.old_clients(one) for one in facts.dovecot],
        "Postfix": [of_postfix.old_clients(one) for one in facts.postfix],
    }
    todo: list[tuple[str, contract.Endpoint, str, str]] = []
    renewed = {held.name for held in facts.held if held.lineage is not None}
    for server, places in wanted.items():
        served = [one for name, view in facts.views if name == server for one in view.served]
        ours = {one.endpoint: facts.owner_of(one.pair.cert) for one in served if one.pair and _is_ecdsa(facts, one.pair)}
        if ours:
            first = min(ours, key=lambda one: (not one.implicit, one.port))
            todo.append((server, first, next(filter(None, places), ""), ours[first]))

    def ask(one: tuple[str, contract.Endpoint, str, str]) -> Tried:
        server, endpoint, old, lineage = one
        ecdsa = probe.ask_as_old(endpoint, None, SECONDS, "ecdsa")
        if ecdsa.disagreed and not (plain := probe.ask(endpoint, None, SECONDS)).leaf:
            # Nobody is served there, so that it is not for the cipher.
            ecdsa = replace(plain, disagreed=False)
        rsa = probe.ask_as_old(endpoint, None, SECONDS, "rsa") if old and ecdsa.leaf else None
        return Tried(server, ecdsa, rsa, old, lineage if lineage in renewed else "")

    if not todo:
        return ()
    with ThreadPoolExecutor(len(todo)) as pool:
        return tuple(pool.map(ask, todo))


def _is_ecdsa(facts: Facts, pair: contract.Pair) -> bool:
    pem = facts.pems.get(pair.cert)
    if not facts.owner_of(pair.cert) or pem is None or not pem.certificates:
        return False
    try:
        return bundles.kind_of(pem.certificates[0])[0] == "ecdsa"
    except Problem:
        return False
