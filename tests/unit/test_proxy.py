"""Endpoints that cannot be asked the ordinary way: behind a proxy, or at an address that is not this host's."""

from __future__ import annotations

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_dovecot.servers import addresses as places
from certbot_dovecot.servers import dovecot_conf, dovecot_view, master_cf, postfix_services, probe
from certbot_dovecot.servers.contract import Endpoint
from certbot_dovecot.servers.postfix_services import Main
from tests.unit.test_probe import DIALOGUES, ecdsa, listen, server_context, tls  # noqa: F401 (fixtures, by their names)

V1 = re.compile(rb"PROXY TCP4 127\.0\.0\.1 127\.0\.0\.1 (\d+) (\d+)\r\n")


def behind(context, headers, dialogue=()):
    """A server that reads the header, byte by byte as Postfix does, before it says anything; without one it hangs up."""

    def handle(connection):
        header = b""
        while not header.endswith(b"\r\n") and (byte := connection.recv(1)):
            header += byte
        headers.append((header, connection.getpeername()[1], connection.getsockname()[1]))
        if V1.fullmatch(header):
            tls(context, dialogue)(connection)

    return handle


@pytest.mark.parametrize("protocol", ["", *DIALOGUES])
def test_the_header_comes_before_everything_else(listen, ecdsa, protocol):  # noqa: F811 (a fixture)
    path, leaf = ecdsa
    headers = []
    port = listen(behind(server_context(path), headers, DIALOGUES.get(protocol, ())))
    endpoint = Endpoint("test", protocol or "imap", "127.0.0.1", port, not protocol, "haproxy")
    assert probe.ask(endpoint, "a.example", 5).leaf == leaf
    [(header, source, target)] = headers
    assert tuple(map(int, V1.fullmatch(header).groups())) == (source, target)
    # Without it there is none: the server is what makes the difference.
    bare = Endpoint("test", protocol or "imap", "127.0.0.1", port, not protocol)
    assert probe.ask(bare, "a.example", 0.3).leaf is None


class Socket:
    def __init__(self, source, target):
        self._names = source, target

    def getsockname(self):
        return self._names[0]

    def getpeername(self):
        return self._names[1]


def test_a_header_of_ipv6_has_no_zone():
    there = Socket(("fe80::1%eth0", 4711, 0, 2), ("fe80::2%eth0", 993, 0, 2))
    assert probe._proxy_header(there) == b"PROXY TCP6 fe80::1 fe80::2 4711 993\r\n"


def test_only_an_endpoint_behind_a_proxy_is_called_otherwise():
    plain, hidden = (Endpoint("Dovecot", "imap", "::1", 993, True, proxy) for proxy in ("", "haproxy"))
    assert str(plain) == "Dovecot imap [::1]:993 (TLS)"
    assert str(hidden) == "Dovecot imap [::1]:993 (TLS, behind a proxy)"
    assert plain != hidden


CONF = """\
protocols = imap
listen = {listen}
haproxy_trusted_networks = {trusted}
service imap-login {{
  protocol = imap
  inet_listener imaps {{
    port = 993
    ssl = yes
  }}
  inet_listener ha {{
    port = 10993
    ssl = yes
    haproxy = yes
  }}
}}
ssl_cert = </a.pem
ssl_key = </a.key
"""


def effective(trusted, listen="*, ::", here=lambda address: True):  # noqa: F811 (no fixture here: addresses)
    text = CONF.format(trusted=trusted, listen=listen).encode()
    tree = dovecot_conf.read("/x", lambda path: text, lambda pattern: None)
    return dovecot_view.effective(tree.assignments, tree.dialect, True, here)


addresses = st.ip_addresses().map(str).filter(lambda address: address not in ("0.0.0.0", "::"))


@given(st.lists(st.ip_addresses().flatmap(lambda a: st.integers(0, a.max_prefixlen).map(lambda n: f"{a}/{n}"))), addresses)
def test_an_endpoint_is_asked_where_dovecot_trusts_us_and_else_noted(networks, address):
    trusts = any(ipaddress.ip_address(address) in ipaddress.ip_network(one, strict=False) for one in networks)
    found = effective(", ".join(networks), listen=address)
    hidden = Endpoint("Dovecot", "imap", address, 10993, True, "haproxy")
    assert (hidden in found.endpoints) == trusts
    assert (hidden in found.unasked) != trusts
    assert [note for note in found.notes if str(hidden) in note and "haproxy_trusted_networks" in note] == (
        [] if trusts else list(found.notes)
    )
    assert Endpoint("Dovecot", "imap", address, 993, True) in found.endpoints
    assert [one.pair for one in found.served_unasked(None)] == ([] if trusts else [found.served(None)[0].pair])


@pytest.mark.parametrize("wildcard", ["*", "0.0.0.0"])
def test_a_wildcard_listener_is_met_on_loopback(wildcard):
    assert {one.address for one in effective("127.0.0.1", listen=wildcard).endpoints} == {"127.0.0.1"}


@pytest.mark.parametrize("trusted", ["", "10.0.0.1", "nonsense", "300.0.0.1/8"])
def test_who_is_not_trusted_asks_nothing(trusted):
    found = effective(trusted)
    assert {one.port for one in found.endpoints} == {993}
    assert [one.address for one in found.unasked] == ["127.0.0.1", "::1"]
    assert len(found.notes) == 2


@pytest.mark.parametrize(
    ("line", "main", "wanted"),
    [
        ("465 inet n - y - - smtpd", {}, ""),
        ("465 inet n - y - - smtpd -o smtpd_upstream_proxy_protocol=haproxy", {}, "haproxy"),
        ("465 inet n - y - - smtpd", {"smtpd_upstream_proxy_protocol": "haproxy"}, "haproxy"),
        ("465 inet n - y - - smtpd -o smtpd_upstream_proxy_protocol=", {"smtpd_upstream_proxy_protocol": "haproxy"}, ""),
        ("465 inet n - y - - smtpd -o smtpd_upstream_proxy_protocol=$mine -o mine=haproxy", {}, "haproxy"),
        ("465 inet n - y - - smtpd", {"postscreen_upstream_proxy_protocol": "haproxy"}, ""),
        ("25 inet n - y - 1 postscreen", {"postscreen_upstream_proxy_protocol": "haproxy"}, "haproxy"),
        ("25 inet n - y - 1 postscreen", {"smtpd_upstream_proxy_protocol": "haproxy"}, ""),
    ],
)
def test_what_a_service_of_postfix_wants(line, main, wanted):
    [entry] = master_cf.parse(line.encode() + b"\n", "master.cf")
    assert postfix_services.proxy(entry, Main(main, "", lambda name: "")) == wanted


@pytest.mark.parametrize(
    ("address", "here"),
    [("127.0.0.1", True), ("127.0.0.2", True), ("::1", True), ("0.0.0.0", True), ("fe80::1%lo", True), ("mail.example", True),
     ("192.0.2.1", False), ("2001:db8::1", False)],
)  # fmt: skip
def test_whether_an_address_is_here(address, here):
    assert places.is_here(address) == here


def test_an_address_that_is_not_here_is_noted_and_not_asked():
    found = effective("", "127.0.0.1, 192.0.2.1", lambda address: address != "192.0.2.1")
    assert [(one.address, one.port) for one in found.endpoints] == [("127.0.0.1", 993)]
    assert {(one.address, one.port) for one in found.unasked} == {
        ("127.0.0.1", 10993), ("192.0.2.1", 993), ("192.0.2.1", 10993),
    }  # fmt: skip
    assert sum("192.0.2.1 is no address of this host now" in note for note in found.notes) == 2
