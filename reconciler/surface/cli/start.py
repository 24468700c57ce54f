"""`start`: ends what `stop` has said."""

from dataclasses import replace
from pathlib import Path

import click

from reconciler.model.ledger import Ledger
from reconciler.surface.cli.labels import chosen, remember_and_settle
from reconciler.surface.cli.options import file_options
from reconciler.surface.composition import Compose


@click.command("start")
@file_options
@click.option("--all", "everything", is_flag=True, help="Every declared label.")
@click.argument("label", required=False)
@click.pass_obj
def command(compose: Compose, config: Path | None, host_file: Path | None, everything: bool, label: str | None) -> int:
    """Let a server run again that `stop` has stopped."""

    def resume(ledger: Ledger, names: tuple[str, ...], now: float) -> Ledger:
        return replace(ledger, suspensions={n: s for n, s in ledger.suspensions.items() if n not in names})

    labels = chosen(compose, config, host_file, label, everything)
    return remember_and_settle(compose, config, host_file, labels, "start", resume)
