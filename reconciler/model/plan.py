"""What to do now, what time will settle, and what only a person can settle."""

from collections.abc import Mapping
from dataclasses import field
from typing import ClassVar, Final, Protocol

from .base import noun
from .names import Subject
from .observed import Artifact, ColdCopy, Conversion, GatewayState, Observation, ObservedState, ServerProcess
from .supply import Progress, SourceCheck

_OF_A_HUB: Final = ("hub-unavailable", "hub-unreachable", "source-rate-limited")
_OF_A_STRANGER: Final = "port-occupied"
_LATER: Final = 30.0
"""Seconds for which it is worth to stay."""


@noun
class Waiting:
    """Nothing to do for this subject now; time or a running action settles it."""

    subject: Subject
    reference: str
    reason: str
    until: float | None = None
    """When to look again, seconds since the epoch; None: something in flight says when."""
    on: Subject | None = None
    """The subject that it waits for, where that is one."""


@noun
class Blocked:
    """Only a person can settle it."""

    subject: Subject
    reference: str
    """Stable kebab-case name of the reason."""
    reason: str
    """One sentence: what is, and what was kept."""
    hint: str
    """What to do about it."""


@noun
class Effect:
    """What an action leaves behind when it succeeds, as a difference to what was observed."""

    servers: Mapping[str, ServerProcess | None] = field(default_factory=dict)
    """label -> its record afterwards; None: no record is left."""
    gateways: Mapping[str, GatewayState] = field(default_factory=dict)
    artifacts: Mapping[str, Observation[Artifact]] = field(default_factory=dict)
    """launch reference -> what is there afterwards."""
    conversions: Mapping[str, Conversion] = field(default_factory=dict)
    """launch reference -> what was made from it."""
    cold: Mapping[str, ColdCopy | None] = field(default_factory=dict)
    """launch reference -> its copy in cold storage; None: it is back in the cache."""
    sources: Mapping[str, SourceCheck] = field(default_factory=dict)
    """launch reference -> what is known of it at the hub."""
    preflights: Mapping[str, str] = field(default_factory=dict)
    """label -> key of the successor that has passed its preflight."""


class Action(Protocol):
    """One thing to do now, as planning sees it; how it is done is the business of `actions`."""

    kind: ClassVar[str]
    symbol: ClassVar[str]
    """One character in front of it in a plan; it only repeats what the word says."""
    destructive: ClassVar[bool]
    """Whether something that runs or exists ends by it."""
    deadline: ClassVar[float]
    """Seconds after which it is given up: every request to the machine ends."""

    @property
    def subject(self) -> Subject:
        """At most one action per subject is under way."""
        ...

    @property
    def reference(self) -> str:
        """Stable kebab-case name of the reason."""
        ...

    @property
    def reason(self) -> str:
        """One phrase for people; nothing decides on it."""
        ...

    @property
    def claims(self) -> "Claim":
        """What it takes from others while it is under way."""
        ...

    @property
    def server(self) -> "ServerSide | None":
        """The process that it starts or works on; None where it works on something else."""
        ...

    @property
    def bytes(self) -> int | None:
        """What it reads or brings; None where it moves no weights."""
        ...

    def simulate(self, observed: ObservedState) -> Effect:
        """What it changes when it succeeds."""
        ...


@noun
class ServerSide:
    """What a plan shows of the process behind an action."""

    port: int
    memory: int
    """Bytes that are reserved for it."""
    argv: tuple[str, ...] = ()
    """The exact command line, for one that is started."""


@noun
class Claim:
    """What an action under way has taken, before observation can show it."""

    port: int | None = None
    memory: int = 0
    dispatch: frozenset[int] = frozenset()
    """Ports to which a gateway is being told to send requests."""
    disk: int = 0
    """Bytes that it writes where the model cache is."""
    reads: int = 0
    """Bytes that it reads through."""
    recipe: str = ""
    """Key of the conversion that it makes."""
    examines: str = ""
    """Key of the successor whose preflight it is."""


@noun
class InFlight:
    """A job: an action that was started and has not been reaped."""

    subject: Subject
    kind: str
    claim: Claim
    since: float
    progress: Progress | None = None
    """None where it does not say how far it is."""


@noun
class Plan:
    """One tick's decision."""

    actions: tuple[Action, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    blocked: tuple[Blocked, ...] = ()

    @property
    def settled(self) -> bool:
        """Whether looking again would decide the same, until somebody changes something."""
        return not self.actions and not self.waiting

    def parked(self, now: float) -> bool:
        """Whether all that is left is to ask a hub again, and not soon: whoever waits may come back later."""
        return (
            not self.actions
            and bool(self.waiting)
            and all(w.reference in _OF_A_HUB and w.until is not None and w.until - now >= _LATER for w in self.waiting)
        )

    @property
    def wants_port(self) -> bool:
        """Whether a port is wanted that somebody else holds, who gives it back without a hint."""
        entries: tuple[Waiting | Blocked, ...] = (*self.waiting, *self.blocked)
        return any(entry.reference == _OF_A_STRANGER for entry in entries)

    @property
    def look_again(self) -> float | None:
        """The earliest time at which something is due; None: only an event can change the decision."""
        return min((w.until for w in self.waiting if w.until is not None), default=None)
