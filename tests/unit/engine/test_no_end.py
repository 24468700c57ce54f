"""What fails around the loop ends no watch and holds up no server: listeners, hints, a forecast without an end."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from reconciler.engine.declared import Fixed, Reading
from reconciler.engine.loop import Engine, Tick
from reconciler.model.desired import ModelSpec, Source
from reconciler.model.hint import Hint
from reconciler.model.ledger import Ledger
from reconciler.model.observed import Artifact, Present
from reconciler.model.source import Mode, SourceRecord
from reconciler.planning.forecast import NotConvergent
from reconciler.planning.plan import Decision, Planner
from reconciler.ports.host import Host
from tests.world.drive import PATIENCE, Edited, Scenario, eyes, planner
from tests.world.script import Does, Event, Script
from tests.world.virtual_time import run
from tests.world.world import World

from .test_journal import scenario


def watched(
    given: Scenario, told: Callable[[Tick], None] = lambda tick: None, host: Callable[[Host], Host] = lambda host: host
) -> tuple[World, list[str]]:
    """A watch until the first server is proved and nothing more is to do, and what failed meanwhile."""
    world, failed, settled = given.world(), list[str](), asyncio.Event()

    def heard(tick: Tick) -> None:
        if tick.steady and world.truth.records:
            settled.set()
        told(tick)

    engine = Engine(
        eyes(host(world.host()), given.host_file),
        planner(),
        Edited(given.wanted(world)),
        heard,
        lambda error: failed.append(str(error)),
    )

    async def main() -> None:
        watch = asyncio.create_task(engine.run())
        ended = asyncio.create_task(settled.wait())
        await asyncio.wait({watch, ended}, return_when=asyncio.FIRST_COMPLETED)
        assert not watch.done(), watch.exception()
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)

    run(main(), world.time)
    world.verify()
    return world, failed


def test_who_cannot_be_told_does_not_make_the_loop_limp() -> None:
    """A closed stdout counted as a look that failed: five seconds of rest after everything that happened."""

    def deaf(tick: Tick) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    calm, _ = watched(scenario())
    world, failed = watched(scenario(), deaf)
    assert set(failed) == {"[Errno 32] Broken pipe"}
    assert world.now == calm.now, "it was done as soon as ever"


class Broken:
    """Hints that come to nothing."""

    async def next(self) -> Hint:
        raise RuntimeError("too many open files")


def test_a_hint_that_fails_does_not_end_the_watch() -> None:
    world, failed = watched(scenario(), host=lambda host: replace(host, changes=Broken()))
    assert set(failed) == {"too many open files"}
    assert world.truth.records["fast"].live(world.now)


def test_a_port_that_its_owner_gives_back_is_noticed_before_the_next_resync() -> None:
    """Nobody tells that a stranger's port is free; it took up to a minute."""
    vacated = 603.0
    happens = (Event(after=0.0, does=Does.OCCUPY, port=8100), Event(after=vacated, does=Does.VACATE, port=8100))
    given = scenario(script=Script(events=happens, hints=False))
    began = given.world().now
    world, failed = watched(given)
    assert failed == []
    [launch] = [request for request in world.requests if request.kind == "launch"]
    assert launch.at - began <= vacated + 5


class Endless(Planner):
    """A planner with a bug: what follows from anything has no end."""

    def decide(self, *args: Any, **kwargs: Any) -> Decision:
        if args[0].foreseen:
            raise NotConvergent("no end after 40 ticks")
        return super().decide(*args, **kwargs)


class Returning(Fixed):
    """A desired state after which an earlier one may be brought back by itself, as under a watch."""

    def read(self, now: float, ledger: Ledger) -> Reading:
        return replace(super().read(now, ledger), returns=True)


def test_a_return_that_cannot_be_foreseen_is_not_made_and_ends_nothing() -> None:
    """One commit with a model that dies ended the watch, and each one that a service manager started after it."""
    given = scenario(script=Script(duds={"fast org/broken@main": 1.0}))
    given.truth.artifacts["org/broken@main"] = Present(value=Artifact(identity="b", path="/hub/b", converted=True))
    models = {"fast": ModelSpec(source=Source(repo="org/broken"), port=8100)}
    bad = replace(given.desired, state=replace(given.desired.state, models=models), revision="c2")
    world, plans = given.world(), Endless(planner().backends, planner().verbs)
    for desired in (replace(given.desired, revision="c1"), bad):
        record = SourceRecord(
            mode=Mode.COMMIT, place="/repo/e.yaml", ref="refs/heads/main", revision=desired.revision, content=""
        )
        engine = Engine(eyes(world.host(), given.host_file), plans, Returning(desired, record))
        ending = run(engine.settle(world.now + PATIENCE), world.time)
    world.verify()
    assert ending.decision.view.facts.desired.revision == "c2"
    assert [blocked.reference for blocked in ending.decision.plan.blocked] == ["crash-loop"]
    newest, before = world.ledger.generations
    assert newest.failed.endswith(f"generation {before.number} does not fit: no end after 40 ticks")
    assert world.ledger.pin is None
