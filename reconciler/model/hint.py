"""Reasons to look again."""

from typing import Final

from .base import noun


@noun
class Hint:
    """What may have changed since the last one: what is named here, and nothing else."""

    ended: frozenset[str] = frozenset()
    """Labels of servers of which a process has ended."""
    heard: bool = False
    """Something new is known of servers by asking them."""
    files: bool = False
    """Something was written in a folder that is watched for files that decide."""
    anything: bool = False
    """Nobody knows what."""

    def __or__(self, other: "Hint") -> "Hint":
        return Hint(
            ended=self.ended | other.ended,
            heard=self.heard or other.heard,
            files=self.files or other.files,
            anything=self.anything or other.anything,
        )


NOTHING: Final = Hint()
HEARD: Final = Hint(heard=True)
FILES: Final = Hint(files=True)
ANYTHING: Final = Hint(anything=True)
