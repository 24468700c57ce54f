"""`explain`: everything that is known about one subject, on one page."""

import difflib
import json
from datetime import datetime
from pathlib import Path
from typing import Final

import click

from reconciler.model.base import plain
from reconciler.model.document import FORMAT_VERSION
from reconciler.model.event import Event
from reconciler.model.names import Subject
from reconciler.model.problem import ExitCode, ReconcilerError
from reconciler.planning.explain import Explanation, explain, subjects
from reconciler.planning.plan import Decision
from reconciler.surface.cli.looking import look, standing
from reconciler.surface.cli.options import settings, settings_options
from reconciler.surface.composition import Compose
from reconciler.surface.render import events as render
from reconciler.surface.render.text import printable

_EVENTS: Final = 8
_LOG: Final = 12
_WIDE: Final = 48
_NOT_COMPARED: Final = ("weights", "memory", "listener")


@click.command("explain")
@settings_options
@click.option("-o", "--output", type=click.Choice(("text", "json")), default="text", help="How to print it.")
@click.argument("subject")
@click.pass_obj
def command(
    compose: Compose,
    config: Path | None,
    host_file: Path | None,
    overrides: tuple[str, ...],
    output: str,
    subject: str,
) -> int:
    """Show both sides of one SUBJECT, what would be done about it, and what stands against it.

    SUBJECT is a label, a port, or a subject as messages call it: server/fast, gateway/litellm.
    """
    composition = compose(settings(config, host_file, overrides))
    desired, problem = standing(composition)
    decision = composition.planner.decide(look(composition, desired, source=problem))
    events = composition.host.state.events()
    found = explain(decision, _resolved(decision, subject, events))
    history = [event for event in events if event.subject == found.subject][-_EVENTS:]
    log = composition.tail(found.log, found.log_start, _LOG)
    if output == "json":
        document = {"format_version": FORMAT_VERSION, "type": "explanation", **plain(found)}
        document |= {"events": [render.data(event) for event in history], "log_tail": list(log)}
        click.echo(json.dumps(document, ensure_ascii=False, indent=2))
    else:
        _print(found, history, log)
    return ExitCode.BLOCKED if found.blocked else ExitCode.OK


def _resolved(decision: Decision, said: str, events: tuple[Event, ...]) -> Subject:
    """The subject that is meant. Raises ReconcilerError."""
    known = tuple(dict.fromkeys([*subjects(decision), *(event.subject for event in events)]))
    meant = [said, f"server/{said}", f"gateway/{said}"]
    if said.isdecimal():
        meant += [
            change.subject
            for change in decision.view.changes
            if int(said) in (change.target and change.target.port, change.live and change.live.port)
        ]
    found = next((Subject(name) for name in meant if name in known), None)
    if found is not None:
        return found
    short = [name.partition("/")[2] or name for name in known]
    near = difflib.get_close_matches(said, [*known, *short], n=1)
    raise ReconcilerError(
        "unknown-subject",
        f"nothing is known about {said!r}",
        hint=f"did you mean {near[0]}?" if near else f"there is: {', '.join(known) or 'nothing'}",
        code=ExitCode.USAGE,
    )


def _print(found: Explanation, history: list[Event], log: tuple[str, ...]) -> None:
    if found.status is not None:
        entry = found.status
        _say(f"{found.subject}: {entry.sync}, {entry.health}. {entry.reason} [{entry.reference}]")
    else:
        _say(str(found.subject))
    if found.suspension is not None:
        until = (
            "until `reconciler start`" if found.suspension.until is None else f"until {_when(found.suspension.until)}"
        )
        _say(f"  suspended since {_when(found.suspension.since)}, {until}: {found.suspension.reason}")
    if found.proof is not None:
        _say(f"  proved: it last answered a completion on {_when(found.proof.at)}")
    if found.attempt is not None and found.attempt.count:
        attempt = found.attempt
        other = " with another declaration" if found.attempt_differs else ""
        _say(f"  failed {attempt.count} times{other} ({attempt.cause}), last on {_when(attempt.last)}: {attempt.error}")
    _sides(found)
    for name, lines in (
        ("Would be done", found.next),
        ("Waits", [f"{w.reason} [{w.reference}]" for w in found.waiting]),
        ("Blocked", [f"{b.reason}; {b.hint} [{b.reference}]" for b in found.blocked]),
        ("Last events", [render.dated(event) for event in history]),
    ):
        _section(name, lines)
    _section("Command", [" ".join(found.command)] if found.command else [])
    _section(f"End of its log, {found.log}", log)


def _sides(found: Explanation) -> None:
    if not found.sides:
        return
    width = max(len(side.name) for side in found.sides)
    wide = min(_WIDE, max(len(_cut(side.desired)) for side in found.sides))
    _say("")
    _say(f"    {'':{width}}  {'declared':{wide}}  observed")
    for side in found.sides:
        mark = "~" if side.desired != side.observed and side.name not in _NOT_COMPARED else " "
        _say(f"  {mark} {side.name:{width}}  {_cut(side.desired) or '-':{wide}}  {_cut(side.observed) or '-'}")


def _section(name: str, lines: "list[str] | tuple[str, ...]") -> None:
    if lines:
        _say("")
        _say(f"{name}:")
        for line in lines:
            _say(f"  {line}")


def _say(text: str) -> None:
    click.echo(printable(text))


def _cut(text: str) -> str:
    return text if len(text) <= _WIDE else f"{text[: _WIDE - 3]}..."


def _when(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment).astimezone():%Y-%m-%d %H:%M:%S}"
