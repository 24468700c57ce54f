"""`offload`: a person says that weights are to be in cold storage."""

from pathlib import Path

import click

from reconciler.engine.requests import Asked
from reconciler.surface.cli.moving import carry_out
from reconciler.surface.cli.options import file_options
from reconciler.surface.composition import Compose


@click.command("offload")
@file_options
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.argument("weights", nargs=-1, required=True)
@click.pass_obj
def command(compose: Compose, config: Path | None, host_file: Path | None, yes: bool, weights: tuple[str, ...]) -> int:
    """Move base weights to cold storage: labels, or repositories such as owner/name or owner/name@revision.

    The volume is `offload_to` of the host file. What serves, is declared to be served, or was proved lately is
    refused. The copy is verified before anything is removed here.
    """
    return carry_out(compose, config, host_file, Asked.OFFLOAD, weights, yes)
