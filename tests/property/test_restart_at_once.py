"""Who is started without another decision is whom, and how, that decision would start."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from reconciler.actions.launch import Launch
from reconciler.model.base import noun
from reconciler.model.host import HostFile, Memory
from reconciler.model.observed import Absent, Standing
from reconciler.model.target import LaunchOrder
from reconciler.planning import restart
from tests.unit.engine.test_journal import scenario as simple
from tests.world.drive import Run, Scenario, apply, eyes, facts, planner

from . import checks
from .profile import worlds
from .strategies import scenarios


@noun
class Fallen:
    """What comes of some deaths in a world that was at rest."""

    at_once: Mapping[str, LaunchOrder]
    decided: Mapping[str, LaunchOrder]
    """By a decision about the same look."""
    after_all: Mapping[str, LaunchOrder]
    """By one about a look at everything."""


def fall(run: Run, scenario: Scenario, labels: Collection[str], lost: Collection[str] = ()) -> Fallen:
    """End some servers, take the weights of some labels away, and ask three times what is to be started."""
    world, last, plans = run.world, run.ending.decision, planner()
    for label in lost:
        world.truth.artifacts[last.view.targets[label].reference] = Absent()
    for label in labels:
        server = world.truth.records[label].server
        assert server is not None
        server.dies_at = world.now
    seen = eyes(world.host(), scenario.host_file).glimpse(last.view.facts, world.ledger, labels, ())
    orders = {order.label: order for order in restart.at_once(last, seen, labels)}
    narrow, whole = plans.decide(seen), plans.decide(facts(scenario, world))
    return Fallen(at_once=orders, decided=_launches(narrow.plan.actions), after_all=_launches(whole.plan.actions))


def _launches(actions: Collection[object]) -> dict[str, LaunchOrder]:
    return {action.order.label: action.order for action in actions if isinstance(action, Launch)}


def serving(run: Run) -> list[str]:
    """Whose server is ours and lives."""
    found = run.world.truth.records.items()
    return sorted(label for label, r in found if r.live(run.world.now) and r.standing(run.world.now) is Standing.OURS)


@worlds(60)
@given(scenarios(), st.data())
def test_it_is_what_would_be_decided(scenario: Scenario, data: st.DataObject) -> None:
    run = checks.settles(scenario)
    alive = serving(run) if not run.world.truth.blind else []
    if alive:
        declared = sorted(run.ending.decision.view.targets)
        lost = data.draw(st.sets(st.sampled_from(declared), max_size=1)) if declared else set()
        fallen = fall(run, scenario, data.draw(st.sets(st.sampled_from(alive), min_size=1)), lost)
        assert fallen.at_once.items() <= fallen.decided.items()
        assert fallen.at_once.items() <= fallen.after_all.items()


def test_a_server_that_dies_for_the_first_time_in_a_world_at_rest_is_started_at_once() -> None:
    given_ = simple(("deep", "fast"))
    run = apply(given_)
    fallen = fall(run, given_, ["fast"])
    assert set(fallen.at_once) == {"fast"}
    assert fallen.at_once == fallen.decided == fallen.after_all


def test_one_that_has_died_before_waits_for_the_decision() -> None:
    given_ = simple(("deep", "fast"))
    world = given_.world()
    first = apply(given_, world)
    fall(first, given_, ["fast"])
    again = apply(given_, world)
    assert "fast" in world.ledger.attempts
    assert fall(again, given_, ["fast"]).at_once == {}


def test_a_server_that_a_smaller_budget_left_running_is_not_started_again() -> None:
    """Two fit no longer, which keeps neither from running; the one that dies waits for the memory of the other."""
    big = simple(("deep", "fast"))
    world = big.world()
    need = {o.label: o.memory for t in apply(big, world).ending.decision.view.targets.values() if (o := t.order)}
    small = replace(big, host_file=HostFile(memory=Memory(budget=f"{max(need.values()) / 2**30 + 0.01:.2f}GiB")))
    again = apply(small, world)
    assert sorted(serving(again)) == ["deep", "fast"]
    fallen = fall(again, small, ["fast"])
    assert fallen.at_once == fallen.decided == fallen.after_all == {}
