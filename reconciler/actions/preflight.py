"""Preflight: find out whether what is to replace a running server would start, before that is stopped for it."""

from collections.abc import Iterator
from typing import ClassVar, Final, Self

from reconciler.model.base import noun
from reconciler.model.ledger import Lesson
from reconciler.model.names import Subject, server_subject
from reconciler.model.observed import ObservedState
from reconciler.model.plan import Blocked, Claim, Effect, ServerSide, Waiting
from reconciler.model.target import PreflightOrder
from reconciler.model.view import View
from reconciler.ports.host import Host

_MEMORY: Final = 512 * 2**20
"""Bytes of a Python with a tokenizer and a model without weights; 80 MB were measured for a tiny one."""


@noun
class Preflight:
    """Examine one successor; nothing is stopped or started by it, and what fails is not tried with the server."""

    kind: ClassVar[str] = "preflight"
    symbol: ClassVar[str] = "?"
    destructive: ClassVar[bool] = False
    deadline: ClassVar[float] = 300.0
    rank: ClassVar[int] = 4

    order: PreflightOrder
    reference: str
    reason: str

    @property
    def subject(self) -> Subject:
        return server_subject(self.order.label)

    @property
    def claims(self) -> Claim:
        return Claim(memory=_MEMORY, examines=self.order.key)

    @property
    def server(self) -> ServerSide | None:
        return None

    @property
    def bytes(self) -> int | None:
        return None

    @classmethod
    def propose(cls, view: View) -> Iterator[Self | Waiting | Blocked]:
        """One at a time: each reads the files of a model."""
        under_way = any(job.kind == cls.kind for job in view.facts.in_flight) and not view.facts.foreseen
        busy = {job.subject for job in view.facts.in_flight}
        for label in view.examined:
            order = view.targets[label].preflight
            if order is None or server_subject(label) in busy:
                continue
            if under_way:
                yield Waiting(
                    subject=server_subject(label),
                    reference="waiting-for-preflight",
                    reason="one successor is examined at a time",
                )
                continue
            under_way = not view.facts.foreseen
            yield cls(order=order, reference="not-examined", reason="what is to replace it is tried out first")

    def simulate(self, observed: ObservedState) -> Effect:
        return Effect(preflights={self.order.label: self.order.key})

    async def perform(self, host: Host) -> Lesson:
        await host.machine.preflight(self.order)
        return Lesson(preflights={self.order.label: self.order.key})


VERB = Preflight
