"""The plan as a document: what `plan -o json` prints, `plan -o FILE` saves, and schemas/plan.v1.json describes."""

from collections.abc import Mapping
from typing import Final, Literal

from .base import FieldClass, noun, setting
from .change import Verdict

FORMAT_VERSION: Final = "1.0"
"""A minor step adds, a major step breaks; readers ignore what they do not know and refuse another major."""

_HOT: Final = FieldClass.HOT


@noun
class ActionEntry:
    """One action of the forecast."""

    id: str = setting(changes=_HOT, doc="`<step>/<kind>/<subject>`, unique in the document.")
    step: int = setting(changes=_HOT, doc="Actions of one step may run at the same time; counted from 1.")
    kind: str = setting(changes=_HOT, doc="The verb. Readers treat one they do not know as unspecified.")
    subject: str = setting(changes=_HOT, doc="What it works on, as `server/<label>` or `gateway/<kind>`.")
    symbol: str = setting(changes=_HOT, doc="One character for the kind.")
    destructive: bool = setting(changes=_HOT, doc="Whether something that runs or exists ends by it.")
    reference: str = setting(changes=_HOT, doc="Stable name of the reason.")
    reason: str = setting(changes=_HOT, doc="The reason for people; nothing decides on it.")
    because_fields: tuple[str, ...] = setting(default=(), changes=_HOT, doc="Fields that force it.")
    change_class: FieldClass | None = setting(default=None, changes=_HOT, doc="Heaviest class among these fields.")
    port: int | None = setting(default=None, changes=_HOT, doc="Port of the server, where there is one.")
    memory_bytes: int | None = setting(default=None, changes=_HOT, doc="Bytes it reserves or frees.")
    bytes: int | None = setting(default=None, changes=_HOT, doc="Bytes of weights that it brings, reads or moves.")
    argv: tuple[str, ...] = setting(default=(), changes=_HOT, doc="The exact command line of a launch.")
    provenance: str | None = setting(default=None, changes=_HOT, doc="Where the source comes from, if not the file.")


@noun
class WaitEntry:
    """A time that passes before the next action becomes possible."""

    step: int = setting(changes=_HOT, doc="Its place among the actions' steps.")
    subject: str = setting(changes=_HOT, doc="What is waited for.")
    reference: str = setting(changes=_HOT, doc="Stable name of the reason.")
    reason: str = setting(changes=_HOT, doc="One sentence.")
    seconds: float = setting(changes=_HOT, doc="How long.")


@noun
class ReasonEntry:
    """Something that waits or is blocked when everything else has been done."""

    subject: str = setting(changes=_HOT, doc="What it is about.")
    reference: str = setting(changes=_HOT, doc="Stable name of the reason.")
    reason: str = setting(changes=_HOT, doc="One sentence.")
    hint: str = setting(default="", changes=_HOT, doc="What a person can do; empty where time settles it.")


@noun
class SubjectEntry:
    """The verdict on one subject, before anything is done."""

    subject: str = setting(changes=_HOT, doc="What was judged.")
    verdict: Verdict = setting(changes=_HOT, doc="What follows from comparing both sides.")
    reference: str = setting(changes=_HOT, doc="Stable name of the reason.")
    reason: str = setting(changes=_HOT, doc="One phrase.")
    sync: str = setting(changes=_HOT, doc="Synced, OutOfSync or Unknown.")
    health: str = setting(changes=_HOT, doc="Healthy, Progressing, Degraded, Missing, Suspended or Unknown.")
    port: int | None = setting(default=None, changes=_HOT, doc="Port, where there is one.")
    memory_bytes: int | None = setting(default=None, changes=_HOT, doc="What the declared server needs, if known.")


@noun
class ModelMemoryEntry:
    """What one server takes when everything has been done."""

    subject: str = setting(changes=_HOT, doc="The server.")
    total: int = setting(changes=_HOT, doc="Bytes, all in all.")
    weights: int = setting(changes=_HOT, doc="Bytes of weights.")
    kv_cache: int = setting(changes=_HOT, doc="Bytes of key/value cache, all sequences at full length.")
    overhead: int = setting(changes=_HOT, doc="Bytes of prompt cache, scratch buffers and the process.")
    tokens: int = setting(changes=_HOT, doc="Tokens of one sequence that are counted.")
    sequences: int = setting(changes=_HOT, doc="Sequences at a time.")
    exact: bool = setting(changes=_HOT, doc="Read off the built model; false: an upper bound by a formula.")


@noun
class DiskEntry:
    """Bytes where the model cache is."""

    download: int = setting(default=0, changes=_HOT, doc="To be downloaded.")
    convert: int = setting(default=0, changes=_HOT, doc="To be written by conversions, at most.")
    restore: int = setting(default=0, changes=_HOT, doc="To be brought back from cold storage.")
    offload: int = setting(default=0, changes=_HOT, doc="To be moved to cold storage.")
    free: int | None = setting(default=None, changes=_HOT, doc="Free now; null where that is not known.")


@noun
class MemoryEntry:
    """Bytes reserved by servers."""

    before: int = setting(changes=_HOT, doc="Now.")
    peak: int = setting(changes=_HOT, doc="The most at any instant of the change.")
    after: int = setting(changes=_HOT, doc="When everything has been done.")
    budget: int | None = setting(changes=_HOT, doc="What servers may use together; null where it is not known.")
    models: tuple[ModelMemoryEntry, ...] = setting(default=(), changes=_HOT, doc="Each server, in the end.")


@noun
class PlanDocument:
    """The whole document."""

    format_version: str = setting(default=FORMAT_VERSION, changes=_HOT, doc="Version of this format.")
    type: Literal["plan"] = setting(default="plan", changes=_HOT, doc="Kind of document.")
    tool_version: str = setting(changes=_HOT, doc="Version of reconciler that made it.")
    file: str = setting(changes=_HOT, doc="The desired file.")
    revision: str = setting(changes=_HOT, doc="Its revision.")
    exit_code: int = setting(changes=_HOT, doc="What the command returns with --detailed-exitcode.")
    actions: tuple[ActionEntry, ...] = setting(changes=_HOT, doc="In the order in which they become possible.")
    waits: tuple[WaitEntry, ...] = setting(changes=_HOT, doc="Times that pass between the actions.")
    waiting: tuple[ReasonEntry, ...] = setting(changes=_HOT, doc="What something under way will settle.")
    blocked: tuple[ReasonEntry, ...] = setting(changes=_HOT, doc="What only a person can settle.")
    guards: tuple[ReasonEntry, ...] = setting(
        changes=_HOT, doc="What an unattended reconciler would not do without a person."
    )
    subjects: tuple[SubjectEntry, ...] = setting(changes=_HOT, doc="One verdict per subject.")
    memory: MemoryEntry = setting(changes=_HOT, doc="Memory during the change.")
    disk: DiskEntry = setting(default=DiskEntry(), changes=_HOT, doc="Disk space that the change takes.")
    counts: Mapping[str, int] = setting(changes=_HOT, doc="How many of what.")
    facts: Mapping[str, str] = setting(
        changes=_HOT, doc="Digest of every fact that the plan rests on; a plan is stale when one of them moved."
    )
