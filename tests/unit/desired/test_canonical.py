"""The content of a desired state: what is part of it, and what cannot be restored."""

import json
from dataclasses import replace
from typing import Any

import pytest

from reconciler.desired.canonical import FORMAT, canonical, digest, restored
from reconciler.model.desired import Desired, Source

from .reading import bundle, read

TEXT = """\
version: 1
ports: {team: 8100-8119}
defaults: {context_length: 4096}
models:
  fast:
    source: {repo: acme/fast}
    port: 8100
    chat_template: templates/a.jinja
    options: {decode_concurrency: 4, temp: 0.5}
    convert: {bits: 4}
  deep:
    source: {path: '${env.WEIGHTS}/deep'}
    port: none
    requires: [tools, offline]
gateways: {front: {port: 1234}, litellm: {}}
"""
WEIGHTS = {"WEIGHTS": "/Volumes/Gewichte äöü 重み"}


def desired(text: str = TEXT, **outside: Any) -> Desired:
    outside = {"environ": WEIGHTS, **outside}
    return read(bundle(text, {"templates/a.jinja": "{{ 'ü' }}\n"}), **outside).desired


def test_what_was_written_is_restored_under_any_revision() -> None:
    found = desired()
    again = restored(canonical(found), "0" * 40)
    assert again == replace(found, revision="0" * 40)
    assert list(again.state.models) == ["fast", "deep"]
    assert type(again.state.models["fast"].options["decode_concurrency"]) is int


def test_it_is_a_document_that_a_person_can_read_without_what_is_usual() -> None:
    document = json.loads(canonical(desired()))
    assert document == {
        "format": FORMAT,
        "order": ["fast", "deep"],
        "provenance": {},
        "templates": {"templates/a.jinja": "{{ 'ü' }}\n"},
        "state": {
            "version": 1,
            "ports": {"team": "8100-8119"},
            "defaults": {"context_length": 4096},
            "models": {
                "fast": {
                    "source": {"repo": "acme/fast"},
                    "port": 8100,
                    "chat_template": "templates/a.jinja",
                    "options": {"decode_concurrency": 4, "temp": 0.5},
                    "convert": {"bits": 4},
                },
                "deep": {"source": {"path": f"{WEIGHTS['WEIGHTS']}/deep"}, "requires": ["tools", "offline"]},
            },
            "gateways": {"front": {"port": 1234}, "litellm": {}},
        },
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version: 1\n", "# said\nversion:   1\n\n"),
        ("{decode_concurrency: 4, temp: 0.5}", "{temp: 0.50, decode_concurrency: 4}"),
        ("convert: {bits: 4}", "convert: {bits: 4}\n    priority: 0\n    activation: always"),
        ("{front: {port: 1234}, litellm: {}}", "{litellm: {optillm: {enabled: false}}, front: {port: 1234}}"),
    ],
)  # fmt: skip
def test_comments_order_and_spelled_out_defaults_are_no_part_of_it(old: str, new: str) -> None:
    assert old in TEXT
    assert canonical(desired(TEXT.replace(old, new))) == canonical(desired())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("port: 8100", "port: 8101"),
        ("temp: 0.5", "temp: 0.25"),
        ("decode_concurrency: 4", "decode_concurrency: 4.0"),
        ("decode_concurrency: 4", "decode_concurrency: '4'"),
        ("convert: {bits: 4}", "convert: {}"),
        ("    chat_template: templates/a.jinja\n", ""),
        ("litellm: {}", "litellm: {mode: direct}"),
        (", litellm: {}", ""),
        ("[tools, offline]", "[offline, tools]"),
    ],
)
def test_everything_else_is(old: str, new: str) -> None:
    assert old in TEXT
    assert canonical(desired(TEXT.replace(old, new))) != canonical(desired())


def test_the_order_of_the_models_is_part_of_it() -> None:
    found = desired()
    turned = replace(found, state=replace(found.state, models=dict(reversed([*found.state.models.items()]))))
    assert turned == found, "to Python the order of a mapping is nothing"
    assert canonical(turned) != canonical(found)
    assert list(restored(canonical(turned), "r").state.models) == ["deep", "fast"]


def test_what_the_environment_says_is_part_of_it_with_where_it_came_from() -> None:
    overridden = desired(environ={**WEIGHTS, "MODEL__FAST__SOURCE": "/opt/other"})
    again = restored(canonical(overridden), overridden.revision)
    assert again == overridden
    assert again.state.models["fast"].source == Source(path="/opt/other")
    assert again.provenance == {"fast": "env MODEL__FAST__SOURCE"}


def test_a_text_is_any_text() -> None:
    """A resolved path may be longer than a written one, and a template holds whatever a template holds."""
    for strange in ('\U0001f600 \u2028\x7f\n\t"\\', "x" * 100_000, "\udcff half \ud83d", "\ud83d\ude00"):
        found = replace(desired(), templates={"templates/a.jinja": strange})
        model = replace(found.state.models["deep"], source=Source(path=f"/{strange}"))
        found = replace(found, state=replace(found.state, models={**found.state.models, "deep": model}))
        assert restored(canonical(found), found.revision) == found


def test_a_thousand_models_are_restored_in_their_order() -> None:
    models = "".join(f"  m{n}: {{source: {{repo: acme/m{n}}}, priority: {n % 7}}}\n" for n in range(999, -1, -1))
    found = desired(f"version: 1\nmodels:\n{models}")
    again = restored(canonical(found), found.revision)
    assert again == found
    assert list(again.state.models) == [f"m{n}" for n in range(999, -1, -1)]


def test_nothing_declared_is_a_content_too() -> None:
    found = desired("version: 1\nmodels: {}\n")
    assert restored(canonical(found), found.revision) == found


def changed(**entries: Any) -> bytes:
    return written({**json.loads(canonical(desired())), **entries})


def written(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


STATE: dict[str, Any] = json.loads(canonical(desired()))["state"]


def models(**fast: Any) -> dict[str, Any]:
    made = {name: value for name, value in {**STATE["models"]["fast"], **fast}.items() if value is not ...}
    return {**STATE, "models": {**STATE["models"], "fast": made}}


def test_these_contents_are_what_is_refused_but_for_one_thing() -> None:
    assert changed() == canonical(desired())
    assert changed(state=models()) == canonical(desired())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff",
        pytest.param(b"[" * 100_000, id="too deep"),
        changed(format=FORMAT + 1),
        changed(format=True),
        changed(more={}),
        changed(order=["fast"]),
        changed(order=["fast", "deep", "deep"]),
        changed(order=["fast", "other"]),
        changed(order={"fast": 0, "deep": 1}),
        changed(templates=[]),
        changed(templates={"a": 1}),
        changed(provenance=None),
        changed(state=[]),
        changed(state={**STATE, "version": 2}),
        changed(state={**STATE, "colour": "red"}),
        changed(state={name: value for name, value in STATE.items() if name != "models"}),
        changed(state=models(colour="red")),
        changed(state=models(source=...)),
        changed(state=models(source="acme/fast")),
        changed(state=models(port="8100")),
        changed(state=models(port=True)),
        changed(state=models(port=8100.0)),
        changed(state=models(activation="sometimes")),
        changed(state=models(aliases="ab")),
        changed(state=models(options={"a": None})),
        changed(state=models(options={"a": [1]})),
        changed(state=models(convert={"bits": 7})),
        changed(state=models(priority=0)),
        changed(state=models(draft=None)),
        canonical(desired()) + b"\n",
        json.dumps(json.loads(canonical(desired()))).encode(),
        canonical(desired()).replace(b'"order":["fast","deep"],', b'"order":[],"order":["fast","deep"],'),
        canonical(desired()).replace("ü".encode(), b"\\u00fc"),
    ],
)  # fmt: skip
def test_what_it_has_not_written_is_refused(content: bytes) -> None:
    assert content != canonical(desired())
    with pytest.raises(ValueError, match=r"\w"):
        restored(content, "r")


def test_a_number_that_is_none_is_not_written() -> None:
    found = desired()
    model = replace(found.state.models["fast"], options={"a": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        canonical(replace(found, state=replace(found.state, models={"fast": model})))


def test_its_name_is_its_sha256() -> None:
    assert digest(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
