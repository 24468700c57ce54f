"""Bringing the machine to a settled state: by a loop of this command, or by the one that is running."""

import asyncio
import gc
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from reconciler.engine.declared import Declared
from reconciler.engine.loop import Ending, Engine
from reconciler.engine.requests import Asked, Request
from reconciler.model.event import Event, EventKind
from reconciler.model.names import artifact_subject, server_subject
from reconciler.model.problem import ExitCode, ReconcilerError, worst
from reconciler.planning.plan import Planner
from reconciler.surface.cli.looking import observer
from reconciler.surface.composition import Composition
from reconciler.surface.control.asking import connect
from reconciler.surface.render import ending
from reconciler.surface.render.progress import Progress, progress

_MARGIN = 10.0
"""Seconds after its own deadline for which a running loop is still listened to."""


def settle(
    composition: Composition, declared: Declared, request: Request, timeout: float, planner: Planner | None = None
) -> ExitCode:
    """Do what was asked and run the loop until nothing is left to do, or for `timeout` seconds, and say how it ended.

    `declared` is what the machine is brought to; `planner` decides instead of the usual one, where a person has asked
    for a part of what could be done.

    SIGINT and SIGTERM end the loop and never a server. Wants the lock of the state directory to be held.
    """
    gc.enable()  # switched off for short commands, which free nothing
    try:
        with progress(_color()) as shown:
            came = asyncio.run(_settle(composition, declared, request, timeout, shown, planner or composition.planner))
    except KeyboardInterrupt:
        click.echo("interrupted: servers stay as they are, and the next run goes on from there", err=True)
        return ExitCode.INTERRUPTED
    return _conclude(ending.data(came.decision.view, came.decision.plan, settled=came.settled), request)


async def _settle(
    composition: Composition, declared: Declared, request: Request, timeout: float, shown: Progress, planner: Planner
) -> Ending:
    host = composition.host
    composition.ask()
    engine = Engine(observer(composition), planner, declared, shown.told, rules=lambda: composition.rules)
    engine.ask(request)
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


def is_watched(composition: Composition) -> bool:
    """Whether a loop runs on this state directory, which then is the one that acts."""
    watch = connect(composition.state)
    if watch is not None:
        watch.close()
    return watch is not None


def hand_over(composition: Composition, request: Request, timeout: float) -> ExitCode:
    """Ask the loop that is running, and follow it until it has settled or the time is up. Raises ReconcilerError."""
    said = {
        "do": request.do,
        "labels": request.labels,
        "reason": request.reason,
        "force": request.force,
        "until": request.until,
        "by": request.by,
        "revision": request.revision,
        "number": request.number,
        "timeout": timeout,
        "file": composition.place,
        "rules": composition.rules,
    }
    # Only now: whoever connects is expected to speak, and a person may have read the plan for long.
    watch = connect(composition.state, timeout + _MARGIN)
    if watch is None:
        raise ReconcilerError(
            "watch-gone",
            "the watch that was running here has ended; nothing was changed",
            hint="say it again",
            code=ExitCode.UNSETTLED,
        )
    try:
        with watch, progress(_color()) as shown:
            final = _followed(watch.ask(said), shown)
    except KeyboardInterrupt:
        click.echo("interrupted: the running watch goes on with it", err=True)
        return ExitCode.INTERRUPTED
    return _conclude(final, request)


def _followed(answers: Iterator[dict[str, Any]], shown: Progress) -> dict[str, Any]:
    """The last thing that the watch has to say. Raises ReconcilerError."""
    for answer in answers:
        match answer.get("type"):
            case "event":
                shown.happened([_event(answer)])
            case "ending":
                return answer
            case _:
                raise _refusal(answer)
    raise ReconcilerError(
        "watch-ended",
        "the running watch ended before it had settled",
        hint="see: reconciler status",
        code=ExitCode.UNSETTLED,
    )


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


def _conclude(outcome: Mapping[str, Any], request: Request) -> ExitCode:
    """Say how it came out; who asked about some servers is answered for these and the gateways."""
    for line in ending.lines(outcome):
        click.echo(line)
    if not request.labels:
        return ExitCode(outcome["exit_code"])
    moved = request.do in (Asked.OFFLOAD, Asked.RESTORE)
    about = {artifact_subject(label) if moved else server_subject(label) for label in request.labels}
    blocked = [e for e in outcome["blocked"] if e["subject"] in about or e["subject"].startswith("gateway/")]
    codes = {ExitCode.OK if outcome["settled"] else ExitCode.UNSETTLED}
    return worst(codes | ({ExitCode.BLOCKED} if blocked else set()))


def _color() -> bool:
    context = click.get_current_context(silent=True)
    return context is None or context.find_root().color is not False
