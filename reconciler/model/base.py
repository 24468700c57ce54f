"""How a noun is made: a frozen, slotted, keyword-only value, compared by content."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from enum import Enum, StrEnum
from functools import cache
from typing import Any, Final, TypeVar, dataclass_transform

T = TypeVar("T")


class FieldClass(StrEnum):
    """What a change of a field of the desired state costs."""

    HOT = "hot"
    """Takes effect without touching a process or a gateway's file."""
    GATEWAY = "gateway"
    """Rewrites a gateway's file; no process is touched."""
    RESTART = "restart"
    """The same artifact is served by a new process."""
    REPLACE = "replace"
    """Another artifact, backend or port is served."""


def setting(
    *,
    doc: str,
    changes: FieldClass,
    default: Any = MISSING,
    default_factory: Callable[[], Any] | Any = MISSING,
) -> Any:
    """A documented field of a document noun; `doc` and `changes` reach the JSON Schema and the spec hash."""
    metadata = {"doc": doc, "class": changes}
    if default_factory is not MISSING:
        return field(default_factory=default_factory, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field, setting))
def noun(cls: type[T]) -> type[T]:
    """Make `cls` a value that rooms hand to each other.

    A stdlib dataclass and not a pydantic model: fifty of them cost 25 ms of start-up less, which is what the
    first plan after an edit may take (docs/decisions/0002). pydantic reads and writes the same classes through
    `TypeAdapter`, where a document comes in that is not on that path, and generates the JSON Schemas.
    """
    made = dataclass(frozen=True, slots=True, kw_only=True)(cls)
    made.__pydantic_config__ = {"extra": "forbid"}  # type: ignore[attr-defined]
    return made


class Pattern:
    """A constraint on a string, read by the strict reader and by pydantic alike.

    `says` is what an error tells a person, after "must be".
    """

    __slots__ = ("regex", "says")

    def __init__(self, regex: str, says: str) -> None:
        self.regex = re.compile(regex)
        self.says = says

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        schema = handler(source)
        schema["pattern"] = f"^(?:{self.regex.pattern})$"
        return schema


_PLAIN: Final = frozenset({str, int, float, bool, type(None)})


@cache
def _names(kind: Any) -> tuple[str, ...] | None:
    """Of the fields of a noun, else None; a ledger has hundreds of nouns and is written at every save."""
    return tuple(f.name for f in fields(kind)) if is_dataclass(kind) else None


def plain(value: Any) -> Any:
    """`value` as JSON-ready data, in an order that depends on nothing but the content."""
    kind: Any = type(value)
    if kind in _PLAIN:
        return value
    if (names := _names(kind)) is not None:
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, str | int | float):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, Mapping):
        return {str(key): plain(value[key]) for key in sorted(value)}
    if isinstance(value, frozenset | set):
        return sorted(plain(item) for item in value)
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} is not a noun")
