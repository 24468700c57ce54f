"""What happened: one sentence each, in the order in which it was seen."""

from enum import StrEnum

from .base import noun
from .names import Subject


class EventKind(StrEnum):
    """What sort of thing happened."""

    REVISION = "revision"
    """Another desired state is in force."""
    STARTED = "started"
    """An action began."""
    PROGRESS = "progress"
    """How far an action is that takes long; told at every tenth of it."""
    DONE = "done"
    """An action ended well."""
    FAILED = "failed"
    """An action, or a server, failed."""
    PROVED = "proved"
    """A server answered its first completions."""
    WAITING = "waiting"
    BLOCKED = "blocked"
    CLEARED = "cleared"
    """What was blocked is not blocked any more."""
    SUSPENDED = "suspended"
    RESUMED = "resumed"
    RETRIED = "retried"
    """A person said that earlier failures do not count."""
    WISHED = "wished"
    """A person said where weights are to be kept."""
    ACCEPTED = "accepted"
    """A person released a revision that a guard stood against."""
    UNCOMMITTED = "uncommitted"
    """The saved file is not the committed one, and is ignored."""
    DRIFTED = "drifted"
    """Something that was as declared is no longer, and nobody here has changed it."""
    ROLLING_BACK = "rolling-back"
    """An earlier generation is in force again and not proved yet."""
    ROLLED_BACK = "rolled-back"
    """It is proved again."""
    SETTLED = "settled"
    """There is nothing to do or to wait for."""


@noun
class Event:
    """One thing that happened."""

    at: float
    """Seconds since the epoch."""
    kind: EventKind
    subject: Subject
    text: str
    action: str = ""
    """Kind of the action that it is about, such as `launch`; empty where it is about none."""
    reference: str = ""
    """Stable kebab-case name of the reason."""
    revision: str = ""
    """The desired state that was in force."""
    number: int = 0
    """Its place in the history, given by the store; 0: not stored yet."""
