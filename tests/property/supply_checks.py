"""What must hold of the weights of a scenario, one function for each property; seeded bugs are judged by them too."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from reconciler.actions.convert import Convert
from reconciler.actions.launch import Launch
from reconciler.actions.offload import Offload
from reconciler.model.change import Verdict
from reconciler.model.desired import launch_reference
from reconciler.model.host import Memory
from reconciler.model.ledger import Wish
from reconciler.model.names import artifact_subject, server_subject
from reconciler.model.observed import Absent, Artifact, Observation, ObservedState, Present
from reconciler.model.supply import ConvertOrder, FetchOrder
from reconciler.model.target import Target
from reconciler.model.view import Facts
from reconciler.planning.forecast import Forecast
from reconciler.planning.plan import Decision
from tests.world import rules
from tests.world.drive import Run, Scenario, apply, foretell, look, outcome, steps_by_subject
from tests.world.script import Does, Event, Script
from tests.world.truth import Truth
from tests.world.world import World

from . import checks


def everything(scenario: Scenario) -> None:
    """Every property that a world of weights can have: more where nothing disturbs it."""
    script = scenario.script
    run = checks.settles(scenario)
    unserved_is_explained(run.ending.decision)
    checks.broken_models_are_given_up(run)
    nothing_needed_goes(run)
    what_runs_is_what_is_here(run)
    what_nobody_wants_is_given_up(run)
    nobody_is_left_standing(run)
    wishes_are_granted_or_refused(run)
    checks.second_apply_does_nothing(run)
    if script.faults or script.events or scenario.edits:
        return
    checks.old_stays_until_its_successor_can_start(run)
    predicted = forecast_settles(scenario)
    checks.forecast_fits_in_memory(predicted, scenario)
    forecast_fits_on_the_disk(predicted)
    if predicted.settled:
        unserved_is_explained(checks.predicted_end(predicted))
    if knows_everything(scenario):
        assert predicted.settled, f"waits for ever: {predicted.end.waiting}"
        forecast_is_what_happens(predicted, run, scenario)


# ------------------------------------------------------------------------------------------------------- the forecast


def knows_everything(scenario: Scenario) -> bool:
    """Whether a forecast can know it all: everything is as it looks and works, and the hub was asked before."""
    truth, store = scenario.truth, scenario.truth.store
    if store.rotten or store.sick or not store.hub.keys() >= truth.ledger.sources.keys() - _unhad(truth):
        return False
    sources = [s for spec in scenario.desired.state.models.values() for s in (spec.source, spec.draft) if s is not None]
    return truth.offline or all(str(launch_reference(source)) in truth.ledger.sources for source in sources)


def _unhad(truth: Truth) -> set[str]:
    return {reference for reference, check in truth.ledger.sources.items() if check.problem}


def forecast_settles(scenario: Scenario) -> Forecast:
    """Nothing waits for what neither an action nor time brings about, but for an answer of the hub."""
    predicted = foretell(scenario)
    pending = [r for r, check in predicted.final.facts.ledger.sources.items() if check.pending]
    assert predicted.settled or pending, f"waits for ever: {predicted.end.waiting}"
    return predicted


def forecast_is_what_happens(predicted: Forecast, run: Run, scenario: Scenario) -> None:
    """The same actions, in the same order for each subject, into the same world, servers and weights."""
    foreseen = steps_by_subject([(action.kind, action.subject) for action in predicted.actions])
    done = steps_by_subject([(request.kind, request.subject) for request in run.world.requests])
    assert done == foreseen
    seen = look(scenario, run.world)
    assert outcome(seen) == outcome(predicted.final.facts.observed)
    assert stored(seen, scenario) == stored(predicted.final.facts.observed, scenario)
    said = {(b.subject, b.reference) for b in predicted.end.blocked}
    assert {(b.subject, b.reference) for b in run.plan.blocked} == said
    before, after = predicted.final.facts.ledger, run.world.ledger
    # Where nothing was in force yet a forecast keeps no account; what was whole on the way there is a matter of luck.
    if scenario.truth.ledger.generations:
        assert before.generations[0].artifacts == after.generations[0].artifacts
    assert before.wishes == after.wishes


def stored(observed: ObservedState, scenario: Scenario) -> tuple[object, ...]:
    """Where which weights are, without when they came there."""
    storage = observed.storage
    made = {r: {(c.recipe.key, c.artifact.verdict) for c in found} for r, found in storage.conversions.items()}
    moved = {r: (copy.volume, copy.artifact.identity) for r, copy in storage.cold.items()}
    # What came back leaves its copy on the volume, so that it takes no room there when it goes again.
    volumes = None if scenario.truth.store.cold else storage.volumes
    declared = [s for spec in scenario.last.state.models.values() for s in (spec.source, spec.draft) if s is not None]
    here = {r: observed.artifacts.get(r) for r in sorted({str(launch_reference(source)) for source in declared})}
    kept = [{r: what for r, what in where.items() if r in here} for where in (made, moved)]
    return here, *kept, volumes, storage.free


def forecast_fits_on_the_disk(predicted: Forecast) -> None:
    """No tick of a forecast writes more than there is room for."""
    for step in predicted.steps:
        free = step.facts.observed.storage.free
        wanted = sum(action.claims.disk for action in step.plan.actions)
        assert not isinstance(free, Present) or wanted <= free.value, f"{wanted} of {free}: {step.plan.actions}"


# ------------------------------------------------------------------------------------------------------------- served


def unserved_is_explained(decision: Decision) -> None:
    """At rest, every model is served or kept as it is declared, or a person is told why not."""
    checks.unserved_is_explained(decision)
    waiting = {r for r, check in decision.view.facts.ledger.sources.items() if check.pending}
    said = {blocked.subject for blocked in decision.plan.blocked}
    served = {change.label for change in decision.view.changes if change.verdict is Verdict.MATCHES}
    targets = decision.view.targets
    for label, target in targets.items():
        references = _sources(target)
        if (
            label in served
            or references & waiting
            or (_ready(target.artifact) and _drafted(decision.view.facts, target))
        ):
            continue
        # What stands against weights is said once, of whoever waits for them.
        subjects = {server_subject(other) for other, sharing in targets.items() if _sources(sharing) & references}
        subjects |= {artifact_subject(reference) for reference in references}
        assert subjects & said, f"nobody says why {label} has no weights: {target.artifact}"


def _sources(target: Target) -> set[str]:
    return {str(launch_reference(s)) for s in (target.spec.source, target.spec.draft) if s is not None}


def _ready(found: Observation[Artifact]) -> bool:
    return isinstance(found, Present) and found.value.sound


def _drafted(facts_: Facts, target: Target) -> bool:
    draft = target.spec.draft
    return draft is None or _ready(facts_.observed.artifact(str(launch_reference(draft))))


def what_runs_is_what_is_here(run: Run) -> None:
    """Whatever is launched is sound in what was seen: the model, and its draft."""
    for decision in run.decisions:
        seen = decision.view.facts.observed
        sound = {a.path for a in _artifacts(seen) if a.sound}
        for action in decision.plan.actions:
            if isinstance(action, Launch):
                named = {w.partition("=")[2] for w in action.order.argv if w.startswith(("--model", "--draft-model"))}
                paths = {word for word in named if word.startswith("/")}
                assert paths <= sound, f"{action.order.label} is started from {paths - sound}"


def _artifacts(seen: ObservedState) -> Iterator[Artifact]:
    yield from (found.value for found in seen.artifacts.values() if isinstance(found, Present))
    yield from (c.artifact for made in seen.storage.conversions.values() for c in made)


def bad_weights_stop_nobody(scenario: Scenario) -> None:
    """Once all is at rest, weights may be damaged, taken away or hidden: no server ends for it."""
    first = apply(replace(scenario, edits=()))
    world, desired = first.world, scenario.desired
    before = {label: r.server for label, r in world.truth.records.items() if r.live(world.now)}
    store, artifacts = world.truth.store, world.truth.artifacts
    damage = [
        Event(after=0, does=does, reference=reference)
        for reference, does in zip(sorted(artifacts), itertools.cycle([Does.ROT, Does.LOSE]), strict=False)
    ]
    truth = replace(world.truth, offline=True, store=replace(store, volumes={}))
    script = Script(events=tuple(damage), durations=scenario.script.durations)
    second = apply(Scenario(desired=desired, host_file=scenario.host_file, truth=truth, script=script))
    after = {label: r.server for label, r in second.world.truth.records.items() if r.live(second.world.now)}
    stopped = {label for label, server in before.items() if after.get(label) != server}
    assert not stopped, f"{stopped} ended although only weights were damaged"


# ------------------------------------------------------------------------------------------------------------ retained


def nothing_needed_goes(run: Run) -> None:
    """Nothing is moved away that a declared model is, or is to be, served from; the world judges what runs."""
    for decision in run.decisions:
        for action in decision.plan.actions:
            if isinstance(action, Offload):
                _is_needed_by_nobody(decision, action)


def _is_needed_by_nobody(decision: Decision, action: Offload) -> None:
    repo = action.order.repo
    for label, target in decision.view.targets.items():
        draft, source = target.spec.draft, target.spec.source
        assert draft is None or draft.repo != repo, f"{repo} goes and is the draft of {label}"
        found = target.artifact
        converted = isinstance(found, Present) and found.value.identity.startswith("recipe:") and found.value.sound
        assert source.repo != repo or converted, f"{repo} goes and {label} is served from it"


def copies_are_kept(world: World) -> None:
    """Of all that ever was whole there is a whole copy, and what runs and is not damaged has its files."""
    rules.copies_are_kept(world)
    world.verify()


# ------------------------------------------------------------------------------------------------------------- given up


def what_nobody_wants_is_given_up(run: Run) -> None:
    """A download or a conversion of what is not declared any more is cancelled at once, and changes nothing."""
    for number, decision in enumerate(run.decisions):
        state = decision.view.facts.desired.state
        sources = [s for spec in state.models.values() for s in (spec.source, spec.draft) if s is not None]
        wanted = {artifact_subject(str(launch_reference(source))) for source in sources}
        jobs = decision.view.facts.in_flight
        stray = {j.subject for j in jobs if j.kind in ("ensure", "convert") and j.subject not in wanted}
        assert stray <= set(decision.obsolete), f"still being brought: {stray - set(decision.obsolete)}"
        later = {r.subject for d in run.decisions[number + 1 : number + 2] for r in d.view.facts.in_flight}
        assert not (stray & later) or number + 1 == len(run.decisions), (
            f"cancelled and still under way: {stray & later}"
        )


def nobody_is_left_standing(run: Run) -> None:
    """What could be brought is brought, whatever becomes of the others: no order is left at rest without a reason."""
    view, said = run.ending.decision.view, {blocked.subject for blocked in run.plan.blocked}
    for subject, order in view.supplies.items():
        if isinstance(order, FetchOrder | ConvertOrder):
            waiting = [c for c in view.changes if c.target is not None and order in c.target.supplies]
            left = {c.subject for c in waiting if c.verdict is not Verdict.MATCHES}
            assert subject in said or left & said or (waiting and not left), f"nobody says why {order} is not done"


# --------------------------------------------------------------------------------------------------------- any order


def some_order_is_found(scenario: Scenario) -> None:
    """Where conversions and launches fit into memory in any order at all, all of it is done.

    The scenario must be one in which nothing but memory can stand against anything, and nothing runs.
    """
    limit = rules.budget(scenario.world())
    run = checks.settles(scenario)
    ample = replace(scenario, host_file=replace(scenario.host_file, memory=Memory(budget="4TiB")))
    chains = list(_chains(checks.settles(ample)))
    if limit is not None and _possible(chains, limit):
        refused = {(b.subject, b.reason) for b in run.plan.blocked if b.reference in _MEMORY}
        assert not refused, f"an order exists, and: {refused}"


_MEMORY: Final = ("memory-refused", "conversion-memory")
Step = tuple[int, int]
"""Bytes while it is done, and bytes that stay taken afterwards."""


def _chains(ample: Run) -> Iterator[tuple[Step, ...]]:
    """Per label the conversion that it needs, if any, and its launch; as they are done where memory is no matter."""
    conversions, launches = {}, {}
    for decision in ample.decisions:
        for action in decision.plan.actions:
            if isinstance(action, Convert):
                conversions[action.order.result.artifact.identity] = action.order.memory
            elif isinstance(action, Launch):
                launches[action.order.label] = (action.order.artifact, action.order.memory)
    made: set[str] = set()
    for artifact, memory in launches.values():
        first = () if artifact in made or artifact not in conversions else ((conversions[artifact], 0),)
        made.add(artifact)
        yield (*first, (memory, memory))


def _possible(chains: list[tuple[Step, ...]], limit: int, taken: int = 0) -> bool:
    """Whether the steps can be done one after another, each chain in its order; all orders are tried."""
    if not any(chains):
        return True
    for number, chain in enumerate(chains):
        if chain and taken + chain[0][0] <= limit:
            rest = [*chains[:number], chain[1:], *chains[number + 1 :]]
            if _possible(rest, limit, taken + chain[0][1]):
                return True
    return False


def settles_in(scenario: Scenario, world: World) -> Run:
    """The engine comes to rest in a world that has a past."""
    run = apply(scenario, world)
    assert run.ending.settled, f"still {run.plan.actions} {run.plan.waiting}"
    return run


# ------------------------------------------------------------------------------------------------------------ by hand


def wishes_are_granted_or_refused(run: Run) -> None:
    """At rest, what a person has asked for is where they want it, or they are told why not."""
    said = {blocked.subject for blocked in run.plan.blocked}
    truth = run.world.truth
    for reference, wish in run.world.ledger.wishes.items():
        here, there = truth.artifacts.get(reference, Absent()), truth.store.cold.get(reference)
        away = isinstance(here, Absent) and there is not None
        met = away if wish is Wish.OFFLOAD else not away
        assert met or artifact_subject(reference) in said, f"nobody says why {reference} did not move ({wish})"
