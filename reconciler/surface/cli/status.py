"""`status`: what is served, on the two axes of sync and health, without changing anything."""

import sys
import time
from pathlib import Path
from typing import Final, NoReturn

import click

from reconciler.model.problem import ExitCode, ReconcilerError
from reconciler.observing.observe import survey
from reconciler.planning.plan import Decision
from reconciler.planning.status import ServerStatus, status
from reconciler.surface.cli.options import FORMATS, settings, settings_options
from reconciler.surface.composition import Compose, Composition
from reconciler.surface.render.text import printable

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
    entries = status(decision.view, decision.plan)
    if output == "table":
        _table(entries)
    else:
        _data(entries, output)
    return ExitCode.BLOCKED if decision.plan.blocked else ExitCode.OK


def _decision(composition: Composition) -> Decision:
    desired, _ = composition.desired()
    host, planner = composition.host, composition.planner
    return planner.decide(survey(host, desired, composition.host_file, host.state.ledger(), planner.backends))


def _follow(composition: Composition, output: str) -> NoReturn:
    """Print the whole whenever a part of it is new: on a terminal in place, else below one another."""
    before: tuple[ServerStatus, ...] | None = None
    while True:
        try:
            decision = _decision(composition)
        except ReconcilerError as error:
            click.echo(printable(f"{error.message} [{error.reference}]"), err=True)
        else:
            entries = status(decision.view, decision.plan)
            if entries != before and output == "table":
                if sys.stdout.isatty():
                    click.clear()
                _table(entries)
            elif entries != before:
                _data(entries, output)
            before = entries
        time.sleep(_GLANCE)


def _table(entries: tuple[ServerStatus, ...]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not entries:
        click.echo("Nothing is declared, and nothing of ours runs.")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("LABEL", "PORT", "PID", "SYNC", "HEALTH"):
        table.add_column(column, no_wrap=True)
    table.add_column("REASON", overflow="fold")
    for entry in entries:
        cells = (
            entry.label,
            str(entry.port or "-"),
            str(entry.pid or "-"),
            entry.sync,
            entry.health,
            f"{entry.reason} [{entry.reference}]",
        )
        table.add_row(*(Text(printable(cell)) for cell in cells))
    Console(soft_wrap=False).print(table)


def _data(entries: tuple[ServerStatus, ...], output: str) -> None:
    import json

    from reconciler.model.base import plain
    from reconciler.model.document import FORMAT_VERSION

    servers = [plain(entry) for entry in entries]
    if output == "ndjson":
        for server in servers:
            click.echo(json.dumps({"type": "server", **server}, ensure_ascii=False))
        return
    document = {"format_version": FORMAT_VERSION, "type": "status", "servers": servers}
    click.echo(json.dumps(document, ensure_ascii=False, indent=2))
