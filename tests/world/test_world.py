"""The world notices what it is there to notice, and its time is its own."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from reconciler.desired.canonical import restored
from reconciler.model.desired import Desired, DesiredState, ModelSpec, Source
from reconciler.model.generation import Generation
from reconciler.model.host import HostFile, Memory
from reconciler.model.ledger import EMPTY
from reconciler.model.observed import Artifact, Listener, Present, ServerProcess, Standing
from reconciler.model.routes import Route, Upstream
from reconciler.model.target import LaunchOrder
from reconciler.ports.errors import ActionError

from .drive import Scenario, apply
from .rules import Violated
from .script import Fault, Script
from .truth import Binding, Gateway, Record, Truth
from .virtual_time import EPOCH, Killed, Stalled, VirtualTime, run
from .world import World

ORDER = LaunchOrder(
    label="fast",
    port=8100,
    host="127.0.0.1",
    argv=("serve", "--model=/hub/fast"),
    env={},
    files={},
    spec_hash="0" * 12,
    fields={},
    artifact="fast#1",
    served_name="default_model",
    memory=2**30,
    revision="worktree:0",
    generation=1,
)
ROUTE = Route(
    label="fast", upstream=Upstream(host="127.0.0.1", port=8100, served_name="default_model"), request_params={}
)


def world(*faults: Fault, budget: str = "4GiB") -> World:
    """One model, complete and not running, and a gateway with an empty file."""
    artifact = Artifact(identity="fast#1", path="/hub/fast", converted=True)
    truth = Truth(artifacts={"org/fast@main": Present(value=artifact)}, gateways={"litellm": Gateway(routes=())})
    return World(truth, HostFile(memory=Memory(budget=budget)), Script(starts=(0.0,), faults=faults))


def launched(*faults: Fault) -> World:
    """The model runs, and was proved."""
    made = world(None, *faults)  # type: ignore[arg-type]
    run(made.host().processes.launch(ORDER), made.time)
    return made


def process(made: World) -> ServerProcess:
    return made.host().processes.records({})["fast"]


def taken(made: World) -> World:
    made.truth.foreign[8100] = Listener(port=8100, pid=4711)
    return made


def held_back(made: World) -> World:
    made.truth.unseen.add(8100)
    return made


def promised(made: World) -> World:
    made.truth.gateways["litellm"].draining = {Binding(label="other", port=8100): EPOCH + 60}
    return made


@pytest.mark.parametrize(
    ("prepare", "rule"),
    [
        (lambda: taken(world()), "launch-on-foreign-port"),
        (lambda: held_back(world()), "launch-on-unseen-port"),
        (lambda: world(budget="1MiB"), "over-the-budget"),
        (lambda: promised(world()), "wrong-model"),
        (launched, "launch-of-live"),
    ],
)
def test_a_launch_that_must_not_be_is_noticed(prepare: Callable[[], World], rule: str) -> None:
    made = prepare()
    with pytest.raises(Violated, match=rule):
        run(made.host().processes.launch(ORDER), made.time)
    with pytest.raises(AssertionError, match=rule):
        made.verify()


def routed(made: World) -> None:
    made.truth.gateways["litellm"].routes = (ROUTE,)


def draining(made: World) -> None:
    made.truth.gateways["litellm"].draining = {Binding(label="fast", port=8100): made.now + 60}


def sealed(made: World) -> None:
    made.truth.gateways["litellm"].unreadable = "permission denied"


def doubted(made: World) -> None:
    made.truth.records["fast"].doubt = "its token contradicts its record"


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (routed, "stop-while-routed"),
        (draining, "stop-while-routed"),
        (sealed, "stop-unseen"),
        (doubted, "signal-to-foreign"),
    ],
)
def test_a_stop_that_must_not_be_is_noticed(spoil: Callable[[World], None], rule: str) -> None:
    made = launched()
    before = process(made)
    spoil(made)
    with pytest.raises(Violated, match=rule):
        run(made.host().processes.stop(before), made.time)
    assert made.truth.records["fast"].live(made.now)


def test_a_route_to_nowhere_is_noticed() -> None:
    made = world()
    with pytest.raises(Violated, match="route-to-nowhere"):
        run(made.host().gateways.publish("litellm", (ROUTE,)), made.time)


def test_a_claim_of_what_is_no_orphan_is_noticed() -> None:
    made = launched()
    with pytest.raises(Violated, match="claim-of-foreign"):
        run(made.host().processes.adopt(process(made)), made.time)


def test_what_comes_in_force_without_its_content_is_noticed() -> None:
    entered = replace(EMPTY, generations=(Generation(number=1, at=EPOCH, revision="r", content="0" * 64),))
    made = world()
    with pytest.raises(Violated, match="content-not-kept"):
        made.host().state.save(entered)
    assert made.ledger == EMPTY
    made.host().state.save(entered, contents={"0" * 64: b"any"})
    made.host().state.save(entered)
    assert made.ledger == entered


def test_a_violation_gets_past_jobs_that_own_their_exceptions() -> None:
    assert not issubclass(Violated, Exception)
    assert issubclass(Violated, BaseException)


@pytest.mark.parametrize("fault", [Fault.FAIL, Fault.HALF, Fault.LOST])
def test_a_fault_is_an_error_with_or_without_its_effect(fault: Fault) -> None:
    made = world(fault)
    with pytest.raises(ActionError):
        run(made.host().processes.launch(ORDER), made.time)
    standings = {Fault.FAIL: None, Fault.HALF: Standing.ORPHAN, Fault.LOST: Standing.OURS}
    record: Record | None = made.truth.records.get("fast")
    assert (record.standing(made.now) if record else None) == standings[fault]


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.MUTE])
def test_a_request_that_never_answers_ends_at_its_deadline(fault: Fault) -> None:
    made = world(fault)

    async def patient() -> None:
        async with asyncio.timeout(60):
            await made.host().processes.launch(ORDER)

    with pytest.raises(TimeoutError):
        run(patient(), made.time)
    assert made.now == EPOCH + 60
    assert ("fast" in made.truth.records) == (fault is Fault.MUTE)


def test_hours_take_no_time() -> None:
    clock, began = VirtualTime(), time.perf_counter()
    run(asyncio.sleep(24 * 3600), clock)
    assert clock.now == EPOCH + 24 * 3600
    assert time.perf_counter() - began < 5


def test_a_run_that_waits_for_nothing_is_told_so() -> None:
    with pytest.raises(Stalled):
        run(asyncio.Event().wait(), VirtualTime())


def test_a_run_can_be_cut_off_anywhere() -> None:
    clock = VirtualTime()

    async def steps() -> None:
        for _ in range(100):
            await asyncio.sleep(1)

    with pytest.raises(Killed):
        run(steps(), clock, kill_after=10)
    assert clock.now < EPOCH + 10


REMEMBERED = ("proved", "proofs", "launched", "leases", "artifacts", "generations", "current")


def test_a_started_world_serves() -> None:
    models = {"fast": ModelSpec(source=Source(repo="org/fast"), port=8100)}
    state = DesiredState(version=1, ports={"team": "8100-8119"}, models=models)
    truth = Truth(
        artifacts={"org/fast@main": Present(value=Artifact(identity="fast#1", path="/hub/fast", converted=True))}
    )
    desired = Desired(state=state, revision="worktree:0", templates={}, provenance={})
    ended = apply(Scenario(desired=desired, host_file=HostFile(), truth=truth))
    assert [request.kind for request in ended.world.requests] == ["launch"]
    assert ended.world.ledger.proved == {"fast"}
    (generation,) = ended.world.ledger.generations
    assert [*generation.servers] == ["fast"]
    assert restored(ended.world.truth.contents[generation.content], "worktree:0") == desired
    assert replace(ended.world.ledger, **{f: getattr(EMPTY, f) for f in REMEMBERED}) == EMPTY
