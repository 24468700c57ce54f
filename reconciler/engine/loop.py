"""The loop: the only writer. Reap finished jobs, look, decide, start jobs, wait for a reason to look again."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final, NoReturn

from reconciler.actions.launch import Launch
from reconciler.model.base import noun
from reconciler.model.event import Event
from reconciler.model.host import HostFile
from reconciler.model.ledger import Ledger
from reconciler.model.plan import InFlight
from reconciler.model.problem import ReconcilerError
from reconciler.observing.observe import survey
from reconciler.planning import backoff
from reconciler.planning.plan import Decision, Planner
from reconciler.ports.host import Host

from . import journal
from .declared import Declared
from .jobs import Jobs, Outcome

RESYNC: Final = 60.0
"""Seconds after which the loop looks again without any hint: events are hints, and hints get lost."""
_RECALLED: Final = 1_000
"""How many events are looked through for what has been told already."""
_AGAIN: Final = 5.0
"""Seconds after a look that failed."""
_GLANCE: Final = 1.0
"""Seconds between looks while something says how far it is."""
_LONG: Final = frozenset({"ensure", "convert", "offload", "restore"})
"""Kinds of action that say how far they are."""
_STEADY: Final = 2
"""How many ticks in a row must find nothing to do: the first may have seen a world still moving."""

Change = Callable[[Ledger, float], Ledger]
"""The ledger after a person has said something at this time."""


@noun
class Tick:
    """One turn of the loop."""

    decision: Decision
    events: tuple[Event, ...]
    """What is new since the last one."""
    in_flight: tuple[InFlight, ...]
    """The jobs that are under way after it."""
    steady: bool
    """Nothing to do and nothing to wait for, in this tick and in the one before."""


@noun
class Ending:
    """How a run to a settled state ended."""

    decision: Decision
    settled: bool
    """False: the deadline came first."""


class Engine:
    """Keeps one machine at one desired state."""

    def __init__(
        self,
        host: Host,
        planner: Planner,
        declared: Declared,
        host_file: HostFile,
        told: Callable[[Tick], None] = lambda tick: None,
        failed: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        self._host = host
        self._planner = planner
        self._declared = declared
        self._host_file = host_file
        self._told = told
        self._failed = failed
        self._outcomes: list[Outcome] = []
        """Of jobs that have ended and are not remembered yet."""
        self._jobs = Jobs(host)
        self._ledger = host.state.ledger()
        self._known = journal.recalled(host.state.events(last=_RECALLED))
        self._requests: list[Change] = []
        self._poked = asyncio.Event()
        self._steady = 0

    def request(self, change: Change = lambda ledger, now: ledger) -> None:
        """Look now, and before that change what is remembered; durable before anything is done for it."""
        self._requests.append(change)
        self._steady = 0
        self._poked.set()

    def tick(self) -> Decision:
        """Look once and start what is decided; what must be remembered is durable before it is acted on."""
        now = self._host.clock.now()
        said = self._requested(now)
        ledger = self._ledger
        self._outcomes += self._jobs.reap()
        outcomes = tuple(self._outcomes)
        for outcome in outcomes:
            ledger = self._fold(ledger, outcome)
        desired = self._declared.read(now)
        backends, in_flight = self._planner.backends, self._jobs.in_flight
        facts = survey(self._host, desired, self._host_file, ledger, backends, in_flight, source=self._declared.problem)
        decision = self._planner.decide(facts, self._host.clock.jitter())
        if (after := self._idle(decision, outcomes)) is not decision.ledger:
            decision = self._planner.decide(replace(facts, ledger=after), self._host.clock.jitter())
        seen = journal.events(self._known, ledger, decision, outcomes)
        if decision.ledger != self._ledger or seen:
            self._host.state.save(decision.ledger, seen)
            self._ledger = decision.ledger
        # Only what has been saved has been told, and only what has been told is forgotten.
        self._known = journal.told(decision)
        self._outcomes.clear()
        self._jobs.cancel(decision.obsolete)
        self._jobs.start(self._planner.chosen(decision))
        self._steady = self._steady + 1 if decision.plan.settled and self._declared.look_again is None else 0
        steady, jobs = self._steady >= _STEADY, self._jobs.in_flight
        self._told(Tick(decision=decision, events=(*said, *seen), in_flight=jobs, steady=steady))
        return decision

    async def settle(self, deadline: float) -> Ending:
        """Run until there is nothing to do or wait for, twice in a row, or until `deadline` (epoch seconds).

        Weights that are on their way are waited for beyond it: whoever brings them ends what stands still. It ends
        unsettled, too, where only a hub would be asked again, and not soon.
        """
        self._steady = 0
        try:
            while True:
                decision = self.tick()
                if self._steady >= _STEADY:
                    return Ending(decision=decision, settled=True)
                now = self._host.clock.now()
                late = now >= deadline
                if (late and not self._moving) or decision.plan.parked(now):
                    return Ending(decision=decision, settled=False)
                await self._pause(decision, None if late else deadline)
        finally:
            await self._jobs.abandon()

    async def run(self) -> NoReturn:
        """Run until it is cancelled; servers stay. A look that fails is tried again, and so is a save."""
        try:
            while True:
                try:
                    decision = self.tick()
                except (ReconcilerError, OSError) as error:
                    self._failed(error)
                    await asyncio.sleep(_AGAIN)
                    continue
                await self._pause(decision)
        finally:
            await self._jobs.abandon()

    @property
    def _moving(self) -> bool:
        """Whether something is under way that may take days."""
        return any(job.kind in _LONG for job in self._jobs.in_flight)

    async def _pause(self, decision: Decision, deadline: float | None = None) -> None:
        """Until a job ends, something may have changed, or something is due."""
        if 0 < self._steady < _STEADY:
            return
        now = self._host.clock.now()
        ends = [suspension.until for suspension in self._ledger.suspensions.values()]
        due = (
            now + (_GLANCE if self._moving else RESYNC),
            decision.plan.look_again,
            self._declared.look_again,
            deadline,
            *ends,
        )
        timeout = max(0.0, min(moment for moment in due if moment is not None) - now)
        hints = [asyncio.ensure_future(self._host.changes.next()), asyncio.ensure_future(self._poked.wait())]
        try:
            await asyncio.wait({*self._jobs.tasks, *hints}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for hint in hints:
                hint.cancel()
        for hint in hints:
            if hint.done() and not hint.cancelled():
                hint.result()  # one that fails would be asked again and again
        self._poked.clear()

    def _requested(self, now: float) -> tuple[Event, ...]:
        """Make durable what people have said since the last tick; the events of that."""
        before = ledger = self._ledger
        requests = list(self._requests)
        for change in requests:
            ledger = change(ledger, now)
        if ledger == before:
            self._requests.clear()
            return ()
        events = tuple(
            Event(at=now, kind=kind, subject=subject, text=text, reference=reference)
            for kind, subject, text, reference in journal.changed(before, ledger)
        )
        self._host.state.save(ledger, events)
        del self._requests[: len(requests)]
        self._ledger = ledger
        self._known = replace(self._known, settled=False)
        return events

    def _idle(self, decision: Decision, outcomes: tuple[Outcome, ...]) -> Ledger:
        """The ledger after actions that ended well and are to be done again at once, which would go on for ever.

        A launch is not among them: its server may have died, which is counted by itself.
        """
        ledger = decision.ledger
        done = [outcome.action for outcome in outcomes if outcome.cause is None and not outcome.cancelled]
        for action in self._planner.chosen(decision):
            if action in done and not isinstance(action, Launch):
                error = f"it was done and has to be done again at once ({action.kind}: {action.reason})"
                failure = backoff.Failure(cause="no-progress", error=error, permanent=True)
                clock = self._host.clock
                key = backoff.action_key(action)
                spec = backoff.spec_of(action)
                ledger = backoff.failed(ledger, key, spec, failure, clock.now(), clock.jitter())
        return ledger

    def _fold(self, ledger: Ledger, outcome: Outcome) -> Ledger:
        action = outcome.action
        if outcome.lesson is not None:
            ledger = replace(ledger, sources={**ledger.sources, **outcome.lesson.sources})
        order = action.order if isinstance(action, Launch) else None
        key, spec_hash = (
            (order.label, order.spec_hash)
            if order
            else (
                backoff.action_key(action),
                backoff.spec_of(action),
            )
        )
        if outcome.cancelled:
            return ledger
        if outcome.cause is None:
            if order is None and key in ledger.attempts:
                return replace(ledger, attempts={k: a for k, a in ledger.attempts.items() if k != key})
            return ledger
        artifact = order.artifact if order else ""
        failure = backoff.Failure(
            cause=outcome.cause, error=outcome.error, permanent=outcome.permanent, artifact=artifact
        )
        clock = self._host.clock
        return backoff.failed(ledger, key, spec_hash, failure, clock.now(), clock.jitter())
