"""Every command in the documentation, typed on a fresh mail host: it ends as the page says, and prints what the page shows.

How a page tells its story is in :mod:`tests.lab.story`, how it is played in :mod:`tests.lab.play`.
"""

from __future__ import annotations

import pathlib

import pytest

from tests.lab import play, story

ROOT = pathlib.Path(__file__).parents[2]
#: Whatever has a command is run; a new page needs no entry here.
PAGES = sorted(path for path in [ROOT / "README.rst", *(ROOT / "docs").glob("*.rst")] if story.steps(path.read_text()))
#: What the lab cannot run, and who does.
ELSEWHERE = {
    "apt install certbot python3-configobj python3-dnspython python3-zope.interface python3-pip": "the tests of the wheel",
    "apt install ./build/packages/trixie/python3-certbot-dovecot_*.deb": "the tests of the Debian packages",
    "apt purge python3-certbot-dovecot": "the tests of the Debian packages",
    "make packages": "a run of itself, in a clone",
    "python3 -m pip install --break-system-packages --no-deps build/packages/dist/*.whl": "the tests of the wheel",
    "python3 -m pytest -p no:cacheprovider --hypothesis-profile=package tests/unit": "the builds of the packages",
    "python3 -m sphinx -b man docs man": "the builds of the packages",
    "systemctl list-timers certbot.timer certbot-renew.timer": "a host that systemd has booted",
}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_page(lab, mailhost, page):
    with play.Play(lab) as played:
        try:
            for step in story.steps(page.read_text()):
                played.step(step)
        except play.NotHere as exc:
            pytest.skip(str(exc))


def test_what_is_run_elsewhere_is_in_the_table():
    steps = [step for page in PAGES for step in story.steps(page.read_text())]
    assert {step.text: step.reason for step in steps if isinstance(step, story.Elsewhere)} == ELSEWHERE


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (story.Typed(7, "echo told", ("told",), 1), "ended with 0, not 1"),
        (story.Typed(7, "false"), "ended with 1, not 0"),
        (story.Typed(7, "echo told >&2", ("silence",)), "told"),
        (story.Typed(7, "echo told"), "told"),
        (story.Typed(7, "true", ("told",)), "(nothing)"),
        (story.Event(7, "do", "false"), "false"),
    ],
)
def test_what_is_not_true_is_told_with_its_line(lab, typed, said):
    with play.Play(lab) as played, pytest.raises(play.Untrue, match="line 7") as told:
        played.step(typed)
    assert said in str(told.value)
