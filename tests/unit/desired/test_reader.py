"""Strict YAML: what the text may be made of, and where it says that something is wrong."""

import pytest
import yaml

from reconciler.desired.findings import Findings
from reconciler.desired.reader import MAX_BYTES, MAX_DEPTH, PARSER, PURE_PARSER
from reconciler.desired.reader import read as read_tree

from .reading import one_model, only, problems, read, said, state

AMBIGUOUS = """
no No NO yes on off y n True FALSE Null 017640 0o17 0x1F 0b1 81:00 1:30:00 1e3 1.5E-3 .inf -.INF .nan 1_000 .5 5. +1
2001-01-01 2001-12-14T21:59:43.10-05:00 99999999999999999999
"""
RIGHT = "version: 1\nmodels: {}\n"


def bomb(levels: int) -> str:
    """Ten times ten times ... of a word, by aliases."""
    lines = ["version: 1\nmodels: {}", "l0: &l0 [lol]"]
    for level in range(1, levels + 1):
        lines.append(f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * 10)}]")
    return "\n".join(lines)


def merge_bomb(levels: int) -> str:
    """The same by merge keys."""
    lines = ["version: 1\nmodels: {}", "m0: &m0 {a: 1}"]
    for level in range(1, levels + 1):
        lines.append(f"m{level}: &m{level} {{<<: [{', '.join([f'*m{level - 1}'] * 10)}]}}")
    return "\n".join(lines)


@pytest.mark.fault("D01")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("version: 1\nmodels: {a: [}\n", "2:14 syntax"),
        ("version: 1\nmodels: {\n", "3:1 syntax"),
        ("version: 1\n  models: {}\n", "2:9 syntax"),
        ("version: 1\nmodels: 'a\n", "3:1 syntax"),
        ("version: 1\n- a\n", "2:1 syntax"),
        ("version: 1\nmodels: @a\n", "2:9 syntax"),
        ("%YAML 9.9\n---\nversion: 1\n", "1:1 syntax"),
    ],
)
def test_malformed_yaml_says_where(text: str, expected: str) -> None:
    assert said(problems(text)) == [expected]


@pytest.mark.fault("D02")
@pytest.mark.parametrize("text", [bomb(9), merge_bomb(8), bomb(2)], ids=["aliases", "merges", "small"])
def test_a_bomb_is_refused_before_it_grows(text: str) -> None:
    found = problems(text)
    assert {problem.reference for problem in found} <= {"alias", "merge-key", "unknown-field", "too-many-problems"}
    assert next(line for line in said(found) if line.endswith("alias")) == "3:5 alias"


@pytest.mark.fault("D02")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (one_model(port="&p 8100"), "5:11 alias"),
        ("version: 1\nmodels: &m {}\n", "2:9 alias"),
        (one_model(options="{<<: {}}"), "5:15 merge-key"),
    ],
)
def test_nothing_is_shared_or_merged(text: str, expected: str) -> None:
    assert said(problems(text)) == [expected]


@pytest.mark.fault("D03")
@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? ", "[{a: "])
@pytest.mark.parametrize("count", [MAX_DEPTH + 1, 100_000])
def test_deep_nesting_is_refused(opening: str, count: int) -> None:
    found = problems("version: 1\nmodels:\n " + opening * count)
    assert "too-deep" in {problem.reference for problem in found}


def test_the_deepest_allowed_nesting_is_read() -> None:
    depth = MAX_DEPTH - 1
    found = problems("version: 1\nmodels: " + "[" * depth + "]" * depth)
    assert said(found) == ["2:9 wrong-type"]


@pytest.mark.fault("D04")
@pytest.mark.req("S1-06")
@pytest.mark.parametrize(
    ("text", "expected", "first"),
    [
        ("version: 1\nmodels: {}\nversion: 1\n", "3:1 duplicate-key", "line 1"),
        (one_model(port="8100", aliases="[x]") + "    port: 8101\n", "7:5 duplicate-key", "line 5"),
        (
            "version: 1\nmodels:\n  a: {source: {repo: x/y}}\n  a: {source: {repo: x/y}}\n",
            "4:3 duplicate-key",
            "line 3",
        ),
        ('version: 1\nmodels:\n  a: {source: {repo: x/y}}\n  "a": {}\n', "4:3 duplicate-key", "line 3"),
        ("version: 1\npolicy: {prune: true, prune: true}\n", "2:23 duplicate-key", "line 2"),
    ],
)
def test_a_duplicate_key_names_both_lines(text: str, expected: str, first: str) -> None:
    found = problems(text)
    assert expected in said(found)
    assert first in next(problem for problem in found if problem.reference == "duplicate-key").message


@pytest.mark.fault("D05")
@pytest.mark.parametrize(
    "line", ["\tmodels: {}\n", "models:\n\ta: {}\n", "models:\n  \ta: {}\n", "models:\n  a:\n\t- x\n"]
)
def test_a_tab_is_named(line: str) -> None:
    found = only(problems("version: 1\n" + line))
    assert found.reference == "syntax"
    assert "tab" in found.message
    assert "spaces" in found.message


@pytest.mark.fault("D05")
@pytest.mark.parametrize(
    "data",
    [
        RIGHT.replace("\n", "\r\n").encode(),
        b"\xef\xbb\xbf" + RIGHT.encode(),
        b"\xef\xbb\xbf" + RIGHT.replace("\n", "\r\n").encode(),
        RIGHT.rstrip().encode(),
        b"---\n" + RIGHT.encode() + b"...\n",
        b"version: 1\t# a tab before a comment\nmodels: {}\n",
    ],
)
def test_line_ends_byte_order_mark_and_markers_are_accepted(data: bytes) -> None:
    assert state(data) == state(RIGHT)


def test_positions_are_right_after_a_byte_order_mark_and_crlf() -> None:
    assert said(problems(b"\xef\xbb\xbfversion: no\r\nmodels: {}\r\nprot: 1\r\n")) == [
        "1:10 ambiguous-scalar",
        "3:1 unknown-field",
    ]


@pytest.mark.fault("D06")
@pytest.mark.parametrize("value", AMBIGUOUS.split())
def test_an_ambiguous_scalar_is_refused_with_quote_it(value: str) -> None:
    found = only(problems(one_model(options=f"{{x: {value}}}")))
    assert said((found,)) == ["5:18 ambiguous-scalar"]
    assert "quote it" in found.message
    quoted = one_model(request_params=f'{{x: "{value.removeprefix("-")}"}}')
    assert state(quoted).models["a"].request_params == {"x": value.removeprefix("-")}


@pytest.mark.fault("D06")
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("8", 8),
        ("-1", -1),
        ("0", 0),
        ("0.5", 0.5),
        ("-10.25", -10.25),
        ("true", True),
        ("false", False),
        ("text", "text"),
        ("1.2.3", "1.2.3"),
        ("127.0.0.1", "127.0.0.1"),
        ("8100-8119", "8100-8119"),
        ("15m", "15m"),
        ("'8'", "8"),
        ('"true"', "true"),
        ("north", "north"),
        ("2025-09-01-preview", "2025-09-01-preview"),
    ],
)
def test_a_plain_scalar_has_one_meaning(value: str, expected: object) -> None:
    given = read(one_model(options=f"{{x: {value}}}")).desired.state.models["a"].options["x"]
    assert (type(given), given) == (type(expected), expected)


@pytest.mark.fault("D06")
@pytest.mark.parametrize("key", ["no", "true", "null", "1", "~", "1e3", "[a]", "{a: 1}"])
def test_a_key_that_is_no_text_is_never_dropped_in_silence(key: str) -> None:
    assert len(problems(f"version: 1\nmodels: {{}}\n? {key}\n: 1\n")) == 1


@pytest.mark.fault("D07", "S31")
@pytest.mark.parametrize(
    ("text", "expected", "point"),
    [
        ("version: 1\n\u0440\u043ert: 1\n", "2:1 key-not-ascii", "U+0440"),
        ("version: 1\n# a\u202eb\nmodels: {}\n", "2:4 invisible-character", "U+202E"),
        ("version: 1\nmodels: {a\u200b: 1}\n", "2:11 invisible-character", "U+200B"),
        ("version: 1\n# \x1b[31m\n", "2:3 invisible-character", "U+001B"),
        ("version: 1\n# nul \x00\n", "2:7 invisible-character", "U+0000"),
        ("version: 1\n# line\u2028separator\n", "2:7 invisible-character", "U+2028"),
        (one_model(backend='"\\e[31m"'), "5:14 invisible-character", "U+001B"),
        (one_model(backend='"a\\u202eb"'), "5:14 invisible-character", "U+202E"),
        (one_model(aliases="[cafe\u0301]"), "5:15 bad-value", "u0301"),
    ],
)
def test_characters_that_deceive_are_named(text: str, expected: str, point: str) -> None:
    found = problems(text)
    assert expected in said(found)
    assert any(point in problem.message for problem in found)


@pytest.mark.fault("D07")
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"version: 1\n# \xff\n", "2:3 not-utf-8"),
        (b"version: 1\n# \xc3\xa9\xc3(\n", "2:4 not-utf-8"),
        (b"\xff\xfev\x00e\x00", "1:1 not-utf-8"),
        (b"version: 1\n# \xed\xa0\x80\n", "2:3 not-utf-8"),
    ],
)
def test_what_is_not_utf_8_is_refused_at_its_byte(data: bytes, expected: str) -> None:
    found = only(problems(data))
    assert said((found,)) == [expected]
    assert "UTF-8" in found.message


def test_letters_of_every_language_may_stand_in_comments_and_values() -> None:
    text = "# für große Modelle, 日本語, 🙂\n" + one_model(request_params='{greeting: "grüß dich, 世界"}')
    assert state(text).models["a"].request_params == {"greeting": "grüß dich, 世界"}


@pytest.mark.fault("D08", "S32")
@pytest.mark.parametrize(
    ("data", "reference", "limit"),
    [
        (RIGHT + "#" * MAX_BYTES, "too-large", "1048576"),
        (one_model(backend="x" * 4_097), "too-long", "4096"),
        (one_model(backend=f'"{"x" * 4_097}"'), "too-long", "4096"),
        ("version: 1\n" + "x" * 900_000 + ": 1\n", "syntax", ""),
        (RIGHT + "? " + "x" * 5_000 + "\n: 1\n", "too-long", "4096"),
        ("version: 1\nmodels: [" + "a," * 210_000 + "]\n", "too-many-elements", "200000"),
    ],
)
def test_a_limit_names_itself(data: str, reference: str, limit: str) -> None:
    found = only(problems(data))
    assert found.reference == reference
    assert limit in found.message
    assert len(found.message) < 300


def test_a_file_of_the_greatest_size_is_read() -> None:
    assert state(RIGHT + "#" * (MAX_BYTES - len(RIGHT))) == state(RIGHT)


@pytest.mark.fault("D12")
@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "--- ~\n", "null\n", "\ufeff"])
def test_an_empty_file_is_refused(text: str) -> None:
    found = only(problems(text))
    assert said((found,)) == ["1:1 empty"]
    assert "models: {}" in found.message


@pytest.mark.fault("D12")
def test_that_nothing_is_served_can_be_said() -> None:
    assert state("version: 1\nmodels: {}\n").models == {}


@pytest.mark.fault("D12")
@pytest.mark.parametrize(
    ("text", "expected"), [("version: 1\nmodels:\n", "2:8 wrong-type"), ("version: 1\n", "1:1 missing-field")]
)
def test_models_that_lost_their_entries_are_refused(text: str, expected: str) -> None:
    assert said(problems(text)) == [expected]


@pytest.mark.fault("D16")
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("version: 1\n<<<<<<< HEAD\nmodels: {}\n=======\nmodels: {}\n>>>>>>> other\n", 2),
        ("version: 1\r\n<<<<<<< HEAD\r\n", 2),
        ("version: 1\nmodels: {}\n>>>>>>> left behind\n", 3),
        ("version: 1\n||||||| base\n", 2),
        ("version: 1\n# a\n=======\n", 3),
    ],
)
def test_a_merge_conflict_is_called_so(text: str, line: int) -> None:
    found = only(problems(text))
    assert said((found,)) == [f"{line}:1 merge-conflict"]
    assert "merge conflict" in found.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("version: 1\n---\nversion: 1\n", "2:1 several-documents"),
        ("version: !!int 1\nmodels: {}\n", "1:10 tag"),
        ("version: 1\nmodels: !!python/object/apply:os.system {}\n", "2:9 tag"),
        ("version: 1\nmodels: ! {}\n", "2:9 tag"),
        ("!!str version: 1\n", "1:1 tag"),
    ],
)
def test_documents_and_tags(text: str, expected: str) -> None:
    assert said(problems(text))[0] == expected


def test_every_problem_of_a_file_is_said_in_one_run() -> None:
    text = (
        "version: 1\n"
        "prot: 1\n"
        "models:\n"
        "  a:\n"
        "    source: {repo: gemma}\n"
        "    port: no\n"
        "    port: 8100\n"
        "  b:\n"
        "    source: {repo: org/b}\n"
        "    port: 80\n"
        "    requires: [tols]\n"
        "  c: {port: 8100}\n"
    )
    assert [line.partition(" ")[0] for line in said(problems(text))] == [
        "2:1",
        "5:20",
        "6:11",
        "7:5",
        "10:11",
        "11:16",
        "12:3",
    ]


@pytest.mark.fault("D03")
def test_without_the_fast_parser_the_same_is_read() -> None:
    trees = [
        read_tree(one_model(port="8100", aliases="[x, w]").encode(), Findings(), "", p) for p in (PARSER, PURE_PARSER)
    ]
    steps = ("models", "a", "aliases", 1)
    first, second = [tree.find(steps) for tree in trees if tree is not None]
    assert (first.value, first.line, first.column) == (second.value, second.line, second.column) == ("w", 6, 18)
    deep = Findings()
    assert read_tree(b"[" * 100_000, deep, "", PURE_PARSER) is None
    assert [problem.reference for problem in deep.sorted()] == ["too-deep"]


def test_the_parser_is_the_fast_one() -> None:
    assert yaml.__with_libyaml__, "this PyYAML was built without libyaml: reading is twenty times slower"
