"""`status`: what is served, on the two axes of sync and health, without changing anything."""

import sys
import time
from pathlib import Path
from typing import Final, NoReturn

import click

from reconciler.model.event import Event, EventKind
from reconciler.model.names import Subject
from reconciler.model.plan import Blocked
from reconciler.model.problem import ExitCode, ReconcilerError
from reconciler.model.units import spoken
from reconciler.planning.plan import Decision
from reconciler.planning.status import ServerStatus, status
from reconciler.surface.cli.looking import look
from reconciler.surface.cli.options import FORMATS, settings, settings_options
from reconciler.surface.composition import Compose, Composition
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
    return ExitCode.BLOCKED if decision.plan.blocked else ExitCode.OK


def _decision(composition: Composition) -> Decision:
    desired, _ = composition.desired()
    return composition.planner.decide(look(composition, desired))


def _follow(composition: Composition, output: str) -> NoReturn:
    """Print the whole whenever a part of it is new: on a terminal in place, else below one another."""
    before: object = None
    while True:
        try:
            decision = _decision(composition)
            found: object = status(decision.view, decision.plan), _others(decision), under_way(composition)
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
    if output != "table":
        _data(entries, _others(decision), under_way(composition), output)
        return
    _table(entries)
    for told in under_way(composition):
        ago = spoken(max(0.0, composition.host.clock.now() - told.at))
        click.echo(printable(f"{told.subject}: {told.text} (as of {ago} ago)"))
    for other in _others(decision):
        click.echo(printable(f"{other.subject}: {other.reason}. {other.hint} [{other.reference}]"))


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


def _data(
    entries: tuple[ServerStatus, ...], others: tuple[Blocked, ...], moving: tuple[Event, ...], output: str
) -> None:
    import json

    from reconciler.model.base import plain
    from reconciler.model.document import FORMAT_VERSION

    servers = [plain(entry) for entry in entries]
    if output == "ndjson":
        for server in servers:
            click.echo(json.dumps({"type": "server", **server}, ensure_ascii=False))
        for other in others:
            click.echo(json.dumps({"type": "blocked", **plain(other)}, ensure_ascii=False))
        for event in moving:
            click.echo(json.dumps({"type": "progress", **plain(event)}, ensure_ascii=False))
        return
    document = {"format_version": FORMAT_VERSION, "type": "status", "servers": servers}
    document |= {"blocked": [plain(other) for other in others], "progress": [plain(event) for event in moving]}
    click.echo(json.dumps(document, ensure_ascii=False, indent=2))
