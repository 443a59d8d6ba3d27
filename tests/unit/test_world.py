"""Years go by in simulated worlds, and every sender can deliver; mistakes in the rules would be found.

``WORLD_STEPS`` makes the walk longer (a million steps take some minutes) and looks for the mistakes that are rare.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.plays import FEW, examples
from tests.unit import world as worlds
from tests.unit.mutations import MUTATIONS, RARE

STEPS = int(os.environ.get("WORLD_STEPS", examples(8000)))
FAR = "WORLD_STEPS" in os.environ


def choosing(data):
    return lambda options: data.draw(st.sampled_from(list(options)))


class Worlds(RuleBasedStateMachine):
    """One world; a rule is an event."""

    world = None

    @initialize(data=st.data())
    def begin(self, data):
        self.world = worlds.World(choosing(data))

    @invariant()
    @precondition(lambda self: self.world is not None)
    def every_sender_can_deliver(self):
        self.world.check()

    @rule(data=st.data())
    def all_is_well_in_the_end(self, data):
        self.world.nothing_is_wrong_any_more(choosing(data))


def _event(act):
    def event(self, data):
        act(self.world, choosing(data))

    event.__name__ = act.__name__
    return rule(data=st.data())(event)


for _act in worlds.EVENTS:
    setattr(Worlds, _act.__name__, _event(_act))

TestWorlds = Worlds.TestCase
TestWorlds.settings = settings(
    max_examples=STEPS // 800 + 1,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_worlds_by_chance():
    happened = worlds.wander(STEPS, seed=0)
    # It would prove nothing if nothing happened.
    assert happened["switches (proven)"] > STEPS / 500
    assert happened["switches (emergency)"] > STEPS / 2000
    assert happened["switches (free)"] > STEPS / 2000


#: The rare ones take up to 400 000 steps, and are looked for where WORLD_STEPS is set.
@pytest.mark.skipif(FEW, reason="asked for few examples")
@pytest.mark.parametrize("mistake", [one for one in MUTATIONS if FAR or one not in RARE])
def test_a_mistake_in_the_rules_is_found(mistake, monkeypatch):
    MUTATIONS[mistake](monkeypatch)
    with pytest.raises(AssertionError, match=r"world [0-9]+ after"):
        worlds.wander(400_000 if mistake in RARE else 40_000, seed=0)
