"""A story is a folder: a desired state and what is observed, and the plan and the routes that follow from them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from reconciler import plugins
from reconciler.desired.host import parse_host
from reconciler.desired.parse import parse
from reconciler.desired.slice import select
from reconciler.model.bundle import REGULAR, Bundle, BundleFile
from reconciler.model.desired import Desired, launch_reference
from reconciler.model.host import HostFile
from reconciler.model.ledger import EMPTY, Attempt, Ledger, Suspension, Wish
from reconciler.model.names import port_range
from reconciler.model.observed import (
    Absent,
    GatewayState,
    Health,
    HostFacts,
    Listener,
    Observation,
    ObservedState,
    Present,
    ServerProcess,
    Standing,
    Unknown,
)
from reconciler.model.routes import Route, Upstream
from reconciler.model.target import Target
from reconciler.model.units import size
from reconciler.model.view import Facts
from reconciler.planning.forecast import Forecast, forecast
from reconciler.planning.plan import Planner
from reconciler.planning.resolve import Resolver
from reconciler.planning.routes import exposure
from reconciler.planning.spec import spec_hash
from reconciler.surface.render.plan import as_text, document

from .weights import artifact, sources, storage

NOW = 1_000_000.0


@dataclass(frozen=True)
class Story:
    """The inputs of one folder."""

    folder: Path

    @property
    def observed(self) -> dict[str, Any]:
        data: dict[str, Any] = yaml.safe_load((self.folder / "observed.yaml").read_text()) or {}
        return data

    def desired(self, host: HostFile) -> Desired:
        """The desired state through the real reader."""
        templates = {
            str(path.relative_to(self.folder)): BundleFile(mode=REGULAR, content=path.read_bytes())
            for path in sorted(self.folder.rglob("*.jinja"))
        }
        bundle = Bundle(
            name="ensemble.yaml",
            revision="worktree:0123456789ab",
            text=(self.folder / "desired.yaml").read_bytes(),
            files=templates,
        )
        parsed = parse(bundle, roots=host.roots, environ=self.observed.get("environ", {}), overrides={})
        return select(parsed.desired, host.name)

    def facts(self) -> Facts:
        """Everything as the planner gets it."""
        told = self.observed
        host = parse_host(yaml.safe_dump({"version": 1, **told.get("host", {})}).encode(), "host.yaml")
        desired = self.desired(host)
        backends = planner().backends
        empty = _observed(told, desired, {}, {})
        targets = Resolver(backends).resolve(Facts(desired=desired, observed=empty, ledger=EMPTY, host=host, now=NOW))
        servers = {label: _server(label, entry or {}, targets) for label, entry in told.get("servers", {}).items()}
        gateways = {kind: _gateway(entry, servers, targets) for kind, entry in told.get("gateways", {}).items()}
        return Facts(
            desired=desired,
            observed=_observed(told, desired, servers, gateways),
            ledger=_ledger(told.get("ledger", {}), targets, servers),
            host=host,
            now=NOW,
        )

    def forecast(self) -> Forecast:
        """All that follows from it."""
        return forecast(planner(), self.facts())

    def tell(self) -> tuple[str, str]:
        """What the plan says, and the routes before, during and after it."""
        outcome = self.forecast()
        return as_text(
            document(outcome, "ensemble.yaml"), full="--full" in self.observed.get("told_with", ["--full"])
        ), _routes(outcome)


def planner() -> Planner:
    """The real planner with every installed plug-in."""
    return Planner(plugins.installed_backends(), plugins.installed_verbs())


def _observed(
    told: Mapping[str, Any],
    desired: Desired,
    servers: Mapping[str, ServerProcess],
    gateways: Mapping[str, Observation[GatewayState]],
) -> ObservedState:
    models = desired.state.models
    sources = [source for spec in models.values() for source in (spec.source, spec.draft) if source]
    ports = {spec.port for spec in models.values() if isinstance(spec.port, int)} | {s.port for s in servers.values()}
    if "experimental" in desired.state.ports:
        ports |= set(port_range(desired.state.ports["experimental"]))
    listening = {s.port: {"pid": s.pid} for s in servers.values() if s.standing in (Standing.OURS, Standing.ORPHAN)}
    listeners: dict[int, Any] = listening | told.get("listeners", {})
    artifacts = told.get("artifacts", {})
    return ObservedState(
        at=NOW,
        servers=servers,
        listeners={port: _listener(port, listeners.get(port)) for port in sorted(ports)},
        artifacts={ref: artifact(artifacts.get(ref)) for ref in sorted(str(launch_reference(s)) for s in sources)},
        gateways=gateways,
        storage=storage(told.get("storage", {})),
        host=_host_facts(told.get("machine", {}), told.get("host", {}).get("accept_cpu", False)),
        blind=told.get("blind"),
    )


def _host_facts(told: Mapping[str, Any], accept_cpu: bool) -> HostFacts:
    total = told.get("memory", "128GiB")
    runtimes: dict[str, Observation[tuple[str, ...]]] = {
        "mlx-lm": Present(value=("python", "-m", "mlx_lm", "server")),
        "mlx-openai-server": Absent(),
    }
    for name in told.get("runtimes", []):
        runtimes[name] = Present(value=(name,))
    return HostFacts(
        platform=told.get("platform", "darwin"),
        memory_total=Unknown(reason=total["unknown"]) if isinstance(total, dict) else Present(value=size(total)),
        runtimes=runtimes,
        accept_cpu=accept_cpu,
        template_folder="/state/templates",
        offline=told.get("offline", True),
    )


def _listener(port: int, told: Mapping[str, Any] | None) -> Observation[Listener]:
    if told is None:
        return Absent()
    if "unknown" in told:
        return Unknown(reason=told["unknown"])
    return Present(value=Listener(port=port, pid=told.get("pid"), command=told.get("command")))


def _server(label: str, told: Mapping[str, Any], targets: Mapping[str, Target]) -> ServerProcess:
    """A record as the declared model would have left it, but for what the story says is different."""
    target = targets.get(label)
    known = isinstance(target.artifact, Present) if target is not None else False
    identity = (
        target.artifact.value.identity if target is not None and isinstance(target.artifact, Present) else "c0ffee"
    )
    fields = {**(target.fields if target is not None else {}), **told.get("fields", {})}
    port = told.get("port", target.port if target is not None else None)
    if port is None:
        raise AssertionError(f"say the port of server {label}")
    fields["port"] = str(port)
    need = target.need.total if target is not None and target.need is not None and known else 16 * 2**30
    return ServerProcess(
        label=label,
        port=port,
        standing=Standing(told.get("standing", "ours")),
        health=Health(told.get("health", "serving")),
        pid=told.get("pid", 4_000 + port),
        started=told.get("started", port),
        since=NOW - told.get("age", 3_600),
        asked_since=told.get("asked_since", 0.0),
        spec_hash=spec_hash(fields),
        fields=fields,
        artifact=str(told.get("commit", identity)),
        served_name=target.served_name if target is not None else "default_model",
        memory=size(told["memory"]) if "memory" in told else need,
        detail=told.get("detail", ""),
    )


def _gateway(
    told: Mapping[str, Any] | None, servers: Mapping[str, ServerProcess], targets: Mapping[str, Target]
) -> Observation[GatewayState]:
    if told is None:
        return Absent()
    if "unknown" in told:
        return Unknown(reason=told["unknown"])
    routes = []
    for label in told.get("routes", []):
        route = _route(label, targets.get(label), servers.get(label))
        routes.append(replace(route, **told.get("written", {}).get(label, {})))
    routes += [_route(label, targets.get(label), None) for label in told.get("listed", [])]
    routes.sort(key=lambda route: route.label)
    ports = {route.upstream.port for route in routes if route.upstream is not None} | set(told.get("draining", []))
    return Present(value=GatewayState(routes=tuple(routes), may_dispatch=frozenset(ports)))


def _route(label: str, target: Target | None, server: ServerProcess | None) -> Route:
    upstream = None
    if server is not None:
        upstream = Upstream(host=server.host, port=server.port, served_name=server.served_name)
    if target is None:
        return Route(label=label, upstream=upstream, request_params={})
    spec = target.spec
    return Route(
        label=label,
        aliases=tuple(sorted(spec.aliases)),
        upstream=upstream,
        context_length=spec.context_length if isinstance(spec.context_length, int) else None,
        max_output_tokens=spec.max_output_tokens,
        request_params=spec.request_params,
    )


def _ledger(told: Mapping[str, Any], targets: Mapping[str, Target], servers: Mapping[str, ServerProcess]) -> Ledger:
    attempts = {
        label: Attempt(
            spec_hash=targets[label].spec_hash if label in targets else "",
            cause=entry.get("cause", "crashed"),
            count=entry.get("count", 1),
            first=NOW - 300,
            last=NOW - 10,
            retry_at=NOW + entry.get("retry_in", 0),
            evidence=servers[label].instance if entry.get("counted") else "",
            permanent=entry.get("permanent", False),
            error=entry.get("error", "exit 1"),
        )
        for label, entry in told.get("attempts", {}).items()
    }
    suspensions = {
        label: Suspension(since=NOW - 60, reason=reason) for label, reason in told.get("suspensions", {}).items()
    }
    return replace(
        EMPTY,
        attempts=attempts,
        suspensions=suspensions,
        proved=frozenset(told.get("proved", [])),
        launched=frozenset(told.get("launched", [])),
        leases=told.get("leases", {}),
        sources=sources(told.get("sources", {}), NOW),
        wishes={reference: Wish(wish) for reference, wish in told.get("wishes", {}).items()},
    )


def _routes(outcome: Forecast) -> str:
    """The routes of every gateway: as observed, as published in each step, and as they end."""
    lines = []
    first = outcome.first.facts.observed.gateways
    for kind in sorted(outcome.final.wanted):
        state = first.get(kind)
        lines.append(f"{kind}, before:")
        lines += _lines(state.value.routes if isinstance(state, Present) else ())
        for number, step in enumerate(outcome.steps, 1):
            for action in step.plan.actions:
                if action.subject == f"gateway/{kind}":
                    lines.append(f"{kind}, written in tick {number}:")
                    lines += _lines(getattr(action, "routes", ()))
        lines.append(f"{kind}, wanted at the end:")
        lines += _lines(outcome.final.wanted[kind])
    for name, view in (("before", outcome.first), ("at the end", outcome.final)):
        changes = {change.label: change for change in view.changes}
        exposed = [route.label for route in exposure(view.facts, view.targets, changes)]
        lines.append(f"exposure {name}: {', '.join(exposed) or 'no label'}")
    return "\n".join(lines) + "\n"


def _lines(routes: tuple[Route, ...]) -> list[str]:
    lines = []
    for route in routes:
        names = ", ".join((route.label, *route.aliases))
        if route.upstream is None:
            lines.append(f"  {names} -> no upstream of its own")
        else:
            upstream = route.upstream
            lines.append(f"  {names} -> {upstream.host}:{upstream.port} as {upstream.served_name}")
    return lines or ["  (no routes)"]
