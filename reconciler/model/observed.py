"""What was read from the machine, once, at a time: evidence, with what is not known said as unknown."""

import re
from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import Generic, TypeVar

from .base import noun
from .cache_cost import CacheCost
from .routes import Route

T_co = TypeVar("T_co", covariant=True)


@noun
class Present(Generic[T_co]):
    """It was looked for and is there."""

    value: T_co


@noun
class Absent:
    """It was looked for and is not there."""


@noun
class Unknown:
    """It could not be looked at. Never read as absence: it blocks whatever would destroy or claim."""

    reason: str


Observation = Present[T_co] | Absent | Unknown

_LONGEST = 160
"""Letters of a source in the name of a folder; the keys in it tell sources apart that are cut to the same."""
_NAMED = 3
"""How many damaged files a verdict names."""


class Standing(StrEnum):
    """What the proof of a recorded process says about it (docs/architecture.md, Proof)."""

    OURS = "ours"
    ORPHAN = "orphan"
    """Lock held and the token of its unfinished record found on a live process: Adopt completes the record."""
    GONE = "gone"
    """The lock is free: whatever has the recorded pid is not our server."""
    UNKNOWN = "unknown"
    """The proof contradicts itself or could not be made: reported, never signalled."""


class Health(StrEnum):
    """What a proved process does, by evidence of completions."""

    STARTING = "starting"
    SERVING = "serving"
    ZOMBIE = "zombie"
    """Alive and unable to generate: a dead generation thread, a lost port, a failed load."""


RESTARTED_MACHINE = "machine-restarted"
"""`ServerProcess.cause` of one that ended with the machine, which is nobody's failure."""


@noun
class ServerProcess:
    """One run record and what the machine says about the process it names."""

    label: str
    port: int
    standing: Standing
    health: Health = Health.STARTING
    pid: int | None = None
    started: int | None = None
    """Start time on the monotonic clock of this boot, in ticks; None while the record is unfinished."""
    since: float = 0.0
    """When it was launched, seconds since the epoch."""
    asked_since: float | None = 0.0
    """Since when it has been asked for a completion, seconds since the epoch: 0.0 from its launch on, None not yet."""
    spec_hash: str = ""
    fields: Mapping[str, str]
    """The canonical restart|replace fields it was launched with; their hash is `spec_hash`."""
    artifact: str = ""
    """Identity of the artifact it was launched with: a commit or a content digest."""
    served_name: str = ""
    host: str = "127.0.0.1"
    memory: int = 0
    """Bytes reserved for it at launch."""
    detail: str = ""
    """Evidence for people: the last log line, or why the standing is unknown."""
    cause: str = ""
    """Kebab-case name of its state or class of its failure: `loading`, `port-lost`, `wrong-model`, `killed`; empty:
    nothing more is known than `health` says."""
    permanent: bool = False
    """Whether starting the same again must fail in the same way."""
    proved_at: float | None = None
    """When it last answered a completion, seconds since the epoch; None where nobody has asked it."""
    command: tuple[str, ...] = ()
    """Its command line, for people; long arguments are cut."""
    log: str = ""
    """Absolute path of the file that it writes to."""
    log_start: int = 0
    """Bytes of the log that are older than this launch."""
    revision: str = ""
    """The desired state that it was launched from: a commit, or `worktree:...`; empty: its record does not say."""
    generation: int = 0
    """Number of the generation that was in force when it was launched; 0: its record does not say."""

    @property
    def instance(self) -> str:
        """What this process is and no later one of the same label: a proof is bound to it."""
        return f"{self.pid}:{self.started}:{self.since}:{self.spec_hash}"

    @property
    def live(self) -> bool:
        """Whether it may hold its port and memory; unknown counts as live."""
        return self.standing is not Standing.GONE

    @property
    def serves(self) -> bool:
        """Whether it is ours and answers requests, as what is declared or as something else."""
        return self.standing is Standing.OURS and self.health is Health.SERVING


@noun
class Provenance:
    """What a process carries in its environment about its own launch; anybody could have put it there."""

    label: str = ""
    """Empty, as all of these: it carries nothing about it."""
    revision: str = ""
    generation: str = ""
    spec_hash: str = ""


@noun
class Inspection:
    """What the machine says about one process, whoever's it is. It is for people; nothing is proved by it."""

    pid: int
    session: int = 0
    """Pid of its session's leader; 0 where that cannot be seen."""
    command: str | None = None
    """Its program and what that runs; None where it cannot be read."""
    carried: Provenance | None = None
    """None where its environment cannot be read."""


@noun
class Listener:
    """Something that accepts connections on a port, at any local address."""

    port: int
    pid: int | None = None
    """None where the machine does not say who listens."""
    command: str | None = None
    """Command line of the owner for messages; None where it cannot be read."""


@noun
class Artifact:
    """Weights as a server would load them."""

    identity: str
    """What distinguishes this content from any other of the same reference: the commit of the snapshot."""
    path: str
    """Absolute folder that the process is given."""
    missing: tuple[str, ...] = ()
    """Files that are absent, short or contradict their index; empty: complete."""
    corrupt: tuple[str, ...] = ()
    """Files whose content is not what their name promises, found by reading all of it."""
    unverified: int = 0
    """Bytes of content that has a promised digest and was not compared with it since it last changed."""
    foreign: str = ""
    """Format of its weights where that is one that no server here loads, such as `gguf`; empty otherwise."""
    code: str = ""
    """File with code of its own that its configuration asks servers to run (`model_file`); empty: it asks for none."""
    shards: int = 1
    """How many weight files there should be."""
    weight_bytes: int = 0
    disk_bytes: int = 0
    """Bytes of its files, each counted once."""
    cache: CacheCost = CacheCost()
    """What a sequence costs on top of the weights."""
    measurable: bool = False
    """Whether building the model could still replace the formula of `cache` by exact figures."""
    context_window: int | None = None
    """Tokens that the model was made for, by its configuration; None where that does not say."""
    converted: bool | None = None
    """Whether its files say that they were written for MLX; None where they say neither."""
    read_only: bool = False
    """Whether it lies in a folder that is only read: another program's models."""
    has_tool_template: bool | None = None
    """Whether the chat template mentions tools; None where there is no template to read."""

    @property
    def complete(self) -> bool:
        """Whether every file is there and as long as it should be."""
        return not self.missing and not self.corrupt

    @property
    def shaped(self) -> bool:
        """Whether it looks like a model at all: a configuration, and weights or at least their names."""
        return "config.json" not in self.missing and "model*.safetensors" not in self.missing

    @property
    def sound(self) -> bool:
        """Whether it may be launched: complete, and every promised digest compared."""
        return self.complete and not self.unverified

    @property
    def verdict(self) -> str:
        """One phrase for people."""
        if self.corrupt:
            return f"corrupt ({', '.join(self.corrupt[:_NAMED])}{', ...' if len(self.corrupt) > _NAMED else ''})"
        if self.missing:
            weights = [name for name in self.missing if ".safetensors" in name and ".json" not in name]
            if weights and self.shards > 1:
                return f"partial ({self.shards - len(weights)} of {self.shards} shards)"
            names = [name.partition(" (")[0] for name in self.missing[:_NAMED]]
            return f"partial ({', '.join(names)}{', ...' if len(self.missing) > _NAMED else ''})"
        return "not verified" if self.unverified else "complete"


def conversions_folder(source: str) -> str:
    """Folder of everything that was converted from a source, relative to the model cache."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", source.strip("/").replace("/", "--"))
    return f"converted--{plain.lstrip('._-')[:_LONGEST]}"


@noun
class Recipe:
    """How a converted artifact is made; the same recipe makes the same artifact."""

    source: str
    """`owner/name`, or the absolute path of a folder."""
    revision: str
    """The branch, tag or commit that was declared; empty for a folder. It names the source, and is not in the key."""
    commit: str
    """Identity of the source artifact."""
    arguments: tuple[str, ...] = ()
    """The settings that were asked for, such as `bits=4`, in canonical order."""
    command: tuple[str, ...] = ()
    """Words of the converter's command with its placeholders; empty: the built-in one."""
    converter: str = ""
    """Program and version, such as `mlx-lm 0.32.2`; empty where it is not known."""

    def makes(self, other: "Recipe") -> bool:
        """Whether `other` asks for what this one made; another version of the converter is no reason to redo it."""
        return self.asks == other.asks

    @property
    def asks(self) -> tuple[object, ...]:
        """What is asked for, without who makes it."""
        return (self.source, self.commit, self.arguments, self.command)

    @property
    def key(self) -> str:
        """Sixteen hex digits that are equal exactly when source, commit, settings and converter are."""
        import hashlib

        return hashlib.sha256(repr((*self.asks, self.converter)).encode()).hexdigest()[:16]

    @property
    def folder(self) -> str:
        """Where its result is, relative to the model cache."""
        return f"{conversions_folder(self.source)}/{self.key}"


@noun
class Conversion:
    """What a recipe has made on this machine."""

    recipe: Recipe
    artifact: Artifact
    """Its identity is `recipe:<key>`, its path the folder that is served."""
    made_at: float = 0.0
    """When it was made, seconds since the epoch."""


@noun
class Volume:
    """Cold storage that the host file names."""

    path: str
    """Where it is mounted, on `host`."""
    host: str = ""
    """Host that is reached by ssh; empty: this machine."""
    free: int | None = None
    """Bytes; None where that is not known."""


@noun
class ColdCopy:
    """A repository that was moved to cold storage."""

    volume: str
    """Name in the host file."""
    path: str
    """Folder on the volume."""
    bytes: int
    artifact: Artifact
    """What it was when it was moved, and is again when it comes back; its identity is the commit."""
    at: float = 0.0
    """When, seconds since the epoch."""


@noun
class Storage:
    """Where weights are kept beside the model cache, and what room there is."""

    conversions: Mapping[str, tuple[Conversion, ...]] = field(default_factory=dict)
    """launch reference -> what was made from it."""
    cold: Mapping[str, ColdCopy] = field(default_factory=dict)
    """launch reference -> the copy in cold storage of one that is not in the cache."""
    volumes: Mapping[str, Observation[Volume]] = field(default_factory=dict)
    """name -> cold storage; absent: its place is there and it is not mounted."""
    free: Observation[int] = Unknown(reason="the free space was not observed")
    """Bytes free where the model cache is."""
    converter: str = ""
    """Program and version of the converter here; empty where that is not known."""
    home: str = "/cache"
    """Absolute folder of the model cache, in which conversions are kept too."""


@noun
class GatewayState:
    """The routes in a gateway's file that are ours, and where the gateway may still send a request."""

    routes: tuple[Route, ...] = ()
    may_dispatch: frozenset[int] = frozenset()
    """Ports of upstreams that the file names, or that the running gateway may still use."""
    drained_at: float | None = None
    """When the last withdrawn port leaves `may_dispatch` by itself; None where only the gateway can tell."""


@noun
class HostFacts:
    """The machine itself."""

    platform: str
    """`darwin` or `linux`."""
    memory_total: Observation[int]
    """Bytes of memory that servers could use at most; unknown refuses launches unless the host file has a budget."""
    runtimes: Mapping[str, Observation[tuple[str, ...]]]
    """backend -> the command that starts it here."""
    accept_cpu: bool = False
    """Whether the host file lets servers run without Metal."""
    offline: bool = False
    """Whether the environment forbids asking the hub (HF_HUB_OFFLINE)."""
    template_folder: str = "/templates"
    """Absolute folder in which templates are materialised under their content's name."""


@noun
class ObservedState:
    """Everything that was asked of the machine in one tick."""

    at: float
    """Seconds since the epoch."""
    servers: Mapping[str, ServerProcess]
    """label -> its run record; only records of this state directory are looked at."""
    listeners: Mapping[int, Observation[Listener]]
    """Every port that is wanted or recorded."""
    artifacts: Mapping[str, Observation[Artifact]]
    """launch reference -> artifact; only declared references are looked at."""
    gateways: Mapping[str, Observation[GatewayState]]
    host: HostFacts
    storage: Storage = Storage()
    blind: str | None = None
    """Why the run records could not be read at all; None where they were."""

    def holders(self) -> dict[int, str]:
        """port -> the label whose live process has it by its record."""
        return {server.port: label for label, server in self.servers.items() if server.live}

    def listener(self, port: int) -> Observation[Listener]:
        """Who listens on `port`; a port that was not asked about is unknown."""
        return self.listeners.get(port, Unknown(reason=f"port {port} was not observed"))

    def artifact(self, reference: str) -> Observation[Artifact]:
        """The artifact of a launch reference; one that was not asked about is unknown."""
        return self.artifacts.get(reference, Unknown(reason=f"{reference} was not observed"))
