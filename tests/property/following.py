"""Worlds whose desired state is a branch that people push to, rewrite, spoil and go back on, under one loop or many."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

import pytest
from hypothesis import strategies as st

from reconciler.desired.canonical import canonical, digest
from reconciler.engine.declared import Followed, Following
from reconciler.engine.loop import Ending, Engine, Tick
from reconciler.engine.requests import Asked, Request
from reconciler.model.desired import Desired
from reconciler.model.event import EventKind
from reconciler.model.generation import Pin
from reconciler.model.host import HostFile
from reconciler.model.observed import Artifact, Present
from reconciler.model.problem import ExitCode, ReconcilerError
from reconciler.model.source import Mode
from reconciler.model.view import Facts
from reconciler.planning.forecast import forecast
from reconciler.planning.guards import guards
from tests.world.drive import PATIENCE, Scenario, eyes, planner
from tests.world.repository import Repository
from tests.world.rules import Violated
from tests.world.truth import Gateway, Truth
from tests.world.virtual_time import run

from .strategies import GIB, SECONDS, scenarios

PLACE: Final = "/repo/ensemble.yaml"
TYPO: Final = ReconcilerError("invalid-document", "there is a typo", hint="mend it", code=ExitCode.INVALID)


class Does(Enum):
    """What a person does to the branch, or to the loop."""

    COMMIT = "commits something else"
    SAME = "commits what changes nothing"
    SPOIL = "commits what cannot be read"
    FORGE = "commits what nobody trusts"
    REWRITE = "rewrites history"
    PAUSE = "begins a rebase"
    RESUME = "ends it"
    ACCEPT = "releases what is newest"
    RETURN = "goes back to a generation"
    KILL = "ends the loop, and starts it again"
    WAIT = "does nothing"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that a person does, some time after the one before."""

    after: float
    does: Does
    content: Desired
    number: int = 1


@st.composite
def steps(draw: st.DrawFn, scenario: Scenario) -> list[Step]:
    """What people do, in order; everything that they commit is one of a few contents."""
    contents = [scenario.desired, *[draw(_variants(scenario.desired)) for _ in range(3)]]
    kinds = [Does.COMMIT, *Does]
    return [
        Step(
            after=draw(SECONDS) * draw(st.sampled_from([1, 1, 20])),
            does=draw(st.sampled_from(kinds)),
            content=draw(st.sampled_from(contents)),
            number=draw(st.integers(1, 4)),
        )
        for _ in range(draw(st.integers(1, 7)))
    ]


@st.composite
def _variants(draw: st.DrawFn, desired: Desired) -> Desired:
    """Some models less, and some from another revision of their repository."""
    models = {}
    for label, model in desired.state.models.items():
        match draw(st.sampled_from(["same", "same", "other", "gone"])):
            case "same":
                models[label] = model
            case "other" if model.source.repo is not None:
                models[label] = replace(model, source=replace(model.source, revision="dev"))
            case _:
                pass
    return replace(desired, state=replace(desired.state, models=models))


@st.composite
def stories(draw: st.DrawFn) -> tuple[Scenario, list[Step]]:
    """A world and what people do in it; some of the other weights cannot be served by anybody."""
    scenario = draw(scenarios(least=1, most=4))
    if draw(st.booleans()):
        scenario = _calm(scenario)
    models = scenario.desired.state.models
    bad = {f"{label} {m.source.repo}@dev": 0.5 for label, m in models.items() if draw(st.booleans())}
    scenario = replace(scenario, script=replace(scenario.script, duds=bad))
    return scenario, draw(steps(scenario))


def _calm(scenario: Scenario) -> Scenario:
    """The same declaration on a machine on which nothing stands against it."""
    whole = {
        reference: Present(value=Artifact(identity=f"{reference}#1", path=f"/hub/{reference}", weight_bytes=GIB))
        for reference in scenario.truth.artifacts
    }
    models = {
        label: replace(model, requires=(), moved_from=None) for label, model in scenario.desired.state.models.items()
    }
    truth = Truth(
        artifacts=dict(whole),
        gateways={kind: Gateway(routes=()) for kind in scenario.truth.gateways},
        platform="darwin",
    )
    desired = replace(scenario.desired, state=replace(scenario.desired.state, models=models))
    return replace(scenario, desired=desired, truth=truth, host_file=HostFile(max_launches=8))


@dataclass
class Loops:
    """One loop after another on one world and one branch, watched at every tick."""

    scenario: Scenario
    steps: list[Step]
    repository: Repository = field(default_factory=lambda: Repository(ref="refs/heads/main"))
    released: set[str] = field(default_factory=set)
    in_force: list[str] = field(default_factory=list)
    """Every revision that has been in force, in order."""
    left: list[str] = field(default_factory=list)
    """Contents that the loop has left by itself."""
    pin: Pin | None = None
    commits: int = 0

    def __post_init__(self) -> None:
        self.world = self.scenario.world()
        self._commit(self.scenario.desired)

    def _commit(self, content: Desired | ReconcilerError, onto: str | None = None) -> str:
        self.commits += 1
        return self.repository.commit(f"{self.commits:040x}", content, onto=onto)

    def engine(self) -> Engine:
        """A loop that knows nothing but what is remembered."""
        looking = eyes(self.world.host(), self.scenario.host_file)
        following = Following(
            source=self.repository,
            mode=Mode.COMMIT,
            place=PLACE,
            parse=self.repository.parse,
            guard=lambda newer, ledger: self._guard(looking.look(newer, ledger)),
            rules="these",
            kept=self.world.host().state.content,
        )
        return Engine(looking, planner(), Followed(following), self._told)

    def _guard(self, newer: Facts) -> tuple[str, str] | None:
        if not self.in_force:
            return None  # whoever starts the first loop has looked at its plan
        return next(iter(guards(forecast(planner(), newer))), None)

    def play(self) -> Ending:
        """Everything that people do, and then a good commit that somebody wants; how that ends."""
        try:
            return run(self._play(), self.world.time)
        except Violated as violated:
            raise AssertionError(str(violated)) from None
        finally:
            self.world.verify()

    async def _play(self) -> Ending:
        engine = self.engine()
        for step in self.steps:
            moment = self.world.now + step.after
            await engine.settle(moment)
            self.world.time.now = max(self.world.now, moment)
            if step.does is Does.KILL:
                engine = self.engine()
            else:
                self._do(step, engine)
        await engine.settle(self.world.now + PATIENCE)
        self.repository.paused = None
        last = self._commit(self.scenario.desired, onto=self.in_force[-1])
        self._release(engine, last)
        return await engine.settle(self.world.now + PATIENCE)

    def _release(self, engine: Engine, revision: str) -> None:
        self.released.add(revision)
        engine.ask(Request(do=Asked.ACCEPT, revision=revision, reason="it is meant"))

    def _do(self, step: Step, engine: Engine) -> None:
        actions: dict[Does, Callable[[], object]] = {
            Does.COMMIT: lambda: self._commit(step.content),
            Does.SAME: lambda: self._commit(self._newest()),
            Does.SPOIL: lambda: self._commit(TYPO),
            Does.FORGE: lambda: self.repository.untrusted.add(self._commit(step.content)),
            Does.REWRITE: lambda: self._commit(step.content, onto=f"{1:040x}"),
            Does.PAUSE: lambda: setattr(self.repository, "paused", ("rebase-in-progress", "a rebase is under way")),
            Does.RESUME: lambda: setattr(self.repository, "paused", None),
            Does.ACCEPT: lambda: self._release(engine, self.repository.revision),
            Does.RETURN: lambda: self._return(engine, step.number),
        }
        actions.get(step.does, lambda: None)()

    def _newest(self) -> Desired | ReconcilerError:
        return self.repository.contents[self.repository.revision]

    def _return(self, engine: Engine, number: int) -> None:
        request = Request(do=Asked.ROLLBACK, number=number, reason="a person wants it back")
        if number in {generation.number for generation in self.world.ledger.generations}:
            engine.ask(request)
            return
        with pytest.raises(ReconcilerError, match="there is no generation"):
            engine.ask(request)

    # ---------------------------------------------------------------------------------------- what always holds

    def _told(self, tick: Tick) -> None:
        desired, ledger = tick.decision.view.facts.desired, self.world.ledger
        content = digest(canonical(desired))
        numbers = [generation.number for generation in ledger.generations]
        assert len(numbers) == len(set(numbers))
        now = next(g for g in ledger.generations if g.number == ledger.current)
        assert now.content == content, "the generation in force is what is declared"
        assert self.world.host().state.content(content) == canonical(desired), "what is in force is kept"
        for generation in ledger.generations:
            assert self.world.host().state.content(generation.content) is not None
        pin = ledger.pin
        if pin is not None:
            assert (pin.content, pin.number) == (content, ledger.current), "nobody fights what was gone back to"
        self._left(pin)
        if not self.in_force or self.in_force[-1] != desired.revision:
            if pin is None:
                self._may_come_in_force(desired.revision)
            self.in_force.append(desired.revision)
            self.world.starts.clear()  # what is declared anew starts with a clean sheet
        self.pin = pin
        for event in tick.events:
            assert event.kind is not EventKind.ROLLED_BACK or pin is not None

    def _left(self, pin: Pin | None) -> None:
        """Nothing is left by itself twice."""
        if pin is not None and pin.automatic and (self.pin is None or self.pin.at != pin.at):
            assert pin.left[-1] not in self.left
            self.left.append(pin.left[-1])

    def _may_come_in_force(self, revision: str) -> None:
        assert revision == self.repository.revision, "what comes in force by itself is the newest"
        assert isinstance(self.repository.contents[revision], Desired)
        if revision in self.released:
            return
        assert self.repository.paused is None
        before = self.pin.bad if self.pin is not None else self.in_force[-1] if self.in_force else ""
        assert self.repository.doubt(before, revision) is None
