"""Mistakes that one could make with the rules, each as a patch of the product; the simulated world must find every one.

What a simulation proves is what it would have found.  :data:`MUTATIONS` has for each mistake what it does to the product.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any, Callable

from certbot_dovecot import pairs, rotation
from certbot_dovecot.dane import gates, publish, rollover
from certbot_dovecot.dane.answers import Data, Outcome, Owner
from certbot_dovecot.dane.evidence import FLOOR
from certbot_dovecot.rotation import Role

Patch = Callable[[Any], None]


def _earliest(make: Callable[..., Any]) -> Patch:
    def patch(monkeypatch: Any) -> None:
        monkeypatch.setattr(rollover, "earliest", lambda evidence, floor=FLOOR: make(evidence, floor))

    return patch


def _since(evidence: Any, wait: Any) -> Any:
    return None if evidence.since is None else evidence.since + wait


def _seconds(evidence: Any) -> Any:
    return rollover.datetime.timedelta(seconds=evidence.ttl)


def _observed(before: Callable[..., Any] = lambda *given: given, after: Callable[..., Any] = lambda made, *_: made) -> Patch:
    """Another evidence: of something else, or something else made of it."""

    def patch(monkeypatch: Any) -> None:
        observe = rollover.observe

        def other(*given: Any) -> Any:
            return after(observe(*before(*given)), *given)

        monkeypatch.setattr(rollover, "observe", other)

    return patch


def _decided(**other: Any) -> Patch:
    def patch(monkeypatch: Any) -> None:
        decide = rollover.decide

        def decided(survey: Any, evidence: Any, *more: Any) -> Any:
            # The last one says where we have put records.
            more = (*more[:-1], other.get("ours", more[-1]))
            return decide(survey, replace(evidence, stood=other.get("stood", evidence.stood)), *more)

        monkeypatch.setattr(rollover, "decide", decided)

    return patch


def _surveyed(change: Callable[[Owner], Owner]) -> Patch:
    """Something of what the DNS says is overlooked."""

    def patch(monkeypatch: Any) -> None:
        relevant = rollover.relevant

        def seen(survey: Any, *more: Any) -> Any:
            made = relevant(survey, *more)
            return replace(made, owners=tuple(map(change, made.owners)))

        monkeypatch.setattr(rollover, "relevant", seen)

    return patch


def _attribute(where: Any, name: str, value: Any) -> Patch:
    return lambda monkeypatch: monkeypatch.setattr(where, name, value)


def _without_negative(was: Any, survey: Any, *keys: Any) -> Any:
    def blank(owner: Owner) -> Owner:
        return replace(owner, seen=tuple(replace(s, ttl=0) if s.outcome is Outcome.ABSENT else s for s in owner.seen))

    return (was, replace(survey, owners=tuple(map(blank, survey.owners))), *keys)


def _keeps_t0(made: Any, was: Any, *_: Any) -> Any:
    same = was is not None and (was.current, was.following) == (made.current, made.following)
    return replace(made, since=was.since) if same and was.since and made.since is None and made.owners else made


def _bridges(was: Any, survey: Any, *keys: Any) -> Any:
    """The last look was now, whenever it was."""
    known = was is not None and was.looked is not None and was.looked < survey.at
    return (replace(was, looked=survey.at) if known else was, survey, *keys)


def _silence_is_a_look(made: Any, was: Any, survey: Any, *_: Any) -> Any:
    return made if made.looked is None else replace(made, looked=max(made.looked, survey.at))


def _undated(owner: Owner) -> Owner:
    return replace(owner, seen=tuple(replace(one, inception=None, expiration=None) for one in owner.seen))


def _forgets_with_the_pair(was: Any, survey: Any, current: Any, following: Any) -> Any:
    same = was is not None and (was.current, was.following) == (current.sha256, following.sha256 if following else "")
    return (was if same else None, survey, current, following)


def _knows_all_owners(was: Any, survey: Any, *keys: Any) -> Any:
    everything = frozenset(owner.name for owner in survey.owners)
    return (was and replace(was, owners=everything if was.owners else was.owners), survey, *keys)


def _no_sha512(owner: Owner) -> Owner:
    def only(records: frozenset[Data]) -> frozenset[Data]:
        return frozenset(data for data in records if data.matching != 2)

    seen = tuple(replace(one, records=only(one.records)) for one in owner.seen)
    return replace(owner, seen=seen, resolved=only(owner.resolved))


def _guarded(answers: Callable[..., Any]) -> Patch:
    """Something of what the addresses serve is overlooked, wherever it counts."""

    def patch(monkeypatch: Any) -> None:
        guarded, places = gates.guarded, publish.places
        monkeypatch.setattr(gates, "guarded", lambda change, known: guarded(change, answers(known)))

        def other(survey: Any, *more: Any) -> Any:
            return places(replace(survey, addresses=tuple(answers(survey.addresses))), *more)

        monkeypatch.setattr(publish, "places", other)

    return patch


def _relevant(make: Callable[..., Any]) -> Patch:
    def patch(monkeypatch: Any) -> None:
        relevant = rollover.relevant

        def other(survey: Any, guarded: Any, keys: Any, others: Any = frozenset(), retired: Any = ()) -> Any:
            return relevant(make(survey, guarded, keys, others, retired), guarded, keys, frozenset(), retired)

        monkeypatch.setattr(rollover, "relevant", other)

    return patch


def _without(survey: Any, names: Any) -> Any:
    return replace(survey, owners=tuple(owner for owner in survey.owners if owner.name not in names))


def _places(keys: Callable[..., Any]) -> Patch:
    def patch(monkeypatch: Any) -> None:
        places = publish.places

        def other(survey: Any, served: Any, following: Any, *more: Any) -> Any:
            made = places(survey, served, following, *more)
            return tuple(replace(one, keys=keys(one.keys, following)) for one in made)

        monkeypatch.setattr(publish, "places", other)

    return patch


def _change(**other: Callable[[Any], Any]) -> Patch:
    """Something else is given to ``publish.change``: name of a parameter to what is made of all of them."""

    def patch(monkeypatch: Any) -> None:
        change = publish.change

        def changed(*given: Any, **named: Any) -> Any:
            bound = inspect.signature(change).bind(*given, **named)
            bound.apply_defaults()
            made = {name: make(bound.arguments) for name, make in other.items()}
            return change(**{**bound.arguments, **made})

        monkeypatch.setattr(publish, "change", changed)

    return patch


def _choose(monkeypatch: Any) -> None:
    choose = rotation.choose
    monkeypatch.setattr(
        rotation,
        "choose",
        lambda wish, current, year, now, role: choose(wish, current, year, now, Role.ALONE if role is Role.SERVING else role),
    )


def _role(self: Any, name: str) -> Role:
    if self.standby is None:
        return Role.ALONE
    serving = self.serving.lineage.name == name
    member = self.serving if serving else self.standby
    return rotation.role_of(member.key().sha256, member.record.spki if member.record else "", serving)


def _unguarded(monkeypatch: Any) -> None:
    decide = rollover.decide

    def decided(survey: Any, *more: Any) -> Any:
        step = decide(survey, *more)
        return replace(step, kind=rollover.Kind.FREE) if step.kind is rollover.Kind.STANDBY else step

    monkeypatch.setattr(rollover, "decide", decided)


#: Not found within seconds, but within minutes.
RARE = frozenset(
    {
        "silence bridges a gap",
        "silent name servers do not matter",
        "a name that comes later does not reset T0",
        "the negative TTL is forgotten",
        "TTLs are forgotten with the pair of keys",
        "records that are gone do not count",
        "records that we sent do not count",
        "3 1 2 is not looked at",
        "3 1 2 goes as name servers that lag say",
        "a new year's key for what is served",
        "only the last name server is asked",
        "what a resolver remembers stands there",
    }
)

MUTATIONS: dict[str, Patch] = {
    "one TTL instead of two": _earliest(lambda evidence, floor: _since(evidence, max(_seconds(evidence), floor))),
    "no wait at all": _earliest(lambda evidence, floor: _since(evidence, 0 * floor)),
    "never": _earliest(lambda evidence, floor: None),
    "one name server is ignored": _surveyed(lambda owner: replace(owner, seen=owner.seen[:-1] or owner.seen)),
    "only the last name server is asked": _surveyed(lambda owner: replace(owner, seen=owner.seen[-1:])),
    "silent name servers do not matter": _surveyed(
        lambda owner: replace(owner, seen=tuple(s for s in owner.seen if s.outcome in (Outcome.ANSWER, Outcome.ABSENT)))
    ),
    "a regression does not reset T0": _observed(after=_keeps_t0),
    "a name that comes later does not reset T0": _observed(before=_knows_all_owners),
    "a gap in the looks does not matter": _observed(before=_bridges),
    "a clock that disagrees with the signatures does not matter": _surveyed(_undated),
    "silence bridges a gap": _observed(after=_silence_is_a_look),
    "a TTL is forgotten at once": _observed(after=lambda made, *_: replace(made, ttls=made.ttls[-1:])),
    "the negative TTL is forgotten": _observed(before=_without_negative),
    "TTLs are forgotten with the pair of keys": _observed(before=_forgets_with_the_pair),
    "records that are gone do not count": _decided(stood=False),
    "records that we sent do not count": _decided(ours=frozenset()),
    "a key without a standby is free": _unguarded,
    "3 1 2 is not looked at": _surveyed(_no_sha512),
    "3 1 2 is not published": _change(keys=lambda given: [replace(key, sha512="") for key in given["keys"]]),
    "3 1 2 goes as name servers that lag say": _change(exact=lambda given: True),
    "what a resolver remembers stands there": _attribute(Owner, "given", property(lambda self: self.published)),
    "the old record goes before the switch": _places(lambda keys, following: (following,) if following else keys),
    "the next record is not published": _places(lambda keys, following: tuple(key for key in keys if key != following)),
    "everything that is not wanted goes": _change(ours=lambda given: given["present"]),
    "a crowded set grows": _attribute(publish.Change, "crowded", False),
    "a key that was served stands by": _attribute(pairs.Member, "spent", lambda self: False),
    "a new year's key for what is served": _choose,
    "half way, a key is spent": _attribute(pairs.Pair, "role", _role),
    "other addresses do not matter": _attribute(gates, "guarded", lambda change, addresses: change),
    "an address that cannot be asked holds nothing": _guarded(lambda answers: [one for one in answers if one.key]),
    "only the first address is asked": _guarded(lambda answers: list(answers)[:1]),
    "a record goes although an address serves its key": _attribute(gates, "held", lambda *_: ()),
    "a set begins whatever the other addresses serve": _attribute(gates, "refused", lambda *_, **more: ()),
    "only the certificate's names count": _relevant(lambda survey, guarded, keys, others, retired: _without(survey, others)),
    "always due": _attribute(rotation, "is_due", lambda *_: True),
    "never due": _attribute(rotation, "is_due", lambda *_: False),
}
