"""What in Dovecot's configuration would hurt later.  Pure (docs/measured.rst has what was measured)."""

from __future__ import annotations

from collections.abc import Iterator

from certbot_dovecot.checks.facts import DovecotFacts, Facts
from certbot_dovecot.checks.findings import Finding, Severity
from certbot_dovecot.servers import dovecot_view

#: Reloads in 30 days that are worth a word.
OFTEN = 4


def shutdown_clients(facts: Facts) -> Iterator[Finding]:
    """Reloads that end live sessions, where they come often.

    One reload in two months, as a certificate of 90 days has it, is no finding.  What was measured: with ``shutdown_clients =
    no`` sessions live through a reload, and new connections get the new certificate at once all the same, in the
    high-performance mode of the login processes too.
    """
    for one in facts.dovecot:
        if one.effective.settings.get("shutdown_clients", "yes") == "no":
            continue
        reloads = 0.0
        for held in facts.held:
            if held.lineage is None or held.live is None or not held.live.certificates or not held.installed:
                continue
            begin, end = held.live.validity
            # certbot renews when a third of the lifetime is left.
            reloads += 30 / max((end - begin).total_seconds() / 86400 * 2 / 3, 1)
        if reloads >= OFTEN:
            found = one.tree.effective("shutdown_clients")
            yield Finding(
                "shutdown-clients",
                Severity.NOTE,
                f"renewals may reload Dovecot up to {reloads:.0f} times in 30 days, and each reload ends every IMAP and POP3 "
                "session within seconds (shutdown_clients = yes)",
                found.where if found else one.main,
                "Set shutdown_clients = no: sessions then live on, and new connections get the new certificate all the same",
            )


def vsz_limit(facts: Facts) -> Iterator[Finding]:
    """More names than the config process has memory for, which a reload meets in silence."""
    for one in facts.dovecot:
        needed, limit = dovecot_view.memory(one.effective) >> 20, one.effective.memory_limit >> 20
        if needed > limit:
            yield Finding(
                "vsz-limit",
                Severity.WARNING,
                f"Dovecot's config process may use {limit} MB, which is little for {len(one.effective.names)} names in "
                "local_name blocks: a reload may be refused without a word, and the old certificates stay until they expire",
                _limit_place(one),
                f"Set vsz_limit = {needed} M in a block service config, and restart Dovecot",
            )


def _limit_place(one: DovecotFacts) -> str:
    scopes = ((("service", "config"),), "vsz_limit"), ((), "default_vsz_limit")
    found = [a for scope, setting in scopes for a in one.tree.assignments if (a.scope, a.key) == (scope, setting)]
    return found[-1].where if found else one.main


def old_clients(one: DovecotFacts) -> str:
    """Where the configuration says that clients of before TLS 1.2 are wanted; empty if it does not."""
    if one.effective.settings.get("ssl_min_protocol", "") not in ("TLSv1", "TLSv1.1", "ANY"):
        return ""
    found = one.tree.effective("ssl_min_protocol")
    return found.where if found else one.main


def name_place(one: DovecotFacts, name: str) -> str:
    """Where the ``local_name`` block for ``name`` begins."""
    for block in one.tree.blocks:
        kind, argument = block.scope[-1]
        if kind == "local_name" and name in argument.lower().split():
            return f"{block.path}:{block.line}"
    return one.main
