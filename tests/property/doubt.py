"""Unknown is not absent: what an unanswered question may not do to a plan."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from reconciler.actions.convert import Convert
from reconciler.actions.ensure import Ensure
from reconciler.actions.launch import Launch
from reconciler.actions.preflight import Preflight
from reconciler.actions.publish import Publish
from reconciler.actions.restore import Restore
from reconciler.model.observed import Listener, Present, Standing, Unknown
from reconciler.model.plan import Plan
from reconciler.model.routes import Route
from reconciler.model.view import Facts
from tests.world.drive import Scenario, examined, facts, planner

UNSEEN: Final = Unknown(reason="permission denied")


def destroyed(plan: Plan) -> set[tuple[str, ...]]:
    """Everything that a plan takes away or takes over."""
    found: set[tuple[str, ...]] = set()
    for action in plan.actions:
        if isinstance(action, Publish):
            kept, routed = {r.label for r in action.routes}, _routed(action.routes)
            listed = {r.label for r in action.before if r.upstream is None}
            found |= {("unlist", action.gateway, label) for label in listed - kept}
            found |= {("withdraw", action.gateway, *way) for way in _routed(action.before) - routed}
        elif not isinstance(action, Launch | Preflight | Ensure | Convert | Restore):
            found.add((action.kind, action.subject))
    return found


def _routed(routes: tuple[Route, ...]) -> set[tuple[str, str]]:
    return {(r.label, str(r.upstream.port)) for r in routes if r.upstream is not None}


def masked(seen: Facts) -> Iterator[tuple[str, Facts]]:
    """The same facts, each time with one more question unanswered."""
    observed = seen.observed

    def but(**changed: object) -> Facts:
        return replace(seen, observed=replace(observed, **changed))  # type: ignore[arg-type]

    yield "run records", but(servers={}, blind="permission denied")
    yield "memory", but(host=replace(observed.host, memory_total=UNSEEN))
    yield "runtimes", but(host=replace(observed.host, runtimes=dict.fromkeys(observed.host.runtimes, UNSEEN)))
    for port in observed.listeners:
        yield f"port {port}", but(listeners={**observed.listeners, port: UNSEEN})
    for reference in observed.artifacts:
        yield reference, but(artifacts={**observed.artifacts, reference: UNSEEN})
    for kind in observed.gateways:
        yield f"gateway {kind}", but(gateways={**observed.gateways, kind: UNSEEN})
    for label, process in observed.servers.items():
        doubted = replace(process, standing=Standing.UNKNOWN, detail="its token contradicts its record")
        yield f"server {label}", but(servers={**observed.servers, label: doubted})


def unknown_destroys_nothing(scenario: Scenario) -> None:
    """An unanswered question takes actions away and never adds one that destroys or claims."""
    # Memory is left out of it: a server that cannot be replaced leaves room in which another one can be.
    host_file = replace(scenario.host_file, memory=replace(scenario.host_file.memory, budget="4TiB"))
    seen = facts(replace(scenario, host_file=host_file), desired=scenario.desired)
    decider = planner()
    seen = examined(seen, decider)
    decision = decider.decide(seen)
    allowed, known = destroyed(decision.plan), decision.ledger
    served = {label for label, spec in scenario.desired.state.models.items() if spec.port != "none"}
    for what, doubtful in masked(replace(seen, ledger=replace(known, reserved=frozenset()))):
        doubting = decider.decide(doubtful)
        more = destroyed(doubting.plan) - allowed
        assert not more, f"{what} could not be seen, and for that: {more}"
        after = doubting.ledger
        assert (after.proofs, after.proved) == (known.proofs, known.proved), f"{what}: a proof was forgotten"
        assert known.launched <= after.launched, f"{what}: a launch was forgotten"
        leases = {label: port for label, port in known.leases.items() if label in served}
        assert leases.items() <= after.leases.items(), f"{what}: a lease was forgotten"


def unknown_port_is_not_free(scenario: Scenario) -> None:
    """Nothing is launched on a port of which nobody can say whether it is free, nor where somebody listens."""
    seen = facts(scenario, desired=scenario.desired)
    for state in (UNSEEN, Present(value=Listener(port=1, pid=4711))):
        free = {port for port, was in seen.observed.listeners.items() if not isinstance(was, Present)}
        listeners = {port: state if port in free else was for port, was in seen.observed.listeners.items()}
        plan = planner().decide(replace(seen, observed=replace(seen.observed, listeners=listeners))).plan
        ports = {action.order.port for action in plan.actions if isinstance(action, Launch)}
        assert ports.isdisjoint(free)
