"""What will happen in a world by itself: how long things take, which requests go wrong, who dies when."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from reconciler.model.observed import Listener, Present

from .truth import Truth


class Fault(Enum):
    """How one request goes wrong."""

    FAIL = "fails before it has changed anything"
    HANG = "never answers, and has changed nothing"
    HALF = "fails half-way, where there is a half-way"
    LOST = "has its effect, and the answer is an error"
    MUTE = "has its effect, and never answers"


class Does(Enum):
    """What happens to a world unasked."""

    DIE = "the server of a label dies"
    WEDGE = "the server of a label cannot generate any more"
    OCCUPY = "a foreign process takes a port, if it is free"
    VACATE = "the foreign process leaves a port"
    HIDE = "a port cannot be seen"
    SHOW = "it can be seen again"
    DOUBT = "the proof of a label fails"
    PROVE = "it holds again"
    BLIND = "run records cannot be listed"
    SIGHT = "they can again"
    EDIT = "somebody takes the first of our routes out of the file of a gateway"
    REMOVE = "somebody removes the file of a gateway"
    SEAL = "the file of a gateway cannot be read"
    OPEN = "it can again"
    ROT = "a file of a reference in the cache changes, and is not what it should be"
    LOSE = "a file of a reference in the cache is removed"
    UNPLUG = "a volume is pulled out"
    PLUG = "it is there again"
    HUB_DOWN = "the hub does not answer"
    HUB_UP = "it answers again"
    FILL = "a stranger fills the disk"
    CLEAR = "it has removed that again"


@dataclass(frozen=True, kw_only=True)
class Event:
    """One thing that happens unasked, `after` seconds from the start."""

    after: float
    does: Does
    label: str = ""
    port: int = 0
    gateway: str = ""
    reference: str = ""
    """Launch reference."""
    volume: str = ""


@dataclass(frozen=True, kw_only=True)
class Script:
    """All chance of a world, drawn beforehand, so that the same script gives the same run."""

    durations: tuple[float, ...] = (0.25,)
    """Seconds that the parts of a request take, used in turn."""
    starts: tuple[float, ...] = (2.0,)
    """Seconds from a start to the first completion, used in turn."""
    jitters: tuple[float, ...] = (0.5,)
    faults: tuple[Fault | None, ...] = ()
    """One for each request, in the order in which they are made; afterwards everything works."""
    events: tuple[Event, ...] = ()
    duds: Mapping[str, float] = field(default_factory=dict)
    """Label, or label and launch reference -> seconds after each start at which its server dies; infinite: it lives and
    never answers."""
    unfit: frozenset[str] = frozenset()
    """Labels of which whatever is declared fails its preflight."""
    hints: bool = True
    """Whether the world says when something may have changed."""


BACK: Final = {
    Does.HIDE: Does.SHOW,
    Does.DOUBT: Does.PROVE,
    Does.BLIND: Does.SIGHT,
    Does.SEAL: Does.OPEN,
    Does.OCCUPY: Does.VACATE,
    Does.UNPLUG: Does.PLUG,
    Does.HUB_DOWN: Does.HUB_UP,
    Does.FILL: Does.CLEAR,
}
"""What ends each disturbance that has an end."""


def happen(truth: Truth, event: Event, now: float) -> None:
    """Let `event` happen to `truth`."""
    record, gateway = truth.records.get(event.label), truth.gateways.get(event.gateway)
    server = record.server if record is not None else None
    match event.does:
        case Does.DIE if server is not None:
            server.dies_at = min(server.dies_at, now)
        case Does.WEDGE if server is not None:
            server.wedged_at = min(server.wedged_at, now)
        case Does.DOUBT | Does.PROVE if record is not None:
            record.doubt = "its token contradicts its record" if event.does is Does.DOUBT else ""
        case Does.EDIT | Does.REMOVE if gateway is not None and gateway.routes is not None:
            gateway.routes = gateway.routes[1:] if event.does is Does.EDIT else None
        case Does.SEAL | Does.OPEN if gateway is not None:
            gateway.unreadable = "permission denied" if event.does is Does.SEAL else ""
        case Does.OCCUPY | Does.VACATE | Does.HIDE | Does.SHOW:
            _happen_to_port(truth, event, now)
        case Does.BLIND:
            truth.blind = "permission denied"
        case Does.SIGHT:
            truth.blind = ""
        case _:
            _happen_to_weights(truth, event)


def _happen_to_port(truth: Truth, event: Event, now: float) -> None:
    port = event.port
    taken = any(r.live(now) and r.process.port == port for r in truth.records.values())
    match event.does:
        case Does.OCCUPY if not taken:
            truth.foreign.setdefault(port, Listener(port=port, pid=4711, command="postgres"))
        case Does.VACATE:
            truth.foreign.pop(port, None)
        case Does.HIDE:
            truth.unseen.add(port)
        case Does.SHOW:
            truth.unseen.discard(port)
        case _:
            pass


def _happen_to_weights(truth: Truth, event: Event) -> None:
    store = truth.store
    match event.does:
        case Does.ROT | Does.LOSE:
            _damage(truth, event)
        case Does.UNPLUG if event.volume in store.volumes:
            store.away[event.volume] = store.volumes.pop(event.volume)
        case Does.PLUG if event.volume in store.away:
            store.volumes[event.volume] = store.away.pop(event.volume)
        case Does.HUB_DOWN | Does.HUB_UP:
            store.down = event.does is Does.HUB_DOWN
        case Does.FILL if store.free is not None and store.full is None:
            store.full, store.free = store.free, 0
        case Does.CLEAR if store.full is not None and store.free is not None:
            store.free, store.full = store.free + store.full, None
        case _:
            pass  # it would happen to something that is not there


def _damage(truth: Truth, event: Event) -> None:
    """A file changes or goes, as everybody sees who looks; what it holds now is only seen by reading it."""
    found, store = truth.artifacts.get(event.reference), truth.store
    if not isinstance(found, Present) or not found.value.complete:
        return
    artifact = found.value
    if event.does is Does.ROT:
        store.rotten.add(event.reference)
        damaged = replace(artifact, unverified=artifact.weight_bytes)
    else:
        damaged = replace(artifact, missing=("model.safetensors",), unverified=0)
    truth.artifacts[event.reference] = Present(value=damaged)
    copy = store.cold.get(event.reference)
    if copy is None or copy.artifact.identity != artifact.identity:
        store.whole.discard((event.reference, artifact.identity))
