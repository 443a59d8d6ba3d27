"""What in certificates, keys and their names would hurt later.  Pure."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from shlex import quote
from typing import Optional

from cryptography import x509

from certbot_dovecot import bundle as bundles
from certbot_dovecot import health, renewals
from certbot_dovecot.checks import dovecot, facts
from certbot_dovecot.checks.facts import Elsewhere, Facts, Held, Pem
from certbot_dovecot.checks.findings import Finding, Severity
from certbot_dovecot.dane.rollover import Kind
from certbot_dovecot.servers import probe

#: Years that a key that never changes may have before a word is said.
OLD = 2
#: Where every year's first runs of certbot change the servers to the standby's key, by then.
_NEW_YEAR = datetime.timedelta(days=7)
#: Who issues certificates that nobody trusts, as their issuers' names have it.
_TESTS = ("staging", "pebble", "fake le")


def must_staple(known: Facts) -> Iterator[Finding]:
    """A renewal that will ask for a certificate that neither server can serve."""
    todo = "Take must_staple out of it: neither Dovecot nor Postfix staples, and a certificate that demands it is refused here"
    if renewals.cli_says(known.cli_ini[1], "must-staple") not in ("", "false"):
        what = "every certificate that is issued next will demand OCSP stapling, and servers keep the old ones until their end"
        yield Finding("must-staple", Severity.WARNING, what, renewals.place_of(*known.cli_ini, "must-staple"), todo)
    for held in known.held:
        if str(held.parameters.get("must_staple")).lower() == "true":
            what = "the next renewal will demand OCSP stapling, and the servers keep the old certificate until it expires"
            yield Finding("must-staple", Severity.WARNING, what, held.line("must_staple"), todo, held.name)


def chain(known: Facts) -> Iterator[Finding]:
    """A chain that clients cannot follow, or that is longer than they need."""
    for held in known.held:
        pem = held.live if held.stands_by else held.deployed
        if pem is None or not pem.certificates or not (held.installed or held.stands_by):
            continue
        source = str(held.parameters.get("server", ""))
        mine = held.live
        same = mine is not None and mine.certificates[:1] == pem.certificates[:1] and mine.certificates != pem.certificates
        own = {said for _, said, _ in judge_chain(mine.certificates, known.roots, source)} if mine and same else set()
        for severity, what, todo in judge_chain(pem.certificates, known.roots, source, held.name):
            if same and what not in own:
                todo = f"certbot-dovecot deploy {held.name} brings certbot's own chain there"
            yield Finding("chain", severity, what, pem.path, todo, held.name)


def judge_chain(
    served: Sequence[x509.Certificate], roots: Optional[facts.Roots], source: str = "", name: str = ""
) -> Iterator[tuple[Severity, str, str]]:
    """What is wrong with a chain: severity, what, and the remedy.

    :param served: leaf first.
    :param roots: what this system trusts, by subject; None if that is not known.
    :param source: URL of the CA that it came from.
    :param name: of the lineage, for the remedy; empty for none.
    """
    for number, (child, parent) in enumerate(zip(served, served[1:]), 1):
        if not bundles.issued(child, parent):
            what = f"certificate {number} behind the server's ({_subject(parent)}) did not issue the one before it"
            yield Severity.WARNING, f"{what}: many clients cannot follow", "Put the issuer of each certificate behind it"
            return
    end = bundles.validity(served[0])[1]
    early = next((one for one in served[1:] if bundles.validity(one)[1] < end), None)
    if early is not None and not _anchored(served[: served.index(early)], roots):
        what = f"the intermediate {_subject(early)} ends on {bundles.validity(early)[1]:%Y-%m-%d}, before the certificate does"
        renew = f"certbot renew --force-renewal --cert-name {name}, or ask" if name else "Ask"
        yield Severity.WARNING, what, f"{renew} the CA for a newer intermediate"
    if len(served) > 1 and served[-1].issuer == served[-1].subject:
        what = f"the root {_subject(served[-1])} is sent along, which no client needs: it has it, or does not trust this one"
        yield Severity.NOTE, what, "Leave the root out of the chain"
    if roots is None or _anchored(served, roots):
        return
    if len(served) == 1:
        what = f"the intermediate certificates are missing: {_issuer(served[0])}, its issuer, is no CA that this system trusts"
        yield Severity.WARNING, what, "Put the CA's intermediates behind it (--chain-path, or the bundle that the CA mails)"
    elif any(word in f"{source} {_issuer(served[-1])}".lower() for word in _TESTS):
        what = f"it is from a CA for tests ({_issuer(served[-1])}), which no mail client trusts"
        yield Severity.WARNING, what, "Get one from the CA itself: certbot without --staging, --test-cert and --server"
    else:
        what = f"it leads to {_issuer(served[-1])}, which this system does not trust, nor do clients that trust the same CAs"
        yield Severity.NOTE, what, "If that CA is your own, have every client trust it; else get a certificate from another CA"


def _anchored(served: Sequence[x509.Certificate], roots: Optional[facts.Roots]) -> bool:
    """Whether a CA that is trusted issued one of ``served``, or is one of them."""
    if not roots:
        return False
    return any(
        one == root or bundles.issued(one, root)
        for one in served
        for name in (one.issuer, one.subject)
        for root in roots.get(name, ())
    )


def key_age(known: Facts) -> Iterator[Finding]:
    """A key that is older than its rotation says."""
    for held in known.held:
        pem, year = held.current, held.year
        if pem is None or year is None or held.stands_by or not held.installed:
            continue
        if held.options.key_rotation == "never":
            if known.now.year - year >= OLD:
                what = f"its key is of {year}, and never changes by itself (--dovecot-key-rotation never)"
                todo = f"certbot renew --cert-name {quote(held.name)} --force-renewal --new-key, if the years are not meant"
                yield Finding("key-age", Severity.NOTE, what, pem.path, todo, held.name)
            continue
        late = known.now - datetime.datetime(known.now.year, 1, 1, tzinfo=datetime.timezone.utc) > _NEW_YEAR
        # The first renewal of a year takes the new key: one of last year is in order before that.
        renewed = (pem.validity[0] + datetime.timedelta(hours=1)).year
        # Where the installer is not called, no renewal does that.
        alone = held.lineage is not None and not held.stores_installer and not held.standby
        if year < known.now.year and (late if held.standby else alone or year < renewed):
            severity, why, todo = _kept(held, known)
            yield Finding("key-age", severity, f"its key is of {year}: {why}", pem.path, todo, held.name)


def _kept(held: Held, known: Facts) -> tuple[Severity, str, str]:
    """Why a key was kept, and the remedy."""
    name = quote(held.name)
    if held.standby:
        why = f"the servers have not changed to {held.standby} yet"
        why += f" ({held.step.reason})" if held.step and held.step.kind is not Kind.SWITCH else ""
        return Severity.NOTE, why, f"certbot-dovecot rollover {name} says what is missing, and changes if nothing is"
    if held.step is not None and held.step.kind is Kind.STANDBY:
        why = f"DANE keeps it, for no next key is published ({held.step.reason})"
        return Severity.WARNING, why, f"certbot-dovecot standby {name}"
    if held.step is not None and held.step.kind is not Kind.FREE:
        return Severity.NOTE, f"DANE keeps it ({held.step.reason})", f"certbot-dovecot standby {name}; see docs/dane.rst"
    if held.external:
        why = "the present certificate was issued for a key of an earlier year"
        return Severity.NOTE, why, "Ask the CA for the next one with a new key: certbot-dovecot csr"
    renew = renewals.new_key(held.name)
    if held.stores_installer:
        return Severity.NOTE, "the renewals of this year kept it", renew
    why = "certbot renews it without the installer, and reuses the key"
    asked = held.survey.at if held.step is not None and held.survey is not None else None
    if held.options.dane != "off" and not (asked and renewals.recent(asked, known.now)):
        return Severity.NOTE, why, f"certbot-dovecot doctor --dns {quote(held.name)} says whether it may change now, and how"
    if known.renewing(held).shared:
        return Severity.NOTE, why, renew
    return Severity.NOTE, why, f"{renewals.store(held.name, '--installer dovecot', known.certbot)}; then {renew}"


def overdue(known: Facts) -> Iterator[Finding]:
    """A certificate that ought to be renewed by now."""
    for held in known.held:
        if held.lineage is None or held.live is None or not held.live.certificates:
            continue
        begin, end = held.live.validity
        left, whole = end - known.now, end - begin
        limit = whole / 4
        said = str(held.parameters.get("renew_before_expiry", "")).split()
        if len(said) == 2 and said[0].isdigit() and said[1] in ("day", "days"):
            limit = min(limit, datetime.timedelta(days=int(said[0])) * 3 / 4)
        if left < limit:
            gone = left < datetime.timedelta(0)
            yield Finding(
                "overdue",
                Severity.WARNING,
                f"it {'ended' if gone else 'ends'} on {end:%Y-%m-%d %H:%M} UTC and was not renewed, which certbot does when a "
                "third of the lifetime is left",
                held.live.path,
                f"certbot renew --cert-name {quote(held.name)}, and see what it says; its log is in /var/log/letsencrypt",
                held.name,
            )


def sni_names(known: Facts) -> Iterator[Finding]:
    """Names that a server has a certificate for that is not for them, and names of a certificate that get another one."""
    for server, view in known.views:
        for name, pair in view.by_name:
            pem, pattern = known.pems.get(pair.cert), f"*{name}" if name.startswith(".") else name
            if "*" in pattern.removeprefix("*."):
                # No certificate has such a name, and what the admin means by it cannot be told.
                continue
            if pem is not None and pem.certificates and not pem.covers(pattern):
                what = f"{server} serves {pem.path} to clients that ask for {pattern}, and it is not for that name"
                todo = f"Get one that is: certbot --installer dovecot -d {pattern}; or take the name out"
                yield Finding("sni-names", Severity.WARNING, what, _place(known, server, name), todo, known.owner_of(pem.path))
    looked = {server for server, _ in known.views}
    for held in known.held:
        if held.installed and held.record is not None and held.deployed is not None:
            for server in held.record.servers:
                if server in looked:
                    yield from _not_served(known, held, held.deployed, server)


def not_served(known: Facts, held: Held, server: str) -> Iterator[tuple[str, str]]:
    """(name, path) of every name of a lineage that a server serves with a certificate which is not for it."""
    for name in sorted(held.deployed.names) if held.installed and held.deployed else ():
        asked = probe.sni_for([name])
        for pair in known.served.get((server, asked), ()) if asked else ():
            pem = known.pems.get(pair.cert)
            if pem is not None and pem.certificates and not pem.covers(asked or ""):
                yield name, pem.path


def _not_served(known: Facts, held: Held, mine: Pem, server: str) -> Iterator[Finding]:
    """Names of a lineage that a server it is installed on serves with a certificate that is not for them."""
    wrong: dict[tuple[str, bool], list[str]] = {}
    for name, path in not_served(known, held, server):
        wrong.setdefault((path, (server, held.name, name) in known.healed), []).append(name)
    for (path, healed), names in wrong.items():
        told = ", ".join(dict.fromkeys(names))
        where = ", ".join(known.places(server, path))
        todo = f"certbot install --cert-name {quote(held.name)} --installer dovecot"
        if not healed:
            todo = f"Take {told} out of what the configuration has for it ({where or path}), then {health.RELOAD[server]}"
        what = f"{server} serves {path} to clients that ask for {told}, though {mine.path} is for that and installed"
        yield Finding("sni-names", Severity.WARNING, what, where or path, todo, held.name)


def _place(known: Facts, server: str, name: str) -> str:
    if server == "Dovecot":
        places = [dovecot.name_place(one, name) for one in known.dovecot]
    else:
        places = [one.our_map.partition(":")[2] for one in known.postfix]
    return next(iter(places), "")


def missing_files(known: Facts) -> Iterator[Finding]:
    """Files that a configuration names and that are gone or do not match: served from memory until the next reload."""
    for path in dict.fromkeys(pair.cert for _, view in known.views for pair in view.pairs):
        pem = known.pems.get(path)
        if pem is not None and pem.error:
            yield _unreadable(known, path, pem.error)
    for path in dict.fromkeys(pair.key for _, view in known.views for pair in view.pairs):
        if known.keys.get(path):
            yield _unreadable(known, path, known.keys[path])


def _unreadable(known: Facts, path: str, why: str) -> Finding:
    owner = known.owner_of(path)
    named = [(server, pair) for server, view in known.views for pair in view.pairs if path in (pair.cert, pair.key)]
    servers = ", ".join(dict.fromkeys(server for server, _ in named))
    places = ", ".join(dict.fromkeys(place for server, pair in named for place in known.places(server, pair.cert)))
    todo = "Put back the one that belongs there, or have the configuration name another pair"
    todo += f" ({places})" if places else ""
    if any(held.name == owner and held.lineage is not None for held in known.held):
        todo = f"certbot-dovecot deploy {quote(owner)} writes it again"
    return Finding(
        "missing-files",
        Severity.WARNING,
        f"{servers} names this file, and {why}: the next reload or start is refused, or leaves clients without TLS",
        path,
        todo,
        owner,
    )


def nobody_renews(known: Facts) -> Iterator[Finding]:
    """Certificates that servers name and that nobody renews."""
    for name in sorted(known.forgotten):
        for server, view in known.views:
            path = next((pair.cert for pair in view.pairs if known.owner_of(pair.cert) == name), "")
            if path:
                what = f"certbot does not know this lineage any more, and {server} still serves its copy, which nobody renews"
                pem = known.pems.get(path)
                todo = health.again_or_undo(name, sorted(pem.names) if pem else ())
                yield Finding("nobody-renews", Severity.WARNING, what, path, todo, name)
    for one in known.elsewhere:
        pem = one.pem or known.pems.get(one.path)
        if one.keeper is None and pem is not None and pem.certificates:
            yield from _elsewhere(known, one, pem)


def _elsewhere(known: Facts, one: Elsewhere, pem: Pem) -> Iterator[Finding]:
    """A certificate that is not in the store and that nobody known renews: near its end, or self-signed where ours was."""
    begin, end = pem.validity
    left = end - known.now
    records = [(held.name, held.record) for held in known.held if held.record is not None]
    ours = [name for name, record in records if one.server in (*record.servers, *record.withdrawn)]
    once = [name for name, record in records if one.server in record.withdrawn]
    what = ""
    ending = left < health.usual_limits(end - begin)[0]
    if ending:
        ended = left < datetime.timedelta(0)
        what = f"{one.server} names this certificate, which {'ended' if ended else 'ends'} on {end:%Y-%m-%d %H:%M} UTC, and "
        what += "nobody that is known here renews it"
    elif ours and bundles.is_self_signed(pem.certificates[0]):
        what = f"{one.server} names this certificate, which is self-signed, though it is to serve {', '.join(ours)}"
    if what:
        todo = f"Have the configuration name another certificate instead, then {health.RELOAD[one.server]}"
        if one.heals:
            todo = f"certbot install --installer dovecot --cert-name {one.heals} puts its certificate there"
        if not ending:
            # One that ends is told of as long as a server names it, whoever's it is.
            todo += "".join(f"; if it is meant, certbot-dovecot undo {name}" for name in once)
        where = ", ".join(one.places) or one.path
        yield Finding("nobody-renews", Severity.WARNING, what, where, todo, one.heals or next(iter(ours), ""))


def rsa_clients(known: Facts) -> Iterator[Finding]:
    """Clients that a certificate with an ECDSA key shuts out: asked on the wire, once a server."""
    for one in known.tried:
        if one.ecdsa.disagreed:
            what = (
                f"{one.server} has an ECDSA certificate, and agrees on no cipher for it with clients that do not know TLS 1.3: "
                f"{one.ecdsa.error}"
            )
            todo = "See its cipher list for aRSA, kRSA or !ECDSA, and take that out; or get an RSA certificate (--key-type rsa)"
            yield Finding("rsa-clients", Severity.WARNING, what, str(one.ecdsa.endpoint), todo)
        elif one.rsa is not None and one.rsa.disagreed:
            what = (
                f"old clients are wanted here, but those that know RSA certificates only are turned away by {one.server} "
                f"({one.rsa.endpoint}), which has an ECDSA certificate alone"
            )
            renew = f"certbot renew --cert-name {one.lineage} --force-renewal --new-key --key-type rsa"
            todo = f"{renew}, if there are such clients; else ask for TLS 1.2 there"
            if not one.lineage:
                todo = "Get an RSA certificate (--key-type rsa), if there are such clients; else ask for TLS 1.2 there"
            yield Finding("rsa-clients", Severity.NOTE, what, one.wanted, todo, one.lineage)


def _subject(one: x509.Certificate) -> str:
    return one.subject.rfc4514_string()


def _issuer(one: x509.Certificate) -> str:
    return one.issuer.rfc4514_string()
