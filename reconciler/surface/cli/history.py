"""`history`: what was in force here, what of it was proved, and what can be gone back to."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click

from reconciler.model.base import plain
from reconciler.model.document import FORMAT_VERSION
from reconciler.model.generation import Generation
from reconciler.model.ledger import Ledger
from reconciler.model.problem import ExitCode
from reconciler.model.source import shown
from reconciler.surface.cli.options import file_options, settings
from reconciler.surface.composition import Compose

_SHOWN: Final = 60


@click.command("history")
@file_options
@click.option("-o", "--output", type=click.Choice(("table", "json")), default="table", help="How to print it.")
@click.pass_obj
def command(compose: Compose, config: Path | None, host_file: Path | None, output: str) -> int:
    """Show the generations: every content of the desired state that was in force here, and what of it was proved.

    `reconciler rollback NUMBER` brings one back.
    """
    ledger = compose(settings(config, host_file, ())).host.state.ledger()
    if output == "json":
        entries = [_data(ledger, generation) for generation in _newest_first(ledger)]
        document: dict[str, Any] = {"format_version": FORMAT_VERSION, "type": "history"}
        document |= {"current": ledger.current or None, "pin": plain(ledger.pin), "generations": entries}
        click.echo(json.dumps(document, ensure_ascii=False, indent=2))
    elif not ledger.generations:
        click.echo("Nothing has been in force here yet.")
    else:
        _table(ledger)
    return ExitCode.OK


def state(generation: Generation) -> str:
    """What is known of it, in one word."""
    if generation.failed:
        return "failed"
    if generation.proved_at is not None:
        return "proved"
    return "partial" if generation.servers else "unproved"


def _newest_first(ledger: Ledger) -> list[Generation]:
    """By number: the ledger has them in the order in which they were in force last."""
    return sorted(ledger.generations, key=lambda generation: -generation.number)


def _data(ledger: Ledger, generation: Generation) -> dict[str, Any]:
    return {
        **plain(generation),
        "state": state(generation),
        "partial": generation.partial,
        "missing": list(generation.missing),
        "current": generation.number == ledger.current,
        "pinned": ledger.pin is not None and generation.number == ledger.pin.number,
    }


def _table(ledger: Ledger) -> None:
    from reconciler.surface.render.table import show

    rows = [
        (
            str(generation.number),
            _when(generation.at),
            shown(generation.latest),
            state(generation),
            "; ".join(_notes(ledger, generation)),
        )
        for generation in _newest_first(ledger)
    ]
    show(("NUMBER", "SINCE", "REVISION", "STATE"), ("NOTE",), rows, right="NUMBER")


def _notes(ledger: Ledger, generation: Generation) -> Iterator[str]:
    if generation.number == ledger.current:
        yield "in force"
    if ledger.pin is not None and generation.number == ledger.pin.number:
        yield f"pinned: {_cut(ledger.pin.reason)}"
    if generation.failed:
        yield f"left again: {_cut(generation.failed)}"
    if generation.missing:
        yield f"never proved: {', '.join(generation.missing)}"


def _cut(text: str) -> str:
    """Enough to know what it was; `-o json` has the whole."""
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _when(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment).astimezone():%Y-%m-%d %H:%M}"
