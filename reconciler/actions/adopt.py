"""Adopt: complete the record of an orphan, so that it is provably ours."""

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar, Self

from reconciler.model.base import noun
from reconciler.model.change import Verdict
from reconciler.model.names import Subject, server_subject
from reconciler.model.observed import ObservedState, ServerProcess, Standing
from reconciler.model.plan import Blocked, Claim, Effect, Waiting
from reconciler.model.view import View
from reconciler.ports.host import Host

from .base import NO_CLAIM


@noun
class Adopt:
    """Take up a server whose launch was interrupted between its start and its record."""

    kind: ClassVar[str] = "adopt"
    destructive: ClassVar[bool] = False

    process: ServerProcess
    reference: str
    reason: str

    @property
    def subject(self) -> Subject:
        return server_subject(self.process.label)

    @property
    def claims(self) -> Claim:
        return NO_CLAIM

    @classmethod
    def propose(cls, view: View) -> Iterator[Self | Waiting | Blocked]:
        for change in view.changes:
            if change.verdict is Verdict.ORPHANED and change.live is not None:
                yield cls(process=change.live, reference=change.reference, reason=change.reason)

    def simulate(self, observed: ObservedState) -> Effect:
        adopted = replace(self.process, standing=Standing.OURS)
        return Effect(servers={self.process.label: adopted}, gateways={})

    async def perform(self, host: Host) -> None:
        await host.processes.adopt(self.process)


VERB = Adopt
