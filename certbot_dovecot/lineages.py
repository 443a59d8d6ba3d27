"""certbot's lineages, as the files under its configuration directory tell of them.

``renewal/<name>.conf`` says where key, leaf and chain are; the archive beside them says since when a key has been used.  Only
public file formats are read, nothing is written, and certbot is not imported.  A lineage whose files are damaged is left out:
certbot itself says so at every run.
"""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from certbot_dovecot import bundle as bundles
from certbot_dovecot import files, renewals
from certbot_dovecot.bundle import Source
from certbot_dovecot.certificates.names import check_lineage, is_lineage
from certbot_dovecot.problems import Problem
from certbot_dovecot.rotation import Key

_ARCHIVED = re.compile(r"cert\d+\.pem")


@dataclass(frozen=True)
class Lineage:
    """One of certbot's certificates.

    :param name: its name.
    :param source: its live files.
    :param archive: directory of its versions.
    :param installer: what its renewal conf says; empty if nothing.
    :param reuse_key: what its renewal conf says; None if nothing.
    :param standby_for: what ``dovecot_standby_for`` says in its renewal conf; empty if nothing.
    """

    name: str
    source: Source
    archive: str
    installer: str = ""
    reuse_key: Optional[bool] = None
    standby_for: str = ""

    def names(self) -> frozenset[str]:
        """Names of its leaf, lower case.

        :raises Problem: the leaf cannot be read, or one of them is no name.
        """
        leaf = bundles.leaf_of(files.read(self.source.cert), self.source.cert)
        return frozenset(name.lower() for name in bundles.host_names(leaf, self.source.cert))

    def key(self) -> Key:
        """Its public key.

        :raises Problem: the leaf cannot be read.
        """
        leaf = bundles.leaf_of(files.read(self.source.cert), self.source.cert)
        algorithm, parameter = bundles.kind_of(leaf)
        return Key(bundles.spki_of(leaf), algorithm, parameter)

    def history(self) -> Sequence[tuple[str, datetime.datetime]]:
        """(SPKI, start of validity) of every version in the archive that can be read."""
        try:
            found = [name for name in os.listdir(self.archive) if _ARCHIVED.fullmatch(name)]
        except OSError:
            return ()
        return tuple(_history(os.path.join(self.archive, name) for name in sorted(found)))


def load(config_dir: str, name: str) -> Optional[Lineage]:
    """The lineage ``name``, or None if there is no such renewal conf (or a damaged one)."""
    from configobj import ConfigObj, ConfigObjError

    if not is_lineage(name):
        return None
    path = os.path.join(config_dir, "renewal", f"{name}.conf")
    try:
        conf = ConfigObj(path, file_error=True, encoding="utf-8", default_encoding="utf-8", interpolation=False)
        params = conf.get("renewalparams", {})
        reuse = params.get("reuse_key")
        return Lineage(
            name,
            Source(conf["privkey"], conf["cert"], conf["chain"], conf["fullchain"]),
            conf.get("archive_dir") or os.path.join(config_dir, "archive", name),
            installer=renewals.installer_of(params),
            reuse_key=None if reuse is None else str(reuse).lower() == "true",
            standby_for=_said(params.get("dovecot_standby_for")),
        )
    except (OSError, ConfigObjError, KeyError, ValueError, TypeError, AttributeError):
        return None


def is_deleted(config_dir: str, name: str) -> bool:
    """Whether certbot does not know lineage ``name``: there is no such renewal conf.  False where that cannot be told."""
    folder = os.path.join(config_dir, "renewal")
    searchable = not os.path.exists(folder) or os.access(folder, os.X_OK)
    return searchable and not os.path.lexists(os.path.join(folder, f"{name}.conf"))


def parameters(config_dir: str, name: str) -> dict[str, Any]:
    """What certbot renews lineage ``name`` with: the section ``renewalparams`` of its renewal conf; empty without one.

    :raises Problem: ``name`` is none of a lineage, but a path.
    """
    from configobj import ConfigObj, ConfigObjError

    path = os.path.join(config_dir, "renewal", f"{check_lineage(name)}.conf")
    try:
        conf = ConfigObj(path, file_error=True, encoding="utf-8", default_encoding="utf-8", interpolation=False)
        return dict(conf.get("renewalparams", {}))
    except (OSError, ConfigObjError, ValueError, TypeError):
        return {}


def every(config_dir: str) -> list[Lineage]:
    """All lineages, sorted by name."""
    try:
        confs = sorted(os.listdir(os.path.join(config_dir, "renewal")))
    except OSError:
        return []
    found = [load(config_dir, conf[: -len(".conf")]) for conf in confs if conf.endswith(".conf")]
    return [lineage for lineage in found if lineage is not None]


def of_file(config_dir: str, cert: str) -> Optional[Lineage]:
    """The lineage that the live file ``cert`` belongs to, or None if it is not certbot's."""
    live, name = os.path.split(os.path.dirname(os.path.abspath(cert)))
    if os.path.realpath(live) != os.path.realpath(os.path.join(config_dir, "live")):
        return None
    return load(config_dir, name)


def matching(config_dir: str, names: Iterable[str], algorithm: Optional[str] = None) -> list[Lineage]:
    """The lineages whose leaf has exactly ``names``; if there is none, the one with the largest part of them.

    That is how certbot itself finds the lineage that ``run -d`` renews or expands.

    :param algorithm: only lineages with this kind of key, ``ecdsa`` or ``rsa``.
    """
    wanted = frozenset(name.lower() for name in names)
    exact: list[Lineage] = []
    parts: list[tuple[int, Lineage]] = []
    for lineage in every(config_dir):
        try:
            have = lineage.names()
            if not have or not have <= wanted or (algorithm and lineage.key().algorithm != algorithm):
                continue
        except Problem:
            continue
        if have == wanted:
            exact.append(lineage)
        else:
            parts.append((len(have), lineage))
    return exact or [lineage for _, lineage in sorted(parts, key=lambda part: -part[0])[:1]]


def _history(paths: Iterable[str]) -> Iterable[tuple[str, datetime.datetime]]:
    for path in paths:
        try:
            leaf = bundles.leaf_of(files.read(path), path)
        except Problem:
            continue
        yield bundles.spki_of(leaf), bundles.validity(leaf)[0]


def _said(value: object) -> str:
    return value if isinstance(value, str) and value != "None" else ""
