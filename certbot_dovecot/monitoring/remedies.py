"""Which remedy works on this host: found out by planning it, not by rule.

Whether to install a lineage again changes what an endpoint serves depends on the server's whole configuration (blocks of the
admin's that win, certificates that are kept).  So the install is planned and its outcome looked at, with nothing written.
Where it would not help, the lines of the configuration are told that an admin has to edit.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Optional

from certbot_dovecot import files, plan
from certbot_dovecot.problems import Problem
from certbot_dovecot.servers.contract import Endpoint, IMailServer, Pair
from certbot_dovecot.store import Folder


def heals(
    server: IMailServer, place: Folder, stem: str, names: Sequence[str], sni: Optional[str], endpoints: Sequence[Endpoint]
) -> bool:
    """Whether an explicit install of a lineage would have all of ``endpoints`` name it.

    :param place: the lineage's folder.
    :param stem: the key that is deployed.
    :param names: of its certificate.
    :param sni: the name that clients ask for; None for none.
    """
    pair = Pair(place.cert(stem), place.key(stem))
    try:
        after = plan.would_serve(server, place, pair, names, sni)
    except Problem:
        return False
    return bool(endpoints) and all(after.get(endpoint) == pair for endpoint in endpoints)


def places(server: IMailServer, path: str) -> tuple[str, ...]:
    """``file:line`` of every line of a server's configuration that names the file ``path``, comments left out.

    :raises Problem: the configuration cannot be read.
    """
    found = []
    for name in dict.fromkeys(entry[0] for entry in server.look().signature) if path else ():
        try:
            lines = files.read(name).decode("utf-8", "surrogateescape").splitlines() if os.path.isfile(name) else []
        except Problem:
            continue
        found += [f"{name}:{n}" for n, line in enumerate(lines, 1) if path in line and not line.lstrip().startswith("#")]
    return tuple(found)
