"""Stop: end a server that is to leave, once no gateway can send it another request."""

from collections.abc import Iterator
from typing import ClassVar, Self

from reconciler.model.base import noun
from reconciler.model.names import gateway_subject, server_subject
from reconciler.model.observed import ObservedState, Present, ServerProcess
from reconciler.model.plan import Blocked, Effect, Waiting
from reconciler.model.view import View
from reconciler.ports.host import Host

from .base import OnProcess


@noun
class Stop(OnProcess):
    """End one process that is proved ours; done when its port is free."""

    kind: ClassVar[str] = "stop"
    symbol: ClassVar[str] = "-"
    destructive: ClassVar[bool] = True
    deadline: ClassVar[float] = 120.0
    rank: ClassVar[int] = 2

    @classmethod
    def propose(cls, view: View) -> Iterator[Self | Waiting | Blocked]:
        for change in view.changes:
            if change.label not in view.leaving or change.live is None:
                continue
            suspension = view.facts.ledger.suspensions.get(change.label)
            forced = suspension is not None and suspension.force
            if not forced and (waiting := _reachable(view, change.live)):
                yield waiting
            else:
                yield from cls.of(change)

    def simulate(self, observed: ObservedState) -> Effect:
        return Effect(servers={self.process.label: None})

    async def perform(self, host: Host) -> None:
        await host.processes.stop(self.process)


def _reachable(view: View, live: ServerProcess) -> Waiting | None:
    """Why a request may still arrive at `live`, or None. An unknown gateway never gets here: nothing leaves then."""
    for job in view.facts.in_flight:
        if live.port in job.claim.dispatch:
            return Waiting(
                subject=server_subject(live.label),
                reference="waiting-for-withdrawal",
                reason=f"{job.subject} is just being given its route",
            )
    for kind, state in view.facts.observed.gateways.items():
        if not isinstance(state, Present) or live.port not in state.value.may_dispatch:
            continue
        named = any(r.upstream is not None and r.upstream.port == live.port for r in state.value.routes)
        return Waiting(
            subject=server_subject(live.label),
            reference="waiting-for-withdrawal" if named else "draining",
            reason=f"{kind} {'still has its route' if named else 'may still be answering a request through it'}",
            until=None if named else state.value.drained_at,
            on=gateway_subject(kind),
        )
    return None


VERB = Stop
