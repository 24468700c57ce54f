"""A server that served and dies under a watch: started before the whole look, counted once, told once."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from reconciler.engine.loop import Engine, Tick
from reconciler.engine.requests import Asked, Request
from reconciler.model.event import EventKind
from reconciler.model.observed import Absent
from reconciler.model.target import LaunchOrder
from reconciler.ports.host import Host, Processes
from tests.world.drive import Edited, Moment, eyes, planner, watched
from tests.world.script import Does, Event, Script
from tests.world.world import World

from .test_failed_saves import Failing
from .test_journal import of, scenario

DEATH = 300.0
"""Seconds from the start: everything has been at rest for minutes."""
END = 600.0


class Watch:
    """A watch of two servers, one of which dies."""

    def __init__(self, host: Callable[[Host], Host] = lambda host: host, deaths: tuple[float, ...] = (DEATH,)) -> None:
        events = tuple(Event(after=after, does=Does.DIE, label="fast") for after in deaths)
        given = scenario(("deep", "fast"), Script(events=events))
        self.world: World = given.world()
        self.failed: list[str] = []
        self.ticks: list[Tick] = []
        self.engine = Engine(
            eyes(host(self.world.host()), given.host_file),
            planner(),
            Edited(given.wanted(self.world)),
            self.ticks.append,
            lambda error: self.failed.append(str(error)),
        )

    def until(self, *moments: Moment) -> None:
        """Let it run to the end; something else happens at the named seconds."""
        watched(self.engine, self.world, END, *moments)

    def begun(self, kind: str, label: str = "fast") -> list[float]:
        """Seconds after which requests of a kind were begun for a server."""
        began = self.world.now - END
        found = [request for request in self.world.requests if request.kind == kind and label in request.subject]
        return [request.at - began for request in found]


def test_it_is_started_at_the_moment_of_its_death() -> None:
    watch = Watch()
    watch.until()
    assert watch.begun("launch")[1:] == [DEATH]
    assert watch.world.truth.records["fast"].live(watch.world.now)
    assert watch.failed == []


def test_its_death_is_counted_once_and_what_is_begun_is_told_once() -> None:
    watch = Watch()
    watch.until()
    assert watch.world.ledger.attempts["fast"].count == 1
    history = watch.world.history
    assert [event.subject for event in of(history, EventKind.FAILED)] == ["server/fast"]
    told = Counter((event.subject, event.action) for event in of(history, EventKind.STARTED))
    begun = Counter((request.subject, request.kind) for request in watch.world.requests)
    assert told == begun
    assert [event for tick in watch.ticks for event in tick.events] == [replace(e, number=0) for e in history]


def test_the_second_death_waits_for_its_turn() -> None:
    watch = Watch(deaths=(DEATH, DEATH + 60))
    watch.until()
    first, second, third = watch.begun("launch")
    assert (second, watch.world.ledger.attempts["fast"].count) == (DEATH, 2)
    assert third >= DEATH + 60
    assert first < DEATH


def test_without_its_weights_it_is_not_started() -> None:
    """It was launched on what the last look had seen, failed for good, and stayed down after the weights were back."""
    watch = Watch()
    world = watch.world
    lost = dict(world.truth.artifacts)

    def gone() -> None:
        world.truth.artifacts.update(dict.fromkeys(lost, Absent()))

    def back() -> None:
        world.truth.artifacts.update(lost)
        watch.engine.request()

    watch.until((DEATH - 1, gone), (DEATH + 100, back))
    assert watch.begun("launch")[1:] == [DEATH + 100]
    assert world.truth.records["fast"].live(world.now)


def test_a_death_outlives_a_save_that_failed() -> None:
    """The record of the dead one is replaced by then, so that nothing else would have told of it."""
    states: list[Failing] = []

    def failing(host: Host) -> Host:
        states.append(Failing(host.state, times=0))
        return replace(host, state=states[0])

    watch = Watch(failing)
    watch.until((DEATH - 1, lambda: setattr(states[0], "left", 2)))
    assert watch.failed == ["the disk is full"]
    assert watch.begun("launch")[1:] == [DEATH]
    assert watch.world.ledger.attempts["fast"].count == 1
    assert len(of(watch.world.history, EventKind.FAILED)) == 1


class Interrupted:
    """Processes during whose second launch a person says stop."""

    def __init__(self, real: Processes, say: Callable[[], None]) -> None:
        self._real, self._say = real, say
        self.launches = 0
        self.records, self.record = real.records, real.record
        self.stop, self.adopt, self.forget = real.stop, real.adopt, real.forget

    async def launch(self, order: LaunchOrder) -> None:
        self.launches += order.label == "fast"
        if self.launches > 1:
            self._say()
        await self._real.launch(order)


def test_what_a_person_says_meanwhile_is_not_passed_over() -> None:
    said: list[int] = []

    def stop() -> None:
        if not said:
            said.append(len(watch.ticks))
            watch.engine.request(Request(do=Asked.STOP, labels=("fast",), reason="lunch").change)

    watch = Watch(lambda host: replace(host, processes=Interrupted(host.processes, stop)))
    watch.until()
    assert "fast" not in watch.world.truth.records
    assert watch.ticks[said[0]].decision.ledger.suspensions["fast"].reason == "lunch"
    assert watch.world.ledger.attempts["fast"].count == 1
    assert len(of(watch.world.history, EventKind.FAILED)) == 1
