"""`validate`: the desired file alone, every problem in one run."""

from pathlib import Path

import click

from reconciler.model.problem import ExitCode
from reconciler.surface.cli.options import FORMATS, settings, settings_options
from reconciler.surface.composition import Compose


@click.command("validate")
@settings_options
@click.option("-o", "--output", type=click.Choice(FORMATS), default="table", help="How to print the result.")
@click.option("--strict", is_flag=True, help="Treat warnings as errors.")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.pass_obj
def command(
    compose: Compose,
    config: Path | None,
    host_file: Path | None,
    overrides: tuple[str, ...],
    output: str,
    strict: bool,
    file: Path | None,
) -> int:
    """Check a desired state without looking at the machine.

    Prints every problem as file:line:column and returns 3 if there is one.
    """
    from reconciler.model.units import count
    from reconciler.surface.render.text import printable

    composition = compose(settings(file or config, host_file, overrides))
    desired, warnings = composition.desired()
    if output == "table":
        for warning in warnings:
            click.echo(printable(warning.located(composition.file)), err=True)
        models = desired.state.models
        served = sum(spec.port != "none" for spec in models.values())
        click.echo(printable(f"{composition.file} is valid: {count(len(models), 'model')}, {served} with a port."))
    else:
        import json

        from reconciler.model.base import plain
        from reconciler.model.document import FORMAT_VERSION

        click.echo(
            json.dumps(
                {
                    "format_version": FORMAT_VERSION,
                    "type": "validation",
                    "file": composition.file,
                    "revision": desired.revision,
                    "valid": True,
                    "problems": [plain(warning) for warning in warnings],
                },
                ensure_ascii=False,
            )
        )
    return ExitCode.INVALID if strict and warnings else ExitCode.OK
