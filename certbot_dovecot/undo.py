"""The way back: the servers' configuration as it was before a lineage was first installed.

What was before is in the lineage's ``former.json`` (:mod:`~certbot_dovecot.former`).  Only what was written for this lineage
goes; other lineages and an admin's own edits stay.  The files of the store stay too, and certbot goes on renewing the lineage;
the servers are left alone from then on.

As an install: planned before the first write, checked by the servers' own tools, reloaded, and every endpoint is asked whether
it serves what its configuration names now.  If anything fails, the bytes come back
(:class:`~certbot_dovecot.problems.DeployProblem`).

A key whose TLSA records are in the DNS must not leave the servers before its records: senders would not deliver.  So the key
gate is asked before the first write (rule D28), and what it refuses is done only if the admin says so.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from shlex import quote
from typing import Optional

from certbot_dovecot import files, former, jobs, ledger, pairs, plan, publishing, state, store, watch
from certbot_dovecot.deploy import verify
from certbot_dovecot.deploy.key_gate import Proposed
from certbot_dovecot.deploy.verify import Verification
from certbot_dovecot.files import Edit
from certbot_dovecot.former import Conflict, Former
from certbot_dovecot.pairs import Pair
from certbot_dovecot.problems import Problem, ServerProblem
from certbot_dovecot.reconcile import Host
from certbot_dovecot.rollover import key_gate, messages
from certbot_dovecot.servers import dovecot_plan, sni_map
from certbot_dovecot.servers.contract import IMailServer, View
from certbot_dovecot.servers.probe import Answer
from certbot_dovecot.store import Folder
from certbot_dovecot.transaction import Transaction
from certbot_dovecot.watch import Way

_NOTHING = "No server names its files: there is nothing to put back."
#: Files of our own in the servers' roots, which several lineages may share.
_SHARED = (dovecot_plan.SNI_FILE, sni_map.NAME)


@dataclass(frozen=True)
class Undone:
    """What came of it.

    :param name: the lineage that is not installed any more: of two that change places, the one that was.
    :param paths: configuration files that were changed back.
    :param answers: what endpoints serve now, of those that serve what their configuration names.
    :param notes: full sentences.
    :param kept: the folder of its keys and certificates, which stay.
    """

    paths: tuple[str, ...]
    answers: tuple[Answer, ...]
    notes: tuple[str, ...] = ()
    name: str = ""
    kept: str = ""


def undo(way: Way, name: str, now: bool = False) -> Undone:
    """Put the configuration back.

    :param name: the lineage.
    :param now: whatever the DNS says.
    :raises Problem: it cannot be done; nothing was changed, or everything was put back.
    """
    pair = way.pair(name)
    # Of two lineages that change places, the one that is served goes.
    served = pairs.installed(way.home, name)
    if pair is not None and pair.serving.installed:
        served = pair.serving.lineage.name
    record = jobs.remembered(way.config_dir, served)
    if record is None:
        raise Problem(
            "it is not installed by certbot-dovecot",
            where=name,
            left="Nothing was changed",
            todo="See certbot-dovecot status for what is installed",
        )
    host = jobs.host(way.config_dir, record.options, way.run, way.checkpoint, key_gate.of(way))
    place = store.folder(host.home, record.options.store, served)
    with contextlib.ExitStack() as locks:
        locks.enter_context(files.locked(f"{host.home}.lock", host.patience))
        for server in host.servers:
            locks.enter_context(files.locked(os.path.join(server.root, ".certbot.lock"), host.patience))
        done = _Undoing(host, place, record, served, now).run()
    return replace(done, name=served, kept=place.path, notes=(*done.notes, *(_part(way, pair) if pair is not None else ())))


class _Undoing:
    """One way back, with its locks held."""

    def __init__(self, host: Host, place: Folder, record: state.State, name: str, force: bool) -> None:
        self.host = host
        self.place = place
        self.record = record
        self.name = name
        self.force = force
        self._transaction = Transaction(host.checkpoint)

    def run(self) -> Undone:
        path = former.path_of(self.place)
        known = former.load(path)
        views = {server.name: server.look() for server in self.host.servers}
        named = any(self._named(view) for view in views.values())
        if not (named or known):
            self._forget(path)
            return Undone((), (), (_NOTHING,))
        shared = [edit for server in self.host.servers for edit in server.without(plan.leaving(self.place))]
        edits, left = _plan(self.place, known, shared)
        # A run that was killed may have written them and not reloaded.
        changed = {*known, *(edit.path for edit in edits)}
        touched = [server for server in self.host.servers if any(_belongs(file, server) for file in changed)]
        warnings = self.host.gate(self._proposed(touched, edits))
        running = [server for server in touched if server.running()]
        before = verify.served_now([one for server in running for one in views[server.name].served])
        patience = self.record.options.probe_timeout
        verification = Verification(self._transaction.undo, before, patience, waiting=self.host.waiting)
        with verification.or_back():
            for server in touched:
                for edit in [edit for edit in edits if _belongs(edit.path, server)]:
                    self._transaction.do(edit, server.apply)
                server.check()
            after = {server.name: server.look() for server in self.host.servers}
            self._compare(views, after)
            self._hand_over(left)
            answers, broken = verification.prove(running, [one for server in running for one in after[server.name].served])
            # The last: as long as it is not forgotten, a run after a kill finishes it.
            self._forget(path)
        notes = [*warnings] if edits else [*warnings, _NOTHING]
        notes += [f"{server.name} does not run: it was not reloaded." for server in touched if server not in running]
        notes += [f"{verify.tell(answer)}. It did not work before, either." for answer in broken]
        return Undone(tuple(edit.path for edit in edits), answers, tuple(notes))

    def _proposed(self, touched: Sequence[IMailServer], edits: Sequence[Edit]) -> Proposed:
        """What the key gate is asked."""
        mine = [(server, [edit for edit in edits if _belongs(edit.path, server)]) for server in touched]
        again = f"certbot-dovecot undo {quote(self.name)} --now"
        return Proposed(self.name, self.record.options, (), mine, again=again, force=self.force)

    def _named(self, view: View) -> bool:
        return any(self.place.owns(pair.cert) for pair in view.pairs)

    def _compare(self, before: Mapping[str, View], after: Mapping[str, View]) -> None:
        """See that nothing names the lineage any more, and that everything else is named as it was.

        :raises ServerProblem: it is not so.
        """
        for server in self.host.servers:
            if self._named(after[server.name]):
                raise ServerProblem(
                    f"its configuration still names files of {self.place.path}, which certbot-dovecot did not write there",
                    where=server.name,
                    todo=f"Take these settings out by hand (grep -rn {self.place.path} {server.root} finds them), then run the "
                    "command again",
                )
            others = {(name, pair) for name, pair in before[server.name].by_name if not self.place.owns(pair.cert)}
            gone = others - set(after[server.name].by_name)
            # An entry may go that only kept a name from a wildcard that goes, too.
            lost = sorted(name for name, pair in gone if any(one.pair != pair for one in server.look(name).served))
            if lost:
                raise ServerProblem(
                    f"clients that ask for {', '.join(lost)} would not get their certificate any more",
                    where=server.name,
                    todo="This is an error of certbot-dovecot's: please report it. To go back by hand, see the settings that "
                    f"grep -rn {self.place.path} {server.root} finds",
                )

    def _hand_over(self, left: Mapping[str, Former]) -> None:
        """What stays because another lineage needs it is that lineage's to undo."""
        for name in store.lineages(self.host.home) if left else ():
            path = former.path_of(store.folder(self.host.home, "", name))
            theirs = former.load(path)
            if os.path.normpath(path) == os.path.normpath(former.path_of(self.place)) or not _shares(theirs):
                continue
            taken = dict(theirs)
            for file, one in left.items():
                mine = theirs.get(file)
                with contextlib.suppress(Conflict):
                    taken[file] = Former(former.revert(one.before, mine) if mine else one.before, one.after)
            self._transaction.do(Edit(path, files.read(path), former.dump(taken), 0o600))
            return

    def _forget(self, path: str) -> None:
        """The lineage is installed nowhere."""
        gone = replace(self.record, servers=(), installing=(), reload=(), verify=(), settled=(), withdrawn=())
        there = files.read_if_there(self.place.state)
        self._transaction.do(Edit(self.place.state, there, state.dump(gone)))
        data = files.read_if_there(path)
        if data is not None:
            self._transaction.do(Edit(path, data, None))


def _plan(place: Folder, known: Mapping[str, Former], shared: Sequence[Edit]) -> tuple[list[Edit], dict[str, Former]]:
    """The edits, those of files that several lineages share first; and what stays of others because of them.

    :param shared: the edits of the files that several lineages share.
    :raises Problem: a piece of ours is not as it was written.
    """
    if not known:
        raise Problem(
            "it is not known what the configuration was before it was installed",
            where=former.path_of(place),
            left="Nothing was changed",
            todo="If that was the last change, certbot rollback --installer dovecot takes it back; else take the settings that "
            f"name files of {place.path} out by hand",
        )
    edits = list(shared)
    left: dict[str, Former] = {}
    # Where other lineages are in a file that several share, what reads it stays.
    after = {path: files.read_if_there(path) for path in known if os.path.basename(path) in _SHARED}
    after.update((edit.path, edit.new) for edit in shared)
    busy = tuple(os.fsencode(os.path.basename(path)) for path, data in after.items() if data is not None)
    for path in sorted(path for path in known if os.path.basename(path) not in _SHARED):
        one, now = known[path], files.read_if_there(path)
        try:
            kept = full = former.revert(now, one)
            if busy:
                kept = former.revert(now, one, _mentioning(busy))
        except Conflict as conflict:
            if os.fsencode(os.path.join(place.path, "")) not in (now or b""):
                # Taken out already: by hand, by a rollback, or by a run of this that was killed.
                continue
            raise Problem(
                "lines that certbot-dovecot wrote there were edited since, and it cannot be told what is to be put back",
                where=path,
                left="Nothing was changed",
                todo=f"Put back by hand what was there before: {_quoted(conflict.before)}, instead of {_quoted(conflict.ours)}",
            ) from conflict
        if kept != full:
            left[path] = Former(full, kept)
        if kept != now:
            edits.append(Edit(path, now, kept))
    edits = [_still_named(edit, {one.path: one.new for one in edits}) for edit in edits]
    # What reads a file of our own goes before the file does.
    return sorted(edits, key=lambda edit: edit.new is None), left


def _mentioning(names: Sequence[bytes]) -> former.Keep:
    whole = [re.compile(rb"(?<![\w.-])" + re.escape(name) + rb"(?![\w.-])") for name in names]
    return lambda lines: any(one.search(lines) for one in whole)


def _still_named(edit: Edit, edited: Mapping[str, Optional[bytes]]) -> Edit:
    """The removal of Postfix' table leaves an empty one where an option of a service still names it.

    Postfix turns away clients that ask for a name while such a table is not there.
    """
    if edit.new is not None or os.path.basename(edit.path) != sni_map.NAME:
        return edit
    master = os.path.join(os.path.dirname(edit.path), "master.cf")
    lines = edited[master] if master in edited else files.read_if_there(master)
    named = _mentioning((os.fsencode(sni_map.NAME),))(lines or b"")
    return replace(edit, new=sni_map.dump(sni_map.Table())) if named else edit


def _shares(known: Mapping[str, Former]) -> bool:
    return any(os.path.basename(path) in _SHARED for path in known)


def _belongs(path: str, server: IMailServer) -> bool:
    return os.path.realpath(path).startswith(os.path.join(os.path.realpath(server.root), ""))


def _quoted(lines: bytes) -> str:
    text = " / ".join(line.strip() for line in lines.decode("utf-8", "replace").splitlines() if line.strip())
    return f"'{text}'" if text else "nothing"


def _part(way: Way, pair: Pair) -> tuple[str, ...]:
    """Take what we published out of the DNS, and let nobody stand by any more; what came of it."""
    notes: list[str] = []
    if pair.ledger.ours and pair.options.publishes:
        try:
            seen = watch.look(way, pair)
            _, changes = publishing.publish_them(way, seen.pair, watch.places(way, seen))
            notes += [*messages.published(changes), *messages.refusals(changes)]
        except Problem as problem:
            notes.append(f"The records that were published for it are still in the DNS: {problem}")
    if pair.ledger.standby:
        watch.write_down(way, pair, lambda known: replace(known, standby="", turning="").anew())
        ledger.forget(store.folder(way.home, "", pair.ledger.standby))
        other = pair.standby.lineage.name if pair.standby else pair.ledger.standby
        notes.append(f"{other} does not stand by any more; to end its renewals: certbot delete --cert-name {quote(other)}")
    return tuple(notes)
