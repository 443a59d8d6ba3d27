"""What a status did not look at, so that "all is well" only claims what was looked at (rule R13).  Pure; nothing here fails.

Each is a noun phrase.  What is a finding is not said here again.
"""

from __future__ import annotations

from collections.abc import Iterable

from certbot_dovecot.dane.standing import Standing
from certbot_dovecot.monitoring.model import Deployed, Status

#: Of things of one kind, so many are named.
_SHOWN = 4


def of(status: Status) -> tuple[str, ...]:
    """All of it; empty if everything was looked at."""
    found = []
    if status.unasked:
        found.append(f"{status.unasked} combinations of name and endpoint (--all asks them)")
    if status.dark:
        found.append(_some(map(str, status.dark)))
    installed = [one for one in status.lineages if one.servers]
    unknown = [one.name for one in installed if one.leaf is None]
    if unknown:
        found.append(f"when the certificate of {_some(unknown)} ends")
    unread = [name for one in installed for name in _unread(one)]
    if unread:
        found.append(f"certbot's own copy of {_some(unread)}, which cannot be read")
    return (*found, *_dns(status, installed))


def _unread(one: Deployed) -> list[str]:
    """The lineages of which certbot's own copy was not seen; of what certbot has not, there is none."""
    unread = [] if one.live or one.external or one.lost else [one.name]
    return unread + ([one.standby] if one.standby and one.standby_leaf is None else [])


def _dns(status: Status, installed: Iterable[Deployed]) -> list[str]:
    """What of the DNS: the TLSA records, and the addresses under which others reach the same names."""
    found = []
    wanted = [one for one in installed if not one.dane_off]
    left = [one for one in wanted if not one.looked_up]
    if not status.dns and not all(one.external for one in left):
        found.append("the DNS (--dns asks it)")
        left = [one for one in left if one.external]
    if left:
        found.append(f"the DNS for {_some(one.name for one in left)}")
    doubtful = sorted({one.endpoint.port for one in status.endpoints if one.dane is Standing.DOUBT})
    if doubtful:
        found.append(f"whether the TLSA records of {_ports(doubtful)} match")
    if any(one.dns_notes for one in wanted):
        found.append("a part of the DNS (see the notes)")
    return found


def _ports(numbers: Iterable[int]) -> str:
    listed = [str(number) for number in numbers]
    return f"port{'s' if len(listed) > 1 else ''} {', '.join(listed)}"


def _some(names: Iterable[str]) -> str:
    each = [*dict.fromkeys(names)]
    return ", ".join(each[:_SHOWN]) + (f" and {len(each) - _SHOWN} more" if len(each) > _SHOWN else "")
