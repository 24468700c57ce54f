"""Worlds in which weights are in every state: missing, damaged, unread, cold, converted or to be converted."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from hypothesis import strategies as st

from reconciler.model.cache_cost import CacheCost
from reconciler.model.desired import Desired, DesiredState, ModelSpec, Policy, Quantization, Source, launch_reference
from reconciler.model.generation import Generation, ProvedServer
from reconciler.model.host import ColdVolume, Downloads, HostFile, Memory
from reconciler.model.ledger import Wish
from reconciler.model.observed import Absent, Artifact, ColdCopy, Conversion, Observation, Present, Recipe, Unknown
from reconciler.model.supply import RemoteFile, SourceCheck
from tests.world.drive import Edit, Scenario, apply
from tests.world.script import BACK, Does, Event, Script
from tests.world.store import HOME, Store
from tests.world.truth import Truth
from tests.world.virtual_time import EPOCH

from .documents import EXPERIMENTAL, LABELS, TEAM, gateways, often, weighted
from .strategies import GIB, SECONDS, gateway_files, ledgers, luck, populations, targets_of

REPOS: Final = ("org/base", "org/other", "mlx-community/ready", "mlx-community/raw")
REFERENCES: Final = tuple(f"{repo}@main" for repo in REPOS)
COLD: Final = "backroom"
PLACE: Final = "/mnt/backroom"
Q4: Final = Quantization(bits=4)
CONVERTER: Final = "mlx-lm 0.32.2"
_BAD: Final = ("model.safetensors",)


# ------------------------------------------------------------------------------------------------------- by hand, too


def weights(reference: str, gib: int = 1, *, converted: bool | None = True, commit: str = "c1") -> Artifact:
    """Whole and verified."""
    repo = reference.partition("@")[0]
    return Artifact(
        identity=f"{repo}#{commit}",
        path=f"{HOME}/models--{repo.replace('/', '--')}/snapshots/{commit}",
        weight_bytes=gib * GIB,
        disk_bytes=gib * GIB,
        cache=CacheCost(per_token=2**12),
        converted=converted,
    )


def answer(artifact: Artifact) -> SourceCheck:
    """What a hub says that has exactly this."""
    return SourceCheck(
        at=EPOCH - 10,
        commit=artifact.identity,
        files=(RemoteFile(name=_BAD[0], size=artifact.disk_bytes),),
        weight_bytes=artifact.weight_bytes,
        cache=artifact.cache,
        converted=artifact.converted,
    )


def conversion(reference: str, source: Artifact, *settings: str) -> Conversion:
    """What the built-in converter has made of it."""
    repo, _, revision = reference.partition("@")
    made = Recipe(source=repo, revision=revision, commit=source.identity, arguments=settings, converter=CONVERTER)
    result = replace(source, identity=f"recipe:{made.key}", path=f"{HOME}/{made.folder}", converted=True)
    if settings:
        result = replace(result, weight_bytes=source.weight_bytes * 9 // 32, disk_bytes=source.disk_bytes * 9 // 32)
    return Conversion(recipe=made, artifact=result, made_at=EPOCH - 1000)


def generation(number: int, loaded: Mapping[str, str]) -> Generation:
    """What was in force and proved: launch reference -> identity of what its servers loaded."""
    servers = {
        reference: ProvedServer(reference=reference, artifact=identity, draft="", spec_hash="", port=8100, at=EPOCH)
        for reference, identity in loaded.items()
    }
    at = EPOCH - 5000
    return Generation(number=number, at=at, revision="worktree:9", content="", servers=servers, proved_at=at)


def cold(artifact: Artifact) -> ColdCopy:
    """The same in cold storage."""
    return ColdCopy(volume=COLD, path=f"{PLACE}/x", bytes=artifact.disk_bytes, artifact=artifact, at=EPOCH - 1000)


def declared(**models: ModelSpec) -> Desired:
    """A desired state of these models."""
    ports = {"team": f"{TEAM[0]}-{TEAM[-1]}", "experimental": f"{EXPERIMENTAL[0]}-{EXPERIMENTAL[-1]}"}
    state = DesiredState(version=1, ports=ports, models=models)
    return Desired(state=state, revision="worktree:0", templates={}, provenance={})


def backroom(**more: object) -> HostFile:
    """A host with cold storage to which base weights go."""
    volumes = {COLD: ColdVolume(path=PLACE, id="0" * 32)}
    return HostFile(volumes=volumes, offload_to=COLD, **more)  # type: ignore[arg-type]


def settled_whole(truth: Truth) -> Truth:
    """With every whole copy known, so that none may be lost from the first moment on."""
    return replace(truth, store=replace(truth.store, whole=truth.store.copies(truth.artifacts)))


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """What people do to a world that has come to rest."""

    desired: Desired
    wishes: Mapping[str, Wish]
    """What they say by hand about where weights are kept; it takes the place of what they said before."""
    event: Event | None
    """What befalls the weights."""
    killed_at: int | None
    """The turn at which the engine is killed before it comes to its end in the next run; None: it is not."""


# ------------------------------------------------------------------------------------------------------------- drawn


@st.composite
def _models(draw: st.DrawFn, port: object) -> ModelSpec:
    convert = draw(weighted(auto=5, force=2, skip=2, q4=2, q8=1))
    made = {"q4": Q4, "q8": Quantization(bits=8)}
    return ModelSpec(
        source=Source(repo=draw(st.sampled_from(REPOS))),
        port=port,  # type: ignore[arg-type]
        convert=made.get(convert, convert),  # type: ignore[arg-type]
        preconverted=draw(st.sampled_from(["auto", "auto", "auto", "yes", "no"])),
        offload=draw(st.sampled_from(["auto", "auto", "auto", "never"])),
        draft=Source(repo=draw(st.sampled_from(REPOS))) if draw(often(False, 6)) else None,
        priority=draw(st.sampled_from([0, 0, 0, 5, -5])),
        activation="on-demand" if draw(often(False, 9)) else "always",
    )


@st.composite
def desired_weights(draw: st.DrawFn, least: int, most: int) -> Desired:
    """Models that share few repositories, with every setting of conversion."""
    size = draw(st.integers(least, most))
    ports = iter(TEAM)
    specs = {}
    for label in LABELS[:size]:
        kind = draw(weighted(explicit=8, auto=1, none=1))
        specs[label] = draw(_models(next(ports) if kind == "explicit" else kind))
    wanted = declared(**specs)
    policy = Policy(prune=draw(often(True, 6)), offline="always" if draw(often(False, 12)) else "auto")
    state = replace(wanted.state, gateways=draw(gateways()), policy=policy)
    return replace(wanted, state=state)


@st.composite
def _caches(
    draw: st.DrawFn, bases: Mapping[str, Artifact], store: Store, silent: bool
) -> dict[str, Observation[Artifact]]:
    found: dict[str, Observation[Artifact]] = {}
    for reference, base in bases.items():
        shares = {"sound": 8, "absent": 5, "partial": 3, "cold": 3, "unread": 3, "corrupt": 2, "kept-twice": 1}
        state = draw(weighted(**shares, unknown=1, read_only=1, measurable=1, **({} if silent else {"rotten": 1})))
        looks = {
            "sound": base,
            "kept-twice": base,
            "partial": replace(base, missing=_BAD),
            "corrupt": replace(base, corrupt=_BAD),
            "unread": replace(base, unverified=base.weight_bytes),
            "rotten": replace(base, unverified=base.weight_bytes),
            "measurable": replace(base, measurable=True),
            "read-only": replace(base, read_only=True),
        }
        if state in looks:
            found[reference] = Present(value=looks[state])
        elif state != "cold":
            found[reference] = Unknown(reason="permission denied") if state == "unknown" else Absent()
        if state == "rotten":
            store.rotten.add(reference)
        elif state in ("cold", "kept-twice"):
            store.cold[reference] = cold(base)
    return found


@st.composite
def _conversions(draw: st.DrawFn, reference: str, base: Artifact, rotten: set[str]) -> tuple[Conversion, ...]:
    made = []
    for settings in ((), ("bits=4",)):
        of = replace(base, identity=f"{base.identity}-older") if draw(often(False, 6)) else base
        one = conversion(reference, of, *settings)
        match draw(weighted(none=6, sound=4, unread=1, broken=1, rotten=1)):
            case "sound":
                made.append(one)
            case "unread":
                made.append(replace(one, artifact=replace(one.artifact, unverified=one.artifact.weight_bytes)))
            case "rotten":
                rotten.add(f"{reference} {one.recipe.key}")
                made.append(replace(one, artifact=replace(one.artifact, unverified=one.artifact.weight_bytes)))
            case "broken":
                made.append(replace(one, artifact=replace(one.artifact, missing=_BAD)))
            case _:
                pass
    return tuple(made)


@st.composite
def _hubs(draw: st.DrawFn, bases: Mapping[str, Artifact]) -> dict[str, SourceCheck]:
    hub = {}
    for reference, base in bases.items():
        kind = draw(weighted(has=10, newer=1, gated=1, none=1))
        if kind in ("has", "newer"):
            hub[reference] = answer(base if kind == "has" else replace(base, identity=f"{base.identity}-newer"))
        elif kind == "gated":
            said = "the owner has not let you in"
            hub[reference] = SourceCheck(at=EPOCH - 10, problem="source-gated", reason=said, hint="ask for access")
    return hub


@st.composite
def _stores(draw: st.DrawFn, bases: Mapping[str, Artifact], room: int, plain: bool) -> Store:
    store = Store(hub=draw(_hubs(bases)))
    for reference, base in bases.items():
        if draw(often(True, 3)):
            store.conversions[reference] = draw(_conversions(reference, base, store.rotten))
    store.free = draw(st.sampled_from([2**45, 2**45, 2**45, None, room // 2, room, 3 * GIB]))
    if draw(often(True, 5)):
        store.volumes[COLD] = draw(st.sampled_from([2**45, 2**45, room // 2]))
    if plain:
        store.rotten.clear()
    else:
        store.sick = {reference for reference in bases if draw(often(False, 12))}
    return store


@st.composite
def supplied(draw: st.DrawFn, least: int = 1, most: int = 4, plain: bool = False, fresh: bool = False) -> Scenario:
    """A world of weights in which nothing goes wrong unasked.

    Of a `plain` one a forecast can know it all: everything is as it looks and works, and the hub was asked before.
    """
    desired = draw(desired_weights(least, most))
    bases = {
        reference: weights(
            reference, draw(st.sampled_from([1, 3, 6])), converted=draw(st.sampled_from([True, False, False, None]))
        )
        for reference in REFERENCES
    }
    room = sum(base.disk_bytes for base in bases.values())
    store = draw(_stores(bases, room, plain))
    cached = draw(_caches(bases, store, plain))
    truth = settled_whole(Truth(artifacts=cached, store=store, offline=draw(often(False, 4))))
    share = draw(st.sampled_from([None, None, 400, 150, 100, 60]))
    host_file = backroom(
        memory=Memory(budget=f"{room * share // 100}B" if share is not None else None),
        downloads=Downloads(repos=draw(st.sampled_from([1, 2])), reserve="1GiB"),
        max_launches=draw(st.sampled_from([2, 1, 8])),
    )
    host_file = host_file if draw(often(True, 4)) else replace(host_file, offload_to=None)
    asked = plain or draw(st.booleans())
    known = _asked(desired, truth, bases) if asked else {}
    targets = targets_of(desired, host_file, replace(truth, ledger=replace(truth.ledger, sources=known)))
    found = draw(populations(targets, fresh))
    ledger = draw(ledgers(targets, found))
    wishes = draw(_wishes()) if draw(often(False, 3)) else {}
    generations = draw(_generations(bases)) if draw(often(False, 3)) else ()
    ledger = replace(
        ledger, sources=known, attempts={}, wishes=wishes, generations=generations, current=len(generations)
    )
    truth = replace(truth, records=found, ledger=ledger, gateways=draw(gateway_files(desired, found)))
    return Scenario(desired=desired, host_file=host_file, truth=truth, script=draw(luck()))


def _asked(desired: Desired, truth: Truth, bases: Mapping[str, Artifact]) -> dict[str, SourceCheck]:
    """What the hub says about every declared source; a part that is here is asked about at its own commit."""
    missing = SourceCheck(at=EPOCH - 10, problem="source-not-found", reason="the hub has no such repository")
    known = {}
    sources = [s for spec in desired.state.models.values() for s in (spec.source, spec.draft) if s is not None]
    for reference in sorted({str(launch_reference(source)) for source in sources}):
        says, here = truth.store.hub.get(reference, missing), truth.artifacts.get(reference)
        begun = isinstance(here, Present) and not here.value.read_only
        known[reference] = missing if begun and not says.problem and says.commit != bases[reference].identity else says
    return {} if truth.offline else known


@st.composite
def _wishes(draw: st.DrawFn) -> dict[str, Wish]:
    return {reference: draw(st.sampled_from([*Wish])) for reference in REFERENCES if draw(often(False, 3))}


@st.composite
def _generations(draw: st.DrawFn, bases: Mapping[str, Artifact]) -> tuple[Generation, ...]:
    """What was in force and proved before, with its weights in any number of servers."""
    entries = {r: base.identity for r, base in bases.items() if draw(often(False, 3))}
    return (generation(1, entries),) if entries else ()


# ------------------------------------------------------------------------------------------------------------ befalling

DAMAGE: Final = (Does.ROT, Does.LOSE)
PASSING: Final = (Does.UNPLUG, Does.HUB_DOWN, Does.FILL)


@st.composite
def shaken(draw: st.DrawFn, scenario: Scenario) -> Scenario:
    """The same world, with files that are damaged, and disks, hubs and volumes that are gone for a time."""
    events = []
    if draw(st.booleans()):
        events += [Event(after=0, does=Does.HUB_DOWN), Event(after=draw(SECONDS), does=Does.HUB_UP)]
    for _ in range(draw(st.integers(1, 5))):
        event = Event(
            after=draw(st.sampled_from([0.125, 0.5, 1.0, 3.0, 12.0, 40.0])),
            does=draw(st.sampled_from([*DAMAGE, *PASSING, Does.DIE])),
            label=draw(st.sampled_from([*scenario.desired.state.models])),
            reference=draw(st.sampled_from(REFERENCES)),
            volume=COLD,
        )
        events.append(event)
        if event.does in BACK:
            events.append(replace(event, after=event.after + draw(SECONDS), does=BACK[event.does]))
    return replace(scenario, script=replace(scenario.script, events=tuple(events)))


@st.composite
def retuned(draw: st.DrawFn, scenario: Scenario) -> Scenario:
    """The same world, while a person takes models out, asks for other weights, and thinks again."""
    state = scenario.desired.state
    kept = {}
    for label, spec in state.models.items():
        match draw(weighted(same=3, gone=2, other=3)):
            case "same":
                kept[label] = spec
            case "other":
                other = draw(_models(spec.port))
                kept[label] = replace(other, source=spec.source if draw(st.booleans()) else other.source)
            case _:
                pass
    edit = replace(scenario.desired, state=replace(state, models=kept), revision="worktree:1")
    first = draw(SECONDS)
    edits = (Edit(after=first, desired=edit), Edit(after=first + draw(SECONDS), desired=scenario.desired))
    return replace(scenario, edits=edits[: draw(st.sampled_from([1, 2]))])


@st.composite
def moving(draw: st.DrawFn) -> Scenario:
    """Base weights that have been converted and are moved away, while a person finds another use for them."""
    base = weights(REFERENCES[0], converted=False)
    first = ModelSpec(source=Source(repo=REPOS[0]), port=TEAM[0], convert=draw(st.sampled_from([Q4, "force"])))
    more = ModelSpec(source=Source(repo=REPOS[0]), port=TEAM[1], convert=draw(st.sampled_from(["skip", Q4])))
    other = ModelSpec(source=Source(repo=REPOS[1]), port=TEAM[2], draft=Source(repo=REPOS[0]), convert="skip")
    second = draw(st.sampled_from([more, other]))
    cached = {REFERENCES[0]: Present(value=base), REFERENCES[1]: Present(value=weights(REFERENCES[1]))}
    part = draw(st.sampled_from([7.0, 2.5, 1.0]))
    calm = Scenario(
        desired=declared(first=first),
        host_file=backroom(),
        truth=settled_whole(Truth(artifacts=dict(cached), store=Store(volumes={COLD: 2**45}))),
        script=Script(durations=(part,), starts=(1.0,)),
    )
    # The move is the last thing that is done, in three parts.
    end = apply(calm).world.now - EPOCH
    more_models = declared(first=first, second=second)
    edit = Edit(after=end - draw(st.sampled_from([0.5, 1.5, 2.5])) * part, desired=more_models)
    return replace(calm, edits=(edit,))


@st.composite
def crowded(draw: st.DrawFn) -> Scenario:
    """Models that are all here and none of which runs, some to be converted, with memory for hardly all of them."""
    models, cached = {}, {}
    for number, label in enumerate(LABELS[: draw(st.integers(2, 4))]):
        source = weights(f"org/{label}@main", draw(st.integers(1, 8)), converted=False)
        cached[f"org/{label}@main"] = Present(value=source)
        models[label] = ModelSpec(
            source=Source(repo=f"org/{label}"),
            port=TEAM[number],
            convert=draw(st.sampled_from(["skip", Q4, Q4, "force"])),
            priority=draw(st.sampled_from([0, 0, 5, -5])),
        )
    memory = Memory(budget=f"{draw(st.integers(6, 30))}GiB")
    host_file = HostFile(memory=memory, max_launches=draw(st.sampled_from([1, 2, 8])))
    truth = settled_whole(Truth(artifacts=cached))  # type: ignore[arg-type]
    return Scenario(desired=declared(**models), host_file=host_file, truth=truth, script=draw(luck()))


@st.composite
def lives(draw: st.DrawFn) -> tuple[Scenario, tuple[Chapter, ...]]:
    """A world, and what people do to it one after another."""
    scenario = draw(supplied(fresh=draw(often(True, 3))))
    chapters = []
    for _ in range(draw(st.integers(1, 3))):
        desired = draw(st.one_of(st.just(scenario.desired), desired_weights(0, 3)))
        damaged = draw(st.sampled_from(REFERENCES)) if draw(often(False, 4)) else ""
        does = draw(st.sampled_from([*DAMAGE, Does.UNPLUG, Does.PLUG]))
        chapters.append(
            Chapter(
                # Only gateways that are declared in the same way all the time: their files are another matter.
                desired=replace(desired, state=replace(desired.state, gateways=scenario.desired.state.gateways)),
                wishes=draw(_wishes()),
                event=Event(after=0, does=does, reference=damaged, volume=COLD) if damaged else None,
                killed_at=draw(st.sampled_from([None, 3, 5, 8, 12, 20])),
            )
        )
    return scenario, tuple(chapters)
