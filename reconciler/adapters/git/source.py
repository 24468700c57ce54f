"""The desired state as a branch of a git repository declares it: content is read from commits, never from the disk.

What is saved and not committed is only reported. The files of the repository say where the branch is, in a hundredth
of the time that asking git takes, because that is looked at in every tick; everything else is asked of git.
"""

import os
from collections.abc import Iterator

from reconciler.adapters.template_files import TEMPLATES, watched
from reconciler.model.bundle import Bundle
from reconciler.model.problem import ExitCode, ReconcilerError
from reconciler.model.source import Doubt, Lineage, Position

from . import history
from .edits import Edits
from .operations import operation
from .reading import Listing, read
from .refs import BRANCHES, Refs, is_commit, is_ref
from .repository import Repository, find, top_of, unusable, without
from .running import Git
from .signatures import Signers


def repository(path: str | os.PathLike[str]) -> Repository | None:
    """The repository that has this file in the commit that is checked out; None where none has.

    It runs nothing where there is no `.git`. Raises ReconcilerError for a repository that cannot be used.
    """
    place = os.path.realpath(path)
    top = top_of(place)
    if top is None:
        return None
    git = Git(top)
    found = find(place, git)
    if git.run("rev-parse", "--verify", "--quiet", "HEAD").code:
        return None  # nothing is committed yet
    answer = git.run("ls-tree", "-z", "--full-tree", "HEAD", "--", found.path)
    if answer.code:
        raise git.failed(f"what is committed in {top} cannot be seen", answer.err)
    return found if answer.out else None


class GitSource:
    """Follows one desired file on one ref of the repository that holds it."""

    def __init__(self, path: str | os.PathLike[str], ref: str | None, signers: str | None) -> None:
        """`ref` None: the branch that is checked out when it is first asked; `signers` None: whoever commits."""
        self._name = os.fspath(path)
        self._place = os.path.realpath(self._name)
        self._ref = ref
        self._signers = Signers(signers) if signers is not None else None
        self._edits = Edits(*os.path.split(self._place))
        self._last: tuple[str, tuple[Bundle, Listing] | None] = ("", None)
        """The commit that was read last, and what it says; None where it can never be read."""
        self._opened: tuple[Repository, Git, Refs] | None = None

    def position(self) -> Position:
        """Where the ref is, and whether anything is taken from there now. Raises ReconcilerError."""
        try:
            return self._position()
        except OSError as error:  # a file of the repository has gone since it was found
            top = self._opened[0].top if self._opened is not None else os.path.dirname(self._place)
            self._opened = None
            raise unusable(top, f"{error.filename}: {error.strerror}") from error

    def read(self, revision: str) -> Bundle:
        """All of one commit. Raises ReconcilerError when it cannot be read whole, or is not here."""
        found, git, _ = self._open()
        if not is_commit(revision):
            raise self._no_commit(revision)
        if self._last[0] == revision and self._last[1] is not None:
            return self._last[1][0]
        self._last = revision, read(git, found, self._name, revision)
        return self._last[1][0]

    def doubt(self, old: str, new: str) -> Doubt | None:
        """What history and signatures have against going from one commit to another; None: nothing.

        `old` is empty where nothing was in force before, or was no commit. Raises ReconcilerError.
        """
        found, git, _ = self._open()
        if not is_commit(new):
            raise self._no_commit(new)
        old = old if is_commit(old) else ""
        kind = history.lineage(git, found, old, new) if old else Lineage.FORWARD
        doubt = history.doubted(kind, self._ref or "the branch", old, new)
        if self._signers is None or kind is Lineage.SAME:
            return doubt
        # Whoever releases rewritten history hears of its signatures as well: releasing it covers both.
        commits = history.between(git, "" if kind is Lineage.UNKNOWN else old, new) or (new,)
        unsigned = self._signers.doubt(git, found, commits)
        if doubt is None or unsigned is None:
            return doubt or unsigned
        return Doubt(reference=doubt.reference, reason=f"{doubt.reason}; besides, {unsigned.reason}", hint=doubt.hint)

    def behind(self, revision: str) -> int | None:
        """How many commits of the ref, newer than a revision, touch what is declared; None where that is unknown."""
        try:
            found, git, refs = self._open()
            tip = refs.commit(self._followed(found, refs))
        except (ReconcilerError, OSError):
            return None
        if tip is None or not is_commit(revision):
            return None
        self._look(found, git, tip)
        folder = os.path.dirname(found.path)
        named = () if self._last[1] is None else self._last[1][1].files
        declared = (os.path.join(folder, name) for name in (TEMPLATES, *named))
        return history.count(git, revision, tip, (found.path, *declared))

    def folders(self) -> Iterator[str]:
        """Every folder where a commit, a checkout or an edit leaves a trace. One that is not there is left out."""
        yield from watched(*os.path.split(self._place))
        try:
            found, _, refs = self._open()
            ref = self._followed(found, refs)
        except (ReconcilerError, OSError):
            return  # what is wrong is said by whoever asks for the position
        yield found.git_dir
        if found.common_dir != found.git_dir:
            yield found.common_dir
        parts = ref.split("/")[:-1]
        for place in (os.path.join(found.common_dir, *parts[: count + 1]) for count in range(len(parts))):
            if os.path.isdir(place):  # that of a branch like feature/x comes and goes with its refs
                yield place
        if os.path.isdir(tables := os.path.join(found.common_dir, "reftable")):
            yield tables

    # ------------------------------------------------------------------------------------------------ inside

    def _open(self) -> tuple[Repository, Git, Refs]:
        if self._opened is None:
            top = top_of(self._place)
            if top is None:
                raise without(self._name)
            git = Git(top)
            found = find(self._place, git)
            self._opened = found, git, Refs(found, git)
        return self._opened

    def _followed(self, found: Repository, refs: Refs) -> str:
        """The ref; where none was named, the branch that is checked out now, from now on. Raises ReconcilerError."""
        if self._ref is None:
            begun = operation(found.git_dir)  # a rebase or a bisection knows what it has detached HEAD from
            self._ref = refs.branch() or (begun.branch if begun is not None else None)
        if self._ref is None:
            raise ReconcilerError(
                "head-detached",
                f"no branch is checked out in {found.top}, so there is none to follow",
                hint="check one out, or name one as source.ref in the host file, such as refs/heads/main",
                code=ExitCode.BLOCKED,
            )
        if not is_ref(self._ref):
            raise ReconcilerError(
                "ref-invalid",
                f"{self._ref} is no name of a ref",
                hint="name one as source.ref in the host file, such as refs/heads/main",
                code=ExitCode.ENVIRONMENT,
            )
        return self._ref

    def _position(self) -> Position:
        found, git, refs = self._open()
        ref = self._followed(found, refs)
        branch, commit = refs.branch(), refs.commit(ref)
        if commit is None:
            return Position(
                revision="",
                ref=ref,
                reference="ref-missing",
                reason=f"there is no commit on {ref} in {found.top}",
                hint="commit the desired state to it, or name another one as source.ref in the host file",
            )
        reference, reason, hint = self._pause(found, ref, branch)
        self._look(found, git, commit)
        uncommitted = () if self._last[1] is None else self._edits.against(self._last[1][1])
        return Position(
            revision=commit, ref=ref, reference=reference, reason=reason, hint=hint, uncommitted=uncommitted
        )

    def _pause(self, found: Repository, ref: str, branch: str | None) -> tuple[str, str, str]:
        """What is in progress on the followed branch; nothing of it concerns any other one."""
        if not ref.startswith(BRANCHES):
            return "", "", ""
        begun = operation(found.git_dir)
        if begun is not None:
            if (begun.branch or branch) not in (None, ref):
                return "", "", ""
            return f"{begun.name}-in-progress", f"git {begun.name} is in progress in {found.top}", begun.end
        if branch is None:
            said = f"no branch is checked out in {found.top} (HEAD is detached)"
            return "head-detached", said, f"git switch {ref.removeprefix(BRANCHES)}"
        return "", "", ""

    def _look(self, found: Repository, git: Git, commit: str) -> None:
        """Read a commit for a report: why it cannot be read is said when it is to be taken."""
        if self._last[0] == commit:
            return
        try:
            self._last = commit, read(git, found, self._name, commit)
        except ReconcilerError as error:
            # What is wrong with a commit stays wrong; anything else may be well at the next look.
            self._last = (commit if error.code is ExitCode.INVALID else ""), None

    def _no_commit(self, revision: str) -> ReconcilerError:
        said = f"{revision!r} is no whole name of a commit" if revision else f"there is no commit on {self._ref}"
        return ReconcilerError(
            "commit-missing", f"{said}; nothing was read", hint="commit the desired state", code=ExitCode.BLOCKED
        )
