"""What in the DNS, and in how it is asked, would hurt later.  Pure; the rules are those of :mod:`certbot_dovecot.dane`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from shlex import quote

from certbot_dovecot import renewals
from certbot_dovecot.checks.facts import Facts, Held
from certbot_dovecot.checks.findings import Finding, Severity
from certbot_dovecot.dane import gates
from certbot_dovecot.dane.answers import Data, Owner, Validity
from certbot_dovecot.dane.standing import Standing
from certbot_dovecot.monitoring import upkeep

#: Seconds (rule D10).
LONGEST_TTL = 3600


def tlsa_ttl(facts: Facts) -> Iterator[Finding]:
    """Records that caches hold for longer than an emergency can bear."""
    for held in facts.held:
        long = {}
        for owner in _owners(held):
            ttl = max((seen.ttl for seen in owner.seen if seen.records), default=0)
            if ttl > LONGEST_TTL:
                long[owner.name] = ttl
        if long:
            what = f"{_list(long)} may be held by caches for {max(long.values())} s: so long, after a key is lost, "
            what += "the old one is still believed" if held.standby else "mail is deferred"
            todo = f"Set the TTL of the TLSA records to {LONGEST_TTL} or less"
            yield Finding("tlsa-ttl", Severity.NOTE if held.standby else Severity.WARNING, what, _when(held), todo, held.name)


def tlsa_usage(facts: Facts) -> Iterator[Finding]:
    """Records that go stale when a certificate is renewed or the CA changes its own, or that mail servers do not use."""
    for held in facts.held:
        kinds: dict[str, dict[str, Data]] = {}
        for owner in _owners(held):
            for data in sorted(owner.published):
                if data.usage in (0, 1):
                    kinds.setdefault("pkix", {}).setdefault(owner.name, data)
                elif data.usage == 2:
                    kinds.setdefault("ca", {}).setdefault(owner.name, data)
                elif (data.usage, data.selector) == (3, 0):
                    kinds.setdefault("leaf", {}).setdefault(owner.name, data)
        for kind, found in kinds.items():
            severity, why = _USAGES[kind]
            record = str(next(iter(found.values())))[:16]
            what = f"{_list(found)}: a record {record}... {why}"
            yield Finding("tlsa-usage", severity, what, _when(held), _INSTEAD.format(name=quote(held.name)), held.name)


_INSTEAD = "Publish 3 1 1 instead (certbot-dovecot tlsa {name} prints it), wait for the TTL, then take this one out"
_USAGES = {
    "ca": (Severity.WARNING, "names the CA's certificate, which changes without notice: it matches nothing then"),
    "leaf": (Severity.WARNING, "names the certificate itself, which every renewal changes: it matches nothing then"),
    "pkix": (Severity.NOTE, "is one that mail servers do not use (RFC 7672 section 3.1.3)"),
}


def addresses(facts: Facts) -> Iterator[Finding]:
    """Addresses under which others reach a host of a lineage, and whose key has no record there (rule D18)."""
    for held in facts.held:
        for one in gates.mismatches(held.survey) if held.survey else ():
            if one.key is None:
                what = f"{one.where} could not be asked ({one.error}), so the records of former keys stay in the DNS"
                todo = "See that it can be reached from this host, or take the address out of the DNS if nobody is served there"
            else:
                none = one.standing is Standing.MISMATCH
                which = "no set of its TLSA records matches" if none else "not every set of its TLSA records matches"
                what = f"{one.where} serves the key 3 1 1 {one.key.sha256}, which {which}: {_lost(one.ports, none)}"
                todo = f"Publish 3 1 1 {one.key.sha256} beside the others; if {one.address} is another host, bringing it the "
                todo += "certificate that this host serves is the better way"
            yield Finding("addresses", Severity.WARNING, what, _when(held), todo, held.name)


def _lost(ports: Sequence[int], none: bool) -> str:
    """Who does not come through at ports of a host; mail of other hosts comes in at port 25 only (RFC 7672).

    :param none: whether no set of records matches, so that nobody who checks them does.
    """
    does, clients = "do not" if none else "may not", [str(port) for port in ports if port != upkeep.MX_PORT]
    told = []
    if upkeep.MX_PORT in ports:
        told.append(f"senders that use DANE {does} deliver {f'at port {upkeep.MX_PORT}' if clients else 'there'}")
    if clients:
        where = f"at port{'s' if len(clients) > 1 else ''} {', '.join(clients)}" if told else "there"
        told.append(f"clients that check TLSA records {does} accept it {where}")
    return ", and ".join(told)


def resolver(facts: Facts) -> Iterator[Finding]:
    """DANE without a resolver that can be believed: no key is changed then, for it is never proven to be safe."""
    told = set()
    for held in facts.held:
        if not held.dane:
            continue
        said = held.options.resolver
        wrong = facts.resolvers.get(said, "")
        if wrong and said not in told:
            told.add(said)
            yield Finding(
                "resolver",
                Severity.WARNING,
                f"TLSA records count for {held.name}, and {wrong}: no change of a key is ever proven to be safe, and it stays",
                f"--dovecot-resolver {said}" if said else "/etc/resolv.conf",
                "Run a resolver that validates on this host (apt install unbound, dnf install unbound) and name it first in "
                "/etc/resolv.conf; or give --dovecot-resolver ADDRESS at the next certbot run",
                held.name,
            )
        elif not wrong and held.survey:
            signed = [one.name for one in held.survey.owners if any(s.signed for s in one.seen)]
            doubt = {one.name for one in held.survey.owners if one.validity is Validity.INSECURE} & set(signed)
            if doubt:
                yield Finding(
                    "resolver",
                    Severity.WARNING,
                    f"{_list(doubt)} is signed, and the resolver does not call it secure: it does not validate, or the zone's "
                    "DS record is missing; no sender uses these records then, and no change of a key can be proven",
                    _when(held),
                    "See delv or https://dnsviz.net for the zone; for the resolver, turn DNSSEC validation on",
                    held.name,
                )


def reuse_key(facts: Facts) -> Iterator[Finding]:
    """Renewals that take a new key while records of the present one are published."""
    for held in facts.held:
        if held.lineage is None or not held.installed:
            continue
        where = held.line("reuse_key")
        if held.stores_installer:
            if not held.dane:
                continue
            if held.lineage.reuse_key is False or held.options.reuse_key is False:
                what = "every renewal asks for a new key (--no-reuse-key), while TLSA records keep the present one"
                todo = f"certbot renew --cert-name {quote(held.name)} --force-renewal --reuse-key, once"
                yield Finding("reuse-key", Severity.NOTE, what, where, todo, held.name)
        elif not held.lineage.reuse_key:
            if not held.dane and (held.lineage.reuse_key is False or held.options.reuse_key is False):
                continue
            what = "certbot renews it without the installer and with a new key each time"
            what += ", while TLSA records name this one" if held.dane else ""
            todo = renewals.keep_key(held.name, held.lineage.installer, facts.certbot)
            yield Finding("reuse-key", Severity.WARNING if held.dane else Severity.NOTE, what, where, todo, held.name)


def _owners(held: Held) -> Sequence[Owner]:
    return held.survey.owners if held.survey else ()


def _when(held: Held) -> str:
    return f"DNS, {held.survey.at:%Y-%m-%d %H:%M} UTC" if held.survey else ""


def _list(names: Iterable[str]) -> str:
    known = sorted(names)
    return ", ".join(known[:3]) + (f" and {len(known) - 3} more" if len(known) > 3 else "")
