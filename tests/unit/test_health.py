"""What an admin has to know of what was seen, and how it is shown."""

from __future__ import annotations

import datetime
import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_dovecot import health, show
from certbot_dovecot.dane import standing
from certbot_dovecot.dane.answers import Data, Key, Outcome, Owner, Seen, Validity
from certbot_dovecot.dane.rollover import Kind, Step
from certbot_dovecot.dane.standing import Standing
from certbot_dovecot.health import DAY
from certbot_dovecot.monitoring.model import Asked, Deployed, Finding, Grade, Leaf, Status
from certbot_dovecot.servers.contract import Endpoint

NOW = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.timezone.utc)
NAME = "mail.example.org"
KEY = Key("A" * 64, "A" * 128)
IMAPS = Endpoint("Dovecot", "imap", "::1", 993, True)
MX = Endpoint("Postfix", "smtp", "127.0.0.1", 25, False)


def leaf(left=60.0, lifetime=90.0, digest="D" * 64, names=(NAME,)):
    end = NOW + left * DAY
    return Leaf(names, digest, KEY, "ECDSA P-256", end - lifetime * DAY, end)


def installed(**more):
    given = {"servers": ("Dovecot",), "stem": "2026", "year": 2026, "leaf": leaf(), "live": "D" * 64, **more}
    return Deployed(NAME, **given)


def asked(endpoint=IMAPS, served=None, **more):
    return Asked(endpoint, NAME, NAME, "D" * 64, leaf() if served is None else served, **more)


def found(lineage=None, endpoints=(), **more):
    return health.findings(Status(NOW, (lineage or installed(),), tuple(endpoints), **more))


def plain(_grade, text):
    return text


def test_all_is_well():
    status = Status(NOW, (installed(looked_up=True),), (asked(),), dns=True)
    assert health.findings(status) == ()
    assert health.grade(()) is Grade.OK
    assert "its certificate" in show.table(status, (), plain)
    assert show.table(status, (), plain).endswith("All is well.")
    assert show.nagios(status, ()).startswith("CERTBOT-DOVECOT OK - 1 certificate, the first (mail.example.org) for 60 days")


@pytest.mark.parametrize(
    ("left", "lifetime", "grade"),
    [
        (60, 90, None), (22, 90, Grade.WARNING), (8, 90, Grade.CRITICAL), (-1, 90, Grade.CRITICAL),
        (31, 365, None), (29, 365, Grade.WARNING), (9, 365, Grade.CRITICAL),
        (2, 6, None), (1.4, 6, Grade.WARNING), (0.5, 6, Grade.CRITICAL),
    ],
)  # fmt: skip
def test_expiry_is_judged_by_the_lifetime(left, lifetime, grade):
    grades = [one.grade for one in found(installed(leaf=leaf(left, lifetime)))]
    assert grades == ([] if grade is None else [grade])


def test_expiry_by_the_admins_limits():
    one = installed(leaf=leaf(60))
    [warning] = found(one, warning=61 * DAY)
    assert (warning.grade, warning.lineage) == (Grade.WARNING, NAME)
    assert "expires on 2027-01-23 12:00 UTC, in 60 days" in warning.what
    assert [each.grade for each in found(one, critical=61 * DAY, warning=62 * DAY)] == [Grade.CRITICAL]
    assert found(installed(leaf=leaf(1)), warning=0 * DAY, critical=0 * DAY) == ()


def test_a_certificate_from_elsewhere_has_another_remedy():
    [one] = found(installed(leaf=leaf(1, 365), external=True))
    assert "certbot-dovecot csr" in one.todo
    [one] = found(installed(leaf=leaf(1)))
    assert f"certbot renew --cert-name {NAME}" in one.todo
    # No certbot renew comes by, and certbot install does not know it.
    for more, remedy in (({"withdrawn": ("Dovecot",)}, "install-cert"), ({"open": ("Dovecot",)}, f"deploy {NAME}")):
        [one] = found(installed(external=True, live="", **more))
        assert remedy in one.todo
        assert "certbot renew" not in one.todo
        assert "certbot install " not in one.todo


def test_a_standby_that_expires():
    [one] = found(installed(standby="two", standby_leaf=leaf(1)))
    assert (one.lineage, one.grade) == (NAME, Grade.CRITICAL)
    assert "its standby two expires" in one.what


@pytest.mark.parametrize(
    ("more", "grade", "what", "todo"),
    [
        ({"lost": True}, Grade.WARNING, "certbot does not know it any more", "undo"),
        ({"withdrawn": ("Postfix",)}, Grade.WARNING, "Postfix does not name its files any more", "certbot install"),
        ({"open": ("Postfix",)}, Grade.WARNING, "not proven on Postfix", "certbot-dovecot deploy"),
        ({"live": "E" * 64}, Grade.WARNING, "another certificate than the servers", "certbot-dovecot deploy"),
        ({"problem": "x is damaged."}, Grade.UNKNOWN, "x is damaged", ""),
        ({"step": Step(Kind.KEEP, "a 2 1 1 record", lasting=True)}, Grade.WARNING, "be held up: a 2 1 1 record", "--dns"),
        ({"step": Step(Kind.KEEP, "bogus"), "due": True}, Grade.WARNING, "is due, and held up: bogus", "status --dns"),
        ({"step": Step(Kind.STANDBY, "none"), "due": True}, Grade.WARNING, "is due, and waits", "certbot-dovecot standby"),
        ({"step": Step(Kind.PUBLISH, "lacks")}, Grade.WARNING, "the DNS lacks a record: lacks", "certbot-dovecot tlsa"),
    ],
)
def test_what_stands_in_the_records(more, grade, what, todo):
    [one] = found(installed(**more))
    assert one.grade is grade
    assert what in one.what
    assert todo in one.todo
    assert str(one).startswith(f"{NAME}: ")


@pytest.mark.parametrize("kind", [Kind.KEEP, Kind.WAIT, Kind.READY, Kind.STANDBY, Kind.FREE])
def test_steps_that_are_on_their_way_are_no_findings(kind):
    assert found(installed(step=Step(kind, "for now"))) == ()
    assert found(installed(step=Step(Kind.PUBLISH, "x"), publishes=True)) == ()


def test_endpoints():
    assert found(endpoints=[asked()]) == ()
    dark = replace(asked(), leaf=None, error="connection refused")
    [one] = found(endpoints=[dark, replace(dark, endpoint=replace(IMAPS, port=995))])
    assert one.grade is Grade.CRITICAL
    assert "[::1]:993 (TLS), Dovecot imap [::1]:995 (TLS), asked for mail.example.org, serves no usable" in one.what
    assert one.what.endswith("certificate: connection refused")
    [one] = found(endpoints=[asked(served=leaf(digest="E" * 64, names=("old.test",)))])
    assert "serves another certificate, of old.test until 2027-01-23" in one.what
    # What is none of ours is right whatever it serves, and a warning if it serves nothing.
    assert found(endpoints=[replace(asked(), lineage="", expected="")]) == ()
    assert [each.grade for each in found(endpoints=[replace(dark, lineage="")])] == [Grade.WARNING]


def test_a_record_that_does_not_match_is_critical_where_senders_look():
    assert [each.grade for each in found(endpoints=[asked(MX, dane=Standing.MISMATCH)])] == [Grade.CRITICAL]
    assert [each.grade for each in found(endpoints=[asked(MX, dane=Standing.PARTLY)])] == [Grade.WARNING]
    [one] = found(endpoints=[asked(IMAPS, dane=Standing.MISMATCH)])
    assert (one.grade, f"3 1 1 {KEY.sha256}" in one.todo) == (Grade.WARNING, True)
    assert found(endpoints=[asked(dane=Standing.MATCH), asked(dane=Standing.NONE), asked(dane=Standing.DOUBT)]) == ()


def test_servers_that_refuse_and_hosts_with_nothing():
    [one] = found(failures=(("Dovecot", "/etc/dovecot/x:3: its own check refuses it."),))
    assert one.grade is Grade.CRITICAL
    [one] = health.findings(Status(NOW))
    assert one.grade is Grade.UNKNOWN
    assert "certbot --installer dovecot" in one.todo


def test_a_lineage_that_is_asked_for_and_not_installed():
    """That one is not installed says nothing of the others."""
    away = installed(servers=())
    [one] = found(away, chosen=(NAME,))
    assert (one.grade, one.lineage) == (Grade.UNKNOWN, NAME)
    assert one.what == "it is not installed by certbot-dovecot on this host"
    assert one.todo == f"To install it again: certbot install --installer dovecot --cert-name {NAME}"
    [one] = found(replace(away, first="first.example.org"), chosen=(NAME,))
    assert one.todo.endswith("--cert-name first.example.org")
    assert found(installed(), chosen=(NAME,)) == ()


def test_where_something_cannot_be_read_nobody_knows_whether_anything_is_installed():
    for more in ({}, {"chosen": (NAME,)}):
        [one] = found(Deployed(NAME, problem="it is damaged"), **more)
        assert one.what == "not everything could be looked at: it is damaged"


def test_the_worst_comes_first_and_counts():
    several = found(installed(lost=True, leaf=leaf(1), problem="x"))
    assert [one.grade for one in several] == [Grade.CRITICAL, Grade.UNKNOWN, Grade.WARNING]
    assert health.grade(several) is Grade.CRITICAL
    assert health.worst(several, "other") is Grade.OK


# What the records of a name mean.


def owner(*sets, validity=Validity.SECURE, outcome=Outcome.ANSWER, signed=True):
    said = [(outcome if records else Outcome.ABSENT, frozenset(records)) for records in sets]
    seen = tuple(Seen(f"ns{number}", how, records, 300, signed) for number, (how, records) in enumerate(said))
    return Owner(f"_25._tcp.{NAME}.", seen, validity, frozenset(sets[0]) if sets else frozenset())


GOOD, OTHER, LONG = Data(3, 1, 1, KEY.sha256), Data(3, 1, 1, "B" * 64), Data(3, 1, 2, KEY.sha512)
CA = Data(2, 1, 1, "C" * 64)


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (owner([GOOD]), Standing.MATCH),
        (owner([GOOD, OTHER], [GOOD]), Standing.MATCH),
        (owner([LONG]), Standing.MATCH),
        (owner([GOOD], [OTHER]), Standing.PARTLY),
        (owner([OTHER]), Standing.MISMATCH),
        (owner([CA]), Standing.DOUBT),
        (owner([]), Standing.NONE),
        (owner([OTHER], validity=Validity.INSECURE, signed=False), Standing.NONE),
        (owner([GOOD], validity=Validity.BOGUS), Standing.DOUBT),
        (owner([GOOD], outcome=Outcome.SILENT), Standing.DOUBT),
        (owner(), Standing.DOUBT),
    ],
)
def test_standing(one, expected):
    assert standing.of(one, KEY) is expected


def test_the_port_of_an_owner_name():
    assert owner([GOOD]).port == 25
    assert [Owner(name, ()).port for name in ("_dane.example.org.", "", "_x.", "_²._tcp.a.")] == [0, 0, 0, 0]


# How it is shown.

STATUS = Status(
    NOW,
    (
        installed(
            standby="two", standby_leaf=leaf(50), step=Step(Kind.WAIT, "caches", NOW + DAY), asked=NOW - DAY,
            owners=(owner([GOOD]),), problem='a "quoted" \\ problem\nof two lines',
        ),
    ),
    (asked(MX, dane=Standing.MATCH), replace(asked(), leaf=None, error="timed out")),
    notes=("A note.",),
)  # fmt: skip


def test_the_json_holds_everything():
    document = json.loads(show.as_json(STATUS, health.findings(STATUS)))
    [lineage] = document["lineages"]
    assert (document["format"], document["grade"], document["notes"]) == (1, "critical", ["A note."])
    assert (lineage["name"], lineage["key"], lineage["key_year"], lineage["servers"]) == (NAME, "2026", 2026, ["Dovecot"])
    assert lineage["certificate"]["spki_sha256"] == KEY.sha256
    assert lineage["dane"]["until"] == "2026-11-25T12:00:00+00:00"
    assert lineage["dane"]["asked_again"] == "2026-11-23T18:00:00+00:00"
    endpoints = [(one["port"], one["right"], one["dane"]) for one in document["endpoints"]]
    assert endpoints == [(25, True, "match"), (993, False, None)]


def test_the_table_tells_the_step_and_its_time():
    text = show.table(STATUS, health.findings(STATUS), lambda grade, text: f"<{grade.name}>{text}")
    assert f"DANE {NAME}: wait: caches." in text
    assert "asked 2026-11-23 12:00 UTC, and is again by the first certbot renew after 2026-11-23 18:00 UTC" in text
    assert "the largest TTL is 300 s" in text
    assert "The key may change from 2026-11-25 12:00 UTC on." in text
    assert "<CRITICAL>993" in text


def test_one_line_for_nagios_whatever_is_in_it():
    line = show.nagios(STATUS, [Finding(Grade.WARNING, NAME, "a | bar\nand a break")])
    assert line.startswith("CERTBOT-DOVECOT WARNING - mail.example.org: a / bar and a break. | days=60.0 wrong_endpoints=1;;0")
    assert "\n" not in line


LABEL = r'[a-z_]+="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"^certbot_dovecot_[a-z_]+(\{{{LABEL}(,{LABEL})*\}})? -?[0-9.e+]+$")


@given(st.text(max_size=20))
def test_metrics_are_well_formed_whatever_a_lineage_is_called(name):
    one = replace(STATUS.lineages[0], name=name)
    text = show.prometheus(replace(STATUS, lineages=(one,)), health.findings(STATUS))
    lines = text.split("\n")
    assert lines.pop() == ""
    for line in lines:
        assert line.startswith(("# HELP certbot_dovecot_", "# TYPE certbot_dovecot_")) or SAMPLE.match(line), line


def test_the_metrics():
    text = show.prometheus(STATUS, health.findings(STATUS))
    end = (NOW + 60 * DAY).timestamp()
    assert f'certbot_dovecot_certificate_not_after_seconds{{lineage="{NAME}"}} {end:.0f}\n' in text
    assert f'certbot_dovecot_dane_step{{lineage="{NAME}",step="wait"}} 1\n' in text
    right = re.findall(r'certbot_dovecot_endpoint_right\{.*port="(\d+)"\} ([01])', text)
    assert right == [("25", "1"), ("993", "0")]
    assert "certbot_dovecot_grade 2\n" in text
