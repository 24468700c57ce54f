"""An mlxctl registry as a desired state: models, names and weights, and what stands against them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.desired.importing import label_of
from reconciler.model.names import LABEL, REPO
from reconciler.model.problem import InvalidDocument

from .importing import imported, parsed, refused, state, warned, warnings
from .reading import read, said
from .registries import COMMIT, DEEP, FAST, KEPT, entry, snapshot, v1, v2

# -------------------------------------------------------------------------------------------------------- carried over


@pytest.mark.req("S1-05")
@pytest.mark.parametrize("document", [v1(DEEP, FAST, KEPT), v2(DEEP, FAST, KEPT)], ids=["version 1", "version 2"])
def test_both_versions_become_the_same_desired_state(document: dict[str, Any]) -> None:
    models = state(document).models
    assert list(models) == ["mlx-gpt-oss-deep-8bit", "mlx-fast-4b-4bit", "mlx-kept"]
    deep, fast, kept = models.values()
    assert (deep.source.repo, deep.source.revision, deep.port) == ("acme/gpt-oss-Deep-8bit", None, 8100)
    assert (deep.tool_call_parser, deep.reasoning_parser) == ("harmony", "harmony")
    assert (deep.context_length, deep.max_output_tokens) == (131072, 65536)
    assert deep.request_params == {"reasoning_effort": "low", "top_p": 0.9, "seed": 7}
    assert (fast.port, fast.context_length, fast.max_output_tokens) == (8101, 32768, 8192)
    assert (kept.port, kept.source.repo) == ("none", "acme/Kept")
    assert state(document).ports == {"team": "8100-8119", "experimental": "8120-8139"}


@pytest.mark.req("S1-05")
def test_a_newer_version_is_refused_and_nothing_else_is_said() -> None:
    assert refused({"version": 99, "models": {"a": {"port": "wrong"}}}) == ["2:14 newer-version"]


@pytest.mark.parametrize(
    ("version", "expected"),
    [(0, "wrong-type"), (-1, "wrong-type"), ("1", "wrong-type"), (True, "wrong-type"), (1.5, "wrong-type")],
)
def test_a_version_that_never_was_is_refused(version: Any, expected: str) -> None:
    assert refused({"version": version, "models": {}}) == [f"2:14 {expected}"]


def test_a_registry_without_models_declares_that_nothing_is_served() -> None:
    assert not state(v1()).models
    assert warnings(v1()) == []
    assert warnings(v2()) == []


def test_the_text_begins_as_every_example_does() -> None:
    first = imported(v1(FAST)).text.splitlines()[0]
    assert first == "# yaml-language-server: $schema=../schemas/desired-state.v1.json"


def test_the_order_of_the_registry_changes_no_byte() -> None:
    document = v2(DEEP, FAST, KEPT)
    turned = json.loads(json.dumps(document), object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    assert list(turned["models"]) != list(document["models"])
    assert imported(turned).text == imported(document).text


REPOS = st.from_regex(REPO.regex, fullmatch=True).filter(lambda repo: repo.isascii() and ".." not in repo)


@pytest.mark.req("S1-07")
@given(repos=st.lists(REPOS, max_size=5))
def test_a_repository_comes_through_unchanged_and_back(repos: list[str]) -> None:
    document = v1(*(entry(repo, f"model-{number}") for number, repo in enumerate(repos)))
    models = state(document).models
    assert {label: model.source.repo for label, model in models.items()} == {
        label: given["repo_id"] for label, given in document["models"].items()
    }
    exported = v1(*(entry(model.source.repo or "", label) for label, model in models.items()))
    assert exported["models"] == document["models"]


@given(
    params=st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True),
        st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=40)),
        max_size=5,
    )
)
def test_a_request_parameter_is_the_same_value_or_is_named(params: dict[str, Any]) -> None:
    found = imported(v1({**FAST, "request_params": params}))
    carried = read(found.text).desired.state.models["mlx-fast-4b-4bit"].request_params
    named = {
        problem.where.rpartition(".")[2] for problem in found.warnings if problem.reference == "parameter-left-out"
    }
    assert carried.keys() | named == params.keys()
    assert not carried.keys() & named
    assert {name: (type(value), value) for name, value in carried.items()} == {
        name: (type(params[name]), params[name]) for name in carried
    }


def test_a_backend_and_aliases_that_a_person_wrote_are_carried_over() -> None:
    document = v1({**DEEP, "backend": "mlx-openai-server", "aliases": ["deep", "think", "deep"]})
    model = state(document).models["mlx-gpt-oss-deep-8bit"]
    assert model.backend == "mlx-openai-server"
    assert model.aliases == ("deep", "think")
    assert "backend-not-recorded" not in warnings(document)


@pytest.mark.parametrize("value", ["no", "1e3", "017640", "8100", "null", "~", "2001-01-01", "=", "1.5", "true"])
def test_text_that_yaml_would_take_for_something_else_stays_text(value: str) -> None:
    model = state(v1({**FAST, "request_params": {"effort": value}})).models["mlx-fast-4b-4bit"]
    assert model.request_params == {"effort": value}
    if LABEL.regex.fullmatch(value):
        assert list(state(v1(entry("acme/x", value))).models) == [value]


# ------------------------------------------------------------------------------------------------------------- labels


@pytest.mark.req("S1-08")
def test_an_entry_goes_by_its_model_id_where_its_key_differs() -> None:
    document = v1(**{"some-key": FAST})
    assert list(state(document).models) == ["mlx-fast-4b-4bit"]
    found = warned(document, "label-differs-from-key")
    assert (found.line, found.where) == (6, "models.some-key.model_id")
    assert "'some-key' calls itself 'mlx-fast-4b-4bit'" in found.message
    assert "# mlxctl's registry calls it 'some-key'." in imported(document).text


@pytest.mark.parametrize("model_id", [None, ""])
def test_an_entry_without_a_model_id_goes_by_its_key(model_id: str | None) -> None:
    document = v1(**{"mlx-fast": {**FAST, "model_id": model_id}})
    assert list(state(document).models) == ["mlx-fast"]
    assert warnings(document) == []


@pytest.mark.parametrize(
    ("handle", "label"),
    [
        ("fast_4b.x", "fast_4b.x"),
        ("Fast_4B", "fast_4b"),
        ("_fast", "fast"),
        ("acme/Fast 4B (x)", "acme-fast-4b-x"),
        ("-Fast-", "fast"),
    ],
)
def test_a_name_is_changed_no_more_than_labels_need(handle: str, label: str) -> None:
    document = v1(entry("acme/fast", handle))
    assert list(state(document).models) == [label]
    assert warnings(document) == (["label-changed"] if handle != label else [])


@pytest.mark.parametrize("handle", ["///", "\u202e", "x" * 129, "é"])
def test_a_name_that_no_label_is_left_of_is_refused(handle: str) -> None:
    assert label_of(handle) is None
    assert refused(v1(entry("acme/fast", handle))) == ["4:5 bad-name"]


def test_two_entries_with_one_label_are_refused_with_both_places() -> None:
    document = v1(first=entry("acme/a", "Fast"), second=entry("acme/b", "fast"))
    assert refused(document) == ["13:19 label-taken"]
    with pytest.raises(InvalidDocument, match="1 problem") as caught:
        imported(document)
    assert "as 'first' (line 4) does" in caught.value.problems[-1].message


@pytest.mark.req("S1-06")
def test_a_key_that_stands_twice_is_refused_with_both_places() -> None:
    again = b'{"version": 1, "models": {\n  "a": {"repo_id": "acme/a"},\n  "a": {"repo_id": "acme/b", "port": 1}\n}}'
    assert refused(again) == ["3:3 duplicate-key"]
    with pytest.raises(InvalidDocument) as caught:
        imported(again)
    (problem,) = caught.value.problems
    assert problem.where == "models.a"
    assert "stands here and in line 2, column 3" in problem.message
    deeper = b'{"version": 1,\n"models": {"a": {"repo_id": "x/y",\n"request_params": {"b": [{}, {"c": 1, "c": 2}]}}}}'
    with pytest.raises(InvalidDocument) as caught:
        imported(deeper)
    assert [p.where for p in caught.value.problems if p.severity == "error"] == ["models.a.request_params.b[1].c"]


@pytest.mark.parametrize(
    ("aliases", "expected"),
    [(["mlx-kept"], "duplicate-alias"), (["Not A Label"], "bad-value"), ([7], "wrong-type"), ("fast", "wrong-type")],
)
def test_an_alias_that_is_none_or_anothers_name_is_refused(aliases: Any, expected: str) -> None:
    (problem,) = refused(v1({**FAST, "aliases": aliases}, KEPT))
    assert problem.endswith(expected)


def test_one_port_for_two_models_is_refused_with_both_places() -> None:
    assert refused(v1(FAST, {**KEPT, "port": 8101})) == ["18:15 duplicate-port"]


# ------------------------------------------------------------------------------------------------------------ weights


@pytest.mark.parametrize("repo", [None, "", "fast-4b"])
def test_a_folder_stands_in_for_a_repository_that_is_none(repo: str | None) -> None:
    document = v1({**FAST, "repo_id": repo, "cache_path": "/opt/models/fast tuned"})
    found = parsed(document)
    assert found.desired.state.models["mlx-fast-4b-4bit"].source.path == "/opt/models/fast tuned"
    assert said(found.warnings) == ["15:13 machine-path-in-git"]
    mine = warned(document, "machine-path-in-git")
    assert (mine.line, mine.where) == (7, "models.mlx-fast-4b-4bit.cache_path")
    assert "begin it with ${root.NAME}" in mine.message
    assert (f"'{repo}'" if repo else "no repo_id") in mine.message


def test_the_source_path_is_taken_where_there_is_no_other() -> None:
    document = v1({"model_id": "fast", "repo_id": "bare", "source_path": "/opt/fast", "cache_path": "relative/path"})
    assert state(document).models["fast"].source.path == "/opt/fast"


@pytest.mark.parametrize(
    ("repo", "expected"),
    [
        ("fast-4b", "5:18 bare-repository-name"),
        ("https://hub/acme/fast", "5:18 url-as-repository"),
        ("acme/fast@main", "5:18 revision-in-repository"),
        ("acme/../fast", "5:18 bad-value"),
        ("", "4:13 source-missing"),
    ],
)
@pytest.mark.parametrize("path", [None, "~/models", "relative", "/opt/../etc", "//opt", "/opt/${HOME}", "/opt/\u202e"])
def test_what_is_neither_repository_nor_folder_is_refused(repo: str, expected: str, path: str | None) -> None:
    assert refused(v1({"repo_id": repo, "model_id": "fast", "cache_path": path})) == [expected]


def test_the_served_commit_is_told_and_not_frozen() -> None:
    found = imported(v1(FAST))
    assert f"# mlxctl served commit {COMMIT}: as source.revision it would be kept for ever." in found.text
    assert read(found.text).desired.state.models["mlx-fast-4b-4bit"].source.revision is None
    assert found.warnings == ()


def test_a_converted_copy_is_not_taken_for_the_repository() -> None:
    converted = {
        "cache_path": "/opt/models/hub/converted--fast",
        "og_path": "/opt/models/hub/models--acme--Fast-4B-4bit",
    }
    document = v1({**FAST, **converted})
    assert warnings(document) == ["no-equivalent", "weights-elsewhere"]
    assert "og_path" in warned(document, "no-equivalent").message
    assert state(document).models["mlx-fast-4b-4bit"].source.repo == "acme/Fast-4B-4bit"
    assert "/opt" not in imported(document).text


def test_a_snapshot_of_another_repository_is_not_this_ones() -> None:
    assert warnings(v1({**FAST, "cache_path": snapshot("acme/Other")})) == ["weights-elsewhere"]
