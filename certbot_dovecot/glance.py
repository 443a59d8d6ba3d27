"""Whether there is anything to look at: what a ``certbot renew`` with nothing due costs.

Some ``stat`` calls and one small file a lineage, or two (rule R8); no server is asked, no certificate is read, and nothing
heavy is imported: ``dane.json`` is looked into without :mod:`~certbot_dovecot.ledger`, which reads it properly where there is
something to do.  Fails as a :class:`~certbot_dovecot.problems.Problem` if a record cannot be read.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping
from typing import Any, Optional

from certbot_dovecot import files, state, store
from certbot_dovecot.files import Signature

#: The DNS is asked this often while nothing changes.
EVERY = datetime.timedelta(hours=6)


def settled(home: str, lineage: str) -> bool:
    """Whether everything was found true and no file has been edited since.

    :param home: ``CONFIG_DIR/dovecot``.
    :raises StateProblem: the record cannot be read.
    """
    place = store.folder(home, "", lineage)
    record = state.load(place.state)
    if record is None or not (record.servers or record.installing):
        # One that stands by is not installed, and is not to be.
        known = _peek(home, lineage)
        return known is not None and bool(known.get("first") or known.get("standby"))
    return not record.reload and not record.verify and files.unchanged(record.settled)


def tended(home: str, lineage: str, now: datetime.datetime) -> bool:
    """Whether there is nothing to do for a lineage's keys in the DNS now.

    None of them is published by us or stands by, or it was looked at not long ago.

    :param home: ``CONFIG_DIR/dovecot``.
    :raises StateProblem: a record cannot be read.
    """
    known = _peek(home, lineage)
    if known is not None and known.get("first"):
        lineage = str(known["first"])
        known = _peek(home, lineage)
    if known is None or not known.get("standby"):
        record = state.load(store.folder(home, "", lineage).state)
        if record is None or not record.options.publishes or not record.servers:
            return True
    try:
        asked = None if known is None or known["asked"] is None else datetime.datetime.fromisoformat(known["asked"])
        signature = tuple((path, mtime, size, inode) for path, mtime, size, inode in known["signature"]) if known else ()
        return not (known is None or is_due(known["turning"], asked, signature, now))
    except (KeyError, TypeError, ValueError):
        return False


def is_due(turning: str, asked: Optional[datetime.datetime], signature: Signature, now: datetime.datetime) -> bool:
    """Whether the DNS is to be asked: it is some time ago, or what it is asked about has changed.

    :param turning: the lineage that the servers are being switched to; empty for none.
    :param asked: when it was asked last; None for never.
    :param signature: of the files that the last look was about.
    """
    if turning or asked is None or not files.unchanged(signature):
        return True
    return not datetime.timedelta(0) <= now - asked < EVERY


def _peek(home: str, lineage: str) -> Optional[Mapping[str, Any]]:
    """What ``dane.json`` of a lineage holds, empty if that is not what we write; None without one."""
    data = files.read_if_there(os.path.join(home, lineage, "dane.json"))
    if data is None:
        return None
    try:
        found = json.loads(data)
    except ValueError:
        return {"standby": "?"}
    return found if isinstance(found, dict) else {"standby": "?"}


def gone(config_dir: str, home: str) -> tuple[str, ...]:
    """Names of lineages that we hold as installed and certbot does not know any more.

    :param home: ``CONFIG_DIR/dovecot``.
    """
    names = [name for name in store.lineages(home) if not name.endswith(store.EXTERNAL)]
    lost = [name for name in names if not os.path.exists(os.path.join(config_dir, "renewal", f"{name}.conf"))]
    return tuple(name for name in lost if (record := state.load(store.folder(home, "", name).state)) and record.servers)
