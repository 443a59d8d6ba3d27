"""What the loop of the yearly key says: one function a message.  Pure: facts in, sentences out.

Each is a promise: what it tells an admin to do leaves every record set with a match for what is served, at any moment and in
any order (rule D24).
"""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote

from certbot_dovecot.dane.answers import Data
from certbot_dovecot.dane.publish import Change
from certbot_dovecot.dane.rollover import Kind, Step
from certbot_dovecot.problems import sentence


def refusals(changes: Sequence[Change]) -> list[str]:
    """What zones refuse, that take no updates (rule D23): one sentence a reason."""
    found: dict[str, list[str]] = {}
    for change in changes:
        if change.refused and not change.optional:
            # An owner name ends with a dot, which may be that of the sentence.
            why = change.refused.replace(f"{change.owner} ", "these names ").replace(change.owner, "these names.")
            found.setdefault(why, []).append(change.owner)
    return [f"Not published at {', '.join(owners)}: {why} The other zones are published." for why, owners in found.items()]


def beside_record(place: str, data: Data, idle: bool) -> str:
    """What the admin must know of a record of another kind.

    The parameters are what :func:`certbot_dovecot.dane.standing.beside` has.
    """
    said = (
        f"{place} has the record {str(data)[:22]}..., and it is not known whether it matches after the next renewal. That "
        "stops nothing: the record 3 1 1 of the key that is served stands beside it."
    )
    return f"{said} Nobody needs it; it may be taken out of the DNS at any time." if idle else said


def held_record(held: str) -> str:
    """Why the record of a former key must stay, and what to do.

    :param held: as :class:`~certbot_dovecot.publishing.Todo` has it.
    """
    return (
        f"The record {held}. That address needs the certificate that this host serves, and must be reachable from here. "
        "certbot renew asks every address again; the record may go once each of them serves a key that has a record of its own."
    )


def refused_set(refused: str) -> str:
    """Why no record is published at an owner name, and what to do.

    :param refused: as :class:`~certbot_dovecot.publishing.Todo` has it.
    """
    return (
        f"No TLSA record belongs {refused}. Senders that use DANE would not deliver to that address. Bring the certificate "
        "that this host serves to it; certbot renew asks every address again."
    )


def barred_set(barred: str) -> str:
    """Why no record is added to a set that a port of others shares, and what to do.

    :param barred: as :class:`~certbot_dovecot.publishing.Todo` has it.
    """
    return (
        f"No TLSA record of this key is added {barred}. That port is not served by this installer, and its name shares these "
        "records, by an alias or a wildcard. Separate the names: remove the alias; under a wildcard, add the record of the key "
        "that the port serves at the port's own name. certbot renew asks again."
    )


def kept(name: str, step: Step) -> str:
    """Why the key of a lineage stays at a new year, and what to do."""
    if step.kind is Kind.STANDBY:
        return (
            f"{name}: the year's new key waits, the renewal goes on with the old one: {sentence(step.reason)} "
            f"To make the rotation safe: certbot-dovecot standby {quote(name)}"
        )
    return (
        f"{name}: the year's new key waits, the renewal goes on with the old one: {sentence(step.reason)} "
        "If no TLSA records are published for its hosts: --dovecot-dane off"
    )


def doubtful(first: str, other: str) -> str:
    """What the admin must know of two lineages that cannot be told apart."""
    one, two = quote(first), quote(other)
    return (
        f"{first} and {other} cannot be told apart, for the renewal configuration of {other} has lost its dovecot_standby_for; "
        f"both keep their keys. To put it back: certbot reconfigure --cert-name {two} --dovecot-standby-for {one} (before "
        f"certbot 2.3: certbot certonly --cert-name {two} --installer dovecot --dovecot-standby-for {one} --force-renewal)"
    )


def held(name: str, reason: str) -> str:
    """Why a lineage that was served until the switch keeps its key, and what it means."""
    return (
        f"{name}: its key was served until the switch, and stays, the renewal goes on with it: {sentence(reason)} "
        "Until it has a new one, nothing stands by."
    )


def kept_said(name: str, step: Step) -> str:
    """Why a key stays although the admin asks for a new one, and what to do."""
    return (
        f"{name}: the key stays, although a new one is asked for, since TLSA records of it may be published: "
        f"{sentence(step.reason)} To change it when the next key's record is proven: certbot-dovecot standby {quote(name)}. To "
        "change it all the same: --dovecot-force"
    )


def said_new(name: str, step: Step) -> str:
    """What the admin must know who asks for a new key while records of the present one are published."""
    return (
        f"{name}: the key changes, as you say, while records of the present one may be in the DNS: {sentence(step.reason)} "
        "Add the new key's record now beside that of the present one, wherever one stands (certbot-dovecot tlsa shows it); "
        "until it is everywhere, senders that check DANE do not deliver. "
        f"certbot-dovecot rollover {quote(name)} --now changes to a key whose record is published already."
    )


def published(changes: Sequence[Change]) -> list[str]:
    """What was put into the DNS and taken out of it, a line each."""
    said = []
    for change in changes:
        if change.refused:
            said += [f"Not published at {change.owner}: {change.refused}"] if change.optional else []
            continue
        said += [f"Published at {change.owner}: + {data}" for data in sorted(change.add)]
        said += [f"Published at {change.owner}: - {data}" for data in sorted(change.delete)]
    return said


def one_change(lines: Sequence[str]) -> str:
    """What is to be said of lines to be added if a name has several: a record alone might match nothing (rule D30)."""
    owners = [line.split(" ", 1)[0] for line in lines]
    return ", the records of one name in one change" if len(set(owners)) < len(owners) else ""
