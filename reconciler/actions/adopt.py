"""Adopt: complete the record of an orphan, so that it is provably ours."""

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar, Self

from reconciler.model.base import noun
from reconciler.model.change import Verdict
from reconciler.model.observed import ObservedState, Standing
from reconciler.model.plan import Blocked, Effect, Waiting
from reconciler.model.view import View
from reconciler.ports.host import Host

from .base import OnProcess


@noun
class Adopt(OnProcess):
    """Take up a server whose launch was interrupted between its start and its record."""

    kind: ClassVar[str] = "adopt"
    symbol: ClassVar[str] = "~"
    destructive: ClassVar[bool] = False
    deadline: ClassVar[float] = 30.0
    rank: ClassVar[int] = 0

    @classmethod
    def propose(cls, view: View) -> Iterator[Self | Waiting | Blocked]:
        for change in view.changes:
            if change.verdict is Verdict.ORPHANED:
                yield from cls.of(change)

    def simulate(self, observed: ObservedState) -> Effect:
        adopted = replace(self.process, standing=Standing.OURS)
        return Effect(servers={self.process.label: adopted}, gateways={})

    async def perform(self, host: Host) -> None:
        await host.processes.adopt(self.process)


VERB = Adopt
