"""Finds the repository that holds a file, however it is laid out: worktree, submodule, subfolder, behind a link."""

import os

from reconciler.adapters.template_files import KEPT
from reconciler.model.base import noun
from reconciler.model.problem import ExitCode, ReconcilerError

from .running import Git, excerpt

_NAMES = ("--absolute-git-dir", "--git-common-dir")


@noun
class Repository:
    """A repository and one file in it."""

    top: str
    """Absolute path of the working tree."""
    git_dir: str
    """What belongs to this working tree: HEAD, and what is in progress."""
    common_dir: str
    """What all working trees share: refs and objects."""
    path: str
    """The file, relative to `top`."""

    @property
    def places(self) -> tuple[str, ...]:
        """Every folder of it."""
        return self.top, self.git_dir, self.common_dir


def top_of(place: str) -> str | None:
    """The nearest folder above an absolute path that has a `.git`; None where none has. It runs nothing."""
    folder = os.path.dirname(place)
    while not os.path.lexists(os.path.join(folder, ".git")):
        folder, below = os.path.dirname(folder), folder
        if folder == below:
            return None
    return folder


def find(place: str, git: Git) -> Repository:
    """The repository of an absolute path without links; `git` works in `top_of(place)`. Raises ReconcilerError."""
    answer = git.run("rev-parse", *_NAMES)
    lines = os.fsdecode(answer.out).split("\n")[:-1]
    if answer.code or len(lines) != len(_NAMES):
        raise unusable(git.folder, answer.err)
    git_dir, common = lines
    return Repository(
        top=git.folder,
        git_dir=git_dir,
        common_dir=os.path.normpath(os.path.join(git.folder, common)),
        path=os.path.relpath(place, git.folder),
    )


def unusable(top: str, said: str) -> ReconcilerError:
    """There is a `.git` that git does not take for a repository."""
    return ReconcilerError(
        "repository-unusable",
        f"{top}/.git is no repository that git can use ({excerpt(said) or 'it gave no reason'}); {KEPT}",
        hint="mend it, clone it again, or follow the saved file instead (source.mode: worktree in the host file)",
        code=ExitCode.ENVIRONMENT,
    )


def without(place: str) -> ReconcilerError:
    """There is no repository, and commits of one were asked for."""
    return ReconcilerError(
        "repository-missing",
        f"{place} is in no git repository; {KEPT}",
        hint="git init there and commit it, or follow the saved file instead (source.mode: worktree in the host file)",
        code=ExitCode.ENVIRONMENT,
    )
