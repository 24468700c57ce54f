"""Worlds for every property: a desired state, a machine that agrees with it more or less, and luck."""

from collections.abc import Mapping
from dataclasses import replace
from math import inf
from typing import Final

from hypothesis import strategies as st

from reconciler.model.cache_cost import CacheCost
from reconciler.model.desired import Desired, ModelSpec
from reconciler.model.host import HostFile
from reconciler.model.ledger import EMPTY, Attempt, Ledger, Suspension
from reconciler.model.observed import (
    Absent,
    Artifact,
    Listener,
    Observation,
    Present,
    ServerProcess,
    Standing,
    Unknown,
)
from reconciler.model.routes import Route, Upstream
from reconciler.model.target import Target
from reconciler.model.view import Facts
from reconciler.planning.resolve import Resolver
from reconciler.planning.spec import spec_hash
from tests.world.drive import BACKENDS, Scenario, facts
from tests.world.script import Script
from tests.world.truth import Binding, Gateway, Record, Server, Truth, bindings
from tests.world.virtual_time import EPOCH

from .documents import EXPERIMENTAL, LABELS, REPOS, TEAM, desired_states, host_files, often, weighted

GIB: Final = 2**30
STRANGERS: Final = ("old-one", "old-two")
"""Labels that no desired state declares."""
SECONDS: Final = st.sampled_from([0.125, 0.25, 0.5, 1.0, 2.5, 7.0, 20.0])
PARTS: Final = st.sampled_from([0.125, 0.25, 0.5, 1.0, 2.5, 7.0])
"""Of a request; four of them end before its deadline."""


@st.composite
def artifacts(draw: st.DrawFn) -> dict[str, Observation[Artifact]]:
    """Every repository in every state; complete most of the time."""
    found: dict[str, Observation[Artifact]] = {}
    for repo in REPOS:
        for revision in ("main", "dev"):
            reference = f"{repo}@{revision}"
            identity = f"{reference}#{draw(st.sampled_from([2, 1]))}"
            whole = Artifact(
                identity=identity,
                path=f"/hub/{identity}",
                weight_bytes=draw(st.sampled_from([1, 3, 6])) * GIB,
                cache=CacheCost(per_token=2**12),
                converted=True,
            )
            match draw(weighted(whole=24, partial=1, absent=1, unknown=1)):
                case "whole":
                    found[reference] = Present(value=whole)
                case "partial":
                    found[reference] = Present(value=replace(whole, missing=("model.safetensors",)))
                case "absent":
                    found[reference] = Absent()
                case _:
                    found[reference] = Unknown(reason="permission denied")
    return found


SERVED: Final = weighted(
    matching=6, nothing=8, older=4, other_spec=2, other_port=3, starting=1, zombie=1, dead=2, orphan=1, doubtful=1
)
FRESH: Final = weighted(nothing=9, matching=2, dead=2, older=1)
STRANGE: Final = weighted(nothing=5, matching=4, starting=1, zombie=1, dead=2, orphan=1, doubtful=1)


@st.composite
def records(draw: st.DrawFn, target: Target | None, label: str, kind: str, port: int) -> Record:
    """What the state directory says about one label, and what is true about its process."""
    fields = {
        "source": "org/gone@main",
        "chat_template": "",
        **(target.fields if target is not None else {}),
        "port": str(port),
    }
    if kind == "other-spec":
        fields["chat_template"] = "0" * 64
    artifact = target.artifact if target is not None else Absent()
    identity = artifact.value.identity if isinstance(artifact, Present) else "somewhere#1"
    need = target.need.total if target is not None and target.need is not None else 3 * GIB
    process = ServerProcess(
        label=label,
        port=port,
        standing=Standing.OURS,
        spec_hash=spec_hash(fields),
        fields=fields,
        artifact=f"{identity}-before" if kind == "older" else identity,
        served_name=target.served_name if target is not None and target.served_name else "default_model",
        memory=need if draw(often(True, 3)) else 2 * GIB,
    )
    since = EPOCH - draw(st.sampled_from([4.0, 90.0]))
    server = Server(
        pid=8000 + port,
        since=since,
        ready_at=EPOCH + draw(SECONDS) if kind in ("starting", "orphan") else since,
        wedged_at=since + 1 if kind == "zombie" else inf,
        dies_at=since + 2 if kind == "dead" else inf,
    )
    doubt = "its token contradicts its record" if kind == "doubtful" else ""
    return Record(process=process, server=server, complete=kind != "orphan", doubt=doubt)


@st.composite
def populations(draw: st.DrawFn, targets: Mapping[str, Target], fresh: bool) -> dict[str, Record]:
    """Records of declared labels and of strangers, never two live ones on one port; few of them where `fresh`."""
    found: dict[str, Record] = {}
    taken: set[int] = set()
    for label in [*targets, *STRANGERS]:
        target = targets.get(label)
        kind = draw(STRANGE if target is None else FRESH if fresh else SERVED)
        if kind == "nothing":
            continue
        pool = EXPERIMENTAL if target is not None and target.spec.port == "auto" else TEAM
        port = target.port if target is not None and target.port is not None else draw(st.sampled_from(TEAM))
        if kind == "other-port" or port in taken:
            free = [p for p in pool if p not in taken]
            if not free:
                continue
            port = draw(st.sampled_from(free))
        if kind != "dead":
            taken.add(port)
        found[label] = draw(records(target, label, kind, port))
    return found


@st.composite
def ledgers(draw: st.DrawFn, targets: Mapping[str, Target], found: Mapping[str, Record]) -> Ledger:
    """What is remembered: nothing, or most of what such a world would have taught."""
    if not draw(often(True, 6)):
        return EMPTY
    attempts = {}
    suspensions = {}
    for label, target in targets.items():
        match draw(weighted(nothing=14, tried=3, held=1, permanent=1, suspended=2, earlier_spec=1)):
            case "tried":
                attempts[label] = _attempt(target.spec_hash, draw(st.sampled_from([1, 3])), draw(SECONDS))
            case "held":
                attempts[label] = _attempt(target.spec_hash, 5, 0)
            case "permanent":
                attempts[label] = replace(_attempt(target.spec_hash, 1, 0), permanent=True)
            case "earlier-spec":
                attempts[label] = _attempt("0" * 12, 5, 100)
            case "suspended":
                suspensions[label] = Suspension(since=EPOCH - 60, reason="a person said stop")
            case _:
                pass
    leases = {label: r.process.port for label, r in found.items() if draw(often(True, 8))}
    for label, target in targets.items():
        if target.port is not None and label not in leases and draw(st.booleans()):
            leases[label] = target.port
    serving = {label for label, r in found.items() if r.live(EPOCH)}
    return Ledger(
        attempts=attempts,
        suspensions=suspensions,
        proved=frozenset(label for label in targets if label in serving or draw(often(False))),
        proofs={},
        launched=frozenset(label for label in found if draw(often(True, 8))),
        leases=leases,
    )


def _attempt(digest: str, count: int, wait: float) -> Attempt:
    return Attempt(
        spec_hash=digest,
        cause="crashed",
        count=count,
        first=EPOCH - 100,
        last=EPOCH - 8,
        retry_at=EPOCH + wait - 1,
        error="exit 1",
    )


@st.composite
def gateway_files(draw: st.DrawFn, desired: Desired, found: Mapping[str, Record]) -> dict[str, Gateway]:
    """The files of the gateways that the host names: right, stale, empty, missing or unreadable."""
    declared = desired.state.gateways
    kinds = [k for k, spec in (("front", declared.front), ("litellm", declared.litellm)) if spec is not None]
    named = [k for k in kinds if draw(often(True, 12))] + (
        ["litellm"] if "litellm" not in kinds and draw(often(False, 8)) else []
    )
    exposed = declared.front is not None and declared.litellm is not None and declared.litellm.mode != "direct"
    result = {}
    for kind in named:
        routes = tuple(draw(_routes(desired, found, upstreams=not (kind == "litellm" and exposed))))
        state = draw(weighted(file=9, none=1, sealed=1))
        drains = draw(often(False, 5))
        stale = Binding(label=draw(st.sampled_from([*LABELS, *STRANGERS])), port=draw(st.sampled_from([*TEAM, 8120])))
        # A port is given to another label only when nobody is sent there any more: no route names a draining port.
        free = stale.port not in {binding.port for binding in bindings(routes)}
        result[kind] = Gateway(
            routes=None if state == "none" else routes,
            drain=draw(st.sampled_from([0.0, 10.0, 1.0])),
            draining={stale: EPOCH + draw(SECONDS)} if drains and state != "none" and free else {},
            tells=draw(st.booleans()),
            unreadable="permission denied" if state == "sealed" else "",
        )
    return result


@st.composite
def _routes(draw: st.DrawFn, desired: Desired, found: Mapping[str, Record], upstreams: bool) -> list[Route]:
    routes = []
    ports: set[int] = set()
    for label in sorted({*desired.state.models, *found}):
        spec = desired.state.models.get(label)
        record = found.get(label)
        right = record.process.port if record is not None else draw(st.sampled_from(TEAM))
        kind = draw(weighted(right=4, none=2, stale=1))
        port = draw(st.sampled_from(TEAM)) if kind == "stale" else right
        if kind == "none" or port in ports or (record is None and kind != "stale"):
            continue
        ports.add(port)
        upstream = Upstream(host="127.0.0.1", port=port, served_name="default_model")
        routes.append(
            Route(
                label=label,
                aliases=tuple(sorted(spec.aliases)) if spec is not None else (),
                upstream=upstream if upstreams else None,
                context_length=spec.context_length
                if spec is not None and isinstance(spec.context_length, int)
                else None,
                request_params={},
            )
        )
    return routes


def targets_of(desired: Desired, host_file: HostFile, truth: Truth) -> Mapping[str, Target]:
    """What is declared, made exact as far as a world without servers allows."""
    seen: Facts = facts(Scenario(desired=desired, host_file=host_file, truth=truth))
    return Resolver(BACKENDS).resolve(seen)


def _moved(spec: ModelSpec, record: Record | None) -> ModelSpec:
    """The same model, with the acknowledgement that its port was changed."""
    if record is None or not isinstance(spec.port, int) or record.process.port == spec.port:
        return spec
    return replace(spec, moved_from=record.process.port)


@st.composite
def scenarios(draw: st.DrawFn, least: int = 0, most: int = 6, tight: bool = False, fresh: bool = False) -> Scenario:
    """A world in which nothing goes wrong by itself; requests and starts take drawn times.

    Memory may be `tight`, and most of what is declared may not run yet: a `fresh` world.
    """
    desired = draw(desired_states(least, most))
    truth = Truth(artifacts=draw(artifacts()), platform=draw(st.sampled_from(["darwin", "darwin", "linux"])))
    accept_cpu = truth.platform == "linux" and draw(often(True, 24))
    targets = targets_of(desired, HostFile(accept_cpu=accept_cpu), truth)
    need = sum(target.need.total for target in targets.values() if target.need is not None)
    host_file = replace(draw(host_files(need + 4 * GIB, tight)), accept_cpu=accept_cpu)
    found = draw(populations(targets, fresh))
    moved = {
        label: _moved(spec, found.get(label)) if draw(often(True, 3)) else spec
        for label, spec in desired.state.models.items()
    }
    desired = replace(desired, state=replace(desired.state, models=moved))
    taken = {r.process.port for r in found.values() if r.live(EPOCH)}
    spare = [port for port in (*TEAM, *EXPERIMENTAL) if port not in taken]
    strangers = [port for port in spare if draw(often(False, 6))]
    memories: list[Observation[int]] = [*[Present(value=2**40)] * 6, Present(value=12 * GIB), Unknown(reason="?")]
    truth = replace(
        truth,
        records=found,
        foreign={p: Listener(port=p, pid=draw(st.sampled_from([4711, None])), command=None) for p in strangers},
        unseen={port for port in spare if draw(often(False, 16))},
        gateways=draw(gateway_files(desired, found)),
        memory_total=draw(st.sampled_from(memories)),
        blind="permission denied" if draw(often(False, 25)) else "",
        ledger=draw(ledgers(targets, found)),
    )
    return Scenario(desired=desired, host_file=host_file, truth=truth, script=draw(luck()))


@st.composite
def luck(draw: st.DrawFn) -> Script:
    """How long things take."""
    return Script(
        durations=tuple(draw(st.lists(PARTS, min_size=1, max_size=7))),
        starts=tuple(draw(st.lists(SECONDS, min_size=1, max_size=4))),
        jitters=tuple(draw(st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.9375]), min_size=1, max_size=3))),
        hints=draw(often(True, 5)),
    )
