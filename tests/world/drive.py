"""Runs of the engine on a world: to the end, or cut off anywhere and begun again."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from reconciler.engine.declared import Followed, Following, Reading
from reconciler.engine.loop import Ending, Engine
from reconciler.model.desired import Desired
from reconciler.model.host import HostFile
from reconciler.model.ledger import Ledger
from reconciler.model.names import Subject
from reconciler.model.observed import Health, ObservedState, Present
from reconciler.model.plan import Plan
from reconciler.model.source import Mode
from reconciler.model.view import Facts
from reconciler.observing.observe import observe
from reconciler.observing.observer import Observer
from reconciler.planning.forecast import Forecast, forecast
from reconciler.planning.plan import Decision, Planner
from reconciler.plugins import installed_backends, installed_verbs
from reconciler.ports.host import Host

from .describe import describe
from .repository import Repository
from .rules import Violated
from .script import Script
from .truth import Truth
from .virtual_time import Killed, run
from .world import World

PATIENCE: Final = 6 * 3600.0
"""Seconds of virtual time in which every world comes to rest once nothing disturbs it."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """The desired state becomes another one, `after` seconds from the start."""

    after: float
    desired: Desired


@dataclass(frozen=True, kw_only=True, repr=False)
class Scenario:
    """Everything that a run depends on; two runs of one scenario are the same run."""

    desired: Desired
    host_file: HostFile
    truth: Truth
    script: Script = field(default_factory=Script)
    edits: tuple[Edit, ...] = ()

    def __repr__(self) -> str:
        return describe(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """How Hypothesis prints it."""
        printer.text(describe(self))

    def world(self) -> World:
        """A fresh world, as the scenario begins."""
        return World(self.truth, self.host_file, self.script)

    def wanted(self, world: World) -> Callable[[], Desired]:
        """The desired state of the moment."""
        began = world.now
        world.edits = [began + edit.after for edit in self.edits]

        def now() -> Desired:
            due = [edit.desired for edit in self.edits if began + edit.after <= world.now]
            return due[-1] if due else self.desired

        return now

    @property
    def last(self) -> Desired:
        """The desired state that counts in the end."""
        return self.edits[-1].desired if self.edits else self.desired


class Edited:
    """A desired state that people edit, each edit in force at once."""

    def __init__(self, wanted: Callable[[], Desired]) -> None:
        self._wanted = wanted

    def read(self, now: float, ledger: Ledger) -> Reading:
        """The edit of the moment."""
        return Reading(desired=self._wanted())

    def stands(self) -> bool:
        """Nobody can say."""
        return False


BACKENDS: Final = installed_backends()
VERBS: Final = installed_verbs()


def eyes(host: Host, host_file: HostFile) -> Observer:
    """New ones, which have seen nothing yet."""
    return Observer(host, host_file, BACKENDS)


def followed(repository: Repository, host: Host) -> Followed:
    """The commits of a branch that no guard looks at, as a watch follows them."""
    return Followed(
        Following(
            source=repository,
            mode=Mode.COMMIT,
            place="/repo/ensemble.yaml",
            parse=repository.parse,
            guard=lambda newer, ledger: None,
            rules="these",
            kept=host.state.content,
        )
    )


Moment = tuple[float, Callable[[], None]]
"""Seconds from the start, and what happens then."""


def watched(engine: Engine, world: World, end: float, *moments: Moment) -> None:
    """Let a loop run so many seconds, while something else happens at the named ones."""

    async def main() -> None:
        watch = asyncio.create_task(engine.run())
        passed = 0.0
        for after, happens in moments:
            await asyncio.sleep(after - passed)
            happens()
            passed = after
        await asyncio.sleep(end - passed)
        assert not watch.done(), watch.exception()
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)

    run(main(), world.time)
    world.verify()


def planner() -> Planner:
    """A new planner with everything that is installed."""
    return Planner(BACKENDS, VERBS)


def facts(scenario: Scenario, world: World | None = None, desired: Desired | None = None) -> Facts:
    """What one look at the world says."""
    world = world if world is not None else scenario.world()
    desired = desired if desired is not None else scenario.last
    observed = observe(world.host(), desired, world.ledger, BACKENDS)
    return Facts(desired=desired, observed=observed, ledger=world.ledger, host=scenario.host_file, now=world.now)


def examined(seen: Facts, plans: Planner) -> Facts:
    """The same facts, with every successor examined already: so the first tick is the one that stops."""
    orders = [target.preflight for target in plans.decide(seen).view.targets.values()]
    passed = {order.label: order.key for order in orders if order is not None}
    return replace(seen, ledger=replace(seen.ledger, preflights=passed))


def foretell(scenario: Scenario) -> Forecast:
    """The forecast of the scenario's first moment."""
    return forecast(planner(), facts(scenario, desired=scenario.desired))


@dataclass(frozen=True, kw_only=True)
class Run:
    """What came of a run."""

    world: World
    ending: Ending
    decisions: tuple[Decision, ...]

    @property
    def plan(self) -> Plan:
        return self.ending.decision.plan


def apply(scenario: Scenario, world: World | None = None, plans: Planner | None = None) -> Run:
    """Run one engine until it is settled; no violation gets past this."""
    world = world if world is not None else scenario.world()
    decisions: list[Decision] = []
    wanted = scenario.wanted(world)
    rest = max([world.quiet_at, *(world.now + edit.after for edit in scenario.edits)])
    plans = plans if plans is not None else planner()
    engine = Engine(
        eyes(world.host(), scenario.host_file), plans, Edited(wanted), lambda tick: decisions.append(tick.decision)
    )

    async def main() -> Ending:
        ending = await engine.settle(rest + PATIENCE)
        while world.now < rest:
            # Settled while something was still to come: as a daemon would, go on from there.
            world.time.now = min(world.next_moment(world.now) or rest, rest)
            ending = await engine.settle(rest + PATIENCE)
        return ending

    try:
        ending = run(main(), world.time)
    except Violated as violated:
        raise AssertionError(str(violated)) from None
    finally:
        world.verify()
    return Run(world=world, ending=ending, decisions=tuple(decisions))


def cut_off(scenario: Scenario, world: World, turn: int) -> bool:
    """Run an engine and kill it at `turn`; True if it had come to its end by then."""
    engine = Engine(eyes(world.host(), scenario.host_file), planner(), Edited(scenario.wanted(world)))
    try:
        run(engine.settle(world.now + PATIENCE), world.time, kill_after=turn)
        return True
    except Killed:
        return False
    except Violated as violated:
        raise AssertionError(str(violated)) from None
    finally:
        world.verify()


def steps_by_subject(actions: list[tuple[str, Subject]]) -> Mapping[Subject, tuple[str, ...]]:
    """Kinds of actions per subject, in order; a publish after a publish is one."""
    result: dict[Subject, tuple[str, ...]] = {}
    for kind, subject in actions:
        before = result.get(subject, ())
        if not (kind == "publish" and before[-1:] == ("publish",)):
            result[subject] = (*before, kind)
    return result


Outcome = tuple[Mapping[str, tuple[object, ...]], Mapping[str, object]]


def outcome(observed: ObservedState, *, dead: bool = True) -> Outcome:
    """What is left in the end, without what no plan decides: pids, times, and drains that nobody waits for.

    `dead` records are a matter of luck where a request was interrupted. A server that is to go and cannot be stopped
    may still be starting when everything else has settled.
    """
    servers = {
        label: (s.port, s.standing, s.health is Health.ZOMBIE, s.spec_hash, s.artifact, s.served_name, s.memory)
        for label, s in observed.servers.items()
        if s.live or dead
    }
    gateways = {k: g.value.routes if isinstance(g, Present) else g for k, g in observed.gateways.items()}
    return servers, gateways


def look(scenario: Scenario, world: World) -> ObservedState:
    """What can be seen of a world."""
    return observe(world.host(), scenario.last, world.ledger, BACKENDS)
