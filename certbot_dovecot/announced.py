"""Whether a certificate from elsewhere may bring another key: are its TLSA records where those of the present one are?

A commercial certificate has no standby and no renewal that could wait: an admin installs it, once a year, when it is there.
So this is one look, right before (D7): the ports that serve the present key are asked for, and judged as for a switch
(:func:`certbot_dovecot.dane.rollover.decide`).  What one look cannot tell is since when the records are there; how long a
cache may hold a set without them is said instead.

Nobody who has no DANE is held up: where no record is seen, the key may change, and a DNS that could not be asked is only told.

Fails as a :class:`~certbot_dovecot.problems.Problem` if a server's configuration or a certificate cannot be read.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509

from certbot_dovecot import bundle as bundles
from certbot_dovecot import files, jobs, publishing, records, store
from certbot_dovecot.dane import publish, rollover, tlsa
from certbot_dovecot.dane.answers import Key, Survey
from certbot_dovecot.dane.rollover import Kind
from certbot_dovecot.plan import Job
from certbot_dovecot.problems import sentence
from certbot_dovecot.rollover import owner_names
from certbot_dovecot.watch import Way


@dataclass(frozen=True)
class Word:
    """What the look came to.

    :param safe: whether the key may change.
    :param text: what is to be said, full sentences; empty for nothing.
    :param add: zone-file lines that are missing somewhere.
    """

    safe: bool = True
    text: str = ""
    add: tuple[str, ...] = ()


def look(way: Way, job: Job) -> Word:
    """Look whether the servers may change to the key of a job.

    :raises Problem: see the module.
    """
    record = jobs.remembered(way.config_dir, job.lineage)
    if record is None or not record.servers or not record.stem or job.options.dane == "off":
        return Word()
    path = store.folder(way.home, job.options.store, job.lineage).cert(record.stem)
    if not os.path.exists(path):
        # An install that mends a store; nobody can say what was served.
        return Word()
    present = bundles.leaf_of(files.read(path), path)
    bundle = bundles.read(job.source, way.clock())
    if bundles.spki_of(present) == bundle.spki:
        return Word()
    current, following = _key(present), _key(bundles.leaf_of(bundle.combined, job.source.cert))
    names = bundles.names_of(present)
    ports = records.served(*records.ask(job.options, names, way.run), {current.sha256})
    hosts = owner_names.hosts_of(way, job.options, names)
    made = tlsa.records(hosts.every, {port: [following.sha256] for port in ports})
    if not made:
        return Word()
    said = way.ask(job.options, sorted(record.owner for record in made))
    others = {record.owner for record in made if not owner_names.is_named(job.options, names, record.owner)}
    said = rollover.relevant(said, frozenset(), [current, following], others)
    # A set that does not exist is not begun with a key that is not served (D30).
    places = publish.places(said, {record.owner: [current] for record in made}, following)
    return judge(said, current, following, publishing.missing(places), way.clock())


def judge(said: Survey, current: Key, following: Key, add: Sequence[str], now: datetime.datetime) -> Word:
    """What a survey means; pure.

    :param add: zone-file lines that are missing for the key that comes.
    """
    evidence = rollover.observe(None, said, current, following)
    step = rollover.decide(said, evidence, current, following, now, datetime.timedelta(0))
    if step.kind is Kind.FREE:
        return Word()
    if not any(owner.published for owner in said.owners):
        return Word(
            text=f"Whether TLSA records of the present key are in the DNS is not known: {sentence(step.reason)} If you publish "
            "any, add those of the new key beside them."
        )
    if step.kind in (Kind.KEEP, Kind.PUBLISH, Kind.STANDBY):
        return Word(False, sentence(step.reason), tuple(add))
    return Word(
        text=f"The TLSA records of both keys are in the DNS. Caches may hold sets without the new one for {evidence.ttl} s "
        "after it was added."
    )


def _key(certificate: x509.Certificate) -> Key:
    return Key(*bundles.digests_of(certificate))
