"""Snapshots of hosts for the tests of the checks: one that is in order, and what is put wrong in it."""

from __future__ import annotations

import datetime
from dataclasses import replace

from certbot_dovecot import store
from certbot_dovecot.bundle import Source, spki_of
from certbot_dovecot.checks import ALL
from certbot_dovecot.checks.facts import Bits, DovecotFacts, Facts, Held, Hook, Pem, PostfixFacts, Schedule, Timer
from certbot_dovecot.lineages import Lineage
from certbot_dovecot.servers import dovecot_conf, dovecot_view, master_cf, postfix_services
from certbot_dovecot.servers.contract import Endpoint, Pair, Served, View
from certbot_dovecot.servers.postfix_services import Main
from certbot_dovecot.state import Options, State
from tests.lab import ca

NOW = datetime.datetime.now(datetime.timezone.utc)
HOME = "/etc/letsencrypt/dovecot"
NAME = "mail.example.test"
FOLDER = f"{HOME}/{NAME}"
PAIR = Pair(f"{FOLDER}/2026.pem", f"{FOLDER}/2026.key")
CONF = f"/etc/letsencrypt/renewal/{NAME}.conf"
AUTHORITY = ca.CA.make(now=NOW)
LEAF = AUTHORITY.leaf([NAME])
ROOTS = {AUTHORITY.root.cert.subject: (AUTHORITY.root.cert,)}
MASTER = f"""\
smtp inet n - y - - smtpd
465 inet n - y - - smtpd
  -o smtpd_tls_wrappermode=yes
  -o smtpd_tls_cert_file={PAIR.cert}
  -o smtpd_tls_key_file={PAIR.key}
"""


def pem(made=LEAF, path=PAIR.cert):
    return Pem(path, (made.cert, *made.chain))


def lineage(name=NAME, installer="dovecot", reuse=True):
    live = f"/etc/letsencrypt/live/{name}"
    source = Source(f"{live}/privkey.pem", f"{live}/cert.pem", f"{live}/chain.pem", f"{live}/fullchain.pem")
    return Lineage(name, source, f"/etc/letsencrypt/archive/{name}", installer, reuse)


def held(made=LEAF, name=NAME, **changes):
    """One that is installed and in order."""
    place = store.folder(HOME, "", name)
    spki = spki_of(made.cert)
    one = Held(
        name=name,
        place=place,
        options=Options(),
        record=State(years={spki: NOW.year}, stem="2026", spki=spki, servers=("Dovecot", "Postfix")),
        conf=f"/etc/letsencrypt/renewal/{name}.conf",
        text="[renewalparams]\nauthenticator = standalone\ninstaller = dovecot\n",
        parameters={"authenticator": "standalone", "installer": "dovecot"},
        lineage=lineage(name),
        live=pem(made, f"/etc/letsencrypt/live/{name}/fullchain.pem"),
        deployed=pem(made, f"{place.path}/2026.pem"),
        files=(Bits(place.path, 0o755, 0, True), Bits(f"{place.path}/2026.key", 0o600, 0)),
        year=NOW.year,
    )
    return replace(one, **changes)


def external(made=LEAF, **changes):
    """A certificate from elsewhere, likewise."""
    return held(made, "shop-external", **{"lineage": None, "live": None, "parameters": {}, "text": "", **changes})


def postfix(main="", master=MASTER, services="submission", **values):
    """A Postfix; ``main`` is what main.cf says, and effective, but for ``values``."""
    entries = master_cf.parse(master.encode(), "/etc/postfix/master.cf")
    said = {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in main.splitlines())}
    conf = Main({**said, **values}, main, lambda name: said.get(name, ""))
    chosen = tuple(postfix_services.chosen(services, entries, conf, "/etc/postfix/master.cf"))
    return PostfixFacts("/etc/postfix", master.encode(), entries, conf, chosen, view("Postfix", 465), "regexp:/etc/postfix/t")


def view(server, port, by_name=(), pair=PAIR):
    endpoint = Endpoint(server, "imap", "127.0.0.1", port, True)
    return View((Served(endpoint, pair),), (), (pair, *(other for _, other in by_name)), (), tuple(by_name))


def dovecot(text="", by_name=(), dialect=dovecot_conf.V23):
    """A Dovecot whose ``dovecot.conf`` is ``text``, and effective."""
    head = "" if dialect is dovecot_conf.V23 else "dovecot_config_version = 2.4.0\n"
    tree = dovecot_conf.read("/d.conf", lambda path: (head + text).encode(), lambda pattern: None)
    effective = dovecot_view.effective(tree.assignments, tree.dialect, False)
    return DovecotFacts("/d.conf", tree, effective, view("Dovecot", 993, by_name))


def facts(*some, **changes):
    """A host that is in order, with what is given instead."""
    one = Facts(
        now=NOW,
        held=some or (held(),),
        folders={FOLDER: NAME},
        dovecot=(dovecot(),),
        postfix=(postfix(),),
        pems={PAIR.cert: pem()},
        keys={PAIR.key: ""},
        roots=ROOTS,
        schedule=Schedule(True, (Timer("certbot.timer", "enabled", True),)),
        resolvers={"": ""},
        hook=Hook("/etc/letsencrypt/renewal-hooks/deploy/certbot-dovecot"),
        cli_ini=("/etc/letsencrypt/cli.ini", "max-log-backups = 0\n"),
    )
    return replace(one, **changes)


def found(check, known):
    """What the check of that name finds."""
    (one,) = [one for one in ALL if one.name == check]
    return list(one.judge(known))
