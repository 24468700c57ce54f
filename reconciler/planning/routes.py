"""The two rules of what a gateway is told."""

from collections.abc import Mapping

from reconciler.model.change import Change
from reconciler.model.observed import Present, Standing, Unknown
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
    # A launch under way cannot be proved yet, but its label has no server that could have kept a route.
    launching = {job.subject for job in facts.in_flight if job.kind == "launch"}
    routes = []
    for label, target in targets.items():
        live = changes[label].live
        upstream: Upstream | None = None
        unknown = live is not None and live.standing is Standing.UNKNOWN and changes[label].subject not in launching
        if facts.observed.blind is not None or unknown:
            kept = present[label].upstream if label in present else None
            # A route to another port than the recorded one leads to somebody else, whoever the server is.
            upstream = kept if kept is not None and (live is None or kept.port == live.port) else None
        elif live is not None and target.port is not None and live.serves and label not in leaving:
            upstream = Upstream(host=live.host, port=live.port, served_name=live.served_name)
        if upstream is not None or (kind == "front" and target.spec.activation == "on-demand" and target.port):
            routes.append(_route(target, upstream))
    return tuple(sorted(routes, key=lambda r: r.label))


def exposure(facts: Facts, targets: Mapping[str, Target], changes: Mapping[str, Change]) -> tuple[Route, ...]:
    """Exposure: a label is listed iff it is declared, its artifact is complete, and it was proved once.

    A crash, a sleep or a swap of the artifact changes nothing here, so LiteLLM need not restart for them. While a
    server serves, its label stays listed also where the next artifact is not there yet or cannot be seen; and what
    is listed stays so while nobody can say whether its server serves.
    """
    state = facts.observed.gateways.get("litellm")
    listed = {r.label for r in state.value.routes} if isinstance(state, Present) else set[str]()
    routes = []
    for label, target in targets.items():
        if target.spec.port == "none":
            continue
        live = changes[label].live
        serving = live is not None and live.serves
        complete = isinstance(target.artifact, Present) and target.artifact.value.complete
        unseen = facts.observed.blind is not None or (live is not None and live.standing is Standing.UNKNOWN)
        kept = label in listed and isinstance(target.artifact, Unknown)
        if serving or (label in listed and unseen) or (label in facts.ledger.proved and (complete or kept)):
            routes.append(_route(target, None))
    return tuple(sorted(routes, key=lambda r: r.label))


def _route(target: Target, upstream: Upstream | None) -> Route:
    spec = target.spec
    return Route(
        label=target.label,
        aliases=tuple(sorted(spec.aliases)),
        upstream=upstream,
        context_length=spec.context_length if isinstance(spec.context_length, int) else None,
        max_output_tokens=spec.max_output_tokens,
        request_params=spec.request_params,
    )
