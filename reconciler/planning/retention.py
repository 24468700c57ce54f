"""What every artifact is needed for, and which base weights may go to cold storage."""

from collections.abc import Iterator, Mapping
from typing import Final

from reconciler.model.base import noun
from reconciler.model.desired import launch_reference
from reconciler.model.ledger import Wish
from reconciler.model.names import Subject, artifact_subject
from reconciler.model.observed import Artifact, Present, ServerProcess, Unknown
from reconciler.model.plan import Blocked
from reconciler.model.supply import MoveOrder, SupplyOrder
from reconciler.model.target import Target
from reconciler.model.units import human
from reconciler.model.view import Facts

from .generations import RETAINED, returnable
from .supply import no_room, volume_trouble

_LATER: Final = f"it is free once {RETAINED} other generations were proved as a whole"
REFUSED: Final = "offload-refused"
"""What a person is told who wants away what is needed."""
CONVERTED: Final = "recipe:"
"""How the identity of an artifact begins that was converted."""


@noun
class Root:
    """Why something may not be removed."""

    kind: str
    """`serving`, `desired`, `generation`, `source`, `offloaded` or `moving`."""
    reason: str


@noun
class Moves:
    """What may move to cold storage or back, and what stands against it."""

    orders: Mapping[Subject, SupplyOrder]
    blocked: tuple[Blocked, ...] = ()


def repository(reference: str) -> str:
    """`owner/name` of a launch reference; the path itself for a folder."""
    return reference if reference.startswith("/") else reference.partition("@")[0]


def roots(facts: Facts, targets: Mapping[str, Target], repo: str) -> Iterator[Root]:
    """Everything that needs the files of a repository as they were downloaded."""
    folder = f"{facts.observed.storage.home}/models--{repo.replace('/', '--')}"
    for server in facts.observed.servers.values():
        if server.live and _loads(server, repo, folder):
            yield Root(kind="serving", reason=f"server/{server.label} was started with it")
    for label, target in targets.items():
        if any(_names(order.reference, repo, folder) and not _moves(order) for order in target.supplies):
            yield Root(kind="desired", reason=f"{label} is being brought from it")
        elif _is_of(target, repo, folder) and not _is_converted(target):
            yield Root(kind="desired", reason=f"{label} is declared to be served from it")
        draft = target.spec.draft
        if draft is not None and _names(str(launch_reference(draft)), repo, folder):
            yield Root(kind="desired", reason=f"it is the draft model of {label}")
    for generation in returnable(facts.ledger):
        loaded = [entry.partition(" ")[0] for entry in generation.artifacts if CONVERTED not in entry]
        if any(_names(reference, repo, folder) for reference in loaded):
            yield Root(kind="generation", reason=f"a return to generation {generation.number} needs it")


def sources(facts: Facts, repo: str) -> Iterator[Root]:
    """Why a repository that nothing loads should be kept all the same: nobody could download it again."""
    for reference, made in facts.observed.storage.conversions.items():
        check = facts.ledger.sources.get(reference)
        lost = check is not None and check.problem and check.retry_at is None
        if repository(reference) == repo and made and lost:
            yield Root(kind="source", reason=f"{made[0].recipe.folder} was converted from it, and the hub refuses it")


def _names(reference: str, repo: str, folder: str) -> bool:
    """Whether a launch reference means this repository, by its name or as a folder inside it."""
    if reference.startswith("/"):
        return reference == folder or reference.startswith(f"{folder}/")
    return repository(reference) == repo


def _is_of(target: Target, repo: str, folder: str) -> bool:
    found = target.artifact
    real = found.value.path if isinstance(found, Present) else ""
    return _names(target.reference, repo, folder) or (real != "" and _names(real, repo, folder))


def _loads(server: ServerProcess, repo: str, folder: str) -> bool:
    """Whether a live process has the repository's own files open, or may have."""
    draft = server.fields.get("draft", "").partition(" ")[0]
    if draft and _names(draft, repo, folder):
        return True
    source = server.fields.get("source", "")
    return (not source or _names(source, repo, folder)) and not server.artifact.startswith(CONVERTED)


def _is_converted(target: Target) -> bool:
    found = target.artifact
    return isinstance(found, Present) and found.value.identity.startswith(CONVERTED)


def _moves(order: SupplyOrder) -> bool:
    return isinstance(order, MoveOrder) and not order.back


def moves(facts: Facts, targets: Mapping[str, Target], needed: Mapping[Subject, SupplyOrder]) -> Moves:
    """Base weights whose conversion serves, and what a person has asked for."""
    orders: dict[Subject, SupplyOrder] = {}
    blocked: dict[Subject, Blocked] = {}
    asked = [reference for reference, wish in facts.ledger.wishes.items() if wish is Wish.OFFLOAD]
    due = [t.reference for t in targets.values() if _serves_converted(facts, t)]
    for reference in dict.fromkeys((*asked, *due)):
        subject = artifact_subject(reference)
        if facts.ledger.wishes.get(reference) is Wish.KEEP or (subject in needed and reference not in asked):
            continue
        order = _offload(facts, targets, reference, by_hand=reference in asked)
        if isinstance(order, Blocked):
            blocked[subject] = order
        elif order is not None:
            orders[subject] = order
    for reference, wish in facts.ledger.wishes.items():
        if wish is Wish.KEEP and artifact_subject(reference) not in needed:
            order = _back(facts, reference)
            if isinstance(order, Blocked):
                blocked[artifact_subject(reference)] = order
            elif order is not None:
                orders[artifact_subject(reference)] = order
    return Moves(orders=orders, blocked=tuple(blocked.values()))


def _serves_converted(facts: Facts, target: Target) -> bool:
    """Whether the conversion of its base weights is proved in service, and they may move."""
    live = facts.observed.servers.get(target.label)
    return (
        target.spec.offload == "auto"
        and facts.host.offload_to is not None
        and isinstance(target.artifact, Present)
        and _is_converted(target)
        and live is not None
        and live.serves
        and live.artifact == target.artifact.value.identity
        and target.label in facts.ledger.proved
    )


def _offload(facts: Facts, targets: Mapping[str, Target], reference: str, by_hand: bool) -> MoveOrder | Blocked | None:
    found, repo = facts.observed.artifact(reference), repository(reference)
    if not isinstance(found, Present) or found.value.read_only or reference.startswith("/"):
        if by_hand and (reason := _nothing_to_move(facts, reference)):
            return _kept(reference, REFUSED, reason, "see: reconciler artifacts")
        return None
    needs = next(roots(facts, targets, repo), None)
    if facts.observed.blind is not None:
        needs = Root(kind="serving", reason=f"what runs could not be seen ({facts.observed.blind})")
    if needs is not None:
        said = f"{reference} stays here: {needs.reason}"
        way = _LATER if needs.kind == "generation" else "stop or drop what needs it first"
        return _kept(reference, REFUSED, said, way) if by_hand else None
    if not found.value.complete:
        said = f"{reference} is {found.value.verdict}, and only complete weights are moved"
        return _kept(reference, REFUSED, said, "mend it first, or drop it")
    return _placed(facts, reference, found.value)


def _placed(facts: Facts, reference: str, artifact: Artifact) -> MoveOrder | Blocked:
    name = facts.host.offload_to
    place = facts.host.volumes.get(name) if name is not None else None
    if name is None or place is None:
        said = f"{reference} stays here: the host file names no volume for it"
        return _kept(reference, "volume-unnamed", said, "name one under volumes, and as offload_to")
    repo, bytes_ = repository(reference), artifact.disk_bytes
    if trouble := volume_trouble(name, facts):
        said = f"{reference} stays here: of the volume {name}, {trouble.reason}"
        return _kept(reference, trouble.reference, said, trouble.hint)
    volume = facts.observed.storage.volumes.get(name)
    free = volume.value.free if isinstance(volume, Present) else None
    if free is not None and free < bytes_ + bytes_ // 20:
        said = f"{reference} stays here: it is {human(bytes_)}, and {name} has {human(free)} free"
        return _kept(reference, "volume-full", said, f"free space on {name} ({place.path})")
    return MoveOrder(
        reference=reference,
        repo=repo,
        volume=name,
        path=f"{place.path}/models--{repo.replace('/', '--')}",
        bytes=bytes_,
        artifact=artifact,
        revision=reference.partition("@")[2],
    )


def _nothing_to_move(facts: Facts, reference: str) -> str:
    if reference in facts.observed.storage.cold:
        return ""  # done
    if reference.startswith("/"):
        return f"{reference} is a folder of its own, and only repositories of the model cache are moved"
    found = facts.observed.artifact(reference)
    if isinstance(found, Unknown):
        return f"{reference} could not be looked at ({found.reason})"
    if isinstance(found, Present):
        return f"{reference} is in a folder of another program, which is only read"
    return f"{reference} is not in the model cache"


def _back(facts: Facts, reference: str) -> MoveOrder | Blocked | None:
    """What a person wants back although nothing declared needs it."""
    copy = facts.observed.storage.cold.get(reference)
    if copy is None:
        return None
    if trouble := volume_trouble(copy.volume, facts):
        said = f"{reference} is on the volume {copy.volume} ({copy.path}), and {trouble.reason}"
        return _kept(reference, trouble.reference, said, trouble.hint)
    if lack := no_room(reference, "bringing it back", copy.bytes, facts):
        return _kept(reference, lack.reference, lack.reason, lack.hint)
    return MoveOrder(
        reference=reference,
        repo=repository(reference),
        volume=copy.volume,
        path=copy.path,
        bytes=copy.bytes,
        artifact=copy.artifact,
        revision=reference.partition("@")[2],
        back=True,
    )


def _kept(reference: str, code: str, reason: str, hint: str) -> Blocked:
    return Blocked(subject=artifact_subject(reference), reference=code, reason=reason, hint=hint)
