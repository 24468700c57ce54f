"""A host file that changes under a loop, and what a person has said of a label that is not declared for a while."""

from dataclasses import replace

import pytest

from reconciler.engine.loop import Engine
from reconciler.engine.requests import Asked, Request
from reconciler.engine.rules import Rules
from reconciler.model.event import EventKind
from reconciler.model.ledger import Suspension
from reconciler.model.problem import ExitCode, ReconcilerError
from tests.world.drive import PATIENCE, Edited, Scenario, eyes, planner
from tests.world.virtual_time import run

from .test_journal import of, scenario, settle


class Digest:
    """Of a host file that somebody edits."""

    def __init__(self, now: str) -> None:
        self.now = now

    def __call__(self) -> str:
        if not self.now:
            raise ReconcilerError("host-file-untrusted", "others can write it", hint="", code=ExitCode.ENVIRONMENT)
        return self.now


@pytest.mark.parametrize("after", ["other", ""], ids=["another", "refused"])
def test_a_host_file_that_has_changed_is_told_once_and_again_when_it_changes_again(after: str) -> None:
    given, digest = scenario(), Digest("first")
    world = given.world()
    engine = Engine(eyes(world.host(), given.host_file), planner(), Edited(given.wanted(world)), rules=digest)

    def told() -> list[str]:
        run(engine.settle(world.now + PATIENCE), world.time)
        return [str(event.subject) for event in world.history if event.reference == "other-rules"]

    assert told() == []
    digest.now = after
    assert told() == ["ensemble"]
    assert told() == ["ensemble"], "it was told"
    digest.now = "first"
    assert told() == ["ensemble"], "it is the old one again"
    digest.now = after
    assert told() == ["ensemble", "ensemble"]
    assert world.ledger.rules == "first", "what it is kept by"


def test_a_host_file_that_changes_while_a_look_is_saved_is_told_by_the_next_one() -> None:
    digest = Digest("first")
    rules = Rules(digest)
    assert rules.news(1.0, "r") == ()
    digest.now = "other"
    rules.told()
    assert [event.reference for event in rules.news(2.0, "r")] == ["other-rules"]


def test_a_loop_that_begins_with_another_host_file_tells_nothing() -> None:
    given = scenario()
    world = given.world()
    for name in ("first", "other"):
        engine = Engine(eyes(world.host(), given.host_file), planner(), Edited(given.wanted(world)), rules=Digest(name))
        run(engine.settle(world.now + PATIENCE), world.time)
        assert world.ledger.rules == name
    assert not [event for event in world.history if event.reference == "other-rules"]


# --------------------------------------------------------------------------------------------------------- suspensions


def without_fast(given: Scenario) -> Scenario:
    models = {"deep": given.desired.state.models["deep"]}
    state = replace(given.desired.state, models=models)
    return replace(given, desired=replace(given.desired, state=state, revision="worktree:1"))


def test_a_suspension_is_not_lost_by_a_revision_without_its_label() -> None:
    given = scenario(["deep", "fast"])
    world = given.world()
    settle(given, world)
    settle(given, world, Request(do=Asked.STOP, labels=("fast",), reason="lunch").change)
    before = len(world.history)
    settle(without_fast(given), world)
    settle(given, world)
    assert world.ledger.suspensions["fast"].reason == "lunch"
    assert "fast" not in world.truth.records, "nobody has said start"
    assert of(world.history[before:], EventKind.RESUMED) == []


def test_a_suspension_that_nothing_can_bring_back_is_said_to_be_forgotten() -> None:
    given = scenario(["deep", "fast"])
    world = given.world()
    settle(given, world)
    settle(given, world, Request(do=Asked.STOP, labels=("fast",), reason="lunch").change)
    settle(without_fast(given), world)
    before = len(world.history)
    later = tuple(g for g in world.ledger.generations if "fast" not in g.labels)
    world.truth.ledger = replace(world.ledger, generations=later)
    settle(without_fast(given), world)
    assert "fast" not in world.ledger.suspensions
    [event] = of(world.history[before:], EventKind.RESUMED)
    assert (event.subject, event.reference) == ("server/fast", "forgotten")


def test_a_suspension_with_an_end_stays_until_then_whatever_is_declared() -> None:
    given = scenario(["deep"])
    world = given.world()
    settle(given, world)
    end = world.now + 10 * PATIENCE
    said = Suspension(since=world.now, reason="lunch", until=end)
    world.truth.ledger = replace(world.ledger, suspensions={"fast": said})
    settle(given, world)
    assert world.ledger.suspensions == {"fast": said}
