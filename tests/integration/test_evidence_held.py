"""What takes evidence away on real name servers, and what does not: silence (D27), records of other kinds (D22), clocks."""

from __future__ import annotations

import datetime
import threading

from tests.integration.test_dane import INSTALL, NAME, NEW_YEAR, OTHER, RFC2136, TIMER, key_of, ledger, served
from tests.lab.names import SECONDARY


def both_published(host, servers, *more: str) -> tuple[str, str]:
    """The records of the served and the next key, and ``more``, everywhere; no cache holds anything older."""
    host.certbot(*INSTALL)
    first = key_of(NAME)
    host.run("certbot-dovecot", "standby", NAME)
    second = key_of(OTHER)
    records = [f"3 1 1 {first}", f"3 1 1 {second}", *more]
    servers.replace("secure.test", {"_dane": [], "_587._tcp.mail": records, "_993._tcp.mail": records})
    servers.catch_up()
    servers.flush()
    return first, second


def look(host, at: str):
    return host.certbot("renew", "-q", at=at)


def test_d27_a_name_server_that_is_silent_at_one_look_holds_the_switch_and_t0_stays(mailhost, names):
    first, second = both_published(mailhost, names)
    secondary = names.daemons[SECONDARY]
    look(mailhost, "2026-12-28 20:00:00")
    since = ledger()["evidence"]["since"]
    # A second of silence is a lost packet: it is asked again, and that look counts.
    secondary.freeze()
    threading.Timer(1, secondary.freeze, (False,)).start()
    look(mailhost, TIMER[0])
    known = ledger()["evidence"]
    assert known["since"] == since
    assert known["looked"].startswith("2026-12-30 12:0".replace(" ", "T"))
    look(mailhost, TIMER[1])
    # Silent through a whole look, at which the switch would be due.
    secondary.freeze()
    try:
        told = look(mailhost, NEW_YEAR)
    finally:
        secondary.freeze(False)
    assert served(mailhost) == {first}
    assert ledger()["evidence"]["since"] == since, told.stderr
    assert f"{SECONDARY}) gives no usable answer" in told.stderr
    look(mailhost, "2027-01-02 19:00:00")
    assert served(mailhost) == {second}


def test_d22_a_record_of_a_ca_beside_them_stops_no_rotation(mailhost, names):
    issuer = f"2 1 1 {'AB' * 32}"
    first, second = both_published(mailhost, names, issuer)
    told = []
    for at in ("2026-12-28 20:00:00", *TIMER):
        told.append(look(mailhost, at).stderr)
        assert served(mailhost) == {first}
    told.append(look(mailhost, NEW_YEAR).stderr)
    assert served(mailhost) == {second}
    # Once a month.
    warning = "has the record 2 1 1 ABABABABABABABAB..., and it is not known whether it matches after the next renewal"
    assert [warning in text for text in told] == [True, False, False, False]


def test_clocks_that_differ_are_said_to(mailhost, names):
    """TSIG allows five minutes (RFC 8945 section 5.2.3); the message says so, and the renewal goes on."""
    mailhost.certbot(*INSTALL, *RFC2136)
    names.set_clock(f"{datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1):%Y-%m-%d %H:%M:%S}")
    told = mailhost.certbot("renew", "-q", check=False)
    assert "its clock and that of this host differ by more than five minutes" in told.stderr
    assert "Set both clocks (NTP)" in told.stderr
    assert served(mailhost) == {key_of(NAME)}
