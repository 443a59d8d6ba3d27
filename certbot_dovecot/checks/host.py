"""What on the host around certbot would hurt later: timers, hooks, permissions.  Pure."""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote

from certbot_dovecot import renewals
from certbot_dovecot.checks.facts import Facts
from certbot_dovecot.checks.findings import Finding, Severity
from certbot_dovecot.renewals import By, only_without_systemd

#: States of a unit file that is started at boot, or does not need that.
_STARTED = ("enabled", "enabled-runtime", "static", "generated", "transient", "indirect", "alias", "linked")


def timer(known: Facts) -> Iterator[Finding]:
    """Nothing that runs ``certbot renew``, or something that does not run."""
    mine = [held for held in known.held if held.lineage is not None]
    for held in mine:
        if str(held.parameters.get("autorenew")).lower() == "false":
            what = "certbot renew leaves this lineage out (autorenew = False), even if --cert-name names it"
            todo = "Set it to True"
            yield Finding("timer", Severity.WARNING, what, held.line("autorenew"), todo, held.name)
    if mine and not known.schedule.error:
        yield from _scheduled(known)


def _scheduled(known: Facts) -> Iterator[Finding]:
    schedule = known.schedule
    active = [one for one in schedule.timers if one.active]
    lines = [line for line in schedule.cron if not (schedule.systemd and only_without_systemd(line.text))]
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


def deploy_hook(known: Facts) -> Iterator[Finding]:
    """An installed lineage whose renewals do not reach the servers (rule R11)."""
    for held in known.held:
        if not held.installed or held.lineage is None:
            continue
        one = known.renewing(held)
        if one.by is By.NOTHING:
            what = f"{held.conf} does not name the installer, and {one.why}: certbot renews it, and the servers keep the old "
            what += "certificate until it expires"
            todo = renewals.remedy(held.name, one, known.certbot)
            yield Finding("deploy-hook", Severity.WARNING, what, one.where, todo, held.name)


def renew_updates(known: Facts) -> Iterator[Finding]:
    """Renewals that certbot does not let the installer finish, because of ``--disable-renew-updates``."""
    for held in known.held:
        if not (held.installed or held.stands_by) or held.lineage is None:
            continue
        one = known.renewing(held)
        if one.by is By.INSTALLER and not one.each_run:
            tended = bool(held.standby or held.stands_by or held.options.publishes)
            what = "certbot renew calls the installer only when the certificate is renewed (--disable-renew-updates): "
            what += "what fails then is not tried again before the next renewal"
            what += ", and nobody looks after its TLSA records in between" if tended else ""
            todo = "Take disable-renew-updates out"
            yield Finding("renew-updates", Severity.WARNING if tended else Severity.NOTE, what, one.where, todo, held.name)


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
                what, todo = f"others may read this private key (mode {one.mode:04o})", f"chmod 600 {quote(one.path)}"
                todo += f"; if somebody may have read it, certbot-dovecot rollover {quote(held.name)} --now --reason TEXT"
                if one.directory:
                    what, todo = "others may put files there, which servers read as root", f"chmod go-w {quote(one.path)}"
                yield Finding("permissions", Severity.WARNING, what, one.path, todo, held.name)
            if one.uid != 0:
                what = f"it belongs to the user with the number {one.uid}, who may change or read it"
                yield Finding("permissions", Severity.WARNING, what, one.path, f"chown root {one.path}", held.name)
