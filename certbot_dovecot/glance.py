"""Whether there is anything to look at: what a ``certbot renew`` with nothing due costs.

Some ``stat`` calls and one small file a lineage (rule R8); no server is asked, no certificate is read, and nothing heavy is
imported.  Fails as a :class:`~certbot_dovecot.problems.Problem` if a record cannot be read.
"""

from __future__ import annotations

import os

from certbot_dovecot import files, state, store


def settled(home: str, lineage: str) -> bool:
    """Whether everything was found true and no file has been edited since.

    :param home: ``CONFIG_DIR/dovecot``.
    :raises StateProblem: the record cannot be read.
    """
    record = state.load(store.folder(home, "", lineage).state)
    return record is not None and not record.reload and not record.verify and files.unchanged(record.settled)


def gone(config_dir: str, home: str) -> tuple[str, ...]:
    """Names of lineages that we hold as installed and certbot does not know any more.

    :param home: ``CONFIG_DIR/dovecot``.
    """
    names = [name for name in store.lineages(home) if not name.endswith(store.EXTERNAL)]
    lost = [name for name in names if not os.path.exists(os.path.join(config_dir, "renewal", f"{name}.conf"))]
    return tuple(name for name in lost if (record := state.load(store.folder(home, "", name).state)) and record.servers)
