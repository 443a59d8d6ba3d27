"""Who renews a certificate that is served.

A leaf is looked up by its SHA-256 digest: in certbot's lineages (``live/`` and ``archive/`` of every ``renewal/*.conf``), then
in the store.  Where certbot's files cannot be read, as by everybody but root, the path that a configuration names counts.

Files that cannot be read are left out.  Nothing is written, and nothing here fails.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Optional

from certbot_dovecot import bundle as bundles
from certbot_dovecot import files, lineages, store
from certbot_dovecot.problems import Problem


class Kind(Enum):
    """Who renews it.

    ``LINEAGE``: certbot.  ``EXTERNAL``: the admin, with another CA (``certbot-dovecot install-cert``).  ``DELETED``: nobody; it
    is in the store, and certbot does not know its lineage any more.
    """

    LINEAGE = "lineage"
    EXTERNAL = "external"
    DELETED = "deleted"


@dataclass(frozen=True)
class Keeper:
    """Who renews one certificate.

    :param name: of the lineage, or of its folder in the store.
    :param newest: false if certbot has a newer certificate of this lineage.
    """

    kind: Kind
    name: str
    newest: bool = True


class Keepers:
    """All certificates that somebody known renews; nothing is read before the first question.

    :param config_dir: certbot's.
    :param folders: folder in the store to the name of its lineage.
    """

    def __init__(self, config_dir: str, folders: Mapping[str, str]) -> None:
        self._config_dir = config_dir
        self._folders = {os.path.normpath(path): name for path, name in folders.items()}

    def of(self, digest: str, path: str = "") -> Optional[Keeper]:
        """Who renews a certificate; None if nobody known does.

        :param digest: SHA-256 of the leaf, upper-case hex.
        :param path: the certificate file that the configuration names for it; empty if that is not known.
        """
        return self._by_digest.get(digest) or self._by_path(path)

    def _by_path(self, path: str) -> Optional[Keeper]:
        if not path:
            return None
        name = self._folders.get(os.path.dirname(os.path.normpath(path)))
        if name is not None:
            return self._stored(name)
        lineage = lineages.of_file(self._config_dir, path)
        return Keeper(Kind.LINEAGE, lineage.name, not os.access(lineage.source.cert, os.R_OK)) if lineage else None

    def _stored(self, name: str, newest: bool = True) -> Keeper:
        if name.endswith(store.EXTERNAL):
            return Keeper(Kind.EXTERNAL, name, newest)
        return Keeper(Kind.DELETED if lineages.is_deleted(self._config_dir, name) else Kind.LINEAGE, name, newest)

    @functools.cached_property
    def _by_digest(self) -> dict[str, Keeper]:
        found: dict[str, Keeper] = {}
        for folder, name in self._folders.items():
            found.update(dict.fromkeys(_digests(folder, ".pem"), self._stored(name)))
        for lineage in lineages.every(self._config_dir):
            newest = _digest(lineage.source.cert)
            for digest in _digests(lineage.archive, ".pem", "cert"):
                found[digest] = Keeper(Kind.LINEAGE, lineage.name, digest == newest)
            if newest:
                found[newest] = Keeper(Kind.LINEAGE, lineage.name)
        return found


def origin(paths: Sequence[str], digest: str) -> str:
    """The file that a served certificate is from, of those that a configuration names for it; empty if it names none.

    :param paths: that of a pair last, which it is if none has it; a list that is no pair may have its key in the first file.
    :param digest: SHA-256 of the leaf, upper-case hex.
    """
    found = [path for path in paths if len(paths) > 1 and _digest(path) == digest]
    return next(iter([*found, *reversed(paths)]), "")


def _digests(folder: str, end: str, begin: str = "") -> Iterable[str]:
    """Of the first certificate of every file in a folder whose name begins and ends so."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return ()
    paths = [os.path.join(folder, name) for name in names if name.startswith(begin) and name.endswith(end)]
    return [digest for digest in map(_digest, paths) if digest]


def _digest(path: str) -> str:
    try:
        return bundles.digest_of(bundles.leaf_of(files.read(path), path))
    except Problem:
        return ""
