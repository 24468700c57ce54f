"""An action that changes nothing, or that cannot succeed, is not done for ever."""

from dataclasses import replace

from reconciler.engine.loop import Engine
from reconciler.model.cache_cost import CacheCost
from reconciler.model.desired import Desired, DesiredState, ModelSpec, Quantization, Source
from reconciler.model.event import EventKind
from reconciler.model.host import HostFile
from reconciler.model.ledger import EMPTY
from reconciler.model.observed import Artifact, Present
from reconciler.model.supply import ConvertOrder, RemoteFile, SourceCheck, VerifyOrder
from reconciler.planning import backoff
from reconciler.ports.errors import ActionError
from tests.world.drive import PATIENCE, Edit, Edited, Scenario, eyes, planner
from tests.world.script import Script
from tests.world.supply import Supply
from tests.world.truth import Truth
from tests.world.virtual_time import run
from tests.world.world import World

REFERENCE = "org/fast@main"
WEIGHTS = Artifact(identity="fast", path="/hub/fast", converted=True, weight_bytes=2**30, cache=CacheCost(per_token=1))


def declared(spec: ModelSpec | None) -> Desired:
    models = {"fast": spec} if spec is not None else {}
    return Desired(state=DesiredState(version=1, models=models), revision="worktree:0", templates={}, provenance={})


def scenario(spec: ModelSpec, here: Artifact, **more: object) -> Scenario:
    truth = Truth(artifacts={REFERENCE: Present(value=here)}, **more)  # type: ignore[arg-type]
    return Scenario(desired=declared(spec), host_file=HostFile(), truth=truth, script=Script())


class Idle(Supply):
    """It says that it has verified, and nothing is remembered of it."""

    times = 0

    async def verify(self, order: VerifyOrder) -> None:
        self.times += 1


class Hopeless(Supply):
    """A converter that cannot."""

    def __init__(self, world: World, permanent: bool) -> None:
        super().__init__(world)
        self.times, self._permanent = 0, permanent

    async def convert(self, order: ConvertOrder) -> None:
        self.times += 1
        raise ActionError("conversion-wrong", "that is not what was asked for", permanent=self._permanent)


def test_what_succeeds_and_changes_nothing_is_not_done_again_at_once() -> None:
    """A cache behind a link was verified 35 times a second for ever."""
    given = scenario(ModelSpec(source=Source(repo="org/fast"), port=8100), replace(WEIGHTS, unverified=10))
    world = given.world()
    supply = Idle(world)
    engine = Engine(eyes(replace(world.host(), supply=supply), given.host_file), planner(), Edited(given.wanted(world)))
    ending = run(engine.settle(world.now + PATIENCE), world.time)
    assert ending.settled
    assert supply.times <= 2
    assert {blocked.reference for blocked in ending.decision.plan.blocked} == {"no-progress"}


def test_a_conversion_that_can_only_fail_again_waits_for_a_person_and_not_for_a_clock() -> None:
    """A watch made the same wrong conversion every minute, which costs hours of a machine."""
    for permanent, most in ((True, 1), (False, 3)):
        spec = ModelSpec(source=Source(repo="org/fast"), port=8100, convert=Quantization(bits=4))
        given = scenario(spec, WEIGHTS)
        world = given.world()
        supply = Hopeless(world, permanent)
        host = replace(world.host(), supply=supply)
        for _ in range(4):
            engine = Engine(eyes(host, given.host_file), planner(), Edited(given.wanted(world)))
            ending = run(engine.settle(world.now + PATIENCE), world.time)
            assert {blocked.reference for blocked in ending.decision.plan.blocked} == {"conversion-wrong"}
            world.time.now += 3_600
        assert supply.times == most
        other = replace(given, desired=declared(replace(spec, convert=Quantization(bits=8))))
        engine = Engine(eyes(host, given.host_file), planner(), Edited(other.wanted(world)))
        run(engine.settle(world.now + PATIENCE), world.time)
        assert supply.times > most, "another recipe has a clean sheet"


def test_a_download_that_nobody_wants_any_more_is_told_as_cancelled() -> None:
    """Its last progress stayed in `status` as if it went on."""
    check = SourceCheck(at=0.0, commit="c1", files=(RemoteFile(name="model.safetensors", size=10),), converted=True)
    given = Scenario(
        desired=declared(ModelSpec(source=Source(repo="org/fast"), port=8100)),
        host_file=HostFile(),
        truth=Truth(offline=False),
        script=Script(durations=(50.0,)),
        edits=(Edit(after=130.0, desired=declared(None)),),
    )
    given.truth.store.hub[REFERENCE] = check
    world = given.world()
    engine = Engine(eyes(world.host(), given.host_file), planner(), Edited(given.wanted(world)))
    run(engine.settle(world.now + PATIENCE), world.time)
    told = [event for event in world.history if event.subject == f"artifact/{REFERENCE}"]
    assert (told[-1].kind, told[-1].reference) == (EventKind.DONE, "cancelled")


def test_weights_that_are_on_their_way_are_waited_for_beyond_the_deadline() -> None:
    """An `apply` would have cut off a long download after its thirty minutes."""
    check = SourceCheck(at=0.0, commit="c1", files=(RemoteFile(name="model.safetensors", size=10),), converted=True)
    given = Scenario(
        desired=declared(ModelSpec(source=Source(repo="org/fast"), port="none")),
        host_file=HostFile(),
        truth=Truth(offline=False),
        script=Script(durations=(500.0,)),
    )
    given.truth.store.hub[REFERENCE] = check
    world = given.world()
    engine = Engine(eyes(world.host(), given.host_file), planner(), Edited(given.wanted(world)))
    run(engine.settle(world.now + 1_200), world.time)
    assert isinstance(world.truth.artifacts[REFERENCE], Present)


def test_an_action_may_fail_a_million_times() -> None:
    """The interval was a power of two without end, which ended the loop after 1,026 failures."""
    ledger, failure = EMPTY, backoff.Failure(cause="volume-unmounted", error="gone", permanent=True)
    ledger = backoff.failed(ledger, "offload:artifact/x", "offload", failure, 0.0, 1.0)
    many = replace(ledger.attempts["offload:artifact/x"], count=1_000_000)
    ledger = replace(ledger, attempts={"offload:artifact/x": many})
    after = backoff.failed(ledger, "offload:artifact/x", "offload", failure, 0.0, 1.0)
    assert after.attempts["offload:artifact/x"].retry_at == backoff.CAP
