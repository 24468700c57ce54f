"""The content of a desired state as bytes, from which the same one is restored when its commit is gone.

Two contents are equal exactly when the desired states are, whatever their revisions: comments, formatting and
spelled-out defaults are no part of it. The order of the models is, as it decides who goes first; that of every
other mapping is not.
"""

import hashlib
import json
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from functools import cache, partial
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from reconciler.model.desired import Desired, DesiredState

FORMAT: Final = 1
"""A step for every change after which older content would be read as something else, such as another default."""

_ENTRIES: Final = frozenset(("format", "order", "provenance", "state", "templates"))
_Read = Callable[[Any], Any]


def canonical(desired: Desired) -> bytes:
    """One JSON document, without the revision."""
    document = {
        "format": FORMAT,
        "order": list(desired.state.models),
        "provenance": dict(desired.provenance),
        "state": _plain(desired.state),
        "templates": dict(desired.templates),
    }
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
    # A path from the environment need not be UTF-8, and then has halves of surrogate pairs in it.
    return text.encode("utf-8", "surrogatepass")


def restored(content: bytes, revision: str) -> Desired:
    """The desired state that has this content. Raises ValueError where `canonical` did not write it."""
    try:
        document = json.loads(content.decode("utf-8", "surrogatepass"))
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if type(document) is not dict or document.get("format") != FORMAT or document.keys() != _ENTRIES:
        raise ValueError(f"it is no content of format {FORMAT}")
    desired = Desired(
        state=_ordered(_read(DesiredState)(document["state"]), _read(tuple[str, ...])(document["order"])),
        revision=revision,
        templates=_read(Mapping[str, str])(document["templates"]),
        provenance=_read(Mapping[str, str])(document["provenance"]),
    )
    if canonical(desired) != content:
        raise ValueError("it is not as it would have been written")
    return desired


def digest(content: bytes) -> str:
    """The name under which a content is kept: 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


# ------------------------------------------------------------------------------------------------------------- writing


def _plain(value: Any) -> Any:
    """`value` as JSON-ready data, without the fields that have their default."""
    if is_dataclass(value):
        noun: Any = type(value)
        return {
            name: _plain(found)
            for name, default in _defaults(noun).items()
            if (found := getattr(value, name)) != default
        }
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return value


@cache
def _defaults(noun: Any) -> Mapping[str, Any]:
    """Field -> its default; MISSING where it must be given."""
    return {field.name: _default(field) for field in fields(noun)}


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


# ------------------------------------------------------------------------------------------------------------- reading


@cache
def _read(hint: Any) -> _Read:
    """Takes a value exactly for what an annotation says, or raises ValueError.

    Patterns and limits are those of a text that a person writes, and were checked there: a path with a variable in
    it is longer when it is resolved.
    """
    readers = _readers(hint)

    def read(value: Any) -> Any:
        reader = readers.get(type(value))
        if reader is None:
            raise ValueError(f"{type(value).__name__} stands where {hint} is expected")
        return reader(value)

    return read


def _readers(hint: Any) -> Mapping[type, _Read]:
    """Type of JSON -> how a value of it is taken. No union of the model has two arms of one type."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _readers(inner[0])
    if origin in (Union, types.UnionType):
        return {kind: reader for arm in inner for kind, reader in _readers(arm).items()}
    if origin is Literal:
        return {type(choice): partial(_choice, inner) for choice in inner}
    if origin is tuple:
        return {list: partial(_tuple, inner[0])}
    if origin is Mapping:
        return {dict: partial(_mapping, inner[1])}
    return {dict: partial(_noun, hint)} if is_dataclass(hint) else {hint: _itself}


def _itself(value: Any) -> Any:
    return value


def _choice(choices: tuple[Any, ...], value: Any) -> Any:
    if value not in choices:
        raise ValueError(f"{value!r} is none of {choices}")
    return value


def _tuple(item: Any, value: list[Any]) -> tuple[Any, ...]:
    return tuple(map(_read(item), value))


def _mapping(item: Any, value: dict[str, Any]) -> dict[str, Any]:
    read = _read(item)
    return {name: read(entry) for name, entry in value.items()}


def _noun(noun: Any, value: dict[str, Any]) -> Any:
    known = _fields(noun)
    if not value.keys() <= known.keys():
        raise ValueError(f"{noun.__name__} has no field {min(value.keys() - known.keys())}")
    needed = [name for name, default in _defaults(noun).items() if default is MISSING and name not in value]
    if needed:
        raise ValueError(f"{noun.__name__} needs the field {needed[0]}")
    return noun(**{name: known[name](entry) for name, entry in value.items()})


@cache
def _fields(noun: Any) -> Mapping[str, _Read]:
    """Field -> how it is taken."""
    hints = get_type_hints(noun, include_extras=True)
    return {name: _read(hints[name]) for name in _defaults(noun)}


def _ordered(state: DesiredState, order: tuple[str, ...]) -> DesiredState:
    """The state with its models in this order."""
    if len(order) != len(state.models) or set(order) != state.models.keys():
        raise ValueError("its order is not that of its models")
    return replace(state, models={label: state.models[label] for label in order})
