"""A scenario on one screen, for the output of a test that found something."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from reconciler.model.desired import launch_reference
from reconciler.model.observed import Artifact, Observation, Present

from .store import Store
from .truth import Record, bindings

if TYPE_CHECKING:
    from .drive import Scenario


def describe(scenario: "Scenario") -> str:
    """What is declared, what is true, what is remembered and what will happen."""
    return "\n".join(["Scenario:", *("  " + line for line in _lines(scenario))])


def _lines(scenario: "Scenario") -> Iterator[str]:
    desired, truth, host, script = scenario.desired, scenario.truth, scenario.host_file, scenario.script
    gateways = desired.state.gateways
    for label, spec in desired.state.models.items():
        reference = str(launch_reference(spec.source))
        artifact = _artifact(truth.artifacts.get(reference))
        plain = {"source", "port"}
        rest = {n: v for n in spec.__slots__ if n not in plain and (v := getattr(spec, n)) not in _USUAL}  # type: ignore[attr-defined]
        yield f"declared {label}: {reference} ({artifact}) port={spec.port} {rest or ''}"
    yield f"gateways {gateways.front} {gateways.litellm} prune={desired.state.policy.prune}"
    for edit in scenario.edits:
        yield f"edit after {edit.after:g} s: {list(edit.desired.state.models)}"
    yield f"host: budget={host.memory.budget} of {truth.memory_total}, max_launches={host.max_launches}"
    yield f"platform: {truth.platform} accept_cpu={host.accept_cpu} blind={truth.blind!r}"
    for label, record in truth.records.items():
        yield f"record {label}: {_record(record)}"
    if truth.foreign or truth.unseen:
        yield f"foreign {sorted(truth.foreign)} unseen {sorted(truth.unseen)}"
    for kind, gateway in truth.gateways.items():
        ways = sorted((b.label, b.port) for b in bindings(gateway.routes or ()))
        names = None if gateway.routes is None else [r.label for r in gateway.routes]
        draining = {(b.label, b.port): until for b, until in gateway.draining.items()}
        yield f"file {kind}: {names} {ways} draining={draining} drain={gateway.drain:g} tells={gateway.tells}"
        yield f"  {gateway.unreadable=}"
    ledger = truth.ledger
    yield f"ledger: proved={set(ledger.proved)} launched={set(ledger.launched)} leases={dict(ledger.leases)}"
    for label, attempt in ledger.attempts.items():
        due = f"retry_at={attempt.retry_at:g} {attempt.permanent=}"
        yield f"  attempt {label}: {attempt.spec_hash} x{attempt.count} {due}"
    for label, suspension in ledger.suspensions.items():
        yield f"  suspended {label} until {suspension.until}"
    yield f"durations={script.durations} starts={script.starts} jitters={script.jitters} hints={script.hints}"
    if script.faults or script.events or script.duds or script.unfit:
        faults = [f.name if f else None for f in script.faults]
        yield f"faults={faults} duds={dict(script.duds)} unfit={set(script.unfit)}"
    for event in script.events:
        whom = f"{event.label} {event.port} {event.gateway} {event.reference} {event.volume}"
        yield f"event after {event.after:g} s: {event.does.name} {whom}"
    yield from _store(scenario)


def _store(scenario: "Scenario") -> Iterator[str]:
    """What is where beside the cache; nothing where there is nothing."""
    truth = scenario.truth
    store, ledger = truth.store, truth.ledger
    for reference, check in store.hub.items():
        says = check.problem or f"{check.commit} of {check.bytes / 2**30:g} GiB converted={check.converted}"
        yield f"hub {reference}: {says}{' SICK' if reference in store.sick else ''}"
    for reference, made in store.conversions.items():
        for one in made:
            what = f"{one.recipe.arguments} of {one.recipe.commit}: {one.artifact.verdict}"
            yield f"converted {reference}: {what}, {one.artifact.weight_bytes / 2**30:g} GiB"
    for reference, copy in store.cold.items():
        yield f"cold {reference}: {copy.artifact.identity} on {copy.volume} converted={copy.artifact.converted}"
    if store != Store():
        yield f"volumes={store.volumes} free={store.free} rotten={sorted(store.rotten)} offline={truth.offline}"
        host = scenario.host_file
        yield f"offload_to={host.offload_to} repos={host.downloads.repos} reserve={host.downloads.reserve}"
        wishes = {reference: wish.value for reference, wish in ledger.wishes.items()}
        yield f"wishes={wishes} asked={sorted(ledger.sources)}"
        proved = {g.number: (sorted(g.artifacts), g.proved_at is not None) for g in ledger.generations}
        pin = ledger.pin.number if ledger.pin is not None else None
        yield f"generations={proved} current={ledger.current} pin={pin}"


_USUAL: tuple[object, ...] = (None, "auto", "always", 0, (), {})


def _artifact(observation: Observation[Artifact] | None) -> str:
    if not isinstance(observation, Present):
        return str(observation)
    found = observation.value
    verdict = "" if found.sound else f", {found.verdict}"
    return f"{found.identity}, {found.weight_bytes / 2**30:g} GiB{verdict}"


def _record(record: Record) -> str:
    p, server = record.process, record.server
    times = (
        f"since {server.since:g} ready {server.ready_at:g} dies {server.dies_at:g} wedged {server.wedged_at:g}"
        if server
        else "no process"
    )
    return (
        f"port={p.port} spec={p.spec_hash} artifact={p.artifact} memory={p.memory / 2**30:.2f} GiB"
        f" complete={record.complete} {record.doubt} {times}"
    )
