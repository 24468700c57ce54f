"""`trace`: which commit put a server there, with which weights and template, and what of it still holds."""

import json
from datetime import datetime
from pathlib import Path
from typing import Final

import click

from reconciler.model.base import plain
from reconciler.model.document import FORMAT_VERSION
from reconciler.model.observed import Inspection, Present, ServerProcess
from reconciler.model.problem import ExitCode, ReconcilerError
from reconciler.model.source import Mode, shown
from reconciler.planning.plan import Decision
from reconciler.planning.trace import Trace, meant, number, of_process, stranger, stranger_on, trace, traceable
from reconciler.planning.trace_lines import Beside, Line
from reconciler.surface.cli.looking import look, standing
from reconciler.surface.cli.options import settings, settings_options
from reconciler.surface.composition import Compose, Composition
from reconciler.surface.render.text import printable

_LAST_PID: Final = 2**31 - 1
_LAST_PORT: Final = 65_535


@click.command("trace")
@settings_options
@click.option("-o", "--output", type=click.Choice(("table", "json")), default="table", help="How to print it.")
@click.argument("subject", metavar="LABEL|PORT|PID")
@click.pass_obj
def command(
    compose: Compose,
    config: Path | None,
    host_file: Path | None,
    overrides: tuple[str, ...],
    output: str,
    subject: str,
) -> int:
    """Show where a server comes from: process, port, weights, template, routes and commit.

    Every line says whether it matches what is declared, or how it differs. That something differs is an answer and no
    failure. A port or a process of somebody else is named as such.
    """
    composition = compose(settings(config, host_file, overrides))
    desired, problem = standing(composition)
    decision = composition.planner.decide(look(composition, desired, source=problem))
    found = _traced(composition, decision, subject)
    if output == "json":
        document = {"format_version": FORMAT_VERSION, "type": "trace", **plain(found)}
        click.echo(json.dumps(document, ensure_ascii=False, indent=2))
    else:
        _print(found)
    return ExitCode.OK


def _traced(composition: Composition, decision: Decision, said: str) -> Trace:
    """The trace of whatever is meant. Raises ReconcilerError."""
    label, wanted = meant(decision, said), number(said)
    process = _inspected(composition, wanted) if label is None else None
    if process is not None:
        label = of_process(decision, process.session)
    if label is not None:
        return trace(decision, label, _beside(composition, decision, label))
    if 0 < wanted <= _LAST_PORT:
        listener = composition.host.listeners.look([wanted])[wanted]
        if isinstance(listener, Present):
            return stranger_on(decision, listener.value)
    if process is not None:
        return stranger(process)
    raise _unknown(decision, said)


def _unknown(decision: Decision, said: str) -> ReconcilerError:
    import difflib

    known = traceable(decision)
    near = difflib.get_close_matches(said.removeprefix("server/"), known, n=1)
    return ReconcilerError(
        "unknown-subject",
        f"{said!r} is no label, port or process that anything is known about",
        hint=f"did you mean {near[0]}?" if near else f"there is: {', '.join(known) or 'nothing'}",
        code=ExitCode.USAGE,
    )


def _inspected(composition: Composition, pid: int | None) -> Inspection | None:
    """A process as it is now; None where there is none, or where it cannot be looked at."""
    try:
        return composition.inspect(pid) if pid is not None and 0 < pid <= _LAST_PID else None
    except OSError:
        return None


def _beside(composition: Composition, decision: Decision, label: str) -> Beside:
    """What the process says of itself, who listens on its port, and what has been committed since."""
    observed = decision.view.facts.observed
    live = observed.servers.get(label)
    if live is None or not live.live:
        return Beside()
    holder = observed.listener(live.port)
    process = _inspected(composition, live.pid)
    listener = _inspected(composition, holder.value.pid) if isinstance(holder, Present) else None
    newest, behind, reason = _since(composition, live)
    return Beside(process=process, listener=listener, newest=newest, behind=behind, reason=reason)


def _since(composition: Composition, live: ServerProcess) -> tuple[str, int | None, str]:
    """The newest commit, how many since its launch touch what is declared, and why that is not known."""
    try:
        if composition.mode is Mode.WORKTREE:
            return "", None, ""
        source = composition.source
        newest = source.position().revision
        if not live.revision or live.revision.startswith(Mode.WORKTREE):
            return newest, None, "it was not launched from a commit"
        behind = source.behind(live.revision)
    except ReconcilerError as error:
        return "", None, error.message
    reason = f"how {shown(live.revision)} is related to {shown(newest)} is not known here" if behind is None else ""
    return newest, behind, reason


# ------------------------------------------------------------------------------------------------------------- telling


def _print(found: Trace) -> None:
    from reconciler.surface.render.table import show

    _say(f"{found.subject}: {found.answer}")
    if found.since:
        when = datetime.fromtimestamp(found.since).astimezone()
        _say(f"launched on {when:%Y-%m-%d %H:%M:%S}, compared with {shown(found.declared)}")
    if found.lines:
        show(("WHAT",), ("FOUND", "AGREES"), [(line.name, line.found, _agrees(line)) for line in found.lines])
    if found.command:
        _say(f"command: {' '.join(found.command)}")


def _agrees(line: Line) -> str:
    """`matches`, `differs: ...`, `unknown: ...`; empty where there is nothing to compare with."""
    said = (line.agreement or "", line.difference)
    return ": ".join(part for part in said if part)


def _say(text: str) -> None:
    click.echo(printable(text))
