"""`watch`: the loop without an end, following commits, or the desired file as it is edited."""

import asyncio
import gc
import json
import os
import signal
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import click

from reconciler.engine.declared import Followed, Following
from reconciler.engine.loop import Engine, Tick
from reconciler.model.bundle import Bundle
from reconciler.model.desired import Desired
from reconciler.model.problem import ExitCode
from reconciler.model.source import Mode
from reconciler.model.view import Facts
from reconciler.planning.forecast import NotConvergent, forecast
from reconciler.planning.guards import guards
from reconciler.planning.plan import Planner
from reconciler.surface.cli.acting import terminable
from reconciler.surface.cli.looking import observer, recover
from reconciler.surface.cli.options import settings, settings_options, source_options
from reconciler.surface.composition import Compose, Composition
from reconciler.surface.control.listening import Control
from reconciler.surface.page.listening import Page
from reconciler.surface.render import events as render
from reconciler.surface.render.text import printable


@click.command("watch")
@settings_options
@source_options
@click.option("-o", "--output", type=click.Choice(("lines", "ndjson")), default="lines", help="How to print events.")
@click.pass_obj
def command(
    compose: Compose,
    config: Path | None,
    host_file: Path | None,
    overrides: tuple[str, ...],
    output: str,
) -> int:
    """Keep the machine at the desired state, until it is ended; servers stay.

    In a git repository the commits of the checked-out branch are followed, and edits that are not committed are
    ignored; elsewhere, or with --source worktree, an edit is acted on when it is saved. A dead server is started
    again. A revision that is invalid, or that would end more than half of what runs, is not taken: the last good state
    stays in force. `apply`, `stop`, `start`, `retry` and the others are carried out by the watch while it runs.
    """
    composition = compose(settings(config, host_file, overrides))
    gc.enable()  # switched off for short commands, which free nothing
    recover(composition)
    with composition.exclusively("watch"):
        try:
            asyncio.run(_watch(composition, output))
        except KeyboardInterrupt:
            click.echo("the watch has ended; servers stay as they are", err=True)
    return ExitCode.INTERRUPTED


def _tripped(planner: Planner, facts: Facts) -> tuple[str, str] | None:
    """What a person should decide before the desired state of these facts is in force."""
    try:
        foreseen = forecast(planner, facts)
    except NotConvergent as error:
        return "forecast-failed", f"what it would come to could not be foreseen ({error})"
    return next(iter(guards(foreseen)), None)


def _parse(composition: Composition, bundle: Bundle) -> Desired:
    desired, warnings = composition.parse(bundle)
    for warning in warnings:
        with suppress(OSError):
            click.echo(printable(warning.located(composition.file)), err=True)
    return desired


class _Printer:
    """What the watch says on its terminal, for as long as there is one."""

    def __init__(self, output: str) -> None:
        self._output = output
        self._printing = True
        self._failed = ""

    def told(self, tick: Tick) -> None:
        """The events of a tick, one line each."""
        if not self._printing:
            return
        whole = self._output == "ndjson"
        try:
            for event in tick.events if whole else render.spoken(tick.events):
                click.echo(json.dumps(render.data(event), ensure_ascii=False) if whole else render.dated(event))
        except OSError:
            self._printing = False  # who reads is gone, and the watch was not told to go with it
            _hush()

    def failed(self, error: Exception) -> None:
        """A look that failed, once for each reason."""
        if str(error) != self._failed:
            self._failed = str(error)
            with suppress(OSError):
                click.echo(printable(f"the look failed and is tried again: {error}"), err=True)

    def warn(self, text: str) -> None:
        """What does not keep the watch from its work."""
        with suppress(OSError):
            click.echo(printable(f"warning: {text}"), err=True)


def _hush() -> None:
    """Send what is still to be written nowhere, or the interpreter fails at its end, with a code of its own."""
    with suppress(OSError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


async def _watch(composition: Composition, output: str) -> None:
    eyes = observer(composition)
    following = Following(
        source=composition.source,
        mode=composition.mode,
        place=composition.place,
        parse=lambda bundle: _parse(composition, bundle),
        guard=lambda newer, ledger: _tripped(composition.planner, eyes.look(newer, ledger)),
        rules=composition.rules,
        kept=composition.host.state.content,
    )
    declared, printer = Followed(following), _Printer(output)
    # What cannot be followed at all ends the command before it has begun anything.
    first = declared.read(composition.host.clock.now(), composition.host.state.ledger())
    composition.ask()
    composition.follow()

    notifier = composition.notifier()
    page = Page(composition.planner, composition.host, composition.host_file, composition.place, printer.warn)

    def told(tick: Tick) -> None:
        notifier.told(tick.events)
        control.told(tick)
        page.told(tick)
        printer.told(tick)

    def failed(error: Exception) -> None:
        printer.failed(error)
        page.failed(error)

    engine = Engine(
        eyes,
        composition.planner,
        declared,
        told,
        failed,
        rules=lambda: composition.rules,
    )
    control = Control(engine, composition.place, composition.rules)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, engine.request)
    ref = first.record.ref if first.record is not None else ""
    what = f"the commits of {ref} for {composition.file}" if following.mode is Mode.COMMIT else composition.file
    click.echo(f"watching {what}{composition.unfollowed}; Ctrl-C ends the watch and no server", err=True)
    with terminable():
        try:
            async with AsyncExitStack() as stack:
                stack.push_async_callback(notifier.close)
                await stack.enter_async_context(control.listening(composition.state))
                if address := await stack.enter_async_context(page.serving()):
                    click.echo(f"status page: {address}", err=True)
                await engine.run()
        finally:
            await composition.close()
