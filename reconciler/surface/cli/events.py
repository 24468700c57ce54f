"""`events`: what has happened here, and with -f what happens."""

import json
import time
from pathlib import Path
from typing import Final

import click

from reconciler.model.event import Event
from reconciler.model.problem import ExitCode
from reconciler.surface.cli.options import FORMATS, file_options, settings
from reconciler.surface.composition import Compose
from reconciler.surface.render import events as render

_GLANCE: Final = 0.25
"""Seconds between two looks while events are followed."""


@click.command("events")
@file_options
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens from now on; Ctrl-C ends it.")
@click.option("-n", "--lines", default=40, show_default=True, type=click.IntRange(0), help="How many of the last ones.")
@click.option("-o", "--output", type=click.Choice(FORMATS), default="table", help="How to print them.")
@click.argument("subject", required=False)
@click.pass_obj
def command(
    compose: Compose,
    config: Path | None,
    host_file: Path | None,
    follow: bool,
    lines: int,
    output: str,
    subject: str | None,
) -> int:
    """Show what has happened, of one SUBJECT such as server/fast or fast, or of all."""
    state = compose(settings(config, host_file, ())).host.state
    found = [event for event in state.events() if _about(event, subject)]
    shown = found[-lines:] if lines else []
    if output == "json" and not follow:
        from reconciler.model.document import FORMAT_VERSION

        document = {"format_version": FORMAT_VERSION, "type": "events", "events": [render.data(e) for e in shown]}
        click.echo(json.dumps(document, ensure_ascii=False, indent=2))
        return ExitCode.OK
    for event in shown:
        _print(event, output)
    last = found[-1].number if found else 0
    while follow:
        for event in state.events(last):
            last = event.number
            if _about(event, subject):
                _print(event, output)
        time.sleep(_GLANCE)
    return ExitCode.OK


def _about(event: Event, subject: str | None) -> bool:
    return subject is None or event.subject in (subject, f"server/{subject}", f"gateway/{subject}")


def _print(event: Event, output: str) -> None:
    click.echo(render.dated(event) if output == "table" else json.dumps(render.data(event), ensure_ascii=False))
