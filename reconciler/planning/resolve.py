"""Make every declared model exact: port, artifact, memory and command, or why it cannot be served."""

import difflib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace

from reconciler.backends.base import Backend, Finding, Start, filled, judge
from reconciler.model.base import noun
from reconciler.model.desired import DEFAULT_BACKEND, Defaults, ModelSpec, launch_reference
from reconciler.model.names import LaunchRef, artifact_subject, is_of_weights, server_subject
from reconciler.model.observed import Absent, Artifact, Observation, ObservedState, Present, Unknown
from reconciler.model.plan import Blocked, InFlight, Waiting
from reconciler.model.target import LaunchOrder, MemoryNeed, PreflightOrder, Target
from reconciler.model.view import Facts

from . import memory, ports, spec
from .supply import Supply, Wanted, outlived, supply

Backends = Mapping[str, Backend]


class Resolver:
    """Makes targets, and makes none twice while nothing that it rests on has changed.

    A forecast of many models decides many times over the same declarations: without this it would cost the square.
    """

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._made: dict[str, tuple[tuple[object, ...], Target]] = {}

    def resolve(self, facts: Facts) -> dict[str, Target]:
        """label -> target, for every declared model, in the order of the document."""
        state = facts.desired.state
        assigned = ports.assign(state, facts.observed, facts.ledger)
        # Nothing else of what is under way makes a difference to a target, and servers come and go all the time.
        of_weights = tuple(job for job in facts.in_flight if is_of_weights(job.subject))
        targets = {
            label: self._target(label, model, assigned[label], facts, of_weights)
            for label, model in state.models.items()
        }
        self._made = {label: self._made[label] for label in targets}
        return targets

    def _target(
        self, label: str, declared: ModelSpec, port: int | None, facts: Facts, of_weights: tuple[InFlight, ...]
    ) -> Target:
        old = _old_port(label, facts)
        observed, desired = facts.observed, facts.desired
        text = str(launch_reference(declared.source))
        aid = str(launch_reference(declared.draft)) if declared.draft else ""
        grounds: tuple[object, ...] = (
            declared,
            observed.artifacts.get(text),
            observed.artifacts.get(aid),
            observed.storage,
            *_checks(facts, text, aid),
            of_weights,
            desired.state.policy,
            desired.state.defaults,
            desired.state.ports,
            desired.templates,
            desired.provenance,
            observed.host,
            facts.host,
            desired.revision,
            facts.ledger.current,
            facts.ledger.pin is None,
        )
        made = self._made.get(label)
        if made is not None and (made[1].port, made[0][-1]) == (port, old) and _same(made[0], grounds):
            return made[1]
        model = _with_defaults(declared, desired.state.defaults)
        target = _target(_parts(label, model, port, facts, self._backends), facts, self._backends)
        self._made[label] = ((*grounds, old), target)
        return target


def _checks(facts: Facts, *references: str) -> Iterator[object]:
    """What the hub has said, and whether it has to be asked again by now."""
    for reference in references:
        check = facts.ledger.sources.get(reference)
        yield check
        yield check is not None and outlived(check, facts.now)


def _same(made: tuple[object, ...], grounds: tuple[object, ...]) -> bool:
    """Whether these are the very same objects; equal ones would do too, and comparing them costs more than it saves."""
    return all(one is other for one, other in zip(made, grounds, strict=False))


def _with_defaults(model: ModelSpec, defaults: Defaults) -> ModelSpec:
    if model.backend and model.context_length and model.max_output_tokens:
        return model
    return replace(
        model,
        backend=model.backend or defaults.backend,
        context_length=model.context_length or defaults.context_length,
        max_output_tokens=model.max_output_tokens or defaults.max_output_tokens,
    )


@noun
class _Parts:
    """What is known about one declared model before anything is concluded from it."""

    label: str
    model: ModelSpec
    port: int | None
    backend: Backend | None
    reference: LaunchRef
    source: Supply
    """The weights, and what brings them here."""
    aid: Supply | None
    """Those of the draft model; None where none is declared."""
    runtime: Observation[tuple[str, ...]]
    template: str | None

    @property
    def artifact(self) -> Observation[Artifact]:
        return self.source.artifact

    @property
    def draft(self) -> Observation[Artifact] | None:
        return self.aid.artifact if self.aid is not None else None

    @property
    def supplies(self) -> tuple[Supply, ...]:
        return (self.source,) if self.aid is None else (self.source, self.aid)


def _parts(label: str, model: ModelSpec, port: int | None, facts: Facts, backends: Backends) -> _Parts:
    name = model.backend or DEFAULT_BACKEND
    reference = launch_reference(model.source)
    backend = backends.get(name)
    runtime = facts.observed.host.runtimes.get(name, Unknown(reason=f"the runtime of {name} was not observed"))
    wanted = Wanted(
        reference=reference,
        model=model,
        what="the model",
        runtime=runtime.value if isinstance(runtime, Present) else (),
        backend=backend if port is not None else None,
    )
    source = supply(wanted, facts)
    if model.context_length == "auto":
        found = source.artifact.value if isinstance(source.artifact, Present) else None
        model = replace(model, context_length=found.context_window if found is not None else None)
    aid = None
    if model.draft is not None:
        draft = replace(wanted, reference=launch_reference(model.draft), what="the draft model", backend=None)
        aid = supply(draft, facts)
    return _Parts(
        label=label,
        model=model,
        port=port,
        backend=backend,
        reference=reference,
        source=source,
        aid=aid,
        runtime=runtime,
        template=facts.desired.templates.get(model.chat_template) if model.chat_template else None,
    )


def _target(parts: _Parts, facts: Facts, backends: Backends) -> Target:
    backend, model, host = parts.backend, parts.model, facts.host
    fields: dict[str, str] = {}
    need: MemoryNeed | None = None
    if backend is not None and parts.port is not None:
        command = parts.runtime.value if isinstance(parts.runtime, Present) else None
        draft = parts.draft.value if isinstance(parts.draft, Present) else None
        place = spec.Place(
            port=parts.port,
            host=host.bind,
            template=parts.template,
            runtime=command,
            draft=draft.identity if draft is not None else None,
        )
        fields = spec.canonical(model, backend, place)
        if isinstance(parts.artifact, Present):
            need = memory.need(backend, model, parts.artifact.value, draft)
    problems = tuple(_problems(parts, facts, backends))
    awaits = next((s for s in parts.supplies if s.awaits), None)
    target = Target(
        label=parts.label,
        spec=model,
        port=parts.port,
        backend=model.backend or DEFAULT_BACKEND,
        reference=str(parts.reference),
        fields=fields,
        spec_hash=spec.spec_hash(fields),
        served_name=backend.served_name(parts.label) if backend is not None else "",
        artifact=parts.artifact,
        need=need,
        order=None,
        problems=problems,
        supplies=tuple(s.order for s in parts.supplies if s.order is not None),
        awaits=_awaited(parts.label, awaits) if awaits is not None else None,
        provenance=facts.desired.provenance.get(parts.label),
    )
    return target if problems or awaits is not None else _with_orders(parts, target, facts)


def _awaited(label: str, supply: Supply) -> Waiting:
    return Waiting(
        subject=server_subject(label),
        reference=supply.code,
        reason=supply.awaits,
        until=supply.until,
        on=artifact_subject(supply.order.reference) if supply.order is not None else None,
    )


def _with_orders(parts: _Parts, target: Target, facts: Facts) -> Target:
    """With how it is started, and how that is tried out before; as it is where something of it is not known."""
    backend, artifact, runtime, need, port = parts.backend, parts.artifact, parts.runtime, target.need, target.port
    if backend is None or need is None or port is None:
        return target
    if not isinstance(artifact, Present) or not isinstance(runtime, Present):
        return target
    template = parts.template
    digest = hashlib.sha256(template.encode()).hexdigest() if template is not None else None
    template_path = f"{facts.observed.host.template_folder}/{digest}.jinja" if digest else None
    start = Start(
        label=parts.label,
        spec=parts.model,
        options=filled(backend, parts.model),
        runtime=runtime.value,
        host=facts.host.bind,
        port=port,
        model_path=artifact.value.path,
        draft_path=parts.draft.value.path if isinstance(parts.draft, Present) else None,
        template=template,
        template_path=template_path,
    )
    command = backend.command(start)
    order = LaunchOrder(
        label=parts.label,
        port=port,
        host=facts.host.bind,
        argv=command.argv,
        env=command.env,
        files={template_path: template} if template_path is not None and template is not None else {},
        spec_hash=target.spec_hash,
        fields=target.fields,
        artifact=artifact.value.identity,
        served_name=target.served_name,
        memory=need.total,
        revision=facts.desired.revision,
        generation=facts.ledger.current,
    )
    return replace(target, order=order, preflight=_preflight(backend, start, order))


def _preflight(backend: Backend, start: Start, order: LaunchOrder) -> PreflightOrder | None:
    examination = backend.preflight(start)
    if examination is None:
        return None
    return PreflightOrder(
        label=order.label,
        spec_hash=order.spec_hash,
        artifact=order.artifact,
        backend=backend.name,
        runtime=start.runtime,
        program=examination.program,
        request=examination.request,
    )


def _problems(parts: _Parts, facts: Facts, backends: Backends) -> Iterator[Blocked]:
    """Everything that stands against a launch, in the order in which a person should mend it."""
    for finding in _findings(parts, facts, backends):
        yield Blocked(
            subject=server_subject(parts.label),
            reference=finding.reference,
            reason=finding.reason,
            hint=finding.hint,
        )


def _findings(parts: _Parts, facts: Facts, backends: Backends) -> Iterator[Finding]:
    model, backend = parts.model, parts.backend
    if backend is None:
        yield _unknown_backend(model.backend or "", backends)
        return
    sources = [s.problem for s in parts.supplies if s.problem is not None]
    if model.port == "none":
        yield from sources
        return
    if parts.port is None:
        yield _no_port_left(facts)
    else:
        yield from _moved(parts.label, model, parts.port, facts)
    yield from judge(backend, model, parts.template, tuple(b for b in backends.values() if b is not backend))
    yield from sources
    yield from _unmet(parts)
    yield from _runtime_findings(backend, parts.runtime, facts.observed)


def _unmet(parts: _Parts) -> Iterator[Finding]:
    """What the model requires of its weights and they do not have."""
    found = parts.artifact.value if isinstance(parts.artifact, Present) and not parts.source.problem else None
    toolless = found is not None and found.complete and found.has_tool_template is False
    if toolless and "tools" in parts.model.requires:
        yield Finding(
            reference="requirement-unmet",
            reason=f"the model requires 'tools' and the chat template of {parts.reference} knows none",
            hint="declare a chat_template that renders tools, or drop the requirement",
        )


def _old_port(label: str, facts: Facts) -> int | None:
    """The port that the label has by its live server, else by its lease."""
    live = facts.observed.servers.get(label)
    return live.port if live is not None and live.live else facts.ledger.leases.get(label)


def _moved(label: str, model: ModelSpec, port: int, facts: Facts) -> Iterator[Finding]:
    old = _old_port(label, facts)
    # Whoever goes back wants the old ports, and cannot write an acknowledgement into what was once declared.
    if old is None or old in (port, model.moved_from) or facts.ledger.pin is not None:
        return
    if model.port == "auto":
        yield Finding(
            reference="lease-out-of-range",
            reason=f"its leased port {old} is no longer one that `port: auto` may give, so it stays on {old}",
            hint=f"widen ports.experimental to hold {old}, or declare a port with moved_from: {old}",
        )
    else:
        yield Finding(
            reference="port-moved-without-acknowledgement",
            reason=f"the port was {old} and is now declared as {port}; ports are immutable, so it stays on {old}",
            hint=f"add moved_from: {old} to acknowledge the move, or declare port: {old} again",
        )


def _no_port_left(facts: Facts) -> Finding:
    declared = facts.desired.state.ports.get("experimental", "none")
    return Finding(
        reference="port-range-exhausted",
        reason=f"every port of the range experimental ({declared}) is declared, leased or in use",
        hint="widen ports.experimental, or free a port",
    )


def _unknown_backend(name: str, backends: Backends) -> Finding:
    near = difflib.get_close_matches(name, backends, n=1)
    meant = f"did you mean {near[0]!r}? " if near else ""
    return Finding(
        reference="backend-unknown",
        reason=f"there is no backend {name!r}",
        hint=f"{meant}backends of this version: {', '.join(sorted(backends))}",
    )


def _runtime_findings(
    backend: Backend, runtime: Observation[tuple[str, ...]], observed: ObservedState
) -> Iterator[Finding]:
    match runtime:
        case Present():
            pass
        case Absent():
            yield Finding(
                reference="runtime-missing",
                reason=f"the backend {backend.name} is not installed here",
                hint=f"name its command in the host file: runtimes.{backend.name}.command",
            )
        case Unknown(reason=reason):
            yield Finding(
                reference="observation-unknown",
                reason=f"whether the backend {backend.name} is installed could not be seen: {reason}",
                hint=f"name its command in the host file: runtimes.{backend.name}.command",
            )
    if backend.needs_metal and observed.host.platform != "darwin" and not observed.host.accept_cpu:
        yield Finding(
            reference="metal-required",
            reason=f"{backend.name} needs Metal and this machine is {observed.host.platform}",
            hint="set accept_cpu: true in the host file to run on the CPU all the same",
        )
