"""Forget: remove the record of a process that is gone and whose label is not to be served."""

from collections.abc import Iterator
from typing import ClassVar, Self

from reconciler.model.base import noun
from reconciler.model.change import Verdict
from reconciler.model.observed import ObservedState, Standing
from reconciler.model.plan import Blocked, Effect, Waiting
from reconciler.model.view import View
from reconciler.ports.host import Host

from .base import OnProcess


@noun
class Forget(OnProcess):
    """Drop a dead record; no process is touched."""

    kind: ClassVar[str] = "forget"
    symbol: ClassVar[str] = "-"
    destructive: ClassVar[bool] = False
    deadline: ClassVar[float] = 30.0
    rank: ClassVar[int] = 3

    @classmethod
    def propose(cls, view: View) -> Iterator[Self | Waiting | Blocked]:
        for change in view.changes:
            gone = change.live is not None and change.live.standing is Standing.GONE
            # What was cut off after its process had ended is no crash of a server that is to run.
            if change.verdict is Verdict.DEAD_RECORD or (
                gone and change.verdict in (Verdict.SUSPENDED, Verdict.ASLEEP)
            ):
                yield from cls.of(change)

    def simulate(self, observed: ObservedState) -> Effect:
        return Effect(servers={self.process.label: None})

    async def perform(self, host: Host) -> None:
        await host.processes.forget(self.process)


VERB = Forget
