"""The two rules of what a gateway is told."""

from collections.abc import Mapping

from reconciler.model.change import Change
from reconciler.model.observed import Artifact, Health, Observation, Present, Standing, Unknown
from reconciler.model.routes import Route, Upstream
from reconciler.model.target import Target
from reconciler.model.view import Facts


def wanted(
    facts: Facts, targets: Mapping[str, Target], changes: Mapping[str, Change], leaving: frozenset[str]
) -> dict[str, tuple[Route, ...]]:
    """gateway -> the routes it should have now, for every gateway that is declared or holds routes of ours."""
    gateways = facts.desired.state.gateways
    result: dict[str, tuple[Route, ...]] = {kind: () for kind in sorted(facts.observed.gateways)}
    if gateways.front is not None:
        result["front"] = bindings(facts, targets, changes, leaving, "front")
    if gateways.litellm is not None:
        through_front = gateways.litellm.mode == "front" or (
            gateways.litellm.mode is None and gateways.front is not None
        )
        result["litellm"] = (
            exposure(facts, targets, changes)
            if through_front
            else bindings(facts, targets, changes, leaving, "litellm")
        )
    return result


def bindings(
    facts: Facts,
    targets: Mapping[str, Target],
    changes: Mapping[str, Change],
    leaving: frozenset[str],
    kind: str,
) -> tuple[Route, ...]:
    """Upstream binding: a route has an upstream iff its server is desired, proved and not about to stop.

    A server of which nothing can be said keeps the route it has: a failed observation is not absence. The front
    door also keeps on-demand labels without an upstream, so that a request can wake them.
    """
    state = facts.observed.gateways.get(kind)
    present = {r.label: r for r in state.value.routes} if isinstance(state, Present) else {}
    routes = []
    for label, target in targets.items():
        live = changes[label].live
        upstream: Upstream | None = None
        if facts.observed.blind is not None or (live is not None and live.standing is Standing.UNKNOWN):
            upstream = present[label].upstream if label in present else None
        elif (
            live is not None
            and target.port is not None
            and live.standing is Standing.OURS
            and live.health is Health.SERVING
            and label not in leaving
        ):
            upstream = Upstream(host=live.host, port=live.port, served_name=live.served_name)
        if upstream is not None or (kind == "front" and target.spec.activation == "on-demand" and target.port):
            routes.append(_route(target, upstream))
    return tuple(sorted(routes, key=lambda r: r.label))


def exposure(facts: Facts, targets: Mapping[str, Target], changes: Mapping[str, Change]) -> tuple[Route, ...]:
    """Exposure: a label is listed iff it is declared, its artifact is complete, and it was proved once.

    A crash, a sleep or a swap of the artifact changes nothing here, so LiteLLM need not restart for them. While a
    server serves, its label stays listed also where the next artifact is not there yet or cannot be seen.
    """
    routes = []
    for label, target in targets.items():
        if target.port is None:
            continue
        live = changes[label].live
        serving = live is not None and live.standing is Standing.OURS and live.health is Health.SERVING
        complete = isinstance(target.artifact, Present) and target.artifact.value.complete
        if serving or (label in facts.ledger.proved and (complete or _listed(facts, label, target.artifact))):
            routes.append(_route(target, None))
    return tuple(sorted(routes, key=lambda r: r.label))


def _listed(facts: Facts, label: str, artifact: Observation[Artifact]) -> bool:
    """Whether LiteLLM lists the label and its artifact cannot be seen: unknown is no reason to unlist it."""
    state = facts.observed.gateways.get("litellm")
    known = isinstance(state, Present) and any(r.label == label for r in state.value.routes)
    return known and isinstance(artifact, Unknown)


def _route(target: Target, upstream: Upstream | None) -> Route:
    spec = target.spec
    return Route(
        label=target.label,
        aliases=tuple(sorted(spec.aliases)),
        upstream=upstream,
        context_length=spec.context_length,
        max_output_tokens=spec.max_output_tokens,
        request_params=spec.request_params,
    )
