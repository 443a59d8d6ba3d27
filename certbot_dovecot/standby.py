"""The lineage that stands by: made by stock certbot, registered, published, and removed again.

It has the names of the lineage that it stands by for, a key of its own, and the same timer renews it; it is never installed
until a switch.  Its record stands in the DNS all year beside the one of the key that is served (D9): the yearly switch then has
months of margin, and an emergency needs no waiting.

``certbot certonly --installer dovecot --dovecot-standby-for NAME --cert-name OTHER`` is what makes one (or ``run``): certbot
issues, and the installer registers it (:func:`register`) where it would have installed it.  :func:`arguments` writes that
line from what the first lineage is renewed with.

Fails as a :class:`~certbot_dovecot.problems.Problem` that says what was left as it was.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from shlex import quote
from typing import Any, Optional

from certbot_dovecot import commands, files, handover, jobs, ledger, lineages, pairs, publishing, store, watch
from certbot_dovecot.certificates.names import check_lineage
from certbot_dovecot.dane.publish import Place
from certbot_dovecot.handover import Told
from certbot_dovecot.ledger import Ledger
from certbot_dovecot.problems import Problem
from certbot_dovecot.watch import Way

SUFFIX = "-standby"

#: What certbot's renewal conf calls otherwise than its command line.
_FLAGS = {
    "pref_challs": "preferred-challenges",
    "http01_port": "http-01-port",
    "http01_address": "http-01-address",
    "pre_hook": "pre-hook",
    "post_hook": "post-hook",
}
#: What goes over to the standby, beside the authenticator's own options.  Not the deploy hooks: what stands by is not deployed.
_TAKEN = (
    "authenticator", "server", "account", "key_type", "elliptic_curve", "rsa_key_size", "preferred_chain", "preferred_profile",
    "required_profile", "allow_subset_of_names", "webroot_path", "webroot_map", *_FLAGS,
)  # fmt: skip


def check(way: Way, first: str, name: Optional[str], names: Sequence[str]) -> None:
    """Look whether lineage ``name`` can stand by for ``first``; nothing if there is no ``first``.

    :param names: what its certificate will be for; empty if that is not said.
    :raises Problem: it cannot.
    """
    if not first:
        return
    check_lineage(first)
    whose = lineages.load(way.config_dir, first)
    if whose is None:
        raise _refuse(first, "there is no lineage of that name", "See certbot certificates for the names")
    if not name or name == first:
        raise _refuse(first, "a standby is a lineage of its own", f"Give it a name: --cert-name {quote(first + SUFFIX)}")
    other = pairs.first_of(way.home, first)
    if other != first:
        raise _refuse(first, f"it was made to stand by for {other}", "Give the name of the first of the two")
    known = ledger.load(store.folder(way.home, "", first)) or Ledger()
    if known.standby not in ("", name):
        todo = f"Remove it first: certbot-dovecot standby {quote(first)} --remove"
        raise _refuse(first, f"{known.standby} stands by for it already", todo)
    if names and frozenset(one.lower() for one in names) != whose.names():
        raise _refuse(
            first, "the two must have the same names", f"Give these with -d: {','.join(sorted(whose.names()))}"
        )


def stands_by_for(way: Way, name: str) -> str:
    """For whom lineage ``name`` was made to stand by; empty if for nobody.

    :raises StateProblem: a record cannot be read.
    """
    first = pairs.first_of(way.home, name)
    return first if first != name else ""


def register(way: Way, first: str, name: str) -> Told:
    """Note that lineage ``name`` stands by for ``first``, publish its record, and look at the DNS.

    :raises Problem: it cannot stand by, or publishing failed (it is registered then).
    """
    made = lineages.load(way.config_dir, name)
    check(way, first, name, sorted(made.names()) if made else ())
    with files.locked(f"{way.home}.lock"):
        place = store.folder(way.home, "", first)
        ledger.save(place, replace(ledger.load(place) or Ledger(), standby=name, asked=None))
        ledger.save(store.folder(way.home, "", name), Ledger(first=first))
    told = handover.tend(way, first)
    return replace(told, notes=(f"{name} stands by for {first}: it is renewed, and not installed.", *told.notes))


def refuse_install(way: Way, name: str) -> None:
    """Nothing, unless lineage ``name`` stands by: its key must not come to the servers before its record is proven.

    :raises Problem: it does.
    """
    pair = way.pair(name)
    if pair is not None and pair.standby is not None and pair.standby.lineage.name == name:
        raise Problem(
            f"it stands by for {pair.serving.lineage.name}, which the servers serve",
            where=name,
            left="The certificate is kept, and was not installed",
            todo=f"To change to it when its record is proven: certbot-dovecot rollover {quote(pair.name)}",
        )


def remove(way: Way, name: str) -> tuple[str, str]:
    """Take the standby's record out of the DNS, where it is ours, and forget it; the lineage stays.

    :returns: name of the lineage that stood by, and the lines that the admin has to remove.
    :raises Problem: nobody stands by, or it is the one that is served, or the DNS cannot be changed.
    """
    pair = way.pair(name)
    if pair is None or not pair.ledger.standby:
        raise Problem(
            "no lineage stands by for it", where=name, left="Nothing was changed", todo="See certbot certificates for the names"
        )
    if pair.serving.lineage.name != pair.name:
        raise Problem(
            f"{pair.serving.lineage.name} is served now, and {pair.name} stands by",
            where=name,
            left="Nothing was changed",
            todo=f"Change back first, when the new key of {pair.name} is proven: certbot-dovecot rollover {quote(pair.name)}",
        )
    gone = replace(pair, standby=None)
    by_hand: tuple[str, ...] = ()
    if pair.options.dane != "off":
        spki = pair.standby.key().sha256 if pair.standby else ""
        seen = watch.look(way, gone)
        places = watch.places(way, seen)
        _refuse_served(places, spki)
        _, changes = publishing.publish_them(way, gone, places)
        by_hand = publishing.lines_of(publishing.after(places, changes), spki)
    watch.write_down(way, pair, lambda known: replace(known, standby="").anew())
    with files.locked(f"{way.home}.lock"):
        other = store.folder(way.home, "", pair.ledger.standby)
        ledger.forget(other)
        files.remove_empty(os.path.dirname(other.state))
    return pair.ledger.standby, "\n".join(by_hand)


def _refuse_served(places: Sequence[Place], spki: str) -> None:
    """Nothing, unless an address serves the standby's key already (rule D18).

    :raises Problem: one does.
    """
    for place in places:
        for one in place.addresses:
            if one.key is not None and one.key.sha256 == spki:
                raise Problem(
                    f"{one.address} serves the key of the standby (3 1 1 {spki}), and needs its record",
                    where=one.owner,
                    left="Nothing was changed",
                    todo="Bring the certificate that this host serves to that address first",
                )


def arguments(way: Way, name: str, dirs: Sequence[str], more: Sequence[str]) -> list[str]:
    """What stock certbot is called with to make a standby for lineage ``name``.

    :param dirs: ``--config-dir`` and its like.
    :param more: options of the admin's, which go last.
    :raises Problem: there is no such lineage, or it has a standby.
    """
    other = f"{name}{SUFFIX}"
    check(way, name, other, ())
    lineage = jobs.existing(way.config_dir, name)
    params = lineages.parameters(way.config_dir, name)
    return [
        "certonly", "--non-interactive", *dirs, "--cert-name", other, "--installer", "dovecot",
        "--dovecot-standby-for", name, "--reuse-key", *options(params), "-d", ",".join(sorted(lineage.names())), *more,
    ]  # fmt: skip


def options(params: Mapping[str, Any]) -> list[str]:
    """Certbot's command line for what is in a renewal conf; pure.

    :param params: of its section ``renewalparams``.
    """
    authenticator = str(params.get("authenticator", "")).replace("-", "_")
    found = []
    for name, value in params.items():
        if name not in _TAKEN and not (authenticator and name.startswith(f"{authenticator}_")):
            continue
        if value in ("None", None, "", [], {}) or (name == "webroot_path" and params.get("webroot_map")):
            continue
        flag = f"--{_FLAGS.get(name, name.replace('_', '-'))}"
        if str(value) in ("True", "False"):
            found += [flag] if str(value) == "True" else []
        elif isinstance(value, Mapping):
            found += [flag, json.dumps(dict(value))]
        elif isinstance(value, (list, tuple)):
            found += [flag, ",".join(str(one) for one in value)]
        else:
            found += [flag, str(value)]
    return found


def certbot() -> str:
    """Where certbot is: beside the Python that runs now, else on the search path."""
    beside = os.path.join(os.path.dirname(sys.executable), "certbot")
    if os.access(beside, os.X_OK):
        return beside
    return shutil.which("certbot", path=commands.search_path()) or "certbot"


def _refuse(first: str, what: str, todo: str) -> Problem:
    return Problem(what, where=f"--dovecot-standby-for {first}", left="Nothing was registered", todo=todo)
