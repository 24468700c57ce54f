"""The ensemble as a table: names, process, both axes, and behind each reason all the rest."""

from typing import Final

from reconciler.model.status_document import DifferenceEntry, JobEntry, ServerEntry, StatusDocument
from reconciler.model.units import count, human

from .markup import Html, element
from .words import badge, fact, moment, mono, panel, revision, short, tone

_COLUMNS: Final = ("Model", "Port", "Sync", "Health", "Process", "Proved", "Memory")


def ensemble(document: StatusDocument) -> Html:
    """The panel."""
    if not document.servers:
        return panel(
            "ensemble", "Ensemble", element("p", "Nothing is declared, and nothing of ours runs.", class_="none")
        )
    # Said twice, as a narrow screen shows the rows as cards and a browser then forgets that it is a table.
    head = element("tr", *(element("th", name, scope="col", role="columnheader") for name in _COLUMNS), role="row")
    jobs = {job.subject: job for job in document.jobs}
    table = element(
        "table",
        element("thead", head, role="rowgroup"),
        *(_server(server, document.at, _job(server, jobs)) for server in document.servers),
        class_="servers",
        role="table",
        aria_labelledby="ensemble-title",
    )
    return panel(
        "ensemble", "Ensemble", table, aside=element("p", count(len(document.servers), "model"), class_="aside")
    )


def _job(server: ServerEntry, jobs: dict[str, JobEntry]) -> JobEntry | None:
    """What is under way for it, or for its weights."""
    return jobs.get(f"server/{server.label}") or jobs.get(f"artifact/{server.source}")


def _server(server: ServerEntry, now: float, job: JobEntry | None) -> Html:
    differs = element("span", "differs", class_="tag warn", title=_names(server.differs)) if server.differs else None
    aliases = [element("span", alias, class_="tag") for alias in server.aliases]
    cells = (
        element(
            "th",
            element("span", mono(server.label, "label"), *aliases, differs, class_="names"),
            element("span", server.source or "not declared", class_="quiet source"),
            scope="row",
            role="rowheader",
        ),
        _cell("Port", str(server.port) if server.port is not None else None),
        _cell("Sync", badge(server.sync)),
        _cell("Health", badge(server.health)),
        _cell("Process", *_process(server, now)),
        _cell("Proved", moment(server.proved_at, now, "ago") if server.proved_at is not None else None),
        _cell("Memory", _memory(server)),
    )
    row = element("tr", *cells, role="row")
    more = element("tr", element("td", _more(server, now, job), colspan=len(_COLUMNS), role="cell"), role="row")
    return element("tbody", row, more, role="rowgroup", data_tone=tone(server.health))


def _cell(name: str, *content: Html | str | None) -> Html:
    said = [part for part in content if part is not None]
    return element("td", *(said or [element("span", "-", class_="quiet")]), role="cell", data_label=name)


def _process(server: ServerEntry, now: float) -> tuple[Html | str | None, ...]:
    if server.pid is None:
        return (None,)
    since = element("span", moment(server.since, now, "for"), class_="quiet") if server.since else None
    return (element("span", f"pid {server.pid}"), " ", since)


def _memory(server: ServerEntry) -> Html | None:
    if server.memory is None:
        return None
    if server.pid is None:
        return element("span", "needs ", human(server.memory), class_="quiet")
    return element("span", human(server.memory))


def _more(server: ServerEntry, now: float, job: JobEntry | None) -> Html:
    """The reason, and what unfolds under it."""
    under_way = (
        element("span", f"{job.kind}: {job.text or 'under way'}", class_="tag busy") if job is not None else None
    )
    against = element("span", server.reason, class_="against") if server.reason != server.found else None
    said = element("summary", element("span", server.found or server.reason, class_="reason"), against, under_way)
    hint = element("p", server.hint, class_="hint") if server.hint else None
    facts = element(
        "dl",
        fact("Verdict", server.verdict, " [", mono(server.reference), "]"),
        fact("Weights", short(server.artifact) or "not here", f" ({server.weights})" if server.weights else None),
        fact("Backend", server.backend or "none", f", by {server.runtime}" if server.runtime else None),
        _launched(server, now),
        _failures(server, now),
        class_="facts",
    )
    return element("details", said, hint, facts, _differences(server.differs), id=f"more-{server.label}")


def _launched(server: ServerEntry, now: float) -> Html | None:
    if server.since is None or not server.revision:
        return None
    number = f", generation {server.generation}" if server.generation is not None else None
    return fact("Launched", moment(server.since, now), " from ", revision(server.revision), number)


def _failures(server: ServerEntry, now: float) -> Html | None:
    if not server.failures:
        return None
    again = server.retry_at is not None and server.retry_at > now
    when = (", again at ", moment(server.retry_at or 0.0, now, seconds=True)) if again else ()
    return fact("Failures", f"{server.failures} in a row", *when)


def _differences(differs: tuple[DifferenceEntry, ...]) -> Html | None:
    if not differs:
        return None
    head = element("tr", *(element("th", name, scope="col") for name in ("Field", "Declared", "Running")))
    rows = [
        element(
            "tr",
            element("th", entry.field, scope="row"),
            element("td", mono(short(entry.declared) or "none")),
            element("td", mono(short(entry.running) or "none")),
        )
        for entry in differs
    ]
    return element("table", element("thead", head), element("tbody", *rows), class_="plain")


def _names(differs: tuple[DifferenceEntry, ...]) -> str:
    return f"what runs differs from the declaration in {', '.join(entry.field for entry in differs)}"
