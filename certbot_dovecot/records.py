"""Which TLSA records are true now: asked on the wire, for any lineage, installed by us or not.

A record is made for what an endpoint serves and the lineage knows as its own: its present key, one of its archive, or one that
we recorded.  The present key, where it is not served yet, comes as *next* beside those: a deploy hook runs before the servers
have it.  Where another lineage stands by, its key is the next one.

Fails as a :class:`~certbot_dovecot.problems.Problem` if a server's configuration cannot be read; the filed data is then left
as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Callable

from certbot_dovecot import bundle as bundles
from certbot_dovecot import commands, files, jobs, lineages, pairs, seen, store
from certbot_dovecot.commands import Runner
from certbot_dovecot.dane import tlsa
from certbot_dovecot.servers import discovery, probe
from certbot_dovecot.servers.contract import IMailServer, Served
from certbot_dovecot.servers.probe import Answer
from certbot_dovecot.state import Options


@dataclass(frozen=True)
class Made:
    """The records of a lineage.

    :param records: of its hosts.
    :param names: of its certificate.
    :param behind: of hosts behind its wildcards, as :func:`certbot_dovecot.dane.tlsa.patterns` has them.
    """

    records: tuple[tlsa.Record, ...]
    names: tuple[str, ...]
    behind: tuple[tlsa.Record, ...]


def make(config_dir: str, name: str, chosen: Options) -> Made:
    """Ask the endpoints, and file ``tlsa.zone`` and ``tlsa.json`` in the lineage's folder.

    :raises Problem: no such lineage, or a server's configuration cannot be read.
    """
    place = store.folder(jobs.home(config_dir), chosen.store, name)
    names, following, known = _keys(config_dir, name, place)
    configured, answers = ask(chosen, names, place.owns)
    ports, servers = served(configured, answers, known), _servers(chosen, commands.run)
    hosts = seen.hosts(names, seen.own_names(servers))
    not_ours = seen.elsewhere(hosts, configured, lambda host: seen.look(servers, host), place.owns)
    found = tuple(record for record in tlsa.records(hosts, ports, following) if record.owner not in not_ours)
    made = Made(found, names, tlsa.patterns(names, ports, following))
    with files.locked(f"{jobs.home(config_dir)}.lock"):
        store.file_tlsa(place, name, made.records, names, made.behind)
    return made


def ask(
    chosen: Options, names: Sequence[str], owns: Callable[[str], bool], run: Runner = commands.run
) -> tuple[tuple[Served, ...], tuple[Answer, ...]]:
    """Every endpoint of this host, and what those that can be asked serve now to clients that ask for ``names``.

    :param owns: whether a file is the lineage's.
    :raises Problem: a server's configuration cannot be read.
    """
    servers = _servers(chosen, run)
    sni = seen.name_of(servers, names, owns)
    asked = [one.endpoint for server in servers for one in server.look(sni).served]
    return seen.look(servers, sni), probe.ask_all(asked, sni, chosen.probe_timeout)


def _servers(chosen: Options, run: Runner) -> tuple[IMailServer, ...]:
    return discovery.find(chosen.server_root, chosen.postfix_root, chosen.postfix_services, run).servers


def served(configured: Sequence[Served], answers: Iterable[Answer], known: AbstractSet[str]) -> dict[int, list[str]]:
    """Port to those of the SPKIs ``known`` that its endpoints serve, and may have records for."""
    return seen.ports(configured, {answer.endpoint: str(answer.spki) for answer in answers if answer.spki in known})


def _keys(config_dir: str, name: str, place: store.Folder) -> tuple[tuple[str, ...], str, frozenset[str]]:
    """Names, next key, and all keys of a lineage, or of a certificate from elsewhere that is in the store."""
    record = jobs.remembered(config_dir, name)
    lineage = lineages.load(config_dir, name)
    recorded = frozenset(record.years) if record else frozenset()
    if lineage is None and record is not None and record.stem:
        leaf = bundles.leaf_of(files.read(place.cert(record.stem)), place.cert(record.stem))
        names = bundles.host_names(leaf, place.cert(record.stem))
        return names, bundles.spki_of(leaf), recorded | {bundles.spki_of(leaf)}
    lineage = jobs.existing(config_dir, name)
    leaf = bundles.leaf_of(files.read(lineage.source.cert), lineage.source.cert)
    spki = bundles.spki_of(leaf)
    names = bundles.host_names(leaf, lineage.source.cert)
    known = recorded | {spki} | {old for old, _ in lineage.history()}
    pair = pairs.find(config_dir, jobs.home(config_dir), name)
    if pair is None or pair.standby is None or pair.serving.lineage.name != name:
        # In a deploy hook, the key of a lineage may be one that the servers do not have yet.
        return names, spki, known
    following = pair.standing_by()
    return names, following.sha256 if following else "", known
