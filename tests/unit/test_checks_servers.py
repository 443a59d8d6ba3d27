"""The checks of ``certbot-dovecot doctor`` on the configurations of Postfix and Dovecot, and on what the DNS said."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_dovecot import checks
from certbot_dovecot.checks import dovecot, postfix
from certbot_dovecot.checks.findings import Severity
from certbot_dovecot.dane.answers import Data, Outcome, Owner, Seen, Survey, Validity
from certbot_dovecot.dane.evidence import Evidence
from certbot_dovecot.ledger import Ledger
from certbot_dovecot.state import Options
from tests.lab import ca
from tests.unit import snapshot
from tests.unit.snapshot import AUTHORITY, CONF, FOLDER, MASTER, NAME, NOW, PAIR, found, held

OURS = "regexp:/etc/postfix/t"
CLEARED = "  -o smtpd_tls_chain_files=\n  -o smtpd_tls_eccert_file=\n  -o smtpd_tls_eckey_file=\n  -o tls_server_sni_maps=\n"


def of_postfix(check, *args, **kwargs):
    return found(check, snapshot.facts(postfix=(snapshot.postfix(*args, **kwargs),)))


# What wins over our certificate.

SHADOWS = ["smtpd_tls_chain_files = /c.pem", "smtpd_tls_eccert_file = /e.pem", "tls_server_sni_maps = hash:/x"]


@pytest.mark.parametrize("setting", SHADOWS)
def test_main_cf_wins_over_a_service(setting):
    name = setting.split()[0]
    (finding,) = of_postfix("shadow", f"myhostname = x\n{setting}\n")
    assert (finding.where, finding.lineage) == ("/etc/postfix/main.cf:2", NAME)
    assert finding.what.startswith(f"{name} wins over the certificate that the service 465 at /etc/postfix/master.cf:2 names")
    assert of_postfix("shadow", f"{setting}\n", MASTER + CLEARED) == []
    assert of_postfix("shadow", f"{setting}\n", MASTER.replace(FOLDER, "/admins")) == []


def test_a_key_alone_and_a_default_win_over_nothing():
    assert of_postfix("shadow", "smtpd_tls_eckey_file = /e.key\n") == []
    assert of_postfix("shadow", "", smtpd_tls_eccert_file="/default.pem") == []


def test_an_option_of_the_service_itself_wins():
    (finding,) = of_postfix("shadow", "", MASTER + "  -o smtpd_tls_chain_files=/c.pem\n")
    assert finding.where == "/etc/postfix/master.cf:6"


@pytest.mark.parametrize(("maps", "wins"), [(OURS, False), (f"{OURS}, hash:/x", False), (f"hash:/x, {OURS}", True)])
def test_an_admins_table_behind_our_own_is_meant(maps, wins):
    assert bool(of_postfix("shadow", "", MASTER + f"  -o {{ tls_server_sni_maps = {maps} }}\n")) is wins


def test_tlsproxy_has_smtpds_parameters_for_its_own():
    master = (
        "smtp inet n - y - 1 postscreen\nsmtpd pass - - y - - smtpd\ntlsproxy unix - - y - 0 tlsproxy\n"
        f"  -o tlsproxy_tls_cert_file={PAIR.cert}\n  -o tlsproxy_tls_key_file={PAIR.key}\n"
    )
    (finding,) = of_postfix("shadow", "smtpd_tls_chain_files = /c.pem\n", master, "all")
    assert finding.what.startswith("tlsproxy_tls_chain_files wins")
    assert finding.where == "/etc/postfix/main.cf:1"


# Settings that no switch follows.


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        (f"smtpd_tls_cert_file = {PAIR.cert}", 2),
        (f"smtpd_tls_chain_files = /a.key,{PAIR.cert}", 2),
        (f"smtp_tls_cert_file =\n  {PAIR.cert}", 2),
        ("smtpd_tls_cert_file = /etc/letsencrypt/live/x/fullchain.pem", 0),
        (f"#smtpd_tls_cert_file = {PAIR.cert}", 0),
        (f"smtpd_tls_CAfile = {PAIR.cert}", 0),
    ],
)
def test_main_cf_names_a_file_of_one_year(setting, line):
    where = [finding.where for finding in of_postfix("left-behind", f"myhostname = x\n{setting}\n")]
    assert where == ([f"/etc/postfix/main.cf:{line}"] if line else [])


def test_a_service_that_nobody_looks_after_names_a_file_of_one_year():
    master = f"smtp inet n - y - - smtpd\n  -o smtpd_tls_cert_file={PAIR.cert}\n  -o smtpd_tls_key_file={PAIR.key}\n"
    (finding,) = of_postfix("left-behind", "", master)
    assert finding.where == "/etc/postfix/master.cf:2"
    assert of_postfix("left-behind", "", master, "all") == []
    # Two lineages with different choices: one of them looks after it.
    both = (snapshot.postfix("", master), snapshot.postfix("", master, "all"))
    assert found("left-behind", snapshot.facts(postfix=both)) == []


# Lines that hang on the wrong service, and names that come twice.


def test_options_of_a_service_that_is_commented_out():
    master = "smtp inet n - y - - smtpd\n#465 inet n - y - - smtpd\n  -o smtpd_tls_wrappermode=yes\n"
    (finding,) = of_postfix("orphan-options", "", master)
    assert finding.where == "/etc/postfix/master.cf:3"
    assert "'-o smtpd_tls_wrappermode=yes'" in finding.what
    assert "smtp (inet) at line 1" in finding.what
    assert of_postfix("orphan-options", "", master.replace("  -o", "#  -o")) == []


@pytest.mark.parametrize(
    ("main", "severity"),
    [
        ("a = 1\na = 2\n", Severity.NOTE),
        ("maillog_file = /var/log/x\na = 1\n# a = 3\na = 2\n", Severity.WARNING),
        ("a = 1\na = 1\n", None),
        ("a = 1\nb = 2\n", None),
        ("a = 1\n  a = 2\n", None),
    ],
)
def test_a_name_twice_in_main_cf(main, severity):
    findings = of_postfix("double-setting", main)
    assert [finding.severity for finding in findings] == ([severity] if severity else [])
    assert all(finding.where == f"/etc/postfix/main.cf:{len(main.splitlines())}" for finding in findings)


VALUES = st.text(st.sampled_from("ab $,={}/"), max_size=8).map(str.strip)


@given(st.lists(st.tuples(st.from_regex(r"[a-z_]{1,9}", fullmatch=True), VALUES, st.sampled_from(["", "\n", "# x = y\n"]))))
def test_settings_of_main_cf_are_found_with_their_lines(wanted):
    text, lines = "", []
    for name, value, between in wanted:
        text += between
        lines.append((name, value, text.count("\n") + 1))
        text += f"{name} = {value}\n"
    assert postfix.settings(text) == lines


@pytest.mark.parametrize("value", [">=TLSv1", ">=TLSv1.1", "TLSv1 TLSv1.2", "TLSv1.1:TLSv1.3", "!SSLv2, TLSv1"])
def test_old_protocols(value):
    assert postfix.allows_old(value)


@pytest.mark.parametrize("value", [">=TLSv1.2", "!SSLv2, !SSLv3", "TLSv1.2", "", "!SSLv2, !SSLv3, !TLSv1, !TLSv1.1", "<=TLSv1"])
def test_new_protocols(value):
    assert not postfix.allows_old(value)


def test_where_old_clients_are_wanted():
    main = "x = y\nsmtpd_tls_mandatory_protocols = >=TLSv1\n"
    assert postfix.old_clients(snapshot.postfix(main)) == "/etc/postfix/main.cf:2"
    master = MASTER + "  -o smtpd_tls_protocols=>=TLSv1\n"
    assert postfix.old_clients(snapshot.postfix("", master)) == "/etc/postfix/master.cf:6"
    assert postfix.old_clients(snapshot.postfix("smtpd_tls_protocols = >=TLSv1.2\n")) == ""
    assert dovecot.old_clients(snapshot.dovecot("ssl_min_protocol = TLSv1\n")) == "/d.conf:1"
    assert dovecot.old_clients(snapshot.dovecot("ssl_min_protocol = TLSv1.2\n")) == ""


# Dovecot.


def test_reloads_that_end_sessions_matter_where_they_come_often():
    short = AUTHORITY.leaf([NAME], begin=0, end=6 * ca.DAY)

    def findings(*some, text=""):
        return found("shutdown-clients", snapshot.facts(*some, dovecot=(snapshot.dovecot(text),)))

    assert findings(held()) == []
    assert findings(held(short, record=None)) == []
    assert findings(held(short), text="shutdown_clients = no\n") == []
    (finding,) = findings(held(short), text="x = y\nshutdown_clients = yes\n")
    assert finding.where == "/d.conf:2"
    assert "up to 8 times in 30 days" in finding.what
    assert len(findings(*[held()] * 12)) == 1


@pytest.mark.parametrize(
    ("count", "text", "many"), [(1000, "", True), (600, "", False), (600, "default_vsz_limit = 64M\n", True)]
)
def test_many_names_need_memory(count, text, many):
    names = "".join(f"local_name n{number}.test {{\n  x = y\n}}\n" for number in range(count))
    findings = found("vsz-limit", snapshot.facts(dovecot=(snapshot.dovecot(text + names),)))
    assert bool(findings) is many
    assert all(finding.where == ("/d.conf:1" if text else "/d.conf") for finding in findings)
    assert all("Set vsz_limit = " in finding.todo for finding in findings)


# The DNS.

OWNER = f"_25._tcp.{NAME}."


def survey(*records, ttl=300, signed=True, validity=Validity.SECURE):
    data = frozenset(Data(*record, "AB" * 32) for record in records)
    seen = Seen("ns1", Outcome.ANSWER if data else Outcome.ABSENT, data, ttl, signed)
    return Survey(NOW, (Owner(OWNER, (seen,), validity, data, OWNER),))


def asked(check, *records, changes=None, known=None, **said):
    one = held(survey=survey(*records, **said), **(changes or {}))
    return found(check, snapshot.facts(one, **(known or {})))


@given(ttl=st.integers(min_value=0, max_value=10**6), standby=st.booleans())
def test_a_ttl_of_an_hour_or_less(ttl, standby):
    findings = asked("tlsa-ttl", (3, 1, 1), ttl=ttl, changes={"standby": "b" if standby else ""})
    severity = Severity.NOTE if standby else Severity.WARNING
    assert [finding.severity for finding in findings] == ([severity] if ttl > 3600 else [])
    assert all(OWNER in finding.what and str(ttl) in finding.what for finding in findings)


def test_a_dns_that_could_not_be_asked_is_not_one_without_records():
    one = held(survey=Survey(NOW, (Owner(OWNER, ()),)))
    assert checks.examine(snapshot.facts(one)).blind["tlsa-ttl"] == f"the name servers of {OWNER} could not be asked"
    assert "tlsa-ttl" in checks.examine(snapshot.facts(held(survey=survey((3, 1, 1))))).clean


def test_a_negative_ttl_is_not_one_of_a_record():
    assert asked("tlsa-ttl", ttl=86400) == []


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1), st.integers(0, 2)), max_size=5))
def test_usages(records):
    findings = asked("tlsa-usage", *records)
    warnings = {usage for usage, selector, _ in records if usage == 2 or (usage, selector) == (3, 0)}
    notes = any(usage in (0, 1) for usage, _, _ in records)
    said = sorted(finding.severity.value for finding in findings)
    assert said == ["note"] * notes + ["warning"] * len(warnings)
    assert all(f"certbot-dovecot tlsa {NAME}" in finding.todo for finding in findings)


NOT_HERE = {"resolvers": {"": "the resolver 192.0.2.1 is not on this host"}}


def test_dane_without_a_resolver_that_is_believed():
    (finding,) = asked("resolver", (3, 1, 1), known=NOT_HERE)
    assert "192.0.2.1 is not on this host" in finding.what
    assert finding.where == "/etc/resolv.conf"
    # Nothing is published: nobody needs one.
    assert asked("resolver", known=NOT_HERE) == []
    assert asked("resolver", (3, 1, 1), known=NOT_HERE, changes={"options": Options(dane="off")}) == []
    assert len(asked("resolver", known=NOT_HERE, changes={"options": Options(publish_command="/x")})) == 1
    assert len(asked("resolver", known=NOT_HERE, changes={"standby": "b"})) == 1
    assert asked("resolver", (3, 1, 1)) == []


def test_a_signed_zone_that_the_resolver_does_not_call_secure():
    (finding,) = asked("resolver", (3, 1, 1), validity=Validity.INSECURE)
    assert OWNER in finding.what
    assert asked("resolver", (3, 1, 1), validity=Validity.INSECURE, signed=False) == []


STOOD = {"ledger": Ledger(evidence=Evidence("A", "", frozenset(), stood=True))}


@pytest.mark.parametrize(
    ("lineage", "options", "severity"),
    [
        (snapshot.lineage(reuse=True), Options(), None),
        (snapshot.lineage(reuse=False), Options(), Severity.NOTE),
        (snapshot.lineage(reuse=True), Options(reuse_key=False), Severity.NOTE),
        (snapshot.lineage(installer="", reuse=None), Options(), Severity.WARNING),
        (snapshot.lineage(installer="", reuse=True), Options(), None),
    ],
)
def test_a_new_key_at_each_renewal_while_records_are_published(lineage, options, severity):
    changes = {"lineage": lineage, "options": options, "text": "[renewalparams]\nreuse_key = False\n"}
    findings = found("reuse-key", snapshot.facts(held(**changes, **STOOD)))
    assert [finding.severity for finding in findings] == ([severity] if severity else [])
    assert all(finding.where == f"{CONF}:2" for finding in findings)
    # Without records, it is the key of the year that is lost; what the admin said is not told again.
    lost = lineage.installer == "" and lineage.reuse_key is None
    assert [one.severity for one in found("reuse-key", snapshot.facts(held(**changes)))] == [Severity.NOTE] * lost


def test_an_old_survey_says_when_it_was():
    one = held(survey=Survey(NOW - datetime.timedelta(days=3), survey((2, 1, 1)).owners))
    (finding,) = found("tlsa-usage", snapshot.facts(one))
    assert finding.where == f"DNS, {NOW - datetime.timedelta(days=3):%Y-%m-%d %H:%M} UTC"
