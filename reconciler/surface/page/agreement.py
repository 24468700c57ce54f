"""Whether a gateway agrees: what its file has, what is wanted, and who answers there."""

from reconciler.model.names import authority
from reconciler.model.observed import Absent, Health, Present, Standing, Unknown
from reconciler.model.routes import Route
from reconciler.model.status_document import GatewayEntry, RouteEntry
from reconciler.model.view import View
from reconciler.planning.diff import owner


def gateways(view: View) -> tuple[GatewayEntry, ...]:
    """One entry per gateway that is declared or has routes of ours."""
    return tuple(_gateway(view, kind) for kind in sorted(view.wanted))


def _gateway(view: View, kind: str) -> GatewayEntry:
    state = view.facts.observed.gateways.get(kind)
    wanted = {route.label: route for route in view.wanted[kind]}
    has = {route.label: route for route in state.value.routes} if isinstance(state, Present) else {}
    problem = _problem(view, kind)
    return GatewayEntry(
        kind=kind,
        problem=problem,
        matches=not problem and has == wanted and not (isinstance(state, Absent) and _declared(view, kind)),
        routes=tuple(_route(view, label, has.get(label), wanted.get(label)) for label in sorted({*has, *wanted})),
    )


def _declared(view: View, kind: str) -> bool:
    """Whether it must have a file, be it without a route: a gateway that includes it does not start otherwise."""
    return getattr(view.facts.desired.state.gateways, kind, None) is not None


def _problem(view: View, kind: str) -> str:
    match view.facts.observed.gateways.get(kind):
        case Unknown(reason=reason):
            return reason
        case None:
            return "this machine does not say where its files are"
        case _:
            return ""


def _route(view: View, label: str, has: Route | None, wanted: Route | None) -> RouteEntry:
    either = wanted or has
    return RouteEntry(
        label=label,
        aliases=either.aliases if either is not None else (),
        has=_upstream(has),
        wanted=_upstream(wanted),
        answers=_answers(view, has or wanted),
        matches=has == wanted,
    )


def _upstream(route: Route | None) -> str:
    if route is None:
        return ""
    upstream = route.upstream
    return "no upstream" if upstream is None else f"{authority(upstream.host, upstream.port)} as {upstream.served_name}"


def _answers(view: View, route: Route | None) -> str:
    """Who is at the upstream of a route, as far as looking has shown; empty where it has shown nothing."""
    if route is None or route.upstream is None:
        return ""
    observed, port = view.facts.observed, route.upstream.port
    holder = observed.holders().get(port)
    if holder is not None:
        server = observed.servers[holder]
        if server.standing is not Standing.OURS:
            return f"{holder}, which is not proved to be ours"
        return f"{holder}, {_DOES[server.health]}"
    match observed.listener(port):
        case Absent():
            return "nobody"
        case Present(value=listener):
            return f"{owner(listener)}, which is not ours"
        case Unknown():
            return ""


_DOES = {
    Health.SERVING: "serving",
    Health.STARTING: "not proved yet",
    Health.ZOMBIE: "alive and unable to generate",
}
