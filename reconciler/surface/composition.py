"""What the command line needs to have been put together for it; `wiring` does that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # --help knows this module and needs none of these
    from contextlib import AbstractContextManager
    from pathlib import Path

    from reconciler.engine.doctor import Case
    from reconciler.model.bundle import Bundle
    from reconciler.model.desired import Desired
    from reconciler.model.host import HostFile
    from reconciler.model.observed import Inspection
    from reconciler.model.plan import Blocked
    from reconciler.model.problem import Problem
    from reconciler.model.service import Service
    from reconciler.model.source import Mode, SourceRecord
    from reconciler.planning.plan import Planner
    from reconciler.ports.hooks import Hooks
    from reconciler.ports.host import Host, Source
    from reconciler.ports.service import ServiceManager
    from reconciler.surface.notifying import Notifier


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the user said on the command line about files; None means: look in the usual places."""

    config: Path | None = None
    host_file: Path | None = None
    source: str | None = None
    """`commit` or `worktree`."""
    ref: str | None = None
    """The branch to follow, `refs/heads/main` or `main`."""
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

    def recover(self) -> str:
        """Set a damaged state aside, under its lock, and begin another one with what can still be known.

        What was lost, as a sentence; empty where nothing is damaged. Raises ReconcilerError.
        """
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

    def inspect(self, pid: int) -> Inspection | None:
        """What can be seen of a process, whoever's it is; None where there is none. Raises OSError."""
        ...

    def mark_volume(self, path: str) -> tuple[str, str, bool]:
        """Give the folder at `path` the identity of a volume. Raises ReconcilerError.

        The identity, the absolute path, and whether it is another disk than that of the model cache.
        """
        ...

    def service(self, words: Sequence[str]) -> Service:
        """`reconciler` with these words as a service, as this environment has it. Raises ReconcilerError."""
        ...

    def service_manager(self, name: str | None) -> ServiceManager:
        """`launchd` or `systemd`; None: the one of this system."""
        ...

    @property
    def hooks(self) -> Hooks:
        """The hooks of the repository that holds the desired file."""
        ...

    def case(self) -> Case:
        """This machine as it is examined; what cannot be had of it is said in there."""
        ...

    @property
    def mode(self) -> Mode:
        """What a loop of this composition follows: as was said, as the host file says, or commits where there are any.

        Raises ReconcilerError.
        """
        ...

    @property
    def unfollowed(self) -> str:
        """Why the commits of the repository that holds the file are not followed, as the end of a sentence."""
        ...

    @property
    def source(self) -> Source:
        """What it is followed with. Raises ReconcilerError."""
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

    def notifier(self) -> Notifier:
        """Who is told by the host file what happens; an event loop runs until its `close`. Raises ReconcilerError."""
        ...

    def bundle(self) -> Bundle:
        """The present revision of the desired state. Raises ReconcilerError."""
        ...

    def parse(self, bundle: Bundle) -> tuple[Desired, tuple[Problem, ...]]:
        """The part of a bundle that concerns this machine, with warnings. Raises InvalidDocument."""
        ...

    def desired(self) -> tuple[Desired, tuple[Problem, ...]]:
        """That of the saved file or, where a commit was asked for, of that. Raises ReconcilerError."""
        ...

    def followed(self) -> tuple[Desired, tuple[Problem, ...]]:
        """That of what the running watch follows; where none runs, as `desired`. Raises ReconcilerError."""
        ...

    def record(self, desired: Desired) -> SourceRecord:
        """What is remembered of where a desired state came from that is about to be in force."""
        ...

    def in_force(self) -> tuple[Desired, Blocked | None] | None:
        """What the running watch keeps the machine at, and why it is not the newest.

        What is pinned where none runs, and else None.
        """
        ...


class Compose(Protocol):
    """Puts a composition together."""

    def __call__(self, settings: Settings, /) -> Composition:
        """The composition for one command."""
        ...
