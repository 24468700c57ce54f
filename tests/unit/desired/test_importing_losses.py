"""What an import leaves out and says so, what it refuses, and what no registry makes it do."""

import copy
import json
from random import Random
from typing import Any, Final

import pytest
from jsonschema import Draft202012Validator

from reconciler.desired.schema import SCHEMAS
from reconciler.model.problem import InvalidDocument
from tests.fuzz.mutate import mutated
from tests.fuzz.run import misreported

from .importing import imported, refused, state, warned, warnings
from .reading import bundle, read
from .registries import DEEP, FAST, KEPT, VLLM, entry, lane, text, v1, v2

# -------------------------------------------------------------------------------------------- guesses, and what is lost


def test_what_mlxctl_would_infer_is_mentioned_and_not_written() -> None:
    plain = {name: value for name, value in FAST.items() if name not in ("context_length", "max_output_tokens")}
    document = v1(plain, {**KEPT, "repo_id": "acme/Qwen3-Kept", "cache_path": None})
    lines = imported(document).text.splitlines()
    fast, kept = lines.index("  mlx-fast-4b-4bit:"), lines.index("  mlx-kept:")
    assert (
        lines[fast - 1] == "  # Inferred by mlxctl and so not written: format (mlx), context_length, max_output_tokens."
    )
    assert "tool_call_parser, reasoning_parser." in " ".join(line.strip(" #") for line in lines[kept - 2 : kept])
    for model in state(document).models.values():
        assert (model.context_length, model.max_output_tokens) == (None, None)
        assert (model.tool_call_parser, model.reasoning_parser) == (None, None)


def test_everything_without_an_equivalent_is_named_in_a_warning_and_above_the_model() -> None:
    more = {"startup_timeout_seconds": 900, "chat_template_args": {"a": 1}, "unheard_of": [1], "nothing": None}
    document = v1({**FAST, **more, "vllm": VLLM, "source_path": "/opt/first", "format": "gguf"}) | {"extra": 1}
    assert warnings(document) == ["no-equivalent", "no-equivalent"]
    names = (
        "chat_template_args.a, format, source_path, startup_timeout_seconds, unheard_of, vllm.async_scheduling, "
        "vllm.max_model_len, vllm.profile"
    )
    one, other = imported(document).warnings
    assert names in one.message
    assert (one.line, one.where) == (4, "models.mlx-fast-4b-4bit")
    assert other.where == "extra"
    comment = " ".join(line.strip(" #") for line in imported(document).text.splitlines() if "#" in line)
    assert f"Without an equivalent and so left out: {names}." in comment


def test_every_model_says_what_was_left_out_even_where_there_are_too_many_warnings() -> None:
    document = v1(*({**entry("acme/x", f"m{number}"), "lost": 1} for number in range(150)))
    assert warnings(document)[-1] == "too-many-warnings"
    assert imported(document).text.count("Without an equivalent and so left out: lost.") == 150


def test_the_template_is_one_step_away() -> None:
    found = imported(v1(DEEP))
    target = "templates/mlx-gpt-oss-deep-8bit.jinja"
    problem = warned(v1(DEEP), "template-not-imported")
    assert f"copy '/opt/templates/gpt-oss.jinja' to {target}" in problem.message
    assert "/opt/templates" not in found.text
    done = found.text.replace("    # chat_template:", "    chat_template:")
    model = read(bundle(done, {target: "{{ messages }}"})).desired.state.models["mlx-gpt-oss-deep-8bit"]
    assert model.chat_template == target


def test_parsers_without_their_server_program_are_told_once() -> None:
    document = v1(DEEP, {**FAST, "tool_call_parser": "hermes"}, KEPT)
    assert "mlx-gpt-oss-deep-8bit, mlx-fast-4b-4bit name parsers" in warned(document, "backend-not-recorded").message
    mended = imported(document).text.replace("\n# defaults:\n#   backend:", "\ndefaults:\n  backend:")
    assert read(mended).desired.state.defaults.backend == "mlx-openai-server"
    assert "defaults" not in imported(v1(KEPT)).text


def test_a_port_outside_of_mlxctls_ranges_gets_its_own() -> None:
    document = v1(FAST, {**KEPT, "port": 9000})
    assert warnings(document) == ["port-outside-ranges"]
    assert state(document).ports["port-9000"] == "9000-9000"


@pytest.mark.parametrize(
    "params",
    [{"key": "hf_ABCDEFGHIJKLMNOPQRSTUV"}, {"a": "-x"}, {"a": "${env.B}"}, {"a": None}, {"a b": 1}, {"a": [1]}],
)
def test_a_request_parameter_that_cannot_be_declared_is_named_without_its_value(params: dict[str, Any]) -> None:
    document = v1({**FAST, "request_params": params})
    assert state(document).models["mlx-fast-4b-4bit"].request_params == {}
    problem = warned(document, "parameter-left-out")
    assert "hf_" not in problem.message
    assert "hf_" not in imported(document).text
    assert "request_params." in imported(document).text


def test_what_was_believed_of_ports_is_named_and_a_disagreement_too() -> None:
    document = v2(FAST)
    assert warnings(document) == ["no-equivalent", "lanes-left-out"]
    assert "last_known_good_target" in warned(document, "lanes-left-out").message
    document["lanes"]["8105"] = lane(8105, "mlx-fast-4b-4bit")
    assert warnings(document).count("lane-disagrees") == 1
    assert state(document).models["mlx-fast-4b-4bit"].port == 8101


# ------------------------------------------------------------------------------------------------------------- refusals


def test_every_problem_is_told_in_one_run() -> None:
    document = v1(FAST, {**KEPT, "port": "8102"}, {**DEEP, "context_length": 0, "reasoning_parser": "a b"})
    document["models"]["broken"] = []
    assert [line.partition(" ")[2] for line in refused(document)] == [
        "wrong-type",
        "bad-value",
        "out-of-range",
        "wrong-type",
    ]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "1:1 syntax"),
        (b"version: 1\nmodels: {}\n", "1:1 syntax"),
        (b'{"version": 1,\n"models": {},}', "2:14 syntax"),
        (b'{"version": 1, "models": {"\xff": {}}}', "1:28 not-utf-8"),
        (b"[]", "1:1 wrong-type"),
        (b"{}", "1:1 missing-field"),
        (b'{"version": 1}', "1:1 missing-field"),
        (b'{"version": 1, "models": []}', "1:26 wrong-type"),
        (b'{"version": NaN, "models": {}}', "1:13 bad-number"),
        (b'{"version": 1, "models": {}, "x": 1e999}', "1:35 bad-number"),
        (b'{"version": ' + b"9" * 5000 + b"}", "1:13 bad-number"),
        (b"[" * 17 + b"]" * 17, "1:17 too-deep"),
        (b"[" * 200_000 + b"]" * 200_000, "too-deep"),
        (b'{"version": 1, "models": {}}' + b" " * (1 << 20), "too-large"),
        (b'{"version": 2, "models": {}, "lanes": {"8100": 1}}', "1:48 wrong-type"),
    ],
)
def test_what_is_no_registry_is_refused_with_its_place(data: bytes, expected: str) -> None:
    assert refused(data) == [expected]


def test_a_registry_that_would_be_too_large_a_desired_state_is_refused() -> None:
    many = v1(**{f"m{number}": {"repo_id": "a/b"} for number in range(10_001)})
    with pytest.raises(InvalidDocument) as caught:
        imported(json.dumps(many).encode())
    assert caught.value.problems[0].reference in ("too-large", "too-many-models")


@pytest.mark.parametrize("document", [v1(DEEP, FAST, KEPT), v2(DEEP, FAST, KEPT)], ids=["version 1", "version 2"])
def test_the_schema_for_editors_takes_what_is_imported(document: dict[str, Any]) -> None:
    schema = SCHEMAS[f"registry.v{document['version']}.json"]()
    Draft202012Validator(schema).validate(document)
    wrong = copy.deepcopy(document)
    wrong["models"]["mlx-kept"]["port"] = 80
    assert not Draft202012Validator(schema).is_valid(wrong)


BASE: Final = v2({**DEEP, "aliases": ["deep"]}, FAST, {**KEPT, "repo_id": None}) | {"x": {"y": [1, True, None]}}
INTRUDERS: Final[tuple[Any, ...]] = (
    *(None, True, 0, -1, 1.5, 8100.0, 8101, 80, 9000, 1e300, 10**200, "", "a", "A b", "mlx-kept", "acme/b", "/opt/x"),
    *("/opt/${X}", "../x", "\ud800", "\u202e", "\x1b[2J", "x" * 5000, "hf_ABCDEFGHIJKLMNOPQRST", "-x", "no", "gguf"),
    *([], {}, [[]], ["a", "a"], ["deep"], {"a": 1}, {"a": [{}]}, {"target_slug": "mlx-kept"}, {"repo_id": "acme/c"}),
)
"""Values that are right in some place and wrong in most."""


def intruded(document: Any, random: Random) -> bytes:
    """The document with some values replaced, keys renamed or fields added, still as JSON."""
    document = copy.deepcopy(document)
    for _ in range(random.choice((1, 2, 4))):
        inner = document if random.random() < 0.1 else document["models"]
        while isinstance(inner, dict) and inner and random.random() < 0.7:
            below = inner[random.choice(list(inner))]
            if not isinstance(below, dict):
                break
            inner = below
        if isinstance(inner, dict):
            name = random.choice([*inner, *FAST, *DEEP, "new", "\u202e"])
            inner[name] = copy.deepcopy(random.choice(INTRUDERS))
            if not isinstance(document["models"], dict):
                break
    return text(document)


@pytest.mark.fault("S31", "S32")
@pytest.mark.parametrize("part", range(4))
def test_a_mutated_registry_is_imported_or_refused(part: int) -> None:
    """In words that a terminal can show; and what is handed out, the strict reader takes."""
    results = {"imported": 0, "refused": 0}
    for seed in range(part * 500, part * 500 + 500):
        random = Random(seed)
        data = mutated(text(BASE), random) if seed % 3 == 0 else intruded(BASE, random)
        try:
            found = imported(data)
        except InvalidDocument as error:
            problems = error.problems
            assert any(problem.severity == "error" for problem in problems), seed
            assert not any(problem.message.startswith("as a desired state") for problem in problems), (seed, problems)
            results["refused"] += 1
        else:
            read(found.text)
            problems = found.warnings
            results["imported"] += 1
        assert [told for problem in problems if (told := misreported(problem, data))] == [], seed
    assert min(results.values()) > 50, results
