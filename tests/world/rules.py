"""What must never happen, checked against the truth at the instant of each effect."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from reconciler.model.generation import Generation
from reconciler.model.ledger import Ledger
from reconciler.model.observed import Absent, Health, Present, ServerProcess, Standing, Unknown
from reconciler.model.routes import Route
from reconciler.model.supply import ConvertOrder, FetchOrder, MoveOrder, VerifyOrder
from reconciler.model.target import LaunchOrder, PreflightOrder
from reconciler.model.units import size

from .truth import Binding, Gateway, Record, bindings

if TYPE_CHECKING:
    from .world import World

STARTS: Final = 6
"""Starts of one label with one spec that a restart budget may allow within `WINDOW`."""
WINDOW: Final = 600.0
RETAINED: Final = 3
"""Generations that were proved as a whole and keep their weights."""


class Violated(BaseException):
    """A rule was broken. Not an Exception: a job that owns its exceptions must not swallow it."""


def budget(world: "World") -> int | None:
    """Bytes for all servers together; None where nobody can say."""
    memory = world.host_file.memory
    if memory.budget is not None:
        return size(memory.budget)
    total = world.truth.memory_total
    return max(0, total.value - size(memory.reserve)) if isinstance(total, Present) else None


# ------------------------------------------------------------------------------------------------------------- launch


def before_launch(world: "World", order: LaunchOrder) -> None:
    """What must hold when a launch is asked for; the last observation was made at this very instant."""
    truth, port = world.truth, order.port
    record = truth.records.get(order.label)
    world.require(not truth.blind, "launch-blind", f"{order.label}: nobody knows what runs")
    world.require(
        record is None or record.standing(world.now) is Standing.GONE, "launch-of-live", f"{order.label} runs already"
    )
    world.require(port not in truth.unseen, "launch-on-unseen-port", f"{order.label}: port {port} cannot be seen")
    world.require(port not in truth.foreign, "launch-on-foreign-port", f"{order.label}: port {port} is taken")
    rivals = [other.label for other in world.launching.values() if other.port == port]
    world.require(not rivals, "one-port-one-server", f"{order.label} and {rivals} are launched on port {port}")
    artifacts = [a.value for a in truth.artifacts.values() if isinstance(a, Present) and a.value.sound]
    artifacts += [c.artifact for made in truth.store.conversions.values() for c in made if c.artifact.sound]
    complete = any(a.identity == order.artifact and f"--model={a.path}" in _joined(order.argv) for a in artifacts)
    world.require(complete, "launch-without-artifact", f"{order.label}: {order.artifact} is not complete here")
    drafts = {a for a in order.argv if a.startswith(("--draft-model=", "--draft-model-path="))}
    sound = {f"--draft-model{word}={a.path}" for a in artifacts for word in ("", "-path")}
    world.require(drafts <= sound, "launch-without-draft", f"{order.label}: {drafts} is not complete here")
    starting = sum(
        r.standing(world.now) is Standing.OURS
        and r.look(world.now, False).health is Health.STARTING
        and world.now < r.look(world.now, False).since + world.start_timeout
        for r in truth.records.values()
        if r.process.label not in world.launching
    )
    world.require(
        starting + len(world.launching) < world.host_file.max_launches,
        "too-many-starting",
        f"{order.label} would be one more than max_launches {world.host_file.max_launches}",
    )
    suspension = world.ledger.suspensions.get(order.label)
    world.require(
        suspension is None or (suspension.until is not None and suspension.until <= world.now),
        "launch-of-suspended",
        f"a person has stopped {order.label}",
    )
    attempt = world.ledger.attempts.get(order.label)
    if attempt is not None and attempt.spec_hash == order.spec_hash:
        world.require(not attempt.permanent, "launch-of-held", f"{order.label} cannot succeed")
        world.require(attempt.retry_at <= world.now, "launch-too-early", f"{order.label} is backing off")
    starts = [at for at in world.starts.get((order.label, order.spec_hash), ()) if at > world.now - WINDOW]
    world.require(len(starts) < STARTS, "restart-storm", f"{order.label}: {len(starts)} starts in {WINDOW:.0f} s")


def _joined(argv: Iterable[str]) -> set[str]:
    """Arguments, with `--model-path` read as `--model`."""
    return {argument.replace("--model-path=", "--model=", 1) for argument in argv}


def at_spawn(world: "World", order: LaunchOrder, unseen: frozenset[str]) -> None:
    """What must hold when the process comes to be; `unseen` gateways could not be read when it was asked for."""
    now = world.now
    live = [r for r in world.truth.records.values() if r.live(now)]
    same = [r.process.label for r in live if r.process.port == order.port]
    world.require(not same, "one-port-one-server", f"{order.label} and {same} on port {order.port}")
    reserved = sum(r.process.memory for r in live) + sum(world.converting.values())
    limit = budget(world)
    world.require(limit is not None, "memory-unknown", f"{order.label} was started and nobody knows how much fits")
    world.require(
        limit is None or reserved + order.memory <= limit,
        "over-the-budget",
        f"{order.label}: {reserved} + {order.memory} > {limit}",
    )
    for kind, gateway in world.truth.gateways.items():
        if kind in unseen:
            continue
        wrong = [b.label for b in gateway.dispatches(now) if b.port == order.port and b.label != order.label]
        world.require(not wrong, "wrong-model", f"{kind} still sends {wrong} to port {order.port} of {order.label}")


# --------------------------------------------------------------------------------------------------------------- stop


def before_stop(world: "World", process: ServerProcess) -> None:
    """Only what is provably ours is stopped, and only when no gateway can reach it."""
    record = world.truth.records.get(process.label)
    standing = record.standing(world.now) if record is not None else None
    world.require(not world.truth.blind, "stop-blind", f"{process.label}: nobody knows what runs")
    world.require(standing is Standing.OURS, "signal-to-foreign", f"{process.label} is {standing}, not ours")
    same = record is not None and record.server is not None and record.server.pid == process.pid
    world.require(same, "signal-to-foreign", f"pid {process.pid} is not the server of {process.label}")
    for kind, gateway in world.truth.gateways.items():
        world.require(not gateway.unreadable, "stop-unseen", f"{process.label}: {kind} cannot be read")
    at_kill(world, process)


def at_kill(world: "World", process: ServerProcess) -> None:
    """What must still hold when the process ends."""
    for kind, gateway in world.truth.gateways.items():
        ways = [b.label for b in gateway.dispatches(world.now) if b.port == process.port]
        world.require(not ways, "stop-while-routed", f"{kind} may send {ways} to {process.label} on {process.port}")


# --------------------------------------------------------------------------------------------------- adopt and forget


def before_adopt(world: "World", process: ServerProcess) -> None:
    """Only what is provably the orphan of an interrupted launch is taken over."""
    record = world.truth.records.get(process.label)
    standing = record.standing(world.now) if record is not None else None
    world.require(standing is Standing.ORPHAN, "claim-of-foreign", f"{process.label} is {standing}, not an orphan")


def before_forget(world: "World", process: ServerProcess) -> None:
    """Only the record of a process that is gone is dropped."""
    record = world.truth.records.get(process.label)
    standing = record.standing(world.now) if record is not None else None
    world.require(standing is Standing.GONE, "forgot-the-living", f"the process of {process.label} is {standing}")


# ------------------------------------------------------------------------------------------------------------ weights


def before_writing(world: "World", reference: str, bytes_: int) -> None:
    """There is room for it beside everything else that is being written."""
    store = world.truth.store
    taken = sum(store.claimed.values())
    fits = store.free is None or taken + bytes_ <= store.free
    world.require(fits, "disk-overrun", f"{reference}: {bytes_} beside {taken} of {store.free}")


def before_fetch(world: "World", order: FetchOrder) -> None:
    """Only what is not whole is downloaded, at the commit that the hub has named; the disk is looked at on its own."""
    truth = world.truth
    world.require(not truth.offline, "fetched-offline", order.reference)
    found = truth.artifacts.get(order.reference, Absent())
    needed = not isinstance(found, Present) or not found.value.complete
    world.require(needed, "fetched-again", f"{order.reference} is here")
    world.require(not isinstance(found, Unknown), "fetched-blind", f"{order.reference} could not be looked at")
    cold = isinstance(found, Absent) and order.reference in truth.store.cold
    world.require(not cold, "fetched-cold", f"{order.reference} could be brought back")
    here = found.value.identity if isinstance(found, Present) else ""
    whole_of_it = here == order.commit or order.bytes >= sum(file.size for file in order.files)
    world.require(
        whole_of_it, "fetched-too-little", f"{order.reference}: what is here is of {here}, not {order.commit}"
    )
    known = {check.commit for check in truth.store.hub.values() if not check.problem}
    world.require(order.commit in known, "fetched-astray", f"{order.reference}: the hub never named {order.commit}")


def before_verify(world: "World", order: VerifyOrder) -> None:
    """Only what was not read yet is read."""
    found = world.truth.artifacts.get(order.reference)
    here = [found.value] if isinstance(found, Present) else []
    here += [c.artifact for c in world.truth.store.conversions.get(order.reference, ())]
    due = any(a.path == order.path and (a.unverified or a.measurable) for a in here)
    world.require(due, "verified-again", f"{order.path} was compared before")


def before_convert(world: "World", order: ConvertOrder) -> None:
    """Only sound weights are converted, with memory for it, one at a time, and never twice."""
    truth = world.truth
    found = truth.artifacts.get(order.reference)
    sound = isinstance(found, Present) and found.value.sound
    world.require(sound, "convert-unsound", f"{order.reference} is {found}")
    world.require(not world.converting, "convert-two", f"{order.reference} beside {list(world.converting)}")
    made = [c for c in truth.store.conversions.get(order.reference, ()) if c.recipe.makes(order.recipe)]
    world.require(not any(c.artifact.complete for c in made), "convert-again", f"{order.reference} is converted")
    limit = budget(world)
    live = {r.process.label: r.process.memory for r in truth.records.values() if r.live(world.now)}
    reserved = sum(({label: launch.memory for label, launch in world.launching.items()} | live).values())
    world.require(
        limit is not None and reserved + order.memory <= limit,
        "over-the-budget",
        f"converting {order.reference}: {reserved} + {order.memory} > {limit}",
    )


def before_offload(world: "World", order: MoveOrder) -> None:
    """Nothing that runs or was proved lately may lose its weights; what is declared is judged where it is known."""
    repo = order.repo
    world.require(not world.truth.blind, "offload-blind", f"{repo}: nobody knows what runs")
    at_removal(world, order)
    for generation in _to_go_back_to(world.ledger):
        needs = [e for e in generation.artifacts if e.partition("@")[0] == repo and "recipe:" not in e]
        world.require(not needs, "offload-of-retained", f"{needs} needs {repo}")


def _to_go_back_to(ledger: Ledger) -> Iterator[Generation]:
    """What a person, or the loop, may bring back: what is in force, what is pinned, and three that were proved."""
    proved = 0
    for one in ledger.generations:
        proved += one.proved_at is not None
        lately = one.proved_at is not None and proved <= RETAINED
        if lately or one.number == ledger.current or (ledger.pin is not None and one.number == ledger.pin.number):
            yield one


def at_removal(world: "World", order: MoveOrder) -> None:
    """Nobody has the files open that are removed, and nobody is about to open them."""
    for record in world.truth.records.values():
        process = record.process
        held = record.live(world.now) and loads(process.fields, process.artifact, order.repo)
        world.require(not held, "offload-of-served", f"{process.label} serves {order.repo}")
    for label, launch in world.launching.items():
        held = loads(launch.fields, launch.artifact, order.repo)
        world.require(not held, "offload-of-launched", f"{label} is being started from {order.repo}")


def loads(fields: Mapping[str, str], artifact: str, repo: str) -> bool:
    """Whether a process with these fields has files of a repository open as they were downloaded."""
    source = fields.get("source", "").partition("@")[0] == repo and not artifact.startswith("recipe:")
    return source or fields.get("draft", "").partition("@")[0] == repo


def before_restore(world: "World", order: MoveOrder) -> None:
    """Only what is in cold storage comes back, and only where it is not here."""
    truth = world.truth
    world.require(order.reference in truth.store.cold, "restored-nothing", f"{order.reference} is not in cold storage")
    here = truth.artifacts.get(order.reference)
    whole = isinstance(here, Present) and here.value.complete
    world.require(not whole, "restored-again", f"{order.reference} is here")


def copies_are_kept(world: "World") -> None:
    """At every instant a whole copy exists of everything of which one ever was, but for what others have damaged."""
    store = world.truth.store
    copies = store.copies(world.truth.artifacts)
    lost = {(r, identity) for r, identity in store.whole - copies if not _remade(world, r, identity)}
    world.require(not lost, "last-copy-lost", f"{sorted(lost)}")
    store.whole |= copies


def _remade(world: "World", reference: str, identity: str) -> bool:
    """Whether a conversion was damaged by somebody else: it can be made again."""
    made = world.truth.store.conversions.get(reference, ())
    return any(c.artifact.identity == identity and not c.artifact.complete for c in made)


# ---------------------------------------------------------------------------------------------------------- preflight


def before_preflight(world: "World", order: PreflightOrder) -> None:
    """Only what is to replace a running server is examined, and nothing twice that has passed as it is remembered."""
    record = world.truth.records.get(order.label)
    world.require(record is not None, "preflight-of-nothing", f"{order.label} has no server to be replaced")
    known = world.ledger.preflights.get(order.label)
    world.require(known != order.key, "preflight-again", f"{order.label} has passed as {order.key}")


# ------------------------------------------------------------------------------------------------------------ publish


def before_publish(world: "World", kind: str, routes: tuple[Route, ...]) -> None:
    """A binding leads to the proved server of its label; what cannot be seen keeps the binding it has."""
    gateway = world.truth.gateways[kind]
    world.require(not gateway.unreadable, "blind-write", f"{kind} cannot be read and was written")
    world.require(gateway.routes != routes, "needless-write", f"{kind} has these routes already")
    names = [name for r in routes for name in (r.label, *r.aliases)]
    world.require(len(names) == len(set(names)), "ambiguous-name", f"{kind}: {names}")
    for route in routes:
        if route.upstream is not None and not _kept_unseen(world, gateway, route):
            _leads_to_its_server(world, kind, route, world.truth.records.get(route.label))


def _kept_unseen(world: "World", gateway: Gateway, route: Route) -> bool:
    """Whether nothing can be said about the server, and the binding stays what it was."""
    record = world.truth.records.get(route.label)
    unseen = world.truth.blind or (record is not None and record.standing(world.now) is Standing.UNKNOWN)
    return bool(unseen) and any(r.label == route.label and r.upstream == route.upstream for r in gateway.routes or ())


def _leads_to_its_server(world: "World", kind: str, route: Route, record: Record | None) -> None:
    upstream = route.upstream
    live = record.look(world.now, False) if record is not None else None
    proved = live is not None and live.standing is Standing.OURS and live.health is Health.SERVING
    world.require(proved, "route-to-nowhere", f"{kind}: the server of {route.label} is not proved ({live})")
    world.require(route.label not in world.stopping, "route-to-the-leaving", f"{kind}: {route.label} is being stopped")
    reached = (live.host, live.port, live.served_name) if live is not None else None
    told = (upstream.host, upstream.port, upstream.served_name) if upstream is not None else None
    world.require(reached == told, "route-astray", f"{kind}: {route.label} goes to {told}, its server is {reached}")


def at_publish(world: "World", kind: str, routes: tuple[Route, ...]) -> None:
    """What must hold when the file is written: a server may die meanwhile, but not by our hand."""
    for binding in sorted(bindings(routes), key=lambda b: (b.label, b.port)):
        world.require(
            not _stopped_by_us(world, binding), "route-to-the-stopped", f"{kind}: {binding} was stopped meanwhile"
        )


def _stopped_by_us(world: "World", binding: Binding) -> bool:
    record = world.truth.records.get(binding.label)
    if record is None or record.server is None:
        return binding in world.stopped
    return record.server.stopped


# --------------------------------------------------------------------------------------------------------------- save


def contents_of(ledger: Ledger) -> set[str]:
    """Digests of what a ledger counts on being able to restore."""
    counted = [*ledger.generations, *(part for part in (ledger.pin, ledger.source) if part is not None)]
    return {one.content for one in counted if one.content}


def at_save(world: "World", missing: set[str]) -> None:
    """What comes in force can be restored from the same moment on."""
    world.require(not missing, "content-not-kept", f"{sorted(missing)}")
