"""This machine: its ports, put together from the adapters."""

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, NoReturn

from reconciler import plugins
from reconciler.adapters.clock import SystemClock
from reconciler.backends.base import Backend
from reconciler.model.hint import Hint
from reconciler.model.host import HostFile
from reconciler.model.ledger import ServiceProof
from reconciler.model.observed import ServerProcess
from reconciler.ports.host import Host

if TYPE_CHECKING:
    import asyncio

    from reconciler.adapters.changes import Telling
    from reconciler.adapters.diagnosis import LogDiagnosis
    from reconciler.adapters.prober import CompletionProber
    from reconciler.adapters.watching import EditWatch


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
        self.root, self.state = state.root, state
        self.asks = False
        """Whether servers are asked for completions: only where an event loop runs for it."""
        self._edits: EditWatch | None = None
        self._small: asyncio.Task[NoReturn] | None = None
        """What keeps the logs small."""
        self.telling: list[Telling] = []
        """What else tells the loop to look again."""
        self._processes = LocalProcesses(
            state.root, clock, self._listeners, judge=self._judged, diagnose=self._diagnosed, retain=self._retain
        )
        self.telling.append(self._processes.exited)
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
            machine=LocalMachine(host_file, state.root, lambda: working_set(digests), backends),
            state=state,
        )

    @cached_property
    def _prober(self) -> "CompletionProber":
        from reconciler.adapters.connections import connections
        from reconciler.adapters.prober import CompletionProber
        from reconciler.adapters.process_table import session_cpu_seconds

        look, now = self._listeners.look, SystemClock().now
        return CompletionProber(self._backends, self._logs, look, now, session_cpu_seconds, connections)

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

    async def next(self) -> Hint:
        """Return at the first hint: new evidence, an edit, or an exit."""
        from reconciler.adapters.changes import first

        return await first(self._prober.changed, *self.telling)

    def follow(self, edits: "EditWatch") -> None:
        """From now on, and until it is closed: an edit is a hint, and the logs are kept small."""
        import asyncio

        from reconciler.adapters.heap import stay_small
        from reconciler.adapters.log_rotation import Logs

        stay_small()
        self._edits = edits
        self.telling.append(edits.changed)
        self._small = asyncio.create_task(Logs(self.root).keep_small(), name="keep logs small")

    async def close(self) -> None:
        """End what is under way in this event loop."""
        if self._small is not None:
            self._small.cancel()
        self._processes.close()
        await self._prober.close()
        if self._edits is not None:
            await self._edits.close()
