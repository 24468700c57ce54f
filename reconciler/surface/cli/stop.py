"""`stop`: a person says that a server is not to run; it stays so until `start`."""

from pathlib import Path

import click

from reconciler.engine.requests import Asked, Request
from reconciler.surface.cli.labels import carry_out, chosen, login, text
from reconciler.surface.cli.options import file_options
from reconciler.surface.composition import Compose


@click.command("stop")
@file_options
@click.option("--all", "everything", is_flag=True, help="Every label that is declared or runs.")
@click.option("--force", is_flag=True, help="Also while a gateway may still send it requests, or cannot be read.")
@click.option("--reason", default="stopped by hand", help="Shown wherever the label is.")
@click.argument("label", required=False)
@click.pass_obj
def command(
    compose: Compose,
    config: Path | None,
    host_file: Path | None,
    everything: bool,
    force: bool,
    reason: str,
    label: str | None,
) -> int:
    """Stop a server and keep it stopped, also across restarts, until `start`; `suspend` is the form with an end.

    Its route is withdrawn and drained first, or with --force at the same time. Servers that are not ours are never
    stopped.
    """
    labels = chosen(compose, config, host_file, label, everything)
    request = Request(do=Asked.STOP, labels=labels, reason=text(reason), force=force, by=login())
    return carry_out(compose, config, host_file, request)
