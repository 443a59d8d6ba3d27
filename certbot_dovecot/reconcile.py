"""The one way in which a lineage reaches the servers.

*Level-triggered*: it looks at the state, not at the event.  What does the lineage hold, what is in the store, what do the
configurations name, what do the sockets serve?  It does the difference, and nothing when there is none, so that running it
again after any failure finishes the job.

In order: plan (:mod:`certbot_dovecot.plan`: all checks come before the first write); ask the key gate
(:mod:`certbot_dovecot.deploy.key_gate`); write the record, the store, the configurations; let the servers check theirs; reload,
once each; ask every endpoint until it serves the new leaf; write the TLSA data; close the record.

How it fails, always as a :class:`~certbot_dovecot.problems.Problem`:

* before the first write: nothing was changed;
* an endpoint that worked before does not serve the new leaf, or a server's own check refuses: the old bytes come back and
  the servers reload (:class:`~certbot_dovecot.problems.DeployProblem`, ``kept`` false);
* only what was down or broken *before* is not proven: the new state stays, the record remembers what is left to prove
  (``kept`` true), and the next run proves it.

*First install is explicit*: only an explicit job adds a server.  Otherwise a server whose effective configuration names a file
of the lineage's folder is kept true, and one that no longer does is left alone, and said once.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Callable, Optional

from certbot_dovecot import files, former, glance, plan, progress, seen, state, store
from certbot_dovecot.dane import tlsa
from certbot_dovecot.deploy import verify
from certbot_dovecot.deploy.key_gate import KeyGate
from certbot_dovecot.deploy.verify import Verification
from certbot_dovecot.files import Edit, Signature
from certbot_dovecot.former import Former
from certbot_dovecot.plan import Job, Plan, Target
from certbot_dovecot.problems import Changed, DeployProblem, Problem, ServerProblem, StateProblem
from certbot_dovecot.servers.contract import Endpoint, IMailServer, View
from certbot_dovecot.servers.probe import Answer
from certbot_dovecot.state import State
from certbot_dovecot.transaction import Checkpoint, Transaction

#: How often a server's edits are computed again because someone else edited its file in between.
ATTEMPTS = 50


@dataclass(frozen=True)
class Host:
    """What a reconcile works with, passed in by a door.

    :param home: ``CONFIG_DIR/dovecot``.
    :param clock: now, UTC.
    :param checkpoint: keeps configuration files for ``certbot rollback``.
    :param gate: the key gate, asked before the first write.
    :param notes: what was left out when the servers were looked for.
    :param patience: seconds to wait for another run's lock.
    :param waiting: told which endpoints are waited for; as for :func:`certbot_dovecot.servers.probe.wait_until`.
    """

    servers: tuple[IMailServer, ...]
    home: str
    clock: Callable[[], datetime.datetime]
    checkpoint: Checkpoint
    gate: KeyGate
    notes: tuple[str, ...] = ()
    patience: float = files.LOCK_PATIENCE
    waiting: Callable[[Sequence[Endpoint]], None] = progress.endpoints


@dataclass(frozen=True)
class Report:
    """What a reconcile did.

    :param plan: what was decided; None if the lineage is installed nowhere, or all was found true at a glance.
    :param changed: whether a byte was written or a server reloaded.
    :param new_key: whether the servers serve another key of this lineage than before.
    :param answers: what every endpoint served at the end.
    :param records: the TLSA records of what is served.
    :param withdrawn: servers that no longer name our files; the record drops them, so that they are told once.
    :param notes: what the admin should know, full sentences.
    """

    plan: Optional[Plan] = None
    changed: bool = False
    new_key: bool = False
    answers: tuple[Answer, ...] = ()
    records: tuple[tlsa.Record, ...] = ()
    withdrawn: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def converge(host: Host, job: Job) -> Report:
    """Bring a lineage to the servers and prove it, in one go.

    :raises Problem: as the module says.
    """
    deployment = begin(host, job)
    return deployment.prove() if deployment else Report()


def begin(host: Host, job: Job) -> Optional[Deployment]:
    """Check, look, decide and write; what is left is :meth:`Deployment.prove`.

    :returns: None if the lineage is installed nowhere, or if all is true.
    :raises Problem: nothing was changed, or everything was put back.
    """
    if not (job.explicit or job.prove or job.replaces) and glance.settled(host.home, job.lineage):
        return None
    # Asked without a lock: a lineage that is none of our business must not wait, nor leave a lock file.
    if not plan.concerns(host.servers, host.home, job):
        return None
    with contextlib.ExitStack() as locks:
        locks.enter_context(files.locked(f"{host.home}.lock", host.patience))
        decided = plan.make(host.servers, host.home, job, host.clock())
        if decided is None:
            return None
        for target in decided.targets:
            if target.edits:
                locks.enter_context(files.locked(os.path.join(target.server.root, ".certbot.lock"), host.patience))
        warnings = () if decided.idle else host.gate(decided.proposed())
        deployment = Deployment(host, decided)
        deployment.notes += warnings
        deployment.write()
        deployment.locks = locks.pop_all()
    return deployment


class Deployment:
    """One lineage on its way to the servers: written, and not proven yet.

    It holds the store's lock, and those of the server roots whose configuration changes, until :meth:`prove`.
    """

    def __init__(self, host: Host, decided: Plan) -> None:
        self.host = host
        self.plan = decided
        self.locks = contextlib.ExitStack()
        self.notes: tuple[str, ...] = (*host.notes, *decided.notes) if decided.job.explicit else ()
        self._transaction = Transaction(host.checkpoint)
        self._verification = Verification(
            self._transaction.undo,
            {answer.endpoint: answer.digest for target in decided.targets for answer in target.before if answer.leaf},
            decided.job.options.probe_timeout,
            decided.sni,
            host.waiting,
        )
        self._edits = {target.server.name: target.edits for target in decided.targets}
        self._former: Optional[dict[str, Former]] = None
        self._views: dict[str, View] = {target.server.name: target.view for target in decided.targets}

    def write(self) -> None:
        """Write the record, the store and the configurations, and let the servers check theirs.

        :raises Problem: everything was put back.
        """
        if self.plan.idle:
            return
        with self._verification.or_back():
            self._write_files()
            for target in self.plan.targets:
                if target.edits:
                    self._write_configuration(target)

    def prove(self) -> Report:
        """Reload what changed, ask every endpoint until it serves the new leaf, write the TLSA data, close the record.

        :raises DeployProblem: see the module; the locks are released in any case.
        """
        with self.locks:
            with self._verification.or_back():
                answers = self._reload_and_ask()
                wrong = [answer for answer in answers if answer.digest != self.plan.bundle.leaf]
                if any(answer.endpoint not in self.plan.sick for answer in wrong):
                    hints = [target.server.hint() for target in self.plan.targets]
                    raise ServerProblem(
                        f"not every endpoint served the new certificate: {verify.tell_all(wrong)}",
                        todo=". ".join(filter(None, [*hints, verify.LOOK_AT_THE_LOG])),
                    )
            report = self._close(answers, wrong)
            self._complain(wrong)
            return report

    @property
    def went_back(self) -> bool:
        """Whether what was written was put back, or was tried to be."""
        return self._verification.went_back

    def abandon(self) -> None:
        """Put back what :meth:`write` wrote, without proving anything.

        :raises DeployProblem: not everything could be put back.
        """
        with self.locks:
            failures = self._verification.back()
            if failures:
                where, todo = self.plan.job.lineage, verify.LOOK_AT_THE_LOG
                stopped = Problem("certbot stopped before it was proven", where=where, todo=todo)
                raise self._verification.failed(stopped, failures)

    def _write_files(self) -> None:
        place, transaction = self.plan.place, self._transaction
        transaction.directory(place.path)
        transaction.directory(os.path.dirname(place.state))
        self._record(self.plan.installing, self.plan.reload, self.plan.verify, through=transaction.do)
        for edit in self.plan.store_edits:
            transaction.do(edit)
        self._remember()
        transaction.checkpoint(
            [edit for target in self.plan.targets for edit in target.edits],
            f"Installed the certificate {self.plan.job.lineage} (key {self.plan.stem}) by the dovecot plugin\n",
        )

    def _remember(self) -> None:
        """Write down what the configuration was before this lineage's first install, for the way back."""
        if not any(self._edits.values()):
            return
        path = former.path_of(self.plan.place)
        was = [former.path_of(store.folder(self.host.home, "", name)) for name in filter(None, [self.plan.job.replaces])]
        try:
            if self._former is None:
                before = [former.load(one) for one in (path, *was)]
                self._former = {file: one for known in before for file, one in known.items()}
        except StateProblem as problem:
            # A renewal does not wait for the way back; undo says the same.
            self.notes += (str(problem),)
            return
        known = former.followed(self._former, [edit for edits in self._edits.values() for edit in edits])
        self._transaction.do(Edit(path, files.read_if_there(path), former.dump(known), 0o600))
        # Of two lineages that change places, what was before goes with the place.
        for theirs in was:
            if (data := files.read_if_there(theirs)) is not None:
                self._transaction.do(Edit(theirs, data, None))

    def _write_configuration(self, target: Target) -> None:
        server = target.server
        edits = target.edits
        for _ in range(ATTEMPTS):
            try:
                for edit in edits:
                    self._transaction.do(edit, server.apply)
                break
            except Changed:
                self._edits[server.name] = edits = self.plan.again(server)
                self._remember()
        else:
            raise ServerProblem("someone else keeps editing this file", where=edits[0].path, todo="Run the command again later")
        server.check()
        self._views[server.name] = view = server.look(self.plan.sni)
        ours = [pair for pair in view.pairs if self.plan.place.owns(pair.cert) or self.plan.place.owns(pair.key)]
        if not ours or any(pair != self.plan.pair for pair in ours):
            raise ServerProblem(
                f"{server.name} does not take the certificate from where it was written",
                where=edits[-1].path if edits else server.root,
                todo="Look for another setting that overrides it, and report this",
            )

    def _expected(self) -> dict[Endpoint, str]:
        """Every endpoint that names the pair, on a server that runs and is to be proven, and the leaf it shall serve."""
        return {
            served.endpoint: self.plan.bundle.leaf
            for target in self.plan.targets
            if target.server.name in self.plan.verify and target.running
            for served in self._views[target.server.name].served
            if served.pair == self.plan.pair
        }

    def _reload_and_ask(self) -> tuple[Answer, ...]:
        reload = self.plan.reload
        self._verification.reload([one.server for one in self.plan.targets if one.server.name in reload and one.running])
        return self._verification.ask(self._expected(), self.plan.bundle.algorithm)

    def _close(self, answers: Sequence[Answer], wrong: Sequence[Answer]) -> Report:
        """Write the TLSA data and the record of what was proven."""
        decided = self.plan
        sick = {answer.endpoint.server for answer in wrong} | decided.down | {name for name, _ in decided.broken}
        records = self._tlsa(answers) if decided.verify else ()
        signature: Signature = ()
        if not sick:
            pair = (decided.pair.cert, decided.pair.key) if decided.targets else ()
            signature = decided.signature + files.sign(pair)
            signature += tuple(entry for server in self.host.servers for entry in self._seen(server))
        self._record(frozenset(), frozenset(), frozenset(sick), signature)
        if decided.job.replaces:
            release(self.host.home, decided.job.replaces)
        was = decided.was
        # What is to be said of a configuration as it is now, not as it was found.
        notes = [note for view in self._views.values() for note in view.notes] if decided.job.explicit else []
        return Report(
            plan=decided,
            changed=bool(decided.store_edits or self._verification.reloaded or any(target.edits for target in decided.targets)),
            new_key=bool(decided.targets) and (was is None or was.spki != decided.bundle.spki),
            answers=tuple(answers),
            records=records,
            withdrawn=decided.withdrawn,
            notes=(*notes, *self.notes),
        )

    def _seen(self, server: IMailServer) -> Signature:
        """The configuration that the last look at ``server`` read; empty if it could not be looked at."""
        try:
            return self._views[server.name].signature if server.name in self._views else server.look().signature
        except Problem:
            return ()

    def _tlsa(self, answers: Sequence[Answer]) -> tuple[tlsa.Record, ...]:
        """Write ``tlsa.zone`` and ``tlsa.json`` for the endpoints that were seen serving the key (rules D13, R5)."""
        decided = self.plan
        keys = {answer.endpoint: decided.bundle.spki for answer in answers if answer.digest == decided.bundle.leaf}
        views = [self._views[target.server.name] for target in decided.targets]
        served = [one for view in views for one in view.every]
        names, ports, following = decided.bundle.names, seen.ports(served, keys), decided.job.following
        servers = [target.server for target in decided.targets]
        hosts = seen.hosts(names, seen.own_names(servers))
        not_ours = seen.elsewhere(hosts, served, lambda host: seen.look(servers, host), decided.place.owns)
        records = tuple(record for record in tlsa.records(hosts, ports, following) if record.owner not in not_ours)
        store.file_tlsa(decided.place, decided.job.lineage, records, names, tlsa.patterns(names, ports, following))
        return records

    def _record(
        self,
        installing: frozenset[str],
        reload: frozenset[str],
        verify: frozenset[str],
        signature: Signature = (),
        through: Callable[[Edit], None] = files.apply,
    ) -> None:
        """Write ``state.json``."""
        decided = self.plan
        names = {target.server.name for target in decided.targets}
        was = decided.was or State()
        record = replace(
            was,
            options=decided.job.options,
            years=dict(decided.years),
            stem=decided.stem if names else was.stem,
            leaf=decided.bundle.leaf if names else was.leaf,
            spki=decided.bundle.spki if names else was.spki,
            servers=tuple(sorted(names | {name for name, _ in decided.broken})),
            withdrawn=tuple(sorted({*was.withdrawn, *decided.withdrawn} - names)),
            installing=tuple(sorted(installing)),
            reload=tuple(sorted(reload)),
            verify=tuple(sorted(verify)),
            settled=signature,
        )
        data = state.dump(record)
        there = files.read_if_there(decided.place.state)
        if there != data:
            through(Edit(decided.place.state, there, data))

    def _complain(self, wrong: Sequence[Answer]) -> None:
        """Raise for what was down or broken before and is still not proven; everything else stands."""
        decided = self.plan
        parts = [f"{name} does not run, and did not before" for name in sorted(decided.down)]
        parts += [f"{verify.tell(answer)}, and did not work before" for answer in wrong]
        parts += [str(problem).rstrip(".") for _, problem in decided.broken]
        if parts:
            raise DeployProblem(
                f"the certificate {decided.job.lineage} is in place, but not proven everywhere: " + "; ".join(parts),
                left="The files and the configuration are the new ones",
                todo="Mend or start that server; the next certbot renew then proves it by itself"
                if decided.job.retried
                else f"Mend or start that server; certbot-dovecot deploy {decided.job.lineage} then proves it",
                kept=True,
            )


def release(home: str, lineage: str, served: bool = True) -> None:
    """Note that a lineage is installed nowhere (any more); its files stay.

    :param served: whether it was; if not, its key is not spent.
    :raises Problem: its record cannot be read or written.
    """
    path = store.folder(home, "", lineage).state
    record = state.load(path)
    if record is not None:
        gone = replace(record, servers=(), installing=(), reload=(), verify=(), settled=(), withdrawn=())
        files.write(path, state.dump(gone if served else replace(gone, stem="", leaf="", spki="")))


def forget_open(home: str, write: Callable[[Edit], None] = files.apply) -> None:
    """After a rollback: nothing that a killed run left open is to be finished, for the admin wants it gone.

    :param write: makes the edits.
    :raises Problem: a record cannot be written.
    """
    for lineage in store.lineages(home):
        path = store.folder(home, "", lineage).state
        try:
            record = state.load(path)
        except Problem:
            continue
        if record is not None:
            new = state.dump(replace(record, installing=(), reload=(), verify=(), settled=()))
            write(Edit(path, files.read_if_there(path), new))

