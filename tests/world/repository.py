"""Where a world's desired state comes from: commits with parents, or a file that is saved, as a `Source`."""

from dataclasses import dataclass, field, replace

from reconciler.model.bundle import Bundle
from reconciler.model.desired import Desired
from reconciler.model.problem import ExitCode, ReconcilerError
from reconciler.model.source import Doubt, Position

Content = Desired | ReconcilerError


@dataclass(kw_only=True)
class Repository:
    """The history of one branch, or one file; people change it."""

    revision: str = ""
    """What is newest."""
    contents: dict[str, Content] = field(default_factory=dict)
    """revision -> what it says, or why it cannot be taken."""
    parents: dict[str, str] = field(default_factory=dict)
    ref: str = ""
    unreadable: ReconcilerError | None = None
    """Why nothing can be seen at all."""
    paused: tuple[str, str] | None = None
    """Reference and reason of a pause, such as a rebase under way."""
    untrusted: set[str] = field(default_factory=set)
    uncommitted: tuple[str, ...] = ()
    hangs: bool = False
    """Whether questions about history get no answer."""
    reads: list[str] = field(default_factory=list)
    """Every revision that was read, in order."""

    def commit(self, revision: str, content: Content, *, onto: str | None = None) -> str:
        """A newer commit; `onto`: the history after that one is rewritten."""
        self.parents[revision] = self.revision if onto is None else onto
        return self.save(revision, content)

    def save(self, revision: str, content: Content) -> str:
        """What is newest is now this."""
        self.contents[revision] = replace(content, revision=revision) if isinstance(content, Desired) else content
        self.revision = revision
        return revision

    def position(self) -> Position:
        """Where it is now."""
        if self.unreadable is not None:
            raise self.unreadable
        reference, reason = self.paused or ("", "")
        return Position(
            revision=self.revision, ref=self.ref, reference=reference, reason=reason, uncommitted=self.uncommitted
        )

    def read(self, revision: str) -> Bundle:
        """A bundle that says nothing but its revision; `parse` knows what that means."""
        self.reads.append(revision)
        return Bundle(name="ensemble.yaml", revision=revision, text=revision.encode(), files={})

    def parse(self, bundle: Bundle) -> Desired:
        """What a bundle of `read` says."""
        content = self.contents[bundle.revision]
        if isinstance(content, ReconcilerError):
            raise content
        return content

    def doubt(self, old: str, new: str) -> Doubt | None:
        """History that was rewritten, and commits that nobody trusts."""
        if self.hangs:
            raise ReconcilerError("git-hung", "git did not answer", hint="wait", code=ExitCode.ENVIRONMENT)
        if not self.ref:
            return None
        line = self._line(new)
        if old and old not in line:
            return Doubt(reference="history-rewritten", reason=f"{new} is not after {old}", hint="accept it")
        bad = [c for c in line[: line.index(old) if old else 1] if c in self.untrusted]
        return Doubt(reference="commit-untrusted", reason=f"{bad[0]} is not trusted", hint="accept it") if bad else None

    def behind(self, revision: str) -> int | None:
        """How many commits are newer."""
        line = self._line(self.revision)
        return line.index(revision) if self.ref and revision in line else None

    def _line(self, revision: str) -> list[str]:
        """A commit and everything before it, newest first."""
        line = [revision]
        while before := self.parents.get(line[-1]):
            line.append(before)
        return line
