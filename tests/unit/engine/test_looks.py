"""What a running loop looks at after a hint: what that is about, and everything before it rests."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from reconciler.adapters.changes import first
from reconciler.engine.loop import RESYNC, Engine
from reconciler.engine.requests import Asked, Request
from reconciler.model.desired import Desired
from reconciler.model.event import EventKind
from reconciler.model.hint import FILES, Hint
from reconciler.model.observed import Artifact, Observation
from reconciler.model.problem import ExitCode, ReconcilerError
from reconciler.model.target import PreflightOrder
from reconciler.ports.host import Artifacts, Changes, Clock, Host, Machine
from tests.world.drive import Moment, eyes, followed, planner, watched
from tests.world.repository import Repository
from tests.world.script import Does, Event, Script
from tests.world.world import World

from .test_journal import of, scenario

REST = 300.0
"""Seconds from the start: everything has been at rest for minutes."""


class Hints:
    """Those of a world, and what else is said."""

    def __init__(self, world: Changes) -> None:
        self._world, self._said = world, asyncio.Queue[Hint]()

    def say(self, hint: Hint) -> None:
        self._said.put_nowait(hint)

    async def next(self) -> Hint:
        return await first(self._world.next, self._said.get)


class Seen:
    """Weights that note who looks at them."""

    def __init__(self, real: Artifacts, now: Callable[[], float]) -> None:
        self._real, self._now = real, now
        self.whole: list[float] = []
        """When all of them were looked at."""
        self.single: list[str] = []
        """What was looked at by itself."""
        self.storage, self.inventory = real.storage, real.inventory

    def look(self, references: Iterable[str]) -> Mapping[str, Observation[Artifact]]:
        self.whole.append(self._now())
        return self._real.look(references)

    def look_again(self, references: Iterable[str]) -> Mapping[str, Observation[Artifact]]:
        found = self._real.look_again(references)
        self.single += found
        return found


class Watch:
    """A watch of the commits of two models."""

    def __init__(self, *events: Event, host: Callable[[Host], Host] = lambda host: host, **script: Any) -> None:
        given = scenario(("deep", "fast"), Script(events=events, **script))
        self.desired = given.desired
        self.world: World = given.world()
        self.repository = Repository(ref="refs/heads/main")
        self.repository.commit("c1", given.desired)
        self.rules = "these"
        self.failed: list[str] = []
        ports = host(self.world.host())
        self.began = self.world.now
        self.seen = Seen(ports.artifacts, lambda: self.world.now - self.began)
        self.hints = Hints(ports.changes)
        self.engine = Engine(
            eyes(replace(ports, artifacts=self.seen, changes=self.hints), given.host_file),
            planner(),
            followed(self.repository, ports),
            failed=lambda error: self.failed.append(str(error)),
            rules=lambda: self.rules,
        )

    def until(self, end: float, *moments: Moment) -> None:
        """Let it run so many seconds; something else happens at the named ones."""
        watched(self.engine, self.world, end, *moments)
        assert self.failed == []

    def looks(self, since: float) -> list[float]:
        """When everything was looked at after this second."""
        return [at for at in self.seen.whole if at >= since]

    def restarting(self, label: str) -> Desired:
        """What is declared, with an option of one model changed."""
        models = dict(self.desired.state.models)
        models[label] = replace(models[label], options={"max_tokens": 9})
        return replace(self.desired, state=replace(self.desired.state, models=models))

    def moving(self, label: str, old: int, port: int) -> Desired:
        """What is declared, with one model at another port."""
        models = dict(self.desired.state.models)
        models[label] = replace(models[label], port=port, moved_from=old)
        return replace(self.desired, state=replace(self.desired.state, models=models))

    def files(self) -> None:
        """Something was written beside the desired file."""
        self.hints.say(FILES)


def test_what_is_written_beside_the_files_is_no_reason_to_look() -> None:
    """Forty servers were looked at twice for each of them: a third of a per cent of a processor, every five seconds."""
    watch = Watch()
    watch.until(REST + RESYNC, *((REST + n, watch.files) for n in range(60)))
    assert len(watch.looks(REST)) == 1, "the one that is due by itself"


class SetBack:
    """A clock that somebody sets back by an hour."""

    def __init__(self, real: Clock) -> None:
        self._real, self.by = real, 0.0
        self.jitter = real.jitter

    def now(self) -> float:
        return self._real.now() - self.by


def test_a_clock_that_is_set_back_does_not_put_off_the_look_at_everything() -> None:
    """With a file that was written beside the desired one it was an hour until the next look."""
    clocks: list[SetBack] = []

    def with_clock(host: Host) -> Host:
        clocks.append(SetBack(host.clock))
        return replace(host, clock=clocks[0])

    watch = Watch(host=with_clock)
    watch.until(REST + 600, (REST, lambda: setattr(clocks[0], "by", 3_600.0)), (REST + 1, watch.files))
    looks = [REST, *watch.looks(REST), REST + 600]
    assert max(after - before for before, after in pairwise(looks)) <= RESYNC


def test_what_a_person_says_at_the_moment_of_such_a_hint_is_heard() -> None:
    """The hint was found to mean nothing, and what was said with it waited for a minute."""
    watch = Watch()

    def both() -> None:
        watch.files()
        watch.engine.request()

    watch.until(REST + 20, (REST, both))
    assert watch.looks(REST)[0] == REST


def settled(watch: Watch, *moments: Moment) -> float:
    """When a change that is committed at REST is done, while other things happen."""

    def restarted() -> None:
        watch.repository.commit("c2", watch.restarting("fast"))
        watch.files()

    watch.until(REST + 50, (REST, restarted), *moments)
    return of(watch.world.history, EventKind.SETTLED)[-1].at - watch.began


def test_a_job_that_ends_at_the_moment_of_such_a_hint_is_taken_up() -> None:
    calm, beset = Watch(durations=(1,)), Watch(durations=(1,))
    assert settled(calm) >= settled(beset, *((REST + n / 2, beset.files) for n in range(1, 40)))


def test_hints_do_not_put_off_the_look_at_everything() -> None:
    watch = Watch()
    watch.until(REST + 600, *((REST + 5 * n, watch.files) for n in range(120)))
    looks = [REST, *watch.looks(REST), REST + 600]
    assert max(after - before for before, after in pairwise(looks)) <= RESYNC


@pytest.mark.parametrize("what", ["commit", "uncommitted", "unreadable", "gateway", "rules"])
def test_what_is_written_where_it_counts_is_looked_at(what: str) -> None:
    watch = Watch()
    [kept] = watch.world.truth.gateways.values()
    lost = ReconcilerError("desired-file-missing", "there is no file", hint="", code=ExitCode.INVALID)

    def happens() -> None:
        match what:
            case "commit":
                watch.repository.commit("c2", watch.desired)
            case "uncommitted":
                watch.repository.uncommitted = ("ensemble.yaml",)
            case "unreadable":
                watch.repository.unreadable = lost
            case "gateway":
                kept.routes = ()
            case _:
                watch.rules = "others"
        watch.files()

    watch.until(REST + 20, (REST, happens))
    assert watch.looks(REST)[0] == REST
    references = {event.reference for event in watch.world.history[-4:]}
    assert references & {"revision", "uncommitted-edits", "desired-file-missing", "routes-differ", "other-rules"}
    assert watch.world.truth.gateways["litellm"].routes != ()


def test_a_refused_revision_is_looked_at_again_at_every_hint() -> None:
    """What stands against it may have passed, and nothing of that needs to be in the files that are compared."""
    watch = Watch()

    def refused() -> None:
        watch.repository.untrusted.add("c2")
        watch.repository.commit("c2", watch.desired)
        watch.files()

    watch.until(REST + 20, (REST, refused), (REST + 10, watch.files))
    assert REST + 10 in watch.looks(REST + 10)


def test_what_a_job_has_touched_is_looked_at_and_everything_before_the_rest() -> None:
    watch = Watch()

    def commit() -> None:
        watch.repository.commit("c2", watch.restarting("fast"))
        watch.files()

    watch.until(REST + 30, (REST, commit))
    begun = {request.kind for request in watch.world.requests if request.at >= watch.began + REST}
    assert begun == {"preflight", "publish", "stop", "launch"}
    assert set(watch.seen.single) == {"org/fast@main"}
    settled = of(watch.world.history, EventKind.SETTLED)[-1].at - watch.began
    assert watch.looks(settled)[:2] == [settled, settled], "twice, and each time at everything"


def test_what_nobody_told_of_during_a_change_is_found_before_the_rest() -> None:
    """A server that ends without a hint while another one is being moved."""
    watch = Watch()

    def both() -> None:
        watch.world.script = replace(watch.world.script, hints=False)
        watch.repository.commit("c2", watch.restarting("fast"))
        watch.files()
        server = watch.world.truth.records["deep"].server
        assert server is not None
        server.dies_at = watch.world.now + 1 / 8

    watch.until(REST + 20, (REST, both))
    launched = [r.subject for r in watch.world.requests if r.kind == "launch" and r.at > watch.began + REST]
    assert sorted(launched) == ["server/deep", "server/fast"]


def test_the_end_of_a_server_that_is_being_stopped_is_no_reason_to_look() -> None:
    watch = Watch()

    def stop() -> None:
        watch.engine.ask(Request(do=Asked.STOP, labels=("fast",), reason="lunch"))

    before = len(watch.seen.whole)
    watch.until(REST + 30, (REST, stop))
    assert before < len(watch.seen.whole)
    assert "fast" not in watch.world.truth.records
    assert watch.world.ledger.attempts == {}


def test_a_death_during_a_storm_of_hints_is_answered() -> None:
    death = REST + 10.5
    watch = Watch(Event(after=death, does=Does.DIE, label="fast"))
    watch.until(REST + 30, *((REST + n / 4, watch.files) for n in range(100)))
    [launch] = [r for r in watch.world.requests if r.kind == "launch" and r.at > watch.began + REST]
    assert launch.at == watch.began + death


class Slow:
    """A machine on which a preflight takes minutes."""

    def __init__(self, real: Machine) -> None:
        self.look = real.look

    async def preflight(self, order: PreflightOrder) -> None:
        await asyncio.sleep(200)


def test_a_death_while_a_successor_is_tried_out_is_answered_at_once() -> None:
    """The preflight is a job on the same server, and says nothing of its process: it stayed down for a minute."""
    death = REST + 10
    watch = Watch(
        Event(after=death, does=Does.DIE, label="fast"), host=lambda host: replace(host, machine=Slow(host.machine))
    )

    def commit() -> None:
        watch.repository.commit("c2", watch.restarting("fast"))
        watch.files()

    watch.until(REST + 30, (REST, commit))
    begun = [(r.kind, r.at - watch.began) for r in watch.world.requests if r.at > watch.began + REST]
    assert begun[:2] == [("publish", death), ("launch", death)]


@pytest.mark.parametrize("lost", ["weights", "port"])
def test_nothing_is_stopped_for_a_successor_whose_weights_or_port_have_gone_a_moment_ago(lost: str) -> None:
    """The stop rested on the look before the route was withdrawn, and the old server was gone for nothing."""
    moment = REST + 1 / 2
    event = (
        Event(after=moment, does=Does.LOSE, reference="org/fast@main")
        if lost == "weights"
        else Event(after=moment, does=Does.OCCUPY, port=8109)
    )
    watch = Watch(event, durations=(1 / 8,))

    def commit() -> None:
        watch.world.script = replace(watch.world.script, hints=False)
        watch.repository.commit(
            "c2", watch.restarting("fast") if lost == "weights" else watch.moving("fast", 8101, 8109)
        )
        watch.files()

    watch.until(REST + 30, (REST, commit))
    kinds = [r.kind for r in watch.world.requests if r.at > watch.began + REST]
    assert "publish" in kinds, "it was about to be stopped"
    assert "stop" not in kinds
    assert watch.world.truth.records["fast"].live(watch.world.now)
