"""What an admin has to know of a status: what :mod:`~certbot_dovecot.health` finds, and what endpoints serve that is not ours.

Endpoints are judged by what they serve, whosever it is, and for as long as it is so (rules R13 and R17):

* a certificate near its end, by the same limits as ours, with the remedy that fits whoever renews it;
* one from our store whose lineage certbot does not know any more: at once;
* a self-signed one, on a server that serves a lineage of ours or did: at once;
* one that is not for the name of an installed lineage that was asked for: at once.

A valid certificate of the admin's own is shown and is no finding (rule R14).  Pure; nothing here fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote

from certbot_dovecot import health
from certbot_dovecot.monitoring.keepers import Keeper, Kind
from certbot_dovecot.monitoring.model import Asked, Deployed, Finding, Grade, Leaf, Status
from certbot_dovecot.servers.contract import Table


def of(status: Status) -> tuple[Finding, ...]:
    """All of it, the worst first."""
    served = health.grouped((one, finding) for one in status.endpoints for finding in _judge(one, status))
    return health.ranked([*health.findings(status), *served])


def _judge(one: Asked, status: Status) -> Iterator[Finding]:
    """What is wrong with what one endpoint served; each is to begin with the endpoint."""
    leaf, keeper = one.leaf, one.keeper
    if leaf is None or not one.expects:
        return
    if not one.covered and one.table is not None:
        what = f" serves a certificate {health.about(leaf)}, which is not for that name: {_decides(one.table)}"
        yield Finding(Grade.WARNING, one.whose, what, _put_before(one, one.table))
    elif not one.covered:
        what = f" serves a certificate {health.about(leaf)}, which is not for that name"
        yield Finding(Grade.WARNING, one.whose, what, _put_right(one))
    if one.lineage:
        # The lineage is judged by itself.
        return
    if keeper is not None and keeper.kind is Kind.DELETED and not _names(one, keeper):
        what = f" serves a copy of {keeper.name}, which certbot does not know any more and the configuration does not name"
        todo = f"{_reload(one)} makes it serve what its configuration names"
        yield Finding(Grade.WARNING, keeper.name, what, todo)
        return
    ending = health.ends_soon(leaf, status)
    told = any(leaf.digest == other.leaf.digest for other in status.lineages if other.servers and other.leaf)
    if ending is not None and not told:
        left = health.days(leaf.not_after - status.at)
        what = f" serves a certificate {_whose(leaf)} that expires on {health.ends(leaf)} UTC, in {left}"
        if leaf.not_after < status.at:
            what = f" serves a certificate {_whose(leaf)} that expired on {health.ends(leaf)} UTC"
        yield Finding(ending, _owner(one, status), what, _renew(one, leaf, status))
    elif leaf.self_signed and keeper is None and _ours(one, status):
        names = " and ".join(dict.fromkeys(each.name for each in _ours(one, status)))
        what = f" serves a self-signed certificate {health.about(leaf)}, on a server that is to serve {names}"
        yield Finding(Grade.WARNING, _owner(one, status), what, _instead(one, status) + _meant(one, status))


def _ours(one: Asked, status: Status) -> list[Deployed]:
    """The lineages that the endpoint's server was to serve, those first that it does not serve any more."""
    server = one.endpoint.server
    once = [lineage for name, lineage in status.once if name == server]
    return once + [lineage for lineage in status.lineages if server in lineage.servers and lineage not in once]


def _once(one: Asked, status: Status) -> list[Deployed]:
    return [lineage for name, lineage in status.once if name == one.endpoint.server]


def _owner(one: Asked, status: Status) -> str:
    return one.whose or next((lineage.name for lineage in _ours(one, status)), "")


def _whose(leaf: Leaf) -> str:
    return f"of {', '.join(leaf.names[:3])}{', ...' if len(leaf.names) > 3 else ''}" if leaf.names else "without a name"


def _names(one: Asked, keeper: Keeper) -> bool:
    """Whether the configuration names a file in the folder of ``keeper``."""
    return one.path.rpartition("/")[0].rpartition("/")[2] == keeper.name


def _reload(one: Asked) -> str:
    return health.RELOAD[one.endpoint.server]


def _decides(table: Table) -> str:
    """Why a certificate of ours is not served."""
    return f"{table.name} has one for it, and is asked before the certificate that is installed ({table.where})"


def _put_before(one: Asked, table: Table) -> str:
    """The remedy for a table of somebody else's that decides."""
    if one.heals:
        install = f"certbot install --installer dovecot --cert-name {quote(one.heals)}"
        out = f"take that out of {table.name}, then {_reload(one)}"
        return f"{install}, which puts a table with it before that one; or {out}"
    return f"Take that out of {table.name}, then {_reload(one)}"


def tables(status: Status) -> tuple[str, ...]:
    """What is said of certificates of the admin's own that a table of theirs has for names of ours, and that are for them."""
    causes: dict[tuple[str, str, str], list[Asked]] = {}
    for one in status.endpoints:
        if one.table is not None and one.whose and one.leaf is not None and one.covered:
            end = f" To have ours served: {_put_before(one, one.table)}." if one.heals else ""
            causes.setdefault((one.sni, _decides(one.table), end), []).append(one)
    return tuple(
        f"{', '.join(dict.fromkeys(str(one.endpoint) for one in some))}, asked for {name}: {why}.{end}"
        for (name, why, end), some in causes.items()
    )


def _put_right(one: Asked) -> str:
    """The remedy for a certificate that is not for the name."""
    if one.heals:
        return f"certbot install --installer dovecot --cert-name {quote(one.heals)} puts the right one there"
    return f"Take the name out of what the configuration has for it{_at(one)}, then {_reload(one)}"


def _at(one: Asked) -> str:
    """Where the configuration names what is served."""
    if one.places:
        return f" ({', '.join(one.places)})"
    return f" ({one.path})" if one.path else ""


def _renew(one: Asked, leaf: Leaf, status: Status) -> str:
    """The remedy for a certificate near its end, by who renews it."""
    keeper = one.keeper
    if keeper is None:
        return _instead(one, status)
    if keeper.kind is Kind.EXTERNAL:
        return "Get a new one: certbot-dovecot csr, then certbot-dovecot install-cert"
    if keeper.newest:
        return f"certbot renew --cert-name {quote(keeper.name)} says why it is not renewed; see that certbot's timer runs"
    if one.path.endswith(f"/live/{keeper.name}/{one.path.rpartition('/')[2]}"):
        return f"certbot has a newer one, and {_reload(one)} has it read again"
    todo = f"certbot has a newer one; name its live/{keeper.name}/fullchain.pem and privkey.pem instead{_at(one)}"
    return f"{todo}, then {_reload(one)}"


def _instead(one: Asked, status: Status) -> str:
    """The remedy for a certificate that nobody renews."""
    once = _once(one, status)
    healing = next((lineage for lineage in _ours(one, status) if lineage.name == one.heals), None)
    again = next((lineage for lineage in once if lineage.lost or lineage.external), None)
    todo = f"Have the configuration name another certificate instead{_at(one)}, then {_reload(one)}"
    if healing is not None:
        todo = f"certbot install --installer dovecot --cert-name {quote(healing.name)} puts its certificate there"
    elif again is not None:
        todo = health.again(again)
    return todo


def _meant(one: Asked, status: Status) -> str:
    """How an admin says so who wants a self-signed one there.  One that ends is told of whoever's it is."""
    undone = "; ".join(f"certbot-dovecot undo {quote(lineage.name)}" for lineage in _once(one, status))
    return f"; if it is meant, {undone}" if undone else ""
