"""`status`: what is served, on the two axes of sync and health, without changing anything."""

import sys
import time
from pathlib import Path
from typing import Final, NoReturn

import click

from reconciler.model.event import Event, EventKind
from reconciler.model.names import Subject
from reconciler.model.plan import Blocked
from reconciler.model.problem import ExitCode, ReconcilerError, worst
from reconciler.model.status_document import StatusDocument
from reconciler.model.units import spoken
from reconciler.planning.plan import Decision
from reconciler.planning.status import ServerStatus, status
from reconciler.surface.cli.looking import look, other_rules, standing
from reconciler.surface.cli.options import FORMATS, settings, settings_options
from reconciler.surface.composition import Compose, Composition
from reconciler.surface.page.document import Seen, document
from reconciler.surface.page.whose import machine
from reconciler.surface.render import head as render
from reconciler.surface.render.ending import code_of
from reconciler.surface.render.text import printable

_RECENT: Final = 1_000
"""How many events are looked through for what is under way."""
_GLANCE: Final = 0.5
"""Seconds between two looks while the status is watched."""


@click.command("status")
@settings_options
@click.option("-o", "--output", type=click.Choice(FORMATS), default="table", help="How to print it.")
@click.option("-w", "--watch", is_flag=True, help="Show it again whenever it changes; Ctrl-C ends it.")
@click.pass_obj
def command(
    compose: Compose, config: Path | None, host_file: Path | None, overrides: tuple[str, ...], output: str, watch: bool
) -> int:
    """Show what is served, and what stands against the rest."""
    composition = compose(settings(config, host_file, overrides))
    if watch:
        _follow(composition, output)
    decision = _decision(composition)
    _print(composition, decision, output)
    # What the loop has left by itself is for a person to decide, although everything serves.
    pin = decision.ledger.pin
    left = {ExitCode.BLOCKED} if pin is not None and pin.automatic else set[ExitCode]()
    pending = set[ExitCode]() if decision.plan.settled else {ExitCode.UNSETTLED}
    return worst({ExitCode.OK, *map(code_of, decision.plan.blocked), *left, *pending})


def _decision(composition: Composition) -> Decision:
    desired, problem = standing(composition)
    return composition.planner.decide(look(composition, desired, source=problem))


def _follow(composition: Composition, output: str) -> NoReturn:
    """Print the whole whenever a part of it is new: on a terminal in place, else below one another."""
    before: object = None
    while True:
        try:
            decision = _decision(composition)
            ledger = decision.ledger
            found: object = (
                status(decision.view, decision.plan),
                _others(decision),
                under_way(composition),
                (ledger.suspensions, ledger.pin, other_rules(composition)),
            )
        except ReconcilerError as error:
            found = f"{error.message} [{error.reference}]"
        if found != before and isinstance(found, str):
            click.echo(printable(found), err=True)
        elif found != before:
            if output == "table" and sys.stdout.isatty():
                click.clear()
            _print(composition, decision, output)
        before = found
        time.sleep(_GLANCE)


def under_way(composition: Composition) -> tuple[Event, ...]:
    """How far the long actions of a running loop are, as it last said; none where no loop runs."""
    last: dict[Subject, Event] = {}
    for event in composition.host.state.events(last=_RECENT):
        if event.kind is EventKind.PROGRESS:
            last[event.subject] = event
        elif event.kind in (EventKind.DONE, EventKind.FAILED, EventKind.STARTED):
            last.pop(event.subject, None)
    return tuple(last.values()) if last and composition.busy() else ()


def _print(composition: Composition, decision: Decision, output: str) -> None:
    entries = status(decision.view, decision.plan)
    if said := other_rules(composition):
        click.echo(printable(said), err=output != "table")
    if output == "json":
        _document(composition, decision)
        return
    head = document(Seen(decision=decision, file=composition.file, host=machine(composition.host_file)))
    if output == "ndjson":
        _lines(head, entries, _others(decision), under_way(composition))
        return
    for line in render.lines(head):
        click.echo(line)
    click.echo(render.following(head, watched=composition.busy()))
    _table(entries)
    for told in under_way(composition):
        ago = spoken(max(0.0, composition.host.clock.now() - told.at))
        click.echo(printable(f"{told.subject}: {told.text} (as of {ago} ago)"))
    for action in decision.plan.actions:
        if action.subject.startswith("gateway/"):
            click.echo(printable(f"{action.subject}: OutOfSync, {action.reason}"))
    for other in _others(decision):
        if head.source.paused and other.subject.startswith("source/"):
            continue  # it stands above
        click.echo(printable(f"{other.subject}: {other.reason}; {other.hint} [{other.reference}]"))


def _others(decision: Decision) -> tuple[Blocked, ...]:
    """What is blocked and is no server: a gateway, the source."""
    servers = {change.subject for change in decision.view.changes}
    return tuple(blocked for blocked in decision.plan.blocked if blocked.subject not in servers)


def _table(entries: tuple[ServerStatus, ...]) -> None:
    from reconciler.surface.render.table import show

    if not entries:
        click.echo("Nothing is declared, and nothing of ours runs.")
        return
    rows = [
        (
            entry.label,
            str(entry.port or "-"),
            str(entry.pid or "-"),
            entry.sync,
            entry.health,
            f"{entry.reason} [{entry.reference}]",
        )
        for entry in entries
    ]
    show(("LABEL", "PORT", "PID", "SYNC", "HEALTH"), ("REASON",), rows)


def _lines(
    head: StatusDocument, entries: tuple[ServerStatus, ...], others: tuple[Blocked, ...], moving: tuple[Event, ...]
) -> None:
    import json

    from reconciler.model.base import plain

    for line in render.data(head):
        click.echo(json.dumps(line, ensure_ascii=False))
    for kind, found in (("server", entries), ("blocked", others), ("progress", moving)):
        for entry in found:
            click.echo(json.dumps({"type": kind, **plain(entry)}, ensure_ascii=False))


def _document(composition: Composition, decision: Decision) -> None:
    """The document that the page of a watch shows, but for what only a running loop knows."""
    import json

    from reconciler.model.base import plain
    from reconciler.planning.forecast import forecast

    seen = Seen(
        decision=decision,
        file=composition.file,
        host=machine(composition.host_file),
        events=composition.host.state.events(last=_RECENT),
        forecast=forecast(composition.planner, decision.view.facts),
        progress=under_way(composition),
    )
    click.echo(json.dumps(plain(document(seen)), ensure_ascii=False, indent=2))
