"""A declared model made exact: port, artifact, command, memory; or why it cannot be served."""

from collections.abc import Mapping

from .base import noun
from .desired import ModelSpec
from .observed import Artifact, Observation
from .plan import Blocked


@noun
class MemoryNeed:
    """Bytes that one server may take; a conservative estimate."""

    weights: int
    kv_cache: int
    """Key/value cache at the declared context length times the decode concurrency."""
    overhead: int
    """Prompt cache, scratch buffers and the process itself."""

    @property
    def total(self) -> int:
        return self.weights + self.kv_cache + self.overhead


@noun
class LaunchOrder:
    """All that is needed to start one server, and to recognise it afterwards."""

    label: str
    port: int
    host: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    files: Mapping[str, str]
    """Absolute path -> content of what must exist before the process starts; the path names the content."""
    spec_hash: str
    fields: Mapping[str, str]
    artifact: str
    served_name: str
    memory: int


@noun
class Target:
    """What should be true about one label."""

    label: str
    spec: ModelSpec
    """With the defaults of the document filled in."""
    port: int | None
    """None: kept in the cache only."""
    backend: str
    reference: str
    """The launch reference, as text."""
    fields: Mapping[str, str]
    spec_hash: str
    served_name: str
    artifact: Observation[Artifact]
    need: MemoryNeed | None
    """None where the artifact is not there to be measured."""
    order: LaunchOrder | None
    """None where something in `problems` stands against a launch."""
    problems: tuple[Blocked, ...] = ()
    """Why it cannot be launched now, whatever runs."""
    provenance: str | None = None
    """Where the source comes from, when not from the file."""

    @property
    def always(self) -> bool:
        """Whether it should run without being asked for."""
        return self.spec.port != "none" and self.spec.activation == "always"
