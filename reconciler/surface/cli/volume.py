"""`volume`: cold storage is known by an identity that is written onto it."""

import click

from reconciler.surface.cli.options import settings
from reconciler.surface.composition import Compose


@click.group("volume")
def command() -> None:
    """Mark a disk as cold storage."""


@command.command("init")
@click.argument("path", type=click.Path())
@click.pass_obj
def init(compose: Compose, path: str) -> int:
    """Write an identity onto the volume that is mounted at PATH, and print what belongs into the host file.

    One that has an identity keeps it. Nothing else on it is touched.
    """
    identity, place, separate = compose(settings(None, None, ())).mark_volume(path)
    click.echo("In the host file:\n")
    click.echo("volumes:")
    click.echo("  cold:")
    click.echo(f"    path: {place}")
    click.echo(f"    id: {identity!r}")
    if not separate:
        click.echo("    separate: false  # it is on the disk of the model cache, so it frees no space there")
    click.echo("offload_to: cold")
    return 0
