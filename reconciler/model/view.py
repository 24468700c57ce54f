"""All that a verb may look at, computed once per tick; a verb computes none of it again."""

from collections.abc import Mapping

from .base import noun
from .change import Change
from .desired import Desired
from .host import HostFile
from .ledger import Ledger
from .names import Subject
from .observed import ObservedState
from .plan import Blocked, InFlight, Waiting
from .routes import Route
from .supply import SupplyOrder
from .target import Target


@noun
class Facts:
    """The inputs of one decision, nothing computed yet."""

    desired: Desired
    observed: ObservedState
    ledger: Ledger
    host: HostFile
    now: float
    """Seconds since the epoch; the only clock that a decision knows."""
    in_flight: tuple[InFlight, ...] = ()
    foreseen: bool = False
    """Whether this is a forecast, in which what only waits for its turn to be brought or verified has it at once."""
    source: Blocked | None = None
    """Why the newest revision of the desired state is not the one in force; None: it is."""


@noun
class View:
    """The facts with what `planning` made of them."""

    facts: Facts
    targets: Mapping[str, Target]
    changes: tuple[Change, ...]
    """One per subject, in the order of priority."""
    leaving: frozenset[str]
    """Labels whose live server is to be stopped as soon as no gateway can reach it."""
    examined: tuple[str, ...]
    """Labels whose live server stays until what comes after it has passed its preflight."""
    launchable: tuple[str, ...]
    """Labels that may be launched this tick, in order: every condition but memory and the launch limit holds."""
    wanted: Mapping[str, tuple[Route, ...]]
    """gateway -> the routes it should have now."""
    headroom: int
    """Bytes that may still be claimed this instant; negative where more is in use than the budget."""
    converts_first: Subject | None
    """What is converted before anything is launched, because it would not fit beside that; None: nothing."""
    launch_slots: int
    """How many more servers may start now."""
    supplies: Mapping[Subject, SupplyOrder]
    """What would bring weights to where a server can load them, one order per artifact."""
    admitted: frozenset[str]
    """Labels whose memory is reserved, so that a later tick cannot give it to somebody else."""
    waiting: tuple[Waiting, ...]
    """What planning already knows to be a matter of time."""
    blocked: tuple[Blocked, ...]
    """What planning already knows to be a matter for a person."""
