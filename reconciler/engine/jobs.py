"""Actions at work: each job owns its exceptions and ends as one frozen outcome."""

import asyncio
from collections.abc import Iterable
from typing import Final

from reconciler.actions.base import Verb
from reconciler.model.base import noun
from reconciler.model.ledger import Lesson
from reconciler.model.names import Subject
from reconciler.model.plan import InFlight
from reconciler.ports.errors import ActionError
from reconciler.ports.host import Host

_FIRST: Final = "launch"


@noun
class Outcome:
    """How a job ended."""

    action: Verb
    cause: str | None = None
    """Class of the failure; None: it succeeded."""
    error: str = ""
    permanent: bool = False
    cancelled: bool = False
    """Nobody wanted it any more; it neither failed nor succeeded."""
    lesson: Lesson | None = None
    """What it has learned."""


class Jobs:
    """The jobs of one engine, at most one per subject."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._running: dict[Subject, tuple[Verb, float, asyncio.Task[Outcome]]] = {}

    @property
    def in_flight(self) -> tuple[InFlight, ...]:
        """What is under way, for the planner."""
        return tuple(
            InFlight(
                subject=subject,
                kind=action.kind,
                claim=action.claims,
                since=since,
                progress=self._host.supply.progress(subject),
            )
            for subject, (action, since, _) in self._running.items()
        )

    def start(self, actions: Iterable[Verb]) -> None:
        """Begin each action as a job of its own."""
        # Whoever is to serve goes first: a gateway's file is written in the meantime of its start.
        for action in sorted(actions, key=lambda action: action.kind != _FIRST):
            if action.subject in self._running:
                raise AssertionError(f"{action.subject} already has a job")
            task = asyncio.create_task(self._run(action), name=f"{action.kind} {action.subject}")
            self._running[action.subject] = (action, self._host.clock.now(), task)

    async def _run(self, action: Verb) -> Outcome:
        try:
            async with asyncio.timeout(action.deadline):
                lesson = await action.perform(self._host)
        except ActionError as error:
            return Outcome(action=action, cause=error.cause, error=error.message, permanent=error.permanent)
        except TimeoutError:
            seconds = action.deadline
            return Outcome(action=action, cause="timed-out", error=f"no end after {seconds:.0f} s")
        except Exception as error:  # a job owns its exceptions: one bad subject must not stop the others
            return Outcome(action=action, cause="internal-error", error=f"{type(error).__name__}: {error}")
        return Outcome(action=action, lesson=lesson)

    def reap(self) -> list[Outcome]:
        """The outcomes of jobs that have ended since the last call, in the order of their start."""
        done = [subject for subject, (_, _, task) in self._running.items() if task.done()]
        ended = [self._running.pop(subject) for subject in done]
        return [
            Outcome(action=action, cancelled=True) if task.cancelled() else task.result() for action, _, task in ended
        ]

    @property
    def any_done(self) -> bool:
        """Whether one has ended that was not reaped."""
        return any(task.done() for _, _, task in self._running.values())

    def cancel(self, subjects: Iterable[Subject]) -> None:
        """End what nobody wants any more; it stays under way until it has."""
        for subject in subjects:
            self._running[subject][2].cancel()

    @property
    def tasks(self) -> set[asyncio.Task[Outcome]]:
        """For waiting until one ends."""
        return {task for _, _, task in self._running.values()}

    async def abandon(self) -> None:
        """Cancel what is under way; the world shows what came of it."""
        tasks = self.tasks
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._running.clear()
