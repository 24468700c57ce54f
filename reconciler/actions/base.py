"""A verb in three parts: when it arises, what it changes, how it is done."""

from collections.abc import Iterator
from typing import Protocol, Self

from reconciler.model.plan import Action, Blocked, Claim, Effect, Waiting
from reconciler.model.view import View
from reconciler.ports.host import Host

NO_CLAIM = Claim()


class Verb(Action, Protocol):
    """One kind of action. Its instances are values; `perform` is the only part that touches the host."""

    @classmethod
    def propose(cls, view: View) -> "Iterator[Self | Waiting | Blocked]":
        """Every action of this kind whose preconditions hold now, and why others do not."""
        ...

    async def perform(self, host: Host) -> None:
        """Do it. Raises ports.errors.ActionError when it was not done or the answer was lost."""
        ...


def nothing() -> Effect:
    """The effect of changing nothing."""
    return Effect(servers={}, gateways={})
