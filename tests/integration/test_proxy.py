"""Listeners that cannot be asked the ordinary way.

Behind HAProxy (Dovecot's ``haproxy = yes``, Postfix's ``smtpd_upstream_proxy_protocol`` and postscreen's) they are asked with a
PROXY header where the server takes one from this host, and else are not looked at, which is said.
"""

from __future__ import annotations

import json

import pytest

from certbot_dovecot.servers import probe
from certbot_dovecot.servers.contract import Endpoint
from tests.integration import view
from tests.integration.test_install import INSTALL, NAME, STORE

LOCAL, MASTER = "/etc/dovecot/local.conf", "/etc/postfix/master.cf"
DOVECOT = {10993: ("imap", True), 10143: ("imap", False), 14190: ("sieve", False), 11587: ("submission", False)}
POSTFIX = {465: ("submission", True), 587: ("submission", False)}

LISTENERS = """
service imap-login {
  inet_listener imaps_ha {
    port = 10993
    ssl = yes
    haproxy = yes
  }
  inet_listener imap_ha {
    port = 10143
    haproxy = yes
  }
}
service managesieve-login {
  inet_listener sieve_ha {
    port = 14190
    haproxy = yes
  }
}
"""
SUBMISSION = """
service submission-login {
  inet_listener submission_ha {
    port = 11587
    haproxy = yes
  }
}
"""


def at(port, protocol, implicit, proxy="haproxy", address="127.0.0.1"):
    return probe.ask(Endpoint("lab", protocol, address, port, implicit, proxy), NAME, 5).digest


def behind(mailhost, trusted):
    """Dovecot's listeners beside the ordinary ones; Postfix's services behind the proxy alone."""
    mailhost.write(LOCAL, f"haproxy_trusted_networks = {trusted}\n{LISTENERS}")
    mailhost.restart("dovecot")
    master = view.read(MASTER).decode()
    with_it = master.replace("  -o syslog_name=", "  -o smtpd_upstream_proxy_protocol=haproxy\n  -o syslog_name=")
    assert with_it.count("haproxy") >= 2
    mailhost.write(MASTER, with_it)
    mailhost.restart("postfix")


def hidden_leaves():
    """What the listeners behind the proxy serve to it."""
    dovecot = {port: at(port, *how) for port, how in DOVECOT.items() if port != 11587}
    return {**dovecot, **{port: at(port, *how) for port, how in POSTFIX.items()}}


def shown(mailhost):
    """What status says: port to whether it is right, and notes."""
    said = json.loads(mailhost.run("certbot-dovecot", "status", "--json").stdout)
    assert said["grade"] == "ok", said
    return {(one["port"], one["address"]): one for one in said["endpoints"]}, said["notes"]


def test_trusted_they_are_proven_like_any_other(mailhost):
    behind(mailhost, "127.0.0.0/8 ::1")
    result = mailhost.certbot(*INSTALL)
    assert "10993 (imap)" in result.stdout
    assert set(hidden_leaves().values()) == {view.live_leaf(NAME)}
    zone = view.read(f"{STORE}/tlsa.zone").decode()
    assert all(f"_{port}._tcp" in zone for port in (465, 587, 993, 10143, 10993, 14190))
    # Not due: nothing to do, and nothing to say.
    again = mailhost.certbot("renew", "-q")
    assert (again.stdout, again.stderr) == ("", "")
    old = view.live_leaf(NAME)
    assert mailhost.certbot("renew", "-q", "--force-renewal").stderr == ""
    assert set(hidden_leaves().values()) == {view.live_leaf(NAME)} != {old}
    endpoints, notes = shown(mailhost)
    assert endpoints[10993, "127.0.0.1"]["proxy"] == "haproxy"
    assert "proxy" not in endpoints[993, "127.0.0.1"]
    assert notes == []
    assert "Postfix submission (TLS, behind a proxy)" in mailhost.run("certbot-dovecot", "status").stdout
    # The header is what the servers want: their logs complain of nothing.
    assert "haproxy" not in mailhost.log("dovecot").lower()
    assert "haproxy" not in mailhost.log("postfix")


def test_untrusted_they_are_not_looked_at_and_the_others_are(mailhost):
    behind(mailhost, "192.0.2.1")
    result = mailhost.certbot(*INSTALL)
    note = (
        "Dovecot imap 127.0.0.1:10993 (TLS, behind a proxy) was not looked at: Dovecot takes connections there only from "
        "haproxy_trusted_networks, and this host is not in them. So it is not known what it serves. To have it looked at, add "
        "127.0.0.1 to them."
    )
    assert result.stdout.count(note) == 1
    leaf = view.live_leaf(NAME)
    assert view.leaf_at(mailhost, 993) == leaf
    assert {at(port, *how) for port, how in POSTFIX.items()} == {leaf}
    # No record is made of what nobody saw.
    zone = view.read(f"{STORE}/tlsa.zone").decode()
    assert "_993._tcp" in zone
    assert "_465._tcp" in zone
    assert not any(f"_{port}._tcp" in zone for port in (10143, 10993, 14190))
    assert mailhost.certbot("renew", "-q").stderr == ""
    assert mailhost.certbot("renew", "-q", "--force-renewal").stderr == ""
    assert view.leaf_at(mailhost, 993) == view.live_leaf(NAME) != leaf
    endpoints, notes = shown(mailhost)
    assert (10993, "127.0.0.1") not in endpoints
    assert note in notes
    assert mailhost.run("certbot-dovecot", "tlsa", NAME).stdout.count("_10993._tcp") == 0
    # Dovecot logs each connection that it does not want; so there was none.
    assert "Client not trusted" not in mailhost.log("dovecot")
    # The configuration is theirs, too: the proxy gets the new certificate once it is asked.
    mailhost.write(LOCAL, f"haproxy_trusted_networks = 127.0.0.1\n{LISTENERS}")
    mailhost.restart("dovecot")
    assert at(10993, "imap", True) == view.live_leaf(NAME)
    assert mailhost.run("certbot-dovecot", "undo", NAME).code == 0


def test_a_submission_server_of_dovecots(mailhost):
    mailhost.reset(submission="dovecot")
    mailhost.write(LOCAL, f"haproxy_trusted_networks = 127.0.0.1, ::1\n{SUBMISSION}")
    mailhost.restart("dovecot")
    mailhost.certbot(*INSTALL)
    assert at(11587, "submission", False) == view.live_leaf(NAME)
    assert at(11587, "submission", False, address="::1") == view.live_leaf(NAME)
    assert mailhost.certbot("renew", "-q").stderr == ""


def test_set_in_main_cf_and_postscreen(mailhost):
    """main.cf's setting holds for every smtpd, and postscreen has its own."""
    lines = view.read(MASTER).decode().splitlines(keepends=True)
    text = "".join("#" + line if line.startswith("smtp ") and " inet " in line else line for line in lines)
    for line in ("smtp      inet  n       -       y       -       1       postscreen",
                 "smtpd     pass  -       -       y       -       -       smtpd",
                 "dnsblog   unix  -       -       y       -       0       dnsblog",
                 "tlsproxy  unix  -       -       y       -       0       tlsproxy"):
        text = text.replace(f"#{line}\n", f"{line}\n")
    mailhost.write(MASTER, text)
    mailhost.append(
        "/etc/postfix/main.cf",
        "smtpd_upstream_proxy_protocol = haproxy\npostscreen_upstream_proxy_protocol = haproxy\n",
    )
    mailhost.restart("postfix")
    mailhost.certbot(*INSTALL, "--dovecot-postfix-services", "all")
    assert {at(port, *how) for port, how in POSTFIX.items()} == {at(25, "smtp", False)} == {view.live_leaf(NAME)}
    assert "_25._tcp" in view.read(f"{STORE}/tlsa.zone").decode()
    assert mailhost.certbot("renew", "-q").stderr == ""


@pytest.mark.parametrize("wrong", ["haproxy = yes", ""])
def test_a_proxy_that_is_switched_on_or_off_under_way(mailhost, wrong):
    """The listener that runs is another one than the configuration says, until a reload: that is no reason to fail."""
    said = "" if wrong else "haproxy = yes"
    one = "haproxy_trusted_networks = 127.0.0.1\nservice imap-login {{\n  inet_listener imaps {{\n    {}\n  }}\n}}\n"
    mailhost.write(LOCAL, one.format(said))
    mailhost.restart("dovecot")
    mailhost.write(LOCAL, one.format(wrong))
    mailhost.certbot(*INSTALL)
    assert at(993, "imap", True, "haproxy" if wrong else "") == view.live_leaf(NAME)


def test_a_floating_address_that_another_host_has_now(mailhost):
    """Keepalived's standby: the servers listen on an address that comes later."""
    address, bind = "10.99.0.1", "/proc/sys/net/ipv4/ip_nonlocal_bind"
    with open(bind, "w") as file:
        file.write("1")
    try:
        mailhost.write(LOCAL, f"listen = 127.0.0.1, {address}\n")
        mailhost.append(MASTER, f"{address}:2465 inet n - y - - smtpd -o smtpd_tls_wrappermode=yes\n")
        mailhost.restart("dovecot")
        mailhost.restart("postfix")
        result = mailhost.certbot(*INSTALL)
        said = f"Postfix submission {address}:2465 (TLS) was not looked at: {address} is no address of this host now."
        assert result.stdout.count(said) == 1
        assert f"Dovecot imap {address}:993 (TLS) was not looked at" in result.stdout
        assert mailhost.certbot("renew", "-q").stderr == ""
        assert mailhost.certbot("renew", "-q", "--force-renewal").stderr == ""
        assert "_2465._tcp" not in view.read(f"{STORE}/tlsa.zone").decode()
        assert any(said in note for note in shown(mailhost)[1])
        mailhost.run("ip", "address", "add", f"{address}/32", "dev", "lo")
        endpoints, notes = shown(mailhost)
        assert endpoints[993, address]["right"]
        assert endpoints[2465, address]["right"]
        assert notes == []
        mailhost.certbot("renew", "-q", "--force-renewal")
        assert "_2465._tcp" in view.read(f"{STORE}/tlsa.zone").decode()
    finally:
        mailhost.run("ip", "address", "del", f"{address}/32", "dev", "lo", check=False)
        with open(bind, "w") as file:
            file.write("0")
