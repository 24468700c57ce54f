"""`events`: what has happened here, and with -f what happens."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from reconciler.model.event import Event, EventKind
from reconciler.model.problem import ExitCode
from reconciler.model.units import DURATION, count, seconds
from reconciler.ports.host import StateStore
from reconciler.surface.cli.options import FORMATS, file_options, settings
from reconciler.surface.composition import Compose
from reconciler.surface.render import events as render
from reconciler.surface.render.text import printable

_GLANCE: Final = 0.25
"""Seconds between two looks while events are followed."""
_KEPT: Final = 10_000
_LAST: Final = 40
"""How many are shown where nothing else is said."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which events somebody wants to see."""

    subject: str | None
    kinds: frozenset[str]
    """None of them: all kinds."""
    seconds: float | None
    """How far back; None: all that is kept."""

    def of(self, events: Iterable[Event]) -> Iterator[Event]:
        for event in events:
            if self.concerns(event) and (not self.kinds or event.kind in self.kinds):
                yield event

    def concerns(self, event: Event) -> bool:
        meant = (self.subject, f"server/{self.subject}", f"gateway/{self.subject}")
        return self.subject is None or event.subject in meant


def _filtered(command: Callable[..., int]) -> Callable[..., int]:
    """SUBJECT, --since and --kind, handed over as one `wanted`."""

    @click.argument("subject", required=False)
    @click.option(
        "--kind",
        "kinds",
        multiple=True,
        metavar="KIND",
        type=click.Choice([kind.value for kind in EventKind]),
        help=f"Only events of this kind; may be given again: {', '.join(EventKind)}.",
    )
    @click.option("--since", metavar="DURATION", help="Only what happened in that time, such as 2h.")
    @wraps(command)
    def filtered(*args: Any, subject: str | None, kinds: tuple[str, ...], since: str | None, **others: Any) -> int:
        if since is not None and not DURATION.regex.fullmatch(since):
            raise click.UsageError(f"--since must be {DURATION.says}, not {since!r}")
        wanted = _Wanted(subject, frozenset(kinds), None if since is None else seconds(since))
        return command(*args, wanted=wanted, **others)

    return filtered


@click.command("events")
@file_options
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens from now on; Ctrl-C ends it.")
@click.option(
    "-n", "--lines", type=click.IntRange(0), help=f"How many of the last ones; else {_LAST}, or with --since all."
)
@click.option("-o", "--output", type=click.Choice(FORMATS), default="table", help="How to print them.")
@_filtered
@click.pass_obj
def command(
    compose: Compose,
    config: Path | None,
    host_file: Path | None,
    follow: bool,
    lines: int | None,
    output: str,
    wanted: _Wanted,
) -> int:
    """Show what has happened, of one SUBJECT such as server/fast or fast, or of all.

    The last 10,000 events are kept, however many watches wrote them.
    """
    host = compose(settings(config, host_file, ())).host
    begin = 0.0 if wanted.seconds is None else host.clock.now() - wanted.seconds
    history = host.state.events()
    found = [event for event in wanted.of(history) if event.at >= begin]
    usual = _LAST if wanted.seconds is None else len(found)
    limit = usual if lines is None else lines
    shown = found[-limit:] if limit else []
    if output == "json" and not follow:
        from reconciler.model.document import FORMAT_VERSION

        document = {"format_version": FORMAT_VERSION, "type": "events", "events": [render.data(e) for e in shown]}
        click.echo(json.dumps(document, ensure_ascii=False, indent=2))
        return ExitCode.OK
    for event in shown:
        _print(event, output)
    if wanted.subject is not None and not any(wanted.concerns(event) for event in history):
        click.echo(printable(f"nothing that is kept here is about {wanted.subject}"), err=True)
    if follow:
        _follow(host.state, history[-1].number if history else 0, wanted, output)
    return ExitCode.OK


def _follow(state: StateStore, last: int, wanted: _Wanted, output: str) -> NoReturn:
    """What comes after the event of this number, whoever writes it: a watch may end and another one begin."""
    while True:
        news = state.events(last)
        if not news and last and not state.events(last - 1):
            last = 0  # the history begins anew: its file was damaged and set aside
            continue
        if len(news) >= _KEPT and news[0].number > last + 1:
            gone = count(news[0].number - last - 1, "event")
            click.echo(f"{gone} came and went meanwhile: the last {_KEPT:,} are kept", err=True)
        for event in wanted.of(news):
            _print(event, output)
        last = news[-1].number if news else last
        time.sleep(_GLANCE)


def _print(event: Event, output: str) -> None:
    click.echo(render.dated(event) if output == "table" else json.dumps(render.data(event), ensure_ascii=False))
