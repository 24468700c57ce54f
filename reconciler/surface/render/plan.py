"""A forecast as a document, as text and as a stream of JSON lines; the exit code comes from the same object."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

from reconciler import __version__
from reconciler.model.base import plain
from reconciler.model.change import Change
from reconciler.model.document import (
    FORMAT_VERSION,
    ActionEntry,
    DiskEntry,
    MemoryEntry,
    ModelMemoryEntry,
    PlanDocument,
    ReasonEntry,
    SubjectEntry,
    WaitEntry,
)
from reconciler.model.observed import Present
from reconciler.model.plan import Action, Waiting
from reconciler.model.problem import ExitCode, worst
from reconciler.model.units import count, human
from reconciler.model.view import View
from reconciler.planning import memory
from reconciler.planning.fingerprint import fingerprint
from reconciler.planning.forecast import Forecast, memory_used
from reconciler.planning.guards import guards
from reconciler.planning.status import status

from .text import printable

_VERB: Final = 7
"""Letters that the name of a verb has room for; only `preflight` is longer."""


def document(forecast: Forecast, file: str, *, facts: bool = False) -> PlanDocument:
    """Everything that the forecast says, as data; `facts` adds the digests that tell whether it has become stale."""
    first = forecast.first
    budget = memory.budget(first.facts.host, first.facts.observed.host)
    statuses = {entry.label: entry for entry in status(first, forecast.steps[0].plan)}
    changes = {change.label: change for change in first.changes}
    steps = list(enumerate((s for s in forecast.steps if s.plan.actions or s.due is not None), 1))
    actions = tuple(_action(number, action, changes) for number, step in steps for action in step.plan.actions)
    waits = tuple(_wait(number, step.due, step.facts.now) for number, step in steps if step.due is not None)
    blocked = tuple(_reason(b.subject, b.reference, b.reason, b.hint) for b in forecast.end.blocked)
    acted = {action.subject for action in actions}
    still = [w for w in forecast.steps[0].plan.waiting if w.subject not in acted]
    said = {w.subject for w in still}
    later = [w for w in dict.fromkeys(forecast.end.waiting) if w.subject not in said]
    waiting = tuple(_reason(w.subject, w.reference, w.reason) for w in (*dict.fromkeys(still), *later))
    subjects = tuple(
        SubjectEntry(
            subject=change.subject,
            verdict=change.verdict,
            reference=change.reference,
            reason=change.reason,
            sync=statuses[change.label].sync,
            health=statuses[change.label].health,
            port=statuses[change.label].port,
            memory_bytes=change.target.need.total if change.target is not None and change.target.need else None,
        )
        for change in first.changes
    )
    return PlanDocument(
        tool_version=__version__,
        file=file,
        revision=first.facts.desired.revision,
        exit_code=exit_code(forecast),
        actions=actions,
        waits=waits,
        waiting=waiting,
        blocked=blocked,
        guards=tuple(_reason("source", reference, reason) for reference, reason in guards(forecast)),
        subjects=subjects,
        memory=MemoryEntry(
            before=memory_used(first.facts),
            peak=forecast.peak,
            after=memory_used(forecast.final.facts),
            budget=budget.value if isinstance(budget, Present) else None,
            models=tuple(_model_memory(forecast.final)),
        ),
        disk=_disk(forecast),
        counts=_counts(actions, waiting, blocked, subjects),
        facts=fingerprint(first.facts) if facts else {},
    )


def _model_memory(view: View) -> Iterator[ModelMemoryEntry]:
    """Every server that is there in the end, the largest first."""
    needs = [
        (change.subject, change.target.need)
        for change in view.changes
        if change.target is not None and change.target.need is not None and change.live is not None and change.live.live
    ]
    for subject, need in sorted(needs, key=lambda entry: -entry[1].total):
        yield ModelMemoryEntry(
            subject=subject,
            total=need.total,
            weights=need.weights,
            kv_cache=need.kv_cache,
            overhead=need.overhead,
            tokens=need.tokens,
            sequences=need.sequences,
            exact=need.exact,
        )


def _disk(forecast: Forecast) -> DiskEntry:
    sums: Counter[str] = Counter()
    for action in forecast.actions:
        sums[action.kind] += action.claims.disk or (action.bytes or 0 if action.kind == "offload" else 0)
    free = forecast.first.facts.observed.storage.free
    return DiskEntry(
        download=sums["ensure"],
        convert=sums["convert"],
        restore=sums["restore"],
        offload=sums["offload"],
        free=free.value if isinstance(free, Present) else None,
    )


def exit_code(forecast: Forecast) -> ExitCode:
    """What `plan --detailed-exitcode` returns; without the option, `CHANGES` is reported as `OK`."""
    codes = {ExitCode.OK}
    if forecast.actions:
        codes.add(ExitCode.CHANGES)
    if forecast.end.blocked:
        codes.add(ExitCode.BLOCKED)
    return worst(codes)


def _action(step: int, action: Action, changes: dict[str, Change]) -> ActionEntry:
    change = changes.get(action.subject.partition("/")[2]) if action.subject.startswith("server/") else None
    server = action.server
    return ActionEntry(
        id=f"{step}/{action.kind}/{action.subject}",
        step=step,
        kind=action.kind,
        subject=action.subject,
        symbol=action.symbol,
        destructive=action.destructive,
        reference=action.reference,
        reason=action.reason,
        because_fields=change.because if change is not None else (),
        change_class=change.cost if change is not None else None,
        port=server.port if server is not None else None,
        memory_bytes=server.memory if server is not None else None,
        bytes=action.bytes,
        argv=server.argv if server is not None else (),
        provenance=change.target.provenance if change is not None and change.target is not None else None,
    )


def _wait(step: int, due: Waiting, now: float) -> WaitEntry:
    return WaitEntry(
        step=step,
        subject=due.subject,
        reference=due.reference,
        reason=due.reason,
        seconds=round((due.until or now) - now, 3),
    )


def _reason(subject: str, reference: str, reason: str, hint: str = "") -> ReasonEntry:
    return ReasonEntry(subject=subject, reference=reference, reason=reason, hint=hint)


def _counts(
    actions: tuple[ActionEntry, ...],
    waiting: tuple[ReasonEntry, ...],
    blocked: tuple[ReasonEntry, ...],
    subjects: tuple[SubjectEntry, ...],
) -> dict[str, int]:
    counts = dict(Counter(action.kind for action in actions))
    counts["in_sync"] = sum(entry.sync == "Synced" for entry in subjects)
    counts["waiting"] = len({entry.subject for entry in waiting})
    counts["blocked"] = len({entry.subject for entry in blocked})
    return counts


def as_lines(plan: PlanDocument) -> Iterator[dict[str, Any]]:
    """The document as a stream: one line per thing that happens, then a summary."""
    yield {
        "type": "version",
        "format_version": FORMAT_VERSION,
        "tool_version": plan.tool_version,
        "file": plan.file,
        "revision": plan.revision,
    }
    groups: tuple[tuple[str, tuple[object, ...]], ...] = (
        ("subject", plan.subjects),
        ("planned_action", plan.actions),
        ("wait", plan.waits),
        ("waiting", plan.waiting),
        ("blocked", plan.blocked),
        ("guard", plan.guards),
    )
    for kind, entries in groups:
        yield from ({"type": kind, **plain(entry)} for entry in entries)
    yield {
        "type": "plan_summary",
        "counts": plain(plan.counts),
        "memory": plain(plan.memory),
        "disk": plain(plan.disk),
        "exit_code": plan.exit_code,
    }


def as_text(plan: PlanDocument, *, full: bool = False, acting: bool = False) -> str:
    """The plan for people; readable without colour, the order of the lines is the order of the actions.

    `acting`: it is carried out next, so that is not recommended.
    """
    lines = [f"Plan for {plan.file} at {plan.revision}", ""]
    lines += _step_lines(plan, full)
    if not plan.actions:
        lines.append("  Nothing can be done now." if plan.blocked or plan.waiting else "  Nothing to do.")
    for title, entries in (("Waiting", plan.waiting), ("Blocked", plan.blocked)):
        if entries:
            lines += ["", f"{title}:", *_reason_lines(entries)]
    if plan.guards:
        lines += ["", "Unattended, this would wait for a person:"]
        lines += [f"  ! {guard.reason} [{guard.reference}]" for guard in plan.guards]
    kept = [s for s in plan.subjects if s.verdict in ("extraneous", "suspended", "asleep") and _quiet(s, plan)]
    if kept:
        lines += ["", "Left as it is:", *(f"    {s.subject}: {s.reason} [{s.reference}]" for s in kept)]
    lines += ["", *_summary(plan)]
    if not (acting and plan.actions):
        lines.append(f"Next: {_next(plan)}")
    return "\n".join(printable(line) for line in lines) + "\n"


def _quiet(subject: SubjectEntry, plan: PlanDocument) -> bool:
    said = {a.subject for a in plan.actions} | {entry.subject for entry in (*plan.blocked, *plan.waiting)}
    return subject.subject not in said


def _step_lines(plan: PlanDocument, full: bool) -> Iterator[str]:
    steps: list[ActionEntry | WaitEntry] = sorted((*plan.actions, *plan.waits), key=lambda entry: entry.step)
    width = max((len(entry.subject) for entry in steps), default=0)
    digits = len(str(steps[-1].step)) if steps else 1
    verb = max([_VERB, *(len(action.kind) for action in plan.actions)])
    for action in steps:
        if isinstance(action, WaitEntry):
            head = f"  {action.step:>{digits}}  . {'wait':<{verb}} {action.subject:<{width}}"
            yield f"{head}  {action.seconds:.0f} s: {action.reason}"
            continue
        details = [f"port {action.port}"] if action.port is not None else []
        if action.kind == "launch" and action.memory_bytes is not None:
            details.append(human(action.memory_bytes))
        head = f"  {action.step:>{digits}}  {action.symbol} {action.kind:<{verb}} {action.subject:<{width}}"
        tail = f"{', '.join(details)}: {action.reason}" if details else action.reason
        yield f"{head}  {tail}"
        indent = " " * (digits + 4)
        if action.kind == "launch" and action.provenance is not None:
            yield f"{indent}source from {action.provenance}"
        if full and action.argv:
            yield f"{indent}$ {' '.join(_quoted(word) for word in action.argv)}"


def _quoted(word: str) -> str:
    safe = word and all(c.isalnum() or c in "-_=./:@%+," for c in word)
    return word if safe else "'" + word.replace("'", "'\\''") + "'"


def _reason_lines(entries: Iterable[ReasonEntry]) -> Iterator[str]:
    for entry in entries:
        yield f"  ! {entry.subject}: {entry.reason} [{entry.reference}]"
        if entry.hint:
            yield f"      {entry.hint}"


def _summary(plan: PlanDocument) -> Iterator[str]:
    counts = plan.counts
    todo = [f"{counts[kind]} to {kind}" for kind in dict.fromkeys(action.kind for action in plan.actions)]
    rest = [f"{counts['in_sync']} in sync", f"{counts['waiting']} waiting", f"{counts['blocked']} blocked"]
    yield (
        f"{count(len(plan.actions), 'action')}: {', '.join(todo)}; {', '.join(rest)}."
        if todo
        else (f"No actions; {', '.join(rest)}.")
    )
    destructive = [
        f"{a.kind} {a.subject}" + (f" ({a.reason})" if a.kind == "offload" else "")
        for a in plan.actions
        if a.destructive
    ]
    if destructive:
        yield f"Destructive: {', '.join(destructive)}."
    memory_ = plan.memory
    of = f"of {human(memory_.budget)}" if memory_.budget is not None else "and the budget is not known"
    yield f"Memory: peak {human(memory_.peak)} {of}, after {human(memory_.after)}."
    yield from _memory_lines(memory_.models)
    parts = [("download", "to download"), ("convert", "to convert"), ("restore", "to bring back")]
    disk = [f"{human(size)} {what}" for name, what in parts if (size := getattr(plan.disk, name))]
    if disk:
        free = f", {human(plan.disk.free)} free" if plan.disk.free is not None else ""
        yield f"Disk: {', '.join(disk)}{free}."


def _memory_lines(models: tuple[ModelMemoryEntry, ...]) -> Iterator[str]:
    """What each server takes, and of what that consists."""
    width = max((len(entry.subject) for entry in models), default=0)
    for entry in models:
        cache = f"cache {'' if entry.exact else 'at most '}{human(entry.kv_cache)}"
        counted = f"{entry.sequences} x {entry.tokens} tokens"
        yield (
            f"  {entry.subject:<{width}}  {human(entry.total):>9}: weights {human(entry.weights)}, "
            f"{cache} ({counted}), other {human(entry.overhead)}"
        )


def _next(plan: PlanDocument) -> str:
    if plan.blocked:
        return "do what the hints say, then plan again."
    if any(action.reference == "hub-not-asked" and action.step == 1 for action in plan.actions):
        file = _quoted(plan.file)
        return f"reconciler plan --check-sources -c {file}, to see all of it; or: reconciler apply -c {file}"
    if plan.actions:
        return f"reconciler apply -c {_quoted(plan.file)}"
    if plan.waiting:
        return "wait, and look again."
    return "nothing to do."
