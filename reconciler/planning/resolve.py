"""Make every declared model exact: port, artifact, memory and command, or why it cannot be served."""

import difflib
import hashlib
from collections.abc import Iterator, Mapping

from reconciler.backends.base import Backend, Finding, Start, filled, judge
from reconciler.model.desired import DEFAULT_BACKEND, Defaults, ModelSpec, launch_reference
from reconciler.model.names import RepoRef, server_subject
from reconciler.model.observed import Absent, Artifact, Observation, ObservedState, Present, Unknown
from reconciler.model.plan import Blocked
from reconciler.model.target import LaunchOrder, MemoryNeed, Target
from reconciler.model.view import Facts

from . import memory, ports, spec

Backends = Mapping[str, Backend]


def resolve(facts: Facts, backends: Backends) -> dict[str, Target]:
    """label -> target, for every declared model, in the order of the document."""
    state = facts.desired.state
    assigned = ports.assign(state, facts.observed, facts.ledger)
    targets = {}
    for label, declared in state.models.items():
        model = _with_defaults(declared, state.defaults)
        targets[label] = _target(label, model, assigned[label], facts, backends)
    return targets


def _with_defaults(model: ModelSpec, defaults: Defaults) -> ModelSpec:
    if model.backend and model.context_length and model.max_output_tokens:
        return model
    filled_in = {f: getattr(model, f) for f in model.__slots__}  # type: ignore[attr-defined]
    filled_in["backend"] = model.backend or defaults.backend
    filled_in["context_length"] = model.context_length or defaults.context_length
    filled_in["max_output_tokens"] = model.max_output_tokens or defaults.max_output_tokens
    return ModelSpec(**filled_in)


def _target(label: str, model: ModelSpec, port: int | None, facts: Facts, backends: Backends) -> Target:
    observed, host = facts.observed, facts.host
    name = model.backend or DEFAULT_BACKEND
    backend = backends.get(name)
    reference = launch_reference(model.source)
    artifact = observed.artifact(str(reference))
    runtime = observed.host.runtimes.get(name, Unknown(reason=f"the runtime of {name} was not observed"))
    template = facts.desired.templates.get(model.chat_template) if model.chat_template else None
    fields: dict[str, str] = {}
    need: MemoryNeed | None = None
    if backend is not None and port is not None:
        command = runtime.value if isinstance(runtime, Present) else None
        fields = spec.canonical(model, backend, port, host.bind, template, command)
        if isinstance(artifact, Present):
            need = memory.need(backend, model, artifact.value)
    problems = tuple(_problems(label, model, port, backend, runtime, artifact, template, facts, backends))
    digest = spec.spec_hash(fields)
    served_name = backend.served_name(label) if backend is not None else ""
    order = None
    if (
        not problems
        and backend
        and port
        and need
        and isinstance(artifact, Present)
        and isinstance(runtime, Present)
    ):
        start = _start(label, model, port, backend, runtime.value, artifact.value, template, facts)
        command_line = backend.command(start)
        order = LaunchOrder(
            label=label,
            port=port,
            host=host.bind,
            argv=command_line.argv,
            env=command_line.env,
            files={start.template_path: template} if template is not None and start.template_path else {},
            spec_hash=digest,
            fields=fields,
            artifact=artifact.value.identity,
            served_name=served_name,
            memory=need.total,
        )
    return Target(
        label=label,
        spec=model,
        port=port,
        backend=name,
        reference=str(reference),
        fields=fields,
        spec_hash=digest,
        served_name=served_name,
        artifact=artifact,
        need=need,
        order=order,
        problems=problems,
        provenance=facts.desired.provenance.get(label),
    )


def _start(
    label: str,
    model: ModelSpec,
    port: int,
    backend: Backend,
    runtime: tuple[str, ...],
    artifact: Artifact,
    template: str | None,
    facts: Facts,
) -> Start:
    draft = facts.observed.artifact(str(launch_reference(model.draft))) if model.draft else None
    digest = hashlib.sha256(template.encode()).hexdigest() if template is not None else None
    return Start(
        label=label,
        spec=model,
        options=filled(backend, model),
        runtime=runtime,
        host=facts.host.bind,
        port=port,
        model_path=artifact.path,
        draft_path=draft.value.path if isinstance(draft, Present) else None,
        template=template,
        template_path=f"{facts.observed.host.template_folder}/{digest}.jinja" if digest else None,
    )


def _problems(
    label: str,
    model: ModelSpec,
    port: int | None,
    backend: Backend | None,
    runtime: Observation[tuple[str, ...]],
    artifact: Observation[Artifact],
    template: str | None,
    facts: Facts,
    backends: Backends,
) -> Iterator[Blocked]:
    """Everything that stands against a launch, in the order in which a person should mend it."""
    subject = server_subject(label)

    def blocked(finding: Finding) -> Blocked:
        return Blocked(subject=subject, reference=finding.reference, reason=finding.reason, hint=finding.hint)

    if backend is None:
        yield blocked(_unknown_backend(model.backend or "", backends))
        return
    if model.port == "none":
        reference = str(launch_reference(model.source))
        yield from map(blocked, _artifact_findings(reference, model, artifact, "the model"))
        return
    if port is None:
        yield blocked(_no_port_left(facts))
    else:
        yield from map(blocked, _moved(label, model, port, facts))
    rivals = tuple(b for b in backends.values() if b is not backend)
    yield from map(blocked, judge(backend, model, template, rivals))
    if not isinstance(model.convert, str) or model.convert == "force":
        yield blocked(
            Finding(
                reference="conversion-unavailable",
                reason="the model asks for a conversion, which this version does not make",
                hint="declare a repository that is already converted, with convert: auto",
            )
        )
    yield from map(
        blocked, _artifact_findings(str(launch_reference(model.source)), model, artifact, "the model")
    )
    if model.draft is not None:
        draft_reference = str(launch_reference(model.draft))
        draft = facts.observed.artifact(draft_reference)
        yield from map(blocked, _artifact_findings(draft_reference, None, draft, "the draft model"))
    yield from map(blocked, _runtime_findings(backend, runtime, facts.observed))


def _moved(label: str, model: ModelSpec, port: int, facts: Facts) -> Iterator[Finding]:
    live = facts.observed.servers.get(label)
    old = live.port if live is not None and live.live else facts.ledger.leases.get(label)
    if old is not None and old != port and model.moved_from != old:
        yield Finding(
            reference="port-moved-without-acknowledgement",
            reason=f"the port was {old} and is now declared as {port}; ports are immutable, so the server stays on {old}",
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


def _artifact_findings(
    reference: str, model: ModelSpec | None, artifact: Observation[Artifact], what: str
) -> Iterator[Finding]:
    repo = launch_reference(model.source) if model is not None else None
    match artifact:
        case Unknown(reason=reason):
            yield Finding(
                reference="observation-unknown",
                reason=f"{what} {reference} could not be looked at ({reason}), so nothing was changed for it",
                hint="mend what stands against reading it, and look again",
            )
        case Absent():
            fetch = (
                f"hf download {repo.repo} --revision {repo.revision}"
                if isinstance(repo, RepoRef)
                else "put it there, or mend the source"
            )
            yield Finding(
                reference="artifact-missing",
                reason=f"{what} {reference} is not on this machine; nothing that runs was stopped for it",
                hint=fetch,
            )
        case Present(value=found) if not found.complete:
            names = ", ".join(found.missing[:3]) + (", ..." if len(found.missing) > 3 else "")  # noqa: PLR2004
            yield Finding(
                reference="artifact-partial",
                reason=f"{what} {reference} is incomplete: {len(found.missing)} files are missing or short ({names})",
                hint=f"hf download {repo.repo} --revision {repo.revision}"
                if isinstance(repo, RepoRef)
                else "copy it again",
            )
        case Present(value=found):
            if model is not None and "tools" in model.requires and found.has_tool_template is False:
                yield Finding(
                    reference="requirement-unmet",
                    reason=f"the model requires 'tools' and the chat template of {reference} knows none",
                    hint="declare a chat_template that renders tools, or drop the requirement",
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
