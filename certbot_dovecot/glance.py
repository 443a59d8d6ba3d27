"""Whether there is anything to look at: what a ``certbot renew`` with nothing due costs.

Some ``stat`` calls and one small file a lineage (rule R8); no server is asked, no certificate is read, and nothing heavy is
imported.  Fails as a :class:`~certbot_dovecot.problems.Problem` if a record cannot be read.
"""

from __future__ import annotations

import datetime
import os

from certbot_dovecot import files, ledger, state, store


def settled(home: str, lineage: str) -> bool:
    """Whether everything was found true and no file has been edited since.

    :param home: ``CONFIG_DIR/dovecot``.
    :raises StateProblem: the record cannot be read.
    """
    place = store.folder(home, "", lineage)
    record = state.load(place.state)
    if record is None or not (record.servers or record.installing):
        # One that stands by is not installed, and is not to be.
        known = ledger.load(place)
        return known is not None and bool(known.first or known.standby)
    return not record.reload and not record.verify and files.unchanged(record.settled)


def tended(home: str, lineage: str, now: datetime.datetime) -> bool:
    """Whether there is nothing to do for a lineage's keys in the DNS now.

    None of them is published by us or stands by, or it was looked at not long ago.

    :param home: ``CONFIG_DIR/dovecot``.
    :raises StateProblem: a record cannot be read.
    """
    place = store.folder(home, "", lineage)
    known = ledger.load(place)
    if known is not None and known.first:
        place = store.folder(home, "", known.first)
        known = ledger.load(place)
    if known is None or not known.standby:
        record = state.load(place.state)
        if record is None or not record.options.publishes or not record.servers:
            return True
    return known is not None and not known.due(now)


def gone(config_dir: str, home: str) -> tuple[str, ...]:
    """Names of lineages that we hold as installed and certbot does not know any more.

    :param home: ``CONFIG_DIR/dovecot``.
    """
    names = [name for name in store.lineages(home) if not name.endswith(store.EXTERNAL)]
    lost = [name for name in names if not os.path.exists(os.path.join(config_dir, "renewal", f"{name}.conf"))]
    return tuple(name for name in lost if (record := state.load(store.folder(home, "", name).state)) and record.servers)
