"""The properties are only worth what they catch: every seeded mistake of a planner is noticed, and no right one is."""

from collections.abc import Callable
from functools import cache
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from reconciler.planning.forecast import NotConvergent
from tests.world.drive import Scenario
from tests.world.virtual_time import Stalled

from . import checks
from .befalling import doomed, exchanged, hasty, misrouted, moved, squeezed, stormy, unfit, unmeasured
from .bugs import BUGS, Bug
from .strategies import scenarios

pytestmark = pytest.mark.heavy

BOUND: Final = 200
"""Worlds in which a mistake must have shown."""
WORLDS: Final[dict[str, Callable[[], st.SearchStrategy[Scenario]]]] = {
    "calm": lambda: scenarios(least=2),
    "tight": lambda: scenarios(least=2, tight=True),
    "fresh": lambda: scenarios(least=2, fresh=True),
    "unmeasured": lambda: scenarios(least=1, fresh=True).map(unmeasured),
    "squeezed": lambda: scenarios(least=3).flatmap(lambda scenario: squeezed(scenario, newcomers=0)),
    "crowded": lambda: scenarios(least=3, fresh=True).flatmap(squeezed),
    "misrouted": lambda: scenarios(least=2, fresh=True).flatmap(misrouted),
    "unfit": lambda: scenarios(least=2).flatmap(unfit),
    "exchanged": lambda: scenarios(least=2).flatmap(exchanged),
    "moved": lambda: scenarios(least=2).flatmap(moved),
    "hasty": lambda: scenarios(least=1).flatmap(hasty),
    "stormy": stormy,
    "doomed": lambda: scenarios(least=2).flatmap(doomed),
}


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


def noticed(scenario: Scenario) -> bool:
    """Whether some property does not hold of this world."""
    try:
        checks.everything(scenario)
    except (AssertionError, NotConvergent, Stalled, LookupError):
        return True
    return False


@pytest.mark.parametrize(("plant", "kind"), BUGS.values(), ids=BUGS)
def test_a_seeded_bug_is_caught(plant: Bug, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The last ones are the richest.
    pool = drawn(kind)[::-1]
    plant(monkeypatch)
    assert any(noticed(scenario) for scenario in pool), f"{plant.__name__} was not noticed in {len(pool)} worlds"


@pytest.mark.parametrize("kind", WORLDS)
def test_a_planner_without_a_bug_is_not_accused(kind: str) -> None:
    accused = [scenario for scenario in drawn(kind)[::4] if noticed(scenario)]
    assert not accused, accused[0]


def test_there_are_enough_bugs() -> None:
    assert len(BUGS) >= 15
