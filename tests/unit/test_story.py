"""How a page of the documentation is read (:mod:`tests.lab.story`): nothing of it may be skipped in silence."""

from __future__ import annotations

import pytest

from tests.lab import story
from tests.lab.story import Elsewhere, Event, File, Typed

PAGE = """\
Title
=====

.. lab: fresh

Type this:

.. code-block:: console

   # certbot renew -q \\
     --force-renewal
   # certbot plugins
   * dovecot
   ...

   The end

.. lab: exit 2
.. lab: at 2027-01-25

.. code-block:: console

   # certbot-dovecot plan
   # certbot renew

.. lab: write /etc/some.ini

Its file::

    key = value

.. lab: write /etc/hidden

   secret

.. lab: do postfix stop

.. lab: ca /a.csr /a.crt /ca.crt

.. lab: elsewhere the tests of the packages

.. code-block:: console

   # apt install it

.. lab: now
"""


def test_a_page():
    assert story.steps(PAGE) == (
        Event(4, "fresh"),
        Typed(10, "certbot renew -q --force-renewal"),
        Typed(12, "certbot plugins", ("* dovecot", "...", "", "The end")),
        Event(19, "at", "2027-01-25 12:00:00"),
        Typed(23, "certbot-dovecot plan", (), 2, "2027-01-25 12:00:00"),
        Typed(24, "certbot renew", (), 0, "2027-01-25 12:00:00"),
        File(26, "/etc/some.ini", "key = value\n"),
        File(32, "/etc/hidden", "secret\n"),
        Event(36, "do", "postfix stop", "2027-01-25 12:00:00"),
        Event(38, "ca", "/a.csr /a.crt /ca.crt", "2027-01-25 12:00:00"),
        Elsewhere(44, "apt install it", "the tests of the packages"),
        Event(46, "now"),
    )


@pytest.mark.parametrize(
    "page",
    [
        ".. code-block:: console\n\n   certbot renew\n",
        ".. code-block:: console\n   :emphasize-lines: 1\n\n   # certbot renew\n",
        ".. lab: exit two\n",
        ".. lab: exit 2\n",
        ".. lab: at noon\n",
        ".. lab: at 2027-01-25 12:00\n",
        ".. lab: fresh please\n",
        ".. lab: do\n",
        ".. lab: dns leads\n",
        ".. lab: ca /a.csr\n",
        ".. lab: nonsense\n",
        ".. lab: write /a\n",
        ".. lab: write /a\n\n.. lab: fresh\n",
        ".. lab: elsewhere why\n",
        ".. lab: elsewhere why\n\n.. lab: fresh\n",
    ],
)
def test_what_is_unclear_is_not_skipped(page):
    with pytest.raises(story.Unclear):
        story.steps(page)


@pytest.mark.parametrize(
    "block",
    [
        "So::\n\n    certbot renew\n",
        "So::\n\n    some text\n    # certbot-dovecot plan\n",
        ".. code-block:: sh\n\n   $ certbot renew\n",
        ".. code-block::\n\n   certbot renew\n",
    ],
)
def test_a_command_that_nobody_runs_is_found(block):
    [(line, text)] = story.strays(block)
    assert "certbot" in text
    assert block.splitlines()[line - 1].strip() == text


def test_what_is_no_command_is_not():
    assert story.strays("So::\n\n    certbot.timer\n    a certbot\n\ncertbot renews\n") == []


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        ([], ""),
        ([], "\n"),
        (["a"], "a\n"),
        (["a ... c"], "a b c"),
        (["3 1 1 AB..."], "3 1 1 ABCD"),
        (["a", "...", "d"], "a\nb\nc\nd\n"),
        (["a", "...", "d"], "a\nd\n"),
        (["...", "b", "..."], "a\nb\nb\nc"),
        (["...", "b", "c", "...", "d"], "b\nb\nc\nd"),
        (["..."], ""),
        (["a", "", "b"], "a\n\nb"),
        (["a.c (x|y)*"], "a.c (x|y)*"),
        (["a  b", "  c d"], "a     b\n  c d"),
    ],
)
def test_as_the_page_says(expected, printed):
    assert story.differs(expected, printed) == ""


def test_a_date_is_any_date_where_the_story_has_none():
    expected = ["until 2026-11-25 (90 days)"]
    assert story.differs(expected, "until 2031-01-02 (90 days)", dated=False) == ""
    assert story.differs(expected, "until 2031-01-02 (90 days)")
    assert story.differs(expected, "until soon (90 days)", dated=False)
    assert story.differs(expected, "until 2031-01-02 (91 days)", dated=False)


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        ([], "a"),
        (["a"], ""),
        (["a"], "a\nb"),
        (["a"], "ab"),
        (["a", "b"], "a\n\nb"),
        (["a ... c"], "a b d"),
        (["a", "...", "d"], "a\nb\nc"),
        (["...", "b", "c"], "b\nb\nd\nc\nd"),
        (["abc"], "a.c"),
        (["a b"], "a  b"),
        (["  a"], "a"),
        (["..."] * 20 + ["x"], "y\n" * 200),
    ],
)
def test_not_as_the_page_says(expected, printed):
    assert "The page says:" in story.differs(expected, printed)


def test_names_and_years_are_those_of_the_lab():
    text = "mail.example.org 2026.key 2027-01-25 (2026-2) 3.2026 1.2026.3 12026 example.organic"
    assert story.localized(text, 2030) == "mail.example.test 2030.key 2031-01-25 (2030-2) 3.2026 1.2026.3 12026 example.organic"
