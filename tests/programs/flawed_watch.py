"""The command line with a composition that has a flaw, for tests to find or to survive; runs by path.

    flawed_watch.py FLAW ARGUMENT...

`descriptors` and `memory` leak at looks at the machine, of which a request takes two: a descriptor at every two
hundredth, or two thousand bytes at each. `raises-LABEL` has a mistake in the launch of one label; `late-LABEL` comes
too late with its first one, when somebody else has taken the port. With `endless` no plan comes to an end.
"""

import os
import socket
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from reconciler.model.ledger import ServiceProof
from reconciler.model.observed import HostFacts, ServerProcess
from reconciler.model.target import LaunchOrder, PreflightOrder
from reconciler.planning.forecast import NotConvergent
from reconciler.planning.plan import Decision, Planner
from reconciler.ports.host import Host, Machine, Processes
from reconciler.surface.cli.main import run
from reconciler.surface.composition import Settings
from reconciler.wiring.composing import Wired

EVERY = 200
BYTES = 2_000


class Leaky:
    """The machine, and what is never given back."""

    def __init__(self, real: Machine, flaw: str) -> None:
        self._real, self._flaw = real, flaw
        self._looks = 0
        self._kept: list[bytes | int] = []

    def look(self, backends: Iterable[str]) -> HostFacts:
        self._looks += 1
        if self._flaw == "memory":
            self._kept.append(os.urandom(BYTES))
        elif self._flaw == "descriptors" and self._looks % EVERY == 0:
            self._kept.append(os.open(os.devnull, os.O_RDONLY))
        return self._real.look(backends)

    async def preflight(self, order: PreflightOrder) -> None:
        await self._real.preflight(order)


class Clumsy:
    """The processes, with a launch that goes wrong."""

    def __init__(self, real: Processes, flaw: str) -> None:
        self._real = real
        self._flaw, _, self._label = flaw.partition("-")
        self._first = True

    def records(self, proofs: Mapping[str, ServiceProof]) -> Mapping[str, ServerProcess]:
        return self._real.records(proofs)

    def record(self, label: str, proof: ServiceProof | None) -> ServerProcess | None:
        return self._real.record(label, proof)

    async def launch(self, order: LaunchOrder) -> None:
        if order.label == self._label and self._flaw == "raises":
            raise ZeroDivisionError("a mistake of ours")
        if order.label == self._label and self._flaw == "late" and self._first:
            self._first = False
            with socket.create_server(("127.0.0.1", order.port)):
                await self._real.launch(order)
        await self._real.launch(order)

    async def stop(self, process: ServerProcess) -> None:
        await self._real.stop(process)

    async def adopt(self, process: ServerProcess) -> None:
        await self._real.adopt(process)

    async def forget(self, process: ServerProcess) -> None:
        await self._real.forget(process)


class Endless(Planner):
    """A planner that comes to no end with what it foresees."""

    def decide(self, *args: Any, **kwargs: Any) -> Decision:
        if args[0].foreseen:
            raise NotConvergent("no end after 40 ticks")
        return super().decide(*args, **kwargs)


class Flawed(Wired):
    """This machine, with a flaw."""

    def __init__(self, settings: Settings, flaw: str) -> None:
        super().__init__(settings)
        self._flaw = flaw

    @cached_property
    def _ports(self) -> Host:
        real = super().host
        return replace(real, machine=Leaky(real.machine, self._flaw), processes=Clumsy(real.processes, self._flaw))

    @cached_property
    def planner(self) -> Planner:
        real = super().planner
        return Endless(real.backends, real.verbs) if self._flaw == "endless" else real

    @property
    def host(self) -> Host:
        return self._ports


def main() -> None:
    flaw, *argv = sys.argv[1:]
    sys.exit(run(lambda settings: Flawed(settings, flaw), argv))


if __name__ == "__main__":
    main()
