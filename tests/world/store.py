"""Where the weights of a world are, apart from the cache itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from reconciler.model.observed import Artifact, ColdCopy, Conversion, Observation, Present
from reconciler.model.supply import SourceCheck

HOME = "/cache"

Copy = tuple[str, str]
"""Launch reference and identity of one content."""


@dataclass(kw_only=True)
class Store:
    """Where weights are, apart from the cache itself."""

    hub: dict[str, SourceCheck] = field(default_factory=dict)
    """Launch reference -> what the hub says about it; any other is not found there."""
    rotten: set[str] = field(default_factory=set)
    """References of which a file in the cache is not what it should be, which only reading all of it shows."""
    conversions: dict[str, tuple[Conversion, ...]] = field(default_factory=dict)
    cold: dict[str, ColdCopy] = field(default_factory=dict)
    """What is on volumes, whether or not it is in the cache too."""
    volumes: dict[str, int] = field(default_factory=dict)
    """Name of a mounted volume -> bytes free."""
    free: int | None = 2**45
    """Bytes where the cache is; None: nobody can say."""
    full: int | None = None
    """Bytes that a stranger has taken there for a time; None: nobody has."""
    down: bool = False
    """Whether the hub does not answer."""
    sick: set[str] = field(default_factory=set)
    """References that can neither be downloaded nor converted, whatever is tried."""
    away: dict[str, int] = field(default_factory=dict)
    """Name of a volume that was pulled out -> bytes free on it."""
    claimed: dict[str, int] = field(default_factory=dict)
    """Launch reference -> bytes that a request under way is going to write."""
    whole: set[Copy] = field(default_factory=set)
    """Every (reference, identity) of which a whole copy was seen and nobody from outside has damaged it."""

    def copy(self) -> "Store":
        """An equal one that shares nothing that can change."""
        return replace(
            self,
            hub=dict(self.hub),
            rotten=set(self.rotten),
            conversions=dict(self.conversions),
            cold=dict(self.cold),
            volumes=dict(self.volumes),
            sick=set(self.sick),
            away=dict(self.away),
            claimed=dict(self.claimed),
            whole=set(self.whole),
        )

    def copies(self, artifacts: Mapping[str, Observation[Artifact]]) -> set[Copy]:
        """Everything of which a whole copy is anywhere, mounted or not."""
        cached = [(r, found.value) for r, found in artifacts.items() if isinstance(found, Present)]
        found = {(r, a.identity) for r, a in cached if a.complete and r not in self.rotten}
        found |= {(r, copy.artifact.identity) for r, copy in self.cold.items()}
        return found | {
            (r, c.artifact.identity) for r, made in self.conversions.items() for c in made if c.artifact.complete
        }


def whole(artifact: Observation[Artifact] | None) -> bool:
    """Whether this is a complete copy."""
    return isinstance(artifact, Present) and artifact.value.complete
