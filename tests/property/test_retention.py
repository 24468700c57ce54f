"""No sequence of plans leaves without a whole copy what ever was whole, nor without its files what is needed."""

from dataclasses import replace

import pytest
from hypothesis import given

from reconciler.model.ledger import Wish
from tests.world.drive import Scenario, cut_off
from tests.world.script import Does, Event, happen
from tests.world.world import World

from . import checks, supply_checks
from .profile import worlds
from .weights import Chapter, lives, shaken, supplied

pytestmark = pytest.mark.heavy


@worlds(150)
@given(lives())
def test_no_sequence_of_plans_loses_a_whole_copy(life: tuple[Scenario, tuple[Chapter, ...]]) -> None:
    scenario, chapters = life
    world = scenario.world()
    checks_of_a_chapter(scenario, world)
    for chapter in chapters:
        if chapter.event is not None:
            happen(world.truth, chapter.event, world.now)
        world.truth.ledger = replace(world.ledger, wishes=chapter.wishes)
        told = replace(scenario, desired=chapter.desired)
        if chapter.killed_at is not None:
            cut_off(told, world, chapter.killed_at)
        checks_of_a_chapter(told, world)


def checks_of_a_chapter(scenario: Scenario, world: World) -> None:
    """Everything that must hold after each of them; the world has judged every single request."""
    run = supply_checks.settles_in(scenario, world)
    supply_checks.nothing_needed_goes(run)
    supply_checks.unserved_is_explained(run.ending.decision)
    supply_checks.wishes_are_granted_or_refused(run)
    supply_checks.copies_are_kept(world)
    checks.second_apply_does_nothing(run)


@worlds(80)
@given(supplied(plain=True).flatmap(shaken))
def test_nothing_that_is_needed_is_moved_away_while_files_are_damaged(scenario: Scenario) -> None:
    run = checks.settles(scenario)
    supply_checks.nothing_needed_goes(run)
    supply_checks.copies_are_kept(run.world)


@pytest.mark.req("S1-71")
@worlds(80)
@given(supplied())
def test_without_its_volume_nothing_is_moved_or_changed_there(scenario: Scenario) -> None:
    store = replace(scenario.truth.store, volumes={})
    run = checks.settles(replace(scenario, truth=replace(scenario.truth, store=store)))
    assert not {request.kind for request in run.world.requests} & {"offload", "restore"}
    assert run.world.truth.store.cold == store.cold


@worlds(60)
@given(supplied(plain=True, fresh=True))
def test_a_volume_that_is_pulled_out_at_any_time_costs_nothing(scenario: Scenario) -> None:
    for after in (0.125, 1.0, 7.0, 20.0):
        events = (
            Event(after=after, does=Does.UNPLUG, volume="backroom"),
            Event(after=after + 30, does=Does.PLUG, volume="backroom"),
        )
        run = checks.settles(replace(scenario, script=replace(scenario.script, events=events)))
        supply_checks.copies_are_kept(run.world)
        supply_checks.unserved_is_explained(run.ending.decision)


@worlds(80)
@given(supplied(plain=True))
def test_what_is_asked_for_by_hand_is_done_or_refused(scenario: Scenario) -> None:
    for wish in Wish:
        wishes = dict.fromkeys(sorted(scenario.truth.artifacts), wish)
        truth = replace(scenario.truth, ledger=replace(scenario.truth.ledger, wishes=wishes))
        run = checks.settles(replace(scenario, truth=truth))
        supply_checks.wishes_are_granted_or_refused(run)
        supply_checks.nothing_needed_goes(run)
