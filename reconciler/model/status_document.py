"""The status as a document: what `status -o json` prints, the page of the watch shows, and status.v1.json describes."""

from collections.abc import Mapping
from typing import Final, Literal

from .base import FieldClass, noun, setting
from .document import DiskEntry, ReasonEntry

STATUS_VERSION: Final = "1.1"
"""A minor step adds, a major step breaks; readers ignore what they do not know and refuse another major."""

_HOT: Final = FieldClass.HOT


@noun
class StatusEvent:
    """One thing that happened."""

    at: float = setting(changes=_HOT, doc="Seconds since the epoch.")
    kind: str = setting(changes=_HOT, doc="What sort of thing. Readers show one they do not know as it is.")
    subject: str = setting(changes=_HOT, doc="What it is about, as `server/<label>` or `gateway/<kind>`.")
    text: str = setting(changes=_HOT, doc="One sentence for people.")
    action: str = setting(default="", changes=_HOT, doc="The verb that it is about; empty where it is about none.")
    reference: str = setting(default="", changes=_HOT, doc="Stable name of the reason.")
    revision: str = setting(default="", changes=_HOT, doc="The desired state that was in force.")
    number: int = setting(default=0, changes=_HOT, doc="Its place in the history; 0: not stored yet.")


@noun
class SourceEntry:
    """Where the desired state comes from."""

    mode: str = setting(changes=_HOT, doc="commit or worktree.")
    ref: str = setting(default="", changes=_HOT, doc="What is followed, such as refs/heads/main; empty for a file.")
    revision: str = setting(changes=_HOT, doc="The revision in force.")
    refused: str = setting(default="", changes=_HOT, doc="The newest revision, where it is not in force.")
    paused: bool = setting(changes=_HOT, doc="Whether something stands against taking the newest revision.")
    reference: str = setting(default="", changes=_HOT, doc="Stable name of what stands against it.")
    reason: str = setting(default="", changes=_HOT, doc="The same as a sentence.")
    hint: str = setting(default="", changes=_HOT, doc="What a person can do about it.")
    uncommitted: tuple[str, ...] = setting(
        default=(), changes=_HOT, doc="Paths whose saved content is not that of the commit."
    )
    accepted: str = setting(default="", changes=_HOT, doc="Revision that a person has released.")
    accepted_because: str = setting(default="", changes=_HOT, doc="Why.")


@noun
class SuspensionEntry:
    """A server that a person has stopped."""

    label: str = setting(changes=_HOT, doc="Its label.")
    since: float = setting(changes=_HOT, doc="Since when, seconds since the epoch.")
    reason: str = setting(changes=_HOT, doc="What the person said.")
    until: float | None = setting(default=None, changes=_HOT, doc="When it ends by itself; null: at `start`.")
    by: str = setting(default="", changes=_HOT, doc="Login name of who said it; empty where it is not known.")


@noun
class PinEntry:
    """An earlier generation that stays in force."""

    number: int = setting(changes=_HOT, doc="The generation.")
    bad: str = setting(changes=_HOT, doc="The revision that was left; a newer one ends the pin.")
    at: float = setting(changes=_HOT, doc="Since when, seconds since the epoch.")
    reason: str = setting(changes=_HOT, doc="Why it was gone back to.")
    automatic: bool = setting(changes=_HOT, doc="Whether nobody asked for it.")
    proved_at: float | None = setting(
        default=None, changes=_HOT, doc="When all of it was proved after the return; null: not yet."
    )


@noun
class DifferenceEntry:
    """A field in which a running server is not the declared one."""

    field: str = setting(changes=_HOT, doc="Its name.")
    declared: str = setting(changes=_HOT, doc="What is declared; long values are cut.")
    running: str = setting(changes=_HOT, doc="What runs.")


@noun
class ServerEntry:
    """One label on both axes, from its names to its process."""

    label: str = setting(changes=_HOT, doc="What clients say to the gateway.")
    sync: str = setting(changes=_HOT, doc="Synced, OutOfSync or Unknown.")
    health: str = setting(changes=_HOT, doc="Healthy, Progressing, Degraded, Missing, Suspended or Unknown.")
    port: int | None = setting(changes=_HOT, doc="Port, where there is one.")
    pid: int | None = setting(changes=_HOT, doc="Its process, while there is one.")
    reference: str = setting(changes=_HOT, doc="Stable name of the reason.")
    reason: str = setting(changes=_HOT, doc="What stands against it for people, or else what was found.")
    verdict: str = setting(default="", changes=_HOT, doc="What follows from comparing both sides.")
    found: str = setting(default="", changes=_HOT, doc="What was found, as one phrase.")
    hint: str = setting(default="", changes=_HOT, doc="What a person can do; empty where nobody has to.")
    aliases: tuple[str, ...] = setting(default=(), changes=_HOT, doc="Other names of the label.")
    source: str = setting(default="", changes=_HOT, doc="Launch reference: what the process loads.")
    artifact: str = setting(default="", changes=_HOT, doc="Identity of the weights that run, or else would.")
    weights: str = setting(default="", changes=_HOT, doc="Verdict on the declared weights, such as complete.")
    backend: str = setting(default="", changes=_HOT, doc="Kind of its server program.")
    runtime: str = setting(default="", changes=_HOT, doc="The program that runs it, without its arguments.")
    since: float | None = setting(default=None, changes=_HOT, doc="When its process was launched.")
    revision: str = setting(default="", changes=_HOT, doc="The desired state that its process was launched from.")
    generation: int | None = setting(default=None, changes=_HOT, doc="The generation that was in force then.")
    proved_at: float | None = setting(default=None, changes=_HOT, doc="When it last answered a completion.")
    memory: int | None = setting(default=None, changes=_HOT, doc="Bytes reserved for it, or that it would need.")
    differs: tuple[DifferenceEntry, ...] = setting(
        default=(), changes=_HOT, doc="Fields in which what runs is not what is declared."
    )
    failures: int = setting(default=0, changes=_HOT, doc="Failures in a row that count against it.")
    retry_at: float | None = setting(default=None, changes=_HOT, doc="When it is started again after them.")


@noun
class JobEntry:
    """An action that is under way."""

    subject: str = setting(changes=_HOT, doc="What it works on.")
    kind: str = setting(changes=_HOT, doc="The verb.")
    since: float = setting(changes=_HOT, doc="When it began, seconds since the epoch.")
    text: str = setting(default="", changes=_HOT, doc="How far it is, for people; empty where it does not say.")
    done: int = setting(default=0, changes=_HOT, doc="Bytes that are done.")
    total: int = setting(default=0, changes=_HOT, doc="Bytes in all; 0 where that is not known.")


@noun
class ReservationEntry:
    """Memory that somebody has."""

    subject: str = setting(changes=_HOT, doc="A server, or the artifact that is being converted.")
    bytes: int = setting(changes=_HOT, doc="How much.")


@noun
class StatusMemory:
    """Memory of all servers."""

    budget: int | None = setting(changes=_HOT, doc="What servers may use together; null where it is not known.")
    reserved: int = setting(changes=_HOT, doc="What they have, with conversions.")
    headroom: int | None = setting(changes=_HOT, doc="What may still be claimed; negative where too much is in use.")
    peak: int | None = setting(default=None, changes=_HOT, doc="The most at any instant of the pending plan.")
    after: int | None = setting(default=None, changes=_HOT, doc="What they have when it has been done.")
    reservations: tuple[ReservationEntry, ...] = setting(default=(), changes=_HOT, doc="Who has how much.")


@noun
class MoveEntry:
    """Weights that the pending plan brings, makes or moves."""

    subject: str = setting(changes=_HOT, doc="The artifact.")
    kind: str = setting(changes=_HOT, doc="The verb.")
    reason: str = setting(changes=_HOT, doc="One phrase.")
    bytes: int | None = setting(changes=_HOT, doc="How much; null where that is not known.")


@noun
class PendingPlan:
    """All that will be done if nothing else happens."""

    text: str = setting(changes=_HOT, doc="The plan as `reconciler plan` prints it.")
    command: str = setting(changes=_HOT, doc="The command that shows it, or carries it out.")
    actions: int = setting(changes=_HOT, doc="How many actions it has.")
    destructive: tuple[str, ...] = setting(default=(), changes=_HOT, doc="Those by which something ends.")
    moves: tuple[MoveEntry, ...] = setting(default=(), changes=_HOT, doc="Weights that move.")
    disk: DiskEntry = setting(default=DiskEntry(), changes=_HOT, doc="Disk space that it takes.")


@noun
class RouteEntry:
    """One name at a gateway: what its file says, what is wanted, and who answers there."""

    label: str = setting(changes=_HOT, doc="The label.")
    aliases: tuple[str, ...] = setting(default=(), changes=_HOT, doc="Its other names there.")
    has: str = setting(changes=_HOT, doc="Where its file sends requests; empty: the name is not in it.")
    wanted: str = setting(changes=_HOT, doc="Where they should go; empty: the name should not be there.")
    answers: str = setting(default="", changes=_HOT, doc="Who is there, as far as it is known.")
    matches: bool = setting(changes=_HOT, doc="Whether file and wish are the same in every field.")


@noun
class GatewayEntry:
    """One gateway."""

    kind: str = setting(changes=_HOT, doc="Such as litellm.")
    problem: str = setting(default="", changes=_HOT, doc="Why its file cannot be read; empty: it can.")
    matches: bool = setting(changes=_HOT, doc="Whether its file says what is wanted.")
    routes: tuple[RouteEntry, ...] = setting(changes=_HOT, doc="Every name of either side.")


@noun
class ProofEntry:
    """One server of a generation that has answered."""

    label: str = setting(changes=_HOT, doc="Its label.")
    source: str = setting(changes=_HOT, doc="Launch reference.")
    artifact: str = setting(changes=_HOT, doc="Identity of what it loaded.")
    port: int = setting(changes=_HOT, doc="Its port.")
    at: float = setting(changes=_HOT, doc="When it was first proved, seconds since the epoch.")


@noun
class GenerationEntry:
    """One content of the desired state that was in force."""

    number: int = setting(changes=_HOT, doc="From 1, never used twice.")
    at: float = setting(changes=_HOT, doc="When it first came in force, seconds since the epoch.")
    revision: str = setting(changes=_HOT, doc="The first revision with this content.")
    current: bool = setting(changes=_HOT, doc="Whether it is in force.")
    proved_at: float | None = setting(
        default=None, changes=_HOT, doc="When all of it was first proved at the same time; null: never."
    )
    missing: tuple[str, ...] = setting(
        default=(), changes=_HOT, doc="Labels that were never proved under it: a return to it is partial."
    )
    failed: str = setting(default="", changes=_HOT, doc="Why it was left again by itself; empty: it was not.")
    proofs: tuple[ProofEntry, ...] = setting(default=(), changes=_HOT, doc="What was proved under it.")
    command: str = setting(default="", changes=_HOT, doc="What brings it back; empty where it is in force.")


@noun
class StatusDocument:
    """The whole document."""

    format_version: str = setting(default=STATUS_VERSION, changes=_HOT, doc="Version of this format.")
    type: Literal["status"] = setting(default="status", changes=_HOT, doc="Kind of document.")
    tool_version: str = setting(changes=_HOT, doc="Version of reconciler that made it.")
    at: float = setting(changes=_HOT, doc="When the machine was looked at, seconds since the epoch.")
    host: str = setting(changes=_HOT, doc="Name of the machine.")
    file: str = setting(changes=_HOT, doc="The desired file.")
    trouble: str = setting(default="", changes=_HOT, doc="Why the look after this one failed; empty: it did not.")
    sync: str = setting(changes=_HOT, doc="Synced, OutOfSync or Unknown: the worst of servers and gateways.")
    health: str = setting(changes=_HOT, doc="The worst health of a server.")
    counts: Mapping[str, int] = setting(changes=_HOT, doc="How many servers have which health.")
    settled: bool = setting(changes=_HOT, doc="Whether there is nothing to do and nothing to wait for.")
    source: SourceEntry = setting(changes=_HOT, doc="Where the desired state comes from.")
    generation: int | None = setting(changes=_HOT, doc="The generation in force; null where none is known.")
    pin: PinEntry | None = setting(default=None, changes=_HOT, doc="What was gone back to.")
    suspensions: tuple[SuspensionEntry, ...] = setting(changes=_HOT, doc="What people have stopped.")
    result: StatusEvent | None = setting(default=None, changes=_HOT, doc="How the last change came out.")
    servers: tuple[ServerEntry, ...] = setting(changes=_HOT, doc="One per label.")
    blocked: tuple[ReasonEntry, ...] = setting(changes=_HOT, doc="What is blocked and is no server.")
    waiting: tuple[ReasonEntry, ...] = setting(default=(), changes=_HOT, doc="What something under way will settle.")
    progress: tuple[StatusEvent, ...] = setting(changes=_HOT, doc="How far long actions said they were.")
    jobs: tuple[JobEntry, ...] = setting(
        default=(), changes=_HOT, doc="What is under way; only a running loop knows it."
    )
    memory: StatusMemory = setting(changes=_HOT, doc="Memory of all servers.")
    plan: PendingPlan | None = setting(default=None, changes=_HOT, doc="What will be done; null: it was not foreseen.")
    gateways: tuple[GatewayEntry, ...] = setting(changes=_HOT, doc="Whether each gateway agrees.")
    events: tuple[StatusEvent, ...] = setting(default=(), changes=_HOT, doc="What has happened, newest first.")
    generations: tuple[GenerationEntry, ...] = setting(changes=_HOT, doc="What was in force, newest first.")
