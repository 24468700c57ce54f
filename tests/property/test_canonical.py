"""A content is restored to exactly what it was written from, and is equal exactly where that is."""

import json
from dataclasses import replace
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st

from reconciler.desired.canonical import canonical, restored
from reconciler.desired.parse import parse
from reconciler.model.base import plain
from reconciler.model.bundle import Bundle
from reconciler.model.desired import Desired, DesiredState

from .documents import desired_states
from .profile import worlds
from .written import as_block, as_flow, desired_documents, mended, places, put, spelled_out, values

ANY: Final = st.characters(exclude_categories=())
TEXTS: Final = st.dictionaries(st.text(ANY, max_size=5), st.text(ANY, max_size=20), max_size=3)
"""Templates and provenance; a half of a surrogate pair can come in by the environment."""
REVISIONS: Final = st.text(st.characters(codec="ascii"), max_size=40)


def read(text: bytes) -> Desired:
    bundle = Bundle(name="ensemble.yaml", revision="worktree:0", text=text, files={}, tracked=False)
    return parse(bundle, roots={}, environ={}, overrides={}).desired


def exactly(desired: Desired) -> str:
    """Everything that it says, types and the order of the models included, and nothing else."""
    return json.dumps(
        [plain(desired.state), list(desired.state.models), plain([desired.templates, desired.provenance])]
    )


@given(desired_documents().map(as_flow), TEXTS, TEXTS, REVISIONS)
@worlds(120)
def test_what_the_parser_gives_is_restored(
    text: bytes, templates: dict[str, str], provenance: dict[str, str], revision: str
) -> None:
    desired = replace(read(text), templates=templates, provenance=provenance, revision=revision)
    again = restored(canonical(desired), revision)
    assert again == desired
    assert exactly(again) == exactly(desired)
    assert canonical(again) == canonical(desired)


@given(desired_states(), REVISIONS)
@worlds(100)
def test_what_the_worlds_declare_is_restored(desired: Desired, revision: str) -> None:
    again = restored(canonical(desired), revision)
    assert again == replace(desired, revision=revision)
    assert list(again.state.models) == list(desired.state.models)


@given(st.data())
@worlds(80)
def test_contents_are_equal_exactly_where_the_states_are(data: st.DataObject) -> None:
    document = data.draw(desired_documents())
    one, other = read(as_flow(document)), read(_another(document, data))
    assert (canonical(one) == canonical(other)) is (exactly(one) == exactly(other))


def _another(document: dict[str, Any], data: st.DataObject) -> bytes:
    """The same said in another way, or with another value in one place."""
    if data.draw(st.booleans()):
        return as_block(spelled_out(DesiredState, document), data).encode()
    path, hint = data.draw(st.sampled_from(list(places(DesiredState, document))[1:]))
    return as_flow(mended(put(document, path, data.draw(values(hint)))))
