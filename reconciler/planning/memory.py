"""How much memory a server may take, and which servers fit together."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from reconciler.backends.base import Backend, filled
from reconciler.model.base import noun
from reconciler.model.cache_cost import PREFILL_STEP
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
    """What a server of this model may take, counted before anything starts.

    Weights are the bytes that the headers declare, which is what MLX holds after a load. The cache is that of as
    many sequences as are decoded at a time, each at the declared context: a bound only for clients that keep to it,
    because mlx_lm.server has no flag for one. Where none is declared, `DEFAULT_CONTEXT` is counted, since counting
    what a model could do at most would refuse most ensembles.
    """
    options = filled(backend, model)
    models = (artifact,) if draft is None else (artifact, draft)
    weights = sum(part.weight_bytes for part in models)
    scratch = max(SCRATCH_FLOOR, weights // SCRATCH_SHARE)
    try:
        cache = backend.cache_bytes(options)
    except ValueError:
        cache = 0  # an option of the wrong type, which `judge` refuses
    return MemoryNeed(
        weights=weights,
        overhead=cache + scratch + backend.base_memory,
        caches=tuple(part.cache for part in models),
        tokens=context(model, artifact) or DEFAULT_CONTEXT,
        sequences=_whole(options.get(backend.concurrency), 1),
        prefill_step=_whole(options.get("prefill_step_size"), PREFILL_STEP),
    )


def _whole(value: object, otherwise: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise


def context(model: ModelSpec, artifact: Artifact) -> int | None:
    """Tokens that clients may use; None where neither the declaration nor the model's configuration says it."""
    return artifact.context_window if model.context_length == "auto" else model.context_length


def figures(need: MemoryNeed) -> str:
    """What it consists of, for people."""
    about = "" if need.exact else "at most "
    parts = f"weights {human(need.weights)}, cache {about}{human(need.kv_cache)} for {need.sequences} x {need.tokens}"
    return f"{human(need.total)} ({parts} tokens, other {human(need.overhead)})"


def what_fits(need: MemoryNeed, limit: int) -> str:
    """What to declare so that it takes `limit` bytes at most."""
    if longest := need.longest(limit):
        return f"context_length: {longest} would fit"
    if need.sequences > 1 and (longest := replace(need, sequences=1).longest(limit)):
        return f"context_length: {longest} with decode_concurrency: 1 would fit"
    least = human(need.weights + need.overhead)
    return (
        f"even without context it takes {least}: declare a smaller model, fewer bits per weight, or less prompt cache"
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
    refused: Mapping[str, tuple[str, str]]
    """label -> one sentence with the figures, and what would fit."""


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
    takes = held | {label: contenders[label] for label in admitted}
    refused = {
        label: _refusal(changes[label], contenders[label], limit, {k: v for k, v in takes.items() if k != label})
        for label in order
        if label not in admitted
    }
    return Admission(admitted=frozenset(admitted), refused=refused)


def _known(target: Target | None) -> Target:
    if target is None:
        raise AssertionError("a contender has a target")
    return target


def _refusal(change: Change, wanted: int, limit: int, others: Mapping[str, int]) -> tuple[str, str]:
    """Why it gets no memory, and what would fit: a shorter context, or fewer models beside it."""
    stays = "; the running server stays" if change.verdict is Verdict.OUTDATED else ""
    taken = sum(others.values())
    need = change.target.need if change.target is not None else None
    amount = figures(need) if need is not None else human(wanted)
    said = f"needs {amount}, and {human(taken)} of the budget of {human(limit)} are spoken for{stays}"
    if wanted > limit:
        said = f"needs {amount} and the budget of this machine is {human(limit)}{stays}"
    fits = [what_fits(need, limit - taken)] if need is not None and taken < limit else []
    room = wanted + taken - limit
    # The smallest one that makes enough room.
    enough = sorted((bytes_, label) for label, bytes_ in others.items() if bytes_ >= room)
    if enough and wanted <= limit:
        fits.append(f"without {enough[0][1]} ({human(enough[0][0])}) it fits")
    return said, "; or ".join(fits) or "declare fewer models, or raise the budget in the host file"
