"""Memory as a bar: who has how much of the budget, and how far the pending plan would go."""

from collections.abc import Iterator
from typing import Final

from reconciler.model.status_document import StatusDocument, StatusMemory
from reconciler.model.units import human

from .markup import Html, element
from .words import fact, mono, panel

_HUES: Final = 8
"""How many colours there are; with more servers they come again, and the numbers tell them apart."""
_WIDE: Final = 3.0
"""Per cent of the bar in which a number has room."""
_STRIPES: Final = element(
    "pattern",
    element("rect", width=2, height=6),
    id="stripes",
    width=6,
    height=6,
    patternUnits="userSpaceOnUse",
    patternTransform="rotate(45)",
)


def memory(document: StatusDocument) -> Html:
    """The panel."""
    found = document.memory
    whole = max(found.budget or 0, found.reserved, found.peak or 0)
    if not whole:
        return panel(
            "memory", "Memory", element("p", "Nothing is reserved, and the budget is not known.", class_="none")
        )
    of = f"{human(found.reserved)} of {human(found.budget)}" if found.budget is not None else human(found.reserved)
    bar = element("svg", *_bar(found, whole), class_="bar", role="img", aria_label=_sentence(found))
    return panel("memory", "Memory", bar, _legend(found), _figures(found), aside=element("p", of, class_="aside"))


def _bar(found: StatusMemory, whole: int) -> Iterator[Html]:
    """Widths are shares of the whole, as attributes: a style of its own is nothing that the page may load."""
    yield element("defs", _STRIPES)
    left = 0.0
    for number, entry in enumerate(found.reservations, 1):
        width = 100 * entry.bytes / whole
        title = element("title", f"{entry.subject}: {human(entry.bytes)}")
        yield element("rect", title, x=_share(left), width=_share(width), height="100%", class_=_hue(number))
        if width >= _WIDE:
            yield element("text", str(number), x=_share(left + width / 2), y="50%", class_="number")
        left += width
    reserved, peak = 100 * found.reserved / whole, 100 * (found.peak or 0) / whole
    if peak > reserved:
        yield element("rect", x=_share(reserved), width=_share(peak - reserved), height="100%", class_="more")
        yield element("line", x1=_share(peak), x2=_share(peak), y1="0", y2="100%", class_="peak")


def _share(value: float) -> str:
    return f"{value:.2f}%"


def _hue(number: int) -> str:
    return f"hue hue{(number - 1) % _HUES + 1}"


def _sentence(found: StatusMemory) -> str:
    """What the bar shows, for those who do not see it; the list below it has the details."""
    peak = f", planned peak {human(found.peak)}" if found.peak is not None else ""
    of = f" of {human(found.budget)}" if found.budget is not None else ", and the budget is not known"
    return f"{human(found.reserved)}{of} reserved{peak}"


def _legend(found: StatusMemory) -> Html | None:
    if not found.reservations:
        return None
    items = [
        element(
            "li",
            element("span", str(number), class_=f"swatch {_hue(number)}", aria_hidden="true"),
            mono(entry.subject.removeprefix("server/")),
            element("span", human(entry.bytes), class_="amount"),
        )
        for number, entry in enumerate(found.reservations, 1)
    ]
    return element("ol", *items, class_="legend")


def _figures(found: StatusMemory) -> Html:
    head = found.headroom
    more = found.peak is not None and found.peak > found.reserved
    stripes = element("span", class_="stripes", aria_hidden="true") if more else None
    return element(
        "dl",
        fact("Reserved", human(found.reserved)),
        fact("Headroom", human(head) if head is not None else "not known"),
        fact("Planned peak", stripes, human(found.peak)) if found.peak is not None else None,
        fact("After the plan", human(found.after)) if found.after is not None else None,
        fact("Budget", human(found.budget) if found.budget is not None else "not known"),
        class_="facts figures",
    )
