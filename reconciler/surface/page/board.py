"""What the page shows at this moment: made when somebody asks, once for each look of the loop."""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Final

from reconciler.engine.loop import Tick
from reconciler.model.base import noun, plain
from reconciler.model.event import Event, EventKind
from reconciler.model.names import Subject
from reconciler.model.status_document import StatusDocument
from reconciler.planning.forecast import NotConvergent, forecast
from reconciler.planning.plan import Planner
from reconciler.ports.host import StateStore

from .document import Seen, document
from .html import page
from .metrics import metrics
from .withheld import Withheld, commands

_RECENT: Final = 200
"""How many events are looked through for the last result, and for how far things are."""


@noun
class About:
    """What stays the same while a watch runs."""

    planner: Planner
    state: StateStore
    file: str
    """Absolute path of the desired file."""
    host: str
    """Name of the machine."""
    homes: Sequence[str]
    """Names of the home folder, none of which is shown."""


@noun
class Content:
    """One answer."""

    body: bytes
    tag: str
    """Changes when the bytes do."""


def content(text: str) -> Content:
    """A text as an answer."""
    body = text.encode()
    return Content(body=body, tag=hashlib.sha256(body).hexdigest()[:20])


class Rendering:
    """One look, in every form that somebody asks for."""

    def __init__(self, about: About, tick: Tick, trouble: str) -> None:
        self._about, self._tick, self._trouble = about, tick, trouble

    @property
    def at(self) -> float:
        """When the machine was looked at, seconds since the epoch."""
        return self._tick.decision.view.facts.now

    @cached_property
    def state(self) -> str:
        """A name for what is shown, whenever that was seen."""
        data = plain(replace(self.document, at=0.0))
        return hashlib.sha256(json.dumps(data).encode()).hexdigest()[:20]

    @cached_property
    def page(self) -> Content:
        """As HTML."""
        return content(page(self.document, self.state))

    @cached_property
    def status(self) -> Content:
        """As JSON."""
        return content(json.dumps(plain(self.document), ensure_ascii=False, indent=2) + "\n")

    @cached_property
    def document(self) -> StatusDocument:
        """Everything, with what is planned."""
        try:
            foreseen = forecast(self._about.planner, self._tick.decision.view.facts)
        except NotConvergent:  # a bug, which must not hide everything else that is known
            return self.brief
        return self._made(replace(self._seen, forecast=foreseen))

    @cached_property
    def brief(self) -> StatusDocument:
        """Without what is planned, which costs more than all the rest."""
        return self._made(self._seen)

    @cached_property
    def _seen(self) -> Seen:
        recent = self._about.state.events(last=_RECENT)
        return Seen(
            decision=self._tick.decision,
            file=self._about.file,
            host=self._about.host,
            events=recent,
            in_flight=self._tick.in_flight,
            progress=_progress(recent, {job.subject for job in self._tick.in_flight}),
            steady=self._tick.steady,
            trouble=self._trouble,
        )

    def _made(self, seen: Seen) -> StatusDocument:
        made = document(seen)
        # A person is named to whoever asks on a terminal, and not to everybody on this machine.
        unsigned = replace(made, suspensions=tuple(replace(entry, by="") for entry in made.suspensions))
        return Withheld(self._about.homes, commands(seen.decision.view)).of(unsigned)


def _progress(recent: Sequence[Event], busy: set[Subject]) -> tuple[Event, ...]:
    """How far each of these last said it was."""
    last = {event.subject: event for event in recent if event.kind is EventKind.PROGRESS and event.subject in busy}
    return tuple(last.values())


class Board:
    """What was told last, and who wants to know when that changes."""

    def __init__(self, about: About) -> None:
        self._about = about
        self._tick: Tick | None = None
        self._trouble = ""
        self._made: Rendering | None = None
        self._happened: Counter[str] = Counter()
        self._launched: Counter[str] = Counter()
        self.readers: set[asyncio.Event] = set()
        """Each is set when there may be something new."""

    def told(self, tick: Tick) -> None:
        """One turn of the loop; nothing is rendered for it."""
        self._tick, self._trouble, self._made = tick, "", None
        for event in tick.events:
            self._happened[str(event.kind)] += 1
            if event.kind is EventKind.STARTED and event.action == "launch":
                self._launched[event.subject.partition("/")[2]] += 1
        self.wake()

    def failed(self, error: Exception) -> None:
        """A look that failed: the last one stays, and says so."""
        self._trouble, self._made = str(error), None
        self.wake()

    def wake(self) -> None:
        """Let everybody look who wants to know."""
        for reader in self.readers:
            reader.set()

    @property
    def now(self) -> Rendering | None:
        """The last look; None before the first one has ended."""
        if self._made is None and self._tick is not None:
            self._made = Rendering(self._about, self._tick, self._trouble)
        return self._made

    def metrics(self, rendering: Rendering) -> Content:
        """A look, and what was counted since the beginning, for Prometheus."""
        return content(metrics(rendering.brief, self._happened, self._launched))
