"""Configurations that cannot be worked with: one clear sentence with file and line, exit 1, and nothing is changed."""

from __future__ import annotations

import os

import pytest

from tests.integration import view
from tests.integration.test_plan import plan

LOCAL = "/etc/dovecot/local.conf"
MASTER = "/etc/postfix/master.cf"
#: name: (file, text put behind it, what is said)
CASES = {
    "no such setting": (LOCAL, "nonsense = 1\n", "nonsense"),
    "block that is not closed": (LOCAL, "protocol imap {\n", LOCAL),
    "brace too many": (LOCAL, "a_comment\n}\n", LOCAL),
    "include that is missing": (LOCAL, "# one\n!include nothing-here.conf\n", f"{LOCAL}:2: "),
    "file that includes itself": (LOCAL, f"!include {LOCAL}\n", LOCAL),
    "NUL byte": (LOCAL, "# one\nlogin_greeting = a\0b\n", f"{LOCAL}:2: contains a NUL byte"),
    "line of 20 MB": (LOCAL, f"# one\nlogin_greeting = {'x' * (20 << 20)}\n", f"{LOCAL}:2: a line of 20 MB"),
    "no such directory entry": (LOCAL, "!include loop.conf\n", "loop.conf"),
    "TLS switched off": (LOCAL, "ssl = no\n", f"{LOCAL}:1: TLS is switched off here"),
    "fields that lack": (MASTER, "\n587 inet n -\n", f"{MASTER}:"),
    "brace of an option": (MASTER, "\n587 inet n - n - - smtpd\n  -o {a = b\n", f"{MASTER}:"),
}


@pytest.mark.parametrize("case", CASES)
def test_one_sentence_and_no_change(mailhost, ca, case):
    path, text, said = CASES[case]
    os.symlink("loop.conf", "/etc/dovecot/loop.conf")
    mine = ca.leaf(["a.test"]).write("/etc/letsencrypt", "mine")
    mailhost.append(path, text)
    before = mailhost.snapshot("/etc/dovecot", "/etc/postfix", "/etc/letsencrypt/dovecot")
    served = view.leaves(mailhost)
    pair = ("--cert-path", mine.cert, "--key-path", mine.key, "--chain-path", mine.chain)
    shown = plan(mailhost, "--cert", mine.cert, "--key", mine.key, "--chain", mine.chain)
    installed = mailhost.certbot("install", "--installer", "dovecot", "-d", "a.test", *pair, check=False)
    for result in (shown, installed):
        assert result.code == 1
        assert said in result.stderr
        assert "Traceback" not in result.stderr
        assert len(result.stderr) < 2000
    assert len(shown.stderr.splitlines()) == 1
    assert mailhost.snapshot("/etc/dovecot", "/etc/postfix", "/etc/letsencrypt/dovecot") == before
    assert view.leaves(mailhost) == served
