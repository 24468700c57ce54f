"""A state that cannot be saved, and a look that fails: the loop goes on, and what people said is not lost."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from reconciler.desired.canonical import restored
from reconciler.engine.loop import Engine, Tick
from reconciler.engine.requests import Asked, Request
from reconciler.model.event import Event, EventKind
from reconciler.model.ledger import Ledger
from reconciler.model.names import ENSEMBLE
from reconciler.model.problem import ExitCode, ReconcilerError
from reconciler.ports.host import NO_CONTENTS, StateStore
from tests.world.drive import PATIENCE, Edited, eyes, planner
from tests.world.virtual_time import run

from .test_journal import of, scenario, settle


class Failing:
    """A state directory that refuses so many saves."""

    def __init__(self, real: StateStore, times: int) -> None:
        self._real = real
        self.left = times

    def ledger(self) -> Ledger:
        return self._real.ledger()

    def events(self, after: int = 0, last: int = 10_000) -> tuple[Event, ...]:
        return self._real.events(after, last)

    def content(self, digest: str) -> bytes | None:
        return self._real.content(digest)

    def save(
        self, ledger: Ledger, events: Sequence[Event] = (), contents: Mapping[str, bytes] = NO_CONTENTS
    ) -> tuple[Event, ...]:
        if self.left:
            self.left -= 1
            raise ReconcilerError("state-unavailable", "the disk is full", hint="free some", code=ExitCode.ENVIRONMENT)
        return self._real.save(ledger, events, contents)

    def rest(self) -> None:
        self._real.rest()


def test_a_request_outlives_a_save_that_failed() -> None:
    given = scenario()
    world = given.world()
    settle(given, world)
    before = len(world.history)
    state = Failing(world.host().state, times=3)
    failed: list[Exception] = []
    settled = asyncio.Event()

    def told(tick: Tick) -> None:
        if tick.steady:
            settled.set()

    engine = Engine(
        eyes(replace(world.host(), state=state), given.host_file),
        planner(),
        Edited(given.wanted(world)),
        told,
        failed.append,
    )
    engine.request(Request(do=Asked.STOP, labels=("fast",), reason="lunch").change)

    async def main() -> None:
        loop = asyncio.create_task(engine.run())
        await settled.wait()
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)

    run(main(), world.time)
    world.verify()
    assert [str(error) for error in failed] == ["the disk is full"] * 3
    assert world.ledger.suspensions["fast"].reason == "lunch"
    assert "fast" not in world.truth.records
    assert len(of(world.history[before:], EventKind.SUSPENDED)) == 1


def test_what_comes_in_force_is_kept_although_a_request_was_saved_before_it() -> None:
    given = scenario()
    world = given.world()
    state = Failing(world.host().state, times=1)
    engine = Engine(eyes(replace(world.host(), state=state), given.host_file), planner(), Edited(given.wanted(world)))

    async def main() -> None:
        with pytest.raises(ReconcilerError):
            engine.tick()
        engine.request(Request(do=Asked.STOP, labels=("fast",), reason="lunch").change)
        engine.tick()

    run(main(), world.time)
    world.verify()
    content = state.content(world.ledger.generations[0].content)
    assert content is not None
    assert restored(content, given.desired.revision) == given.desired


def test_who_is_no_longer_declared_is_not_said_to_run_again() -> None:
    """What a person has said stays; nobody has started it, and no time was over."""
    given = scenario(["deep", "fast"])
    world = given.world()
    settle(given, world)
    settle(given, world, Request(do=Asked.STOP, labels=("fast",), reason="lunch").change)
    models = {"deep": given.desired.state.models["deep"]}
    without = replace(given.desired, state=replace(given.desired.state, models=models), revision="worktree:1")
    before = len(world.history)
    settle(replace(given, desired=without), world)
    assert world.ledger.suspensions["fast"].reason == "lunch"
    assert of(world.history[before:], EventKind.RESUMED) == []


class Illegible(Failing):
    """A state directory of which nothing can be read until it has been saved anew."""

    def content(self, digest: str) -> bytes | None:
        if self.left:
            raise ReconcilerError("state-corrupt", "it is damaged", hint="save it", code=ExitCode.ENVIRONMENT)
        return super().content(digest)

    def save(
        self, ledger: Ledger, events: Sequence[Event] = (), contents: Mapping[str, bytes] = NO_CONTENTS
    ) -> tuple[Event, ...]:
        self.left = 0
        return super().save(ledger, events, contents)


def test_a_database_that_cannot_be_read_is_mended_by_the_next_save() -> None:
    """Every look ended at the first thing that it read, so that no save ever came."""
    given = scenario()
    world = given.world()
    settle(given, world)
    state = Illegible(world.host().state, times=0)
    engine = Engine(eyes(replace(world.host(), state=state), given.host_file), planner(), Edited(given.wanted(world)))

    async def main() -> None:
        engine.tick()
        state.left = 1
        world.truth.records["fast"].doubt = "whose it is cannot be told"
        engine.tick()

    before = len(world.history)
    run(main(), world.time)
    assert state.left == 0
    assert [event.reference for event in of(world.history[before:], EventKind.BLOCKED)] == ["proof-failed"]


class Renewed(Failing):
    """A state directory that was damaged and is written anew by the next save, which says so."""

    renewed = Event(at=1.0, kind=EventKind.FAILED, subject=ENSEMBLE, text="it was damaged", reference="state-damaged")

    def save(
        self, ledger: Ledger, events: Sequence[Event] = (), contents: Mapping[str, bytes] = NO_CONTENTS
    ) -> tuple[Event, ...]:
        super().save(ledger, (*events, self.renewed), contents)
        return (self.renewed,)


def test_what_happened_to_the_state_directory_is_told_once_by_whoever_saved() -> None:
    given = scenario()
    world = given.world()
    told: list[Event] = []
    host = replace(world.host(), state=Renewed(world.host().state, times=0))
    engine = Engine(
        eyes(host, given.host_file),
        planner(),
        Edited(given.wanted(world)),
        lambda tick: told.extend(tick.events),
    )
    run(engine.settle(world.now + PATIENCE), world.time)
    assert [replace(event, number=0) for event in world.history] == told
    assert Renewed.renewed in told
