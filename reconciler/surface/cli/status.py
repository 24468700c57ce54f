"""`status`: what is served, on the two axes of sync and health, without changing anything."""

from pathlib import Path

import click

from reconciler.model.problem import ExitCode
from reconciler.observing.observe import survey
from reconciler.planning.status import ServerStatus, status
from reconciler.surface.cli.options import FORMATS, settings, settings_options
from reconciler.surface.composition import Compose
from reconciler.surface.render.text import printable


@click.command("status")
@settings_options
@click.option("-o", "--output", type=click.Choice(FORMATS), default="table", help="How to print it.")
@click.pass_obj
def command(
    compose: Compose, config: Path | None, host_file: Path | None, overrides: tuple[str, ...], output: str
) -> int:
    """Show what is served, and what stands against the rest."""
    composition = compose(settings(config, host_file, overrides))
    desired, _ = composition.desired()
    host, planner = composition.host, composition.planner
    facts = survey(host, desired, composition.host_file, host.state.ledger(), planner.backends)
    decision = planner.decide(facts)
    entries = status(decision.view, decision.plan)
    if output == "table":
        _table(entries)
    else:
        _data(entries, output)
    return ExitCode.BLOCKED if decision.plan.blocked else ExitCode.OK


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
