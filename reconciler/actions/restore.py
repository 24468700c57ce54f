"""Restore: bring a repository back from cold storage, verified."""

from collections.abc import Iterator
from typing import ClassVar, Self

from reconciler.model.base import noun
from reconciler.model.observed import ObservedState, Present
from reconciler.model.plan import Blocked, Claim, Effect, Waiting
from reconciler.model.supply import MoveOrder
from reconciler.model.units import human
from reconciler.model.view import View
from reconciler.ports.host import Host

from .base import OnWeights


@noun
class Restore(OnWeights):
    """Copy one repository back into the model cache; the cold copy stays where it is."""

    kind: ClassVar[str] = "restore"
    symbol: ClassVar[str] = "<"
    destructive: ClassVar[bool] = False
    deadline: ClassVar[float] = 7 * 86_400.0
    rank: ClassVar[int] = 7

    order: MoveOrder

    @property
    def claims(self) -> Claim:
        return Claim(disk=self.order.bytes)

    @property
    def bytes(self) -> int | None:
        return self.order.bytes

    @classmethod
    def propose(cls, view: View) -> Iterator[Self | Waiting | Blocked]:
        busy = {job.subject for job in view.facts.in_flight}
        for subject, order in view.supplies.items():
            if isinstance(order, MoveOrder) and order.back and subject not in busy:
                reason = f"{human(order.bytes)} from {order.volume} ({order.path})"
                yield cls(order=order, reference="offloaded", reason=reason)

    def simulate(self, observed: ObservedState) -> Effect:
        order = self.order
        return Effect(artifacts={order.reference: Present(value=order.artifact)}, cold={order.reference: None})

    async def perform(self, host: Host) -> None:
        await host.supply.restore(self.order)


VERB = Restore
