"""What is being waited for: on a terminal one line that goes away, elsewhere nothing."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time

from certbot_dovecot import cli, progress, status
from certbot_dovecot.cli import screen
from certbot_dovecot.servers import probe
from certbot_dovecot.servers.contract import Endpoint


@contextlib.contextmanager
def terminal(monkeypatch):
    """A terminal in the place of standard output and standard error; gives what it was sent since the last time."""
    master, slave = os.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with os.fdopen(slave, "w") as stream, monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", stream)
        patched.setattr(sys, "stdout", stream)
        yield lambda: _sent(master)
    os.close(master)


def _sent(master):
    """What was sent to a terminal; it may come in pieces."""
    data = os.read(master, 65536)
    while select.select([master], [], [], 0.1)[0]:
        data += os.read(master, 65536)
    return data.decode()


def test_a_line_that_goes_away(monkeypatch):
    with terminal(monkeypatch) as said:
        with progress.waiting("Asking"):
            assert said().endswith("Asking...")
        assert said() == "\r\033[K"
        progress.show("x" * 500)
        assert len(said()) < 90


def test_endpoints_that_are_waited_for(monkeypatch):
    with terminal(monkeypatch) as said:
        progress.endpoints(["a", "b", "c"])
        assert "Waiting for a, b and 1 more to serve the certificate..." in said()
        progress.endpoints([])
        assert said() == "\r\033[K"


def test_colours_are_for_a_terminal(monkeypatch):
    with terminal(monkeypatch):
        assert screen.painted("CRITICAL", "x") == "\033[31mx\033[0m"
        assert screen.painted("none", "x") == "x"
        monkeypatch.setenv("NO_COLOR", "1")
        assert screen.painted("CRITICAL", "x") == "x"
        monkeypatch.delenv("NO_COLOR")
        monkeypatch.setenv("TERM", "dumb")
        assert screen.painted("CRITICAL", "x") == "x"


def test_a_pipe_gets_nothing(capsys, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    with progress.waiting("Asking"):
        progress.endpoints(["a"])
    print(screen.painted("OK", "x"))
    assert tuple(capsys.readouterr()) == ("x\n", "")


def test_an_interrupt_ends_without_a_traceback(capsys, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(status, "make", interrupted)
    assert cli.main(["status"]) == 130
    assert capsys.readouterr().err == "certbot-dovecot: interrupted\n"


def test_the_probe_tells_what_it_waits_for():
    closed = Endpoint("Dovecot", "imap", "127.0.0.1", 1, True)
    told = []
    begin = time.monotonic()
    [answer] = probe.wait_until({closed: "AA"}, None, 1.3, waiting=lambda left: told.append(list(left)))
    assert answer.error == "connection refused"
    assert told == [[closed], []]
    assert time.monotonic() - begin < 10
