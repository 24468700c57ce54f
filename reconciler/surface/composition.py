"""What the command line needs to have been put together for it; `wiring` does that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # --help knows this module and needs none of these
    from contextlib import AbstractContextManager
    from pathlib import Path

    from reconciler.model.bundle import Bundle
    from reconciler.model.desired import Desired
    from reconciler.model.host import HostFile
    from reconciler.model.problem import Problem
    from reconciler.planning.plan import Planner
    from reconciler.ports.host import Host


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the user said on the command line about files; None means: look in the usual places."""

    config: Path | None = None
    host_file: Path | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)


class Composition(Protocol):
    """One machine and one desired state, ready to be looked at."""

    @property
    def file(self) -> str:
        """The desired file as messages call it."""
        ...

    @property
    def place(self) -> str:
        """Where the desired file really is, whatever it is called."""
        ...

    @property
    def rules(self) -> str:
        """Digest of what else decides: the host file, overrides and what is read from the environment."""
        ...

    @property
    def host_file(self) -> HostFile:
        """What is allowed here. Raises InvalidDocument."""
        ...

    @property
    def host(self) -> Host:
        """The ports of this machine."""
        ...

    @property
    def planner(self) -> Planner:
        """The deciding core with the installed plug-ins."""
        ...

    @property
    def state(self) -> Path:
        """The state directory; it may not exist yet."""
        ...

    def exclusively(self, doing: str) -> AbstractContextManager[None]:
        """The lock of the state directory, for as long as something may be changed. Raises ReconcilerError."""
        ...

    def busy(self) -> bool:
        """Whether somebody has the lock of the state directory now."""
        ...

    def log(self, label: str) -> Path:
        """Where the server of a label writes; the file may not exist."""
        ...

    def tail(self, log: str, start: int, lines: int) -> tuple[str, ...]:
        """The last lines of the log of a launch, without secrets, fit for a terminal."""
        ...

    def mark_volume(self, path: str) -> tuple[str, str, bool]:
        """Give the folder at `path` the identity of a volume. Raises ReconcilerError.

        The identity, the absolute path, and whether it is another disk than that of the model cache.
        """
        ...

    def ask(self) -> None:
        """From now on servers are asked for completions; an event loop runs until `close`."""
        ...

    def follow(self) -> None:
        """From now on a change of the desired file is a hint for the loop, until `close`."""
        ...

    async def close(self) -> None:
        """End what the ports have under way in this event loop."""
        ...

    def bundle(self) -> Bundle:
        """The present revision of the desired state. Raises ReconcilerError."""
        ...

    def desired(self) -> tuple[Desired, tuple[Problem, ...]]:
        """The part of it that concerns this machine, with warnings. Raises ReconcilerError."""
        ...


class Compose(Protocol):
    """Puts a composition together."""

    def __call__(self, settings: Settings, /) -> Composition:
        """The composition for one command."""
        ...
