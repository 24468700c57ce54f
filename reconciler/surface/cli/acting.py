"""Bringing the machine to a settled state: by a loop of this command, or by the one that is running."""

import asyncio
import gc
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from reconciler.engine.declared import Fixed
from reconciler.engine.loop import Ending, Engine
from reconciler.engine.requests import Request
from reconciler.model.desired import Desired
from reconciler.model.event import Event, EventKind
from reconciler.model.problem import ExitCode, ReconcilerError
from reconciler.surface.composition import Composition
from reconciler.surface.control.asking import Connection, connect
from reconciler.surface.render import ending
from reconciler.surface.render.progress import Progress, progress


def settle(composition: Composition, desired: Desired, request: Request, timeout: float) -> ExitCode:
    """Do what was asked and run the loop until nothing is left to do, or for `timeout` seconds, and say how it ended.

    SIGINT and SIGTERM end the loop and never a server. Wants the lock of the state directory to be held.
    """
    gc.enable()  # switched off for short commands, which free nothing
    try:
        with progress(_color()) as shown:
            came = asyncio.run(_settle(composition, desired, request, timeout, shown))
    except KeyboardInterrupt:
        click.echo("interrupted: servers stay as they are, and the next run goes on from there", err=True)
        return ExitCode.INTERRUPTED
    return _conclude(ending.data(came.decision.view, came.decision.plan, settled=came.settled))


async def _settle(
    composition: Composition, desired: Desired, request: Request, timeout: float, shown: Progress
) -> Ending:
    host = composition.host
    composition.ask()
    engine = Engine(host, composition.planner, Fixed(desired), composition.host_file, shown.told)
    engine.request(request.change)
    with terminable():
        try:
            return await engine.settle(host.clock.now() + timeout)
        finally:
            await composition.close()


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM ends the task of this block as SIGINT does, with an exit code of its own."""
    task, loop, terminated = asyncio.current_task(), asyncio.get_running_loop(), False

    def terminate() -> None:
        nonlocal terminated
        terminated = True
        if task is not None:
            task.cancel()

    loop.add_signal_handler(signal.SIGTERM, terminate)
    try:
        yield
    except asyncio.CancelledError:
        if terminated:
            raise SystemExit(ExitCode.TERMINATED) from None
        raise
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


def running(composition: Composition) -> Connection | None:
    """The loop that runs on this state directory; None where none does."""
    return connect(composition.state)


def hand_over(watch: Connection, composition: Composition, request: Request, timeout: float) -> ExitCode:
    """Ask the loop that is running, and follow it until it has settled or the time is up. Raises ReconcilerError."""
    said = {
        "do": request.do,
        "labels": request.labels,
        "reason": request.reason,
        "force": request.force,
        "revision": request.revision,
        "timeout": timeout,
        "file": identity(composition),
    }
    with progress(_color()) as shown:
        for answer in watch.ask(said):
            match answer.get("type"):
                case "event":
                    shown.happened([_event(answer)])
                case "ending":
                    final = answer
                    break
                case _:
                    raise _refusal(answer)
        else:
            raise ReconcilerError(
                "watch-ended",
                "the running watch ended before it had settled; what it had been told it has remembered",
                hint="see: reconciler status",
                code=ExitCode.UNSETTLED,
            )
    return _conclude(final)


def identity(composition: Composition) -> str:
    """What two commands must have in common to speak of the same desired state."""
    return os.path.realpath(Path(composition.file))


def _event(answer: Mapping[str, Any]) -> Event:
    fields = {name: value for name, value in answer.items() if name != "type"}
    return Event(**{**fields, "kind": EventKind(fields["kind"])})


def _refusal(answer: Mapping[str, Any]) -> ReconcilerError:
    return ReconcilerError(
        str(answer.get("reference")),
        str(answer.get("message")),
        hint=str(answer.get("hint")),
        code=ExitCode(int(answer.get("exit_code", ExitCode.INTERNAL))),
    )


def _conclude(outcome: Mapping[str, Any]) -> ExitCode:
    for line in ending.lines(outcome):
        click.echo(line)
    return ExitCode(outcome["exit_code"])


def _color() -> bool:
    context = click.get_current_context(silent=True)
    return context is None or context.find_root().color is not False
