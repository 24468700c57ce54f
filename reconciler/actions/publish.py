"""Publish: bring a gateway's file to the routes that hold now."""

from collections.abc import Iterator
from typing import ClassVar, Self

from reconciler.model.base import noun
from reconciler.model.names import Subject, gateway_subject
from reconciler.model.observed import Absent, GatewayState, ObservedState, Present, Unknown
from reconciler.model.plan import Blocked, Claim, Effect, ServerSide, Waiting
from reconciler.model.routes import Route
from reconciler.model.view import View
from reconciler.ports.host import Host


@noun
class Publish:
    """Replace our routes in one gateway; a route that goes and a route that comes are the same write."""

    kind: ClassVar[str] = "publish"
    symbol: ClassVar[str] = "»"
    destructive: ClassVar[bool] = False
    deadline: ClassVar[float] = 60.0
    rank: ClassVar[int] = 1

    gateway: str
    routes: tuple[Route, ...]
    before: tuple[Route, ...]
    reference: str
    reason: str

    @property
    def subject(self) -> Subject:
        return gateway_subject(self.gateway)

    @property
    def claims(self) -> Claim:
        return Claim(dispatch=_ports(self.routes))

    @property
    def server(self) -> ServerSide | None:
        return None

    @property
    def bytes(self) -> int | None:
        return None

    @classmethod
    def propose(cls, view: View) -> Iterator[Self | Waiting | Blocked]:
        gateways = view.facts.desired.state.gateways
        declared = {"front": gateways.front is not None, "litellm": gateways.litellm is not None}
        for kind, wanted in view.wanted.items():
            match view.facts.observed.gateways.get(kind):
                case Present(value=state) if state.routes != wanted:
                    yield cls._of(kind, wanted, state.routes)
                case Absent() if wanted or declared.get(kind, False):
                    # An empty file too: a gateway that includes it does not start without it.
                    yield cls._of(kind, wanted, ())
                case Present() | Absent() | Unknown() | None:
                    pass  # in sync, or `planning` has said what stands against it

    @classmethod
    def _of(cls, kind: str, wanted: tuple[Route, ...], before: tuple[Route, ...]) -> Self:
        old, new = {r.label: r for r in before}, {r.label: r for r in wanted}
        parts = [
            (
                "withdraw",
                sorted(label for label in old if _reaches(old[label]) and not _reaches(new.get(label))),
            ),
            (
                "route",
                sorted(label for label in new if _reaches(new[label]) and not _reaches(old.get(label))),
            ),
            (
                "update",
                sorted(
                    label
                    for label in old.keys() & new.keys()
                    if old[label] != new[label] and _reaches(old[label]) == _reaches(new[label])
                ),
            ),
            ("list", sorted(label for label in new.keys() - old.keys() if not _reaches(new[label]))),
            ("unlist", sorted(label for label in old.keys() - new.keys() if not _reaches(old[label]))),
        ]
        reason = "; ".join(f"{verb} {', '.join(labels)}" for verb, labels in parts if labels)
        return cls(
            gateway=kind, routes=wanted, before=before, reference="routes-differ", reason=reason or "write the file"
        )

    def simulate(self, observed: ObservedState) -> Effect:
        before = observed.gateways.get(self.gateway)
        lingering = before.value.may_dispatch if isinstance(before, Present) else frozenset[int]()
        state = GatewayState(routes=self.routes, may_dispatch=_ports(self.routes) | lingering, drained_at=None)
        return Effect(gateways={self.gateway: state})

    async def perform(self, host: Host) -> None:
        await host.gateways.publish(self.gateway, self.routes)


def _ports(routes: tuple[Route, ...]) -> frozenset[int]:
    return frozenset(r.upstream.port for r in routes if r.upstream is not None)


def _reaches(route: Route | None) -> bool:
    return route is not None and route.upstream is not None


VERB = Publish
