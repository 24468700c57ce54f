"""`stop`: a person says that a server is not to run; it stays so until `start`."""

from dataclasses import replace
from pathlib import Path

import click

from reconciler.model.ledger import Ledger, Suspension
from reconciler.surface.cli.labels import chosen, remember_and_settle
from reconciler.surface.cli.options import file_options
from reconciler.surface.composition import Compose


@click.command("stop")
@file_options
@click.option("--all", "everything", is_flag=True, help="Every declared label.")
@click.option("--reason", default="stopped by hand", help="Shown wherever the label is.")
@click.argument("label", required=False)
@click.pass_obj
def command(
    compose: Compose, config: Path | None, host_file: Path | None, everything: bool, reason: str, label: str | None
) -> int:
    """Stop a server and keep it stopped, also across restarts, until `start`.

    Its route is withdrawn and drained first. Servers that are not ours are never stopped.
    """
    labels = chosen(compose, config, host_file, label, everything)

    def suspend(ledger: Ledger, names: tuple[str, ...], now: float) -> Ledger:
        new = {name: Suspension(since=now, reason=reason) for name in names}
        return replace(ledger, suspensions={**ledger.suspensions, **new})

    return remember_and_settle(compose, config, host_file, labels, "stop", suspend)
