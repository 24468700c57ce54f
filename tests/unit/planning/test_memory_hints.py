"""Who is refused memory is told what would fit, and an upper bound is measured before it refuses."""

import re

import pytest

from reconciler.model.cache_cost import CacheCost
from reconciler.model.target import MemoryNeed
from reconciler.planning import memory
from reconciler.planning.forecast import Forecast
from tests.unit.planning.conftest import Tell

GIB = 2**30
HEAD = "version: 1\nports: {team: 8100-8119}\ndefaults: {context_length: 131072}\nmodels:\n"
FAST = "  fast:\n    source: {repo: acme/fast}\n    port: 8100\n"
SLOW = "  slow:\n    source: {repo: acme/slow}\n    port: 8101\n"


def need(*, weights: int = 4 * GIB, per_token: int = 2**16, tokens: int = 131_072, sequences: int = 2) -> MemoryNeed:
    cost = CacheCost(per_token=per_token)
    return MemoryNeed(weights=weights, overhead=GIB, caches=(cost,), tokens=tokens, sequences=sequences)


def refusal(outcome: Forecast) -> tuple[str, str]:
    (blocked,) = (b for b in outcome.end.blocked if b.reference == "memory-refused")
    return blocked.reason, blocked.hint


@pytest.mark.parametrize("limit", [6, 7, 10, 13, 20])
def test_the_context_that_is_named_is_the_longest_whole_thousand_that_fits(limit: int) -> None:
    wanted = need()
    longest = wanted.longest(limit * GIB)
    assert longest is not None
    assert longest % 1024 == 0
    assert need(tokens=longest).total <= limit * GIB < need(tokens=longest + 1024).total


@pytest.mark.parametrize(
    ("wanted", "limit", "words"),
    [
        (need(), 10 * GIB, "context_length: "),
        (need(per_token=2**24, sequences=8), 5 * GIB + 20 * 2**30, "with decode_concurrency: 1 would fit"),
        (need(), 4 * GIB, "declare a smaller model"),
        (need(sequences=1), 5 * GIB, "declare a smaller model"),
    ],
)
def test_what_would_fit_is_said(wanted: MemoryNeed, limit: int, words: str) -> None:
    assert words in memory.what_fits(wanted, limit)


@pytest.mark.fault("X12")
def test_a_model_that_is_too_big_for_the_machine_is_told_a_context_that_really_fits(tell: Tell) -> None:
    machine = "artifacts: {acme/fast@main: {kv: 1000000}}\nhost: {memory: {budget: 64GiB}}\n"
    reason, hint = refusal(tell(HEAD + FAST, machine))
    assert "the budget of this machine is 64.0 GiB" in reason
    (length,) = re.findall(r"context_length: (\d+) would fit", hint)
    fits = tell(HEAD + FAST + f"    context_length: {length}\n", machine)
    assert [action.kind for action in fits.actions] == ["launch"]
    longer = tell(HEAD + FAST + f"    context_length: {int(length) + 1024}\n", machine)
    assert "launch" not in [action.kind for action in longer.actions]


def test_who_finds_no_room_is_told_without_whom_there_would_be_some(tell: Tell) -> None:
    machine = "artifacts: {acme/fast@main: {}, acme/slow@main: {}}\nhost: {memory: {budget: 40GiB}}\n"
    reason, hint = refusal(tell(HEAD + FAST + SLOW, machine))
    assert reason.startswith("slow needs")
    assert "without fast" in hint
    assert [action.kind for action in tell(HEAD + SLOW, machine).actions] == ["launch"]


def test_an_upper_bound_is_measured_before_anybody_is_refused(tell: Tell) -> None:
    machine = "artifacts: {acme/fast@main: {kv: 1000000, measurable: true}}\nhost: {memory: {budget: 64GiB}}\n"
    outcome = tell(HEAD + FAST, machine)
    first = outcome.steps[0].plan
    assert [(action.kind, action.subject) for action in first.actions] == [("ensure", "artifact/acme/fast@main")]
    assert {blocked.reference for blocked in first.blocked} == set()
    assert [waiting.reference for waiting in first.waiting] == ["waiting-for-artifact"]
    refusal(outcome)
    fits = tell(HEAD + FAST, machine.replace("64GiB", "1TiB"))
    assert [action.kind for action in fits.actions] == ["launch"]


def test_figures_say_whether_they_are_a_bound(tell: Tell) -> None:
    exact = MemoryNeed(weights=GIB, overhead=0, caches=(CacheCost(per_token=2**10, exact=True),), tokens=1024)
    assert "at most" not in memory.figures(exact)
    assert "at most" in memory.figures(need())
    assert "2 x 131072 tokens" in memory.figures(need())
