"""The hooks of a repository that tell the watch to look: they carry nothing, and never fail or delay a commit."""

from enum import StrEnum
from typing import Final

from .base import noun

NEEDED: Final = "post-commit"
NAMES: Final = (NEEDED, "post-merge", "post-rewrite", "post-checkout")
"""Every hook that is installed where nobody has one; only the first must be."""


class HookStanding(StrEnum):
    """What is at the place of a hook."""

    ABSENT = "absent"
    CURRENT = "current"
    OUTDATED = "outdated"
    """Ours, for another state directory or of another version."""
    JOINED = "joined"
    """Somebody else's, with our line in it."""
    FOREIGN = "foreign"
    """Somebody else's: it is never written to."""


@noun
class Hook:
    """One hook of a repository."""

    name: str
    path: str
    """Absolute path of the file, whether it is there or not."""
    standing: HookStanding

    @property
    def tells(self) -> bool:
        """Whether the watch hears of it."""
        return self.standing in (HookStanding.CURRENT, HookStanding.JOINED)
