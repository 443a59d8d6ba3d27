"""Which endpoints are asked, for which names.  Pure.

Where that would be more than :data:`MOST` questions, every lineage is asked for by its first name at one endpoint of each
server, every endpoint is asked without a name, and further names are asked for at one endpoint of each server, as many as the
limit allows.  How many questions were left out is part of the answer, for "all is well" only claims what was looked at (R13).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional, TypeVar

from certbot_dovecot.monitoring.model import Deployed
from certbot_dovecot.servers.contract import Served

#: Questions to endpoints, beyond which not every name is asked for at every endpoint.
MOST = 100

_Some = TypeVar("_Some")


@dataclass(frozen=True)
class Wanted:
    """One question to an endpoint.

    :param lineage: whose certificate the configuration names for it; None for none of ours.
    :param sni: the name to ask for; None for none.
    :param whose: name of the installed lineage that has the name ``sni``; empty without a name.
    """

    served: Served
    lineage: Optional[Deployed]
    sni: Optional[str]
    whose: str = ""


def choose(
    first: Sequence[Sequence[Wanted]], bare: Sequence[Wanted], names: Sequence[Sequence[Wanted]], every: bool
) -> tuple[list[Wanted], int]:
    """Which questions are asked, and how many are not.

    :param first: for each lineage, the endpoints that are configured with it, by its first name.
    :param bare: every endpoint, without a name.
    :param names: for each further name, the endpoints to be asked for it.
    :param every: ask all, however many these are.
    """
    total = sum(map(len, first)) + len(bare) + sum(map(len, names))
    if every or total <= MOST:
        return [one for some in (*first, bare, *names) for one in some], 0
    some = [one for each in first for one in each]
    if len(some) > MOST:
        some = _one_of_each_server(first)
    chosen = [*some, *bare, *spread(_one_of_each_server(names), MOST)]
    return chosen, total - len(chosen)


def _one_of_each_server(groups: Sequence[Sequence[Wanted]]) -> list[Wanted]:
    """Of every group one endpoint of each server, another one from group to group."""
    chosen = []
    for number, group in enumerate(groups):
        for server in sorted({one.served.endpoint.server for one in group}):
            mine = [one for one in group if one.served.endpoint.server == server]
            chosen.append(mine[number % len(mine)])
    return chosen


def spread(all_of_them: Sequence[_Some], most: int) -> list[_Some]:
    """At most ``most`` of them, from the beginning to the end."""
    if len(all_of_them) <= most:
        return list(all_of_them)
    return [all_of_them[number * len(all_of_them) // most] for number in range(most)]
