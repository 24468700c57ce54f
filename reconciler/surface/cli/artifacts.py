"""`artifacts`: all weights on this machine, what they are kept for, and what could be freed."""

from pathlib import Path

import click

from reconciler.model.problem import ExitCode, ReconcilerError
from reconciler.model.units import human
from reconciler.planning.holdings import Kept, folders, kept
from reconciler.ports.errors import ObservationError
from reconciler.surface.cli.looking import look, standing
from reconciler.surface.cli.options import FORMATS, file_options, settings
from reconciler.surface.composition import Compose
from reconciler.surface.render.text import printable


@click.command("artifacts")
@file_options
@click.option("-o", "--output", type=click.Choice(FORMATS), default="table", help="How to print it.")
@click.pass_obj
def command(compose: Compose, config: Path | None, host_file: Path | None, output: str) -> int:
    """Show all weights in the model cache, declared or not: size, verdict, what keeps them, what could be freed.

    Nothing is deleted by it, and nothing is read but sizes and headers.
    """
    composition = compose(settings(config, host_file, ()))
    desired, _ = standing(composition)
    host = composition.host
    facts = look(composition, desired)
    decision = composition.planner.decide(facts)
    try:
        holdings = (*host.artifacts.inventory(), *folders(facts))
    except ObservationError as error:
        raise ReconcilerError(
            "observation-unknown",
            f"the model cache could not be listed: {error}",
            hint="mend that",
            code=ExitCode.ENVIRONMENT,
        ) from error
    references = sorted({reference for holding in holdings for reference in holding.references})
    entries = kept(facts, decision.view.targets, holdings, host.artifacts.look(references))
    if output == "table":
        _table(entries)
    else:
        _data(entries, output)
    return ExitCode.OK


def _table(entries: tuple[Kept, ...]) -> None:
    from reconciler.surface.render.table import show

    if not entries:
        click.echo("There are no weights in the model cache.")
        return
    rows = [
        (
            entry.holding.place,
            human(entry.holding.bytes),
            entry.verdict or "-",
            entry.holding.name,
            "; ".join(f"{root.reason} [{root.kind}]" for root in entry.roots) or "nothing",
        )
        for entry in entries
    ]
    show(("WHERE", "SIZE", "VERDICT"), ("WEIGHTS", "KEPT FOR"), rows, right="SIZE")
    for line in _footer(entries):
        click.echo(printable(line))


def _footer(entries: tuple[Kept, ...]) -> list[str]:
    free = [entry.holding for entry in entries if not entry.roots]
    lines = [f"In all {human(sum(entry.holding.bytes for entry in entries))}."]
    if free:
        lines.append(
            f"Could be freed: {human(sum(h.bytes for h in free))} that nothing needs. For a repository: "
            "reconciler offload OWNER/NAME, or hf cache rm model/OWNER/NAME; a conversion is a folder to delete."
        )
    unfinished = sum(entry.holding.unfinished for entry in entries)
    if unfinished:
        lines.append(f"{human(unfinished)} of it are downloads that were cut off.")
    return lines


def _data(entries: tuple[Kept, ...], output: str) -> None:
    import json

    from reconciler.model.base import plain
    from reconciler.model.document import FORMAT_VERSION

    found = [
        {**plain(entry.holding), "verdict": entry.verdict, "roots": plain(entry.roots), "freeable": not entry.roots}
        for entry in entries
    ]
    if output == "ndjson":
        for line in found:
            click.echo(json.dumps({"type": "artifact", **line}, ensure_ascii=False))
        return
    freeable = sum(entry.holding.bytes for entry in entries if not entry.roots)
    document = {"format_version": FORMAT_VERSION, "type": "artifacts", "artifacts": found, "freeable": freeable}
    click.echo(json.dumps(document, ensure_ascii=False, indent=2))
