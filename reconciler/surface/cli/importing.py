"""`import`: an mlxctl registry becomes the text of a desired state, for a person to read and commit."""

import sys
from pathlib import Path

import click

from reconciler.model.problem import ExitCode, ReconcilerError

STDIN = "-"


@click.command("import")
@click.option("--write", type=click.Path(path_type=Path), help="Write into a new file instead of printing.")
@click.argument("file", type=click.Path(allow_dash=True))
def command(write: Path | None, file: str) -> None:
    """Make a desired state from FILE, the registry.json of mlxctl (version 1 or 2); - reads standard input.

    Warnings on standard error name everything that was not carried over. A file that exists is never overwritten.
    """
    from reconciler.desired.importing import import_registry
    from reconciler.surface.render.text import printable

    name = "standard input" if file == STDIN else file
    imported = import_registry(_bytes(file), name)
    for warning in imported.warnings:
        click.echo(printable(warning.located(name)), err=True)
    if write is None:
        click.echo(imported.text.encode(), nl=False)
    elif _written(imported.text.encode(), write):
        click.echo(printable(f"{write} was written; look at it with `reconciler validate {write}`."))
    else:
        click.echo(printable(f"{write} says this already."))


def _bytes(file: str) -> bytes:
    """What is to be imported, and no more of it than is needed to see that it is too large."""
    from reconciler.desired.reader import MAX_BYTES

    if file == STDIN:
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    with open(file, "rb") as source:
        return source.read(MAX_BYTES + 1)


def _written(text: bytes, path: Path) -> bool:
    """Write a new file, whole or not at all; False where there is one with this text.

    Raises ReconcilerError where there is one with another.
    """
    try:
        file = open(path, "xb")  # noqa: SIM115
    except FileExistsError:
        if path.is_file() and path.read_bytes() == text:
            return False
        raise ReconcilerError(
            "file-exists",
            f"{path} exists and says something else, so it was left as it is",
            hint="name another file, and take over from there what is wanted",
            code=ExitCode.BLOCKED,
        ) from None
    except OSError as error:
        raise _unwritten(path, error) from error
    try:
        with file:
            file.write(text)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise _unwritten(path, error) from error
    return True


def _unwritten(path: Path, error: OSError) -> ReconcilerError:
    return ReconcilerError(
        "not-written",
        f"{path} could not be written: {error.strerror}; nothing was changed",
        hint="name a file in a folder that exists and that you may write to",
        code=ExitCode.ENVIRONMENT,
    )
