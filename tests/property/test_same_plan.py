"""What means the same plans the same, and what is for gateways costs no server."""

from dataclasses import replace

import pytest
from hypothesis import given

from tests.world.drive import Scenario, facts, planner

from . import checks
from .profile import worlds
from .strategies import scenarios


@worlds(150)
@given(scenarios())
def test_order_and_spelled_out_defaults_plan_the_same(scenario: Scenario) -> None:
    checks.order_and_spelling_plan_the_same(scenario)


@worlds(80)
@given(scenarios())
@pytest.mark.parametrize("rewrite", [checks.permuted, checks.spelled_out])
def test_a_rewritten_document_plans_nothing(rewrite: checks.Rewrite, scenario: Scenario) -> None:
    run = checks.settles(scenario)
    again = facts(scenario, run.world, rewrite(scenario.desired))
    assert planner().decide(again).plan.actions == ()


@worlds(100)
@given(scenarios())
def test_a_planner_that_was_used_decides_like_a_new_one(scenario: Scenario) -> None:
    used = planner()
    for desired in (scenario.desired, checks.spelled_out(scenario.desired)):
        for platform in ("linux", scenario.truth.platform):
            seen = facts(replace(scenario, truth=replace(scenario.truth, platform=platform)), desired=desired)
            assert used.decide(seen).plan == planner().decide(seen).plan


@worlds(100)
@given(scenarios())
def test_fields_for_gateways_touch_no_server(scenario: Scenario) -> None:
    checks.gateway_fields_touch_no_server(checks.settles(scenario))
