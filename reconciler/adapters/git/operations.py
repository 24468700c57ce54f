"""Tells what git is in the middle of: while it is, a branch may stand where nobody means it to."""

import os
from typing import Final

from reconciler.model.base import noun

from .refs import BRANCHES, is_commit


@noun
class Operation:
    """Something that a person has begun and not ended."""

    name: str
    """As git calls it: `rebase`, `merge`, `cherry-pick`, `revert`, `bisect`, `am`."""
    branch: str | None
    """The ref that it was begun on, where git remembers it; else it works on what is checked out."""
    end: str
    """How it is ended."""


_MARKS: Final = (("CHERRY_PICK_HEAD", "cherry-pick"), ("REVERT_HEAD", "revert"), ("MERGE_HEAD", "merge"))


def operation(git_dir: str) -> Operation | None:
    """What is in progress in one working tree; None: nothing. Only names are looked at where those say enough."""
    there = set(os.listdir(git_dir))
    # A rebase first: while it stops at a conflict it looks like a cherry-pick as well.
    for folder in ("rebase-merge", "rebase-apply"):
        if folder in there:
            return _rebase(os.path.join(git_dir, folder))
    for mark, name in _MARKS:
        if mark in there:
            return Operation(name=name, branch=None, end=f"git {name} --continue, or --abort")
    sequence = _sequence(git_dir) if "sequencer" in there else None
    if sequence is not None:
        return Operation(name=sequence, branch=None, end=f"git {sequence} --continue, or --abort")
    if "BISECT_LOG" in there:
        return Operation(name="bisect", branch=_started_on(git_dir), end="git bisect reset")
    return None


def _rebase(folder: str) -> Operation:
    """A rebase, or mails that are applied: both keep their notes in a folder of the same name."""
    if os.path.exists(os.path.join(folder, "applying")):
        return Operation(name="am", branch=None, end="git am --continue, or --abort")
    branch = _note(os.path.join(folder, "head-name"))
    known = branch if branch.startswith(BRANCHES) else None
    return Operation(name="rebase", branch=known, end="git rebase --continue, or --abort")


def _sequence(git_dir: str) -> str | None:
    """Between two of several: `pick 1234567 subject`."""
    word = _note(os.path.join(git_dir, "sequencer", "todo")).split(" ", 1)[0]
    return {"pick": "cherry-pick", "p": "cherry-pick", "revert": "revert"}.get(word)


def _started_on(git_dir: str) -> str | None:
    """The branch to which the end of a bisection returns; None where none was checked out."""
    name = _note(os.path.join(git_dir, "BISECT_START")).removeprefix(BRANCHES)
    return None if not name or is_commit(name) else f"{BRANCHES}{name}"


def _note(path: str) -> str:
    """The first line of a small file; empty where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return os.fsdecode(file.read(4096)).split("\n", 1)[0].strip()
    except OSError:
        return ""
