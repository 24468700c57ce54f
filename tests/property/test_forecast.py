"""A dry run does not lie: what it foresees is what happens, however long each step takes."""

from hypothesis import given

from tests.world.drive import Scenario

from . import checks
from .profile import worlds
from .strategies import scenarios


@worlds(250)
@given(scenarios())
def test_the_forecast_is_what_happens(scenario: Scenario) -> None:
    checks.forecast_is_what_happens(checks.forecast_settles(scenario), checks.settles(scenario), scenario)


@worlds(150)
@given(scenarios(least=2, tight=True))
def test_the_forecast_is_what_happens_where_memory_is_tight(scenario: Scenario) -> None:
    checks.forecast_is_what_happens(checks.forecast_settles(scenario), checks.settles(scenario), scenario)


@worlds(100)
@given(scenarios(least=2, tight=True))
def test_no_step_of_a_forecast_is_over_the_budget(scenario: Scenario) -> None:
    checks.forecast_fits_in_memory(checks.forecast_settles(scenario), scenario)
