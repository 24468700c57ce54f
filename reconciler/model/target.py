"""A declared model made exact: port, artifact, command, memory; or why it cannot be served."""

from collections.abc import Mapping
from typing import Final

from .base import noun
from .cache_cost import PREFILL_STEP, CacheCost
from .desired import ModelSpec
from .observed import Artifact, Observation
from .plan import Blocked, Waiting
from .supply import SupplyOrder

_THOUSAND: Final = 1_024


@noun
class MemoryNeed:
    """Bytes that one server may take."""

    weights: int
    overhead: int
    """Prompt cache, scratch buffers and the process itself."""
    caches: tuple[CacheCost, ...] = ()
    """Of the model and of its draft, for one sequence."""
    tokens: int = 0
    """Of one sequence."""
    sequences: int = 1
    """How many of them are decoded at a time."""
    prefill_step: int = PREFILL_STEP

    @property
    def kv_cache(self) -> int:
        """Key/value cache of all sequences at their full length."""
        return self._cache(self.tokens)

    @property
    def total(self) -> int:
        return self.weights + self.kv_cache + self.overhead

    @property
    def exact(self) -> bool:
        """Whether the cache was read off the built model; otherwise by a formula, as an upper bound."""
        return all(cache.exact for cache in self.caches)

    def longest(self, limit: int) -> int | None:
        """Tokens of context with which it would take `limit` bytes at most, in whole thousands; None: with none."""
        low, high = 0, self.tokens // _THOUSAND
        while low < high:
            middle = (low + high + 1) // 2
            fits = self.weights + self.overhead + self._cache(middle * _THOUSAND) <= limit
            low, high = (middle, high) if fits else (low, middle - 1)
        return low * _THOUSAND or None

    def _cache(self, tokens: int) -> int:
        return sum(cache.at(tokens, self.prefill_step) for cache in self.caches) * self.sequences


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
    revision: str
    """The desired state that it was made from: a commit, or `worktree:...`. It says nothing about whether a server is
    as declared, and is not in `spec_hash`: a commit that changes other things restarts nothing."""
    generation: int
    """Number of the generation that was in force; 0: none was known. Not in `spec_hash` either."""


@noun
class PreflightOrder:
    """All that is needed to find out, without a server, whether one would start with a launch order."""

    label: str
    spec_hash: str
    artifact: str
    """Identity of the weights."""
    backend: str
    runtime: tuple[str, ...]
    """Command of the server program, whose environment answers."""
    program: str
    """File of `programs/` that is run in it."""
    request: Mapping[str, object]
    """What it is asked, sent as JSON."""

    @property
    def key(self) -> str:
        """What has passed, once it has: any other spec, or other weights, are examined afresh."""
        return f"{self.spec_hash} {self.artifact}"


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
    """What a server would load: the declared weights, or what is converted from them."""
    need: MemoryNeed | None
    """None where the artifact is not there to be measured."""
    order: LaunchOrder | None
    """None where something in `problems` stands against a launch."""
    preflight: PreflightOrder | None = None
    """How its order is examined before a running server makes room for it; None where that cannot be done."""
    problems: tuple[Blocked, ...] = ()
    """Why it cannot be launched now, whatever runs."""
    supplies: tuple[SupplyOrder, ...] = ()
    """What would bring its weights nearer, at most one order for each of its sources."""
    awaits: Waiting | None = None
    """Why it cannot be launched yet although nobody has to do anything."""
    provenance: str | None = None
    """Where the source comes from, when not from the file."""

    @property
    def always(self) -> bool:
        """Whether it should run without being asked for."""
        return self.spec.port != "none" and self.spec.activation == "always"
