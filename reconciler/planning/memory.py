"""How much memory a server may take, and which servers fit together."""

from collections.abc import Mapping
from typing import Final

from reconciler.backends.base import Backend, filled
from reconciler.model.base import noun
from reconciler.model.change import Change, Verdict
from reconciler.model.desired import ModelSpec
from reconciler.model.host import HostFile
from reconciler.model.ledger import Ledger
from reconciler.model.observed import Artifact, HostFacts, Observation, Present, Unknown
from reconciler.model.target import MemoryNeed, Target
from reconciler.model.units import human, size

DEFAULT_CONTEXT: Final = 8_192
"""Tokens of context that are counted when a model declares none."""
SCRATCH_FLOOR: Final = 256 * 2**20
SCRATCH_SHARE: Final = 20
"""Scratch buffers of prefill: a twentieth of the weights, 256 MiB at least (measured: 29-45 MB on 0.36 GB)."""


def need(backend: Backend, model: ModelSpec, artifact: Artifact, draft: Artifact | None = None) -> MemoryNeed:
    """An estimate from the headers of the weights and the model's own configuration, meant to be too high.

    Weights are the bytes that the headers declare, which is what MLX holds after a load. The cache counts every
    layer as full attention at the declared context, times the requests that are decoded at a time. It is a bound
    only for clients that keep to the declared context, because mlx_lm.server has no flag for one; where none is
    declared, `DEFAULT_CONTEXT` is counted, since counting what a model could do at most would refuse most ensembles.
    """
    options = filled(backend, model)
    concurrency = options.get(backend.concurrency, 1)
    tokens = (model.context_length or DEFAULT_CONTEXT) * (concurrency if isinstance(concurrency, int) else 1)
    models = (artifact,) if draft is None else (artifact, draft)
    weights = sum(part.weight_bytes for part in models)
    scratch = max(SCRATCH_FLOOR, weights // SCRATCH_SHARE)
    try:
        cache = backend.cache_bytes(options)
    except ValueError:
        cache = 0  # an option of the wrong type, which `judge` refuses
    return MemoryNeed(
        weights=weights,
        kv_cache=sum(part.kv_bytes_per_token for part in models) * tokens,
        overhead=cache + scratch + backend.base_memory,
    )


def budget(host: HostFile, facts: HostFacts) -> Observation[int]:
    """Bytes that all servers may take together."""
    if host.memory.budget is not None:
        return Present(value=size(host.memory.budget))
    match facts.memory_total:
        case Present(value=total):
            return Present(value=max(0, total - size(host.memory.reserve)))
        case Unknown() as unknown:
            return unknown
        case _:
            return Unknown(reason="the machine does not say how much memory it has")


@noun
class Admission:
    """Who gets memory, decided from what is declared and not from who asks first.

    Whoever was promised memory in an earlier tick comes first, also while its server is down: so the decision is
    the same in every tick of one change, however long each step takes.
    """

    admitted: frozenset[str]
    refused: Mapping[str, str]
    """label -> one sentence with the figures."""


def rank(target: Target, ledger: Ledger) -> tuple[bool, int, str]:
    """Who is served first: labels that were served before, then by priority, then by name."""
    return (target.label not in ledger.launched, -target.spec.priority, target.label)


def admit(
    limit: int,
    changes: Mapping[str, Change],
    leaving: frozenset[str],
    contenders: Mapping[str, int],
    ledger: Ledger,
) -> Admission:
    """Choose among `contenders` (label -> bytes needed) those that fit beside what stays.

    `leaving` are the labels whose live server goes; of those only the ones that are contenders come back. A
    contender that is refused keeps the server it has.
    """
    held = {
        label: change.live.memory
        for label, change in changes.items()
        if change.live is not None and change.live.live and (label not in leaving or label in contenders)
    }
    committed = sum(held.values())
    targets = {label: changes[label].target for label in contenders}
    order = sorted(contenders, key=lambda label: rank(_known(targets[label]), ledger))
    admitted: set[str] = set()
    known = ledger.reserved | ledger.launched | held.keys()
    incumbents = sorted(known & contenders.keys(), key=lambda label: (label not in ledger.reserved, order.index(label)))
    grew = True
    while grew:
        # One incumbent that shrinks may make room for another that was refused before it.
        grew = False
        for label in incumbents:
            after = committed - held.get(label, 0) + contenders[label]
            if label not in admitted and after <= limit:
                committed, grew = after, True
                admitted.add(label)
    for label in order:
        if label not in admitted and label not in incumbents and committed + contenders[label] <= limit:
            committed += contenders[label]
            admitted.add(label)
    refused = {
        label: _refusal(changes[label], contenders[label], limit, committed - held.get(label, 0))
        for label in order
        if label not in admitted
    }
    return Admission(admitted=frozenset(admitted), refused=refused)


def _known(target: Target | None) -> Target:
    if target is None:
        raise AssertionError("a contender has a target")
    return target


def _refusal(change: Change, wanted: int, limit: int, others: int) -> str:
    stays = "; the running server stays" if change.verdict is Verdict.OUTDATED else ""
    if wanted > limit:
        return f"needs {human(wanted)} and the budget of this machine is {human(limit)}{stays}"
    return f"needs {human(wanted)}, and {human(others)} of the budget of {human(limit)} are spoken for{stays}"
