"""Lineages whose names overlap, on the wire: each name gets the most exact certificate that covers it, on both servers."""

from __future__ import annotations

import os

import pytest

from certbot_dovecot.servers import sni_map
from tests.integration import view
from tests.integration.test_names import SNI_MAP
from tests.integration.test_postfix_forms import MASTER
from tests.integration.test_renew import NEW_YEAR
from tests.integration.test_undo import configuration, undo

#: Parents, children and wildcards, and what each client is to get.
LINEAGES = {
    "deep": ("mail.sub.example.net", "sub.example.net"),
    "wild": ("*.example.net", "example.net"),
    "exact": ("mail.example.net", "*.sub.example.net"),
    "other": ("example.org",),
}
CLIENTS = {
    "mail.sub.example.net": "deep",
    "sub.example.net": "deep",
    "imap.example.net": "wild",
    "example.net": "wild",
    "MAIL.example.net": "exact",
    "imap.sub.example.net": "exact",
    "example.org": "other",
    # At the wrong depth, and of nobody.
    "a.b.example.net": None,
    "a.mail.sub.example.net": None,
    "mail.example.org": None,
}
MANUAL = ("-a", "manual", "--preferred-challenges", "dns", "--manual-auth-hook", "/bin/true")


def install(mailhost, name, *names):
    wanted = [part for one in names or LINEAGES[name] for part in ("-d", one)]
    return mailhost.certbot("--installer", "dovecot", *MANUAL, "--cert-name", name, *wanted)


def wrong(mailhost, default, clients=CLIENTS, ports=(465, 587, 993)):
    """Where another certificate than the right one is served."""
    leaves = {view.live_leaf(name): name for name in LINEAGES if os.path.exists(f"/etc/letsencrypt/live/{name}")}
    found = {(port, name): leaves.get(mailhost.served(port, sni=name).digest) for port in ports for name in clients}
    return {one: got for one, got in found.items() if got != (clients[one[1]] or default)}


@pytest.mark.parametrize(
    "order",
    [("deep", "wild", "exact", "other"), pytest.param(("wild", "other", "exact", "deep"), marks=pytest.mark.long)],
)
def test_installed_in_any_order_and_until_the_last_is_gone(mailhost, order):
    before, served = configuration(mailhost), view.leaves(mailhost)
    for name in order:
        install(mailhost, name)
    assert wrong(mailhost, order[0]) == {}
    mailhost.certbot("renew", "--force-renewal", at=NEW_YEAR)
    assert wrong(mailhost, order[0]) == {}
    # A wildcard goes: then its names are nobody's, and the next wildcard's lineage has its own still.
    left = {name: None if whose == "wild" else whose for name, whose in CLIENTS.items()}
    assert undo(mailhost, "wild").code == 0
    if order[0] != "wild":
        assert wrong(mailhost, order[0], left) == {}
    for name in order:
        if name != "wild":
            assert undo(mailhost, name).code == 0
    assert configuration(mailhost) == before
    assert view.leaves(mailhost) == served


def test_a_renewal_with_other_names_and_a_name_that_goes_back(mailhost):
    install(mailhost, "deep")
    install(mailhost, "wild")
    shown = install(mailhost, "exact", "sub.example.net", "mail.example.net")
    assert wrong(mailhost, "deep", {"sub.example.net": "exact", "mail.example.net": "exact", "imap.example.net": "wild"}) == {}
    assert shown.code == 0
    # certbot changes the names, and what renews an installed lineage brings them to the servers.
    names = [part for one in ("mail.example.net", "new.example.net") for part in ("-d", one)]
    mailhost.certbot("certonly", *MANUAL, "--cert-name", "exact", *names, "--force-renewal")
    mailhost.run("certbot-dovecot", "deploy", "exact")
    clients = {"sub.example.net": "deep", "mail.example.net": "exact", "new.example.net": "exact", "imap.example.net": "wild"}
    assert wrong(mailhost, "deep", clients) == {}
    assert undo(mailhost, "exact").code == 0
    clients = {name: "wild" if whose == "exact" else whose for name, whose in clients.items()}
    assert wrong(mailhost, "deep", clients) == {}


def text(path):
    with open(path) as handle:
        return handle.read()


def former(mailhost):
    """The host as an install wrote it before the table of names became one of regular expressions."""
    table = sni_map.parse(text(SNI_MAP).encode())
    lines = [f"{name.removeprefix('*')} {pair.key} {pair.cert}\n" for name, pair in table.named.items()]
    mailhost.write(SNI_MAP, "".join(lines))
    mailhost.write(MASTER, text(MASTER).replace(f"regexp:{SNI_MAP}", f"texthash:{SNI_MAP}"))
    mailhost.run("postfix", "reload")


def test_a_host_with_the_former_table_is_brought_to_the_new_one_by_a_renewal(mailhost):
    names = ("deep", "wild", "exact")
    for name in names:
        install(mailhost, name)
    former(mailhost)
    clients = {name: whose for name, whose in CLIENTS.items() if whose != "other"}
    # The former table gives a wildcard names at every depth, and those of a service's own certificate.
    assert (587, "mail.sub.example.net") in wrong(mailhost, "deep", clients)
    mailhost.certbot("renew", "--force-renewal", at=NEW_YEAR)
    assert wrong(mailhost, "deep", clients) == {}
    assert "texthash" not in text(MASTER)
    assert not sni_map.is_former(text(SNI_MAP).encode())


def test_undo_on_a_host_with_the_former_table(mailhost):
    install(mailhost, "deep")
    install(mailhost, "exact")
    former(mailhost)
    assert undo(mailhost, "exact").code == 0
    assert wrong(mailhost, "deep", {"mail.sub.example.net": None, "mail.example.net": None}, ports=(465, 587)) == {}
    assert "exact" not in text(SNI_MAP)
