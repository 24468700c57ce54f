"""What is looked at when a machine is examined, and what is found."""

from collections.abc import Mapping
from enum import StrEnum

from .base import noun
from .observed import Observation


class Opinion(StrEnum):
    """What a check thinks of what it has seen, from best to worst."""

    OK = "ok"
    NOT_APPLICABLE = "not-applicable"
    UNKNOWN = "unknown"
    """It could not look, which is never taken for ok."""
    WARNING = "warning"
    """It works today, and something stands against it."""
    PROBLEM = "problem"


@noun
class Finding:
    """What one check says about one thing."""

    opinion: Opinion
    text: str
    """One sentence."""
    fix: str = ""
    """A command, or an edit; empty where there is nothing to mend."""
    reference: str = ""
    """Stable kebab-case name of what is wrong; empty where nothing is."""


@noun
class Examined:
    """One check and what came of it."""

    name: str
    about: str
    """What it looks at, in a few words."""
    findings: tuple[Finding, ...]

    @property
    def opinion(self) -> Opinion:
        """The worst of its findings."""
        order = list(Opinion)
        return max((finding.opinion for finding in self.findings), key=order.index, default=Opinion.OK)


# ------------------------------------------------------------------------------------------------- what was looked at


@noun
class Complaint:
    """Something refused to work, in its own words."""

    reference: str
    message: str
    hint: str


@noun
class StateFolder:
    """The file system of the state directory, as it was tried."""

    path: str
    tried: str
    """Where it was tried: the directory itself or, before it is made, the nearest folder above."""
    kind: str
    """Type of the file system as the kernel names it; empty where it does not."""
    excludes: bool
    """Whether a lock of one process keeps out another."""
    inherits: bool
    """Whether a lock stays with a child that has inherited it when its parent lets go."""
    frees: bool
    """Whether the lock is free when the last holder has ended."""
    replaces: bool
    """Whether a renamed file replaces another one without an instant in which neither is there."""
    folds_case: bool
    full_sync: bool | None
    """Whether F_FULLFSYNC works; None where the system has none."""


@noun
class Owned:
    """Whose a file or folder is."""

    path: str
    ours: bool
    mode: int
    """Permission bits."""


@noun
class Disk:
    """The room where something is kept."""

    what: str
    path: str
    free: int
    """Bytes."""


@noun
class Install:
    """A Python package in one environment."""

    package: str
    version: str
    """Empty where it could not be read."""
    prefix: str
    """Folder of the environment; empty where that is not known."""
    found: tuple[str, ...]
    """Who leads there: `the host file`, `this environment`, `the PATH`."""


@noun
class Listening:
    """A socket that listens."""

    port: int
    wide: bool
    """Whether on every address of the machine."""


@noun
class Leftover:
    """A file of a download that did not end."""

    path: str
    size: int
    age: float
    """Seconds since something was written to it."""
    locked: bool
    """Whether somebody holds the lock under which it is written."""


@noun
class LentPorts:
    """The ports that the system lends to outgoing connections."""

    first: int
    last: int
    reserved: tuple[tuple[int, int], ...] = ()
    """Ranges that it does not lend, both ends included."""


@noun
class GitState:
    """Git in the repository of the desired file."""

    version: str
    folder: str
    """Top of the working tree; empty where the file is in no repository."""
    pinned: Mapping[str, str]
    """Setting -> the value that every call is given."""
    effective: Mapping[str, str]
    """Setting -> the value that git then has."""


@noun
class ClockState:
    """The clock, and what was written by it."""

    now: float
    last_event: float | None
    """When the last event in the state directory was written; None where there is none."""
    synchronised: Observation[bool]
    """Whether the system says that it is set by the network."""
