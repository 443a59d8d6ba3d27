"""What on the host around certbot would hurt later: timers, hooks, permissions.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from certbot_dovecot.checks import facts
from certbot_dovecot.checks.facts import CronLine, Facts
from certbot_dovecot.checks.findings import Finding, Severity

#: States of a unit file that is started at boot, or does not need that.
_STARTED = ("enabled", "enabled-runtime", "static", "generated", "transient", "indirect", "alias", "linked")


def timer(known: Facts) -> Iterator[Finding]:
    """Nothing that runs ``certbot renew``, or something that does not run."""
    mine = [held for held in known.held if held.lineage is not None]
    for held in mine:
        if str(held.parameters.get("autorenew")).lower() == "false":
            what = "certbot renew leaves this lineage out (autorenew = False)"
            todo = "Set it to True, or run certbot renew --cert-name for it by other means"
            yield Finding("timer", Severity.WARNING, what, held.line("autorenew"), todo, held.name)
    if mine and not known.schedule.error:
        yield from _scheduled(known)


def _scheduled(known: Facts) -> Iterator[Finding]:
    schedule = known.schedule
    active = [one for one in schedule.timers if one.active]
    lines = [line for line in schedule.cron if not (schedule.systemd and _only_without_systemd(line))]
    if active:
        if not any(one.state in ("", *_STARTED) for one in active) and not lines:
            what = f"{active[0].unit} runs now, but is {active[0].state}: after the next boot nothing renews certificates"
            yield Finding("timer", Severity.WARNING, what, active[0].unit, f"systemctl enable {active[0].unit}")
        return
    if lines and schedule.cron_runs:
        return
    where = f"{lines[0].path}:{lines[0].line}" if lines else ""
    if schedule.timers:
        one = schedule.timers[0]
        what = f"{one.unit} is there, but does not run ({one.state or 'not active'}): nothing renews certificates"
        yield Finding("timer", Severity.WARNING, what, one.unit, f"systemctl enable --now {one.unit}")
    elif lines:
        what = "cron has a line for certbot, and no cron daemon runs: nothing renews certificates"
        yield Finding("timer", Severity.WARNING, what, where, "Install and start cron, or use a timer of systemd")
    else:
        what = "no timer of systemd and no line of cron was found that runs certbot renew: nothing renews certificates"
        todo = "Have certbot renew -q run twice a day: by the package's certbot.timer (Fedora: certbot-renew.timer), or by cron"
        yield Finding("timer", Severity.WARNING, what, "", todo)


def _only_without_systemd(line: CronLine) -> bool:
    """Whether a line does nothing under systemd, as that of Debian's package."""
    return re.search(r"!\s+-d\s+/run/systemd/system", line.text) is not None


def deploy_hook(known: Facts) -> Iterator[Finding]:
    """An installed lineage whose renewals do not reach the servers (rule R11)."""
    hook = known.hook
    store = "certbot reconfigure --cert-name {} --installer dovecot (certbot 2.3 or later)"
    for held in known.held:
        calls = [str(held.parameters.get(name) or "") for name in ("renew_hook", "deploy_hook")]
        if not held.installed or held.lineage is None or held.stores_installer or any("certbot-dovecot" in c for c in calls):
            continue
        off = facts.cli_says(known.cli_ini[1], "no-directory-hooks") not in ("", "false")
        if off:
            why, where = "directory hooks are switched off", facts.place_of(*known.cli_ini, "no-directory-hooks")
        elif hook.another:
            continue
        elif not hook.there:
            why, where = "the deploy hook is missing", hook.path
        elif not hook.executable:
            why, where = "the deploy hook is not executable", hook.path
        elif hook.command and not hook.command_there:
            why, where = f"the deploy hook calls {hook.command}, which is gone", hook.path
        else:
            continue
        again = f"certbot install --cert-name {held.name} --installer dovecot writes the hook again"
        yield Finding(
            "deploy-hook",
            Severity.WARNING,
            f"{held.conf} does not name the installer, and {why}: certbot renews it, and the servers keep the old certificate "
            "until it expires",
            where,
            f"{store.format(held.name)}; or {'take that line out' if off else again}",
            held.name,
        )


def permissions(known: Facts) -> Iterator[Finding]:
    """Keys of the store that others can read, and folders that others can write."""
    told = set()
    for held in known.held:
        for one in held.files:
            if one.path in told:
                continue
            told.add(one.path)
            bad = one.mode & (0o022 if one.directory else 0o077)
            if bad:
                what, todo = f"others may read this private key (mode {one.mode:04o})", f"chmod 600 {one.path}"
                todo += f"; if somebody may have read it, certbot-dovecot rollover {held.name} --now --reason TEXT"
                if one.directory:
                    what, todo = "others may put files there, which servers read as root", f"chmod go-w {one.path}"
                yield Finding("permissions", Severity.WARNING, what, one.path, todo, held.name)
            if one.uid != 0:
                what = f"it belongs to the user with the number {one.uid}, who may change or read it"
                yield Finding("permissions", Severity.WARNING, what, one.path, f"chown root {one.path}", held.name)
