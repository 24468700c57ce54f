"""What the strict reader accepts the JSON Schema and pydantic accept; what is wrong in form is wrong to all of them."""

from functools import cache
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter

from reconciler.desired.host import parse_host
from reconciler.desired.parse import parse
from reconciler.desired.schema import SCHEMAS
from reconciler.model.bundle import Bundle
from reconciler.model.desired import Desired, DesiredState
from reconciler.model.host import HostFile
from reconciler.model.problem import InvalidDocument

from .profile import worlds
from .written import as_block, as_flow, at, desired_documents, fits, host_files, places, put, spelled_out

pytestmark = pytest.mark.heavy

_FORM: Final = """
    empty unknown-field missing-field wrong-type unknown-choice bad-value bad-name out-of-range too-long too-short
    newer-version source-not-one receiver-not-one bare-repository-name path-as-repository url-as-repository
    revision-in-repository template-absolute template-home template-backslash template-traversal looks-like-a-flag
    """
FORM: Final = frozenset(_FORM.split())
"""References of problems with the form; the others are rules between fields, or spellings that no schema can see."""

DOCUMENTS: Final[dict[Any, st.SearchStrategy[dict[str, Any]]]] = {
    DesiredState: desired_documents(),
    HostFile: host_files(),
}
INTRUDERS: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, 1, 2, 7, -1, 16, 80, 1023, 1024, 65535, 65536, 10**18 - 1, 0.5, 1.5, -2001, 1001),
    *("", "x", "X", "auto", "none", "a/b", "a/b/c", "../x", "/x", "8100", "8100-8119", "1-2", "15m", "4GiB", "-x"),
    *("x" * 65, "x" * 129, "x" * 4096, "always", "mxfp4", "~", "é", "a b", "$"),
    *([], ["x"], [1], [[]], {}, {"x": 1}, {"repo": "a/b"}, {"bits": 4}, {"bits": 7}, {"resident": 0}, {"port": 80}),
    *({"A B": {"resident": 1}}, {"models": ["x"]}, {"x": None}, {"x" * 65: 1}, {"x": {"command": []}}, {"enabled": 1}),
)
"""Values that are right in some place and wrong in most."""
WRONG: Final[tuple[Any, ...]] = (1, "x", {}, None)


@cache
def schema(name: str) -> Draft202012Validator:
    document = SCHEMAS[name]()
    Draft202012Validator.check_schema(document)
    return Draft202012Validator(document)


@cache
def adapter(noun: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(noun)


def read(text: bytes) -> Desired:
    bundle = Bundle(name="ensemble.yaml", revision="worktree:0", text=text, files={}, tracked=False)
    return parse(bundle, roots={}, environ={}, overrides={}).desired


def problems_of_form(noun: type[Any], text: bytes) -> list[str]:
    """What the reader says about the form."""
    try:
        if noun is HostFile:
            parse_host(text, "host.yaml")
        else:
            read(text)
    except InvalidDocument as refused:
        return [problem.located("file") for problem in refused.problems if problem.reference in FORM]
    return []


@given(desired_documents())
@worlds(120)
def test_a_valid_desired_state_is_valid_to_all_three(document: dict[str, Any]) -> None:
    text = as_flow(document)
    state = read(text).state
    schema("desired-state.v1.json").validate(document)
    assert adapter(DesiredState).validate_json(text) == state


@given(host_files())
@worlds(120)
def test_a_valid_host_file_is_valid_to_all_three(document: dict[str, Any]) -> None:
    text = as_flow(document)
    host = parse_host(text, "host.yaml")
    schema("host.v1.json").validate(document)
    assert adapter(HostFile).validate_json(text) == host


@given(st.data())
@worlds(250)
@pytest.mark.parametrize(("noun", "name"), [(DesiredState, "desired-state.v1.json"), (HostFile, "host.v1.json")])
def test_what_is_wrong_in_form_is_wrong_to_reader_and_schema(noun: type[Any], name: str, data: st.DataObject) -> None:
    valid = data.draw(DOCUMENTS[noun])
    path, hint = data.draw(st.sampled_from(list(places(noun, valid))[1:] or [((), noun)]))
    document = put(valid, path, data.draw(st.sampled_from(INTRUDERS)))
    said = problems_of_form(noun, as_flow(document))
    right = fits(noun, document)
    assert schema(name).is_valid(document) is right, f"{path} {hint}"
    assert (not said) is right, said


@given(st.data())
@worlds(120)
@pytest.mark.parametrize(("noun", "name"), [(DesiredState, "desired-state.v1.json"), (HostFile, "host.v1.json")])
def test_a_key_too_much_or_too_little(noun: type[Any], name: str, data: st.DataObject) -> None:
    valid = data.draw(DOCUMENTS[noun])
    mappings = [path for path, _ in places(noun, valid) if isinstance(at(valid, path), dict)]
    path = data.draw(st.sampled_from(mappings))
    inner = dict(at(valid, path))
    removed: bool = data.draw(st.booleans())
    if inner and removed:
        del inner[data.draw(st.sampled_from(sorted(inner)))]
    else:
        key = data.draw(st.sampled_from(["prot", "Source", "a b", "x/y", "", "x" * 200, "models", "port", "1a", "a-b"]))
        inner[key] = data.draw(st.sampled_from(WRONG))
    document = put(valid, path, inner)
    said = problems_of_form(noun, as_flow(document))
    right = fits(noun, document)
    assert schema(name).is_valid(document) is right, f"{path}"
    assert (not said) is right, said


@given(st.data())
@worlds(80)
def test_order_comments_and_spelled_out_defaults_mean_nothing(data: st.DataObject) -> None:
    document = data.draw(desired_documents())
    state = read(as_flow(document)).state
    assert read(as_block(document, data).encode()).state == state
    assert read(as_block(spelled_out(DesiredState, document), data).encode()).state == state


@pytest.mark.parametrize("spelling", ["8100.0", "!!int 8100", "0x1FA4", "8_100", "&a 8100"])
def test_spellings_that_no_schema_can_see_are_the_readers_own(spelling: str) -> None:
    """To JSON Schema 8100.0 is a whole number; the reader wants whole numbers written as such."""
    text = f"version: 1\nmodels: {{a: {{source: {{repo: a/b}}, port: {spelling}}}}}\n"
    with pytest.raises(InvalidDocument):
        read(text.encode())
