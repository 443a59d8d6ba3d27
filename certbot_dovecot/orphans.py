"""Lineages that certbot has deleted while servers still name their files.

``certbot delete`` calls no installer, so what was installed stays: the servers go on serving a certificate that nobody renews.
The next run says so once, with the names that still point to it.  Nothing is taken out of a configuration: to serve no
certificate for a name is worse than to serve one that ends in some weeks, and what comes in its place is the admin's word.

Fails as a :class:`~certbot_dovecot.problems.Problem` if a record or a server's configuration cannot be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from certbot_dovecot import files, state, store
from certbot_dovecot.reconcile import Host
from certbot_dovecot.servers.contract import View
from certbot_dovecot.store import Folder


def tell(host: Host, names: Sequence[str]) -> tuple[str, ...]:
    """What the admin should know of the lineages ``names``, and take a note that it was said.

    :returns: a sentence for each that a server still names.
    """
    said = []
    with files.locked(f"{host.home}.lock", host.patience):
        views = {server.name: server.look() for server in host.servers}
        for name in names:
            path = store.folder(host.home, "", name).state
            record = state.load(path)
            if record is None:
                continue
            place = store.folder(host.home, record.options.store, name)
            said += [_sentence(name, server, place, view) for server, view in views.items() if _points(view, place)]
            withdrawn = tuple(sorted({*record.withdrawn, *record.servers}))
            files.write(path, state.dump(replace(record, servers=(), settled=(), withdrawn=withdrawn)))
    return tuple(said)


def _points(view: View, place: Folder) -> bool:
    return any(place.owns(pair.cert) for pair in view.pairs)


def _sentence(lineage: str, server: str, place: Folder, view: View) -> str:
    names = [name for name, pair in view.by_name if place.owns(pair.cert)]
    ports = sorted({one.endpoint.port for one in view.every if one.pair and place.owns(one.pair.cert)})
    whom = [f"clients that ask for {', '.join(names)}"] if names else []
    whom += [f"clients that ask for no name (port {', '.join(map(str, ports))})"] if ports else []
    return (
        f"certbot does not know the certificate {lineage} any more, but {server} still serves its copy in {place.path} to "
        f"{' and to '.join(whom) or 'some clients'}. Nobody renews it. Install another certificate for these names (certbot "
        "--installer dovecot -d NAME), or take that copy out of the configuration."
    )
