"""Weights come, are verified and converted, and go, and nobody is served from what is not sound."""

from dataclasses import replace

from hypothesis import given

from tests.world.drive import Scenario, apply, cut_off, look, outcome

from . import checks, supply_checks
from .befalling import faulty
from .profile import worlds
from .weights import crowded, retuned, shaken, supplied


@worlds(80)
@given(supplied())
def test_every_world_of_weights_comes_to_rest_and_says_why(scenario: Scenario) -> None:
    supply_checks.everything(scenario)


@worlds(80)
@given(supplied(plain=True))
def test_what_a_forecast_says_of_weights_is_what_happens(scenario: Scenario) -> None:
    supply_checks.everything(scenario)


@worlds(70)
@given(supplied().flatmap(shaken))
def test_damage_and_full_disks_and_a_silent_hub_are_survived(scenario: Scenario) -> None:
    supply_checks.everything(scenario)


@worlds(70)
@given(supplied(fresh=True).flatmap(retuned))
def test_people_may_ask_for_other_weights_at_any_time(scenario: Scenario) -> None:
    supply_checks.everything(scenario)


@worlds(70)
@given(supplied().flatmap(faulty))
def test_requests_for_weights_may_go_wrong(scenario: Scenario) -> None:
    supply_checks.everything(scenario)


@worlds(60)
@given(supplied(fresh=True).flatmap(retuned).flatmap(shaken).flatmap(faulty))
def test_everything_at_once_is_survived(scenario: Scenario) -> None:
    supply_checks.everything(scenario)


@worlds(60)
@given(supplied(fresh=True))
def test_bad_weights_stop_no_server(scenario: Scenario) -> None:
    supply_checks.bad_weights_stop_nobody(scenario)


@worlds(120)
@given(crowded())
def test_an_order_of_conversions_and_launches_that_fits_is_found(scenario: Scenario) -> None:
    supply_checks.some_order_is_found(scenario)


@worlds(10)
@given(supplied(least=1, most=2, plain=True, fresh=True))
def test_killed_at_every_await_the_weights_come_to_the_same_place(scenario: Scenario) -> None:
    scenario = replace(scenario, truth=replace(scenario.truth, ledger=replace(scenario.truth.ledger, wishes={})))
    seen = look(scenario, apply(scenario).world)
    expected = outcome(seen, dead=False), supply_checks.stored(seen, scenario)
    turn, ended = 1, False
    while not ended:
        world = scenario.world()
        ended = cut_off(scenario, world, turn)
        again = apply(scenario, world)
        checks.second_apply_does_nothing(again)
        supply_checks.unserved_is_explained(again.ending.decision)
        supply_checks.copies_are_kept(world)
        seen = look(scenario, world)
        assert (outcome(seen, dead=False), supply_checks.stored(seen, scenario)) == expected, f"killed at turn {turn}"
        turn += 1
