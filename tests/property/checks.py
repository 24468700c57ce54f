"""What must hold of a scenario, one function for each property; the property tests and the seeded bugs share them."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256

from reconciler.actions.launch import Launch
from reconciler.actions.stop import Stop
from reconciler.model.change import Change, Verdict
from reconciler.model.desired import Desired, ModelSpec, launch_reference
from reconciler.model.names import Subject
from reconciler.model.observed import Present
from reconciler.model.target import Target
from reconciler.planning import backoff
from reconciler.planning.forecast import Forecast, memory_used
from reconciler.planning.plan import Decision
from tests.world import rules
from tests.world.drive import Run, Scenario, apply, facts, foretell, look, outcome, planner, steps_by_subject
from tests.world.script import Script
from tests.world.truth import Gateway
from tests.world.world import World

from . import doubt
from .documents import EXPERIMENTAL, TEMPLATES

Rewrite = Callable[[Desired], Desired]


def settles(scenario: Scenario) -> Run:
    """The engine comes to rest, and no rule of the world was broken on the way."""
    run = apply(scenario)
    assert run.ending.settled, f"still {run.plan.actions} {run.plan.waiting}"
    return run


def forecast_settles(scenario: Scenario) -> Forecast:
    """Nothing waits for what neither an action nor time brings about."""
    predicted = foretell(scenario)
    assert predicted.settled, f"waits for ever: {predicted.end.waiting}"
    return predicted


def second_apply_does_nothing(run: Run) -> None:
    """No request and no write, also not of the ledger."""
    world, writes, requests = run.world, run.world.writes, len(run.world.requests)
    again = apply(
        Scenario(desired=run.decisions[-1].view.facts.desired, host_file=world.host_file, truth=world.truth), world
    )
    assert again.ending.settled
    assert world.requests[requests:] == []
    assert world.writes == writes, "something was written although nothing was to be done"


def forecast_is_what_happens(predicted: Forecast, run: Run, scenario: Scenario) -> None:
    """The same actions, in the same order for each subject, into the same world, and the same is remembered."""
    foreseen = steps_by_subject([(action.kind, action.subject) for action in predicted.actions])
    done = steps_by_subject([(request.kind, request.subject) for request in run.world.requests])
    assert done == foreseen
    assert outcome(look(scenario, run.world)) == outcome(predicted.final.facts.observed)
    said = {(b.subject, b.reference) for b in predicted.end.blocked}
    assert {(b.subject, b.reference) for b in run.plan.blocked} == said
    before, after = predicted.final.facts.ledger, run.world.ledger
    assert (after.launched, dict(after.leases)) == (before.launched, dict(before.leases))
    idle = {c.label for c in predicted.final.changes if c.verdict is not Verdict.MATCHES}
    counts = [{k: a.count for k, a in ledger.attempts.items()} for ledger in (before, after)]
    assert counts[0] == counts[1], "a failure was counted that nobody foresaw"
    # A server that is on its way out may or may not answer before it ends.
    assert after.proved - idle == before.proved - idle


def forecast_fits_in_memory(predicted: Forecast, scenario: Scenario) -> None:
    """No tick of a forecast needs more than the budget, unless it began with more."""
    limit = rules.budget(scenario.world())
    used = [memory_used(step.facts) for step in predicted.steps]
    for before, after in itertools.pairwise(used):
        assert after <= before or (limit is not None and after <= limit), f"{before} -> {after} of {limit}"


def unserved_is_explained(decision: Decision) -> None:
    """At rest, every subject is as it should be, or a person is told why not."""
    said = {blocked.subject for blocked in decision.plan.blocked}
    prune = decision.view.facts.desired.state.policy.prune
    for change in decision.view.changes:
        if not _at_rest(change, prune):
            assert change.subject in said, f"nobody says why {change.label} is {change.verdict}"


def _at_rest(change: Change, prune: bool) -> bool:
    live = change.live is not None and change.live.live
    match change.verdict:
        case Verdict.MATCHES | Verdict.ASLEEP | Verdict.CACHED:
            return True
        case Verdict.SUSPENDED:
            return not live
        case Verdict.EXTRANEOUS:
            return not prune and change.target is None
        case _:
            return False


def old_stays_until_its_successor_can_start(run: Run) -> None:
    """Whoever is stopped to be replaced could be replaced, and was."""
    replaced: set[Subject] = set()
    for decision in run.decisions:
        changes = {change.subject: change for change in decision.view.changes}
        for action in decision.plan.actions:
            change = changes.get(action.subject)
            if isinstance(action, Launch):
                replaced.discard(action.subject)
            if not isinstance(action, Stop) or change is None or change.verdict is not Verdict.OUTDATED:
                continue
            target, ledger = change.target, decision.view.facts.ledger
            assert target is not None
            assert target.order is not None, f"{change.label} was stopped and cannot be started: {target.problems}"
            held = backoff.hold(target, ledger, decision.view.facts.now)
            assert held is None, f"{change.label} was stopped and is held back: {held}"
            if target.always:
                replaced.add(action.subject)
    assert not replaced, f"stopped to be replaced, and not replaced: {replaced}"


def nobody_leaves_unexamined(run: Run) -> None:
    """Whoever is stopped to be replaced has a successor that passed its preflight, where there can be one."""
    for decision in run.decisions:
        changes = {change.subject: change for change in decision.view.changes}
        for action in decision.plan.actions:
            change = changes.get(action.subject)
            if isinstance(action, Stop) and change is not None and change.verdict is Verdict.OUTDATED:
                order = change.target.preflight if change.target is not None else None
                known = order is None or f"{order.label} {order.key}" in run.world.passed
                assert known, f"{change.label} was stopped for a successor that nobody has examined"


def prune_off_stops_no_stranger(run: Run) -> None:
    """With prune off, what is not declared is left alone."""
    for decision in run.decisions:
        state = decision.view.facts.desired.state
        stopped = {action.process.label for action in decision.plan.actions if isinstance(action, Stop)}
        assert state.policy.prune or stopped <= state.models.keys()


def unacknowledged_ports_stay(run: Run, scenario: Scenario) -> None:
    """A server that runs changes its explicit port only where `moved_from` says so."""
    for request in run.world.requests:
        label = request.subject.removeprefix("server/")
        record, spec = scenario.truth.records.get(label), scenario.desired.state.models.get(label)
        if request.kind != "stop" or record is None or spec is None or not isinstance(spec.port, int):
            continue
        health = record.look(scenario.world().now, False).health
        suspended = label in scenario.truth.ledger.suspensions
        if health.value != "zombie" and not suspended:
            assert record.process.port in (spec.port, spec.moved_from), f"{label} was moved to {spec.port}"


def what_matches_is_as_declared(run: Run) -> None:
    """Whoever is called in sync runs the declared artifact of the declared source on the declared port."""
    for change in run.ending.decision.view.changes:
        live, target = change.live, change.target
        if change.verdict is not Verdict.MATCHES or live is None or target is None:
            continue
        declared = run.ending.decision.view.facts.desired.state.models[change.label]
        template = TEMPLATES[declared.chat_template].encode() if declared.chat_template else None
        assert live.fields["chat_template"] == (sha256(template).hexdigest() if template else "")
        assert live.fields["source"] == str(launch_reference(declared.source))
        assert declared.port in (live.port, "auto")
        if isinstance(target.artifact, Present) and not target.artifact.value.missing:
            assert live.artifact == target.artifact.value.identity


def leases_are_kept(run: Run, scenario: Scenario) -> None:
    """A port that was given to `auto` is kept for good."""
    for change in run.ending.decision.view.changes:
        record = scenario.truth.records.get(change.label)
        if record is None or change.target is None or change.target.spec.port != "auto":
            continue
        if record.process.port in EXPERIMENTAL and not scenario.truth.blind:
            assert change.target.port == record.process.port, f"{change.label} lost port {record.process.port}"


# ------------------------------------------------------------------------------------------------- the same, said again


def permuted(desired: Desired) -> Desired:
    """The same document with its keys and aliases in another order."""
    models = {
        label: replace(spec, aliases=spec.aliases[::-1], options=dict(reversed(list(spec.options.items()))))
        for label, spec in reversed(list(desired.state.models.items()))
    }
    ports = dict(reversed(list(desired.state.ports.items())))
    return replace(desired, state=replace(desired.state, models=models, ports=ports))


def spelled_out(desired: Desired) -> Desired:
    """The same document with its defaults written down."""

    def spell(spec: ModelSpec) -> ModelSpec:
        source = replace(spec.source, revision=spec.source.revision or "main")
        options = {"decode_concurrency": 2, **spec.options}
        return replace(spec, source=source, options=options, backend=spec.backend or desired.state.defaults.backend)

    models = {label: spell(spec) for label, spec in desired.state.models.items()}
    return replace(desired, state=replace(desired.state, models=models))


def order_and_spelling_plan_the_same(scenario: Scenario) -> None:
    """Neither the order of keys nor a default that is written down changes anything."""
    seen = facts(scenario, desired=scenario.desired)
    plan = planner().decide(seen).plan
    assert planner().decide(seen).plan == plan, "the same facts gave another plan"
    for rewritten in (permuted(scenario.desired), spelled_out(scenario.desired)):
        assert planner().decide(replace(seen, desired=rewritten)).plan == plan


def gateway_fields_touch_no_server(run: Run) -> None:
    """What is declared for gateways and for the planner alone never costs a running server."""
    seen = run.decisions[-1].view.facts
    matching = {c.subject for c in run.decisions[-1].view.changes if c.verdict is Verdict.MATCHES}
    models = {
        label: replace(
            spec, context_length=12_345, max_output_tokens=99, aliases=(), priority=7, request_params={"a": 1}
        )
        for label, spec in seen.desired.state.models.items()
    }
    state = replace(seen.desired.state, models=models)
    plan = planner().decide(replace(seen, desired=replace(seen.desired, state=state))).plan
    assert matching.isdisjoint(action.subject for action in plan.actions)


# ----------------------------------------------------------------------------------------------------------- gateways


def exposed(scenario: Scenario) -> bool:
    """Whether LiteLLM lists labels and goes through the front door."""
    gateways = scenario.desired.state.gateways
    return gateways.litellm is not None and gateways.front is not None and gateways.litellm.mode != "direct"


def exposure_is_stable(scenario: Scenario, run: Run) -> None:
    """A label that is declared, complete and proved is listed, and what is listed so is never taken off again."""
    if not exposed(scenario):
        return
    # Whoever takes a model out of the desired state wants it off the list.
    before = listed(scenario.world())
    for decision in run.decisions:
        view = decision.view
        should = {
            label
            for label, target in view.targets.items()
            if target.spec.port != "none" and _complete(target) and label in view.facts.ledger.proved
        }
        told = {r.label for r in view.wanted["litellm"]}
        assert should <= told, f"not listed: {should - told}"
        assert all(r.upstream is None for r in view.wanted["litellm"])
    view = run.decisions[0].view
    proved = {label for label in view.facts.ledger.proved if _complete(view.targets[label])}
    assert scenario.edits or before is None or _stayed(run, before & proved), (
        "a label was taken off the list and put back"
    )


def empty_gateway() -> Gateway:
    """A gateway that knows no route of ours yet, and drains for ten seconds."""
    return Gateway(routes=(), drain=10.0)


def _complete(target: Target) -> bool:
    return isinstance(target.artifact, Present) and target.artifact.value.complete


def listed(world: World) -> set[str] | None:
    """The labels in LiteLLM's file; None where there is none."""
    gateway = world.truth.gateways.get("litellm")
    return {r.label for r in gateway.routes} if gateway is not None and gateway.routes is not None else None


def _stayed(run: Run, before: set[str]) -> bool:
    """Whether each label that is to be listed in the end was listed all the time, once it was."""
    wanted = {r.label for r in run.decisions[-1].view.wanted["litellm"]}
    seen = before & wanted
    for kind, routes in run.world.written:
        if kind == "litellm":
            now = {r.label for r in routes} & wanted
            if not seen <= now:
                return False
            seen = now
    return True


def everything(scenario: Scenario) -> None:
    """Every property that a scenario can have: more where nothing disturbs it."""
    script = scenario.script
    if script.faults or script.events or script.duds or script.unfit or scenario.edits:
        run = settles(scenario)
        nobody_leaves_unexamined(run)
        if not (script.faults or script.events or script.duds or scenario.edits):
            old_stays_until_its_successor_can_start(run)
        unserved_is_explained(run.ending.decision)
        broken_models_are_given_up(run)
        exposure_is_stable(scenario, run)
        second_apply_does_nothing(run)
        return
    undisturbed(scenario)


def undisturbed(scenario: Scenario) -> None:
    """Every property of a world that nothing disturbs."""
    predicted = forecast_settles(scenario)
    run = settles(scenario)
    forecast_fits_in_memory(predicted, scenario)
    forecast_is_what_happens(predicted, run, scenario)
    unserved_is_explained(predicted_end(predicted))
    unserved_is_explained(run.ending.decision)
    old_stays_until_its_successor_can_start(run)
    nobody_leaves_unexamined(run)
    prune_off_stops_no_stranger(run)
    unacknowledged_ports_stay(run, scenario)
    what_matches_is_as_declared(run)
    leases_are_kept(run, scenario)
    exposure_is_stable(scenario, run)
    order_and_spelling_plan_the_same(scenario)
    gateway_fields_touch_no_server(run)
    doubt.unknown_destroys_nothing(scenario)
    doubt.unknown_port_is_not_free(scenario)
    second_apply_does_nothing(run)


def without_faults(script: Script) -> Script:
    """The same luck, with requests that do not go wrong."""
    return replace(script, faults=())


def converges_to_the_same(calm: Run, faulty: Run, scenario: Scenario) -> None:
    """After requests have stopped going wrong, the world is the one that it would have been."""
    held = {b.subject for b in faulty.plan.blocked if b.reference in ("crash-loop", "held-permanent")}
    if held <= {b.subject for b in calm.plan.blocked}:
        seen = look(scenario, faulty.world), look(scenario, calm.world)
        assert outcome(seen[0], dead=False) == outcome(seen[1], dead=False)


def broken_models_are_given_up(run: Run) -> None:
    """A model that cannot serve is held after its budget, and everything else is served."""
    duds = run.world.script.duds
    for change in run.ending.decision.view.changes:
        if change.verdict in (Verdict.STARTING, Verdict.CRASHED, Verdict.STUCK, Verdict.UNHEALTHY):
            assert change.label in duds or change.subject in {b.subject for b in run.plan.blocked}
    for (label, digest), starts in run.world.starts.items():
        assert len(starts) <= rules.STARTS, f"{label} with {digest} was started {len(starts)} times"


def predicted_end(predicted: Forecast) -> Decision:
    """The last decision of a forecast."""
    return Decision(view=predicted.final, plan=predicted.end, ledger=predicted.final.facts.ledger)
