"""A ledger is read as it was written, whatever is in it."""

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from hypothesis import given
from hypothesis import strategies as st

from reconciler.adapters.ledger_text import parsed, written
from reconciler.model.ledger import Ledger

from .profile import worlds


def nouns(hint: Any) -> st.SearchStrategy[Any]:
    """Everything that an annotation allows, every field given."""
    origin, inner = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        hints = get_type_hints(hint, include_extras=True)
        made: Any = hint
        return st.builds(made, **{field.name: nouns(hints[field.name]) for field in fields(hint)})
    if origin is Annotated:
        return nouns(inner[0])
    if origin in (Union, types.UnionType):
        return st.one_of([nouns(arm) for arm in inner])
    if origin is tuple:
        return st.lists(nouns(inner[0]), max_size=2).map(tuple)
    if origin is frozenset:
        return st.frozensets(nouns(inner[0]), max_size=2)
    if origin is Mapping:
        return st.dictionaries(nouns(inner[0]), nouns(inner[1]), max_size=2)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from([*hint])
    simple: dict[Any, st.SearchStrategy[Any]] = {
        str: st.text(max_size=8),
        int: st.integers(),
        float: st.floats(allow_nan=False, allow_infinity=False),
        bool: st.booleans(),
        type(None): st.none(),
    }
    return simple[hint]


@given(nouns(Ledger))
@worlds(150)
def test_a_ledger_is_read_as_it_was_written(ledger: Ledger) -> None:
    again = parsed(written(ledger))
    assert again == ledger
    assert written(again) == written(ledger), "types too"
