"""Which TLSA records are true now: asked on the wire, for any lineage, installed by us or not.

A record is made for what an endpoint serves and the lineage knows as its own: its present key, one of its archive, or one that
we recorded.  The present key, where it is not served yet, comes as *next* beside those: a deploy hook runs before the servers
have it.

Fails as a :class:`~certbot_dovecot.problems.Problem` if a server's configuration cannot be read; the filed data is then left
as it was.
"""

from __future__ import annotations

from certbot_dovecot import bundle as bundles
from certbot_dovecot import commands, files, jobs, lineages, seen, store
from certbot_dovecot.dane import tlsa
from certbot_dovecot.servers import discovery, probe
from certbot_dovecot.state import Options


def make(config_dir: str, name: str, chosen: Options) -> tuple[tuple[tlsa.Record, ...], tuple[str, ...]]:
    """Ask the endpoints, and file ``tlsa.zone`` and ``tlsa.json`` in the lineage's folder.

    :returns: the records, and the names of the certificate.
    :raises Problem: no such lineage, or a server's configuration cannot be read.
    """
    place = store.folder(jobs.home(config_dir), chosen.store, name)
    names, current, known = _keys(config_dir, name, place)
    served = _served(chosen, names, known)
    made = tlsa.records(names, served, current)
    with files.locked(f"{jobs.home(config_dir)}.lock"):
        files.make_directory(place.path)
        for path, data in ((place.zone, tlsa.zone(name, made, names)), (place.json, tlsa.as_json(name, made))):
            if files.read_if_there(path) != data:
                files.write(path, data)
    return made, names


def _keys(config_dir: str, name: str, place: store.Folder) -> tuple[tuple[str, ...], str, frozenset[str]]:
    """Names, present key, and all keys of a lineage, or of a certificate from elsewhere that is in the store."""
    record = jobs.remembered(config_dir, name)
    lineage = lineages.load(config_dir, name)
    recorded = frozenset(record.years) if record else frozenset()
    if lineage is None and record is not None and record.stem:
        leaf = bundles.leaf_of(files.read(place.cert(record.stem)), place.cert(record.stem))
        return bundles.names_of(leaf), bundles.spki_of(leaf), recorded | {bundles.spki_of(leaf)}
    lineage = jobs.existing(config_dir, name)
    leaf = bundles.leaf_of(files.read(lineage.source.cert), lineage.source.cert)
    spki = bundles.spki_of(leaf)
    return bundles.names_of(leaf), spki, recorded | {spki} | {old for old, _ in lineage.history()}


def _served(chosen: Options, names: tuple[str, ...], known: frozenset[str]) -> dict[int, list[str]]:
    """Port to the known keys that its endpoints serve, asked now."""
    found = discovery.find(chosen.server_root, chosen.postfix_root, chosen.postfix_services, commands.run)
    sni = probe.sni_for(names)
    served = [one for server in found.servers for one in server.look(sni).served]
    answers = probe.ask_all([one.endpoint for one in served], sni, chosen.probe_timeout)
    return seen.ports(served, {answer.endpoint: str(answer.spki) for answer in answers if answer.spki in known})
