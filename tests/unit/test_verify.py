"""Whatever fails while a change is proven: the old bytes come back, what ran runs, what was down stays so, the text is true."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zope.interface import implementer
from zope.interface.verify import verifyObject

from certbot_dovecot import files
from certbot_dovecot.deploy.verify import Verification
from certbot_dovecot.files import Edit
from certbot_dovecot.problems import DeployProblem, Problem, ServerProblem
from certbot_dovecot.servers.contract import Endpoint, IMailServer, MailDomains, Planned, Served, View
from certbot_dovecot.servers.probe import Answer
from certbot_dovecot.transaction import NoCheckpoint, Transaction

OLD, NEW = b"old", b"new"


@dataclass
class Faults:
    """What goes wrong.

    :param new: what the server does when it is reloaded with the new bytes.
    :param old: the same with the old bytes, the first time.
    :param starts: whether it can be started.
    :param interrupts: calls, numbered from 0, of :meth:`FakeServer.reload` and ``start`` together, that are interrupted.
    """

    new: str = "ok"
    old: str = "ok"
    starts: bool = True
    interrupts: frozenset[int] = frozenset()


@implementer(IMailServer)
class FakeServer:
    """A server that reads one file when it is started or reloaded, and serves what it read."""

    def __init__(self, root: str, name: str, port: int, faults: Faults, up: bool = True) -> None:
        self.root, self.name, self.faults = root, name, faults
        self.path = f"{root}/{name}.conf"
        files.write(self.path, OLD)
        self.endpoint = Endpoint(name, "imap", "127.0.0.1", port, True)
        self.loaded: Optional[bytes] = OLD if up else None
        self.calls = 0
        self.started = 0
        # Whether a process that dies is seen once more.
        self._dying = False

    def describe(self):
        return self.name

    def look(self, sni=None):
        return View((Served(self.endpoint, None),), files.sign([self.path]))

    def plan(self, claim):
        return Planned()

    def preview(self, edits, sni):
        return ()

    def edit_lock(self):
        return contextlib.nullcontext()

    def apply(self, edit):
        files.apply(edit)

    def check(self):
        if files.read(self.path) not in (OLD, NEW):
            raise ServerProblem("refused", where=self.name)

    def running(self):
        # As Postfix: what dies of a reload may be seen once more.
        seen, self._dying = self.loaded is not None or self._dying, False
        return seen

    def start(self):
        assert self.loaded is None
        self.started += 1
        self._call()
        if not self.faults.starts:
            raise ServerProblem("does not start", where=self.name)
        self.loaded = files.read(self.path)

    def names(self):
        return ()

    def without(self, claim):
        return ()

    def mail_domains(self):
        return MailDomains()

    def hint(self):
        return ""

    def reload(self):
        data = files.read(self.path)
        self._call()
        if self.loaded is None:
            raise ServerProblem("not running", where=self.name)
        what = self.faults.new
        if data == OLD:
            what, self.faults.old = self.faults.old, "ok"
        if what == "ok":
            self.loaded = data
        elif what == "raises":
            raise ServerProblem("reload failed", where=self.name)
        elif what in ("dies", "dies late", "dies and raises"):
            self.loaded, self._dying = None, what == "dies late"
            if what == "dies and raises":
                raise ServerProblem("died of it", where=self.name)
        else:
            assert what == "ignores"

    def _call(self):
        self.calls += 1
        if self.calls - 1 in self.faults.interrupts:
            raise KeyboardInterrupt


def test_the_fake_keeps_the_contract(tmp_path):
    assert verifyObject(IMailServer, FakeServer(str(tmp_path), "Dovecot", 993, Faults()))


def digest(server, data):
    return Answer(server.endpoint, data).digest


@dataclass
class World:
    """Servers, one change of all of their files, and a look at their endpoints."""

    servers: list[FakeServer]
    transaction: Transaction = field(default_factory=lambda: Transaction(NoCheckpoint()))

    def __post_init__(self):
        self.ran = [server for server in self.servers if server.loaded is not None]
        self.by_endpoint = {server.endpoint: server for server in self.servers}
        before = {server.endpoint: digest(server, OLD) for server in self.ran}
        self.verification = Verification(self.transaction.undo, before, 1, look=self.look)

    def look(self, expected, sni, seconds, algorithm, waiting):
        # Time passes: what was on its way out is gone.
        for server in self.servers:
            server._dying = False
        return tuple(Answer(one, self.by_endpoint[one].loaded, "refused") for one in expected)

    def change(self, after_write=lambda: None):
        """Write, reload, ask, as every caller does."""
        with self.verification.or_back():
            for server in self.servers:
                self.transaction.do(Edit(server.path, OLD, NEW))
            after_write()
            self.verification.reload(self.ran)
            expected = {server.endpoint: digest(server, NEW) for server in self.ran}
            answers = self.verification.ask(expected)
            if any(answer.digest != expected[answer.endpoint] for answer in answers):
                raise ServerProblem("not every endpoint served it")

    def as_before(self):
        return all(files.read(server.path) == OLD for server in self.servers) and all(
            server.loaded == OLD for server in self.ran
        )


DEATHS = ["dies", "dies late", "dies and raises"]
faults = st.builds(
    Faults,
    new=st.sampled_from(["ok", "raises", "ignores", *DEATHS]),
    old=st.sampled_from(["ok", "raises", "ignores", *DEATHS]),
    starts=st.booleans(),
    interrupts=st.frozensets(st.integers(0, 5), max_size=2),
)


@given(st.lists(st.tuples(faults, st.booleans()), min_size=1, max_size=3))
def test_whatever_fails(tmp_path_factory, drawn):
    root = str(tmp_path_factory.mktemp("t"))
    servers = [FakeServer(root, f"Server{number}", number, *one) for number, one in enumerate(drawn)]
    world = World(servers)
    try:
        world.change()
    except KeyboardInterrupt:
        assert world.as_before()
    except DeployProblem as problem:
        text = str(problem)
        good = "The files are as they were before" in text
        # A reload that fails on the way back is told, also where it was not needed.
        assert world.as_before() or not good, text
        assert good != ("Not everything could be put back: " in text), text
        for server in world.ran:
            assert (f"{server.name} does not run." in text) == (server.loaded is None), text
    else:
        assert all(server.loaded == NEW for server in world.ran)
        return
    assert all(files.read(server.path) == OLD for server in servers)
    for server in servers:
        if server not in world.ran:
            assert (server.loaded, server.calls) == (None, 0)
        elif server.faults.starts and not server.faults.interrupts:
            assert server.loaded is not None
        # A start is tried again only where it was interrupted or came too early.
        assert server.started <= 3


@given(st.sampled_from(["ok", *DEATHS]), st.sampled_from(["ok", *DEATHS]), st.sampled_from(["ok", *DEATHS]))
def test_what_can_be_started_serves_what_it_did(tmp_path_factory, one, other, old):
    """Any death of any reload, also of the one on the way back, of a server that can be started."""
    root = str(tmp_path_factory.mktemp("t"))
    first = FakeServer(root, "Dovecot", 993, Faults(new=one, old=old))
    second = FakeServer(root, "Postfix", 465, Faults(new=other, old=old))
    world = World([first, second])
    if one == other == "ok":
        world.change()
        return
    with pytest.raises(DeployProblem) as caught:
        world.change()
    assert world.as_before()
    assert "The files are as they were before" in str(caught.value)


@pytest.mark.parametrize("interrupted", [0, 1, 2])
def test_an_interrupt_before_between_and_after_the_reloads(tmp_path, interrupted):
    first = FakeServer(str(tmp_path), "Dovecot", 993, Faults(interrupts=frozenset({0} if interrupted == 0 else ())))
    second = FakeServer(str(tmp_path), "Postfix", 465, Faults(interrupts=frozenset({0} if interrupted == 1 else ())))
    world = World([first, second])
    if interrupted == 2:
        looks = []

        def look(*args):
            looks.append(args)
            if len(looks) == 1:
                raise KeyboardInterrupt
            return world.look(*args)

        world.verification._look = look
    with pytest.raises(KeyboardInterrupt):
        world.change()
    assert world.as_before()


def test_an_interrupt_on_the_way_back_does_not_end_it(tmp_path):
    """Ctrl-C again, because it takes long: the servers come back all the same."""
    first = FakeServer(str(tmp_path), "Dovecot", 993, Faults(new="raises", interrupts=frozenset({1})))
    second = FakeServer(str(tmp_path), "Postfix", 465, Faults())
    world = World([second, first])
    with pytest.raises(DeployProblem, match="The files are as they were before"):
        world.change()
    assert world.as_before()


def test_an_interrupt_after_which_not_all_came_back_is_told(tmp_path):
    server = FakeServer(str(tmp_path), "Postfix", 465, Faults(old="dies", starts=False, interrupts=frozenset({0})))
    world = World([server])
    with pytest.raises(DeployProblem) as caught:
        world.change()
    assert "Postfix: interrupted. Not everything could be put back: " in str(caught.value)
    assert "Postfix does not run." in str(caught.value)
    assert "See the log of Postfix, and start it." in str(caught.value)


def test_what_someone_else_wrote_meanwhile_stays_and_the_servers_come_back_all_the_same(tmp_path):
    server = FakeServer(str(tmp_path), "Postfix", 465, Faults(new="dies"))
    other = FakeServer(str(tmp_path), "Dovecot", 993, Faults())
    world = World([other, server])

    def edit():
        files.write(other.path, b"mine")

    with pytest.raises(DeployProblem) as caught:
        world.change(edit)
    assert files.read(other.path) == b"mine"
    assert server.loaded == OLD
    assert "Not everything could be put back" in str(caught.value)
    assert other.path in str(caught.value)


def test_nothing_is_reloaded_for_what_failed_before_the_reload(tmp_path):
    server = FakeServer(str(tmp_path), "Postfix", 465, Faults())
    world = World([server])

    def refuse():
        raise Problem("refused", todo="Mend it")

    with pytest.raises(DeployProblem) as caught:
        world.change(refuse)
    assert str(caught.value) == "refused. The files are as they were before. Mend it."
    assert (server.calls, world.as_before()) == (0, True)
    assert world.verification.went_back


def test_an_interrupt_within_the_undo_leaves_the_rest_to_the_second_call(tmp_path):
    world = World([FakeServer(str(tmp_path), name, 1, Faults()) for name in "abc"])
    interrupts = [KeyboardInterrupt]

    def apply(edit):
        if edit.new == OLD and interrupts:
            raise interrupts.pop()
        files.apply(edit)

    for server in world.servers:
        world.transaction.do(Edit(server.path, OLD, NEW), apply)
    with pytest.raises(KeyboardInterrupt):
        world.transaction.undo()
    assert world.transaction.undo() == ()
    assert world.as_before()
