"""A wildcard certificate, and a host behind it that another lineage is served for: that host's records are the other one's."""

from __future__ import annotations

import pytest

from tests.integration import view
from tests.integration.conftest import updated_by
from tests.integration.test_dane import LATER, NEW_YEAR, RFC2136, renew
from tests.integration.test_overlapping import MANUAL
from tests.integration.test_several_hosts import HEAD, ZONE, key_of, stands
from tests.lab.names import CACHE, Zone

OURS, THEIRS = f"imap.{ZONE}", f"mail.{ZONE}"


@pytest.fixture
def servers(mailhost):
    with updated_by(mailhost, [Zone(ZONE, f"{HEAD}mail IN A 127.0.0.1\nimap IN A 127.0.0.1\n", signed=True)]) as names:
        yield names


def install(host, lineage, *names):
    how = ("--installer", "dovecot", *MANUAL, *RFC2136, "--dovecot-resolver", CACHE)
    return host.certbot(*how, "--cert-name", lineage, "-d", *names).stdout


def test_records_and_a_rollover_of_a_wildcard_beside_a_lineage_for_one_of_its_hosts(mailhost, servers):
    def told(*words, at=None):
        return mailhost.run("certbot-dovecot", *words, at=at).stdout

    # The host calls itself by the name that the other lineage is for.
    mailhost.append("/etc/postfix/main.cf", f"myhostname = {THEIRS}\n")
    assert f"_993._tcp.{THEIRS}. 3600 IN TLSA 3 1 1" in install(mailhost, "exact", THEIRS)
    installed = install(mailhost, "wild", f"*.{ZONE}", "--dovecot-dane-hosts", OURS)
    theirs, first = key_of("exact"), key_of("wild")
    assert "Serving it now:            Dovecot 110 (pop3), 143 (imap), 993 (imap)" in installed
    assert THEIRS not in installed
    assert [mailhost.served(993, sni=one).spki for one in (THEIRS, OURS)] == [theirs, first]
    exact, wild = told("tlsa").split("; TLSA records of the certificate wild")
    assert f"_993._tcp.{THEIRS}. 3600 IN TLSA 3 1 1 {theirs}" in exact
    assert f";   _993._tcp.*.{ZONE}. 3600 IN TLSA 3 1 1 {first}" in wild
    assert THEIRS not in wild

    told("deploy", "exact")
    assert THEIRS not in told("standby", "wild")
    second = key_of("wild-standby")
    servers.catch_up()
    for port in (465, 993):
        assert [stands(servers, port, one) for one in (THEIRS, OURS)] == [{theirs}, {first, second}]

    # The other one's records are neither missed, nor wrong, nor in the way.
    renew(mailhost, servers, LATER)
    for dns in ((), ("--dns",)):
        shown = told("status", *dns, at=LATER)
        assert "DANE wild: wait" in shown
        assert "NO MATCH" not in shown
    renew(mailhost, servers, NEW_YEAR)
    assert [mailhost.served(993, sni=one).spki for one in (THEIRS, OURS)] == [theirs, second]
    assert [stands(servers, 993, one) for one in (THEIRS, OURS)] == [{theirs}, {second}]


def test_a_lineage_whose_first_name_another_one_has_taken_is_looked_after_for_the_rest(mailhost, servers):
    install(mailhost, "both", f"{OURS},{THEIRS}")
    install(mailhost, "exact", OURS)
    theirs, ours = key_of("exact"), key_of("both")
    assert [mailhost.served(993, sni=one).spki for one in (OURS, THEIRS)] == [theirs, ours]
    shown = mailhost.run("certbot-dovecot", "tlsa", "both").stdout
    assert f"_993._tcp.{THEIRS}. 3600 IN TLSA 3 1 1 {ours}" in shown
    assert OURS not in shown
    mailhost.certbot("renew", "-q")
    assert [stands(servers, 993, one) for one in (OURS, THEIRS)] == [{theirs}, {ours}]
    # Its records keep its key, and its renewal reaches the servers.
    servers.catch_up()
    renew(mailhost, servers, NEW_YEAR, "--force-renewal", "--cert-name", "both")
    assert key_of("both") == ours
    assert mailhost.served(993, sni=THEIRS).digest == view.live_leaf("both")
    assert mailhost.served(993, sni=OURS).spki == theirs
