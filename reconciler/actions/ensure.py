"""Ensure: bring declared weights here and compare them with what was promised, before any server loads them."""

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar, Final, Self

from reconciler.model.base import noun
from reconciler.model.ledger import Lesson
from reconciler.model.observed import Artifact, ObservedState, Present
from reconciler.model.plan import Blocked, Claim, Effect, Waiting
from reconciler.model.supply import CheckOrder, FetchOrder, SourceCheck, VerifyOrder
from reconciler.model.units import human
from reconciler.model.view import View
from reconciler.ports.host import Host

from .base import OnWeights

Order = CheckOrder | FetchOrder | VerifyOrder
_UNKNOWN_THERE: Final = ("source-revision-missing", "source-not-found")
_VERIFICATIONS: Final = 2
"""How many artifacts are read through at a time: more of them wait for the same disk."""


@noun
class Ensure(OnWeights):
    """Ask about weights, bring them, or compare them."""

    kind: ClassVar[str] = "ensure"
    symbol: ClassVar[str] = "v"
    destructive: ClassVar[bool] = False
    deadline: ClassVar[float] = 7 * 86_400.0
    """A download that stands still is ended by whoever makes it, one that moves may take days."""
    rank: ClassVar[int] = 5

    order: Order

    @property
    def claims(self) -> Claim:
        match self.order:
            case FetchOrder(bytes=brought):
                return Claim(disk=brought)
            case VerifyOrder(bytes=read):
                return Claim(reads=read)
            case CheckOrder():
                return Claim()

    @property
    def bytes(self) -> int | None:
        return None if isinstance(self.order, CheckOrder) else self.order.bytes

    @classmethod
    def propose(cls, view: View) -> Iterator[Self | Waiting | Blocked]:
        running = [job.claim for job in view.facts.in_flight if job.kind == cls.kind]
        downloads = view.facts.host.downloads.repos - sum(claim.disk > 0 for claim in running)
        readers = _VERIFICATIONS - sum(claim.reads > 0 for claim in running)
        busy = {job.subject for job in view.facts.in_flight}
        for subject, order in view.supplies.items():
            if not isinstance(order, Order) or subject in busy:
                continue
            if isinstance(order, FetchOrder):
                downloads -= 1
            elif isinstance(order, VerifyOrder) and order.bytes:
                readers -= 1
            if (downloads < 0 or readers < 0) and not view.facts.foreseen:
                downloads, readers = max(downloads, 0), max(readers, 0)
                yield Waiting(
                    subject=subject,
                    reference="waiting-for-other-weights",
                    reason="as many others are being brought or verified as is allowed (downloads.repos)",
                )
                continue
            yield cls(order=order, reference=_reference(order), reason=_reason(order))

    def simulate(self, observed: ObservedState) -> Effect:
        order = self.order
        match order:
            case CheckOrder():
                return Effect(sources={order.reference: SourceCheck(at=observed.at, pending=True)})
            case FetchOrder():
                return Effect(artifacts={order.reference: Present(value=order.result)})
            case VerifyOrder():
                return _verified(order, observed)

    async def perform(self, host: Host) -> Lesson | None:
        match self.order:
            case CheckOrder() as order:
                return Lesson(sources={order.reference: await _asked(host, order)})
            case FetchOrder() as order:
                await host.supply.fetch(order)
            case VerifyOrder() as order:
                await host.supply.verify(order)
        return None


async def _asked(host: Host, order: CheckOrder) -> SourceCheck:
    """What the hub says; a branch goes on, and an old commit of it may be gone."""
    asked = f"{order.repo}@{order.revision}"
    check = (await host.supply.check([asked]))[asked]
    if order.revision == order.otherwise or check.problem not in _UNKNOWN_THERE:
        return check
    asked = f"{order.repo}@{order.otherwise}"
    return (await host.supply.check([asked]))[asked]


def _verified(order: VerifyOrder, observed: ObservedState) -> Effect:
    """Whatever has the folder is sound and measured afterwards."""
    found = observed.artifact(order.reference)
    if isinstance(found, Present) and found.value.path == order.path:
        return Effect(artifacts={order.reference: Present(value=_sound(found.value, order))})
    made = observed.storage.conversions.get(order.reference, ())
    here = next((c for c in made if c.artifact.path == order.path), None)
    if here is None:
        return Effect()
    return Effect(conversions={order.reference: replace(here, artifact=_sound(here.artifact, order))})


def _sound(artifact: Artifact, order: VerifyOrder) -> Artifact:
    return replace(artifact, unverified=0, measurable=artifact.measurable and not order.runtime)


def _reference(order: Order) -> str:
    match order:
        case CheckOrder():
            return "hub-not-asked"
        case FetchOrder():
            return "incomplete" if order.afresh else "not-here"
        case VerifyOrder():
            return "not-verified" if order.bytes else "not-measured"


def _reason(order: Order) -> str:
    match order:
        case CheckOrder():
            return f"ask the hub about {order.repo} at {order.revision}"
        case FetchOrder():
            return f"{order.why} {human(order.bytes)} at commit {order.commit[:12]}"
        case VerifyOrder(bytes=0):
            return "measure what it takes in memory"
        case VerifyOrder():
            what = " of what was converted from it" if "/converted--" in order.path else ""
            return f"verify {human(order.bytes)}{what}, once"


VERB = Ensure
