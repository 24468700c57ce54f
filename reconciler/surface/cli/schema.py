"""`schema`: the JSON Schemas of the documents, for editors and other tools."""

from pathlib import Path

import click

from reconciler.desired.schema import SCHEMAS, render


@click.command("schema")
@click.option("--write", type=click.Path(file_okay=False, path_type=Path), help="Write every schema into a folder.")
@click.argument("name", required=False, type=click.Choice(sorted(SCHEMAS)))
def command(write: Path | None, name: str | None) -> None:
    """Print the JSON Schema of a document, or write all of them.

    Without a name the schema of the desired state is printed.
    """
    if write is None:
        click.echo(render(SCHEMAS[name or "desired-state.v1.json"]()), nl=False)
        return
    write.mkdir(parents=True, exist_ok=True)
    for filename, schema in SCHEMAS.items():
        if name in (None, filename):
            (write / filename).write_text(render(schema()))
            click.echo(str(write / filename))
