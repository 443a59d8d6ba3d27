"""The store: where deployed bundles live, and the names of the files in it.

``<store>/<lineage>/`` holds ``2026.key`` (0600), ``2026.pem`` (leaf first, then the chain), ``tlsa.zone`` and ``tlsa.json``;
``<config-dir>/dovecot/<lineage>/state.json`` is the record (the same folder, unless ``--dovecot-store`` says otherwise).  A
request that was made for a key lies beside it, ``2026.csr``.

Within a year the key stays, so replacing ``2026.pem`` by a rename is consistent at every instant.  A new key gets files of
its own, and the old pair is still there to go back to.  So at no instant does a file here name a key and a certificate that
do not match, and no configuration names a file that is not there yet.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from certbot_dovecot import files
from certbot_dovecot.certificates.names import check_lineage, is_lineage
from certbot_dovecot.dane import tlsa
from certbot_dovecot.files import Edit
from certbot_dovecot.problems import FileProblem

if TYPE_CHECKING:
    from certbot_dovecot.bundle import Bundle

#: How the folder of a certificate that is no lineage's ends.
EXTERNAL = "-external"

_KEY_FILE = re.compile(r"(\d{4}(?:-\d+)?)\.key")


@dataclass(frozen=True)
class Folder:
    """One lineage's place in the store.

    :param path: its folder, absolute.
    :param state: its ``state.json``, absolute.
    :param former: folder of the lineage whose place it takes; empty for none.
    """

    path: str
    state: str
    former: str = ""

    def cert(self, stem: str) -> str:
        """The combined certificate file of key ``stem``."""
        return os.path.join(self.path, f"{stem}.pem")

    def key(self, stem: str) -> str:
        """The private key file of key ``stem``."""
        return os.path.join(self.path, f"{stem}.key")

    def request(self, stem: str) -> str:
        """The certificate request that was made for key ``stem``."""
        return os.path.join(self.path, f"{stem}.csr")

    @property
    def zone(self) -> str:
        """TLSA records as zone-file lines."""
        return os.path.join(self.path, "tlsa.zone")

    @property
    def json(self) -> str:
        """The same records as JSON."""
        return os.path.join(self.path, "tlsa.json")

    def owns(self, path: str) -> bool:
        """Whether ``path``, as a configuration names it, is a certificate or key of this folder, or is to become one of it."""
        folder = os.path.dirname(os.path.normpath(path))
        return folder in (os.path.normpath(self.path), os.path.normpath(self.former or self.path))

    def is_another(self, path: str) -> bool:
        """Whether ``path`` is a certificate or key of another lineage's folder in the same store."""
        theirs = os.path.dirname(os.path.normpath(path))
        return not self.owns(path) and os.path.dirname(theirs) == os.path.dirname(os.path.normpath(self.path))


def folder(home: str, store: str, lineage: str, former: str = "") -> Folder:
    """The folder of ``lineage``.

    :param home: ``CONFIG_DIR/dovecot``.
    :param store: ``--dovecot-store``; empty for ``home``.
    :param former: name of the lineage whose place it takes; empty for none.
    :raises Problem: a name is none of a lineage, but a path.
    """
    for name in filter(None, (lineage, former)):
        check_lineage(name)
    place = store or home
    return Folder(
        os.path.join(place, lineage), os.path.join(home, lineage, "state.json"), os.path.join(place, former) if former else ""
    )


def lineages(home: str) -> list[str]:
    """Names of the lineages that have a record under ``home``, sorted."""
    try:
        names = os.listdir(home)
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise files.problem(home, exc, "cannot be listed") from exc
    return sorted(name for name in names if is_lineage(name) and os.path.isfile(os.path.join(home, name, "state.json")))


def keys(place: Folder) -> dict[str, str]:
    """Stem to SPKI of every key in the folder; the SPKI is empty where a key cannot be read, so that its name stays taken.

    :raises FileProblem: the folder cannot be listed.
    """
    try:
        names = os.listdir(place.path)
    except FileNotFoundError:
        return {}
    except OSError as exc:
        raise files.problem(place.path, exc, "cannot be listed") from exc
    stems = sorted(match.group(1) for match in map(_KEY_FILE.fullmatch, names) if match)
    return {stem: spki_in(place.key(stem)) for stem in stems}


def year_of(stem: str) -> tuple[int, int]:
    """What a key's name says: the year it was made in, and its number in that year."""
    year, _, number = stem.partition("-")
    return int(year), int(number or 1)


def history(place: Folder) -> tuple[tuple[str, datetime.datetime], ...]:
    """(SPKI, a moment of the year it was made in) of every key in the folder, as its name has it.

    :raises FileProblem: the folder cannot be listed.
    """
    utc = datetime.timezone.utc
    return tuple((spki, datetime.datetime(year_of(stem)[0], 7, 1, tzinfo=utc)) for stem, spki in keys(place).items() if spki)


def edits(place: Folder, stem: str, bundle: Bundle) -> tuple[Edit, ...]:
    """What puts ``bundle`` into the folder as ``stem``: the key, then the combined file; empty if both are there.

    :raises FileProblem: a file that is there cannot be read.
    """
    wanted = (Edit(place.key(stem), None, bundle.key_pem, 0o600), Edit(place.cert(stem), None, bundle.combined, 0o644))
    found = [Edit(edit.path, files.read_if_there(edit.path), edit.new, edit.mode) for edit in wanted]
    return tuple(edit for edit in found if edit.old != edit.new)


def file_tlsa(
    place: Folder, lineage: str, records: Sequence[tlsa.Record], names: Sequence[str], behind: Sequence[tlsa.Record] = ()
) -> None:
    """Write ``tlsa.zone`` and ``tlsa.json``, where they change; parameters as for :func:`certbot_dovecot.dane.tlsa.zone`.

    :raises FileProblem: they cannot be written.
    """
    for path, data in ((place.zone, tlsa.zone(lineage, records, names, behind)), (place.json, tlsa.as_json(lineage, records))):
        if files.read_if_there(path) != data:
            files.make_directory(place.path)
            files.write(path, data)


def spki_in(path: str) -> str:
    """SHA-256 of the SubjectPublicKeyInfo of a private key, upper-case hex; empty if it cannot be read."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    try:
        public = load_pem_private_key(files.read(path), password=None).public_key()
    except (FileProblem, ValueError, TypeError):
        return ""
    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest().upper()
