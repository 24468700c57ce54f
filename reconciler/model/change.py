"""The judgement of one subject: what is desired, what is observed, and what follows."""

from enum import StrEnum

from .base import FieldClass, noun
from .names import Subject
from .observed import ServerProcess
from .target import Target


class Verdict(StrEnum):
    """Exactly one per subject; `matches` included, so that nothing is left unsaid."""

    MATCHES = "matches"
    STARTING = "starting"
    MISSING = "missing"
    CRASHED = "crashed"
    OUTDATED = "outdated"
    UNHEALTHY = "unhealthy"
    STUCK = "stuck"
    """Started and not proved within the deadline."""
    ORPHANED = "orphaned"
    OCCUPIED = "occupied"
    """The port is held by a process that is not provably ours."""
    EXTRANEOUS = "extraneous"
    """Ours and not declared."""
    DEAD_RECORD = "dead-record"
    """A record of ours without a process, for a label that is not declared to be served."""
    SUSPENDED = "suspended"
    ASLEEP = "asleep"
    """On demand, and nobody asks."""
    CACHED = "cached"
    """Declared without a port."""
    UNKNOWN = "unknown"


@noun
class Change:
    """A verdict with both of its sides."""

    subject: Subject
    label: str
    verdict: Verdict
    reference: str
    reason: str
    target: Target | None = None
    live: ServerProcess | None = None
    because: tuple[str, ...] = ()
    """Fields that force the change, for `outdated`."""
    cost: FieldClass | None = None
    """The heaviest class among `because`."""
