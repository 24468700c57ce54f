"""`restore`: a person wants weights back from cold storage."""

from pathlib import Path

import click

from reconciler.engine.requests import Asked
from reconciler.surface.cli.moving import carry_out
from reconciler.surface.cli.options import file_options
from reconciler.surface.composition import Compose


@click.command("restore")
@file_options
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.argument("weights", nargs=-1, required=True)
@click.pass_obj
def command(compose: Compose, config: Path | None, host_file: Path | None, yes: bool, weights: tuple[str, ...]) -> int:
    """Bring base weights back from cold storage: labels, or repositories such as owner/name@revision.

    They are verified when they are here, and stay until `offload` is said; the copy on the volume is kept.
    """
    return carry_out(compose, config, host_file, Asked.RESTORE, weights, yes)
