"""How a run of the loop came out, as data and as lines."""

from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.model.base import plain
from reconciler.model.plan import Plan
from reconciler.model.problem import ExitCode, worst
from reconciler.model.view import View
from reconciler.surface.render.text import count, printable


def data(view: View, plan: Plan, *, settled: bool) -> dict[str, Any]:
    """One object that says what is served, what is blocked, and the exit code."""
    codes = {ExitCode.OK}
    if plan.blocked:
        codes.add(ExitCode.BLOCKED)
    if not settled:
        codes.add(ExitCode.UNSETTLED)
    return {
        "type": "ending",
        "settled": settled,
        "serving": sum(change.verdict == "matches" for change in view.changes),
        "blocked": [plain(blocked) for blocked in plan.blocked],
        "waiting": [] if settled else [plain(waiting) for waiting in plan.waiting],
        "exit_code": int(worst(codes)),
    }


def lines(ending: Mapping[str, Any]) -> Iterator[str]:
    """The same for a person."""
    for entry in ending["blocked"]:
        said = f"blocked {entry['subject']}: {entry['reason']}. {entry['hint']} [{entry['reference']}]"
        yield printable(said)
    for entry in ending["waiting"]:
        yield printable(f"unsettled {entry['subject']}: {entry['reason']} [{entry['reference']}]")
    settled = "settled" if ending["settled"] else "not settled yet"
    subjects = {entry["subject"] for entry in ending["blocked"]}
    yield f"Done: {settled}; {count(int(ending['serving']), 'server')} serving, {len(subjects)} blocked."
