"""The dry run: the same planner against what each action would leave behind, until nothing more follows."""

from dataclasses import replace
from typing import Final

from reconciler.desired.canonical import canonical, digest
from reconciler.model.base import noun
from reconciler.model.generation import Generation
from reconciler.model.observed import Absent, GatewayState, Health, Listener, Present, ServerProcess, Standing, Storage
from reconciler.model.plan import Action, Effect, Plan, Waiting
from reconciler.model.supply import SourceCheck
from reconciler.model.view import Facts, View

from .generations import entered
from .plan import Decision, Planner

SLACK: Final = 50
"""Ticks that a forecast may take on top of a few per server; more means that the planner does not converge."""


@noun
class Step:
    """One tick of a forecast."""

    facts: Facts
    plan: Plan
    due: Waiting | None = None
    """What the forecast had to let time pass for after this tick; None where it did not."""


@noun
class Forecast:
    """All that will be done if nothing else happens, and how it ends."""

    steps: tuple[Step, ...]
    """The last step is where it settles: it has no actions."""
    first: View
    final: View
    settled: bool
    """False where something waits that no action and no passing of time in this forecast ends."""

    @property
    def actions(self) -> tuple[Action, ...]:
        """In the order in which they become possible."""
        return tuple(action for step in self.steps for action in step.plan.actions)

    @property
    def end(self) -> Plan:
        """What still waits and what is blocked when everything possible has been done."""
        return self.steps[-1].plan

    @property
    def peak(self) -> int:
        """The most bytes reserved at any instant of the change, by servers and by conversions beside them."""
        return max(memory_used(step.facts) + _converting(step.plan) for step in self.steps)


class NotConvergent(AssertionError):
    """The planner proposed actions without end: a bug."""


def forecast(planner: Planner, facts: Facts) -> Forecast:
    """Run the planner on its own predictions. Raises NotConvergent."""
    steps: list[Step] = []
    views: list[View] = []
    facts = _in_force(replace(facts, foreseen=True))
    limit = SLACK + 12 * (len(facts.desired.state.models) + len(facts.observed.servers))
    for _ in range(limit):
        decision = planner.decide(facts)
        facts = decision.view.facts
        after = advance(facts, decision)
        steps.append(Step(facts=facts, plan=decision.plan, due=_due(facts, after, decision.plan)))
        views.append(decision.view)
        if decision.plan.settled:
            return Forecast(steps=tuple(steps), first=views[0], final=views[-1], settled=True)
        if after == facts:
            return Forecast(steps=tuple(steps), first=views[0], final=views[-1], settled=False)
        facts = after
    raise NotConvergent(f"no end after {limit} ticks: {[a.subject for a in steps[-1].plan.actions]}")


def _in_force(facts: Facts) -> Facts:
    """With what is declared as the generation in force, as a loop would have it from its first look on."""
    if not facts.ledger.generations:
        return facts
    desired = facts.desired
    born = Generation(number=0, at=facts.now, revision=desired.revision, content=digest(canonical(desired)))
    return replace(facts, ledger=entered(facts.ledger, born))


def _due(before: Facts, after: Facts, plan: Plan) -> Waiting | None:
    """The earliest of what is waited for, where the clock had to move for it."""
    if after.now == before.now:
        return None
    return min((w for w in plan.waiting if w.until is not None), key=lambda w: w.until or 0.0, default=None)


def _converting(plan: Plan) -> int:
    return sum(action.claims.memory for action in plan.actions if action.kind == "convert")


def memory_used(facts: Facts) -> int:
    """Bytes reserved by servers that are live."""
    return sum(s.memory for s in facts.observed.servers.values() if s.live)


def advance(facts: Facts, decision: Decision) -> Facts:
    """The facts after every action of the tick has succeeded or, where there is none, after time has passed."""
    if decision.plan.actions:
        return _acted(facts, decision.plan.actions)
    return _waited(facts, decision.plan)


def _acted(facts: Facts, actions: tuple[Action, ...]) -> Facts:
    observed = facts.observed
    servers = dict(observed.servers)
    gateways = dict(observed.gateways)
    listeners = dict(observed.listeners)
    artifacts = dict(observed.artifacts)
    sources: dict[str, SourceCheck] = {}
    preflights: dict[str, str] = {}
    storage = observed.storage
    for action in actions:
        effect = action.simulate(observed)
        for label, process in effect.servers.items():
            before = servers.pop(label, None)
            if before is not None and before.live and process is None:
                listeners[before.port] = Absent()
            if process is not None:
                servers[label] = process
                listeners[process.port] = Present(value=Listener(port=process.port, pid=process.pid))
        gateways |= {kind: Present(value=state) for kind, state in effect.gateways.items()}
        artifacts |= effect.artifacts
        sources |= effect.sources
        preflights |= effect.preflights
        storage = _stored(storage, effect, action.claims.disk)
    after = replace(
        observed, servers=servers, gateways=gateways, listeners=listeners, artifacts=artifacts, storage=storage
    )
    ledger = facts.ledger
    if sources or preflights:
        passed = {**ledger.preflights, **preflights}
        ledger = replace(ledger, sources={**ledger.sources, **sources}, preflights=passed)
    return replace(facts, observed=after, ledger=ledger, in_flight=())


def _stored(storage: Storage, effect: Effect, taken: int) -> Storage:
    """With what was converted and moved, and less room; the same object where nothing of it changes."""
    if not (effect.conversions or effect.cold or taken):
        return storage
    conversions = dict(storage.conversions)
    for reference, made in effect.conversions.items():
        others = tuple(c for c in conversions.get(reference, ()) if c.artifact.path != made.artifact.path)
        conversions[reference] = (*others, made)
    cold = {**storage.cold, **effect.cold}
    volumes, free = dict(storage.volumes), storage.free
    for copy in effect.cold.values():
        volume = volumes.get(copy.volume) if copy is not None else None
        if copy is not None and isinstance(volume, Present) and volume.value.free is not None:
            volumes[copy.volume] = Present(value=replace(volume.value, free=volume.value.free - copy.bytes))
        taken -= copy.bytes if copy is not None else 0
    return replace(
        storage,
        conversions=conversions,
        cold={reference: copy for reference, copy in cold.items() if copy is not None},
        volumes=volumes,
        free=Present(value=max(0, free.value - taken)) if isinstance(free, Present) else free,
    )


def _waited(facts: Facts, plan: Plan) -> Facts:
    """What starts becomes serving, what drains is drained, what is under way is done, then the next due time comes."""
    observed = facts.observed
    servers = {label: _started(process) for label, process in observed.servers.items()}
    gateways = {
        kind: Present(value=_drained(state.value)) if isinstance(state, Present) else state
        for kind, state in observed.gateways.items()
    }
    after = replace(facts, observed=replace(observed, servers=servers, gateways=gateways), in_flight=())
    if after != facts or plan.look_again is None:
        return after
    now = max(facts.now, plan.look_again)
    return replace(facts, now=now, observed=replace(observed, at=now))


def _started(process: ServerProcess) -> ServerProcess:
    if process.standing is Standing.OURS and process.health is Health.STARTING:
        return replace(process, health=Health.SERVING)
    return process


def _drained(state: GatewayState) -> GatewayState:
    ports = frozenset(r.upstream.port for r in state.routes if r.upstream is not None)
    return replace(state, may_dispatch=ports, drained_at=None)
