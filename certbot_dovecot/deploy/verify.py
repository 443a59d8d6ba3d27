"""Reload, ask, go back: how a change of the servers' files is proven, whoever makes it.

An install, a renewal, a switch of keys, an undo and a ``certbot rollback`` all change files first and then need the same three
steps.  The servers are reloaded, once each.  Their endpoints are asked until they serve what is expected.  If one does not,
the old bytes come back, and the servers are made to serve what they served before.

A reload can end a server: Postfix's master process exits if it cannot listen where master.cf says, and ``postfix reload``
still returns 0 (measured).  So the way back reloads what runs and starts what does not run any more.  Only a server
whose reload was begun here is started; the caller reloads only servers that run.  A server that was down stays down.

The way back does not stop half way.  What fails for one server does not keep the next one from being brought back, and an
interrupt (Ctrl-C) does not end it.  The message says what was put back and what was not.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Callable, Optional

from certbot_dovecot import bundle as bundles
from certbot_dovecot import files
from certbot_dovecot.problems import DeployProblem, Problem, ServerProblem, sentence
from certbot_dovecot.servers import probe
from certbot_dovecot.servers.contract import Endpoint, IMailServer, Served
from certbot_dovecot.servers.probe import Answer

#: Seconds for a look at what endpoints serve before anything is changed.
FIRST_LOOK = 3.0

LOOK_AT_THE_LOG = "See the server's log (doveadm log errors, journalctl, mail.log), mend the cause and run the command again"


class Verification:
    """One change that is being proven and can still be taken back.

    :param undo: puts all bytes back and returns what could not be put back, full sentences
        (:meth:`certbot_dovecot.transaction.Transaction.undo`).
    :param before: SHA-256 of the leaf, upper-case hex, that each endpoint served before; without those that served none.
    :param seconds: how long endpoints are asked.
    :param sni: the host name to ask for; None for none.
    :param waiting: told which endpoints are waited for; as for :func:`certbot_dovecot.servers.probe.wait_until`.
    :param look: asks endpoints, as :func:`certbot_dovecot.servers.probe.wait_until` does.
    :ivar went_back: whether :meth:`back` was called.
    """

    def __init__(
        self,
        undo: Callable[[], Sequence[str]],
        before: Mapping[Endpoint, str],
        seconds: float,
        sni: Optional[str] = None,
        waiting: Callable[[Sequence[Endpoint]], None] = lambda left: None,
        look: Callable[..., tuple[Answer, ...]] = probe.wait_until,
    ) -> None:
        self._undo = undo
        self._before = dict(before)
        self._seconds = seconds
        self._sni = sni
        self._waiting = waiting
        self._look = look
        self._reloaded: list[IMailServer] = []
        self.went_back = False

    @property
    def reloaded(self) -> tuple[str, ...]:
        """Names of the servers whose reload was begun."""
        return tuple(server.name for server in self._reloaded)

    def reload(self, servers: Sequence[IMailServer]) -> None:
        """Reload each of ``servers`` once; all of them must run.

        :raises Problem: one refuses, or died of it.
        """
        for server in servers:
            # Before the reload: an interrupt may come when half of it is done.
            self._reloaded.append(server)
            server.reload()

    def ask(self, expected: Mapping[Endpoint, str], algorithm: Optional[str] = None) -> tuple[Answer, ...]:
        """Ask endpoints until they serve what is expected.

        :param expected: SHA-256 of the leaf, upper-case hex.
        :param algorithm: as for :func:`certbot_dovecot.servers.probe.ask`.
        :returns: the last answer of each; those that are not as expected are the caller's to judge.
        :raises ServerProblem: a server that was reloaded does not run any more.
        """
        answers = self._look(expected, self._sni, self._seconds, algorithm, self._waiting)
        # Postfix's master process may still be there when its reload returns, and be about to exit.
        for server in self._reloaded:
            if not server.running():
                raise ServerProblem("it does not run any more since it was reloaded", where=server.name, todo=LOOK_AT_THE_LOG)
        return answers

    def prove(
        self, servers: Sequence[IMailServer], served: Sequence[Served]
    ) -> tuple[tuple[Answer, ...], tuple[Answer, ...]]:
        """Reload ``servers``, and ask endpoints until they serve what the configuration names.

        :param served: the endpoints.
        :returns: answers that are as they should be, and answers of endpoints that were broken before and still are.
        :raises Problem: a file that is named cannot be read, a server refuses, or an endpoint serves something else.
        """
        expected = named(served, self._before)
        self.reload(servers)
        answers = self.ask(expected)
        wrong = tuple(one for one in answers if one.digest != expected[one.endpoint])
        worse = [one for one in wrong if one.endpoint in self._before]
        if worse:
            what = f"not every endpoint serves what its configuration names now: {tell_all(worse)}"
            raise ServerProblem(what, todo=LOOK_AT_THE_LOG)
        return tuple(one for one in answers if one not in wrong), wrong

    @contextlib.contextmanager
    def or_back(self) -> Iterator[None]:
        """Go back if what is done inside fails or is interrupted.

        :raises DeployProblem: it failed; the message says what was put back.  It is raised for an interrupt too, if not
            everything could be put back.
        """
        try:
            yield
        except Problem as problem:
            raise self.failed(problem, self.back()) from problem
        except BaseException as exc:
            failures = self.back()
            if failures:
                todo = "When the servers run again, run the command again"
                raise self.failed(Problem("interrupted", where=" and ".join(self.reloaded), todo=todo), failures) from exc
            raise

    def back(self) -> tuple[str, ...]:
        """Put the old bytes back, and make every server whose reload was begun serve what it served before.

        :returns: what could not be put back, full sentences; empty if everything is as it was.
        """
        self.went_back = True
        failures: list[str] = []
        _insist(lambda: failures.extend(self._undo()), "a file could not be put back", failures)
        if not self._reloaded:
            return tuple(failures)
        servers = list({server.name: server for server in self._reloaded}.values())
        back = [_insist(functools.partial(_revive, one), f"{one.name} could not be brought back", failures) for one in servers]
        wrong = self._not_as_before(failures)
        # A master process may have been there still when it was looked for, on its way out.
        late = [one for one, done in zip(servers, back) if done and not _runs(one)]
        if late:
            for one in late:
                _insist(one.start, f"{one.name} could not be started", failures)
            wrong = self._not_as_before(failures)
        failures += [f"{one.name} does not run." for one in servers if not _runs(one)]
        failures += [sentence(tell(answer)) for answer in wrong]
        return tuple(failures)

    def _not_as_before(self, failures: list[str]) -> tuple[Answer, ...]:
        """The answers of endpoints that do not serve what they did before.

        :param failures: gets a sentence if that could not be seen.
        """
        answers: list[Answer] = []

        def look() -> None:
            answers[:] = self._look(self._before, self._sni, self._seconds, None, self._waiting)

        _insist(look, "it was not seen whether every endpoint serves what it did before", failures)
        return tuple(answer for answer in answers if answer.digest != self._before[answer.endpoint])

    def failed(self, problem: Problem, failures: Sequence[str]) -> DeployProblem:
        """The problem, with what was put back and what was not.

        :param failures: as :meth:`back` returns them.
        """
        todo = problem.todo
        left = "The files are as they were before"
        if failures:
            left = "Not everything could be put back: " + " ".join(_capital(one) for one in failures)
            down = [server.name for server in self._reloaded if not _runs(server)]
            if down:
                todo = " ".join(filter(None, [f"See the log of {' and '.join(down)}, and start it.", todo]))
        elif self._reloaded:
            names = " and ".join(dict.fromkeys(self.reloaded))
            left += f", and {names} {'was' if len(set(self.reloaded)) == 1 else 'were'} reloaded with them"
        return DeployProblem(problem.what, where=problem.where, left=left, todo=todo)


def _insist(step: Callable[[], None], otherwise: str, failures: list[str]) -> bool:
    """Do one step of the way back, and once more if it was interrupted.

    :param otherwise: what it means if it cannot be done, a sentence without its stop.
    :param failures: gets what stood in the way.
    :returns: whether it was done.
    """
    for last in (False, True):
        try:
            step()
            return True
        except Problem as problem:
            failures.append(f"{sentence(otherwise)} {problem}")
            return False
        except BaseException as exc:
            # Whatever this is: the steps after this one are still to be done.
            if last:
                failures.append(sentence(f"{otherwise}: {exc!r}"))
    return False


def _revive(server: IMailServer) -> None:
    """Make a server take the bytes that are there now.

    :raises Problem: it refuses them.
    """
    server.check()
    if not server.running():
        server.start()
        return
    try:
        server.reload()
    except Problem:
        # It may have died of what it was told before, or of this.
        if server.running():
            raise
        server.start()


def _runs(server: IMailServer) -> bool:
    """Whether it runs; one whose configuration cannot be read is not known to."""
    try:
        return server.running()
    except Problem:
        return False


def served_now(served: Sequence[Served], seconds: float = FIRST_LOOK, sni: Optional[str] = None) -> dict[Endpoint, str]:
    """SHA-256 of the leaf, upper-case hex, that endpoints serve now; without those that serve none."""
    answers = probe.ask_all([one.endpoint for one in served], sni, seconds)
    return {answer.endpoint: answer.digest for answer in answers if answer.leaf}


def named(served: Sequence[Served], before: Mapping[Endpoint, str]) -> dict[Endpoint, str]:
    """SHA-256 of the leaf, upper-case hex, that the configuration names for each endpoint; without those it names none for.

    :param before: the endpoints that served a certificate.  What they name must be readable.
    :raises Problem: a file that such an endpoint names cannot be read.
    """
    expected: dict[Endpoint, str] = {}
    for one in served:
        if one.pair is None:
            continue
        try:
            leaf = bundles.leaf_of(files.read(one.pair.cert), one.pair.cert)
            files.read(one.pair.key)
        except Problem:
            if one.endpoint in before:
                raise
            continue
        expected[one.endpoint] = bundles.digest_of(leaf)
    return expected


def tell(answer: Answer) -> str:
    """What an endpoint answered, for a message."""
    if answer.leaf is None:
        return f"{answer.endpoint}: {answer.error}"
    return f"{answer.endpoint} serves the certificate with SHA-256 {answer.digest[:16]}..."


def tell_all(answers: Sequence[Answer]) -> str:
    """What endpoints answered, for a message."""
    return "; ".join(map(tell, answers))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
