"""From a lineage's name to a job: what the admin chose, which servers there are, which files it holds.

What was chosen at the first install is remembered in the record, since certbot drops plugin options when ``run`` meets an
existing lineage and never stores those of ``install``.  What is said now goes before what is remembered, and that before the
defaults.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
from collections.abc import Mapping
from shlex import quote
from typing import Any, Optional

from certbot_dovecot import bundle as bundles
from certbot_dovecot import files, lineages, pairs, renewals, state, store
from certbot_dovecot.bundle import Source
from certbot_dovecot.certificates.names import check_text, checked
from certbot_dovecot.commands import Runner
from certbot_dovecot.deploy.key_gate import KeyGate
from certbot_dovecot.plan import Job
from certbot_dovecot.problems import Problem
from certbot_dovecot.reconcile import Host
from certbot_dovecot.servers import discovery
from certbot_dovecot.state import Options
from certbot_dovecot.transaction import Checkpoint


def home(config_dir: str) -> str:
    """Where the records are, and the store unless the admin said otherwise."""
    return os.path.join(config_dir, "dovecot")


def options(config_dir: str, lineage: str, said: Mapping[str, Any]) -> Options:
    """The options for ``lineage``; one that stands by and was never installed has those of the lineage that it stands by for.

    :param said: those that are said now, by name.
    :raises StateProblem: the record cannot be read.
    :raises Problem: one has a control character, or no host name where it needs one; or ``lineage`` is none.
    """
    record = remembered(config_dir, lineage) if lineage else None
    if lineage and record is None:
        other = pairs.partner(home(config_dir), lineage)
        record = remembered(config_dir, other) if other else None
    chosen = dataclasses.replace(record.options if record else Options(), **said)
    for name, value in dataclasses.asdict(chosen).items():
        if isinstance(value, str):
            check_text(value, f"--dovecot-{name.replace('_', '-')}")
    checked(chosen.dane_hosts.replace(",", " ").split(), "--dovecot-dane-hosts")
    return chosen


def host(config_dir: str, chosen: Options, run: Runner, checkpoint: Checkpoint, gate: KeyGate) -> Host:
    """What a reconcile works with, on this host."""
    found = discovery.find(chosen.server_root, chosen.postfix_root, chosen.postfix_services, run)
    return Host(found.servers, home(config_dir), now, checkpoint, gate, notes=found.notes)


def of_lineage(
    config_dir: str, lineage: lineages.Lineage, chosen: Options, explicit: bool = False, before: Optional[str] = None
) -> Job:
    """The job of bringing one of certbot's lineages to the servers; parameters as the job has them.

    :raises Problem: the lineage that stands by cannot be read.
    """
    pair = pairs.find(config_dir, home(config_dir), lineage.name)
    following = pair.standing_by() if pair and pair.serving.lineage.name == lineage.name else None
    next_key = following.sha256 if following else ""
    parameters, said = {"installer": lineage.installer}, renewals.settings(renewals.read_inis(config_dir))
    retried = renewals.judge(parameters, said, renewals.Hook("")).each_run
    name, again = quote(lineage.name), f"certbot-dovecot deploy {quote(lineage.name)} --force"
    if explicit:
        again = f"certbot install --installer dovecot --cert-name {name} --dovecot-force"
        again += _flags(config_dir, lineage.name, chosen)
    job = Job(lineage.name, lineage.source, chosen, lineage.history, explicit, before, following=next_key, retried=retried)
    return dataclasses.replace(job, again=again)


def _flags(config_dir: str, lineage: str, chosen: Options) -> str:
    """What of the options must be said again in a command, since no record remembers it.

    :raises StateProblem: the record cannot be read.
    """
    record = remembered(config_dir, lineage)
    known = dataclasses.asdict(record.options if record else Options())
    # The one that is certbot's own is in its renewal configuration.
    new = {name: value for name, value in dataclasses.asdict(chosen).items() if name != "reuse_key" and value != known[name]}
    return "".join(f" --dovecot-{name.replace('_', '-')} {quote(str(value))}" for name, value in new.items())


def of_files(source: Source, domains: list[str], chosen: Options, folder: str = "") -> Job:
    """The job of installing files that are no lineage's.

    They get a folder of their own, ``<first name>-external``, so that no renewal of a lineage of that name takes its place.

    :param folder: the folder's name, if it is known.
    """
    return Job(folder or external_name(domains), source, chosen, explicit=True, again="--now")


def of_external(config_dir: str, name: str, chosen: Options) -> Optional[Job]:
    """The job of keeping true what came from elsewhere: its source is what the store has of it.

    :returns: None if nothing of that name came from elsewhere and was installed.
    :raises Problem: the record cannot be read, or an install was interrupted before its files were there.
    """
    record = remembered(config_dir, name)
    if not name.endswith(store.EXTERNAL) or record is None or not record.stem:
        return None
    place = store.folder(home(config_dir), chosen.store, name)
    source = Source(place.key(record.stem), place.cert(record.stem))
    if not all(map(os.path.exists, source.paths)):
        raise Problem(
            "an install of this certificate was interrupted",
            where=place.path,
            left="The servers serve what they served before",
            todo="Run certbot-dovecot install-cert again",
        )
    return Job(name, source, chosen, lambda: store.history(place), again=f"certbot-dovecot deploy {quote(name)} --force")


def names_in(source: Source) -> list[str]:
    """The host names of a certificate.

    :raises Problem: it cannot be read, or one of them is no name.
    """
    return list(bundles.host_names(bundles.leaf_of(files.read(source.cert), source.cert), source.cert))


def external_name(domains: list[str]) -> str:
    """The folder's name for a certificate from elsewhere.

    :raises Problem: the first of its names is none.
    """
    first = checked(domains[:1], "the names of the certificate")[0] if domains else "certificate"
    return f"{first[2:] if first.startswith('*.') else first}{store.EXTERNAL}"


def existing(config_dir: str, name: str) -> lineages.Lineage:
    """The lineage ``name``.

    :raises Problem: there is none.
    """
    lineage = lineages.load(config_dir, name)
    if lineage is None:
        raise missing(config_dir, name)
    return lineage


def missing(config_dir: str, name: str) -> Problem:
    """What is said of a lineage that certbot does not know."""
    return Problem(
        "there is no such lineage, or its renewal configuration is damaged",
        where=os.path.join(config_dir, "renewal", f"{name}.conf"),
        todo="See certbot certificates for the names",
    )


def now() -> datetime.datetime:
    """The clock of real life, UTC."""
    return datetime.datetime.now(datetime.timezone.utc)


def remembered(config_dir: str, lineage: str) -> Optional[state.State]:
    """The record of ``lineage``, or None.

    :raises StateProblem: it cannot be read.
    """
    return state.load(store.folder(home(config_dir), "", lineage).state)
