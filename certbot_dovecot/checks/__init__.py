"""What would hurt later: named checks, each a pure function from a snapshot of facts to findings.

A check promises that what it says is true of the snapshot, that it says nothing on a host that is in order, and that every
finding has a remedy.  It never fails: what cannot be told, it leaves out, and :attr:`Check.blind` says why.  The facts are
gathered by :mod:`certbot_dovecot.doctor`; ``docs/doctor.rst`` has a section for each name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Callable

from certbot_dovecot.checks import certificates, dane, dovecot, host, postfix
from certbot_dovecot.checks.facts import Facts
from certbot_dovecot.checks.findings import Finding, Severity


def _broken(facts: Facts) -> Iterable[Finding]:
    return facts.broken


def _always(_facts: Facts) -> str:
    return ""


def _no_dovecot(facts: Facts) -> str:
    return "" if facts.dovecot else facts.missing.get("Dovecot", "Dovecot could not be looked at")


def _no_postfix(facts: Facts) -> str:
    return "" if facts.postfix else facts.missing.get("Postfix", "Postfix is not looked after")


def _no_server(facts: Facts) -> str:
    return "" if facts.dovecot or facts.postfix else "no server could be looked at"


def _nothing_held(facts: Facts) -> str:
    if facts.held:
        return ""
    # What cannot be read may be installed all the same.
    return "no lineage could be read" if any(one.lineage for one in facts.broken) else "no certificate is installed"


def _no_roots(facts: Facts) -> str:
    return _nothing_held(facts) or ("" if facts.roots is not None else "this system has no list of trusted CAs")


def _no_timers(facts: Facts) -> str:
    return _nothing_held(facts) or facts.schedule.error


def _no_survey(facts: Facts) -> str:
    asked = [held.survey for held in facts.held if held.survey]
    silent = next((owner.name for survey in asked for owner in survey.owners if not owner.seen), "")
    if asked and silent:
        return f"the name servers of {silent} could not be asked"
    return _nothing_held(facts) or ("" if asked else "the DNS was not asked yet; --dns asks it now")


def _no_addresses(facts: Facts) -> str:
    asked = [held.survey for held in facts.held if held.survey]
    if any(not survey.addresses and any(owner.published for owner in survey.owners) for survey in asked):
        return "the addresses behind the records were not asked yet; --dns asks them now"
    return _no_survey(facts)


def _nobody_tried(facts: Facts) -> str:
    silent = [one.ecdsa for one in facts.tried if one.ecdsa.leaf is None and not one.ecdsa.disagreed]
    if silent:
        return f"{silent[0].endpoint}: {silent[0].error}"
    return "" if facts.tried else "no endpoint has an ECDSA certificate"


@dataclass(frozen=True)
class Check:
    """A check.

    :param judge: what it finds.
    :param blind: why it could not look, or not at everything; empty if it could.
    """

    name: str
    judge: Callable[[Facts], Iterable[Finding]]
    blind: Callable[[Facts], str] = _always


#: In the order in which they are told.
ALL = (
    Check("configuration", _broken),
    Check("missing-files", certificates.missing_files, _no_server),
    Check("nobody-renews", certificates.nobody_renews, _no_server),
    Check("timer", host.timer, _no_timers),
    Check("overdue", certificates.overdue, _nothing_held),
    Check("deploy-hook", host.deploy_hook, _nothing_held),
    Check("renew-updates", host.renew_updates, _nothing_held),
    Check("must-staple", certificates.must_staple, _nothing_held),
    Check("chain", certificates.chain, _no_roots),
    Check("sni-names", certificates.sni_names, _no_server),
    Check("rsa-clients", certificates.rsa_clients, _nobody_tried),
    Check("key-age", certificates.key_age, _nothing_held),
    Check("permissions", host.permissions, _nothing_held),
    Check("shadow", postfix.shadow, _no_postfix),
    Check("left-behind", postfix.left_behind, _no_postfix),
    Check("orphan-options", postfix.orphan_options, _no_postfix),
    Check("double-setting", postfix.double_setting, _no_postfix),
    Check("vsz-limit", dovecot.vsz_limit, _no_dovecot),
    Check("shutdown-clients", dovecot.shutdown_clients, _no_dovecot),
    Check("tlsa-ttl", dane.tlsa_ttl, _no_survey),
    Check("tlsa-usage", dane.tlsa_usage, _no_survey),
    Check("addresses", dane.addresses, _no_addresses),
    Check("resolver", dane.resolver, _nothing_held),
    Check("reuse-key", dane.reuse_key, _nothing_held),
)


@dataclass(frozen=True)
class Diagnosis:
    """What all checks say.

    :param findings: in the order of :data:`ALL`, the worse first within a check.
    :param clean: names of the checks that looked and found nothing.
    :param blind: name to why a check could not look, or not at everything.
    """

    findings: tuple[Finding, ...]
    clean: tuple[str, ...]
    blind: dict[str, str]


def examine(facts: Facts) -> Diagnosis:
    """Do all checks."""
    found: list[Finding] = []
    clean, blind = [], {}
    order = list(Severity)
    for check in ALL:
        mine = sorted(dict.fromkeys(check.judge(facts)), key=lambda finding: order.index(finding.severity))
        found += mine
        reason = check.blind(facts)
        if reason:
            blind[check.name] = reason
        elif not mine:
            clean.append(check.name)
    return Diagnosis(tuple(found), tuple(clean), blind)
