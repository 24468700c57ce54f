"""What is told of a run is what happened, in its order; and a run that finds nothing to do tells nothing."""

from dataclasses import replace
from typing import Final

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from reconciler.engine import journal
from reconciler.model.desired import Desired
from reconciler.model.event import Event, EventKind
from reconciler.model.names import server_subject
from tests.world.drive import Run, Scenario, apply, cut_off
from tests.world.truth import bindings
from tests.world.world import World

from . import checks
from .befalling import doomed, faulty, moved, stormy
from .documents import often
from .profile import worlds
from .strategies import scenarios

pytestmark = pytest.mark.heavy

Step = tuple[str, EventKind]
"""Kind of an action, or the empty string, and what became of it."""


def steps(history: list[Event], label: str) -> list[tuple[int, Step]]:
    """What is told of the server of a label, with the place of each in the history."""
    subject = server_subject(label)
    told = [event for event in history if event.subject == subject]
    kept = (EventKind.STARTED, EventKind.DONE, EventKind.PROVED)
    return [(event.number, (event.action, event.kind)) for event in told if event.kind in kept]


def publishes(history: list[Event], verb: str, label: str) -> list[int]:
    """Where a write is begun that takes a label's route away, or gives it one."""
    begun = [e for e in history if e.action == "publish" and e.kind is EventKind.STARTED]
    parts = [(event.number, part.split()) for event in begun for part in event.text.split("; ")]
    return [number for number, (first, *labels) in parts if first == verb and label in {x.strip(",") for x in labels}]


def routed(world: World, label: str) -> bool:
    """Whether any gateway sends requests of a label to its server."""
    record = world.truth.records.get(label)
    port = record.process.port if record is not None else None
    ways = [bindings(gateway.routes or ()) for gateway in world.truth.gateways.values()]
    return any((way.label, way.port) == (label, port) for found in ways for way in found)


@st.composite
def changed(draw: st.DrawFn, scenario: Scenario) -> tuple[Scenario, Desired]:
    """A world, and a desired state for which servers of it have to be replaced."""
    state = scenario.desired.state
    models = {
        label: replace(spec, chat_template="templates/b.jinja" if spec.chat_template is None else None)
        if draw(often(True, 3))
        else spec
        for label, spec in state.models.items()
    }
    return scenario, replace(scenario.desired, state=replace(state, models=models), revision="worktree:1")


SWAP: Final[list[Step]] = [
    ("preflight", EventKind.STARTED),
    ("preflight", EventKind.DONE),
    ("stop", EventKind.STARTED),
    ("stop", EventKind.DONE),
    ("launch", EventKind.STARTED),
    ("launch", EventKind.DONE),
    ("", EventKind.PROVED),
]


def test_a_swap_is_told_from_the_withdrawal_to_the_new_route() -> None:
    seen = 0

    @worlds(100)
    @given(scenarios(least=1).flatmap(changed))
    def holds(drawn: tuple[Scenario, Desired]) -> None:
        nonlocal seen
        scenario, desired = drawn
        world = checks.settles(scenario).world
        known = {label for label in world.truth.records if routed(world, label)}
        before = len(world.history)
        apply(Scenario(desired=desired, host_file=scenario.host_file, truth=world.truth), world)
        history = world.history[before:]
        for label in known & desired.state.models.keys():
            told = steps(history, label)
            kinds = [step for _, step in told]
            if ("stop", EventKind.STARTED) not in kinds:
                continue
            stopped = told[kinds.index(("stop", EventKind.STARTED))][0]
            withdrawn, given_back = (publishes(history, verb, label) for verb in ("withdraw", "route"))
            assert withdrawn, f"{label} was stopped with its route"
            assert withdrawn[0] < stopped, f"{label} was stopped with its route"
            if kinds == SWAP and len(given_back) == 1:
                seen += 1
                assert told[-1][0] < given_back[0], f"{label} got its route before it was proved"

    holds()
    assert seen >= 20, "hardly any server with a route was replaced"


@worlds(150)
@given(st.one_of(scenarios(), scenarios(least=2).flatmap(moved), stormy()))
def test_every_stop_is_told_after_a_withdrawal_where_a_gateway_named_it(scenario: Scenario) -> None:
    world = scenario.world()
    named = {label for label in scenario.truth.records if routed(world, label)}
    history = apply(scenario, world).world.history
    for label in named:
        stops = [number for number, step in steps(history, label) if step == ("stop", EventKind.STARTED)]
        withdrawals = [n for verb in ("withdraw", "unlist", "update") for n in publishes(history, verb, label)]
        assert not stops or min(withdrawals, default=stops[0]) < stops[0], f"{label} was stopped with its route"


@worlds(120)
@given(st.one_of(scenarios(), scenarios().flatmap(doomed), scenarios().flatmap(faulty)))
def test_what_is_told_is_what_was_done(scenario: Scenario) -> None:
    run = apply(scenario)
    history = run.world.history
    begun = [(event.action, event.subject) for event in history if event.kind is EventKind.STARTED]
    assert sorted(begun) == sorted((request.kind, request.subject) for request in run.world.requests)
    ended = [e for e in history if e.kind in (EventKind.DONE, EventKind.FAILED) and e.action]
    assert sorted((e.action, e.subject) for e in ended) == sorted(begun)
    assert [event.number for event in history] == list(range(1, len(history) + 1))
    assert [event.at for event in history] == sorted(event.at for event in history)
    assert all(event.text and event.reference for event in history)


@worlds(120)
@given(stormy())
def test_a_second_run_that_settles_at_once_stores_nothing(scenario: Scenario) -> None:
    run = checks.settles(scenario)
    before = list(run.world.history)
    again = apply(Scenario(desired=_last(run), host_file=scenario.host_file, truth=run.world.truth), run.world)
    assert again.ending.settled
    assert again.world.history == before


@worlds(120)
@given(st.one_of(stormy(), scenarios().flatmap(doomed)))
def test_what_was_told_is_recalled_from_what_was_stored(scenario: Scenario) -> None:
    run = checks.settles(scenario)
    assert journal.recalled(run.world.history) == journal.told(run.ending.decision)


@worlds(120)
@given(stormy())
def test_what_is_blocked_in_the_end_was_told_and_not_cleared(scenario: Scenario) -> None:
    run = checks.settles(scenario)
    told = set()
    for event in run.world.history:
        reason = event.subject, event.reference
        if event.kind is EventKind.BLOCKED:
            assert reason not in told, f"{reason} was told twice"
            told.add(reason)
        elif event.kind is EventKind.CLEARED:
            told.remove(reason)
    assert told == {(blocked.subject, blocked.reference) for blocked in run.plan.blocked}


@worlds(25)
@given(scenarios(least=1, most=3))
def test_killed_at_any_turn_each_instance_is_told_as_proved_once(scenario: Scenario) -> None:
    assume(not scenario.truth.blind)
    calm = apply(scenario)
    expected = _proved(calm)
    turn, ended = 1, False
    while not ended:
        world = scenario.world()
        ended = cut_off(scenario, world, turn)
        run = apply(scenario, world)
        assert _proved(run) == expected, f"killed at turn {turn}"
        told = [(event.subject, event.text) for event in world.history if event.kind is EventKind.PROVED]
        assert len(told) == len(set(told)), f"killed at turn {turn}: told twice of one process"
        assert {subject for subject, _ in told} >= {server_subject(label) for label in world.ledger.proofs}
        assert world.history[-1].kind in (EventKind.SETTLED, EventKind.REVISION, EventKind.BLOCKED, EventKind.CLEARED)
        turn += 1


def _proved(run: Run) -> set[str]:
    return set(run.world.ledger.proofs)


def _last(run: Run) -> Desired:
    return run.decisions[-1].view.facts.desired
