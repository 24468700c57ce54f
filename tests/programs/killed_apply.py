"""The command line with a composition that kills its process, as `kill -9` would, at a named point; runs by path.

    killed_apply.py POINT TIME ARGUMENT...      at the TIMEth time (from 1) that it comes to POINT

A POINT is one of the process adapter's own, or `before-` or `after-` and one of `save`, `publish`: what is written by
the other two ports through which a run changes anything.
"""

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from reconciler.adapters.clock import SystemClock
from reconciler.adapters.listeners import LocalListeners
from reconciler.adapters.processes import LocalProcesses
from reconciler.model.event import Event
from reconciler.model.ledger import Ledger
from reconciler.model.observed import GatewayState, Observation
from reconciler.model.routes import Route
from reconciler.ports.host import NO_CONTENTS, Gateways, Host, StateStore
from reconciler.surface.cli.main import run
from reconciler.surface.composition import Settings
from reconciler.wiring.composing import Wired

At = Callable[[str], None]


def killing(point: str, time: int) -> At:
    """Ends the process at the right time at the right point."""
    left = time

    def at(here: str) -> None:
        nonlocal left
        left -= here == point
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    return at


class Saving:
    """The state directory, with a point before and after each write."""

    def __init__(self, real: StateStore, at: At) -> None:
        self._real, self._at = real, at

    def ledger(self) -> Ledger:
        return self._real.ledger()

    def events(self, after: int = 0, last: int = 10_000) -> tuple[Event, ...]:
        return self._real.events(after, last)

    def save(
        self, ledger: Ledger, events: Sequence[Event] = (), contents: Mapping[str, bytes] = NO_CONTENTS
    ) -> tuple[Event, ...]:
        self._at("before-save")
        found = self._real.save(ledger, events, contents)
        self._at("after-save")
        return found

    def rest(self) -> None:
        self._real.rest()

    def content(self, digest: str) -> bytes | None:
        return self._real.content(digest)


class Publishing:
    """The gateways, with a point before and after each write."""

    def __init__(self, real: Gateways, at: At) -> None:
        self._real, self._at = real, at

    def look(self) -> Mapping[str, Observation[GatewayState]]:
        return self._real.look()

    async def publish(self, kind: str, routes: tuple[Route, ...]) -> None:
        self._at("before-publish")
        await self._real.publish(kind, routes)
        self._at("after-publish")


class Killed(Wired):
    """This machine, with points between which a kill may come."""

    def __init__(self, settings: Settings, point: str, time: int) -> None:
        super().__init__(settings)
        self._point, self._at = point, killing(point, time)

    @cached_property
    def _ports(self) -> Host:
        real = super().host
        if self._point.endswith(("-save", "-publish")):
            return replace(real, state=Saving(real.state, self._at), gateways=Publishing(real.gateways, self._at))
        # These ask nobody for a completion: who serves is known from earlier runs, and a new one is not proved.
        return replace(real, processes=LocalProcesses(self.state, SystemClock(), LocalListeners(), at=self._at))

    @property
    def host(self) -> Host:
        return self._ports


def main() -> None:
    point, time, *argv = sys.argv[1:]
    sys.exit(run(lambda settings: Killed(settings, point, int(time)), argv))


if __name__ == "__main__":
    main()
