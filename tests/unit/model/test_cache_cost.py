"""Bytes of a sequence's cache by its length."""

import pytest

from reconciler.model.cache_cost import PREFILL_STEP, STEP, CacheCost, Window

GROWING = CacheCost(per_token=10)
BOUNDED = CacheCost(windows=(Window(per_token=10, tokens=513),))


@pytest.mark.parametrize(("tokens", "rows"), [(0, 0), (1, 256), (256, 256), (257, 512), (1025, 1280)])
def test_a_cache_grows_in_steps(tokens: int, rows: int) -> None:
    assert GROWING.at(tokens) == 10 * rows


@pytest.mark.parametrize(
    ("tokens", "step", "rows"),
    [(1, 256, 256), (512, 256, 512), (768, 256, 768), (769, 256, 768), (100_000, 256, 768), (100_000, 1024, 1536)],
)
def test_a_window_keeps_itself_and_one_step_of_the_prompt(tokens: int, step: int, rows: int) -> None:
    assert BOUNDED.at(tokens, step) == 10 * rows


def test_the_usual_step_is_that_of_the_server() -> None:
    assert BOUNDED.at(100_000) == BOUNDED.at(100_000, PREFILL_STEP) > BOUNDED.at(100_000, STEP)


def test_a_state_of_constant_size_costs_the_same_at_every_length() -> None:
    assert CacheCost(fixed=7).at(1) == CacheCost(fixed=7).at(100_000) == 7


def test_all_parts_are_added_up() -> None:
    both = CacheCost(per_token=3, windows=(Window(per_token=5, tokens=1), Window(per_token=2, tokens=257)), fixed=11)
    assert both.at(2048, 256) == 3 * 2048 + 5 * 256 + 2 * 512 + 11
