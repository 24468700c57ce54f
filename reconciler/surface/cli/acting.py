"""Bringing the machine to a settled state from the command line, with a line for everything that happens."""

import asyncio
import gc
import signal

import click

from reconciler.engine.jobs import Outcome
from reconciler.engine.loop import Ending, Engine
from reconciler.model.desired import Desired
from reconciler.model.names import Subject
from reconciler.model.plan import Action
from reconciler.model.problem import ExitCode, worst
from reconciler.planning.plan import Decision
from reconciler.surface.composition import Composition
from reconciler.surface.render.text import count, printable

DEFAULT_TIMEOUT = "30m"


def settle(composition: Composition, desired: Desired, timeout: float) -> ExitCode:
    """Run the loop until nothing is left to do, or for `timeout` seconds, and say how it ended.

    SIGINT and SIGTERM end the loop and never a server.
    """
    gc.enable()  # switched off for short commands, which free nothing
    return _conclude(asyncio.run(_settle(composition, desired, timeout)))


async def _settle(composition: Composition, desired: Desired, timeout: float) -> Ending:
    host = composition.host
    composition.ask()
    progress = Progress()
    engine = Engine(
        host, composition.planner, lambda: desired, composition.host_file, watch=progress.decided, ended=progress.ended
    )
    task = asyncio.current_task()
    terminated = False

    def terminate() -> None:
        nonlocal terminated
        terminated = True
        if task is not None:
            task.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
    try:
        return await engine.settle(host.clock.now() + timeout)
    except asyncio.CancelledError:
        if terminated:
            raise SystemExit(ExitCode.TERMINATED) from None
        raise
    finally:
        await composition.close()


class Progress:
    """Plain lines, one per thing that happens."""

    def __init__(self) -> None:
        self._waiting: set[tuple[Subject, str]] = set()

    def decided(self, decision: Decision) -> None:
        """Say what begins, and what is waited for when that is new."""
        for action in decision.plan.actions:
            click.echo(printable(f"{action.kind} {action.subject}: {_about(action)}"))
        waiting = {(w.subject, w.reason) for w in decision.plan.waiting if w.reference != "in-progress"}
        for subject, reason in sorted(waiting - self._waiting):
            click.echo(printable(f"wait {subject}: {reason}"))
        self._waiting = waiting

    def ended(self, outcome: Outcome) -> None:
        """Say what failed; what succeeded shows in what is done next."""
        action = outcome.action
        if outcome.cause is not None:
            click.echo(printable(f"failed {action.kind} {action.subject}: {outcome.error} [{outcome.cause}]"), err=True)


def _about(action: Action) -> str:
    port = action.claims.port
    return action.reason if port is None else f"port {port}, {action.reason}"


def _conclude(ending: Ending) -> ExitCode:
    plan = ending.decision.plan
    codes = {ExitCode.OK}
    if plan.blocked:
        codes.add(ExitCode.BLOCKED)
    if not ending.settled:
        codes.add(ExitCode.UNSETTLED)
    for blocked in plan.blocked:
        click.echo(printable(f"blocked {blocked.subject}: {blocked.reason}. {blocked.hint} [{blocked.reference}]"))
    serving = sum(change.verdict == "matches" for change in ending.decision.view.changes)
    said = "settled" if ending.settled else "not settled before the deadline"
    click.echo(f"Done: {said}; {count(serving, 'server')} serving, {len({b.subject for b in plan.blocked})} blocked.")
    return worst(codes)
