"""``install-cert``: what came back from a commercial CA, on its way to the servers.

The certificate and its chain are made out of the files that the CA sent (:mod:`~certbot_dovecot.mailed`), the private key is
found in the store by its public half, and then all goes the way of a renewal (:mod:`certbot_dovecot.reconcile`): checked before
the first write, installed, proven on the wire, TLSA data written, or put back.  Nothing is written before, and the CA's files
are not needed afterwards: the store's pair is the source from then on.

The key says whose certificate it is: its folder is the one where the key lies, so that a CA that sorts names or adds one does
not make another certificate of it.  A new certificate with the same key replaces the old one within the folder, and no
configuration changes.

Fails as a :class:`~certbot_dovecot.problems.Problem`, with nothing changed; what was down or broken before and is still not
proven is a :class:`~certbot_dovecot.problems.DeployProblem` that says so, and the new state stands.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from shlex import quote
from typing import Any, Optional

from cryptography import x509

from certbot_dovecot import bundle as bundles
from certbot_dovecot import csr, files, jobs, mailed, reconcile, request, store
from certbot_dovecot.bundle import Source
from certbot_dovecot.mailed import Sorted
from certbot_dovecot.plan import Job
from certbot_dovecot.problems import BundleProblem, DeployProblem, Problem
from certbot_dovecot.reconcile import Host, Report
from certbot_dovecot.store import Folder


@dataclass(frozen=True)
class Given:
    """What the admin gives; paths are absolute.

    :param cert: file with the server's certificate.
    :param bundles: files with the CA's.
    :param key: the private key; empty to look for it in the store.
    :param lineage: what the admin calls the certificate; empty for the folder where the key lies.
    """

    cert: str
    bundles: tuple[str, ...] = ()
    key: str = ""
    lineage: str = ""


@dataclass(frozen=True)
class Ready:
    """What is to be installed.

    :param job: for a reconcile.
    :param notes: what the admin should know of the files, full sentences.
    """

    job: Job
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Found:
    """A private key in the store."""

    lineage: str
    path: str
    request: str
    spki: str
    deployed: bool


def prepare(config_dir: str, given: Given, said: Mapping[str, Any], now: datetime.datetime) -> Ready:
    """Read the files, find the key, and make the job of it; nothing is written.

    :param said: options that are said now, as :class:`~certbot_dovecot.state.Options` has them.
    :param now: the clock, UTC.
    :raises Problem: see the module.
    """
    try:
        return _prepare(config_dir, given, said, now)
    except Problem as problem:
        problem.left = problem.left or "Nothing was changed"
        raise


def _prepare(config_dir: str, given: Given, said: Mapping[str, Any], now: datetime.datetime) -> Ready:
    lineage = csr.folder_name(config_dir, (), given.lineage) if given.lineage else ""
    cert = mailed.certificates(files.read(given.cert), given.cert)
    others = [one for path in given.bundles for one in mailed.certificates(files.read(path), path)]
    keys = list(_keys(config_dir, said, lineage)) if not given.key else []
    leaf = mailed.leaf(cert, {key.spki for key in keys} or _spki_in(given.key), now, given.cert)
    found = None if given.key else _match(leaf, keys, given.cert)
    chain_path = given.bundles[0] if given.bundles else given.cert
    made = mailed.order(leaf, [*cert, *others], now, chain_path)
    names = list(bundles.host_names(leaf, given.cert))
    name = lineage or (found.lineage if found else csr.folder_name(config_dir, names))
    chosen = jobs.options(config_dir, name, said)
    place = store.folder(jobs.home(config_dir), chosen.store, name)
    job = jobs.of_files(_source(given, made, found), names, chosen, name)
    return Ready(replace(job, history=lambda: store.history(place)), (*_notes(made), *_forgotten(found, names)))


def converge(host: Host, ready: Ready) -> Report:
    """Install it, and prove it.

    :raises Problem: see the module.
    """
    files.make_directory(os.path.dirname(host.home))
    try:
        report = reconcile.converge(host, ready.job)
    except DeployProblem as problem:
        if problem.kept:
            # No certbot renew comes by for a certificate that is no lineage's.
            problem.todo = f"Mend or start that server, then prove it: certbot-dovecot deploy {quote(ready.job.lineage)}"
        raise
    return replace(report, notes=(*ready.notes, *report.notes))


def _source(given: Given, made: Sorted, found: Optional[_Found]) -> Source:
    """What a bundle is read from: messages name the admin's files, whose bytes are put in order here."""
    key = found.path if found else given.key
    cert, chain = mailed.pem([made.leaf]), mailed.pem(made.chain)
    # So is a key from elsewhere: the store's copy is the one that counts.
    read_as = [] if found else [("key", mailed.private_key(files.read(key)))]
    if not chain or not given.bundles:
        return Source(key, given.cert, read_as=(*read_as, ("cert", cert + chain)))
    return Source(key, given.cert, given.bundles[0], read_as=(*read_as, ("cert", cert), ("chain", chain)))


def _keys(config_dir: str, said: Mapping[str, Any], lineage: str) -> Iterator[_Found]:
    """The private keys of certificates from elsewhere.

    :param lineage: look into its folder alone; empty for all.
    """
    home = jobs.home(config_dir)
    for name in [lineage] if lineage else _externals({home, said.get("store", home)}):
        record = jobs.remembered(config_dir, name)
        place: Folder = store.folder(home, jobs.options(config_dir, name, said).store, name)
        for stem, spki in store.keys(place).items():
            yield _Found(name, place.key(stem), place.request(stem), spki, record is not None and record.spki == spki)


def _externals(places: set[str]) -> list[str]:
    names: set[str] = set()
    for place in places:
        try:
            names |= {name for name in os.listdir(place) if name.endswith(store.EXTERNAL)}
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise files.problem(place, exc, "cannot be listed") from exc
    return sorted(names)


def _match(leaf: x509.Certificate, keys: Sequence[_Found], path: str) -> _Found:
    """The key of a certificate.

    :raises BundleProblem: none of ``keys`` is.
    """
    spki = bundles.spki_of(leaf)
    # Of two copies, the one that is in use.
    ours = sorted((key for key in keys if key.spki == spki), key=lambda key: not key.deployed)
    if ours:
        return ours[0]
    looked = ", ".join(key.path for key in keys) or "there is none in the store"
    raise BundleProblem(
        f"no private key is known that belongs to this certificate ({mailed.name_of(leaf)}); keys looked at: {looked}",
        where=path,
        left="Nothing was changed",
        todo="Name the key with --key; or make a key and a request first (certbot-dovecot csr) and send that to the CA",
    )


def _spki_in(path: str) -> set[str]:
    """The public half of a private key; empty if it cannot be read, which is said later, with the rest."""
    return {store.spki_in(path)} - {""}


def _forgotten(found: Optional[_Found], names: Sequence[str]) -> tuple[str, ...]:
    """What is to be said of names that the CA left out."""
    asked = request.asked(files.read_if_there(found.request)) if found else ()
    lost = sorted(set(asked) - {name.lower() for name in names})
    return (f"Not in the certificate, though it was asked for: {', '.join(lost)}.",) if lost else ()


def _notes(made: Sorted) -> tuple[str, ...]:
    way = " <- ".join(mailed.name_of(one) for one in (made.leaf, *made.chain))
    if made.root is None:
        notes = [f"The chain is {way}; clients must know {mailed.issuer_of(made.top)}."]
    elif made.root == made.leaf:
        notes = [f"The certificate {way} is self-signed: no client trusts it unless it is told to."]
    else:
        notes = [f"The chain is {way}; the root {mailed.name_of(made.root)} is not sent, clients have it."]
    notes += [f"Left out, since it is not in the chain: {mailed.name_of(one)}." for one in made.left_out]
    return tuple(notes)
