"""Whoever has just died counts as running for the guards: he is about to be started again."""

from collections.abc import Collection
from dataclasses import replace

import pytest

from reconciler.planning.forecast import forecast
from reconciler.planning.guards import guards
from tests.unit.engine.test_journal import scenario
from tests.world.drive import apply, facts, planner

LABELS = ("a", "b", "c")


def tripped(dead: Collection[str], left: Collection[str]) -> list[str]:
    """What the guards say of a revision that declares only `left`, after some of three servers have died."""
    given = scenario(LABELS)
    world = apply(given).world
    for label in dead:
        server = world.truth.records[label].server
        assert server is not None
        server.dies_at = world.now
    state = given.desired.state
    models = {label: model for label, model in state.models.items() if label in left}
    newer = replace(given.desired, state=replace(state, models=models), revision="newer")
    return [reference for reference, _ in guards(forecast(planner(), facts(given, world, newer)))]


@pytest.mark.parametrize(
    ("dead", "left", "said"),
    [
        ("", "abc", []),
        ("ab", "abc", []),
        ("", "bc", []),
        ("", "c", ["shrinks"]),
        ("ab", "c", ["shrinks"]),
        ("a", "c", ["shrinks"]),
        ("ab", "ab", []),
        ("abc", "", ["emptied"]),
    ],
    ids=lambda value: ",".join(value) or "none",
)
@pytest.mark.fault("D13")
def test_a_death_neither_opens_nor_bars_the_way_for_a_revision(dead: str, left: str, said: list[str]) -> None:
    assert tripped(dead, left) == said
