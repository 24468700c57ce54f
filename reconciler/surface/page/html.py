"""The page: a document as HTML that needs no script, no style of others and no second request to be read."""

from collections.abc import Iterator

from reconciler.model.document import ReasonEntry
from reconciler.model.source import Mode, shown
from reconciler.model.status_document import StatusDocument
from reconciler.model.units import count

from .ensemble import ensemble
from .markup import Html, element, joined
from .memory_bar import memory
from .panels import events, gateways, generations, plan
from .words import badge, fact, moment, mono, revision


def page(document: StatusDocument, state: str) -> str:
    """The whole page. `state` names what is shown but for its time, so that a script knows whether it is new."""
    columns = element("div", events(document), element("div", generations(document), gateways(document)), class_="two")
    panels = (_summary(document), ensemble(document), memory(document), plan(document), columns)
    body = element(
        "body",
        element("a", "Skip to the servers", href="#ensemble", class_="skip"),
        _top(document),
        element("main", *panels, data_state=state, data_version=document.tool_version),
        _foot(document),
    )
    return f"<!doctype html>\n{element('html', _head(document), body, lang='en')}\n"


def title(document: StatusDocument) -> str:
    """The host first: people have one tab for each."""
    return f"{document.host}: {document.health}, {document.sync}"


def _head(document: StatusDocument) -> Html:
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("title", title(document)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("link", rel="icon", href="/icon.svg", type="image/svg+xml"),
        element("link", rel="stylesheet", href="/page.css"),
        element("script", src="/page.js", defer=True),
        element("noscript", element("meta", http_equiv="refresh", content="15")),
    )


def _top(document: StatusDocument) -> Html:
    looked = element("span", "looked ", moment(document.at, document.at, "ago", seconds=True), data_part="looked")
    dot = element("span", class_="dot", aria_hidden="true")
    # A script says here that nobody answers, and what has changed for those who do not see it.
    lost = element("span", id="lost", role="status")
    said = element("span", id="said", role="status", class_="unseen")
    live = element("p", dot, lost, looked, said, class_="live", id="live")
    name = element("div", element("h1", document.host), element("p", mono(document.file), class_="quiet"))
    return element("header", name, live)


def _foot(document: StatusDocument) -> Html:
    return element(
        "footer",
        element("p", f"reconciler {document.tool_version}. This page shows and changes nothing."),
        element(
            "p",
            element("a", "status.json", href="/status.json"),
            " ",
            element("a", "metrics", href="/metrics"),
        ),
    )


# ------------------------------------------------------------------------------------------------ summary


def _summary(document: StatusDocument) -> Html:
    """How it stands, in one glance; below it what a person should know."""
    tiles = element("dl", *_tiles(document), class_="tiles")
    notices = list(_notices(document))
    return element(
        "section",
        element("h2", "Summary", class_="unseen", id="summary-title"),
        tiles,
        element("ul", *notices, class_="notices") if notices else None,
        id="summary",
        aria_labelledby="summary-title",
        data_part="summary",
    )


def _tiles(document: StatusDocument) -> Iterator[Html]:
    counts = ", ".join(f"{number} {word}" for word, number in document.counts.items())
    yield _tile("Health", badge(document.health), counts or "nothing is declared")
    source = document.source
    to = element("span", " to " if document.sync == "Synced" else " with ", revision(source.revision), class_="with")
    yield _tile("Sync", joined((badge(document.sync), to)), _followed(document))
    yield _tile("Generation", *_generation(document))
    result = document.result
    if result is None:
        yield _tile("Last result", element("span", "none yet"), "")
        return
    when = moment(result.at, document.at, "ago", seconds=True)
    yield _tile("Last result", element("span", result.kind), joined((result.text, element("br"), when)))


def _tile(name: str, value: Html, detail: Html | str) -> Html:
    return fact(name, element("span", value, class_="value"), element("span", detail, class_="detail"))


def _followed(document: StatusDocument) -> str:
    source = document.source
    what = f"commits of {source.ref or 'a branch'}" if source.mode == Mode.COMMIT else "the saved file"
    edited = f"; {count(len(source.uncommitted), 'file')} edited and not committed" if source.uncommitted else ""
    return f"{what}{edited}"


def _generation(document: StatusDocument) -> tuple[Html, Html | str]:
    entry = next((g for g in document.generations if g.current), None)
    if entry is None:
        return element("span", "none"), "nothing was in force yet"
    proved = ("proved ", moment(entry.proved_at, document.at, "ago")) if entry.proved_at else ("not proved as a whole",)
    pinned = " (pinned)" if document.pin is not None else ""
    return element("span", f"{entry.number}{pinned}"), joined(proved)


def _notices(document: StatusDocument) -> Iterator[Html]:
    """What a person should know before anything else: people's own words first."""
    now, source = document.at, document.source
    for entry in document.suspensions:
        ends = (moment(entry.until, now, "left"),) if entry.until is not None else ("until it is started",)
        until = element("span", *(("until ", *ends) if entry.until is not None else ends), class_="when")
        yield _notice("rest", "Suspended", mono(entry.label), f": {entry.reason} ", until)
    if document.pin is not None:
        yield _pinned(document)
    if source.paused:
        newest = (" Newest: ", revision(source.refused), "; in force: ", revision(source.revision), ".")
        more = newest if source.refused else ()
        yield _notice("warn", "Source paused", _sentence(source.reason), *more, hint=source.hint, name=source.reference)
    if document.trouble:
        yield _notice("bad", "Last look failed", _sentence(document.trouble))
    for other in _others(document):
        yield _notice("bad", "Blocked", mono(other.subject), f": {other.reason}", hint=other.hint, name=other.reference)
    if source.uncommitted:
        paths = ", ".join(source.uncommitted)
        yield _notice("rest", "Not committed", f"{paths}: what was saved is reported and not acted on.")
    if source.accepted:
        why = f": {source.accepted_because}" if source.accepted_because else ""
        yield _notice("rest", "Accepted", revision(source.accepted), why)


def _others(document: StatusDocument) -> Iterator[ReasonEntry]:
    """What is blocked and not said by its row, nor as the source."""
    return (entry for entry in document.blocked if not (document.source.paused and entry.subject.startswith("source/")))


def _pinned(document: StatusDocument) -> Html:
    pin = document.pin
    if pin is None:
        raise AssertionError("it was looked at before")
    who = "the watch went back by itself" if pin.automatic else "somebody went back"
    proved = "proved again" if pin.proved_at is not None else "not proved yet"
    text = f": {who} to generation {pin.number}, instead of {shown(pin.bad)}; {proved}. {_sentence(pin.reason)}"
    return _notice("warn", "Pinned", moment(pin.at, document.at, "ago"), text, hint="a newer commit ends it")


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _notice(tone: str, word: str, *said: Html | str, hint: str = "", name: str = "") -> Html:
    reference = element("span", " [", mono(name), "]", class_="quiet") if name else None
    do = element("span", hint, class_="hint") if hint else None
    return element("li", element("strong", word), element("span", *said, reference), do, class_=f"notice {tone}")
