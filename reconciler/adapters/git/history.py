"""Says what speaks against going from one commit to another: rewritten or unknown history."""

import os
from typing import Final

from reconciler.adapters.template_files import KEPT
from reconciler.model.problem import ReconcilerError
from reconciler.model.source import Doubt, Lineage, shown

from .repository import Repository
from .running import Git

_NOT_AN_ANCESTOR: Final = 1


def lineage(git: Git, repository: Repository, old: str, new: str) -> Lineage:
    """What `new` is to `old`. Raises ReconcilerError when git cannot be asked."""
    if old == new:
        return Lineage.SAME
    answer = git.run("merge-base", "--is-ancestor", old, new)
    if answer.code == 0:
        return Lineage.FORWARD
    # Where history is cut off, the way from one to the other may be in the part that is not here.
    cut = os.path.exists(os.path.join(repository.common_dir, "shallow"))
    return Lineage.REWRITTEN if answer.code == _NOT_AN_ANCESTOR and not cut else Lineage.UNKNOWN


def doubted(found: Lineage, ref: str, old: str, new: str) -> Doubt | None:
    """What a lineage has against `new`; None: nothing."""
    accept = accepting(new)
    if found is Lineage.REWRITTEN:
        return Doubt(
            reference="history-rewritten",
            reason=f"{shown(new)} does not come after {shown(old)}, which is in force: {ref} was rewritten or set "
            f"back; {KEPT}",
            hint=f"{accept}, or move {ref} to a commit that comes after it",
        )
    if found is Lineage.UNKNOWN:
        return Doubt(
            reference="history-unknown",
            reason=f"whether {shown(new)} comes after {shown(old)}, which is in force, cannot be seen: the history "
            f"of {ref} is not all here; {KEPT}",
            hint=f"git fetch --unshallow where the clone is shallow; else {accept}",
        )
    return None


def between(git: Git, old: str, new: str) -> tuple[str, ...]:
    """Every commit that `new` brings, oldest first; without `old` only itself. Raises ReconcilerError."""
    if not old:
        return (new,)
    answer = git.run("rev-list", "--reverse", "--topo-order", new, f"^{old}", "--")
    if answer.code:
        raise git.failed(f"the commits between {shown(old)} and {shown(new)} cannot be listed", answer.err)
    return tuple(answer.out.decode("ascii").split())


def count(git: Git, old: str, new: str, paths: tuple[str, ...]) -> int | None:
    """How many of the commits that `new` brings touch one of the paths; None where that cannot be said."""
    try:
        answer = git.run("rev-list", "--count", new, f"^{old}", "--", *paths)
    except ReconcilerError:
        return None
    return None if answer.code else int(answer.out)


def accepting(commit: str) -> str:
    """How a person takes a commit whatever speaks against it."""
    return f"say `reconciler accept {shown(commit)} --reason TEXT` if that is meant"
