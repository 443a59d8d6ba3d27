"""The catalogue of remedies has every finding that ``status`` and ``doctor`` can make, or says why it cannot be played."""

from __future__ import annotations

import pytest

from tests.integration import catalogue, catalogue_doctor, catalogue_status
from tests.integration.remedies import alternatives, commands
from tests.unit import messages


def test_every_finding_of_status_is_played_or_has_a_reason():
    known = {one.template for one in messages.findings()}
    played = {case.finding for case in catalogue_status.CASES.values()}
    assert known - played - set(catalogue_status.UNPLAYED) == set()
    assert (played | set(catalogue_status.UNPLAYED)) - known == set()
    assert played & set(catalogue_status.UNPLAYED) == set()


def test_every_finding_of_doctor_is_played_or_has_a_reason():
    known = messages.sites()
    assert len(known) > 40
    played = {case.finding for case in catalogue_doctor.CASES.values()}
    assert set(known) - played - set(catalogue_doctor.UNPLAYED) == set()
    assert (played | set(catalogue_doctor.UNPLAYED)) - set(known) == set()
    assert played & set(catalogue_doctor.UNPLAYED) == set()


@pytest.mark.parametrize("name", sorted(catalogue_doctor.CASES))
def test_a_case_of_doctor_is_about_what_that_place_says(name):
    case = catalogue_doctor.CASES[name]
    source = "".join(messages.sites()[case.finding].split("\n"))
    joined = source.replace('"', "").replace("f  ", "")
    words = [word for word in case.words.split() if len(word) > 3]
    assert words
    assert all(word in joined for word in words), case.words


def test_every_way_of_every_remedy_of_doctor_is_played_or_has_a_reason():
    """Those of ``status`` are counted where they are printed: ``tests/integration/test_remedies.py``."""
    ways = {place: max(len(alternatives(text)) for text in texts) for place, texts in messages.todos().items()}
    assert set(ways) == set(messages.sites())
    assert sum(number > 1 for number in ways.values()) > 10
    missing = [
        (place, pick)
        for place, number in ways.items()
        if place not in catalogue_doctor.UNPLAYED
        for pick in catalogue.unplayed(place, number)
    ]
    assert missing == []


def test_a_reason_why_a_way_is_not_played_is_of_a_way_that_is_not_played():
    for finding, pick in catalogue.UNPLAYED_WAYS:
        cases = [case for case in catalogue.CASES.values() if case.finding == finding]
        assert cases
        assert pick not in [case.pick for case in cases]


def test_every_reason_is_a_sentence():
    reasons = (*catalogue_status.UNPLAYED.values(), *catalogue_doctor.UNPLAYED.values(), *catalogue.UNPLAYED_WAYS.values())
    for reason in reasons:
        assert reason == "likewise" or len(reason.split()) > 4


@pytest.mark.parametrize(
    ("todo", "pick", "expected"),
    [
        ("certbot-dovecot deploy a.test reloads and asks again", 0, [["certbot-dovecot", "deploy", "a.test"]]),
        ("certbot install --installer dovecot --cert-name a.test puts it there; if it is meant, certbot-dovecot undo a.test", 1,
         [["certbot-dovecot", "undo", "a.test"]]),
        ("certbot --installer dovecot --cert-name a -d a.test; to take it out: x", 0,
         [["certbot", "--installer", "dovecot", "--cert-name", "a", "-d", "a.test"]]),
        ("certbot reconfigure --cert-name a --installer dovecot, then certbot renew --cert-name a --force-renewal --new-key", 0,
         [["certbot", "reconfigure", "--cert-name", "a", "--installer", "dovecot"],
          ["certbot", "renew", "--cert-name", "a", "--force-renewal", "--new-key"]]),
        ("chmod 600 /x/2026.key; if somebody", 0, [["chmod", "600", "/x/2026.key"]]),
        ("Take the name out (/x:3), then doveadm reload", 0, [["doveadm", "reload"]]),
        ("certbot has a newer one, and postfix reload has it read again", 0, [["postfix", "reload"]]),
        ("See that certbot's timer runs", 0, []),
        ("Comment these lines out too, or take the # away; then postfix reload", 0, [["postfix", "reload"]]),
        ("Comment these lines out too, or take the # away; then postfix reload", 1, [["postfix", "reload"]]),
    ],
)  # fmt: skip
def test_what_commands_a_remedy_has(todo, pick, expected):
    assert commands(alternatives(todo)[pick]) == expected


@pytest.mark.parametrize(
    ("todo", "ways"),
    [
        ("Take it out", ["Take it out"]),
        ("Do this, or do that if nobody is there", ["Do this", "do that if nobody is there"]),
        ("Do this; if X is another host, that is the better way", ["Do this", "if X is another host, that is the better way"]),
        ("If it is your own, do this; else do that", ["If it is your own, do this", "do that"]),
        ("Do this (--one, or --other); or do that (a; or b)", ["Do this (--one, or --other)", "do that (a; or b)"]),
        ("Do this; see that the timer runs", ["Do this; see that the timer runs"]),
        ("certbot has a newer one; name it instead, then reload", ["certbot has a newer one; name it instead, then reload"]),
        ("Set it to 3600 or less", ["Set it to 3600 or less"]),
    ],
)
def test_which_ways_a_remedy_offers(todo, ways):
    assert alternatives(todo) == ways
