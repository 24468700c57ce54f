"""The composition root: the one module that knows every room."""

import os
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from reconciler import plugins
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.host_file import find_host_file
from reconciler.adapters.worktree import WorktreeSource
from reconciler.backends.base import Backend
from reconciler.desired.host import parse_host
from reconciler.desired.host_environment import VARIABLES, with_environment
from reconciler.desired.parse import parse
from reconciler.desired.slice import select
from reconciler.model.bundle import Bundle
from reconciler.model.desired import Desired
from reconciler.model.host import HostFile
from reconciler.model.ledger import ServiceProof
from reconciler.model.observed import ServerProcess
from reconciler.model.problem import ExitCode, Problem, ReconcilerError
from reconciler.planning.plan import Planner
from reconciler.ports.errors import ActionError
from reconciler.ports.host import Host
from reconciler.surface.composition import Settings

if TYPE_CHECKING:
    from reconciler.adapters.diagnosis import LogDiagnosis
    from reconciler.adapters.prober import CompletionProber
    from reconciler.adapters.watching import EditWatch

_READ_FROM_ENVIRONMENT: Final = ("MODEL__", "HF_HOME", "HF_HUB_CACHE", *VARIABLES)
_NAMES: Final = ("desired-state/ensemble.yaml", "ensemble.yaml")


class Wired:
    """One machine and one desired state; every part is made when it is first asked for."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._parsed: tuple[str, tuple[Desired, tuple[Problem, ...]]] | None = None

    @cached_property
    def _path(self) -> Path:
        return self._settings.config or _find_desired_file()

    @property
    def file(self) -> str:
        return str(self._path)

    @cached_property
    def host_file(self) -> HostFile:
        found = find_host_file(self._settings.host_file)
        return with_environment(HostFile() if found is None else parse_host(found[1], found[0]), os.environ)

    @cached_property
    def planner(self) -> Planner:
        return Planner(plugins.installed_backends(), plugins.installed_verbs())

    @cached_property
    def _machine(self) -> "LocalHost":
        return LocalHost(self.host_file, self.planner.backends)

    @property
    def host(self) -> Host:
        return self._machine.ports

    def exclusively(self, doing: str) -> AbstractContextManager[None]:
        from reconciler.adapters.lock import held

        return held(self._machine.root, doing)

    def busy(self) -> bool:
        from reconciler.adapters.lock import is_held

        return is_held(self._machine.root)

    @property
    def place(self) -> str:
        return os.path.realpath(self._path)

    @property
    def rules(self) -> str:
        import hashlib

        found = find_host_file(self._settings.host_file)
        environ = {name: value for name, value in os.environ.items() if name.startswith(_READ_FROM_ENVIRONMENT)}
        parts = (found and found[1], sorted(self._settings.overrides.items()), sorted(environ.items()))
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]

    @property
    def state(self) -> Path:
        return self._machine.root

    def log(self, label: str) -> Path:
        return self._machine.root / "logs" / f"{Path(label).name}.log"

    def tail(self, log: str, start: int, lines: int) -> tuple[str, ...]:
        from reconciler.adapters.server_log import tail

        return tail(log, start, lines) if log else ()

    def mark_volume(self, path: str) -> tuple[str, str, bool]:
        from reconciler.adapters.cache.hf_cache import cache_root
        from reconciler.adapters.cache.storage import inside, same_disk
        from reconciler.adapters.cold.volume import initialise

        place = os.path.abspath(os.path.expanduser(path))
        if inside(place, cache_root(os.environ)):
            raise ReconcilerError(
                "volume-in-cache",
                f"{place} is in the model cache itself; nothing was written",
                hint="name a folder of another disk",
                code=ExitCode.ENVIRONMENT,
            )
        try:
            return initialise(place), place, not same_disk(place, cache_root(os.environ))
        except ActionError as error:
            raise ReconcilerError(
                error.cause, error.message, hint="mount it, or name another folder", code=ExitCode.ENVIRONMENT
            ) from error

    def ask(self) -> None:
        self._machine.asks = True

    def follow(self) -> None:
        from reconciler.adapters.watching import EditWatch

        self._machine.follow(EditWatch(self._source.folders))

    async def close(self) -> None:
        await self._machine.close()

    @cached_property
    def _source(self) -> WorktreeSource:
        return WorktreeSource(self._path)

    def bundle(self) -> Bundle:
        return self._source.read()

    def desired(self) -> tuple[Desired, tuple[Problem, ...]]:
        bundle = self.bundle()
        if self._parsed is None or self._parsed[0] != bundle.revision:
            parsed = parse(
                bundle,
                roots=self.host_file.roots,
                environ=os.environ,
                overrides=self._settings.overrides,
            )
            self._parsed = bundle.revision, (select(parsed.desired, self.host_file.name), parsed.warnings)
        return self._parsed[1]


def compose(settings: Settings) -> Wired:
    """What one command works with."""
    return Wired(settings)


class LocalHost:
    """This machine: its ports, and what has to be ended with the event loop."""

    def __init__(self, host_file: HostFile, backends: Mapping[str, Backend]) -> None:
        from reconciler.adapters.cache.digests import Digests
        from reconciler.adapters.cache.hf_cache import LocalArtifacts
        from reconciler.adapters.gateway_files import LocalGateways
        from reconciler.adapters.listeners import LocalListeners
        from reconciler.adapters.machine import LocalMachine, working_set
        from reconciler.adapters.processes import LocalProcesses
        from reconciler.adapters.state_dir import StateDir
        from reconciler.adapters.supply import LocalSupply

        self._backends = backends
        self._listeners = LocalListeners(known=self._pids)
        clock, state = SystemClock(), StateDir()
        self.root = state.root
        self.asks = False
        """Whether servers are asked for completions: only where an event loop runs for it."""
        self._edits: EditWatch | None = None
        self.hints: list[Callable[[], Awaitable[None]]] = []
        """What else tells the loop to look again."""
        self._processes = LocalProcesses(
            state.root, clock, self._listeners, judge=self._judged, diagnose=self._diagnosed, retain=self._retain
        )
        self.hints.append(self._processes.exited)
        digests = Digests(state.root)
        artifacts = LocalArtifacts(
            roots=host_file.roots.values(),
            folders=host_file.model_folders,
            volumes=host_file.volumes,
            digests=digests,
        )
        self.ports = Host(
            clock=clock,
            changes=self,
            processes=self._processes,
            listeners=self._listeners,
            artifacts=artifacts,
            supply=LocalSupply(artifacts, digests, host_file, state.root, clock, os.environ),
            gateways=LocalGateways(host_file, plugins.installed_gateways(), state.root, clock.now),
            machine=LocalMachine(host_file, state.root, lambda: working_set(digests)),
            state=state,
        )

    @cached_property
    def _prober(self) -> "CompletionProber":
        from reconciler.adapters.prober import CompletionProber
        from reconciler.adapters.process_table import session_cpu_seconds

        return CompletionProber(
            self._backends, self._logs, self._listeners.look, SystemClock().now, session_cpu_seconds
        )

    def _pids(self) -> Iterable[int]:
        """Our own processes, so that the owner of a port is found without a search."""
        return self._processes.pids()

    def _judged(self, process: ServerProcess, proof: ServiceProof | None) -> ServerProcess:
        """With what asking has shown. A command that looks once asks nobody, and so calls nobody late."""
        return self._prober.judged(process, proof) if self.asks else replace(process, asked_since=None)

    def _retain(self, labels: Collection[str]) -> None:
        if self.asks:
            self._prober.retain(labels)

    @cached_property
    def _logs(self) -> "LogDiagnosis":
        from reconciler.adapters.diagnosis import LogDiagnosis

        return LogDiagnosis(self._backends)

    def _diagnosed(self, process: ServerProcess) -> ServerProcess:
        return self._logs.diagnosed(process)

    async def next(self) -> None:
        """Return at the first hint: new evidence, an exit, an edit."""
        from reconciler.adapters.changes import first

        await first(self._prober.changed, *self.hints)

    def follow(self, edits: "EditWatch") -> None:
        """From now on an edit is a hint."""
        self._edits = edits
        self.hints.append(edits.changed)

    async def close(self) -> None:
        """End what is under way in this event loop."""
        await self._prober.close()
        if self._edits is not None:
            await self._edits.close()


def _find_desired_file() -> Path:
    """RECONCILER_CONFIG, else the file in this folder or above up to the git root, else in the config directory."""
    if named := os.environ.get("RECONCILER_CONFIG"):
        return Path(named)
    here = Path.cwd()
    for folder in (here, *here.parents):
        for name in _NAMES:
            if (folder / name).exists():
                return Path(os.path.relpath(folder / name, here))
        if (folder / ".git").exists():
            break
    base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    candidate = base / "reconciler" / "ensemble.yaml"
    if candidate.exists():
        return candidate
    raise ReconcilerError(
        "desired-file-not-found",
        f"there is no {_NAMES[0]} or {_NAMES[1]} in {here} or above, and no {candidate}",
        hint="name the file with -c FILE or RECONCILER_CONFIG",
        code=ExitCode.INVALID,
    )
