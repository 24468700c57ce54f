"""What was in force once, with the proof of it, so that a return to it does not need the commit any more."""

from collections.abc import Mapping
from dataclasses import field

from .base import noun


@noun
class ProvedServer:
    """One server of a generation that has answered completions."""

    reference: str
    """Launch reference of what it loaded."""
    artifact: str
    """Identity of that: a commit, or `recipe:<key>`."""
    draft: str
    """`reference identity` of its draft model; empty without one."""
    spec_hash: str
    port: int
    at: float
    """When it was first proved under this generation, seconds since the epoch."""

    @property
    def artifacts(self) -> frozenset[str]:
        """`reference identity` of everything that it loaded."""
        return frozenset(entry for entry in (f"{self.reference} {self.artifact}", self.draft) if entry)


@noun
class Generation:
    """One content of the desired state that was in force."""

    number: int
    """From 1, never used twice in a state directory."""
    at: float
    """When it first came in force, seconds since the epoch."""
    revision: str
    """The first commit, or `worktree:...`, that had this content."""
    content: str
    """Digest of the canonical resolved state with its templates, which the state directory keeps."""
    revisions: tuple[str, ...] = ()
    """Further ones that meant the same, such as a commit that changed a comment; the last ones, newest last."""
    rules: str = ""
    """Digest of the host file and of the environment that it was resolved with."""
    servers: Mapping[str, ProvedServer] = field(default_factory=dict)
    """label -> its proof."""
    labels: tuple[str, ...] = ()
    """Labels that it wants to run always."""
    proved_at: float | None = None
    """When everything of it that no person had suspended was first proved at the same time; None: never."""
    failed: str = ""
    """Why it was left again by itself; empty: it was not."""

    @property
    def latest(self) -> str:
        """The newest revision that had this content."""
        return self.revisions[-1] if self.revisions else self.revision

    @property
    def partial(self) -> bool:
        """Whether a return to it brings something back that was never proved."""
        return bool(self.missing)

    @property
    def missing(self) -> tuple[str, ...]:
        """Labels that it wants to run and that were never proved under it."""
        return tuple(label for label in self.labels if label not in self.servers)

    @property
    def artifacts(self) -> frozenset[str]:
        """`reference identity` of everything that its servers loaded."""
        return frozenset[str]().union(*(server.artifacts for server in self.servers.values()))


@noun
class Pin:
    """A generation that stays in force although its source has something else: somebody, or the loop, went back."""

    number: int
    """The generation that is in force."""
    content: str
    bad: str
    """The newest revision of the source when it was left; one that is newer, and other in content, ends the pin."""
    at: float
    reason: str
    left: tuple[str, ...] = ()
    """Digests of what was left, of one return after another: a newer revision that says one of them is none to take."""
    automatic: bool = False
    proved_at: float | None = None
    """When all of it was proved after the return: only then has it come back."""
