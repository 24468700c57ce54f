"""`logs`: what a server has written, escaped for a terminal."""

import os
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

import click

from reconciler.model.problem import ExitCode, ReconcilerError
from reconciler.surface.cli.options import file_options, settings
from reconciler.surface.composition import Compose
from reconciler.surface.render.text import printable

_GLANCE: Final = 0.25
"""Seconds between two looks at a log that is followed."""


@click.command("logs")
@file_options
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on; Ctrl-C ends it.")
@click.option("-n", "--lines", default=40, show_default=True, type=click.IntRange(0), help="How many lines of the end.")
@click.argument("label")
@click.pass_obj
def command(compose: Compose, config: Path | None, host_file: Path | None, follow: bool, lines: int, label: str) -> int:
    """Show the end of the log of a server."""
    path = compose(settings(config, host_file, ())).log(label)
    try:
        with path.open(encoding="utf-8", errors="replace") as log:
            for line in _last(path, log, lines):
                click.echo(printable(line.rstrip("\n")))
            if follow:
                _follow(log)
    except FileNotFoundError as error:
        raise ReconcilerError(
            "no-log",
            f"there is no log of {label!r}: it was never started here",
            hint="see: reconciler status",
            code=ExitCode.USAGE,
        ) from error
    return ExitCode.OK


def _last(path: Path, log: IO[str], lines: int) -> deque[str]:
    """The last lines of a log; where it was begun anew a moment ago, also those of its older copy."""
    last, older = deque(log, maxlen=lines), path.with_name(f"{path.name}.1")
    if len(last) < lines:
        with suppress(FileNotFoundError), older.open(encoding="utf-8", errors="replace") as before:
            last = deque((*deque(before, maxlen=lines), *last), maxlen=lines)
    return last


def _follow(log: IO[str]) -> None:
    while True:
        line = log.readline()
        if line:
            click.echo(printable(line.rstrip("\n")))
            continue
        if os.fstat(log.fileno()).st_size < log.tell():
            log.seek(0)  # it was cut, as a rotation by copying does
        time.sleep(_GLANCE)
