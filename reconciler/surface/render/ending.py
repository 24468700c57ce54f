"""How a run of the loop came out, as data and as lines."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from reconciler.model.base import plain
from reconciler.model.plan import Blocked, Plan
from reconciler.model.problem import ExitCode, worst
from reconciler.model.units import count
from reconciler.model.view import View
from reconciler.surface.render.text import printable

_TRUST: Final = ("history-rewritten", "history-unknown", "commit-unsigned", "commit-untrusted")


def code_of(blocked: Blocked) -> ExitCode:
    """What a command ends with that finds this standing against something."""
    if blocked.reference in _TRUST:
        return ExitCode.TRUST
    invalid = blocked.subject.startswith("source/") and blocked.reference == "invalid-document"
    return ExitCode.INVALID if invalid else ExitCode.BLOCKED


def data(view: View, plan: Plan, *, settled: bool) -> dict[str, Any]:
    """One object that says what is served, what is blocked, and the exit code."""
    codes = {ExitCode.OK, *map(code_of, plan.blocked)}
    if not settled:
        codes.add(ExitCode.UNSETTLED)
    return {
        "type": "ending",
        "settled": settled,
        "serving": sum(server.serves for server in view.facts.observed.servers.values()),
        "blocked": [plain(blocked) for blocked in plan.blocked],
        "waiting": [] if settled else [plain(waiting) for waiting in plan.waiting],
        "exit_code": int(worst(codes)),
    }


def lines(ending: Mapping[str, Any]) -> Iterator[str]:
    """The same for a person."""
    for entry in ending["blocked"]:
        said = f"blocked {entry['subject']}: {entry['reason']}; {entry['hint']} [{entry['reference']}]"
        yield printable(said)
    for entry in ending["waiting"]:
        yield printable(f"unsettled {entry['subject']}: {entry['reason']} [{entry['reference']}]")
    settled = "settled" if ending["settled"] else "not settled yet"
    subjects = {entry["subject"] for entry in ending["blocked"]}
    yield f"Done: {settled}; {count(int(ending['serving']), 'server')} serving, {len(subjects)} blocked."
