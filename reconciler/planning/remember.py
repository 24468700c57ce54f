"""What a tick adds to the ledger; pure, and the same for the loop and for the forecast."""

from collections.abc import Mapping
from dataclasses import replace

from reconciler.model.change import Change, Verdict
from reconciler.model.desired import launch_reference
from reconciler.model.ledger import ArtifactRecord, Ledger, ServiceProof, Wish, is_of_action
from reconciler.model.observed import Present, ServerProcess, Standing
from reconciler.model.target import Target
from reconciler.model.view import Facts

from .backoff import WINDOW, count_failures, gave_up
from .generations import named, progressed
from .retention import CONVERTED


def remember(facts: Facts, targets: Mapping[str, Target], changes: Mapping[str, Change], jitter: float) -> Ledger:
    """Leases, proofs and failures as of now; what concerns labels that are no longer declared is dropped.

    A lease is taken when a port is first assigned, so that the answer cannot change while a change is under way.
    """
    ledger = facts.ledger
    leases: dict[str, int] = {}
    for label, target in targets.items():
        live = facts.observed.servers.get(label)
        if live is not None and live.live:
            leases[label] = live.port
        elif label in ledger.leases and target.spec.port != "none":
            leases[label] = ledger.leases[label]
        elif target.spec.port == "auto" and target.port is not None:
            leases[label] = target.port
    serving = {label for label, change in changes.items() if change.verdict is Verdict.MATCHES}
    answers = {label for label, change in changes.items() if change.live is not None and change.live.serves}
    proved = frozenset(label for label in targets if label in ledger.proved or label in answers)
    servers, blind = facts.observed.servers, facts.observed.blind is not None
    unseen = {label for label in ledger.proofs if blind or _doubtful(servers.get(label))}
    # A proof outlives a look that failed; it is bound to its process and so cannot speak for another one.
    proofs = {label: ledger.proofs[label] for label in unseen}
    proofs |= {label: _proof(server, ledger, facts.now) for label, server in servers.items() if server.serves}
    attempts = {
        label: attempt
        for label, attempt in ledger.attempts.items()
        if (
            (is_of_action(label) or label in targets)
            and not ((is_of_action(label) or label in serving) and facts.now - attempt.last > WINDOW)
        )
        or (is_of_action(label) and gave_up(label.partition(":")[0], attempt))
    }
    # A revision that leaves a label out for a while, or a return to one, does not undo what a person has said.
    known = {*targets, *servers, *named(ledger)}
    suspensions = {
        label: s
        for label, s in ledger.suspensions.items()
        if (s.until > facts.now if s.until is not None else blind or label in known)
    }
    running = {label for label, server in facts.observed.servers.items() if server.live}
    launched = frozenset(label for label in targets if label in ledger.launched or label in running)
    after = replace(
        ledger,
        leases=leases,
        proved=proved,
        proofs=proofs,
        launched=launched,
        attempts=attempts,
        suspensions=suspensions,
        preflights={label: key for label, key in ledger.preflights.items() if label in targets},
    )
    after = progressed(_with_weights(after, facts, targets), facts, targets, changes)
    # A server that is being stopped or started ends by our hand, not by its own.
    busy = {job.subject for job in facts.in_flight}
    idle = {label: change for label, change in changes.items() if change.subject not in busy}
    return count_failures(after, idle, facts.now, jitter)


def _with_weights(ledger: Ledger, facts: Facts, targets: Mapping[str, Target]) -> Ledger:
    """What is known of weights: answers of the hub about what is not sound here, records, wishes."""
    found = facts.observed.artifacts.items()
    sound = {reference for reference, one in found if isinstance(one, Present) and one.value.sound}
    declared = {str(launch_reference(s)) for t in targets.values() for s in (t.spec.source, t.spec.draft) if s}
    asked = declared - sound
    return replace(
        ledger,
        sources={reference: check for reference, check in ledger.sources.items() if reference in asked},
        artifacts={label: r for label, target in targets.items() if (r := _record(target, facts)) is not None},
        wishes={
            reference: wish
            for reference, wish in ledger.wishes.items()
            if not (wish is Wish.OFFLOAD and reference in facts.observed.storage.cold)
        },
    )


def _record(target: Target, facts: Facts) -> ArtifactRecord | None:
    """What a label is served from; where its weights first were is kept when they are converted or moved."""
    before = facts.ledger.artifacts.get(target.label)
    before = before if before is not None and before.reference == target.reference else None
    found = target.artifact
    if not isinstance(found, Present) or not found.value.sound:
        return before
    artifact, base = found.value, facts.observed.artifact(target.reference)
    original = base.value if isinstance(base, Present) else None
    converted = artifact.identity.startswith(CONVERTED)
    source = before.source_path if before is not None else (original.path if original is not None else artifact.path)
    root = original.path.rpartition("/snapshots/")[0] if original is not None else ""
    return ArtifactRecord(
        reference=target.reference,
        commit=original.identity if original is not None else (before.commit if before is not None else ""),
        source_path=source,
        cache_path=artifact.path,
        og_path=(root or (before.og_path if before is not None else "")) if converted else "",
        bytes=artifact.weight_bytes,
        format="mlx" if artifact.converted else "",
    )


def _proof(server: ServerProcess, ledger: Ledger, now: float) -> ServiceProof:
    known = ledger.proofs.get(server.label)
    if known is not None and known.instance == server.instance:
        return (
            known if server.proved_at is None or server.proved_at == known.at else replace(known, at=server.proved_at)
        )
    return ServiceProof(instance=server.instance, at=now if server.proved_at is None else server.proved_at)


def _doubtful(live: ServerProcess | None) -> bool:
    return live is not None and live.standing is Standing.UNKNOWN
