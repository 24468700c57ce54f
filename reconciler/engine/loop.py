"""The loop: the only writer. Reap finished jobs, look, decide, start jobs, wait for a reason to look again."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from reconciler.actions.launch import Launch
from reconciler.model.base import noun
from reconciler.model.desired import Desired
from reconciler.model.host import HostFile
from reconciler.model.ledger import Ledger
from reconciler.observing.observe import survey
from reconciler.planning import backoff
from reconciler.planning.plan import Decision, Planner
from reconciler.ports.host import Host

from .jobs import Jobs, Outcome

RESYNC: Final = 60.0
"""Seconds after which the loop looks again without any hint: events are hints, and hints get lost."""
_STEADY: Final = 2
"""How many ticks in a row must find nothing to do: the first may have seen a world still moving."""


@noun
class Ending:
    """How a run to a settled state ended."""

    decision: Decision
    settled: bool
    """False: the deadline came first."""


class Engine:
    """Brings one machine to one desired state."""

    def __init__(
        self,
        host: Host,
        planner: Planner,
        desired: Callable[[], Desired],
        host_file: HostFile,
        watch: Callable[[Decision], None] = lambda decision: None,
        ended: Callable[[Outcome], None] = lambda outcome: None,
    ) -> None:
        self._host = host
        self._planner = planner
        self._desired = desired
        self._host_file = host_file
        self._watch = watch
        self._ended = ended
        self._jobs = Jobs(host)
        self._ledger = host.state.ledger()

    def tick(self) -> Decision:
        """Look once and start what is decided; what must be remembered is durable before it is acted on."""
        ledger = self._ledger
        for outcome in self._jobs.reap():
            ledger = self._fold(ledger, outcome)
            self._ended(outcome)
        desired = self._desired()
        backends, in_flight = self._planner.backends, self._jobs.in_flight
        facts = survey(self._host, desired, self._host_file, ledger, backends, in_flight)
        decision = self._planner.decide(facts, self._host.clock.jitter())
        if decision.ledger != self._ledger:
            self._host.state.save(decision.ledger)
            self._ledger = decision.ledger
        self._jobs.start(self._planner.chosen(decision))
        self._watch(decision)
        return decision

    async def settle(self, deadline: float) -> Ending:
        """Run until there is nothing to do or wait for, twice in a row, or until `deadline` (epoch seconds)."""
        steady = 0
        try:
            while True:
                decision = self.tick()
                steady = steady + 1 if decision.plan.settled else 0
                if steady == _STEADY:
                    return Ending(decision=decision, settled=True)
                now = self._host.clock.now()
                if now >= deadline:
                    return Ending(decision=decision, settled=False)
                if not steady:
                    due = decision.plan.look_again or now + RESYNC
                    await self._wait(max(0.0, min(due, now + RESYNC, deadline) - now))
        finally:
            await self._jobs.abandon()

    async def _wait(self, timeout: float) -> None:
        """Until a job ends, something may have changed, or the time is up."""
        hint = asyncio.ensure_future(self._host.changes.next())
        try:
            await asyncio.wait({*self._jobs.tasks, hint}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hint.cancel()

    def _fold(self, ledger: Ledger, outcome: Outcome) -> Ledger:
        action = outcome.action
        order = action.order if isinstance(action, Launch) else None
        key, spec_hash = (order.label, order.spec_hash) if order else (backoff.action_key(action), action.kind)
        if outcome.cause is None:
            if order is None and key in ledger.attempts:
                return replace(ledger, attempts={k: a for k, a in ledger.attempts.items() if k != key})
            return ledger
        failure = backoff.Failure(cause=outcome.cause, error=outcome.error, permanent=outcome.permanent)
        clock = self._host.clock
        return backoff.failed(ledger, key, spec_hash, failure, clock.now(), clock.jitter())
