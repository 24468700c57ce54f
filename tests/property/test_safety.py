"""What never happens, at no instant of any run: the rules of the world, each by its name.

The world checks every rule at every effect of every run, in every file of this folder. Here each has a test of its
own, on worlds that tempt it most, and the world's log is read once more by other means.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.actions.stop import Stop
from reconciler.model.names import server_subject
from reconciler.model.observed import Standing, Unknown
from tests.world import rules
from tests.world.drive import Run, Scenario, apply
from tests.world.truth import Truth

from . import checks, doubt
from .befalling import exchanged, misrouted, moved, squeezed, stormy, unfit
from .profile import worlds
from .strategies import scenarios


def stops(run: Run) -> list[tuple[Standing, bool]]:
    """Standing of every process that was stopped, and whether any gateway could not be read then."""
    return [
        (
            decision.view.facts.observed.servers[action.process.label].standing,
            not any(isinstance(g, Unknown) for g in decision.view.facts.observed.gateways.values()),
        )
        for decision in run.decisions
        for action in decision.plan.actions
        if isinstance(action, Stop)
    ]


@worlds(120)
@given(stormy())
def test_nothing_foreign_or_unknown_is_stopped_or_claimed(scenario: Scenario) -> None:
    run = apply(scenario)
    assert all(standing is Standing.OURS for standing, _ in stops(run))
    for label, record in scenario.truth.records.items():
        if record.doubt and not scenario.script.events:
            assert record.live(run.world.now) == run.world.truth.records[label].live(run.world.now)


@worlds(120)
@given(stormy())
def test_one_port_has_one_server(scenario: Scenario) -> None:
    run = apply(scenario)
    live = [r.process.port for r in run.world.truth.records.values() if r.live(run.world.now)]
    assert len(live) == len(set(live))


@pytest.mark.fault("X13", "X14")
@worlds(120)
@given(scenarios(least=2, fresh=True).flatmap(squeezed))
def test_memory_is_never_over_the_budget_by_an_action(scenario: Scenario) -> None:
    run = apply(scenario)
    limit = rules.budget(run.world)
    held = [sum(r.process.memory for r in w.records.values() if r.live(at)) for w, at in _ends(scenario, run)]
    assert held[1] <= max(held[0], limit or 0)


def _ends(scenario: Scenario, run: Run) -> list[tuple[Truth, float]]:
    return [(scenario.truth, scenario.world().now), (run.world.truth, run.world.now)]


@worlds(120)
@given(scenarios(tight=True))
def test_a_budget_that_nobody_knows_launches_nothing(scenario: Scenario) -> None:
    run = apply(scenario)
    if rules.budget(run.world) is None:
        assert not run.world.starts


@worlds(120)
@given(stormy())
def test_no_binding_leads_nowhere(scenario: Scenario) -> None:
    run = apply(scenario)
    truth, now = run.world.truth, run.world.now
    for gateway in truth.gateways.values():
        for route in gateway.routes or () if not gateway.unreadable else ():
            record = truth.records.get(route.label)
            if route.upstream is not None and not truth.blind:
                assert record is not None
                assert record.live(now)
                assert (record.process.port, record.process.served_name) == (
                    route.upstream.port,
                    route.upstream.served_name if not record.doubt else record.process.served_name,
                )


@worlds(120)
@given(stormy())
def test_nothing_is_stopped_while_a_gateway_may_dispatch_to_it(scenario: Scenario) -> None:
    assert all(readable for _, readable in stops(apply(scenario)))


@worlds(100)
@given(scenarios())
def test_an_old_server_stays_until_its_successor_can_start(scenario: Scenario) -> None:
    checks.old_stays_until_its_successor_can_start(checks.settles(scenario))


@worlds(100)
@given(scenarios(least=2, tight=True))
def test_an_old_server_stays_where_its_successor_does_not_fit(scenario: Scenario) -> None:
    checks.old_stays_until_its_successor_can_start(checks.settles(scenario))


@worlds(150)
@given(st.one_of(scenarios(), scenarios(least=2).flatmap(moved), scenarios(least=2, tight=True)).flatmap(unfit))
def test_a_successor_that_fails_its_preflight_stops_nobody(scenario: Scenario) -> None:
    run = checks.settles(scenario)
    checks.nobody_leaves_unexamined(run)
    checks.old_stays_until_its_successor_can_start(run)
    checks.unserved_is_explained(run.ending.decision)
    world = run.world
    for label in scenario.script.unfit & scenario.truth.records.keys():
        before, after = scenario.truth.records[label], world.truth.records.get(label)
        asked = [r for r in world.requests if (r.kind, r.subject) == ("preflight", server_subject(label))]
        if asked and label not in scenario.truth.ledger.suspensions:
            assert len(asked) == 1, f"{label} was examined again"
            assert after is not None
            assert after.server == before.server, f"{label} was stopped for what would not start"
            held = next(b for b in run.plan.blocked if b.subject == server_subject(label))
            assert held.reference == "held-permanent"


@worlds(100)
@given(scenarios(least=2).flatmap(exchanged))
def test_nobody_leaves_for_who_needs_the_port_of_one_that_stays(scenario: Scenario) -> None:
    checks.old_stays_until_its_successor_can_start(checks.settles(scenario))


@worlds(100)
@given(scenarios())
def test_with_prune_off_no_stranger_is_stopped(scenario: Scenario) -> None:
    checks.prune_off_stops_no_stranger(checks.settles(scenario))


@worlds(100)
@given(scenarios())
def test_a_port_does_not_move_without_acknowledgement(scenario: Scenario) -> None:
    checks.unacknowledged_ports_stay(checks.settles(scenario), scenario)


@worlds(60)
@given(scenarios())
def test_an_unanswered_question_destroys_nothing(scenario: Scenario) -> None:
    doubt.unknown_destroys_nothing(scenario)


@worlds(100)
@given(scenarios())
def test_an_unknown_port_is_not_free(scenario: Scenario) -> None:
    doubt.unknown_port_is_not_free(scenario)


@worlds(120)
@given(scenarios(least=2, fresh=True).flatmap(misrouted))
def test_no_port_is_taken_while_a_gateway_sends_others_there(scenario: Scenario) -> None:
    checks.forecast_is_what_happens(checks.forecast_settles(scenario), checks.settles(scenario), scenario)


@worlds(120)
@given(scenarios(least=2).flatmap(moved))
def test_ports_that_change_hands_mislead_nobody(scenario: Scenario) -> None:
    predicted, run = checks.forecast_settles(scenario), checks.settles(scenario)
    checks.forecast_is_what_happens(predicted, run, scenario)
    checks.unserved_is_explained(run.ending.decision)
    checks.unacknowledged_ports_stay(run, scenario)
    checks.old_stays_until_its_successor_can_start(run)
