"""Forget: remove the record of a process that is gone and whose label is not to be served."""

from collections.abc import Iterator
from typing import ClassVar, Self

from reconciler.model.base import noun
from reconciler.model.change import Verdict
from reconciler.model.names import Subject, server_subject
from reconciler.model.observed import ObservedState, ServerProcess
from reconciler.model.plan import Blocked, Claim, Effect, Waiting
from reconciler.model.view import View
from reconciler.ports.host import Host

from .base import NO_CLAIM


@noun
class Forget:
    """Drop a dead record; no process is touched."""

    kind: ClassVar[str] = "forget"
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
            if change.verdict is Verdict.DEAD_RECORD and change.live is not None:
                yield cls(process=change.live, reference=change.reference, reason=change.reason)

    def simulate(self, observed: ObservedState) -> Effect:
        return Effect(servers={self.process.label: None}, gateways={})

    async def perform(self, host: Host) -> None:
        await host.processes.forget(self.process)


VERB = Forget
