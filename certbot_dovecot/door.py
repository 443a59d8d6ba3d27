"""What the plugin's door does with certbot's configuration and reverter.

One :class:`Door` per call from certbot: it reads the options that are said now, finds the lineage that certbot means, makes a
job of it, and keeps configuration files in certbot's checkpoints.  It raises :class:`~certbot_dovecot.problems.Problem` only;
:mod:`certbot_dovecot.installer` translates.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Callable, Optional

from certbot import errors
from certbot.plugins import common

from certbot_dovecot import (
    commands,
    files,
    glance,
    handover,
    hook,
    jobs,
    lineages,
    orphans,
    reconcile,
    renewals,
    standby,
    store,
    watch,
)
from certbot_dovecot.bundle import Source
from certbot_dovecot.certificates.names import is_host_name
from certbot_dovecot.deploy.key_gate import Proposed
from certbot_dovecot.deploy.rollback import Rollback
from certbot_dovecot.files import Edit
from certbot_dovecot.handover import Told
from certbot_dovecot.lineages import Lineage
from certbot_dovecot.plan import Job
from certbot_dovecot.problems import FileProblem, Problem
from certbot_dovecot.reconcile import Deployment, Host
from certbot_dovecot.rollover import key_gate
from certbot_dovecot.servers import discovery
from certbot_dovecot.servers.contract import IMailServer
from certbot_dovecot.servers.discovery import Found
from certbot_dovecot.state import Options
from certbot_dovecot.transaction import Checkpoint, NoCheckpoint
from certbot_dovecot.watch import Way

#: Option names and defaults, as :class:`~certbot_dovecot.state.Options` has them.
_DEFAULTS = Options()


@dataclass(frozen=True)
class Start:
    """What was found when a run began.

    :param spki: the lineage's key before certbot issued, empty for a new lineage; None if no certificate will be issued, or
        on doubt.
    :param reuse_key: what the admin says about reusing it; None for nothing.
    """

    spki: Optional[str] = None
    reuse_key: Optional[bool] = None


class Door:
    """One call from certbot.

    :param plugin: the installer; only certbot's own attributes of it are used.
    :param start: what :mod:`~certbot_dovecot.door_key` found when this run began.
    """

    def __init__(self, plugin: common.Installer, start: Start = Start()) -> None:
        self.plugin = plugin
        self.start = start
        self.config = plugin.config
        self.home = jobs.home(self.config.config_dir)

    def prepare(self) -> None:
        """Look whether the servers can be worked with.

        :raises Problem: no Dovecot here, or a broken configuration.
        """
        if self.config.verb not in ("plugins", "rollback") and not self.config.dry_run:
            self.recover()
        if self.config.verb != "rollback":
            for server in self.found().servers:
                server.look()

    def found(self, lineage: str = "") -> Found:
        """The servers of this host, by the options of ``lineage``."""
        chosen = self.options(lineage)
        return discovery.find(chosen.server_root, chosen.postfix_root, chosen.postfix_services, commands.run)

    def describe(self) -> str:
        """For ``certbot plugins``: what was found."""
        found = self.found()
        lines = []
        for server in found.servers:
            try:
                lines.append(server.describe())
            except Problem as problem:
                lines.append(f"{server.name}: {problem}")
        return "\n".join([*lines, *found.notes])

    def names(self) -> list[str]:
        """Fully qualified names of this host and of the servers' configurations."""
        import socket

        names = {name for server in self.found().servers for name in server.names()} | {socket.getfqdn().lower()}
        fit = (name for name in names if is_host_name(name, wildcard=False))
        return sorted(name for name in fit if "." in name and not name.startswith("localhost."))

    def options(self, lineage: str = "") -> Options:
        """What the admin says now, else chose before, else the defaults."""
        said = {name: value for name, value in self._given().items() if self._said(name, value)}
        if self.start.reuse_key is not None:
            said["reuse_key"] = self.start.reuse_key
        return jobs.options(self.config.config_dir, lineage, said)

    def install(self, source: Source, domains: list[str]) -> Optional[Deployment]:
        """Write an explicit install.

        :raises Problem: nothing was changed, or everything was put back.
        """
        lineage = lineages.of_file(self.config.config_dir, source.cert)
        if lineage is None:
            name = jobs.external_name(domains)
            job = jobs.of_files(source, domains, self.options(name))
            return self._begin(replace(job, again="the same command and --dovecot-force"))
        job = jobs.of_lineage(self.config.config_dir, lineage, self.options(lineage.name), True, self.start.spki)
        standby.refuse_install(self.way(), lineage.name)
        deployment = self._begin(job)
        if deployment:
            deployment.notes += self._keep_true(lineage)
        return deployment

    def renewed(self, name: str) -> Optional[Deployment]:
        """Write a lineage to the servers that it is installed on; None if there is nothing to do.

        :raises Problem: nothing was changed, or everything was put back.
        """
        lineage = jobs.existing(self.config.config_dir, name)
        way = self.way()
        pair = way.pair(name)
        if pair is not None:
            # A switch that was killed goes before anything else: half of it may be done.
            handover.finish(way, pair)
        return self._begin(jobs.of_lineage(self.config.config_dir, lineage, self.options(name), False, self.start.spki))

    def issued(self, name: Optional[str], names: Sequence[str]) -> Optional[Deployment]:
        """Write what certbot has just issued without saying so (``certonly``), if it is a lineage that is installed."""
        for lineage in self.meant(name, names):
            if not glance.settled(self.home, lineage):
                deployment = self.renewed(lineage)
                if deployment:
                    return deployment
        return None

    def meant(self, name: Optional[str], names: Sequence[str]) -> list[str]:
        """The names of the lineages that ``--cert-name`` or the host names on the command line mean."""
        if name:
            return [name] if lineages.load(self.config.config_dir, name) else []
        return [lineage.name for lineage in lineages.matching(self.config.config_dir, names)]

    def register(self, name: Optional[str]) -> Optional[Told]:
        """Note that a lineage stands by for the one that ``--dovecot-standby-for`` names, and do what is to be done then.

        :returns: what is to be said; None if it stands by for nobody.
        :raises Problem: it cannot.
        """
        first = self.plugin.conf("standby-for")
        if not first or not name:
            return None
        return standby.register(self.way(), first, name)

    def name_of(self, source: Source) -> Optional[str]:
        """The name of the lineage whose files these are; None if they are no lineage's."""
        lineage = lineages.of_file(self.config.config_dir, source.cert)
        return lineage.name if lineage else None

    def tend(self, name: str) -> Told:
        """Look after the records of a lineage's keys, and switch to the standby if that is due and proven.

        :raises Problem: a switch or an update failed.
        """
        return handover.tend(self.way(), name)

    def way(self) -> Way:
        """What the deeds work with, on this host."""
        return Way(self.config.config_dir, jobs.now, commands.run, _Checkpoint(self.plugin), watch.ask_dns, watch.look_up)

    def orphans(self) -> tuple[str, ...]:
        """What is to be said of lineages that were deleted while servers name their files; mostly some ``stat`` calls."""
        gone = glance.gone(self.config.config_dir, self.home)
        if not gone:
            return ()
        return orphans.tell(self._host(self.options(), NoCheckpoint()), gone)

    def recover(self) -> None:
        """Clear what a killed run left in certbot's ``IN_PROGRESS``.

        We write nothing before our checkpoint is finished, so what is in there of ours is what was on disk at that time, and
        putting it back could only undo what the admin edited since.  Another installer's is put back, as it would do itself.

        :raises FileProblem: a file cannot be restored.
        """
        path = self.config.in_progress_dir
        if not os.path.isdir(path):
            return
        listed = files.read_if_there(os.path.join(path, "FILEPATHS")) or b""
        roots = tuple(os.path.join(os.path.realpath(server.root), "") for server in self.found().servers)
        if any(os.path.realpath(line).startswith(roots) for line in listed.decode(errors="replace").splitlines()):
            shutil.rmtree(path)
            return
        with _reverter():
            self.plugin.reverter.recovery_routine()

    def roll_back(self, restore: Callable[[], None], number: object = 1) -> Rollback:
        """Let certbot bring back files, under all locks.

        :param restore: does it.
        :param number: how many checkpoints it uses up, as certbot says it.
        :returns: what is to be proven by :meth:`~certbot_dovecot.deploy.rollback.Rollback.follow`.
        :raises Problem: it failed; everything was put back, unless it says otherwise.
        """
        chosen = replace(self.options(), postfix_services=self._every_service())
        servers = discovery.find(chosen.server_root, chosen.postfix_root, chosen.postfix_services, commands.run).servers

        def locked() -> None:
            with ExitStack() as edits, _reverter():
                for server in servers:
                    edits.enter_context(server.edit_lock())
                restore()

        with ExitStack() as locks:
            locks.enter_context(files.locked(f"{self.home}.lock"))
            with _reverter():
                backups = _Backups(self.config, number)
            rollback = Rollback(servers, backups, self.options().probe_timeout)
            self._ask_gate(servers, backups)
            rollback.locks = locks.pop_all()
            rollback.restore(locked, lambda write: reconcile.forget_open(self.home, write))
        return rollback

    def _every_service(self) -> str:
        """The services of Postfix that a rollback may change: those that lineages were installed on, whatever is said now."""
        said = self.options().postfix_services
        try:
            records = [jobs.remembered(self.config.config_dir, name) for name in store.lineages(self.home)]
        except Problem:
            # One that cannot be read may have had any.
            return "all"
        words = {record.options.postfix_services for record in records if record is not None and record.servers} or {said}
        return words.pop() if len(words) == 1 else "all"

    def _ask_gate(self, servers: Sequence[IMailServer], backups: _Backups) -> None:
        """Nothing, unless the files that a rollback brings back name another key, and the present one must stay.

        :raises Problem: so it is; the checkpoints are as they were.
        """
        coming = {os.path.realpath(path): data for path, data in backups.coming().items()}
        edits = []
        for server in servers:
            root = os.path.join(os.path.realpath(server.root), "")
            mine = [Edit(path, files.read_if_there(path), data) for path, data in coming.items() if path.startswith(root)]
            edits.append((server, [edit for edit in mine if edit.old != edit.new]))
        changed = [(server, mine) for server, mine in edits if mine]
        again = "certbot rollback --installer dovecot --dovecot-force"
        force = bool(self.plugin.conf("force"))
        proposed = Proposed("", self.options(), (), changed, again=again, force=force)
        try:
            warnings = key_gate.of(self.way())(proposed)
        except Problem:
            backups.forget()
            raise
        for warning in warnings:
            print(warning, file=sys.stderr)

    def _begin(self, job: Job) -> Optional[Deployment]:
        # In cli.ini it is seen by everybody; on a timer's command line only here.
        retried = job.retried and not self.config.disable_renew_updates
        job = replace(job, retried=retried, force=bool(self.plugin.conf("force")))
        return reconcile.begin(self._host(job.options, _Checkpoint(self.plugin)), job)

    def _host(self, chosen: Options, checkpoint: Checkpoint) -> Host:
        return jobs.host(self.config.config_dir, chosen, commands.run, checkpoint, key_gate.of(self.way()))

    def _keep_true(self, lineage: Lineage) -> tuple[str, ...]:
        """See to it that a lineage is renewed to the servers whatever becomes of its renewal conf (rule R11).

        ``certonly``, ``reconfigure --installer null`` and a certbot without this plugin drop the installer from it in silence.
        """
        ours = lineage.installer == self.plugin.name
        try:
            path = hook.ensure(self.config.renewal_deploy_hooks_dir)
        except Problem as problem:
            if not ours:
                raise
            return (f"{problem} While the renewal configuration names the installer, nothing depends on that hook.",)
        if ours:
            return ()
        parameters = lineages.parameters(self.config.config_dir, lineage.name)
        return renewals.notes(lineage.name, sorted(lineage.names()), parameters, path, renewals.version())

    def _given(self) -> dict[str, Any]:
        return {
            "server_root": os.path.abspath(self.plugin.conf("server-root")),
            "postfix_root": _absolute(self.plugin.conf("postfix-root")),
            "postfix_services": self.plugin.conf("postfix-services"),
            "store": _absolute(self.plugin.conf("store")),
            "key_rotation": self.plugin.conf("key-rotation"),
            "probe_timeout": float(self.plugin.conf("probe-timeout")),
            "dane": self.plugin.conf("dane"),
            "resolver": self.plugin.conf("resolver"),
            "dane_floor": float(self.plugin.conf("dane-floor")),
            "publish_rfc2136": _absolute(self.plugin.conf("publish-rfc2136")),
            "publish_command": self.plugin.conf("publish-command"),
            "dane_hosts": self.plugin.conf("dane-hosts"),
        }

    def _said(self, name: str, value: object) -> bool:
        """Whether an option is said: it differs from its default, or the admin named it on this command line."""
        if value != getattr(_DEFAULTS, name):
            return True
        return self.config.verb != "renew" and self.explicit(f"dovecot_{name}")

    def explicit(self, variable: str) -> bool:
        """Whether the admin said something of ``variable``; certbot tells since 2.7, before that the command line does."""
        if hasattr(self.config, "set_by_user"):
            return bool(self.config.set_by_user(variable))
        flags = [f"--{variable.replace('_', '-')}", f"--no-{variable.replace('_', '-')}"]
        return any(argument.split("=", 1)[0] in flags for argument in sys.argv[1:])


class _Checkpoint:
    """certbot's reverter as the transaction wants it: finished *before* the first byte of a configuration is written.

    A kill then leaves a checkpoint of what is on disk, and never an ``IN_PROGRESS`` over half-written files.
    """

    def __init__(self, plugin: common.Installer) -> None:
        self._plugin = plugin
        self._made: Optional[str] = None

    def save(self, paths: Sequence[str], new: Sequence[str], title: str) -> None:
        """Copy ``paths`` into a checkpoint."""
        config = self._plugin.config
        with _reverter():
            before = set(os.listdir(config.backup_dir))
            if paths:
                self._plugin.add_to_checkpoint(set(paths), title)
            if new:
                self._plugin.reverter.register_file_creation(False, *new)
            self._plugin.finalize_checkpoint(title.strip())
            made = set(os.listdir(config.backup_dir)) - before
        self._made = os.path.join(config.backup_dir, made.pop()) if len(made) == 1 else None

    def discard(self) -> None:
        """Remove the checkpoint again."""
        if self._made:
            shutil.rmtree(self._made, ignore_errors=True)


class _Backups:
    """The checkpoints that certbot's reverter is about to use up, and a copy of them.

    :param number: how many, as certbot says it; what is no number is certbot's to refuse.
    """

    def __init__(self, config: Any, number: object) -> None:
        self._directory = config.backup_dir
        self._copies = os.path.join(config.work_dir, "dovecot-rollback")
        # What a killed run left.
        self.forget()
        wanted = int(str(number)) if str(number).isdigit() else 0
        self._names = sorted(os.listdir(self._directory))[-wanted:] if wanted else []
        os.mkdir(self._copies, 0o700)
        for name in self._names:
            shutil.copytree(os.path.join(self._directory, name), os.path.join(self._copies, name))

    def paths(self) -> Sequence[str]:
        """The files that it will write or remove, absolute."""
        places = [os.path.join(self._copies, name) for name in self._names]
        return [path for place in places for which in ("FILEPATHS", "NEW_FILES") for path in self._listed(place, which)]

    def coming(self) -> dict[str, Optional[bytes]]:
        """What each of these files will be; None for one that is removed."""
        found: dict[str, Optional[bytes]] = {}
        # As certbot's reverter does it: the newest first, so that the oldest one counts.
        for name in reversed(self._names):
            place = os.path.join(self._copies, name)
            for number, path in enumerate(self._listed(place, "FILEPATHS")):
                found[path] = files.read_if_there(os.path.join(place, f"{os.path.basename(path)}_{number}"))
            found.update(dict.fromkeys(self._listed(place, "NEW_FILES")))
        return found

    @staticmethod
    def _listed(place: str, which: str) -> list[str]:
        return [os.fsdecode(line) for line in (files.read_if_there(os.path.join(place, which)) or b"").splitlines()]

    def put_back(self) -> Sequence[str]:
        """Bring the checkpoints back; what could not be brought back, full sentences."""
        failures = []
        for name in self._names:
            copy, place = os.path.join(self._copies, name), os.path.join(self._directory, name)
            if not os.path.isdir(copy):
                continue
            try:
                shutil.rmtree(place, ignore_errors=True)
                os.rename(copy, place)
            except OSError as exc:
                failures.append(f"certbot's checkpoint {place} is gone ({exc.strerror}); its files are in {copy}.")
        if not failures:
            self.forget()
        return failures

    def forget(self) -> None:
        """Drop the copies."""
        shutil.rmtree(self._copies, ignore_errors=True)


@contextmanager
def _reverter() -> Iterator[None]:
    """What certbot's reverter and the file system say, as a problem."""
    try:
        yield
    except (errors.Error, OSError) as exc:
        raise FileProblem(f"certbot's checkpoint directory: {exc}", todo="See that it can be written, then run again") from exc


def _absolute(path: str) -> str:
    return os.path.abspath(path) if path else ""
