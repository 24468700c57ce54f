"""`watch`: the loop without an end, following the desired file as it is edited."""

import asyncio
import gc
import signal
from contextlib import suppress
from pathlib import Path

import click

from reconciler.engine.declared import Followed
from reconciler.engine.loop import Engine, Tick
from reconciler.model.desired import Desired
from reconciler.model.problem import ExitCode, ReconcilerError
from reconciler.planning.forecast import forecast
from reconciler.planning.guards import guards
from reconciler.surface.cli.acting import terminable
from reconciler.surface.cli.looking import look
from reconciler.surface.cli.options import settings, settings_options
from reconciler.surface.composition import Compose, Composition
from reconciler.surface.control.listening import Control
from reconciler.surface.render import events as render
from reconciler.surface.render.text import printable


@click.command("watch")
@settings_options
@click.option("-o", "--output", type=click.Choice(("lines", "ndjson")), default="lines", help="How to print events.")
@click.pass_obj
def command(
    compose: Compose, config: Path | None, host_file: Path | None, overrides: tuple[str, ...], output: str
) -> int:
    """Keep the machine at the desired state, until it is ended; servers stay.

    An edit is acted on when it is saved, a dead server is started again. An edit that is invalid, or that would end
    more than half of what runs, is not taken: the last good state stays in force. `apply`, `stop`, `start` and `retry`
    are carried out by the watch while it runs.
    """
    composition = compose(settings(config, host_file, overrides))
    desired, warnings = composition.desired()
    for warning in warnings:
        click.echo(printable(warning.located(composition.file)), err=True)
    gc.enable()  # switched off for short commands, which free nothing
    with composition.exclusively("watch"):
        if (tripped := _tripped(composition, desired)) is not None:
            raise ReconcilerError(
                tripped[0],
                f"{tripped[1]}; nothing was changed",
                hint="say `reconciler apply` if that is meant, and then watch",
                code=ExitCode.BLOCKED,
            )
        try:
            asyncio.run(_watch(composition, desired, output))
        except KeyboardInterrupt:
            click.echo("the watch has ended; servers stay as they are", err=True)
    return ExitCode.INTERRUPTED


def _tripped(composition: Composition, desired: Desired) -> tuple[str, str] | None:
    """What a person should decide before this revision is in force."""
    return next(iter(guards(forecast(composition.planner, look(composition, desired)))), None)


async def _watch(composition: Composition, desired: Desired, output: str) -> None:
    composition.ask()
    composition.follow()
    declared = Followed(
        desired, read=lambda: composition.desired()[0], guard=lambda newer: _tripped(composition, newer)
    )

    printing = True

    def told(tick: Tick) -> None:
        nonlocal printing
        try:
            if printing:
                _print(tick, output)
        except BrokenPipeError:
            raise
        except OSError:
            printing = False  # the terminal is gone, and the watch was not told to go with it
        control.told(tick)

    said = ""

    def failed(error: Exception) -> None:
        nonlocal said
        if str(error) != said:
            said = str(error)
            with suppress(OSError):
                click.echo(printable(f"the look failed and is tried again: {error}"), err=True)

    engine = Engine(composition.host, composition.planner, declared, composition.host_file, told, failed)
    control = Control(engine, declared, composition.place, composition.rules)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, engine.request)
    click.echo(f"watching {composition.file}; Ctrl-C ends the watch and no server", err=True)
    with terminable():
        try:
            async with control.listening(composition.state):
                await engine.run()
        finally:
            await composition.close()


def _print(tick: Tick, output: str) -> None:
    import json

    for event in tick.events if output == "ndjson" else render.spoken(tick.events):
        click.echo(json.dumps(render.data(event), ensure_ascii=False) if output == "ndjson" else render.dated(event))
