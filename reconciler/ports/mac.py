"""What only a Mac can be asked: every such question is the words of a command, and every answer what it prints."""

from typing import Protocol

from reconciler.model.observed import Observation
from reconciler.model.transcript import Transcript


class Mac(Protocol):
    """The programs of macOS that say something about the machine, without changing anything."""

    def ask(self, *words: str) -> Observation[Transcript]:
        """What the command says; absent: this is no Mac; unknown: it is not there or gave no answer in time."""
        ...
