"""``certbot rollback``: certbot brings files back, and the servers follow, or everything is as it was.

certbot's reverter writes the files of its last checkpoints over those of today and removes the checkpoints.  It does not know
whether a server can run with the old files: a certificate that they name may be gone, or an address.  So what is about to be
overwritten is read before, the checkpoints are copied, and the result is proven like any other change
(:mod:`~certbot_dovecot.deploy.verify`).  If a server that worked does not work with the old files, the files of today come
back, and the checkpoints too, so that the rollback can be run again.

What did not work before the rollback is no reason to go back: an admin may run it to mend exactly that.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence
from typing import Callable, Protocol

from certbot_dovecot import files, progress
from certbot_dovecot.deploy import verify
from certbot_dovecot.deploy.verify import Verification
from certbot_dovecot.files import Edit, Signature
from certbot_dovecot.problems import DeployProblem, Problem
from certbot_dovecot.servers.contract import Endpoint, IMailServer, Served
from certbot_dovecot.transaction import NoCheckpoint, Transaction


class Backups(Protocol):
    """The checkpoints that a rollback is about to use up."""

    def paths(self) -> Sequence[str]:
        """The files that it will write or remove, absolute."""

    def put_back(self) -> Sequence[str]:
        """Bring the checkpoints back; what could not be brought back, full sentences."""

    def forget(self) -> None:
        """The rollback is done: drop the copies."""


class Rollback:
    """One rollback: look, let certbot restore files, and prove or go back.

    :param servers: the servers of this host.
    :param backups: what certbot is about to use up.
    :param seconds: how long endpoints are asked.
    :param waiting: told which endpoints are waited for.
    :ivar locks: held until :meth:`follow` is done, or :meth:`restore` has failed.
    """

    def __init__(
        self,
        servers: Sequence[IMailServer],
        backups: Backups,
        seconds: float,
        waiting: Callable[[Sequence[Endpoint]], None] = progress.endpoints,
    ) -> None:
        self._servers = tuple(servers)
        self._backups = backups
        self._transaction = Transaction(NoCheckpoint())
        # Those whose configuration could be read, and whether they run.
        self._running: dict[str, bool] = {}
        served: list[Served] = []
        paths = dict.fromkeys(backups.paths())
        self._signatures: dict[str, Signature] = {}
        for server in self._servers:
            try:
                view = server.look()
                self._running[server.name] = server.running()
            except Problem:
                # It may be what the rollback is to mend.
                continue
            self._signatures[server.name] = view.signature
            paths.update(dict.fromkeys(entry[0] for entry in view.signature if not os.path.isdir(entry[0])))
            served += view.served if self._running[server.name] else ()
        self._was = {path: (files.read_if_there(path), _mode(path)) for path in paths if not os.path.isdir(path)}
        self._before = verify.served_now(served)
        self._verification = Verification(self._undo, self._before, seconds, waiting=waiting)
        self.locks = contextlib.ExitStack()

    def restore(self, restore: Callable[[], None], close: Callable[[Callable[[Edit], None]], None]) -> None:
        """Let certbot restore the files.

        :param restore: does it.
        :param close: makes what else belongs to it, by the function that is handed to it.
        :raises DeployProblem: it failed; the message says what was put back.
        """
        with contextlib.ExitStack() as locks, self._verification.or_back():
            locks.push(self.locks.pop_all())
            try:
                restore()
            finally:
                for path, (data, mode) in self._was.items():
                    now = files.read_if_there(path)
                    if now != data:
                        self._transaction.adopt(Edit(path, data, now, mode), self._apply(path))
            close(self._transaction.do)
            self.locks = locks.pop_all()

    def follow(self) -> None:
        """Make the servers whose files changed serve what these name now.

        :raises DeployProblem: a server that worked does not work with them, and everything was put back; or what did not work
            before does not work now, and the restored files stay (``kept``).
        """
        with self.locks, self._verification.or_back():
            broken = self._prove()
            self._backups.forget()
        if broken:
            raise DeployProblem(
                f"the configuration is back, but not everything works with it: {'; '.join(broken)}",
                left="It did not work before the rollback either, so the restored files were kept",
                todo="See the server's log, mend the cause, then start or reload that server",
                kept=True,
            )

    def _prove(self) -> list[str]:
        """Reload and ask; what is broken as it was before, sentences without their stop."""
        broken: list[str] = []
        reload: list[IMailServer] = []
        served: list[Served] = []
        for server in self._servers:
            try:
                view = server.look()
                if view.signature and view.signature == self._signatures.get(server.name):
                    continue
                server.check()
            except Problem as problem:
                # One that could not be read before is not worse now.
                if server.name in self._running:
                    raise
                broken.append(f"{server.name}: {str(problem).rstrip('.')}")
                continue
            if not self._running.get(server.name) and not server.running():
                broken.append(f"{server.name} does not run")
                continue
            reload.append(server)
            served += view.served
        broken += [verify.tell(answer) for answer in self._verification.prove(reload, served)[1]]
        return broken

    def _undo(self) -> tuple[str, ...]:
        return (*self._transaction.undo(), *self._backups.put_back())

    def _apply(self, path: str) -> Callable[[Edit], None]:
        """What writes a file: the server's own way for a file of its own, which takes its lock."""
        for server in self._servers:
            if os.path.realpath(path).startswith(os.path.join(os.path.realpath(server.root), "")):
                return server.apply
        return files.apply


def _mode(path: str) -> int:
    """Permission bits; what a file that was removed comes back with."""
    try:
        return stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        return 0o644
