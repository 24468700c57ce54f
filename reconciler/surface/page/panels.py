"""The panels below the ensemble: memory, the pending plan, what has happened, generations, gateways."""

import re
from collections.abc import Iterator
from typing import Final

from reconciler.model.status_document import (
    GatewayEntry,
    GenerationEntry,
    JobEntry,
    MoveEntry,
    PendingPlan,
    ProofEntry,
    RouteEntry,
    StatusDocument,
    StatusEvent,
)
from reconciler.model.units import count, human

from .markup import Html, element, joined
from .words import badge, command, moment, mono, panel, revision, short

FRESH: Final = 20
"""How many events are shown unfolded."""
_EVENT_TONES: Final = {
    "failed": "bad",
    "blocked": "bad",
    "drifted": "warn",
    "rolling-back": "warn",
    "rolled-back": "warn",
    "suspended": "rest",
    "proved": "good",
    "settled": "good",
    "started": "busy",
    "progress": "busy",
}
_LINE: Final = re.compile(r"\s+(?:\d+\s+)?(?P<symbol>[-+!])\s")
_LINE_TONES: Final = {"-": "bad", "+": "good", "!": "warn"}


# ------------------------------------------------------------------------------------------------- plan and jobs


def plan(document: StatusDocument) -> Html:
    """What will be done, with the command for it; what is under way."""
    pending = document.plan
    under_way = _jobs(document.jobs, document.at) if document.jobs else None
    if pending is None:
        return panel("plan", "Pending plan", under_way, element("p", "It could not be foreseen.", class_="none"))
    text = element(
        "pre",
        *(_line(line) for line in pending.text.splitlines(keepends=True)),
        tabindex=0,
        role="region",
        aria_label="Text of the plan",
    )
    todo = count(pending.actions, "action") if pending.actions else "nothing to do"
    moves = _moves(pending) if pending.moves else None
    shown = element("div", command(pending.command), class_="commands")
    return panel("plan", "Pending plan", under_way, text, moves, shown, aside=element("p", todo, class_="aside"))


def _line(line: str) -> Html:
    found = _LINE.match(line)
    return element("span", line, class_=_LINE_TONES[found["symbol"]]) if found else joined((line,))


def _jobs(jobs: tuple[JobEntry, ...], now: float) -> Html:
    items = [element("li", *_job(job, f"{job.kind} {job.subject}", now)) for job in jobs]
    return element("div", element("h3", "Under way"), element("ul", *items, class_="jobs"))


def _job(job: JobEntry, name: str, now: float) -> Iterator[Html]:
    yield element("span", mono(name), " ", _since(job, now), class_="what")
    if job.total:
        yield element("progress", value=job.done, max=job.total, aria_label=name)
    yield element("span", job.text or "under way", class_="quiet")


def _since(job: JobEntry, now: float) -> Html:
    return element("span", moment(job.since, now, "for", seconds=True), class_="quiet")


def _moves(pending: PendingPlan) -> Html:
    rows = [_row(mono(move.kind), mono(move.subject), move.reason, _bytes(move)) for move in pending.moves]
    disk = pending.disk
    parts = (("to download", disk.download), ("to convert", disk.convert), ("to bring back", disk.restore))
    said = [f"{human(size)} {what}" for what, size in parts if size]
    said += [f"{human(disk.offload)} to cold storage"] if disk.offload else []
    free = f"; {human(disk.free)} free" if disk.free is not None else ""
    return element(
        "div",
        element("h3", "Weights that move"),
        _table("plain", ("Verb", "Artifact", "Why", "Bytes"), rows),
        element("p", f"Disk: {', '.join(said)}{free}.", class_="quiet") if said else None,
    )


def _bytes(move: MoveEntry) -> str:
    return human(move.bytes) if move.bytes is not None else "not known"


# ----------------------------------------------------------------------------------------- what has happened


def events(document: StatusDocument) -> Html:
    """The last ones; the older of them are folded."""
    found = document.events
    if not found:
        return panel("events", "Events", element("p", "Nothing has happened yet.", class_="none"))
    fresh, older = found[:FRESH], found[FRESH:]
    folded = element(
        "details",
        element("summary", count(len(older), "older event")),
        _events(older, document.at),
        id="older-events",
    )
    aside = element("p", f"last {len(found)}", class_="aside")
    return panel("events", "Events", _events(fresh, document.at), folded if older else None, aside=aside)


def _events(entries: tuple[StatusEvent, ...], now: float) -> Html:
    rows = [
        _row(
            moment(entry.at, now, seconds=True),
            element("span", entry.kind, class_=f"kind {_EVENT_TONES.get(entry.kind, 'rest')}"),
            element("span", mono(entry.subject), " ", _said(entry), class_="said"),
        )
        for entry in entries
    ]
    return _table("log", ("Time", "Event", "What"), rows)


def _said(entry: StatusEvent) -> str:
    return f"{entry.action}: {entry.text}" if entry.kind == "started" and entry.action else entry.text


def generations(document: StatusDocument) -> Html:
    """What was in force, and the text that brings it back."""
    found = document.generations
    if not found:
        return panel("generations", "Generations", element("p", "None is known yet.", class_="none"))
    pinned = document.pin.number if document.pin is not None else None
    items = [_generation(entry, document.at, entry.number == pinned) for entry in found]
    return panel("generations", "Generations", element("ol", *items, class_="generations"))


def _generation(entry: GenerationEntry, now: float, pinned: bool) -> Html:
    tags = [element("span", "in force", class_="tag good")] if entry.current else []
    tags += [element("span", "pinned", class_="tag warn")] if pinned else []
    title = element("span", element("strong", str(entry.number)), revision(entry.revision), *tags, class_="names")
    return element(
        "li",
        element("div", title, element("span", moment(entry.at, now, "ago"), class_="quiet"), class_="line"),
        element("p", _proof(entry), class_="quiet"),
        element("p", f"Left by itself: {entry.failed}", class_="bad") if entry.failed else None,
        _proofs(entry, now) if entry.proofs else None,
        command(entry.command) if entry.command else None,
        value=entry.number,
    )


def _proof(entry: GenerationEntry) -> str:
    if entry.missing:
        return f"partial: {', '.join(entry.missing)} never proved"
    if entry.proved_at is None:
        return "not proved as a whole"
    return "proved as a whole"


def _proofs(entry: GenerationEntry, now: float) -> Html:
    rows = [_row(mono(proof.label), str(proof.port), _weights(proof), moment(proof.at, now)) for proof in entry.proofs]
    table = _table("plain", ("Model", "Port", "Weights", "Proved"), rows)
    title = element("summary", f"{count(len(entry.proofs), 'server')} proved")
    return element("details", title, table, id=f"proofs-{entry.number}")


def _weights(proof: ProofEntry) -> Html:
    return element("span", mono(proof.source), " ", mono(short(proof.artifact)))


# ---------------------------------------------------------------------------------------------- gateways


def gateways(document: StatusDocument) -> Html:
    """Whether each gateway has what is wanted, and who answers there."""
    if not document.gateways:
        return panel("gateways", "Gateways", element("p", "None is declared.", class_="none"))
    return panel("gateways", "Gateways", *(_gateway(entry) for entry in document.gateways))


def _gateway(entry: GatewayEntry) -> Html:
    agrees = badge("Synced" if entry.matches else "Unknown" if entry.problem else "OutOfSync")
    head = element("h3", entry.kind, " ", agrees)
    if entry.problem:
        return element("div", head, element("p", entry.problem, class_="hint"))
    if not entry.routes:
        says = "No name is in its file, and none should be." if entry.matches else "Its file is not there yet."
        return element("div", head, element("p", says, class_="none"))
    return element("div", head, element("ul", *map(_route, entry.routes), class_="routes"))


def _route(entry: RouteEntry) -> Html:
    names = [mono(entry.label, "label"), *(element("span", alias, class_="tag") for alias in entry.aliases)]
    return element(
        "li",
        element("span", *names, class_="names"),
        *_routes(entry),
        element("span", f"there: {entry.answers}", class_="quiet") if entry.answers else None,
    )


def _routes(entry: RouteEntry) -> Iterator[Html]:
    if entry.matches:
        yield element("span", "matches: ", mono(entry.has), class_="quiet")
        return
    yield element("span", "file: ", mono(entry.has) if entry.has else "not in it", class_="warn")
    same = " (another name, limit or parameter differs)" if entry.wanted and entry.wanted == entry.has else None
    yield element("span", "wanted: ", mono(entry.wanted) if entry.wanted else "not there", same, class_="warn")


# ------------------------------------------------------------------------------------------------ tables


def _table(class_: str, columns: tuple[str, ...], rows: list[Html]) -> Html:
    head = element("tr", *(element("th", name, scope="col") for name in columns))
    return element(
        "div",
        element("table", element("thead", head), element("tbody", *rows), class_=class_),
        class_="scroll",
    )


def _row(*cells: Html | str) -> Html:
    return element("tr", *(element("td", cell) for cell in cells))
