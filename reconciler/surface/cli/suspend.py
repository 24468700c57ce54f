"""`suspend`: a person says that a server is not to run until a moment, and why."""

from pathlib import Path
from typing import Final

import click

from reconciler.engine.requests import Asked, Request
from reconciler.model.units import DURATION, seconds
from reconciler.surface.cli.labels import carry_out, chosen, login, text
from reconciler.surface.cli.options import file_options, settings
from reconciler.surface.composition import Compose

LONGEST: Final = "30d"
_ENDLESS: Final = "`reconciler stop` is the form without an end"


@click.command("suspend")
@file_options
@click.option("--all", "everything", is_flag=True, help="Every label that is declared or runs.")
@click.option("--force", is_flag=True, help="Also while a gateway may still send it requests, or cannot be read.")
@click.option("--for", "duration", metavar="DURATION", help=f"For how long, such as 2h or 3d; {LONGEST} at most.")
@click.option("--reason", metavar="TEXT", help="Why; shown wherever the label is.")
@click.argument("label", required=False)
@click.pass_obj
def command(
    compose: Compose,
    config: Path | None,
    host_file: Path | None,
    everything: bool,
    force: bool,
    duration: str | None,
    reason: str | None,
    label: str | None,
) -> int:
    """Stop a server for a time, and say why; afterwards it runs again. --for and --reason must be given.

    There is no suspension without an end: `reconciler stop` is that form. `reconciler start` ends it before its time,
    another `suspend` or `stop` replaces it. It outlives restarts. It ends at a moment of the wall clock, so a clock
    that is set forward ends it early, and one that is set back makes it longer.
    """
    limit = _checked(duration)
    if not (reason or "").strip():
        raise click.UsageError("say --reason TEXT: it is shown wherever the label is")
    labels = chosen(compose, config, host_file, label, everything)
    now = compose(settings(config, host_file, ())).host.clock.now()
    request = Request(
        do=Asked.SUSPEND, labels=labels, reason=text(reason or ""), force=force, until=now + limit, by=login()
    )
    return carry_out(compose, config, host_file, request)


def _checked(duration: str | None) -> float:
    """Seconds. Raises click.UsageError."""
    if duration is None:
        raise click.UsageError(f"say --for DURATION, such as 2h: a suspension has an end; {_ENDLESS}")
    if not DURATION.regex.fullmatch(duration) or not 0 < seconds(duration) <= seconds(LONGEST):
        raise click.UsageError(f"--for must be {DURATION.says}, {LONGEST} at most, not {duration!r}; {_ENDLESS}")
    return seconds(duration)
