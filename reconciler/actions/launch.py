"""Launch: start the server of a label whose port, artifact and memory are there."""

from collections.abc import Iterator
from typing import ClassVar, Self

from reconciler.model.base import noun
from reconciler.model.names import Subject, server_subject
from reconciler.model.observed import Health, ObservedState, ServerProcess, Standing
from reconciler.model.plan import Blocked, Claim, Effect, ServerSide, Waiting
from reconciler.model.supply import ConvertOrder
from reconciler.model.target import LaunchOrder
from reconciler.model.units import human
from reconciler.model.view import View
from reconciler.ports.host import Host


@noun
class Launch:
    """Start one server; whether it serves is observed afterwards."""

    kind: ClassVar[str] = "launch"
    symbol: ClassVar[str] = "+"
    destructive: ClassVar[bool] = False
    deadline: ClassVar[float] = 60.0
    rank: ClassVar[int] = 4

    order: LaunchOrder
    reference: str
    reason: str

    @classmethod
    def again(cls, order: LaunchOrder) -> Self:
        """The launch of a server that served and has ended."""
        return cls(order=order, reference="crashed", reason="it has ended and is started again")

    @property
    def subject(self) -> Subject:
        return server_subject(self.order.label)

    @property
    def claims(self) -> Claim:
        return Claim(port=self.order.port, memory=self.order.memory)

    @property
    def server(self) -> ServerSide | None:
        return ServerSide(port=self.order.port, memory=self.order.memory, argv=self.order.argv)

    @property
    def bytes(self) -> int | None:
        return None

    @classmethod
    def propose(cls, view: View) -> Iterator[Self | Waiting | Blocked]:
        first = view.supplies.get(view.converts_first) if view.converts_first is not None else None
        # What the present conversion gives back is there for the next one.
        back = sum(job.claim.memory for job in view.facts.in_flight if job.kind == "convert")
        aside = max(0, first.memory - back) if isinstance(first, ConvertOrder) else 0
        headroom, slots = view.headroom - aside, view.launch_slots
        changes = {change.label: change for change in view.changes}
        for label in view.launchable:
            order = view.targets[label].order
            if order is None:
                continue
            if order.memory > headroom:
                # It is admitted, so what it waits for is already on its way out.
                yield Waiting(
                    subject=server_subject(label),
                    reference="waiting-for-memory",
                    reason=f"needs {human(order.memory)}, and {human(max(headroom, 0))} are free for now",
                )
                # Nothing of lower priority may take what this one waits for.
                headroom = 0
                continue
            if slots <= 0:
                yield Waiting(
                    subject=server_subject(label),
                    reference="waiting-for-launch-slot",
                    reason="as many servers are starting as the host file allows (max_launches)",
                )
                continue
            headroom, slots = headroom - order.memory, slots - 1
            change = changes[label]
            yield cls(order=order, reference=change.reference, reason=change.reason)

    def simulate(self, observed: ObservedState) -> Effect:
        order = self.order
        process = ServerProcess(
            label=order.label,
            port=order.port,
            standing=Standing.OURS,
            health=Health.STARTING,
            since=observed.at,
            spec_hash=order.spec_hash,
            fields=order.fields,
            artifact=order.artifact,
            served_name=order.served_name,
            host=order.host,
            memory=order.memory,
            revision=order.revision,
            generation=order.generation,
        )
        return Effect(servers={order.label: process})

    async def perform(self, host: Host) -> None:
        await host.processes.launch(self.order)


VERB = Launch
