"""Rule R13: "all is well" is said where everything was looked at and nothing was found, and nowhere else."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_dovecot import health, show
from certbot_dovecot.dane.standing import Standing
from certbot_dovecot.monitoring import findings, unlooked
from certbot_dovecot.monitoring.model import Status
from certbot_dovecot.servers.contract import Endpoint
from tests.unit.test_health import IMAPS, MX, NAME, NOW, asked, installed, leaf, plain

WELL = "All is well."
NOTHING = "No fault was found in what was looked at. Not looked at: "
DARK = Endpoint("Dovecot", "imap", "192.0.2.9", 993, True)
#: A host of which everything was looked at, and nothing is to be said.
LOOKED_AT = Status(NOW, (installed(looked_up=True),), (asked(), asked(MX, dane=Standing.MATCH)), dns=True)


def last(status):
    return show.table(status, findings.of(status), plain).splitlines()[-1]


def of_it(**changes):
    """That host, with something else about its lineage."""
    return replace(LOOKED_AT, lineages=(installed(**{"looked_up": True, **changes}),))


def test_everything_was_looked_at():
    assert unlooked.of(LOOKED_AT) == ()
    assert last(LOOKED_AT) == WELL
    assert "not looked at" not in show.nagios(LOOKED_AT, ())
    # A note of something else takes nothing away.
    assert last(replace(LOOKED_AT, notes=("Postfix is not installed here; that part is skipped.",))) == WELL
    # What certbot has no copy of, and what the admin does not want, is not missing.
    assert last(of_it(looked_up=False, dane_off=True, external=True, live="")) == WELL


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (replace(LOOKED_AT, unasked=7), "7 combinations of name and endpoint (--all asks them)"),
        (replace(LOOKED_AT, dark=(DARK,)), "Dovecot imap 192.0.2.9:993 (TLS)"),
        (of_it(live=""), f"certbot's own copy of {NAME}, which cannot be read"),
        (of_it(leaf=None), f"when the certificate of {NAME} ends"),
        (of_it(standby="two"), "certbot's own copy of two, which cannot be read"),
        (replace(of_it(looked_up=False), dns=False), "the DNS (--dns asks it)"),
        (of_it(looked_up=False), f"the DNS for {NAME}"),
        (replace(of_it(looked_up=False, external=True), dns=False), f"the DNS for {NAME}"),
        (of_it(dns_notes=("This host has no IPv6.",)), "a part of the DNS (see the notes)"),
        (
            replace(LOOKED_AT, endpoints=(asked(IMAPS, dane=Standing.DOUBT), asked(MX, dane=Standing.DOUBT))),
            "whether the TLSA records of ports 25, 993 match",
        ),
    ],
)
def test_what_was_not_looked_at_is_said_in_every_form_and_is_no_finding(status, said):
    assert findings.of(status) == ()
    assert last(status) == f"{NOTHING}{said}."
    assert f"; not looked at: {said} | " in show.nagios(status, ())
    assert json.loads(show.as_json(status, ()))["unlooked"] == [said]


lineages = st.builds(
    installed,
    servers=st.sampled_from([(), ("Dovecot",)]),
    live=st.sampled_from(["", "D" * 64]),
    leaf=st.sampled_from([leaf(), None]),
    external=st.booleans(),
    lost=st.booleans(),
    withdrawn=st.sampled_from([(), ("Dovecot",)]),
    standby=st.sampled_from(["", "two"]),
    standby_leaf=st.sampled_from([None, leaf()]),
    looked_up=st.booleans(),
    dane_off=st.booleans(),
    dns_notes=st.sampled_from([(), ("A part was not looked at.",)]),
    problem=st.sampled_from(["", "", "", "it is damaged"]),
)
statuses = st.builds(
    Status,
    at=st.just(NOW),
    lineages=st.lists(lineages, min_size=1, max_size=2).map(tuple),
    endpoints=st.lists(st.builds(asked, st.sampled_from([IMAPS, MX]), dane=st.sampled_from([None, *Standing])), max_size=2).map(
        tuple
    ),
    failures=st.sampled_from([(), (), (("Postfix", "it cannot be looked at"),)]),
    notes=st.sampled_from([(), ("A note.",)]),
    unasked=st.sampled_from([0, 0, 3]),
    dns=st.booleans(),
    dark=st.sampled_from([(), (), (DARK,)]),
    chosen=st.sampled_from([(), (NAME,)]),
)


def missing(status):
    """Whether something was not looked at, by the model alone."""
    here = [one for one in status.lineages if one.servers]
    return (
        status.unasked > 0
        or status.dark != ()
        or any(one.dane is Standing.DOUBT for one in status.endpoints)
        or any(not (one.live or one.external or one.lost) for one in here)
        or any(one.leaf is None for one in here)
        or any(one.standby and one.standby_leaf is None for one in here)
        or any(not one.dane_off and (not one.looked_up or one.dns_notes) for one in here)
    )


@given(statuses)
def test_all_is_well_is_said_if_and_only_if_all_was_looked_at_and_nothing_was_found(status):
    found = findings.of(status)
    text = show.table(status, found, plain)
    assert (WELL in text) == (not found and not missing(status))
    assert (NOTHING in text) == (not found and missing(status))
    assert (health.grade(found) is health.Grade.OK) == (not found)
    line = show.nagios(status, found)
    assert line.startswith("CERTBOT-DOVECOT OK - ") == (not found)
    if not found:
        assert ("not looked at: " in line) == missing(status)
