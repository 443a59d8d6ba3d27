"""A lineage whose renewals certbot does without our installer: what its deploy hook has to look at, and to tell.

A web server has the same certificate, or ``certbot install`` put it there.  Nobody asks us before such a renewal.  So its key
is a new one at each, or with ``reuse_key`` in the renewal configuration stays for ever.  The DNS is asked what is published of
it when the key has changed, when a change is due, and as long as the last answer was a set that does not match.  The survey is
filed, so that ``certbot-dovecot status`` and monitoring know.

certbot shows what a hook prints only without ``-q``, and does not mind its exit code (measured with 2.1, 4.0 and 5.8).  So
``status`` is where an admin gets to know.  Fails as a :class:`~certbot_dovecot.problems.Problem`, as
:mod:`~certbot_dovecot.watch` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote

from certbot_dovecot import ledger, renewals, rotation, watch
from certbot_dovecot.dane import standing
from certbot_dovecot.dane.answers import Key, Owner
from certbot_dovecot.dane.rollover import Kind
from certbot_dovecot.dane.standing import Standing
from certbot_dovecot.handover import Told
from certbot_dovecot.rollover import messages
from certbot_dovecot.watch import Way


def look_after(way: Way, name: str, new_key: bool) -> tuple[Told, bool]:
    """Look at the DNS if there is a reason, and say what the admin must know.

    :param new_key: whether the servers have just got another key of it.
    :returns: what is to be said, and whether TLSA records are published that match only a former key.
    :raises Problem: as the module says.
    """
    pair = way.pair(name)
    if pair is None or pair.standby is not None or not pair.serving.installed:
        return Told(), False
    attended = pair.serving.lineage.installer == renewals.OURS
    new_key = new_key and not attended
    due = not attended and rotation.is_due(pair.options.key_rotation, pair.since(), way.clock())
    if pair.options.dane == "off":
        return Told(warnings=(due_now(name, pair.since()),) if due else ()), False
    survey = ledger.survey_of(pair.place)
    if not (new_key or due or (survey is not None and stale(survey.owners, pair.current(), pair.retired()))):
        return Told(), False
    seen = watch.look(way, pair)
    left = stale(seen.survey.owners, pair.current(), pair.retired())
    warnings = [unmatched(name, left, pair.current())] if left else []
    if due and not left:
        warnings.append(due_now(name, pair.since()) if seen.step.kind is Kind.FREE else messages.kept(name, seen.step))
    return Told(seen.survey.notes, tuple(warnings), seen.step), bool(left)


def stale(owners: Sequence[Owner], key: Key, former: Sequence[Key]) -> list[str]:
    """Owner names whose records match a former key and not the present one, sorted; pure.

    :param former: every key that was used before.
    """
    return sorted(
        owner.name
        for owner in owners
        if standing.of(owner, key) is Standing.MISMATCH
        and any(standing.of(owner, one) in (Standing.MATCH, Standing.PARTLY) for one in former)
    )


def unmatched(name: str, left: Sequence[str], key: Key) -> str:
    """What an admin must know of records that match a former key only."""
    return (
        f"{name}: the key has changed, and the TLSA records of {', '.join(left)} match only a former one: senders that check "
        f"DANE do not deliver there. Publish 3 1 1 {key.sha256} there now; then certbot-dovecot deploy {quote(name)} asks "
        "the DNS again."
    )


def due_now(name: str, year: object) -> str:
    """What an admin must know in a new year, where no record counts."""
    return (
        f"{name}: a new key is due, for the present one is of {year}, and certbot keeps it, since its renewal configuration "
        f"does not name the installer. No TLSA record of it counts. To change the key now: {renewals.new_key(name)}"
    )
