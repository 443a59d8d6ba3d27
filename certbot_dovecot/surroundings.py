"""What is around certbot on this host: what runs ``certbot renew``, the deploy hook, whom this system trusts.

Only looked at, for ``certbot-dovecot doctor``.  What cannot be read is not there; nothing here fails.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Optional

from certbot_dovecot import files, hook, renewals
from certbot_dovecot.checks.facts import Bits, CronLine, Roots, Schedule, Timer
from certbot_dovecot.commands import Command, Runner
from certbot_dovecot.problems import Problem
from certbot_dovecot.renewals import Hook

#: What units and lines that renew certificates are called by.
_RENEWS = re.compile(r"certbot|letsencrypt", re.IGNORECASE)
_CRONS = ("cron", "crond", "fcron", "dcron", "bcron-sched")
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----\s.*?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True)
class Places:
    """Where to look.

    :param systemd: the directory that is there where systemd runs.
    :param tables: globs of cron's tables.
    :param scripts: globs of scripts that cron runs by the hour, day or week.
    :param units: globs of systemd's services, what goes before others first (systemd.unit(5)).
    :param bundles: files of trusted CAs, of which the first that is there counts, behind that of OpenSSL itself.
    """

    systemd: str = "/run/systemd/system"
    tables: tuple[str, ...] = ("/etc/crontab", "/etc/cron.d/*", "/var/spool/cron/crontabs/*", "/var/spool/cron/*")
    scripts: tuple[str, ...] = ("/etc/cron.hourly/*", "/etc/cron.daily/*", "/etc/cron.weekly/*")
    units: tuple[str, ...] = (
        "/etc/systemd/system/*.service.d/*.conf",
        "/etc/systemd/system/*.service",
        "/usr/lib/systemd/system/*certbot*.service",
    )
    bundles: tuple[str, ...] = (
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
    )


#: The real ones.
HERE = Places()


def schedule(run: Runner, places: Places) -> Schedule:
    """What runs ``certbot renew``."""
    lines = tuple(_cron_lines(places))
    if not os.path.isdir(places.systemd):
        return Schedule(cron=lines, cron_runs=_cron_runs())
    try:
        active = run(Command(("systemctl", "list-timers", "--no-legend", "--no-pager"), seconds=5))
        known = run(Command(("systemctl", "list-unit-files", "--type=timer", "--no-legend", "--no-pager"), seconds=5))
    except Problem as problem:
        return Schedule(True, (), f"systemd's timers cannot be listed: {problem.what}", lines, _cron_runs())
    if active.code or known.code:
        failed = active if active.code else known
        return Schedule(True, (), f"systemd's timers cannot be listed: {failed.message}", lines, _cron_runs())
    return Schedule(True, timers(active.out.decode(), known.out.decode()), "", lines, _cron_runs())


def timers(active: str, known: str) -> tuple[Timer, ...]:
    """The timers about certbot; pure.

    :param active: what ``systemctl list-timers`` says: at the end of a line, the unit and what it activates.
    :param known: what ``systemctl list-unit-files --type=timer`` says: the unit, and its state.
    """
    states = {fields[0]: fields[1] for fields in map(str.split, known.splitlines()) if len(fields) > 1}
    found: dict[str, Timer] = {}
    for line in filter(_RENEWS.search, active.splitlines()):
        unit = next((word for word in line.split() if word.endswith(".timer")), "")
        if unit:
            found[unit] = Timer(unit, states.get(unit, ""), True)
    for unit, state in states.items():
        if _RENEWS.search(unit):
            found.setdefault(unit, Timer(unit, state, False))
    return tuple(found.values())


def _cron_lines(places: Places) -> Iterable[CronLine]:
    for pattern in (*places.tables, *places.scripts):
        for path in sorted(glob.glob(pattern)):
            name = os.path.basename(path)
            # cron itself leaves files out that an editor or a package manager left behind.
            if os.path.isdir(path) or ("cron.d/" in path and not re.fullmatch(r"[\w-]+", name)):
                continue
            if pattern in places.scripts and not os.access(path, os.X_OK):
                continue
            for number, line in enumerate(_text(path).splitlines(), 1):
                if _RENEWS.search(line) and not line.lstrip().startswith("#"):
                    yield CronLine(path, number, line.strip())


def settings(config_dir: str, places: Places) -> renewals.Settings:
    """Certbot's settings that decide what a renewal does, from ``cli.ini`` and from what runs ``certbot renew``."""
    systemd = os.path.isdir(places.systemd)
    cron = [one for one in _cron_lines(places) if not (systemd and renewals.only_without_systemd(one.text))]
    lines = [(f"{one.path}:{one.line}", one.text) for one in cron]
    if systemd:
        lines += next(filter(None, map(_exec_starts, places.units)), [])
    return renewals.settings(renewals.read_inis(config_dir), renewals.runs(lines))


def _exec_starts(pattern: str) -> list[tuple[str, str]]:
    """Place and text of the lines that run certbot in systemd's services."""
    return [
        (f"{path}:{number}", line.strip())
        for path in sorted(glob.glob(pattern))
        for number, line in enumerate(_text(path).splitlines(), 1)
        if line.lstrip().startswith("ExecStart=") and _RENEWS.search(line)
    ]


def _cron_runs() -> bool:
    return any(_text(path).strip() in _CRONS for path in glob.glob("/proc/[0-9]*/comm"))


def deploy_hook(config_dir: str) -> Hook:
    """The directory hook of rule R11."""
    directory = os.path.join(config_dir, "renewal-hooks", "deploy")
    path = os.path.join(directory, hook.NAME)
    another = ""
    for other in sorted(glob.glob(os.path.join(glob.escape(directory), "*"))):
        if other != path and os.access(other, os.X_OK) and "certbot-dovecot" in _text(other):
            another = other
            break
    command = hook.command_of(_text(path))
    there, runs = os.path.isfile(path), os.access(path, os.X_OK)
    return Hook(path, there, runs, command, bool(command) and os.access(command, os.X_OK), another)


def bits(folder: str, keys: Iterable[str]) -> tuple[Bits, ...]:
    """Owner and permissions of a folder and of key files in it."""
    found = []
    for path, directory in [(folder, True), *((key, False) for key in keys)]:
        with contextlib.suppress(OSError):
            was = os.stat(path)
            found.append(Bits(path, was.st_mode & 0o7777, was.st_uid, directory))
    return tuple(found)


def trusted(places: Places) -> Optional[Roots]:
    """The CAs that this system trusts; None if there is no list of them."""
    from cryptography import x509

    paths = ssl.get_default_verify_paths()
    data = next((data for path in (paths.cafile, *places.bundles) if path and (data := _bytes(path))), b"")
    found: dict[x509.Name, list[x509.Certificate]] = {}
    for block in _BLOCK.findall(data):
        # A list of strangers' certificates has some that a strict parser refuses.
        with contextlib.suppress(ValueError):
            one = x509.load_pem_x509_certificate(block)
            found.setdefault(one.subject, []).append(one)
    return {name: tuple(ones) for name, ones in found.items()} or None


def _bytes(path: str) -> bytes:
    try:
        return files.read_if_there(path) or b""
    except Problem:
        return b""


def _text(path: str) -> str:
    return _bytes(path).decode("utf-8", "replace")
