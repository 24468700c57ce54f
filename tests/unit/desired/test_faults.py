"""The faults of a desired file, each with tests named after it: refused, at its place, in words that help."""

from itertools import pairwise

import pytest

from reconciler.desired.findings import MAX_PROBLEMS
from reconciler.desired.reader import MAX_BYTES, MAX_DEPTH, MAX_ELEMENTS, MAX_SCALAR
from reconciler.model.desired import MAX_MODELS

from .reading import many_models, model, one_model, only, problems, said, state

RANGES = "{team: 8100-8119, experimental: 8120-8139}"


def document(*models: str, **rest: str) -> str:
    """Models `a`, `b` ..., from line 3 on, each `{source: {repo: o/n}` and more."""
    given = [f"source: {{repo: o/n}}, {more}" for more in models]
    lines = [f"  {chr(97 + number)}: {{{fields}}}\n" for number, fields in enumerate(given)]
    return "version: 1\nmodels:\n" + "".join(lines) + "".join(f"{name}: {value}\n" for name, value in rest.items())


def bomb(levels: int) -> str:
    """Aliases of aliases: nine levels are a billion values."""
    names = "abcdefghijklmnop"
    lines = [f"  {names[0]}: &{names[0]} [x, x, x, x, x, x, x, x, x]\n"]
    for before, name in pairwise(names[: levels + 1]):
        lines.append(f"  {name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n")
    return "version: 1\nmodels:\n" + "".join(lines)


@pytest.mark.fault("D01")
@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("version: 1\nmodels: {a: {source: {repo: o/n}\n", "3:1"),
        ("version: 1\nmodels: a: b\n", "2:10"),
        ("version: 1\nmodels: [}\n", "2:10"),
        ('version: 1\nmodels: "open\n', "3:1"),
        ("version: 1\n models: {}\n", "2:8"),
    ],
)
def test_d01_malformed_yaml_is_refused_at_its_place(text: str, place: str) -> None:
    assert said(problems(text))[-1] == f"{place} syntax"


@pytest.mark.fault("D01")
def test_d01_what_was_found_before_the_malformed_place_is_said_too() -> None:
    text = "version: 1\nversion: 1\nmodels: no\nx: {]\n"
    assert said(problems(text)) == ["2:1 duplicate-key", "3:9 ambiguous-scalar", "4:5 syntax"]


@pytest.mark.fault("D02")
@pytest.mark.parametrize("text", [bomb(9), "version: 1\na: &a {x: 1}\nb: {<<: *a}\n"])
def test_d02_an_alias_bomb_is_refused_before_it_grows(text: str) -> None:
    assert "alias" in {p.reference for p in problems(text)}


@pytest.mark.fault("D03")
@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_d03_deep_nesting_is_refused_at_its_limit(opening: str) -> None:
    found = problems(opening * 100_000)
    assert [p.reference for p in found][-1] in ("too-deep", "syntax")
    assert str(MAX_DEPTH) in found[-1].message or found[-1].reference == "syntax"


@pytest.mark.fault("D04")
def test_d04_a_duplicate_key_names_both_places() -> None:
    found = problems("version: 1\nmodels:\n  a: {source: {repo: o/n}}\n  b: {source: {repo: o/n}}\n  a: {}\n")
    assert said(found) == ["5:3 duplicate-key"]
    assert "line 3, column 3" in only(found).message


@pytest.mark.fault("D05")
def test_d05_a_tab_is_named_and_crlf_and_bom_are_read() -> None:
    assert "indent with spaces" in only(problems("version: 1\nmodels:\n\ta: {}\n")).message
    assert state(b"\xef\xbb\xbf" + one_model().replace("\n", "\r\n").encode()) == state(one_model())


@pytest.mark.fault("D06")
@pytest.mark.parametrize("value", ["no", "off", "017640", "0x1", "81:00", "1e3", ".inf", "2001-01-01", "1_000"])
def test_d06_an_ambiguous_value_is_refused_and_quoting_helps(value: str) -> None:
    found = problems(one_model(request_params=f"{{x: {value}}}"))
    assert said(found) == ["5:25 ambiguous-scalar"]
    assert "quote it" in only(found).message
    assert model(one_model(request_params=f"{{x: '{value}'}}")).request_params == {"x": value}


@pytest.mark.fault("D07")
@pytest.mark.parametrize(
    ("text", "expected", "point"),
    [
        (one_model(**{"p\u043ert": "8100"}), "5:5 key-not-ascii", "U+043E"),
        (one_model(backend="x\u202ey"), "5:15 invisible-character", "U+202E"),
        (one_model(backend="x\u200by"), "5:15 invisible-character", "U+200B"),
        (one_model(backend="x\u00a0y"), "5:15 invisible-character", "U+00A0"),
        (one_model(**{"cafe\u0301": "1"}), "5:5 key-not-ascii", "U+0301"),
        (one_model(backend='"\\u202e"'), "5:14 invisible-character", "U+202E"),
        ("version: 1\nmodels: {} # \u2066\n", "2:14 invisible-character", "U+2066"),
    ],
)
def test_d07_deceiving_characters_are_named_by_code_point(text: str, expected: str, point: str) -> None:
    found = problems(text)
    assert said(found) == [expected]
    assert point in only(found).message


@pytest.mark.fault("D07")
@pytest.mark.parametrize(
    "data", [b"version: 1\n# \xff\n", b"version: 1\n# \xed\xa0\x80\n", "version: 1".encode("utf-16")]
)
def test_d07_what_is_not_utf_8_is_refused(data: bytes) -> None:
    assert only(problems(data)).reference == "not-utf-8"


@pytest.mark.fault("D08")
@pytest.mark.parametrize(
    ("text", "reference", "limit"),
    [
        ("#" * (MAX_BYTES + 1), "too-large", MAX_BYTES),
        (one_model(backend="x" * (MAX_SCALAR + 1)), "too-long", MAX_SCALAR),
        ("a: [" + "1," * MAX_ELEMENTS + "]", "too-many-elements", MAX_ELEMENTS),
    ],
)
def test_d08_a_limit_is_named(text: str, reference: str, limit: int) -> None:
    found = only(problems(text))
    assert (found.reference, str(limit) in found.message) == (reference, True)


@pytest.mark.fault("D12")
def test_d12_an_empty_file_is_no_empty_ensemble() -> None:
    for text in ("", "# all gone\n", "---\n"):
        assert said(problems(text)) == ["1:1 empty"]
    assert problems("version: 1\nmodels:\n")
    assert state("version: 1\nmodels: {}\n").models == {}


@pytest.mark.fault("D16")
@pytest.mark.parametrize("marker", ["<<<<<<< HEAD", "||||||| base", "=======", ">>>>>>> theirs"])
def test_d16_a_merge_conflict_is_found_before_yaml(marker: str) -> None:
    found = problems(f"version: 1\nmodels: {{}}\n{marker}\nx: [\n")
    assert said(found) == ["3:1 merge-conflict"]


@pytest.mark.fault("D09")
@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        (one_model(prot="8100"), "5:5", "did you mean 'port'?"),
        (one_model(tool_parser="x"), "5:5", "did you mean 'tool_call_parser'?"),
        (one_model(source="{repo: o/n, rev: main}"), "4:25", "repo, revision, path"),
        (one_model(command="[rm]"), "5:5", "known here: source, port"),
        (one_model(env="{LD_PRELOAD: x}"), "5:5", "known here: "),
        ("version: 1\nmodles: {}\n", "2:1", "did you mean 'models'?"),
        ("version: 1\nmodels: {}\ngateways: {litelm: {}}\n", "3:12", "did you mean 'litellm'?"),
        ("version: 1\nmodels: {}\n'a\x20b': 1\n", "3:1", "known here: version"),
    ],
)
def test_d09_an_unknown_field_is_refused_with_the_nearest_name(text: str, place: str, hint: str) -> None:
    found = problems(text)
    assert said(found) == [f"{place} unknown-field"]
    assert hint in only(found).message


@pytest.mark.fault("D09")
@pytest.mark.parametrize(
    ("field", "value", "reference", "expected"),
    [
        ("port", '"8100"', "unknown-choice", "a whole number from 1024 to 65535, 'auto' or 'none'"),
        ("port", '"8100"', "unknown-choice", "write it without quotes"),
        ("port", "8100.0", "wrong-type", "a whole number"),
        ("port", "true", "wrong-type", "'auto' or 'none'; it is true"),
        ("port", "[8100]", "wrong-type", "it is a list"),
        ("port", "", "wrong-type", "it is empty"),
        ("port", "autp", "unknown-choice", "it is the text 'autp'"),
        ("priority", "1.5", "wrong-type", "a whole number from -1000 to 1000"),
        ("priority", "false", "wrong-type", "it is false"),
        ("priority", "1001", "out-of-range", "it is the number 1001"),
        ("context_length", "0", "out-of-range", "from 1 to 16777216"),
        ("backend", "1", "wrong-type", "quote it"),
        ("backend", "mlx lm", "bad-value", "a plain name"),
        ("backend", "--x", "bad-value", "a plain name"),
        ("tool_call_parser", "-x", "bad-value", "a plain name"),
        ("aliases", "deep", "wrong-type", "a list"),
        ("options", "[a]", "wrong-type", "a mapping"),
        ("options", "{a: [1]}", "wrong-type", "true or false; it is a list"),
        ("options", "{a: }", "wrong-type", "it is empty"),
        ("activation", "on_demand", "unknown-choice", "did you mean 'on-demand'?"),
        ("requires", "[toosl]", "unknown-choice", "did you mean 'tools'?"),
        ("convert", "{bits: 7}", "unknown-choice", "2, 3, 4, 5, 6 or 8"),
        ("convert", "{bits: true}", "wrong-type", "2, 3, 4, 5, 6 or 8"),
        ("convert", "{bit: 4}", "unknown-field", "did you mean 'bits'?"),
        ("convert", "4", "wrong-type", "'auto', 'skip', 'force' or a mapping"),
        ("idle_ttl", "15", "wrong-type", "a duration such as 30s"),
        ("idle_ttl", "15 min", "bad-value", "a duration such as 30s"),
        ("source", "org/name", "wrong-type", "a mapping; it is the text 'org/name'"),
        ("source", "{repo: [a]}", "wrong-type", "a repository id 'owner/name'"),
        ("source", "{repo: o/n, revision: 1234567}", "wrong-type", "quote it"),
        ("source", "{repo: o/n, revision: -x}", "bad-value", "a branch, a tag or a commit"),
        ("source", "{repo: o/n/m}", "bad-value", "owner/name"),
    ],
)
def test_d09_a_wrong_value_says_what_was_expected(field: str, value: str, reference: str, expected: str) -> None:
    found = only(problems(one_model(**{field: value})))
    assert found.reference == reference
    assert found.where.startswith(f"models.a.{field}")
    assert found.line == (4 if field == "source" else 5)
    assert expected in found.message


@pytest.mark.fault("D10")
def test_d10_a_newer_version_says_so_and_nothing_else() -> None:
    found = problems("models: 7\nversion: 2\nsomething_new: [1]\n")
    assert said(found) == ["2:10 newer-version"]
    assert "newer reconciler" in only(found).message


@pytest.mark.req("S1-01")
@pytest.mark.fault("P11")
def test_p11_a_port_outside_of_every_range_names_the_ranges() -> None:
    found = problems(document("port: 8200", "port: 8119", ports=RANGES))
    assert said(found) == ["3:34 port-out-of-range"]
    assert "team (8100-8119), experimental (8120-8139)" in only(found).message
    assert problems(document("port: 8200")) == ()


@pytest.mark.fault("P11")
@pytest.mark.parametrize("port", ["80", "1023", "65536", "0", "-1", "443"])
def test_p11_privileged_and_impossible_ports_are_refused(port: str) -> None:
    assert said(problems(document(f"port: {port}"))) == ["3:34 out-of-range"]


@pytest.mark.fault("P11")
def test_p11_the_port_of_the_front_door_is_taken() -> None:
    found = problems(document("port: 1234", gateways="{front: {port: 1234}}"))
    assert said(found) == ["3:34 port-of-front-door"]
    assert "line 4" in only(found).message


@pytest.mark.fault("S02")
@pytest.mark.parametrize("field", ["options", "request_params"])
@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("--trust-remote-code: true", "looks-like-a-flag"),
        ("-x: 1", "looks-like-a-flag"),
        ("temp: --trust-remote-code", "value-like-a-flag"),
        ("temp: '-1'", "value-like-a-flag"),
        ("'temp --trust': 1", "bad-name"),
        ("temp=1: 1", "bad-name"),
        ("'': 1", "bad-name"),
        ("temp: '${env.HOME}'", "bad-placeholder"),
    ],
)
def test_s02_an_option_cannot_become_a_flag(field: str, entry: str, expected: str) -> None:
    found = problems(one_model(**{field: f"{{{entry}}}"}))
    assert [p.reference for p in found] == [expected]
    assert only(found).line == 5
    assert only(found).where.startswith(f"models.a.{field}.")


@pytest.mark.fault("S02")
def test_s02_a_negative_number_is_a_number() -> None:
    assert model(one_model(options="{bias: -1, temp: -0.5}")).options == {"bias": -1, "temp": -0.5}


@pytest.mark.fault("S14")
@pytest.mark.parametrize("secret", ["hf_" + "a" * 30, "sk-" + "a" * 30, "Bearer " + "a" * 30, "ghp_" + "A" * 30])
def test_s14_a_secret_in_git_is_refused_and_not_repeated(secret: str) -> None:
    found = only(problems(one_model(request_params=f"{{api_key: '{secret}'}}")))
    assert found.reference == "looks-like-a-secret"
    assert "aaa" not in found.message.lower()
    assert problems(one_model(request_params="{note: risk-assessment-of-everything}")) == ()


@pytest.mark.fault("S31")
def test_s31_a_hostile_text_cannot_write_to_the_terminal() -> None:
    hostile = '"\\x1b]0;owned\\x07\\r\\n\\u202e"'
    for text in (
        one_model(backend=hostile),
        one_model(aliases=f"[{hostile}]"),
        one_model(options=f"{{{hostile}: 1}}"),
        one_model(**{hostile: "1"}),
        f"version: 1\nmodels: {{}}\npolicy: {{deny_sources: {hostile}}}\n",
        "version: 1\nmodels: {}\n? !<\x20x\n",
        "version: 1\nmodels: {}\n'a\nb': 1\n",
    ):
        assert said(problems(text)), text


@pytest.mark.fault("S32")
def test_s32_a_thousand_problems_are_a_hundred() -> None:
    text = "version: 1\nmodels:\n" + "".join(f"  m{n}: {{source: {{repo: bare}}, prot: 1}}\n" for n in range(1_000))
    found = problems(text)
    assert len(found) == MAX_PROBLEMS + 1
    assert found[-1].reference == "too-many-problems"


@pytest.mark.fault("S32")
def test_s32_too_many_models_are_refused() -> None:
    found = problems(many_models(MAX_MODELS + 1))
    assert said(found) == ["2:1 too-many-models"]
    assert str(MAX_MODELS) in only(found).message
    assert len(state(many_models(MAX_MODELS)).models) == MAX_MODELS


@pytest.mark.fault("S32")
def test_s32_patterns_do_not_explode() -> None:
    text = (
        one_model(source="{repo: o/" + "a" * 90 + "}") + f"policy: {{deny_sources: ['{'*a' * 1_000}b', '[', '[!]']}}\n"
    )
    assert problems(text) == ()
