"""A verb in three parts: when it arises, what it changes, how it is done."""

from collections.abc import Iterator
from typing import ClassVar, Protocol, Self

from reconciler.model.base import noun
from reconciler.model.change import Change
from reconciler.model.ledger import Lesson
from reconciler.model.names import Subject, artifact_subject, server_subject
from reconciler.model.observed import ServerProcess
from reconciler.model.plan import Action, Blocked, Claim, ServerSide, Waiting
from reconciler.model.supply import SupplyOrder
from reconciler.model.view import View
from reconciler.ports.host import Host

NO_CLAIM = Claim()


class Verb(Action, Protocol):
    """One kind of action. Its instances are values; `perform` is the only part that touches the host."""

    rank: ClassVar[int]
    """Of two verbs that want one subject in one tick, the lower one wins; it is also the order of proposing."""

    @classmethod
    def propose(cls, view: View) -> "Iterator[Self | Waiting | Blocked]":
        """Every action of this kind whose preconditions hold now, and why others do not."""
        ...

    async def perform(self, host: Host) -> Lesson | None:
        """Do it, and say what was learned. Raises ports.errors.ActionError: it was not done, or the answer was lost."""
        ...


@noun
class OnWeights:
    """What the verbs that act on weights have in common."""

    order: SupplyOrder
    reference: str
    reason: str

    @property
    def subject(self) -> Subject:
        return artifact_subject(self.order.reference)

    @property
    def server(self) -> ServerSide | None:
        return None


@noun
class OnProcess:
    """What the verbs that act on one recorded process have in common."""

    process: ServerProcess
    reference: str
    reason: str

    @property
    def subject(self) -> Subject:
        return server_subject(self.process.label)

    @property
    def claims(self) -> Claim:
        return NO_CLAIM

    @property
    def server(self) -> ServerSide | None:
        return ServerSide(port=self.process.port, memory=self.process.memory)

    @property
    def bytes(self) -> int | None:
        return None

    @classmethod
    def of(cls, change: Change) -> Iterator[Self]:
        """The action on the process of a change; none where there is no process."""
        if change.live is not None:
            yield cls(process=change.live, reference=change.reference, reason=change.reason)
