"""Which of two lineages is served, and what each is to the servers, also in the middle of a switch."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace

import pytest

from certbot_dovecot import pairs
from certbot_dovecot.dane.answers import Key
from certbot_dovecot.ledger import Ledger, Turn
from certbot_dovecot.pairs import Member
from certbot_dovecot.rotation import Role
from certbot_dovecot.state import State
from certbot_dovecot.store import Folder

NOW = datetime.datetime(2027, 1, 2, tzinfo=datetime.timezone.utc)
FIRST, SECOND = Key("A" * 64), Key("B" * 64)
LEDGER = Ledger(standby="other")


@dataclass(frozen=True)
class Line:
    name: str
    held: Key

    def history(self):
        return ()


class Known(Member):
    """One whose key is not in a file."""

    def key(self):
        return self.lineage.held

    def deployed(self):
        spki = self.record.spki if self.record and self.record.servers else ""
        return Key(spki) if spki else self.lineage.held


def pair(one=(), other=None, ledger=LEDGER, served=("", "")):
    """The servers that the records of the two say they are installed on, and the keys that were served last."""
    first = Known(Line("first", FIRST), State(servers=one, spki=served[0] or FIRST.sha256))
    second = None if other is None else Known(Line("other", SECOND), State(servers=other, spki=served[1]))
    return pairs.arrange(Folder("/f", "/f/state.json"), ledger, "first", first, second)


@pytest.mark.parametrize(
    ("one", "other", "turning", "serving"),
    [
        (("postfix",), None, "", "first"),
        (("postfix",), (), "", "first"),
        ((), ("postfix",), "", "other"),
        (("postfix",), ("postfix",), "", "first"),
        (("postfix",), ("postfix",), "other", "first"),
        ((), ("postfix",), "other", "first"),
        (("postfix",), ("postfix",), "first", "other"),
    ],
)
def test_which_is_served(one, other, turning, serving):
    assert pair(one, other, replace(LEDGER, turning=turning)).serving.lineage.name == serving


def test_what_each_is():
    assert pair(("postfix",)).role("first") is Role.ALONE
    before = pair(("postfix",), ())
    assert (before.role("first"), before.role("other")) == (Role.SERVING, Role.STANDBY)
    after = pair((), ("postfix",), served=(FIRST.sha256, SECOND.sha256))
    assert (after.role("first"), after.role("other")) == (Role.SPENT, Role.SERVING)
    assert after.following() is None
    renewed = pair((), ("postfix",), served=("C" * 64, SECOND.sha256))
    assert renewed.role("first") is Role.STANDBY
    assert renewed.following() == FIRST


def test_in_the_middle_of_a_switch_no_key_is_spent():
    """A kill after the record of the new one was written: a renewal of it must keep the key that half of the servers serve."""
    half = pair(("postfix",), ("postfix",), replace(LEDGER, turning="other"), served=("", SECOND.sha256))
    assert (half.role("first"), half.role("other")) == (Role.SERVING, Role.SERVING)


def test_since_when_the_key_is_served():
    turned = replace(LEDGER, turns=(Turn(NOW, "other", SECOND.sha256, "x"),))
    assert pair((), ("postfix",), turned).since() == 2027
    assert pair(("postfix",)).since() is None


def test_a_key_that_waits_comes_next_unless_a_lineage_stands_by():
    old = Key("9" * 64)
    alone = pair(("postfix",), served=(old.sha256, ""))
    assert (alone.current(), alone.waits(), alone.following()) == (old, True, FIRST)
    assert alone.retired() == ()
    two = pair(("postfix",), (), served=(old.sha256, ""))
    assert (two.current(), two.waits(), two.following()) == (old, True, SECOND)
    # It stays known: its record may be in the DNS already, and is nobody's to remove.
    assert FIRST not in two.retired()
    spent = pair(("postfix",), (), served=(old.sha256, SECOND.sha256))
    assert spent.following() == FIRST
    settled = pair(("postfix",), (), served=(FIRST.sha256, ""))
    assert (settled.waits(), settled.following()) == (False, SECOND)
