"""What must be remembered because the world cannot show it: attempts, suspensions, proofs, leases."""

from collections.abc import Mapping
from dataclasses import field, replace
from enum import StrEnum

from .base import noun
from .generation import Generation, Pin
from .source import SourceRecord
from .supply import SourceCheck


@noun
class Attempt:
    """Failures of one server with one spec, counted for the restart budget."""

    spec_hash: str
    cause: str
    """Class of the failure, such as `crashed` or `load-failed`."""
    count: int
    first: float
    last: float
    retry_at: float
    """When the next start is due; the jitter is already in it."""
    evidence: str = ""
    """Which process the last failure was seen on (`pid:start`), so that one death is counted once."""
    permanent: bool = False
    """A deterministic cause: not retried until the spec changes or somebody says `retry`."""
    error: str = ""
    artifact: str = ""
    """Identity of the weights it failed with; other weights have a clean sheet."""
    command: tuple[str, ...] = ()
    log: str = ""
    log_start: int = 0
    """Command line and log of the process that failed, which stay to be read when its record is gone."""


def is_of_action(key: str) -> bool:
    """Whether a key of `Ledger.attempts` is of an action (`kind:subject`) and not a label."""
    return ":" in key


def forgiven(attempt: Attempt) -> Attempt:
    """A clean sheet that still knows which death has been counted."""
    return replace(attempt, count=0, retry_at=0.0, permanent=False)


@noun
class Suspension:
    """A person said stop."""

    since: float
    reason: str
    until: float | None = None
    """When it ends by itself; None: at `start`."""
    force: bool = False
    """Whether the server is stopped even while a gateway may still send it requests."""
    by: str = ""
    """Login name of who said it; empty where that is not known."""


@noun
class ServiceProof:
    """A server has answered completions."""

    instance: str
    """`ServerProcess.instance` of the process that answered; it speaks for no other."""
    at: float
    """When it last did, seconds since the epoch."""


class Wish(StrEnum):
    """What a person has said about where a repository is kept."""

    OFFLOAD = "offload"
    """Move it to cold storage; over once it is there."""
    KEEP = "keep"
    """Bring it back, and let it stay although nothing needs it."""


@noun
class ArtifactRecord:
    """What a label has been served from: facts for people, on which nothing is decided but what the commit was."""

    reference: str
    commit: str
    """What its revision was when it was first complete here."""
    source_path: str
    """Folder in which its weights first were complete; kept when they are converted."""
    cache_path: str
    """Folder that a server loads."""
    og_path: str = ""
    """Folder of the base repository, where what is served was converted from it; empty otherwise."""
    bytes: int = 0
    """Of the weights that are served."""
    format: str = ""
    """`mlx`, or empty where the files do not say."""


@noun
class Ledger:
    """One state directory's memory."""

    attempts: Mapping[str, Attempt]
    """label -> failures of its present spec; `kind:subject` -> failures of an action that is not a launch."""
    suspensions: Mapping[str, Suspension]
    proved: frozenset[str]
    """Labels that have answered a completion since they were declared."""
    proofs: Mapping[str, ServiceProof] = field(default_factory=dict)
    """label -> the proof of its present process."""
    launched: frozenset[str]
    """Labels that have had a process since they were declared: they get memory before newcomers."""
    leases: Mapping[str, int]
    """label -> the port it was last launched on; `port: auto` keeps it, and any other port is immutable."""
    sources: Mapping[str, SourceCheck] = field(default_factory=dict)
    """launch reference -> what the hub last said about it."""
    artifacts: Mapping[str, ArtifactRecord] = field(default_factory=dict)
    """label -> what it was last served from."""
    generations: tuple[Generation, ...] = ()
    """What was in force, the last one first."""
    current: int = 0
    """Number of the generation in force; 0: none is known."""
    pin: Pin | None = None
    """What was gone back to; None: what the source has is in force."""
    source: SourceRecord | None = None
    """Where the desired state came from; None: nobody has followed one here."""
    rules: str = ""
    """Digest of the host file, the overrides and the environment of who has kept it last; empty: not known."""
    preflights: Mapping[str, str] = field(default_factory=dict)
    """label -> `spec_hash identity` of the last successor of a running server that passed its preflight."""
    wishes: Mapping[str, Wish] = field(default_factory=dict)
    """launch reference -> where a person wants it to be."""
    reserved: frozenset[str] = frozenset()
    """Labels that were promised memory and do not hold it yet: nobody may take it while their old server goes."""


@noun
class Lesson:
    """What a request has learned that looking does not show; it is remembered when the request has ended."""

    sources: Mapping[str, SourceCheck] = field(default_factory=dict)
    preflights: Mapping[str, str] = field(default_factory=dict)


EMPTY = Ledger(attempts={}, suspensions={}, proved=frozenset(), launched=frozenset(), leases={})
