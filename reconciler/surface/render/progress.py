"""Progress: a line for everything that happens, and on a terminal below them what is under way."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import click

from reconciler.engine.loop import Tick
from reconciler.model.event import Event, EventKind
from reconciler.model.names import Subject
from reconciler.surface.render import events as render
from reconciler.surface.render.text import printable

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table


class Progress(Protocol):
    """Who is told what happens."""

    def told(self, tick: Tick) -> None:
        """One turn of the loop."""
        ...

    def happened(self, events: Iterable[Event]) -> None:
        """Events alone, where somebody else turns the loop."""
        ...


class Lines:
    """Plain lines, one per thing that happens; failures go to standard error."""

    def told(self, tick: Tick) -> None:
        """Print what is new."""
        self.happened(tick.events)

    def happened(self, events: Iterable[Event]) -> None:
        """Print each event."""
        for event in _worth_a_line(events):
            click.echo(render.line(event), err=event.kind is EventKind.FAILED)


class _Display:
    """The lines, and below them a table that is drawn again as time passes."""

    def __init__(self, live: "Live") -> None:
        self._live = live
        self._began: dict[Subject, float] = {}

    def told(self, tick: Tick) -> None:
        """Print what is new and draw what is under way."""
        self.happened(tick.events)
        now = tick.decision.view.facts.now
        rows = list(_under_way(tick))
        self._began = {subject: self._began.get(subject, since or now) for subject, _, _, since in rows}
        self._live.update(self._table([(s, what, why, now - self._began[s]) for s, what, why, _ in rows]))

    def happened(self, events: Iterable[Event]) -> None:
        """Print each event above the table."""
        for event in _lasting(events):
            style = "red" if event.kind is EventKind.FAILED else None
            self._live.console.print(render.line(event), style=style, markup=False, highlight=False, soft_wrap=True)

    def _table(self, rows: list[tuple[Subject, str, str, float]]) -> "Table":
        from rich.progress import Progress as Bars
        from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.table import Table

        grid = Table.grid(padding=(0, 1))
        for subject, what, why, seconds in rows:
            columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
            bar = Bars(*columns, console=self._live.console)
            task = bar.add_task(printable(f"{what} {subject}: {why}"), total=None)
            bar.tasks[0].start_time = bar.get_time() - seconds
            bar.update(task)
            grid.add_row(bar)
        return grid


def _worth_a_line(events: Iterable[Event]) -> Iterator[Event]:
    """What is blocked and that all is settled is said at the end, an end shows in what is done next."""
    said_at_the_end = (EventKind.DONE, EventKind.BLOCKED, EventKind.SETTLED, EventKind.REVISION)
    return (event for event in events if event.kind not in said_at_the_end)


def _lasting(events: Iterable[Event]) -> Iterator[Event]:
    """Without what the table below shows anyway."""
    return (event for event in _worth_a_line(events) if event.kind is not EventKind.PROGRESS)


def _under_way(tick: Tick) -> Iterator[tuple[Subject, str, str, float | None]]:
    """Subject, what, why, since when: jobs first, then what is waited for."""
    busy = set()
    for job in tick.in_flight:
        busy.add(job.subject)
        yield job.subject, job.kind, str(job.progress) if job.progress is not None else "under way", job.since
    servers = {change.subject: change.live for change in tick.decision.view.changes}
    for waiting in tick.decision.plan.waiting:
        if waiting.subject not in busy:
            busy.add(waiting.subject)
            live = servers.get(waiting.subject)
            yield waiting.subject, "wait", waiting.reason, live.since if live is not None and live.live else None


@contextmanager
def progress(color: bool) -> Iterator[Progress]:
    """A live display on a terminal that can show one, else plain lines."""
    if not (color and sys.stdout.isatty()):
        yield Lines()
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(), refresh_per_second=8, transient=True) as live:
        yield _Display(live)
