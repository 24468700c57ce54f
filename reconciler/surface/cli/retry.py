"""`retry`: forget that a server has failed, and try it again now."""

from pathlib import Path

import click

from reconciler.engine.requests import Asked, Request
from reconciler.surface.cli.labels import carry_out, chosen
from reconciler.surface.cli.options import file_options
from reconciler.surface.composition import Compose


@click.command("retry")
@file_options
@click.option("--all", "everything", is_flag=True, help="Every declared label.")
@click.argument("label", required=False)
@click.pass_obj
def command(compose: Compose, config: Path | None, host_file: Path | None, everything: bool, label: str | None) -> int:
    """Start a held server again, with a clean sheet."""
    labels = chosen(compose, config, host_file, label, everything)
    return carry_out(compose, config, host_file, Request(do=Asked.RETRY, labels=labels))
