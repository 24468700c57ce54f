"""HTML in which a text can be nothing but a text: whatever is not made here is escaped (S31)."""

from collections.abc import Iterable
from html import escape
from typing import Final

VOID: Final = frozenset({"meta", "link", "br"})
"""Elements without an end tag."""


class Html(str):
    """Markup that was made by `element` or `joined`, and so is not escaped again."""

    __slots__ = ()


Child = Html | str | None
"""What an element may hold: markup as it is, any other text escaped, None not at all."""


def element(tag: str, /, *children: Child, **attributes: str | int | bool | None) -> Html:
    """`<tag attributes>children</tag>`.

    A name of an attribute ends with `_` where Python keeps it for itself, and `_` stands for `-`. True is an attribute
    without a value; None and False leave it out.
    """
    said = "".join(_attribute(name, value) for name, value in attributes.items())
    if tag in VOID:
        return Html(f"<{tag}{said}>")
    return Html(f"<{tag}{said}>{joined(children)}</{tag}>")


def _attribute(name: str, value: str | int | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'


def joined(children: Iterable[Child]) -> Html:
    """One after the other."""
    return Html("".join(_child(child) for child in children if child is not None))


def _child(child: Html | str) -> str:
    return child if isinstance(child, Html) else escape(child)
