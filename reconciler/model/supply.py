"""How weights come to be where a server can load them: what a hub says, and the orders of the verbs that bring them."""

from enum import StrEnum
from typing import Final

from .base import noun
from .cache_cost import CacheCost
from .observed import Artifact, Conversion, Recipe
from .units import human, spoken

FINAL_FOR: Final = 3600.0
"""Seconds for which a refusal of the hub is believed: whoever was let in meanwhile need not say so."""


@noun
class RemoteFile:
    """One file that a server needs, as the hub lists it."""

    name: str
    size: int
    digest: str = ""
    """SHA-256 of a large file; empty for a small one, which git keeps."""


@noun
class SourceCheck:
    """What asking the hub about one reference has shown."""

    at: float
    """When it was asked, seconds since the epoch."""
    pending: bool = False
    """Only in a forecast: it will have been asked, and nobody knows what it will say."""
    commit: str = ""
    """What the revision is there."""
    files: tuple[RemoteFile, ...] = ()
    """What is downloaded: weights, configuration, tokenizer and templates, nothing that is code or a pickle."""
    weight_bytes: int = 0
    cache: CacheCost = CacheCost()
    context_window: int | None = None
    converted: bool | None = None
    """Whether its configuration says that it was written for MLX; None where it says neither."""
    problem: str = ""
    """Stable reference of why it cannot be had, such as `source-gated`; empty: it can."""
    reason: str = ""
    """One sentence: what the hub said, or what did not answer."""
    hint: str = ""
    retry_at: float | None = None
    """When to ask again, of what time may mend; None: only a person or another declaration does."""

    @property
    def bytes(self) -> int:
        """Everything that a download brings."""
        return sum(file.size for file in self.files)


class Place(StrEnum):
    """Where an artifact is kept."""

    CACHE = "cache"
    CONVERTED = "converted"
    COLD = "cold"
    FOLDER = "folder"
    """A folder of its own, or of another program: declared weights that are only read."""


@noun
class Holding:
    """Something that takes room on this machine or on a volume of it."""

    place: Place
    name: str
    """`owner/name`, or the source and the key of what was converted."""
    path: str
    bytes: int
    references: tuple[str, ...] = ()
    """Launch references that lead to it."""
    identity: str = ""
    """`recipe:<key>` of what was converted; empty otherwise."""
    unfinished: int = 0
    """Bytes of downloads that were cut off, which count in `bytes`."""


@noun
class CheckOrder:
    """Ask the hub whether a revision can be had, and of what it consists."""

    reference: str
    repo: str
    revision: str
    """What is asked for: the declared revision, or the commit of which a part is here already."""
    otherwise: str
    """What is asked for where the hub does not know that commit any more."""


@noun
class FetchOrder:
    """Download one commit of a repository, or what is missing or bad of it; then read and compare all of it."""

    reference: str
    repo: str
    revision: str
    commit: str
    files: tuple[RemoteFile, ...]
    """All that has to be there in the end."""
    afresh: tuple[str, ...] = ()
    """Files that are there and are not what they should be."""
    result: Artifact
    """What will be there, as far as the hub has said."""
    bytes: int = 0
    """What has to be brought."""
    runtime: tuple[str, ...] = ()
    """Command of a server in whose environment memory is measured; empty: it is not measured."""

    @property
    def why(self) -> str:
        """One word: what is wrong with what is here."""
        return "repair" if self.afresh else "download"


@noun
class VerifyOrder:
    """Read what is there and compare it with the digests that its names promise; measure what it takes in memory."""

    reference: str
    path: str
    """Absolute folder of the artifact."""
    bytes: int
    """0: it was compared before, and is only measured."""
    runtime: tuple[str, ...] = ()
    """Command of a server in whose environment memory is measured; empty: it is not measured."""


@noun
class ConvertOrder:
    """Make an artifact by a recipe."""

    reference: str
    """Launch reference of the source."""
    result: Conversion
    """What will be there, estimated, with the recipe."""
    source: str
    """Absolute folder that the converter reads."""
    memory: int
    """Bytes that it may take while it runs."""
    disk: int
    """Bytes that its result may have."""
    runtime: tuple[str, ...] = ()

    @property
    def recipe(self) -> Recipe:
        return self.result.recipe


@noun
class MoveOrder:
    """Move a repository to cold storage, or bring it back."""

    reference: str
    repo: str
    volume: str
    """Name in the host file."""
    path: str
    """Folder on the volume, for people."""
    bytes: int
    artifact: Artifact
    """What is moved; its identity is the commit."""
    revision: str
    back: bool = False
    """Whether it comes back to the model cache."""


SupplyOrder = CheckOrder | FetchOrder | VerifyOrder | ConvertOrder | MoveOrder


@noun
class Progress:
    """How far a job is."""

    done: int
    """Bytes."""
    total: int
    """Bytes; 0 where that is not known."""
    what: str = ""
    """One word for what is being done, such as `downloading`."""
    rate: float = 0.0
    """Bytes per second, lately."""

    def __str__(self) -> str:
        """For people: how much is done, how fast, and how long it takes still."""
        if not self.total:
            return f"{self.what} {human(self.done)}".strip()
        parts = [f"{self.what} {min(99, 100 * self.done // self.total)} % of {human(self.total)}".strip()]
        if self.rate >= 1:
            parts.append(f"{human(int(self.rate))}/s")
        if (left := self.seconds_left) is not None:
            parts.append(f"{spoken(left)} left")
        return ", ".join(parts)

    @property
    def seconds_left(self) -> float | None:
        """Estimate; None where nothing moves or the end is not known."""
        return (self.total - self.done) / self.rate if self.rate > 0 and self.total else None
