"""``csr``: the annual key, and a certificate request for a commercial CA.

Key and request lie in the folder of the certificate that shall come back, ``<first name>-external``: ``2026.key`` (0600 from
its first byte) and ``2026.csr``.  There :mod:`~certbot_dovecot.install_cert` finds the key again.  The folder has no record
before something is installed: until then nothing else concerns itself with it, and a key's year is in its name.

*Which key* follows the rules of a renewal (:func:`certbot_dovecot.rotation.choose`), with what is in the folder in place of a
lineage: this year's key, made at the first request of the year, and reused within it; of two kinds, the one that is asked for,
and another key of that year (``2026-2``) if there is none of that kind yet; a new year's key is of the same kind as the last.
``--new-key`` takes another one in any case.  ``--reuse-key``, or ``--dovecot-key-rotation never`` at an earlier install, goes
on with the key that is deployed (before anything is, the newest), whatever the year; as with certbot, a key that is reused
cannot be of another kind.

A key that is new changes nothing by itself: it is *next* until its certificate is installed.  Where an earlier key is deployed,
:attr:`Made.deployed` says so, since its TLSA records, if there are any, want company first.

Both files are written atomically, the key first.  A run that is killed leaves at most a key without a request, which the next
run takes.  Fails as a :class:`~certbot_dovecot.problems.Problem`, with no key lost and none overwritten.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Optional, cast

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from certbot_dovecot import bundle as bundles
from certbot_dovecot import files, jobs, lineages, request, rotation, state, store
from certbot_dovecot.certificates.names import check_lineage
from certbot_dovecot.problems import Problem
from certbot_dovecot.request import PrivateKey, Subject
from certbot_dovecot.rotation import Choice, Key, Wish
from certbot_dovecot.state import Options
from certbot_dovecot.store import Folder

_DEFAULTS = {"ecdsa": "secp256r1", "rsa": "2048"}


@dataclass(frozen=True)
class Held:
    """A private key in the folder.

    :param stem: its name in the store.
    :param key: what it is.
    :param private: itself.
    """

    stem: str
    key: Key
    private: PrivateKey


@dataclass(frozen=True)
class Made:
    """What is there now.

    :param key: path of the private key.
    :param request: path of the request.
    :param held: what the key is.
    :param reason: why it is this one, in words.
    :param new: whether it was made now.
    :param written: whether the request is another one than before.
    :param deployed: SPKI of the key that is deployed, if it is another one; else empty.
    """

    key: str
    request: str
    held: Key
    reason: str
    new: bool
    written: bool
    deployed: str = ""


def folder_name(config_dir: str, wanted: Sequence[str], said: str = "") -> str:
    """The folder's name.

    :param wanted: the certificate's names.
    :param said: what the admin calls it, with or without the ending ``-external``; empty for ``<first name>-external``.
    :raises Problem: it is no name of a folder, or certbot's.
    """
    name = said if said.endswith(store.EXTERNAL) else f"{said}{store.EXTERNAL}" if said else jobs.external_name(list(wanted))
    check_lineage(said or name)
    if lineages.load(config_dir, name) is not None:
        raise Problem(
            "this is a lineage of certbot's, which makes its own keys and requests",
            where=name,
            left="Nothing was changed",
            todo="Give another name with --lineage, for what comes from a commercial CA",
        )
    return name


def make(
    config_dir: str, name: str, wanted: Sequence[str], about: Subject, wish: Wish, chosen: Options, now: datetime.datetime
) -> Made:
    """Have the key and the request.

    :param name: the folder's, as :func:`folder_name` gives it.
    :param wanted: as :func:`certbot_dovecot.request.names` gives them.
    :param about: as :func:`certbot_dovecot.request.subject` gives it.
    :param wish: what was said now; ``reuse_key`` for the key that is deployed, whatever the year.
    :param chosen: what was said now, else at an earlier install.
    :param now: the clock, UTC.
    :raises Problem: see the module.
    """
    home = jobs.home(config_dir)
    place = store.folder(home, chosen.store, name)
    # A host whose certificates all come from elsewhere has none of certbot's directories yet.
    files.make_directory(config_dir)
    with files.locked(f"{home}.lock"):
        record = state.load(place.state)
        deployed = record.spki if record and record.servers else ""
        held, unreadable = _keys(place)
        wish = replace(wish, rotation="never" if wish.reuse_key else chosen.key_rotation)
        current, choice = choose(wish, held, deployed, now)
        new = current is None or bool(choice.new_key)
        if current is None or new:
            if not wish.new_key:
                _refuse_unreadable(place, unreadable, now)
            current = _new(place, choice, wish, now, store.keys(place))
        path = place.request(current.stem)
        written = not request.says(files.read_if_there(path), current.private, wanted, about)
        if written:
            files.write(path, request.make(current.private, wanted, about))
    other = "" if deployed == current.key.spki else deployed
    return Made(place.key(current.stem), path, current.key, choice.reason, new, written, other)


def choose(wish: Wish, held: Sequence[Held], deployed: str, now: datetime.datetime) -> tuple[Optional[Held], Choice]:
    """Which key the request is for; pure.

    :param wish: ``rotation`` is ``never`` if the deployed key is to stay.
    :param held: the keys in the folder.
    :param deployed: SPKI of the one that is deployed; empty for none.
    :returns: the present key, None if there is none, and whether it stays.
    :raises Problem: it is to stay, and to be of another kind.
    """
    newest = sorted(held, key=lambda one: store.year_of(one.stem), reverse=True)
    this_year = [one for one in newest if store.year_of(one.stem)[0] >= now.year]
    if wish.rotation == "never":
        candidates = [one for one in newest if one.key.spki == deployed] or newest
    else:
        candidates = [one for one in this_year if not rotation.differs(wish, one.key)] or newest
    current = candidates[0] if candidates else None
    if current is None:
        return None, Choice("the first key of this certificate")
    if wish.reuse_key and rotation.differs(wish, current.key):
        raise Problem(
            f"the key that is reused is {current.key.algorithm} ({current.key.parameter}), and another kind was asked for",
            where=f"{current.stem}.key",
            left="Nothing was written",
            todo="Leave out --reuse-key, or the kind of key",
        )
    choice = rotation.choose(replace(wish, reuse_key=None), current.key, store.year_of(current.stem)[0], now)
    if wish.reuse_key:
        choice = replace(choice, reason="the key stays, as --reuse-key says")
    return current, choice


def _new(place: Folder, choice: Choice, wish: Wish, now: datetime.datetime, taken: dict[str, str]) -> Held:
    """Make a key, and file it."""
    algorithm = choice.key_type or wish.key_type or "ecdsa"
    if algorithm == "rsa":
        parameter = str(choice.rsa_key_size or wish.rsa_key_size or _DEFAULTS["rsa"])
    else:
        parameter = choice.elliptic_curve or wish.elliptic_curve or _DEFAULTS["ecdsa"]
    private = request.new_key(algorithm, parameter)
    spki = _spki(private)
    stem = rotation.stem_for(spki, now.year, taken)
    files.make_directory(place.path)
    files.write(place.key(stem), request.key_pem(private), 0o600)
    return Held(stem, Key(spki, algorithm, parameter), private)


def _keys(place: Folder) -> tuple[list[Held], list[str]]:
    """The keys in the folder, and the stems of those that cannot be used."""
    held, unreadable = [], []
    for stem in store.keys(place):
        try:
            private = cast(PrivateKey, load_pem_private_key(files.read(place.key(stem)), password=None))
            kind = bundles.kind_of_key(private.public_key())
        except (Problem, ValueError, TypeError, UnsupportedAlgorithm):
            kind = None
        if kind is None:
            unreadable.append(stem)
        else:
            held.append(Held(stem, Key(_spki(private), *kind), private))
    return held, unreadable


def _refuse_unreadable(place: Folder, unreadable: Sequence[str], now: datetime.datetime) -> None:
    """A key of this year that is damaged is not replaced in silence: a certificate may be on its way for it."""
    lost = [stem for stem in unreadable if store.year_of(stem)[0] == now.year]
    if lost:
        raise Problem(
            "this private key cannot be read",
            where=place.key(lost[-1]),
            left="Nothing was written",
            todo="Bring it back from a backup, or say --new-key for another one",
        )


def _spki(private: PrivateKey) -> str:
    der = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest().upper()
