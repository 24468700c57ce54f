"""Small pieces of the page: times, words with a sign, amounts, commands to copy."""

from datetime import UTC, datetime
from typing import Final

from reconciler.model.source import shown

from .markup import Html, element

_TONES: Final = {
    "Healthy": ("good", "●"),
    "Progressing": ("busy", "◐"),
    "Degraded": ("bad", "▲"),
    "Missing": ("warn", "○"),
    "Suspended": ("rest", "■"),
    "Unknown": ("rest", "?"),
    "Synced": ("good", "✓"),
    "OutOfSync": ("warn", "≠"),
}
"""Word -> colour and sign; the word is always written beside them."""
_COMMIT: Final = 12
_DIGEST: Final = 32


def badge(word: str) -> Html:
    """A word of one of the two axes, with its sign and colour."""
    tone, sign = _TONES.get(word, ("rest", "?"))
    return element("span", element("span", sign, class_="sign", aria_hidden="true"), word, class_=f"badge {tone}")


def tone(word: str) -> str:
    """Colour of a word of one of the two axes."""
    return _TONES.get(word, ("rest", ""))[0]


def clock(moment: float, now: float, *, seconds: bool = False) -> str:
    """Local time of day; with the date where that is another day than `now`."""
    there, here = datetime.fromtimestamp(moment).astimezone(), datetime.fromtimestamp(now).astimezone()
    time = f"{there:%H:%M:%S}" if seconds else f"{there:%H:%M}"
    if there.date() == here.date():
        return time
    return f"{there.day} {there:%b} {time}" if there.year == here.year else f"{there:%Y-%m-%d} {time}"


def moment(at: float, now: float, says: str = "", *, seconds: bool = False) -> Html:
    """A time. Without a script it is a time of day; `says` is what a script makes of it: `ago`, `for` or `left`."""
    stamp = datetime.fromtimestamp(at, tz=UTC).isoformat(timespec="seconds")
    before = "since " if says == "for" else ""
    return element("time", f"{before}{clock(at, now, seconds=seconds)}", datetime=stamp, data_says=says or None)


def mono(text: str, class_: str = "") -> Html:
    """A name that a machine knows."""
    return element("code", text, class_=class_ or None)


def short(identity: str) -> str:
    """A commit or a digest in the length in which people compare them; anything else as it is."""
    head, colon, key = identity.rpartition(":")
    digits = len(key) >= _DIGEST and set(key) <= set("0123456789abcdef")
    return f"{head}{colon}{key[:_COMMIT]}" if digits else identity


def revision(text: str) -> Html:
    """A revision, cut as people are shown it; the whole is its title."""
    return element("code", shown(text), title=text if shown(text) != text else None)


def command(text: str) -> Html:
    """A command to copy; the button is there where a script can do that."""
    button = element("button", "Copy", type="button", class_="copy", data_copy=text, hidden=True)
    return element("span", element("code", text), button, class_="command")


def fact(name: str, *value: Html | str | None) -> Html:
    """One entry of a list of facts."""
    return element("div", element("dt", name), element("dd", *value))


def panel(name: str, title: str, *content: Html | str | None, aside: Html | str | None = None) -> Html:
    """One panel; `name` is its anchor, and a script replaces the panel as a whole when something of it is new."""
    head = element("div", element("h2", title, id=f"{name}-title"), aside, class_="head")
    return element("section", head, *content, id=name, class_="panel", aria_labelledby=f"{name}-title", data_part=name)
