"""The hooks of the repository that holds the desired file."""

from typing import Protocol

from reconciler.model.hook import Hook


class Hooks(Protocol):
    """What of them is ours. Every request raises ReconcilerError where there is no repository that can be used."""

    @property
    def line(self) -> str:
        """What a hook of somebody else has to run, as one line of shell."""
        ...

    def status(self) -> tuple[Hook, ...]:
        """Every hook that we would have, as it is now."""
        ...

    def install(self) -> tuple[Hook, ...]:
        """Put ours wherever nobody has one; raises ReconcilerError, and changes nothing, where the needed one is taken.

        The answer is as of `status` afterwards.
        """
        ...

    def uninstall(self) -> tuple[Hook, ...]:
        """Remove ours and nothing else. The answer is what was removed."""
        ...
