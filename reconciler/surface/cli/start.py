"""`start`: ends what `stop` or `suspend` has said."""

from pathlib import Path

import click

from reconciler.engine.requests import Asked, Request
from reconciler.surface.cli.labels import carry_out, chosen
from reconciler.surface.cli.options import file_options
from reconciler.surface.composition import Compose


@click.command("start")
@file_options
@click.option("--all", "everything", is_flag=True, help="Every declared label.")
@click.argument("label", required=False)
@click.pass_obj
def command(compose: Compose, config: Path | None, host_file: Path | None, everything: bool, label: str | None) -> int:
    """Let a server run again that `stop` or `suspend` has stopped."""
    labels = chosen(compose, config, host_file, label, everything)
    return carry_out(compose, config, host_file, Request(do=Asked.START, labels=labels))
