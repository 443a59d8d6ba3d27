"""What a ``certbot renew`` on this host does for a lineage: whether its renewals reach the servers, and whether its key stays.

Three things decide: the lineage's renewal configuration, certbot's own settings (``cli.ini``, and the command lines of timers),
and the deploy hook of :mod:`~certbot_dovecot.hook`.  What certbot does was measured with 2.1, 4.0 and 5.8:

* The renewal configuration names our installer: certbot calls it at every run, due or not, and at a renewal.  With
  ``--disable-renew-updates`` it calls only ``restart`` and only at a renewal (:mod:`~certbot_dovecot.installer` copes).
* It names another installer, or none: only deploy hooks reach us, at a renewal, and ``--no-directory-hooks`` switches those of
  the directory off.  certbot then takes a new key each time, unless the configuration has ``reuse_key``.
* ``--disable-renew-updates`` and ``--no-directory-hooks`` are never stored in a renewal configuration.
* ``certbot renew`` with an option stores it, in every version: ``--force-renewal --reuse-key`` keeps the present key.
  ``certbot reconfigure`` (2.3 and later) stores it without issuing a certificate that counts.

Nothing here raises; what cannot be read is not there.
"""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from shlex import quote
from typing import Any

from certbot_dovecot import files
from certbot_dovecot.problems import Problem

#: The installer's name, as renewal configurations have it.
OURS = "dovecot"
#: certbot has ``reconfigure`` since then.
_RECONFIGURE = (2, 3)
#: Installers that are no installer.
_NONE = ("", "None", "null")
_NO = ("", "false", "no", "off", "0")
_SWITCHED_OFF = "directory hooks are switched off"
_DEPLOY = "--deploy-hook 'certbot-dovecot deploy'"
_RECENT = datetime.timedelta(hours=1)
#: Authenticators that need no option of their own.
_PLAIN = ("nginx", "apache", "standalone")


class By(Enum):
    """What brings a renewed certificate to the servers."""

    INSTALLER = "installer"
    HOOK = "hook"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Hook:
    """The directory hook of rule R11.

    :param path: where ours is, or would be.
    :param there: whether it is there.
    :param executable: whether certbot would run it.
    :param command: what it calls; empty if that cannot be told.
    :param command_there: whether that is there.
    :param another: path of another hook that calls certbot-dovecot; empty for none.
    """

    path: str
    there: bool = False
    executable: bool = False
    command: str = ""
    command_there: bool = False
    another: str = ""


@dataclass(frozen=True)
class Settings:
    """certbot's own settings that decide, each as the place that says it, ``file:line``; empty if nothing does.

    :param updates_off: ``--disable-renew-updates``.
    :param hooks_off: ``--no-directory-hooks``.
    """

    updates_off: str = ""
    hooks_off: str = ""


@dataclass(frozen=True)
class Renewing:
    """What the renewals of a lineage do.

    :param by: what brings them to the servers.
    :param installer: what the renewal configuration names; empty for none.
    :param each_run: whether every ``certbot renew`` looks after it, also when it is not due.
    :param keeps_key: whether the key stays within a year, as far as certbot's configuration says.
    :param why: why nothing brings them, without a stop; empty if something does.
    :param where: the place that makes it so, or where the hook ought to be.
    """

    by: By
    installer: str = ""
    each_run: bool = True
    keeps_key: bool = True
    why: str = ""
    where: str = ""

    @property
    def shared(self) -> bool:
        """Whether another installer renews it: a web server has the same certificate."""
        return self.installer not in ("", OURS)


def judge(parameters: Mapping[str, Any], settings: Settings, hook: Hook) -> Renewing:
    """What the renewals of a lineage do; pure.

    :param parameters: the section ``renewalparams`` of its renewal configuration.
    """
    installer = installer_of(parameters)
    keeps = str(parameters.get("reuse_key")).lower() == "true"
    if installer == OURS:
        return Renewing(By.INSTALLER, installer, not settings.updates_off, True, "", settings.updates_off)
    if any("certbot-dovecot" in str(parameters.get(name) or "") for name in ("renew_hook", "deploy_hook")):
        return Renewing(By.HOOK, installer, False, keeps)
    why, where = "", hook.path
    if settings.hooks_off:
        why, where = _SWITCHED_OFF, settings.hooks_off
    elif hook.another:
        pass
    elif not hook.there:
        why = "the deploy hook is missing"
    elif not hook.executable:
        why = "the deploy hook is not executable"
    elif hook.command and not hook.command_there:
        why = f"the deploy hook calls {hook.command}, which is gone"
    return Renewing(By.NOTHING if why else By.HOOK, installer, False, keeps, why, where)


def installer_of(parameters: Mapping[str, Any]) -> str:
    """The installer that a renewal configuration names; empty for none."""
    said = str(parameters.get("installer") or "")
    return "" if said in _NONE else said


def remedy(name: str, one: Renewing, version: Sequence[int]) -> str:
    """What makes renewals reach the servers, for a lineage that nothing brings there; commands, without a stop.

    :param version: certbot's, as for :func:`store`.
    """
    if one.why == _SWITCHED_OFF:
        again = f"take --no-directory-hooks out of {one.where}"
    else:
        install = f"certbot install --cert-name {quote(name)} --installer dovecot"
        again = f"remove {one.where}, if it is there, and {install} writes it again"
    if not one.shared:
        return f"{store(name, '--installer dovecot', version)}, which stores the installer; or {again}"
    again = again[0].upper() + again[1:]
    return f"{again}; or give it a hook of its own: {store(name, _DEPLOY, version)}"


def store(name: str, options: str, version: Sequence[int]) -> str:
    """The command that stores ``options`` in the renewal configuration of a lineage and keeps its key.

    :param version: certbot's, ``(2, 1)``; before 2.3 it takes a renewal.
    """
    if tuple(version) >= _RECONFIGURE:
        return f"certbot reconfigure --cert-name {quote(name)} {options}"
    return f"certbot renew --cert-name {quote(name)} --force-renewal {options}"


def keep_key(name: str, installer: str, version: Sequence[int]) -> str:
    """The command after which a lineage keeps its key at every renewal, and the installer that it has.

    :param installer: what its renewal configuration names; where that is nothing, ours sees to it.
    :param version: certbot's, as for :func:`store`.
    """
    return store(name, "--reuse-key" if installer else "--installer dovecot", version)


def new_key(name: str) -> str:
    """The command that takes a new key once.  Only where no TLSA record of the present one is published."""
    return f"certbot renew --cert-name {quote(name)} --force-renewal --new-key"


def recent(asked: datetime.datetime, now: datetime.datetime) -> bool:
    """Whether what the DNS said at ``asked`` is recent enough to advise a new key by it, both UTC."""
    return abs(now - asked) <= _RECENT


def own(name: str, names: Sequence[str], authenticator: str) -> str:
    """The command that makes a lineage of its own for mail, beside one that a web server has.

    :param names: of the certificate.
    """
    how = authenticator if authenticator in _PLAIN else f"{authenticator or 'AUTHENTICATOR'} ..."
    which = ",".join(names) if 0 < len(names) <= 5 else "NAMES"
    return f"certbot -a {how} --installer dovecot --cert-name {quote(f'{name}-mail')} -d {which}"


def notes(
    name: str, names: Sequence[str], parameters: Mapping[str, Any], path: str, version: Sequence[int]
) -> tuple[str, ...]:
    """What is to be said when a lineage is installed whose renewal configuration does not name our installer; pure.

    :param names: of the certificate.
    :param path: the deploy hook's.
    """
    installer = installer_of(parameters)
    keeps = str(parameters.get("reuse_key")).lower() == "true"
    if not installer:
        said = [f"The renewal configuration of {name} does not name the installer."]
        said += [f"{path} keeps the servers up to date instead."]
        said += [] if keeps else ["But certbot takes a new key at every renewal then."]
        return (" ".join([*said, f"To store the installer: {store(name, '--installer dovecot', version)}"]),)
    own_one = own(name, names, str(parameters.get("authenticator") or ""))
    said = [f"{path} brings the renewals of {name} to the mail servers, for its renewal configuration names the installer"]
    said[0] += f" {installer}."
    if not keeps:
        said.append("But certbot takes a new key at every renewal, and TLSA records do not stay true.")
        said.append(f"To keep the key all year: {keep_key(name, installer, version)}")
    return (
        f"{name} is shared with {installer}. A certificate of its own for mail is better, and the same timer renews both: "
        f"{own_one}",
        " ".join(said),
    )


def settings(inis: Sequence[tuple[str, str]], lines: Sequence[tuple[str, str]] = ()) -> Settings:
    """What certbot's settings say; pure.

    :param inis: path and text of every ``cli.ini`` that certbot reads, in its order.
    :param lines: place and text of every command line that is known to run ``certbot renew``; what not all of them say does
        not count.
    """

    def place(option: str) -> str:
        said = [(path, text) for path, text in inis if cli_says(text, option)]
        if said and cli_says(said[-1][1], option) not in _NO:
            return place_of(*said[-1], option)
        if lines and all(re.search(rf"(?<!\S)--{option}\b", text) for _, text in lines):
            return lines[0][0]
        return ""

    return Settings(place("disable-renew-updates"), place("no-directory-hooks"))


def read_inis(config_dir: str) -> tuple[tuple[str, str], ...]:
    """Path and text of every ``cli.ini`` that certbot reads when root runs it, in its order."""
    mine = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    paths = (f"{config_dir}/cli.ini", "/etc/letsencrypt/cli.ini", os.path.join(mine, "letsencrypt/cli.ini"))
    return tuple((path, text) for path in dict.fromkeys(paths) if (text := _text(path)))


def version() -> tuple[int, ...]:
    """Certbot's version, its first two numbers."""
    import certbot

    return tuple(int(part) for part in certbot.__version__.split(".")[:2] if part.isdigit())


def place_of(path: str, text: str, name: str) -> str:
    """``file:line`` of the last line that sets ``name``; the file alone if none does."""
    lines = [number for number, line in enumerate(text.splitlines(), 1) if _sets(line, name)]
    return f"{path}:{lines[-1]}" if lines else path


def cli_says(text: str, option: str) -> str:
    """What ``cli.ini`` says of an option: lower case, ``true`` for one without a value; empty for nothing."""
    said = ""
    for line in text.splitlines():
        match = re.match(rf"\s*{option}\s*(?:[=: ]\s*(.*?))?\s*$", line.split("#")[0].replace("_", "-"), re.IGNORECASE)
        if match:
            said = (match.group(1) or "true").lower()
    return said


def _sets(line: str, name: str) -> bool:
    return re.match(rf"\s*{re.escape(name)}\s*(?:[=:]|$)", line.replace("_", "-") if "-" in name else line) is not None


def _text(path: str) -> str:
    try:
        return (files.read_if_there(path) or b"").decode("utf-8", "replace")
    except Problem:
        return ""


def runs(lines: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Of places and command lines, those that run ``certbot renew``."""
    return tuple((place, text) for place, text in lines if re.search(r"\brenew\b", text))


def only_without_systemd(line: str) -> bool:
    """Whether a line does nothing under systemd, as that of Debian's package."""
    return re.search(r"!\s+-d\s+/run/systemd/system", line) is not None
