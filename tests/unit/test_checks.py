"""The checks of ``certbot-dovecot doctor`` on certificates and on the host: what they find, and what they do not."""

from __future__ import annotations

import datetime
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_dovecot import checks, renewals
from certbot_dovecot.checks import certificates
from certbot_dovecot.checks.facts import Bits, CronLine, Elsewhere, Facts, Hook, Pem, Schedule, Timer, Tried
from certbot_dovecot.checks.findings import Finding, Severity
from certbot_dovecot.dane.rollover import Kind, Step
from certbot_dovecot.servers.contract import Endpoint, Pair
from certbot_dovecot.servers.probe import Answer
from certbot_dovecot.state import Options
from tests.lab import ca
from tests.unit import snapshot
from tests.unit.snapshot import AUTHORITY, CONF, LEAF, NAME, NOW, PAIR, ROOTS, found, held

DAY = ca.DAY
ENDPOINT = Endpoint("Dovecot", "imap", "127.0.0.1", 993, True)
OTHER = Pair("/etc/dovecot/private/other.pem", "/etc/dovecot/private/other.key")


def test_what_cannot_be_read_may_be_installed():
    broken = (Finding("configuration", Severity.ERROR, "it is damaged", CONF, "Mend it", NAME),)
    assert checks.examine(snapshot.facts(held=())).blind["timer"] == "no certificate is installed"
    assert checks.examine(snapshot.facts(held=(), broken=broken)).blind["timer"] == "no lineage could be read"


def test_a_host_in_order_has_nothing():
    diagnosis = checks.examine(snapshot.facts())
    assert diagnosis.findings == ()
    assert set(diagnosis.blind) == {"addresses", "tlsa-ttl", "tlsa-usage", "rsa-clients"}
    assert set(diagnosis.clean) == {check.name for check in checks.ALL} - set(diagnosis.blind)


def test_a_host_without_anything_fails_nowhere():
    diagnosis = checks.examine(Facts(NOW))
    assert diagnosis.findings == ()
    assert diagnosis.clean == ("configuration",)


def test_what_cannot_be_read_is_told_and_comes_first():
    broken = Finding("configuration", Severity.ERROR, "missing brace", "/d.conf:7", "Mend it")
    diagnosis = checks.examine(snapshot.facts(broken=(broken,), dovecot=(), missing={"Dovecot": "cannot be read"}))
    assert diagnosis.findings == (broken,)
    assert diagnosis.blind["vsz-limit"] == "cannot be read"


# What renews.


def schedule(**changes):
    return found("timer", snapshot.facts(schedule=Schedule(**changes)))


LINE = CronLine("/etc/cron.d/certbot", 3, "0 */12 * * * root certbot -q renew")
DEBIAN = replace(LINE, text="0 */12 * * * root test -x /usr/bin/certbot -a \\! -d /run/systemd/system && certbot -q renew")


@pytest.mark.parametrize(
    "said",
    [
        {"systemd": True, "timers": (Timer("certbot.timer", "enabled", True),)},
        {"systemd": True, "timers": (Timer("snap.certbot.renew.timer", "", True), Timer("certbot.timer", "disabled", False))},
        {"systemd": True, "timers": (Timer("certbot.timer", "disabled", True),), "cron": (LINE,)},
        {"systemd": True, "timers": (Timer("certbot.timer", "disabled", False),), "cron": (LINE,), "cron_runs": True},
        {"cron": (DEBIAN,), "cron_runs": True},
        {"systemd": True, "error": "systemctl is not installed"},
    ],
)
def test_something_renews(said):
    assert schedule(**said) == []


@pytest.mark.parametrize(
    ("said", "what", "todo"),
    [
        ({"systemd": True, "timers": (Timer("c.timer", "disabled", False),)}, "not run (disabled)", "enable --now c.timer"),
        ({"systemd": True, "timers": (Timer("c.timer", "disabled", True),)}, "after the next boot", "systemctl enable c.timer"),
        ({"systemd": True, "cron": (DEBIAN,), "cron_runs": True}, "no timer of systemd and no line of cron", "certbot.timer"),
        ({"cron": (LINE,)}, "no cron daemon runs", "start cron"),
        ({}, "no timer of systemd and no line of cron", "twice a day"),
    ],
)
def test_nothing_renews(said, what, todo):
    (finding,) = schedule(**said)
    assert finding.severity is Severity.WARNING
    assert what in finding.what
    assert todo in finding.todo


def test_nobody_asks_for_a_timer_without_a_lineage_to_renew():
    assert found("timer", snapshot.facts(snapshot.external(), schedule=Schedule())) == []


def test_a_lineage_that_renew_leaves_out():
    one = held(parameters={"autorenew": "False"}, text="[renewalparams]\nautorenew = False\n")
    (finding,) = found("timer", snapshot.facts(one))
    assert (finding.where, finding.lineage) == (f"{CONF}:2", NAME)


@given(left=st.integers(min_value=-20, max_value=90), renew=st.one_of(st.none(), st.integers(min_value=1, max_value=60)))
def test_overdue_is_less_than_a_quarter_of_the_lifetime_or_what_the_admin_said(left, renew):
    """The certificate is of 90 days; it is made once, and the clock is moved."""
    end = snapshot.pem().validity[1]
    parameters = {"renew_before_expiry": f"{renew} days"} if renew else {}
    known = snapshot.facts(held(parameters=parameters), now=end - datetime.timedelta(days=left))
    findings = found("overdue", known)
    limit = min(91 / 4, renew * 3 / 4 if renew else 99)
    assert [finding.lineage for finding in findings] == ([NAME] if left < limit else [])
    assert all(("ended" if left < 0 else "ends") in finding.what for finding in findings)


def test_what_is_from_elsewhere_is_not_overdue():
    assert found("overdue", snapshot.facts(snapshot.external(), now=NOW + datetime.timedelta(days=89))) == []


# The deploy hook.


WITHOUT = {"lineage": snapshot.lineage(installer=""), "parameters": {}}
SHARED = {"lineage": snapshot.lineage(installer="nginx"), "parameters": {"installer": "nginx"}}
OFF = {"options": Options(dane="off")}
HOOK = "/etc/letsencrypt/renewal-hooks/deploy/certbot-dovecot"


@pytest.mark.parametrize(
    ("changes", "hook"),
    [
        ({}, Hook(HOOK)),
        (WITHOUT, Hook(HOOK, True, True, "/usr/bin/certbot-dovecot", True)),
        (WITHOUT, Hook(HOOK, True, True, "", False)),
        (WITHOUT, Hook(HOOK, another="/etc/letsencrypt/renewal-hooks/deploy/mine")),
        ({**WITHOUT, "parameters": {"renew_hook": "certbot-dovecot deploy"}}, Hook(HOOK)),
        ({**WITHOUT, "record": None}, Hook(HOOK)),
    ],
)
def test_renewals_reach_the_servers(changes, hook):
    assert found("deploy-hook", snapshot.facts(held(**changes), hook=hook)) == []


@pytest.mark.parametrize(
    ("hook", "what"),
    [
        (Hook(HOOK), "the deploy hook is missing"),
        (Hook(HOOK, True), "the deploy hook is not executable"),
        (Hook(HOOK, True, True, "/opt/gone", False), "the deploy hook calls /opt/gone, which is gone"),
    ],
)
def test_renewals_do_not_reach_the_servers(hook, what):
    (finding,) = found("deploy-hook", snapshot.facts(held(**WITHOUT), hook=hook))
    assert what in finding.what
    assert CONF in finding.what
    assert (finding.where, finding.lineage) == (HOOK, NAME)


def test_directory_hooks_may_be_switched_off():
    settings = renewals.settings([("/etc/letsencrypt/cli.ini", "# x\nno-directory-hooks = true\n")])
    hook = Hook(HOOK, True, True, "/usr/bin/certbot-dovecot", True)
    (finding,) = found("deploy-hook", snapshot.facts(held(**WITHOUT), hook=hook, settings=settings))
    assert finding.where == "/etc/letsencrypt/cli.ini:2"


# Keys and folders.


@given(mode=st.integers(min_value=0, max_value=0o777), uid=st.sampled_from([0, 1000]), directory=st.booleans())
def test_permissions(mode, uid, directory):
    one = held(files=(Bits("/x", mode, uid, directory),))
    findings = found("permissions", snapshot.facts(one))
    wrong = mode & 0o022 if directory else mode & 0o077
    assert len(findings) == (wrong != 0) + (uid != 0)
    assert all(finding.where == "/x" for finding in findings)


# Certificates.


@pytest.mark.parametrize("said", ["True", "true", True])
def test_must_staple_in_a_renewal_configuration(said):
    one = held(parameters={"must_staple": said}, text="[renewalparams]\nmust_staple = True\n")
    (finding,) = found("must-staple", snapshot.facts(one))
    assert (finding.where, finding.lineage) == (f"{CONF}:2", NAME)


@pytest.mark.parametrize(
    ("text", "line"),
    [("must-staple\n", 1), ("a = b\nmust-staple = true\n", 2), ("must-staple = false\n", 0), ("#must-staple\n", 0), ("", 0)],
)
def test_must_staple_for_all(text, line):
    where = [finding.where for finding in found("must-staple", snapshot.facts(cli_ini=("/c.ini", text)))]
    assert where == ([f"/c.ini:{line}"] if line else [])


def test_what_cli_ini_says():
    assert renewals.cli_says("no_directory_hooks = True\n", "no-directory-hooks") == "true"
    assert renewals.cli_says("no-directory-hooks-x = true\n", "no-directory-hooks") == ""


SHORT = replace(AUTHORITY, signer=ca.make("Ends soon", [], AUTHORITY.root, ca=True, end=5 * DAY, now=NOW))
CROSS = ca.make("Lab Root", [], ca.CA.make("Old").root, AUTHORITY.root.key, ca=True, end=-1, now=NOW)


def test_a_chain_that_all_clients_can_follow():
    assert list(certificates.judge_chain((LEAF.cert, *LEAF.chain), ROOTS)) == []
    # Its last part has ended, and no client needs it: the CA before it is trusted.
    assert list(certificates.judge_chain((LEAF.cert, *LEAF.chain, CROSS.cert), ROOTS)) == []


@pytest.mark.parametrize(
    ("served", "source", "severity", "what"),
    [
        ((LEAF.cert,), "", Severity.WARNING, "the intermediate certificates are missing: CN=Lab Intermediate"),
        ((LEAF.cert, AUTHORITY.root.cert, *LEAF.chain), "", Severity.WARNING, "did not issue the one before it"),
        ((LEAF.cert, *LEAF.chain, AUTHORITY.root.cert), "", Severity.NOTE, "the root CN=Lab Root is sent along"),
        ((SHORT.leaf([NAME]).cert, SHORT.signer.cert), "", Severity.WARNING, "the intermediate CN=Ends soon ends on"),
    ],
)
def test_a_chain_with_a_fault(served, source, severity, what):
    ((found_severity, said, todo),) = certificates.judge_chain(served, ROOTS, source)
    assert found_severity is severity
    assert what in said
    assert todo


@pytest.mark.parametrize(
    ("name", "source", "severity"),
    [
        ("Lab", "https://acme-staging-v02.api.letsencrypt.org/directory", Severity.WARNING),
        ("(STAGING) Pretend", "", Severity.WARNING),
        ("Our own", "https://ca.example.test/dir", Severity.NOTE),
    ],
)
def test_a_ca_that_nobody_trusts(name, source, severity):
    leaf = ca.CA.make(name).leaf([NAME])
    ((found_severity, said, _),) = certificates.judge_chain((leaf.cert, *leaf.chain), ROOTS, source)
    assert found_severity is severity
    assert f"CN={name.replace('(', '').split(')')[0]}" in said.replace("(", "")
    # Without a list of CAs, nothing is said of trust.
    assert list(certificates.judge_chain((leaf.cert, *leaf.chain), None, source)) == []


def test_the_chain_of_a_lineage_says_where_it_is():
    one = held(deployed=Pem(PAIR.cert, (LEAF.cert,)))
    (finding,) = found("chain", snapshot.facts(one))
    assert (finding.where, finding.lineage) == (PAIR.cert, NAME)
    assert found("chain", snapshot.facts(replace(one, record=None))) == []


# The key's age.


def aged(year, issued=0, **changes):
    """A lineage whose certificate was issued in year ``issued`` for a key of ``year``, both counted from this one."""
    # In the middle of the year, so that a day more or less does not matter.
    middle = datetime.datetime(NOW.year, 7, 1, tzinfo=datetime.timezone.utc)
    begin = (middle.replace(year=NOW.year + issued) - NOW).total_seconds()
    made = AUTHORITY.leaf([NAME], begin=begin, end=begin + 800 * DAY)
    one = held(made, year=NOW.year + year, **changes)
    return found("key-age", snapshot.facts(one, now=middle + datetime.timedelta(days=30)))


@pytest.mark.parametrize(
    ("year", "issued", "changes"),
    [
        (0, 0, {}),
        (-1, -1, {}),
        (-1, 0, {"record": None}),
        (-1, 0, {"stands_by": True}),
        (-1, 0, {"options": Options(key_rotation="never")}),
    ],
)
def test_a_key_of_its_year(year, issued, changes):
    assert aged(year, issued, **changes) == []


@pytest.mark.parametrize(
    ("changes", "severity", "words"),
    [
        ({}, Severity.NOTE, ["the renewals of this year kept it", "--force-renewal --new-key"]),
        (WITHOUT, Severity.NOTE, ["without the installer", "certbot-dovecot doctor --dns"]),
        ({**WITHOUT, **OFF}, Severity.NOTE, ["without the installer", "--installer dovecot; then certbot renew"]),
        ({**SHARED, **OFF}, Severity.NOTE, ["without the installer, and reuses the key certbot renew --cert-name"]),
        ({"step": Step(Kind.STANDBY, "no next")}, Severity.WARNING, ["(no next)", f"certbot-dovecot standby {NAME}"]),
        ({"step": Step(Kind.KEEP, "a doubt")}, Severity.NOTE, ["DANE keeps it (a doubt)"]),
        ({"step": Step(Kind.FREE, "none")}, Severity.NOTE, ["the renewals of this year kept it"]),
        ({"standby": "b", "step": Step(Kind.WAIT, "caches")}, Severity.NOTE, ["not changed to b yet (caches)", "rollover"]),
    ],
)
def test_a_key_that_was_kept(changes, severity, words):
    (finding,) = aged(-1, 0, **changes)
    assert finding.severity is severity
    assert all(word in f"{finding.what} {finding.todo}" for word in words), finding


def test_a_key_that_never_changes():
    never = {"options": Options(key_rotation="never")}
    assert aged(-1, 0, **never) == []
    (finding,) = aged(-2, 0, **never)
    assert "--dovecot-key-rotation never" in finding.what


def test_an_old_key_for_a_certificate_from_elsewhere():
    (finding,) = found("key-age", snapshot.facts(snapshot.external(year=NOW.year - 1)))
    assert "certbot-dovecot csr" in finding.todo


# Names.


SHOP = AUTHORITY.leaf(["shop.example.test", "*.wild.test"])
PEMS = {PAIR.cert: snapshot.pem(), OTHER.cert: snapshot.pem(SHOP, OTHER.cert)}


def named(*by_name, **changes):
    text = "".join(f"local_name {name} {{\n}}\n" for name, _ in by_name)
    known = snapshot.facts(dovecot=(snapshot.dovecot(text, by_name),), pems=PEMS, **changes)
    return found("sni-names", known)


@pytest.mark.parametrize("name", ["shop.example.test", "SHOP.example.test", "*.wild.test", "a.wild.test", "a.*.test"])
def test_a_name_with_its_certificate(name):
    assert named((name, OTHER)) == []


@pytest.mark.parametrize("name", ["pop.example.test", "wild.test", "a.b.wild.test", "*.example.test"])
def test_a_name_with_another_certificate(name):
    (finding,) = named(("shop.example.test", OTHER), (name, OTHER))
    assert f"serves {OTHER.cert} to clients that ask for {name}" in finding.what
    assert finding.where == "/d.conf:3"


def test_the_names_below_a_domain_in_postfix_table():
    one = replace(snapshot.postfix(), view=snapshot.view("Postfix", 465, [(".wild.test", OTHER), (".other.test", OTHER)]))
    (finding,) = found("sni-names", snapshot.facts(postfix=(one,), pems=PEMS))
    assert "ask for *.other.test" in finding.what
    assert finding.where == "/etc/postfix/t"


def test_a_name_of_a_lineage_that_gets_another_certificate():
    served = {("Dovecot", NAME): (OTHER,), ("Postfix", NAME): (PAIR,)}
    (finding,) = named(served=served)
    assert f"Dovecot serves {OTHER.cert} to clients that ask for {NAME}" in finding.what
    assert named(served={("Dovecot", NAME): (PAIR,)}) == []


def test_files_that_are_gone_or_do_not_match():
    gone = {PAIR.cert: Pem(PAIR.cert, error="cannot be read: No such file or directory")}
    (finding,) = found("missing-files", snapshot.facts(pems=gone))
    assert (finding.where, finding.lineage) == (PAIR.cert, NAME)
    assert finding.what.startswith("Dovecot, Postfix names this file, and cannot be read: No such")
    (finding,) = found("missing-files", snapshot.facts(keys={PAIR.key: "it is not the key of"}))
    assert finding.where == PAIR.key


def test_a_copy_that_nobody_renews():
    assert found("nobody-renews", snapshot.facts(forgotten=frozenset({"other"}))) == []
    findings = found("nobody-renews", snapshot.facts(forgotten=frozenset({NAME})))
    assert [finding.where for finding in findings] == [PAIR.cert] * 2


def test_a_certificate_in_a_file_that_is_no_pairs():
    """As in smtpd_tls_chain_files: the file is in no pair, and is judged all the same."""
    old = ca.CA.make().leaf(["own.test"], begin=-80 * ca.DAY, end=3 * ca.DAY)
    one = Elsewhere("Postfix", "/both.pem", None, ("/etc/postfix/main.cf:9",), "", snapshot.pem(old, "/both.pem"))
    (finding,) = found("nobody-renews", snapshot.facts(elsewhere=(one,)))
    assert finding.where == "/etc/postfix/main.cf:9"
    assert finding.what.startswith("Postfix names this certificate, which ends on ")
    good = replace(one, pem=snapshot.pem(ca.CA.make().leaf(["own.test"]), "/both.pem"))
    assert found("nobody-renews", snapshot.facts(elsewhere=(good,))) == []
    own = replace(one, pem=snapshot.pem(ca.self_signed("own.test"), "/both.pem"))
    (finding,) = found("nobody-renews", snapshot.facts(elsewhere=(own,)))
    assert "self-signed" in finding.what


# Old clients.


GOOD, BAD = Answer(ENDPOINT, b"leaf"), Answer(ENDPOINT, error="TLS handshake failed: x", disagreed=True)
DOWN = Answer(ENDPOINT, error="connection refused")


@pytest.mark.parametrize(
    ("tried", "severity"),
    [
        (Tried("Dovecot", GOOD), None),
        (Tried("Dovecot", GOOD, GOOD, "/d.conf:3"), None),
        (Tried("Dovecot", DOWN), None),
        (Tried("Dovecot", BAD), Severity.WARNING),
        (Tried("Dovecot", GOOD, BAD, "/d.conf:3"), Severity.NOTE),
        (Tried("Dovecot", GOOD, DOWN, "/d.conf:3"), None),
    ],
)
def test_rsa_clients(tried, severity):
    known = snapshot.facts(tried=(tried,))
    assert [finding.severity for finding in found("rsa-clients", known)] == ([severity] if severity else [])
    assert ("rsa-clients" in checks.examine(known).blind) == (tried.ecdsa is DOWN)
