"""The properties of weights are only worth what they catch: every seeded mistake is noticed, no right planner is."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from reconciler.model.ledger import Wish
from reconciler.planning.forecast import NotConvergent
from tests.world.drive import Scenario
from tests.world.virtual_time import Stalled

from . import supply_checks
from .bugs import Bug
from .supply_bugs import BUGS
from .weights import REFERENCES, crowded, moving, retuned, shaken, supplied

pytestmark = pytest.mark.heavy

BOUND: Final = 120
"""Worlds in which a mistake must have shown."""


def _asked_away(scenario: Scenario) -> Scenario:
    """The same world, in which a person wants everything in cold storage."""
    ledger = replace(scenario.truth.ledger, wishes=dict.fromkeys(REFERENCES, Wish.OFFLOAD))
    return replace(scenario, truth=replace(scenario.truth, ledger=ledger))


WORLDS: Final[dict[str, Callable[[], st.SearchStrategy[Scenario]]]] = {
    "plain": lambda: supplied(plain=True),
    "any": supplied,
    "shaken": lambda: supplied().flatmap(shaken),
    "retuned": lambda: supplied(fresh=True).flatmap(retuned),
    "wishes": lambda: supplied().map(_asked_away),
    "damaged": lambda: supplied(fresh=True),
    "moving": moving,
    "crowded": crowded,
}
JUDGES: Final[dict[str, Callable[[Scenario], None]]] = {
    "crowded": supply_checks.some_order_is_found,
    "damaged": supply_checks.bad_weights_stop_nobody,
}
"""What judges the worlds of a kind, where that is not everything at once."""


@cache
def drawn(kind: str) -> tuple[Scenario, ...]:
    """The first worlds of one kind, the same in every run; they are drawn before any mistake is planted."""
    found: list[Scenario] = []

    @settings(
        max_examples=BOUND,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(WORLDS[kind]())
    def draw(scenario: Scenario) -> None:
        found.append(scenario)

    draw()
    return tuple(found)


def noticed(kind: str, scenario: Scenario) -> bool:
    """Whether some property does not hold of this world."""
    try:
        JUDGES.get(kind, supply_checks.everything)(scenario)
    except (AssertionError, NotConvergent, Stalled, LookupError):
        return True
    return False


@pytest.mark.parametrize(("plant", "kind"), BUGS.values(), ids=BUGS)
def test_a_seeded_bug_is_caught(plant: Bug, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The last ones are the richest.
    pool = drawn(kind)[::-1]
    plant(monkeypatch)
    assert any(noticed(kind, scenario) for scenario in pool), f"{plant.__name__} was not noticed in {len(pool)} worlds"


@pytest.mark.parametrize("kind", WORLDS)
def test_a_planner_without_a_bug_is_not_accused(kind: str) -> None:
    accused = [scenario for scenario in drawn(kind)[::12] if noticed(kind, scenario)]
    assert not accused, accused[0]


def test_there_are_enough_bugs() -> None:
    assert len(BUGS) >= 20
