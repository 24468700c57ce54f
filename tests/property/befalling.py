"""What else may befall a drawn world: failing requests, events, edits, models that cannot serve, tight corners."""

import itertools
from dataclasses import replace
from math import inf

from hypothesis import strategies as st

from reconciler.model.host import Memory
from reconciler.model.observed import Unknown
from reconciler.model.routes import Route, Upstream
from tests.world.drive import Edit, Scenario, apply
from tests.world.script import BACK, Does, Event, Fault
from tests.world.truth import Gateway, bindings
from tests.world.virtual_time import EPOCH

from .documents import EXPERIMENTAL, TEAM
from .strategies import GIB, SECONDS, STRANGERS, scenarios, targets_of


@st.composite
def faulty(draw: st.DrawFn, scenario: Scenario, most: int = 4) -> Scenario:
    """The same world, with requests that go wrong."""
    faults = draw(st.lists(st.sampled_from([None, *Fault]), min_size=1, max_size=most))
    return replace(scenario, script=replace(scenario.script, faults=tuple(faults)))


@st.composite
def stormy(draw: st.DrawFn) -> Scenario:
    """A world in which everything happens at once: events, requests that go wrong, and a person who edits."""
    return draw(scenarios().flatmap(troubled).flatmap(faulty).flatmap(edited))


@st.composite
def troubled(draw: st.DrawFn, scenario: Scenario) -> Scenario:
    """The same world, with events nobody asked for; those that can end do end."""
    events = []
    labels = [*scenario.desired.state.models, *STRANGERS]
    for _ in range(draw(st.integers(1, 4))):
        event = Event(
            after=draw(st.sampled_from([0.125, 0.5, 1.0, 3.0, 12.0, 40.0])),
            does=draw(st.sampled_from([Does.DIE, Does.WEDGE, *BACK])),
            label=draw(st.sampled_from(labels)),
            port=draw(st.sampled_from([*TEAM, EXPERIMENTAL[0]])),
            gateway=draw(st.sampled_from(["front", "litellm"])),
        )
        events.append(event)
        if event.does in BACK:
            events.append(replace(event, after=event.after + draw(SECONDS), does=BACK[event.does]))
    return replace(scenario, script=replace(scenario.script, events=tuple(events)))


@st.composite
def edited(draw: st.DrawFn, scenario: Scenario) -> Scenario:
    """The same world, while a person takes models out of the desired state and puts them back."""
    state = scenario.desired.state
    kept = {label: spec for label, spec in state.models.items() if draw(st.booleans())}
    less = replace(scenario.desired, state=replace(state, models=kept), revision="worktree:1")
    first = draw(SECONDS)
    edits = (Edit(after=first, desired=less), Edit(after=first + draw(SECONDS), desired=scenario.desired))
    return replace(scenario, edits=edits[: draw(st.sampled_from([2, 1]))])


@st.composite
def doomed(draw: st.DrawFn, scenario: Scenario) -> Scenario:
    """The same world, in which some models crash after every start or never answer."""
    labels = [*scenario.desired.state.models, *STRANGERS]
    duds = {label: draw(st.sampled_from([inf, 0.5, 30.0])) for label in labels if draw(st.booleans())}
    records = {
        label: replace(r, server=replace(r.server, ready_at=inf))
        if label in duds and r.server is not None and r.server.ready_at >= EPOCH
        else r
        for label, r in scenario.truth.records.items()
    }
    script = replace(scenario.script, duds=duds)
    return replace(scenario, script=script, truth=replace(scenario.truth, records=records))


@st.composite
def unfit(draw: st.DrawFn, scenario: Scenario) -> Scenario:
    """The same world, in which what is declared of some models would not start."""
    labels = frozenset(label for label in scenario.desired.state.models if draw(st.booleans()))
    return replace(scenario, script=replace(scenario.script, unfit=labels))


@st.composite
def exchanged(draw: st.DrawFn, scenario: Scenario) -> Scenario:
    """The same world, in which two servers are to change ports and one of them would not start with the other's."""
    models = dict(scenario.desired.state.models)
    ports = {label: r.process.port for label, r in scenario.truth.records.items() if r.live(EPOCH) and label in models}
    for one, other in itertools.pairwise(draw(st.permutations(sorted(ports)))[:2]):
        for label, port in ((one, ports[other]), (other, ports[one])):
            models[label] = replace(models[label], port=port, moved_from=ports[label])
    labels = frozenset(draw(st.permutations(sorted(ports)))[:1])
    state = replace(scenario.desired.state, models=models)
    script = replace(scenario.script, unfit=labels)
    return replace(scenario, desired=replace(scenario.desired, state=state), script=script)


@st.composite
def hasty(draw: st.DrawFn, scenario: Scenario) -> Scenario:
    """The same world once it has settled: models are taken out, and put back while that is still being done."""
    state = scenario.desired.state
    without = replace(scenario.desired, state=replace(state, models={}), revision="worktree:1")
    part = draw(st.sampled_from([7.0, 2.5]))
    # A part of the withdrawal, all of it, or the withdrawal and a part of the stop later.
    gap = part * draw(st.sampled_from([3.5, 1.5, 0.5, 2.5]))
    gateways = {kind: replace(g, drain=0.0, draining={}) for kind, g in scenario.truth.gateways.items()}
    script = replace(scenario.script, durations=(part,), hints=True)
    calm = replace(scenario, script=script, truth=replace(scenario.truth, gateways=gateways))
    settled = apply(calm).world.now - EPOCH
    first = draw(st.sampled_from([settled + 1, 0.125]))
    return replace(calm, edits=(Edit(after=first, desired=without), Edit(after=first + gap, desired=scenario.desired)))


@st.composite
def squeezed(draw: st.DrawFn, scenario: Scenario, newcomers: int = 1) -> Scenario:
    """The same world with memory for what runs and for hardly more than so many newcomers."""
    live = {label: r.process.memory for label, r in scenario.truth.records.items() if r.live(EPOCH)}
    targets = targets_of(scenario.desired, scenario.host_file, scenario.truth)
    needs = [t.need.total for label, t in targets.items() if t.need is not None and label not in live]
    budget = sum(live.values()) + newcomers * max(needs, default=0) + draw(st.sampled_from([1, 8, 0])) * GIB // 8
    return replace(scenario, host_file=replace(scenario.host_file, memory=Memory(budget=f"{budget}B"), max_launches=8))


def unmeasured(scenario: Scenario) -> Scenario:
    """The same world, in which nobody can say how much memory there is."""
    truth = replace(scenario.truth, memory_total=Unknown(reason="permission denied"))
    return replace(scenario, host_file=replace(scenario.host_file, memory=Memory()), truth=truth)


@st.composite
def moved(draw: st.DrawFn, scenario: Scenario) -> Scenario:
    """The same world, in which the declared ports change hands, with acknowledgement or without."""
    models = scenario.desired.state.models
    explicit = {label: spec.port for label, spec in models.items() if isinstance(spec.port, int)}
    dealt = dict(zip(explicit, draw(st.permutations([*explicit.values()])), strict=True))
    records = scenario.truth.records
    moving = {}
    for label, spec in models.items():
        known = records[label].process.port if label in records else explicit.get(label)
        acknowledged = known if draw(st.sampled_from([True, True, False])) else None
        moving[label] = replace(spec, port=dealt[label], moved_from=acknowledged) if label in dealt else spec
    state = replace(scenario.desired.state, models=moving)
    return replace(scenario, desired=replace(scenario.desired, state=state))


@st.composite
def misrouted(draw: st.DrawFn, scenario: Scenario) -> Scenario:
    """The same world, in which gateways send a stranger's requests to ports that are declared for others."""
    live = {r.process.port for r in scenario.truth.records.values() if r.live(EPOCH)}
    declared = {spec.port for spec in scenario.desired.state.models.values()} - live
    free = sorted(port for port in declared if isinstance(port, int)) or list(TEAM)
    gateways = {
        kind: _misled(gateway, draw(st.sampled_from(free)), draw(st.sampled_from([10.0, 0.0])))
        for kind, gateway in scenario.truth.gateways.items()
    }
    return replace(scenario, truth=replace(scenario.truth, gateways=gateways))


def _misled(gateway: Gateway, port: int, drain: float) -> Gateway:
    kept = [r for r in gateway.routes or () if r.label != STRANGERS[0]]
    if port in {binding.port for binding in bindings(tuple(kept))}:
        return gateway
    upstream = Upstream(host="127.0.0.1", port=port, served_name="default_model")
    route = Route(label=STRANGERS[0], upstream=upstream, request_params={})
    return replace(gateway, routes=(*kept, route), drain=drain)
