"""Offload: move base weights that nothing needs to cold storage."""

from collections.abc import Iterator
from typing import ClassVar, Self

from reconciler.model.base import noun
from reconciler.model.observed import Absent, ColdCopy, ObservedState
from reconciler.model.plan import Blocked, Claim, Effect, Waiting
from reconciler.model.supply import MoveOrder
from reconciler.model.units import human
from reconciler.model.view import View
from reconciler.ports.host import Host

from .base import OnWeights


@noun
class Offload(OnWeights):
    """Copy one repository to a volume, verify the copy, then remove it here."""

    kind: ClassVar[str] = "offload"
    symbol: ClassVar[str] = ">"
    destructive: ClassVar[bool] = True
    deadline: ClassVar[float] = 7 * 86_400.0
    rank: ClassVar[int] = 8

    order: MoveOrder

    @property
    def claims(self) -> Claim:
        return Claim(reads=self.order.bytes)

    @property
    def bytes(self) -> int | None:
        return self.order.bytes

    @classmethod
    def propose(cls, view: View) -> Iterator[Self | Waiting | Blocked]:
        busy = {job.subject for job in view.facts.in_flight}
        under_way = any(job.kind == cls.kind for job in view.facts.in_flight)
        for subject, order in view.supplies.items():
            if not isinstance(order, MoveOrder) or order.back or subject in busy:
                continue
            if under_way:
                yield Waiting(subject=subject, reference="waiting-for-offload", reason="one is moved at a time")
                continue
            under_way = True
            reason = f"{human(order.bytes)} to {order.volume} ({order.path}), removed here once the copy is verified"
            yield cls(order=order, reference="not-needed", reason=reason)

    def simulate(self, observed: ObservedState) -> Effect:
        order = self.order
        copy = ColdCopy(
            volume=order.volume, path=order.path, bytes=order.bytes, artifact=order.artifact, at=observed.at
        )
        return Effect(artifacts={order.reference: Absent()}, cold={order.reference: copy})

    async def perform(self, host: Host) -> None:
        await host.supply.offload(self.order)


VERB = Offload
