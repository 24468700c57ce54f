"""Where the desired state comes from: a ref of a git repository, or the saved file; and what stands against it."""

from dataclasses import field
from enum import StrEnum

from .base import noun
from .names import source_subject
from .plan import Blocked

SHOWN = 7
"""Digits of a commit that people are shown."""


RELEASABLE = (
    "emptied",
    "shrinks",
    "history-rewritten",
    "history-unknown",
    "commit-unsigned",
    "commit-untrusted",
    "commits-too-many",
)
"""What a person may release a revision from; everything else is mended, or passes."""


class Mode(StrEnum):
    """What a reconciler follows."""

    COMMIT = "commit"
    """The blobs of the commit that a ref names; what is edited and not committed is reported and ignored."""
    WORKTREE = "worktree"
    """The file as it was saved, read only when it is stable."""


class Lineage(StrEnum):
    """What a newer commit is to an older one."""

    SAME = "same"
    FORWARD = "forward"
    """The older one is an ancestor of the newer one."""
    REWRITTEN = "rewritten"
    UNKNOWN = "unknown"
    """The older one is not in the repository: a shallow clone, or it was collected."""


@noun
class Position:
    """Where a source is now, before anything is read from it."""

    revision: str
    """The commit, 40 hex digits, or `worktree:<sha256 prefix>`."""
    ref: str = ""
    """What is followed, such as `refs/heads/main`; empty for a file."""
    reference: str = ""
    """Why nothing is taken from it for now, as a stable name: `rebase-in-progress`, `head-detached`, ...; empty: it
    may be."""
    reason: str = ""
    """The same as a sentence."""
    hint: str = ""
    uncommitted: tuple[str, ...] = ()
    """Paths below the folder of the desired file whose saved content is not that of the commit."""


@noun
class Doubt:
    """What stands against taking a revision, whatever is in it."""

    reference: str
    """`history-rewritten`, `history-unknown`, `commit-unsigned`, `commit-untrusted`, ..."""
    reason: str
    hint: str


@noun
class SourceRecord:
    """What is remembered of a source, so that a restart goes on where it was."""

    mode: Mode
    place: str
    """Absolute path of the desired file."""
    ref: str
    revision: str
    """The revision that was last taken; it is in force, unless an earlier generation is pinned."""
    content: str
    """Digest of its canonical content, which the state directory keeps."""
    commit: str = ""
    """The last commit that was taken, also where the saved file was since; newer ones are judged from there."""
    refused: str = ""
    """The newest revision, where it is not the one in force; empty where it is."""
    reference: str = ""
    reason: str = ""
    """Why not."""
    hint: str = ""
    rules: str = ""
    """Digest of what else decided when it was parsed: the host file, overrides, the environment."""
    confirmed: str = ""
    """Revision whose plan a person has confirmed: no guard is asked about it, but history and signatures are."""
    accepted: str = ""
    """Revision that a person has released, whatever a guard says."""
    accepted_because: str = ""
    uncommitted: tuple[str, ...] = field(default=())
    """As `Position.uncommitted`, at the last look."""


def standing_against(record: SourceRecord) -> Blocked | None:
    """Why the newest revision is not in force, as it was remembered."""
    if not record.reference:
        return None
    return Blocked(
        subject=source_subject(record.mode), reference=record.reference, reason=record.reason, hint=record.hint
    )


def shown(revision: str) -> str:
    """A revision as people are shown it: a commit is cut, `worktree:...` is not."""
    return revision if ":" in revision else revision[:SHOWN]
