"""An engine that is killed at any await and started again brings the world to where it would have been."""

from hypothesis import given

from tests.world.drive import Scenario, apply, cut_off, look, outcome

from . import checks
from .profile import worlds
from .strategies import scenarios


@worlds(30)
@given(scenarios(least=1, most=4))
def test_killed_at_every_await_it_converges_to_the_same_world(scenario: Scenario) -> None:
    undisturbed = apply(scenario)
    expected = outcome(look(scenario, undisturbed.world), dead=False)
    turn, ended = 1, False
    while not ended:
        world = scenario.world()
        ended = cut_off(scenario, world, turn)
        again = apply(scenario, world)
        assert again.ending.settled, f"killed at turn {turn}: {again.plan.waiting}"
        assert outcome(look(scenario, world), dead=False) == expected, f"killed at turn {turn}"
        turn += 1


@worlds(15)
@given(scenarios(least=1, most=3))
def test_killed_twice_in_a_row_it_converges_to_the_same_world(scenario: Scenario) -> None:
    expected = outcome(look(scenario, apply(scenario).world), dead=False)
    for first in range(2, 20, 3):
        for second in range(2, 20, 3):
            world = scenario.world()
            cut_off(scenario, world, first)
            cut_off(scenario, world, second)
            checks.unserved_is_explained(apply(scenario, world).ending.decision)
            assert outcome(look(scenario, world), dead=False) == expected, f"killed at {first}, then at {second}"
