"""The loop: the only writer. Reap finished jobs, look, decide, start jobs, wait for a reason to look again."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final, NoReturn

from reconciler.actions.launch import Launch
from reconciler.model.base import noun
from reconciler.model.change import Verdict
from reconciler.model.desired import Desired
from reconciler.model.event import Event
from reconciler.model.generation import Generation
from reconciler.model.hint import ANYTHING, NOTHING, Hint
from reconciler.model.ledger import Ledger
from reconciler.model.names import label_of, server_subject
from reconciler.model.plan import InFlight
from reconciler.model.problem import ReconcilerError
from reconciler.observing.observer import Observer
from reconciler.planning import fallback, generations, restart
from reconciler.planning.forecast import NotConvergent, forecast
from reconciler.planning.plan import Decision, Planner
from reconciler.ports.errors import ObservationError

from . import journal
from .contents import Contents
from .declared import Declared, Reading
from .jobs import Jobs, Outcome
from .outcomes import folded, without_progress
from .requests import Asked, Request
from .returning import Return, returned
from .rules import Rules

RESYNC: Final = 60.0
"""Seconds after which the loop looks again without any hint: events are hints, and hints get lost."""
_RECALLED: Final = 1_000
"""How many events are looked through for what has been told already."""
_AGAIN: Final = 5.0
"""Seconds after a look that failed, and between looks while a port is wanted that somebody else holds."""
_GLANCE: Final = 1.0
"""Seconds between looks while something says how far it is."""
_LONG: Final = frozenset({"ensure", "convert", "offload", "restore"})
"""Kinds of action that say how far they are."""
_ENDS: Final = frozenset({"launch", "stop"})
"""Kinds of action that notice the end of the process that they are about."""
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
        observer: Observer,
        planner: Planner,
        declared: Declared,
        told: Callable[[Tick], None] = lambda tick: None,
        failed: Callable[[Exception], None] = lambda error: None,
        rules: Callable[[], str] = lambda: "",
    ) -> None:
        """`rules`: digest of what else decides at this moment, which is remembered with every generation."""
        self._observer = observer
        self._host = host = observer.host
        self._planner = planner
        self._declared = declared
        self._told = told
        self._failed = failed
        self._outcomes: list[Outcome] = []
        """Of jobs that have ended and are not remembered yet."""
        self._jobs = Jobs(host)
        self._ledger = host.state.ledger()
        self._rules = Rules(rules)
        self._contents = Contents(host.state)
        self._look_again: tuple[float | None, ...] = ()
        """When a newer revision of the source may be taken, or something be said of it."""
        self._known = journal.recalled(host.state.events(last=_RECALLED))
        self._requests: list[Change] = []
        self._poked = asyncio.Event()
        self._steady = 0
        self._last: Decision | None = None
        self._owed: tuple[Decision, tuple[Event, ...]] | None = None
        """What has been begun and is not remembered yet, with its events."""

    def request(self, change: Change = lambda ledger, now: ledger) -> None:
        """Look now, and before that change what is remembered; durable before anything is done for it."""
        self._requests.append(change)
        self._observer.forget()
        self._steady = 0
        self._poked.set()

    def ask(self, request: Request) -> None:
        """Carry out what a person asks at the next look. Raises ReconcilerError where a return cannot be."""
        if request.do is not Asked.ROLLBACK:
            self.request(request.change)
            return
        back = returned(self._host, self._ledger, request.number)
        self._contents.keep(back.content)
        self.request(lambda ledger, now: back.pinned(ledger, now, request.reason))

    def tick(self) -> Decision:
        """Look once and start what is decided; what must be remembered is durable before it is acted on."""
        tick = self._turn()
        self._told(tick)
        return tick.decision

    def _turn(self) -> Tick:
        now = self._host.clock.now()
        said = (*self._pay(), *self._requested(now))
        ledger = self._rules.kept(self._ledger)
        self._reap()
        outcomes = tuple(self._outcomes)
        for outcome in outcomes:
            ledger = folded(ledger, outcome, self._host.clock)
        reading = self._declared.read(now, ledger)
        decision = self._decide(reading, self._entered(ledger, reading, now))
        after = without_progress(decision.ledger, self._planner.chosen(decision), outcomes, self._host.clock)
        if after is not decision.ledger:
            decision = self._decide(reading, after)
        if reading.returns and (back := self._falling_back(decision)) is not None:
            decision = self._decide(replace(reading, desired=back[0]), back[1])
        seen = journal.events(self._known, ledger, decision, outcomes)
        seen += self._rules.news(now, reading.desired.revision)
        seen = self._remember(decision, seen)
        self._rules.told()
        self._outcomes.clear()
        self._look_again = reading.look_again, reading.glance_at
        self._jobs.cancel(decision.obsolete)
        self._jobs.start(self._planner.chosen(decision))
        self._last = decision
        # What is decided next for whoever is to change rests on his weights and his port.
        self._observer.heed(c.label for c in decision.view.changes if c.verdict is not Verdict.MATCHES)
        self._steady = self._steady + 1 if decision.plan.settled and reading.look_again is None else 0
        steady, jobs = self._steady >= _STEADY, self._jobs.in_flight
        return Tick(decision=decision, events=(*said, *seen), in_flight=jobs, steady=steady)

    def _reap(self) -> None:
        """Take up what has ended; a job on one server has touched nothing else, and gateways are always looked at."""
        for outcome in self._jobs.reap():
            self._outcomes.append(outcome)
            if outcome.action.kind in _LONG:
                self._observer.forget()
            self._observer.heed(label_of(outcome.action.subject))

    def _remember(self, decision: Decision, seen: tuple[Event, ...]) -> tuple[Event, ...]:
        """Make durable what a decision adds to the ledger, and what is told of it; all that is to be told."""
        if decision.ledger != self._ledger or seen:
            self._contents.assure(decision.view.facts.desired)
            seen += self._host.state.save(decision.ledger, seen, self._contents.pending)
            self._contents.saved()
            self._ledger = decision.ledger
        # Only what has been saved has been told, and only what has been told is forgotten.
        self._known = journal.told(decision)
        return seen

    def _pay(self) -> tuple[Event, ...]:
        """Remember what was begun before it could be, and the events of that. Raises ReconcilerError, and then owes."""
        if self._owed is None:
            return ()
        decision, seen = self._owed
        seen = self._remember(decision, seen)
        self._owed = None
        return seen

    async def _start_again(self, ended: frozenset[str]) -> None:
        """Start at once whoever served, has just ended and may be started; the next look, which takes longer, follows.

        Everything but these servers and their ports is taken to be as the last look saw it, so nothing is done here
        but what these need. Who is started before his end is counted leaves a record of that start; a kill in these
        milliseconds can lose the count, no more.
        """
        last = self._last
        if last is None or self._requests or self._outcomes or self._jobs.any_done:
            return  # what is said, or has been done, counts for them too
        busy, servers = {job.subject for job in self._jobs.in_flight}, last.view.facts.observed.servers
        served = {n for n in ended if n in servers and servers[n].serves and server_subject(n) not in busy}
        if not served:
            return
        facts = self._observer.glimpse(last.view.facts, self._ledger, served, self._jobs.in_flight)
        early = {order.label: Launch.again(order) for order in restart.at_once(last, facts, served)}
        self._jobs.start(early.values())
        await asyncio.sleep(0)  # they begin before anything else takes its time
        decision = self._planner.decide(facts, self._host.clock.jitter())
        chosen = self._planner.chosen(decision)
        launches = [action for action in chosen if isinstance(action, Launch) and action.order.label in served]
        if not launches and not early:
            return
        # Of all that is decided only these are begun, and so told.
        decision = replace(decision, plan=replace(decision.plan, actions=tuple(launches)))
        self._owed = decision, journal.events(self._known, self._ledger, decision, ())
        self._steady = 0
        if self._requests:
            return  # somebody has said something meanwhile, which counts for the rest
        seen = self._pay()
        self._jobs.start(launch for launch in launches if launch.order.label not in early)
        self._told(Tick(decision=decision, events=seen, in_flight=self._jobs.in_flight, steady=False))

    def _decide(self, reading: Reading, ledger: Ledger) -> Decision:
        in_flight = self._jobs.in_flight
        facts = self._observer.look(reading.desired, ledger, in_flight, reading.problem)
        decision = self._planner.decide(facts, self._host.clock.jitter())
        if decision.plan.actions or in_flight or self._observer.whole:
            return decision
        self._observer.forget()  # that there is nothing to begin is only concluded from a look at everything
        return self._decide(reading, ledger)

    def _entered(self, ledger: Ledger, reading: Reading, now: float) -> Ledger:
        """With the desired state of this tick as the generation in force, and what is known of its source."""
        if not reading.enters:
            return ledger
        born = Generation(
            number=0,
            at=now,
            revision=reading.desired.revision,
            content=self._contents.of(reading.desired),
            rules=self._rules.began,
        )
        after = generations.entered(ledger, born)
        source = reading.record if reading.record is not None else ledger.source
        if after is ledger and (source, reading.pin) == (ledger.source, ledger.pin):
            return ledger
        return replace(after, source=source, pin=reading.pin)

    def _falling_back(self, decision: Decision) -> tuple[Desired, Ledger] | None:
        """The generation before, when the one in force cannot be proved and the old one still fits; else None."""
        found = fallback.failing(decision.view, decision.plan)
        if found is None:
            return None
        before, why = found
        ledger = fallback.failed(decision.ledger, why)
        back: Return | None
        try:
            back = returned(self._host, ledger, before.number)
            looked = self._observer.look(back.desired, ledger, self._jobs.in_flight)
            unfit = fallback.unfit(forecast(self._planner, looked), before)
        except (ReconcilerError, NotConvergent) as error:
            back, unfit = None, str(error)
        if back is None or unfit is not None:
            kept = fallback.failed(decision.ledger, f"{why}; generation {before.number} does not fit: {unfit}")
            return decision.view.facts.desired, kept
        self._contents.keep(back.content)
        return back.desired, back.pinned(ledger, decision.view.facts.now, why, automatic=True)

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
                await self._react(await self._pause(decision, None if late else deadline))
        finally:
            await self._jobs.abandon()

    async def run(self) -> NoReturn:
        """Run until it is cancelled; servers stay. A look that fails is tried again, and so is a save."""
        try:
            while True:
                try:
                    tick = self._turn()
                except (ReconcilerError, OSError) as error:
                    self._failed(error)
                    await asyncio.sleep(_AGAIN)
                    continue
                try:
                    self._told(tick)
                except (ReconcilerError, OSError) as error:
                    self._failed(error)  # who cannot be told has nothing to do with what was seen
                try:
                    await self._react(await self._pause(tick.decision))
                except Exception as error:  # whatever a hint does, the look at every resync needs none
                    self._failed(error)
                    await asyncio.sleep(_AGAIN)
        finally:
            await self._jobs.abandon()

    async def _react(self, hint: Hint) -> None:
        """To the end of servers, as far as that can be done before the whole look; what fails here is left to that."""
        if hint.anything:
            self._observer.forget()
        with suppress(ReconcilerError, ObservationError, OSError):
            await self._start_again(hint.ended)

    @property
    def _moving(self) -> bool:
        """Whether something is under way that may take days."""
        return any(job.kind in _LONG for job in self._jobs.in_flight)

    async def _pause(self, decision: Decision, deadline: float | None = None) -> Hint:
        """Until a job ends, something may have changed, or something is due; what may have changed."""
        if 0 < self._steady < _STEADY:
            return ANYTHING
        if self._jobs.tasks:
            await asyncio.sleep(0)  # they begin before anything else takes its time
        self._host.state.rest()
        now = self._host.clock.now()
        ends = [suspension.until for suspension in self._ledger.suspensions.values()]
        due = (
            now + (_GLANCE if self._moving else _AGAIN if decision.plan.wants_port else RESYNC),
            decision.plan.look_again,
            *self._look_again,
            deadline,
            *ends,
        )
        passed = asyncio.get_running_loop().time  # the other clock may be set meanwhile
        end = passed() + min(moment for moment in due if moment is not None) - now
        while self._stands(hint := await self._hint(max(0.0, end - passed()))):
            pass
        return hint

    async def _hint(self, timeout: float) -> Hint:
        """The next hint; what jobs have done is no part of it, and after `timeout` seconds it is anything."""
        changed = asyncio.ensure_future(self._host.changes.next())
        hints = (changed, asyncio.ensure_future(self._poked.wait()))
        try:
            woken, _ = await asyncio.wait(
                {*self._jobs.tasks, *hints}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for hint in hints:
                hint.cancel()
        self._poked.clear()
        # A hint that fails would be asked again and again.
        found = changed.result() if changed.done() and not changed.cancelled() else NOTHING
        return found if woken else ANYTHING

    def _stands(self, hint: Hint) -> bool:
        """Whether nothing follows from a hint: the files are as they were, or a job is at what it names, and tells."""
        busy = {job.subject for job in self._jobs.in_flight if job.kind in _ENDS}
        if self._requests:
            return False  # what was said is a reason of its own
        if hint.anything or hint.heard or not {server_subject(label) for label in hint.ended} <= busy:
            return False
        if not hint.files:
            return bool(hint.ended)
        if self._last is None or self._last.view.facts.source is not None:
            return False
        with suppress(ReconcilerError, OSError):
            return self._declared.stands() and self._rules.stand() and self._observer.gateways_stand()
        return False

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
        # What is pending stays so: this ledger need not name it, and then it is not kept.
        found = self._host.state.save(ledger, events, self._contents.pending)
        del self._requests[: len(requests)]
        self._ledger = ledger
        # Who asks for the same as before has moved nothing.
        self._known = replace(self._known, settled=self._known.settled and not events)
        return (*events, *found)
