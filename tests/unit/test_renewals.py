"""What a ``certbot renew`` does for a lineage, by its settings; and that no advice takes a web server's installer away."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_dovecot import health, renewals, sharing, surroundings
from certbot_dovecot.dane.answers import Data, Key, Outcome, Owner, Seen, Validity
from certbot_dovecot.dane.rollover import Kind, Step
from certbot_dovecot.monitoring.model import Deployed, Grade, Status
from certbot_dovecot.renewals import By, Hook, Settings
from tests.unit import test_health

NAME = "mail.example.org"
PATH = "/etc/letsencrypt/renewal-hooks/deploy/certbot-dovecot"
INI = "/etc/letsencrypt/cli.ini"
GOOD = Hook(PATH, True, True, "/usr/bin/certbot-dovecot", True)
HOOKS = [
    GOOD,
    Hook(PATH),
    Hook(PATH, True),
    Hook(PATH, True, True, "/opt/gone"),
    Hook(PATH, another="/etc/letsencrypt/renewal-hooks/deploy/mine"),
]
PARAMETERS = st.fixed_dictionaries(
    {},
    optional={
        "installer": st.sampled_from(["dovecot", "nginx", "apache", "None", "null", ""]),
        "reuse_key": st.sampled_from(["True", "False", True, False]),
        "renew_hook": st.sampled_from(["certbot-dovecot deploy", "systemctl reload nginx", "None"]),
        "authenticator": st.sampled_from(["nginx", "webroot", "standalone"]),
    },
)
SETTINGS = st.builds(Settings, st.sampled_from(["", f"{INI}:3"]), st.sampled_from(["", f"{INI}:4"]))
VERSIONS = st.sampled_from([(2, 1), (2, 3), (4, 0), (5, 8)])


@given(PARAMETERS, SETTINGS, st.sampled_from(HOOKS), VERSIONS)
def test_what_is_said_is_what_happens_and_what_is_advised_changes_it(parameters, settings, hook, version):
    """The model: the installer is called, or a hook of the lineage's own, or one of the directory if these are not off."""
    one = renewals.judge(parameters, settings, hook)
    ours = parameters.get("installer") == "dovecot"
    own = "certbot-dovecot" in parameters.get("renew_hook", "")
    works = hook is GOOD or bool(hook.another)
    assert (one.by is By.INSTALLER) == ours
    assert (one.by is By.NOTHING) == (not ours and not own and not (works and not settings.hooks_off))
    assert bool(one.why) == (one.by is By.NOTHING)
    assert one.each_run == (ours and not settings.updates_off)
    assert one.keeps_key == (ours or str(parameters.get("reuse_key")) == "True")
    shared = parameters.get("installer") in ("nginx", "apache")
    assert one.shared == shared
    keep = renewals.keep_key(NAME, one.installer, version)
    advice = [keep]
    if one.why:
        advice.append(renewals.remedy(NAME, one, version))
    for text in advice:
        assert ("reconfigure" in text) <= (version >= (2, 3))
        for command in (part for part in text.replace(" and ", "; ").split("; ") if "certbot re" in part):
            # Stored, it would be called in the place of the web server's.
            assert not (shared and "--installer" in command), command
    # Done, it makes the key stay.
    stored = {"reuse_key": "True"} if "--reuse-key" in keep else {"installer": "dovecot"}
    assert renewals.judge({**parameters, **stored}, settings, hook).keeps_key


@given(PARAMETERS, SETTINGS, st.sampled_from(HOOKS), st.booleans(), st.booleans())
def test_status_promises_the_next_renew_only_where_it_comes(parameters, settings, hook, opened, other):
    one = Deployed(
        NAME, ("Dovecot",), "2026", 2026, test_health.leaf(), "E" * 64 if other else "D" * 64,
        open=("Dovecot",) if opened else (), renewing=renewals.judge(parameters, settings, hook),
    )  # fmt: skip
    found = " ".join(map(str, health.findings(Status(test_health.NOW, (one,)))))
    assert ("The next certbot renew" in found) == ((opened or other) and one.renewing.each_run)
    assert ("do not reach the servers" in found) == (one.renewing.by is By.NOTHING)


def test_an_install_says_the_better_way_first():
    parameters = {"installer": "nginx", "authenticator": "nginx"}
    first, second = renewals.notes(NAME, [NAME], parameters, PATH, (2, 1))
    assert f"certbot -a nginx --installer dovecot --cert-name {NAME}-mail -d {NAME}" in first
    assert second.endswith(f"certbot renew --cert-name {NAME} --force-renewal --reuse-key")
    (_, kept) = renewals.notes(NAME, [NAME], {**parameters, "reuse_key": "True"}, PATH, (5, 8))
    assert "--reuse-key" not in kept
    (only,) = renewals.notes(NAME, [NAME], {"authenticator": "standalone"}, PATH, (5, 8))
    assert only.endswith(f"certbot reconfigure --cert-name {NAME} --installer dovecot")
    # An authenticator with options of its own is not written as if it had none; nor are fifty names.
    assert "-a webroot ..." in renewals.own(NAME, [NAME], "webroot")
    assert "-d NAMES" in renewals.own(NAME, [f"n{number}.test" for number in range(50)], "nginx")


@pytest.mark.parametrize(
    ("text", "off"),
    [
        ("disable-renew-updates = true\n", True),
        ("# x\ndisable_renew_updates\n", True),
        ("disable-renew-updates: yes\n", True),
        ("disable-renew-updates = false\n", False),
        ("#disable-renew-updates = true\n", False),
        ("", False),
    ],
)
def test_cli_ini(text, off):
    assert bool(renewals.settings([(INI, text)]).updates_off) == off


def test_what_not_every_command_line_says_does_not_count():
    off, on = ("/etc/cron.d/certbot:1", "certbot -q renew --no-directory-hooks"), ("/etc/cron.d/other:1", "certbot renew")
    assert renewals.settings([], [off]).hooks_off == "/etc/cron.d/certbot:1"
    assert renewals.settings([], [off, on]).hooks_off == ""
    assert renewals.runs([on, ("/etc/cron.d/x:1", "systemctl restart certbot")]) == (on,)


def test_what_systemd_runs(tmp_path):
    for path, line in {
        "etc/certbot.service.d/own.conf": "ExecStart=\nExecStart=/usr/bin/certbot -q renew --disable-renew-updates",
        "lib/certbot.service": "ExecStart=/usr/bin/certbot -q renew",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(f"[Service]\n{line}\n")
    units = (f"{tmp_path}/etc/*.service.d/*.conf", f"{tmp_path}/lib/*.service")
    places = surroundings.Places(str(tmp_path), (), (), units)
    assert surroundings.settings(str(tmp_path), places).updates_off == f"{tmp_path}/etc/certbot.service.d/own.conf:3"
    without = surroundings.Places(f"{tmp_path}/none", (), (), units)
    assert surroundings.settings(str(tmp_path), without).updates_off == ""


OLD, NEW, OTHER = Key("A" * 64, "A" * 128), Key("B" * 64, "B" * 128), Key("C" * 64, "C" * 128)


def owner(*keys: Key) -> Owner:
    records = frozenset(Data(3, 1, 1, key.sha256) for key in keys)
    return Owner("_25._tcp.mail.example.org.", (Seen("192.0.2.1", Outcome.ANSWER, records, 60, True),), Validity.SECURE)


@given(st.sets(st.sampled_from([OLD, NEW, OTHER])))
def test_records_of_a_former_key_alone_are_stale(keys):
    """Beside one of the present key they do no harm; of keys that were never ours, another finding tells."""
    assert bool(sharing.stale([owner(*keys)], NEW, [OLD])) == (OLD in keys and NEW not in keys)


def test_stale_records_are_critical():
    one = Deployed(NAME, ("Dovecot",), "2026", 2026, test_health.leaf(), "D" * 64, stale=("_25._tcp.mail.example.org.",))
    (finding,) = health.findings(Status(test_health.NOW, (one,)))
    assert finding.grade is Grade.CRITICAL
    assert f"Publish 3 1 1 {test_health.KEY.sha256} there now; then certbot-dovecot deploy {NAME}" in finding.todo


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("hours", [0, 30])
def test_a_new_key_is_advised_only_right_after_the_dns_said_that_nothing_counts(kind, hours):
    asked = test_health.NOW - datetime.timedelta(hours=hours)
    shared = renewals.judge({"installer": "nginx", "reuse_key": "True"}, Settings(), GOOD)
    one = Deployed(
        NAME, ("Dovecot",), "2025", 2025, test_health.leaf(), "D" * 64, due=True, since=2025, renewing=shared,
        step=Step(kind, "why"), asked=asked,
    )  # fmt: skip
    found = " ".join(map(str, health.findings(Status(test_health.NOW, (one,)))))
    assert ("--new-key" in found) == (kind is Kind.FREE and hours == 0)
    assert "a new key is due, for the present one is of 2025" in found
