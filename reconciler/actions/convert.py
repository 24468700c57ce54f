"""Convert: make the weights that a server loads from those that are declared, by a recipe."""

from collections.abc import Iterator
from typing import ClassVar, Self

from reconciler.model.base import noun
from reconciler.model.names import Subject
from reconciler.model.observed import ObservedState
from reconciler.model.plan import Blocked, Claim, Effect, Waiting
from reconciler.model.supply import ConvertOrder
from reconciler.model.units import human
from reconciler.model.view import View
from reconciler.ports.host import Host

from .base import OnWeights


@noun
class Convert(OnWeights):
    """Run the converter on one source; one conversion at a time."""

    kind: ClassVar[str] = "convert"
    symbol: ClassVar[str] = "*"
    destructive: ClassVar[bool] = False
    deadline: ClassVar[float] = 86_400.0
    rank: ClassVar[int] = 6

    order: ConvertOrder

    @property
    def claims(self) -> Claim:
        return Claim(memory=self.order.memory, disk=self.order.disk, recipe=self.order.recipe.key)

    @property
    def bytes(self) -> int | None:
        return self.order.disk

    @classmethod
    def propose(cls, view: View) -> Iterator[Self | Waiting | Blocked]:
        busy = {job.subject for job in view.facts.in_flight}
        launches = sum(_memory(view, label) for label in view.launchable)
        under_way = any(job.kind == cls.kind for job in view.facts.in_flight)
        for subject, order in view.supplies.items():
            if not isinstance(order, ConvertOrder) or subject in busy:
                continue
            blind = view.facts.observed.blind
            if blind is not None:
                yield Blocked(
                    subject=subject,
                    reference="observation-unknown",
                    reason=f"how much memory is free for converting it is not known: {blind}",
                    hint="mend what stands against reading the run records",
                )
            elif (under_way or view.converts_first not in (None, subject)) and order.memory <= view.headroom:
                yield _waiting(subject, "waiting-for-conversion", "one conversion is made at a time")
            elif order.memory > view.headroom and (view.leaving or view.launchable or view.facts.in_flight):
                yield _waiting(subject, "waiting-for-memory", f"converting it needs {human(order.memory)} of memory")
            elif order.memory > view.headroom:
                yield Blocked(
                    subject=subject,
                    reference="conversion-memory",
                    reason=f"converting it needs {human(order.memory)} of memory, and {human(max(view.headroom, 0))} "
                    "are free; nothing was stopped for it",
                    hint="stop a server for the time of the conversion (reconciler stop LABEL), raise the budget in "
                    "the host file, or declare a repository that is converted already",
                )
            elif order.memory > view.headroom - launches and view.converts_first is None:
                yield _waiting(subject, "waiting-for-memory", "servers that start first need the memory")
            else:
                under_way = True
                settings = ", ".join(order.recipe.arguments) or "no quantisation"
                yield cls(
                    order=order,
                    reference="not-converted",
                    reason=f"{settings}; up to {human(order.disk)} on disk, {human(order.memory)} of memory",
                )

    def simulate(self, observed: ObservedState) -> Effect:
        return Effect(conversions={self.order.reference: self.order.result})

    async def perform(self, host: Host) -> None:
        await host.supply.convert(self.order)


def _memory(view: View, label: str) -> int:
    order = view.targets[label].order
    return order.memory if order is not None else 0


def _waiting(subject: Subject, reference: str, reason: str) -> Waiting:
    return Waiting(subject=subject, reference=reference, reason=reason)


VERB = Convert
