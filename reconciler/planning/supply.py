"""What brings the weights of a declared model to where a server can load them, or why nothing does."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from reconciler.backends.base import Backend, Finding
from reconciler.model.base import noun
from reconciler.model.desired import ModelSpec
from reconciler.model.names import LaunchRef, PathRef, RepoRef, artifact_subject, is_of_weights
from reconciler.model.observed import Absent, Artifact, Conversion, Observation, Present, Unknown
from reconciler.model.supply import (
    FINAL_FOR,
    CheckOrder,
    ConvertOrder,
    FetchOrder,
    MoveOrder,
    SourceCheck,
    SupplyOrder,
    VerifyOrder,
)
from reconciler.model.target import Target
from reconciler.model.units import human, size
from reconciler.model.view import Facts

from . import memory, recipes, supply_words

_ROOM: Final = 20
"""A twentieth of what is brought has to be free on top of it (faults H08)."""
_MEASURED_BESIDE: Final = 256 * 2**20
"""Bytes of reading beside which building a model in another process costs no time."""
_CONVERTER_BASE: Final = 512 * 2**20
"""Bytes that a converter takes beside the weights."""


@noun
class Supply:
    """One source of one model."""

    artifact: Observation[Artifact]
    """What a server would load."""
    order: SupplyOrder | None = None
    problem: Finding | None = None
    """What only a person can mend."""
    awaits: str = ""
    """Why it is a matter of time; empty where it is not."""
    until: float | None = None
    """When to look again, where nothing that is under way says it."""
    code: str = "waiting-for-artifact"
    """Stable reference of why it is a matter of time."""


@noun
class Wanted:
    """One source that is to be supplied."""

    reference: LaunchRef
    model: ModelSpec
    what: str
    """`the model` or `the draft model`."""
    runtime: tuple[str, ...]
    backend: Backend | None
    """None where memory does not matter: a draft, or a model that is only kept."""

    @property
    def is_draft(self) -> bool:
        return self.what != "the model"


def supply(wanted: Wanted, facts: Facts) -> Supply:
    """The next thing to do for one source, and what is served meanwhile."""
    text, reference = str(wanted.reference), wanted.reference
    found = facts.observed.artifact(text)
    if isinstance(found, Unknown):
        return Supply(artifact=found, problem=supply_words.unreadable(wanted.what, wanted.reference, found))
    here = found.value if isinstance(found, Present) else None
    host, storage = facts.host.converter, facts.observed.storage
    settings = None if wanted.is_draft else _settings(wanted, here, facts)
    made = None
    if settings is not None:
        copy = storage.cold.get(text)
        commit = here.identity if here is not None else (copy.artifact.identity if copy is not None else None)
        made = recipes.made_by(storage.conversions.get(text, ()), settings, host, commit)
        if made is not None and made.artifact.complete:
            return _converted(wanted, made, text)
    if isinstance(reference, RepoRef) and _leaving(reference.repo, facts):
        return Supply(artifact=found, awaits=f"{text} is just being moved to cold storage")
    base = _base(wanted, found, facts)
    if settings is None:
        return base
    if base.order is not None or base.problem is not None or base.awaits:
        return _not_yet(base, made.artifact.verdict if made is not None else "")
    return _conversion(wanted, base, settings, facts)


def _settings(wanted: Wanted, here: Artifact | None, facts: Facts) -> tuple[str, ...] | None:
    """How it is converted; None: not at all. What is not here may have said it before it went."""
    text, storage = str(wanted.reference), facts.observed.storage
    copy, check = storage.cold.get(text), facts.ledger.sources.get(text)
    says = here.converted if here is not None else None
    if here is None and copy is not None:
        says = copy.artifact.converted
    if says is None and here is None and check is not None:
        says = check.converted
    host = facts.host.converter
    settings = recipes.arguments(wanted.model, wanted.reference, says, host)
    undecided = settings is None and says is None and here is None and wanted.model.convert == "auto"
    if undecided and wanted.model.preconverted == "auto":
        # Nothing but a name speaks against it, and somebody has converted it.
        return () if recipes.made_by(storage.conversions.get(text, ()), (), host, None) is not None else None
    return settings


def _leaving(repo: str, facts: Facts) -> bool:
    """Whether its folder is just being moved away, whatever is declared meanwhile."""
    going = [job.subject.removeprefix("artifact/") for job in facts.in_flight if job.kind == "offload"]
    return any(reference.partition("@")[0] == repo for reference in going)


def _not_yet(base: Supply, verdict: str) -> Supply:
    """The base is on its way; what is served is not there, or is damaged (`verdict`) and made from it again."""
    problem = base.problem
    if problem is not None and verdict:
        reason = f"what was converted is {verdict}, and making it again needs its base: {problem.reason}"
        problem = Finding(reference=problem.reference, reason=reason, hint=problem.hint)
    return replace(base, artifact=Absent(), problem=problem)


def _converted(wanted: Wanted, made: Conversion, text: str) -> Supply:
    artifact = Present(value=made.artifact)
    if made.artifact.sound:
        return Supply(artifact=artifact)
    order = _verification(text, made.artifact, wanted)
    return Supply(artifact=artifact, order=order, awaits=f"what was converted from {text} has to be verified first")


def _base(wanted: Wanted, found: Observation[Artifact], facts: Facts) -> Supply:
    """The declared weights themselves."""
    text = str(wanted.reference)
    match found:
        case Present(value=here) if here.foreign:
            return Supply(artifact=found, problem=supply_words.foreign(wanted.what, wanted.reference, here))
        case Present(value=here) if here.complete and here.code:
            return Supply(artifact=found, problem=supply_words.own_code(wanted.what, wanted.reference, here))
        case Present(value=here) if here.sound:
            return Supply(artifact=found)
        case Present(value=here) if here.complete:
            order = _verification(text, here, wanted)
            return Supply(artifact=found, order=order, awaits=f"{text} has to be verified first")
        case Present(value=here):
            return _brought(wanted, found, here, facts)
        case _:
            return _brought(wanted, found, None, facts)


def _verification(text: str, here: Artifact, wanted: Wanted) -> VerifyOrder:
    runtime = _beside(here.unverified, wanted)
    return VerifyOrder(reference=text, path=here.path, bytes=here.unverified, runtime=runtime)


def _beside(bytes_: int, wanted: Wanted) -> tuple[str, ...]:
    """The environment in which memory is measured meanwhile: only where so much is read that it costs no time."""
    return wanted.runtime if bytes_ >= _MEASURED_BESIDE else ()


def _brought(wanted: Wanted, found: Observation[Artifact], here: Artifact | None, facts: Facts) -> Supply:
    """What is missing comes back from cold storage, or else from the hub."""
    reference = wanted.reference
    if isinstance(reference, PathRef):
        return Supply(artifact=found, problem=supply_words.lacking(wanted.what, wanted.reference, here))
    text = str(reference)
    copy = facts.observed.storage.cold.get(text)
    if copy is not None and not _spoilt(text, facts):
        return _restored(wanted, found, reference, facts)
    if why := _offline(facts):
        return Supply(artifact=found, problem=supply_words.lacking(wanted.what, wanted.reference, here, why))
    check = facts.ledger.sources.get(text)
    if check is None or (outlived(check, facts.now) and not check.pending):
        # Of what is here in part the rest is wanted, not what the branch has become since.
        partly = here.identity if here is not None and not here.read_only else reference.revision
        order = CheckOrder(reference=text, repo=reference.repo, revision=partly, otherwise=reference.revision)
        return Supply(artifact=found, order=order, awaits=f"the hub has to be asked about {text} first")
    if check.pending:
        return Supply(artifact=found, awaits=f"what follows is known once the hub has been asked about {text}")
    if check.problem and check.retry_at is not None:
        return Supply(artifact=found, awaits=check.reason, until=check.retry_at, code=check.problem)
    if check.problem:
        return Supply(artifact=found, problem=supply_words.refused(wanted.what, wanted.reference, check))
    return _fetched(wanted, found, here, check, facts)


def _spoilt(text: str, facts: Facts) -> bool:
    """Whether bringing it back has shown that its cold copy is damaged."""
    attempt = facts.ledger.attempts.get(f"restore:{artifact_subject(text)}")
    return attempt is not None and attempt.cause == "cold-copy-bad"


def _offline(facts: Facts) -> str:
    """What forbids asking the hub; empty where nothing does."""
    if facts.desired.state.policy.offline == "always":
        return "policy.offline is always"
    return "HF_HUB_OFFLINE is set" if facts.observed.host.offline else ""


def outlived(check: SourceCheck, now: float) -> bool:
    """Whether it has to be asked again: refusals and answers are believed for an hour, what passes until it is due."""
    if check.problem and check.retry_at is not None:
        return check.retry_at <= now
    return now - check.at > FINAL_FOR


def _fetched(
    wanted: Wanted, found: Observation[Artifact], here: Artifact | None, check: SourceCheck, facts: Facts
) -> Supply:
    reference = wanted.reference
    if not isinstance(reference, RepoRef):
        raise AssertionError("only repositories are downloaded")
    if problem := _too_big(wanted, check, facts):
        return Supply(artifact=found, problem=problem)
    same = here is not None and not here.read_only and here.identity == check.commit
    bad = _damaged(here) if here is not None and same else {}
    files = {file.name: file for file in check.files}
    known = bool(bad) and bad.keys() <= files.keys()
    bytes_ = sum(file.size for file in check.files if not known or file.name in bad)
    if problem := no_room(str(reference), "downloading it", bytes_, facts):
        return Supply(artifact=found, problem=problem)
    order = FetchOrder(
        reference=str(reference),
        repo=reference.repo,
        revision=reference.revision,
        commit=check.commit,
        files=check.files,
        afresh=tuple(sorted(name for name, afresh in bad.items() if afresh and name in files)),
        result=_expected(reference, check, facts.observed.storage.home),
        bytes=bytes_,
        runtime=_beside(bytes_, wanted),
    )
    return Supply(artifact=found, order=order, awaits=f"{reference} has to be {_DONE[order.why]} first")


def _expected(reference: RepoRef, check: SourceCheck, home: str) -> Artifact:
    """The artifact that a download leaves, as far as the hub has said."""
    shards = sum(file.name.startswith("model") and file.name.endswith(".safetensors") for file in check.files)
    return Artifact(
        identity=check.commit,
        path=f"{home}/models--{reference.repo.replace('/', '--')}/snapshots/{check.commit}",
        shards=max(1, shards),
        weight_bytes=check.weight_bytes,
        disk_bytes=check.bytes,
        cache=check.cache,
        context_window=check.context_window,
        converted=check.converted,
    )


_DONE: Final[Mapping[str, str]] = {"download": "downloaded", "repair": "repaired"}


def _damaged(here: Artifact) -> dict[str, bool]:
    """Missing and bad files -> whether something is there that must not be taken for good."""
    bad = {entry.partition(" (")[0]: " (" in entry for entry in here.missing}
    return bad | dict.fromkeys(here.corrupt, True)


def _restored(wanted: Wanted, found: Observation[Artifact], reference: RepoRef, facts: Facts) -> Supply:
    text, storage = str(reference), facts.observed.storage
    copy = storage.cold[text]
    if trouble := volume_trouble(copy.volume, facts):
        return Supply(
            artifact=found,
            problem=Finding(
                reference=trouble.reference,
                reason=f"{wanted.what} {text} is on the volume {copy.volume} ({copy.path}), and {trouble.reason}; "
                "nothing was downloaded in its place",
                hint=f"{trouble.hint}, or delete {_receipt(reference.repo, facts)} to download it again",
            ),
        )
    if problem := no_room(text, "bringing it back", copy.bytes, facts):
        return Supply(artifact=found, problem=problem)
    order = MoveOrder(
        reference=text,
        repo=reference.repo,
        volume=copy.volume,
        path=copy.path,
        bytes=copy.bytes,
        artifact=copy.artifact,
        revision=reference.revision,
        back=True,
    )
    return Supply(artifact=found, order=order, awaits=f"{text} has to come back from {copy.volume} first")


def _receipt(repo: str, facts: Facts) -> str:
    return f"{facts.observed.storage.home}/offloaded--{repo.replace('/', '--')}.json"


def volume_trouble(name: str, facts: Facts) -> Finding | None:
    """Why nothing can be moved to or from a volume; one of another host is not asked by looking."""
    place, volume = facts.host.volumes.get(name), facts.observed.storage.volumes.get(name)
    if place is None:
        said = "the host file does not name it"
        return Finding(reference="volume-unnamed", reason=said, hint=f"name {name} under volumes in the host file")
    if isinstance(volume, Present) or place.host is not None:
        return None
    if isinstance(volume, Unknown):
        return Finding(reference="volume-wrong", reason=volume.reason, hint=f"connect the right {name}")
    return Finding(reference="volume-unmounted", reason=f"it is not mounted at {place.path}", hint=f"connect {name}")


def _conversion(wanted: Wanted, base: Supply, settings: tuple[str, ...], facts: Facts) -> Supply:
    if not isinstance(base.artifact, Present):
        raise AssertionError("only what is here is converted")
    here, storage = base.artifact.value, facts.observed.storage
    made = recipes.recipe(wanted.reference, here.identity, settings, facts.host.converter, storage.converter)
    disk = int(recipes.result_bytes(here.weight_bytes, settings) * recipes.SLACK)
    if problem := no_room(str(wanted.reference), "converting it", disk, facts):
        return Supply(artifact=Absent(), problem=problem)
    artifact = replace(
        here,
        identity=f"recipe:{made.key}",
        path=f"{storage.home}/{made.folder}",
        weight_bytes=recipes.result_bytes(here.weight_bytes, settings),
        disk_bytes=disk,
        converted=True,
        read_only=False,
    )
    order = ConvertOrder(
        reference=str(wanted.reference),
        result=Conversion(recipe=made, artifact=artifact, made_at=facts.now),
        source=here.path,
        memory=here.weight_bytes + _CONVERTER_BASE,
        disk=disk,
        runtime=wanted.runtime,
    )
    return Supply(artifact=Absent(), order=order, awaits=f"{wanted.reference} has to be converted first")


def measuring(target: Target) -> VerifyOrder | None:
    """The order that replaces an upper bound by what the model really takes; None where nothing more can be known."""
    found = target.artifact
    if target.order is None or not isinstance(found, Present) or not found.value.measurable:
        return None
    # Of a look at the command of the server, only its environment counts.
    runtime = tuple(target.fields.get("runtime", "").split(" "))
    return VerifyOrder(reference=target.reference, path=found.value.path, bytes=0, runtime=runtime)


def room(facts: Facts) -> int | None:
    """Bytes that may still be written where the model cache is; None where nobody can say."""
    free = facts.observed.storage.free
    if not isinstance(free, Present):
        return None
    claimed = sum(
        max(0, job.claim.disk - (job.progress.done if job.progress is not None else 0))
        for job in facts.in_flight
        if is_of_weights(job.subject)
    )
    return free.value - claimed - size(facts.host.downloads.reserve)


def no_room(reference: str, doing: str, bytes_: int, facts: Facts) -> Finding | None:
    """Why the disk is too small; what is under way already has passed this."""
    left, subject = room(facts), artifact_subject(reference)
    if left is None or any(job.subject == subject for job in facts.in_flight):
        return None  # whoever writes finds out
    if not bytes_ or bytes_ + bytes_ // _ROOM <= left:
        return None
    return Finding(
        reference="disk-full",
        reason=f"{reference} was not begun: {doing} takes {human(bytes_)}, and {human(max(left, 0))} may be written "
        f"({facts.host.downloads.reserve} stay free, downloads.reserve)",
        hint="free space where the model cache is; see: reconciler artifacts",
    )


def _too_big(wanted: Wanted, check: SourceCheck, facts: Facts) -> Finding | None:
    """Nothing is downloaded that could not be served afterwards."""
    converts = not isinstance(wanted.model.convert, str) or wanted.model.convert == "force"
    if wanted.backend is None or converts or check.converted is False:
        return None
    budget = memory.budget(facts.host, facts.observed.host)
    if not isinstance(budget, Present):
        return None
    if not isinstance(wanted.reference, RepoRef):
        return None
    need = memory.need(wanted.backend, wanted.model, _expected(wanted.reference, check, ""))
    if need.total <= budget.value:
        return None
    return Finding(
        reference="memory-refused",
        reason=f"{wanted.what} {wanted.reference} was not downloaded: it needs {memory.figures(need)} and the budget "
        f"of this machine is {human(budget.value)}",
        hint=memory.what_fits(need, budget.value),
    )
