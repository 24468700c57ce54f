"""Every world comes to rest, stays there, and says what a person has to do."""

import pytest
from hypothesis import given

from tests.world.drive import Scenario, apply

from . import checks
from .befalling import doomed, edited, faulty, hasty, stormy, troubled
from .profile import worlds
from .strategies import scenarios


@worlds(150)
@given(scenarios())
def test_the_engine_settles(scenario: Scenario) -> None:
    checks.settles(scenario)


@worlds(150)
@given(scenarios())
def test_the_forecast_settles(scenario: Scenario) -> None:
    checks.forecast_settles(scenario)


@worlds(100)
@given(scenarios())
def test_a_second_apply_does_nothing(scenario: Scenario) -> None:
    checks.second_apply_does_nothing(checks.settles(scenario))


@worlds(150)
@given(scenarios())
def test_what_is_not_served_is_explained(scenario: Scenario) -> None:
    checks.unserved_is_explained(checks.settles(scenario).ending.decision)
    checks.unserved_is_explained(checks.predicted_end(checks.forecast_settles(scenario)))


@worlds(100)
@given(scenarios())
def test_what_is_in_sync_is_as_declared(scenario: Scenario) -> None:
    checks.what_matches_is_as_declared(checks.settles(scenario))


@worlds(150)
@given(scenarios().flatmap(troubled))
def test_it_settles_after_deaths_strangers_and_blindness(scenario: Scenario) -> None:
    checks.everything(scenario)


@worlds(100)
@given(scenarios().flatmap(edited))
def test_it_settles_while_a_person_edits(scenario: Scenario) -> None:
    checks.everything(scenario)


@worlds(100)
@given(scenarios(least=1).flatmap(hasty))
def test_it_settles_where_what_is_being_undone_is_wanted_again(scenario: Scenario) -> None:
    checks.everything(scenario)


@worlds(100)
@given(scenarios().flatmap(faulty))
def test_it_settles_in_the_same_world_after_requests_went_wrong(scenario: Scenario) -> None:
    calm = Scenario(
        desired=scenario.desired,
        host_file=scenario.host_file,
        truth=scenario.truth,
        script=checks.without_faults(scenario.script),
    )
    checks.converges_to_the_same(checks.settles(calm), checks.settles(scenario), scenario)


@worlds(150)
@given(stormy())
def test_it_settles_after_everything_at_once(scenario: Scenario) -> None:
    checks.everything(scenario)


@worlds(100)
@given(scenarios().flatmap(doomed))
def test_a_model_that_cannot_serve_is_given_up(scenario: Scenario) -> None:
    checks.everything(scenario)


@worlds(60)
@given(scenarios())
def test_the_same_scenario_is_the_same_run(scenario: Scenario) -> None:
    first, second = apply(scenario), apply(scenario)
    assert first.world.requests == second.world.requests
    assert [d.plan for d in first.decisions] == [d.plan for d in second.decisions]


@pytest.mark.req("S1-105")
@worlds(100)
@given(scenarios())
def test_an_automatic_port_is_kept(scenario: Scenario) -> None:
    run = checks.settles(scenario)
    checks.leases_are_kept(run, scenario)
    ports = {label: target.port for label, target in run.ending.decision.view.targets.items()}
    again = apply(Scenario(desired=scenario.desired, host_file=scenario.host_file, truth=run.world.truth), run.world)
    assert {label: target.port for label, target in again.ending.decision.view.targets.items()} == ports
