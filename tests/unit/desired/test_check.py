"""Rules between fields: every one is broken once, at its place, and names the other place."""

import re
from pathlib import Path

import pytest

import reconciler.desired

from .reading import many_models, one_model, only, problems, said, state

RANGES = "version: 1\nports: {team: 8100-8119, experimental: 8120-8139}\n"
TWO = (
    "version: 1\n"
    "models:\n"
    "  a:\n"
    "    source: {repo: org/a}\n"
    "    port: 8100\n"
    "    aliases: [x]\n"
    "  b:\n"
    "    source: {repo: org/b}\n"
    "    port: 8101\n"
    "    aliases: [w]\n"
)

BROKEN: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "two models on a port": (TWO.replace("8101", "8100"), "9:11 duplicate-port", ("8100", "a", "b", "line 5")),
    "a port of no range": (TWO + "ports: {team: 8100-8100}\n", "9:11 port-out-of-range", ("8101", "team", "8100-8100")),
    "auto without its range": (
        one_model(port="auto") + "ports: {team: 8100-8119}\n",
        "5:11 no-auto-range",
        ("experimental",),
    ),
    "the port of the front door": (
        one_model(port="8100") + "gateways: {front: {port: 8100}}\n",
        "5:11 port-of-front-door",
        ("line 6",),
    ),
    "the front door among automatic ports": (
        "version: 1\nmodels: {}\nports: {experimental: 8120-8139}\ngateways: {front: {port: 8139}}\n",
        "4:26 front-door-in-range",
        ("8139", "experimental", "8120-8139"),
    ),
    "a range that goes down": (
        "version: 1\nmodels: {}\nports: {a: 9000-8000}\n",
        "3:12 reversed-range",
        ("8000-9000",),
    ),
    "a range outside": ("version: 1\nmodels: {}\nports: {a: 60000-70000}\n", "3:12 range-out-of-range", ("65535",)),
    "ranges that overlap": (
        "version: 1\nmodels: {}\nports:\n  a: 8100-8119\n  b: 8119-8130\n",
        "5:6 ranges-overlap",
        ("a", "8100-8119", "line 4"),
    ),
    "an alias of two": (TWO.replace("[w]", "[z, x]"), "10:18 duplicate-alias", ("line 6",)),
    "an alias twice": (TWO.replace("[w]", "[w, w]"), "10:18 duplicate-alias", ("w",)),
    "an alias that is a label": (TWO.replace("[x]", "[b]"), "6:15 alias-is-label", ("another model", "line 7")),
    "an alias that is its label": (TWO.replace("[x]", "[a]"), "6:15 alias-is-label", ("its own label",)),
    "a group of no group": (
        one_model(group="vison") + "groups: {vision: {resident: 1}}\n",
        "5:12 unknown-group",
        ("did you mean vision",),
    ),
    "a group too small": (
        TWO.replace("aliases: [x]", "group: g").replace("aliases: [w]", "group: g") + "groups: {g: {resident: 1}}\n",
        "11:10 group-too-small",
        ("a (line 3)", "b (line 7)"),
    ),
    "litellm through no front door": (
        one_model() + "gateways: {litellm: {mode: front}}\n",
        "5:28 no-front-door",
        ("gateways.front",),
    ),
    "optillm": (
        one_model() + "gateways: {litellm: {optillm: {enabled: true}}}\n",
        "5:41 optillm-unavailable",
        ("enabled",),
    ),
    "a host of no model": (
        one_model() + "hosts: {h: {models: [a, aa]}}\n",
        "5:25 unknown-label",
        ("aa", "not in models"),
    ),
    "a label at two hosts": (
        one_model() + "hosts: {h: {models: [a]}, i: {models: [a]}}\n",
        "5:40 label-at-two-hosts",
        ("h", "i", "line 5"),
    ),
    "a label without host": (TWO + "hosts: {h: {models: [a]}}\n", "7:3 label-without-host", ("b",)),
    "both sources": (one_model(source="{repo: a/b, path: /x}"), "4:13 source-not-one", ("both",)),
    "no source": (one_model(source="{}"), "4:13 source-not-one", ("neither",)),
    "a revision of a path": (
        one_model(source="{path: '${root.r}', revision: main}"),
        "4:43 revision-of-path",
        ("repository",),
    ),
    "a revision that climbs": (one_model(source="{repo: a/b, revision: a/../b}"), "4:35 bad-value", ("'..'",)),
    "a relative path": (one_model(source="{path: models/x}"), "4:20 path-not-absolute", ("${root.NAME}",)),
    "a path of a home": (one_model(source="{path: ~/models}"), "4:20 path-of-home", ("${root.NAME}",)),
    "a path that climbs": (one_model(source="{path: /a/../b}"), "4:20 path-not-plain", ("'..'",)),
    "a path of two slashes": (one_model(source="{path: //a}"), "4:20 path-not-plain", ("'//'",)),
    "a draft of both": (one_model(draft="{repo: a/b, path: /x}"), "5:12 source-not-one", ("models.a.draft",)),
    "a denied source": (
        one_model(source="{repo: mlx-community/gemma-2-27b-it-4bit}") + "policy: {deny_sources: ['*gemma-2*']}\n",
        "4:13 source-denied",
        ("*gemma-2*",),
    ),
    "moved without a port": (one_model(moved_from="8100"), "5:17 moved-without-port", ("none",)),
    "moved nowhere": (one_model(port="8100", moved_from="8100"), "6:17 moved-nowhere", ("old port",)),
    "a lifetime of what always runs": (one_model(idle_ttl="15m"), "5:15 idle-ttl-without-on-demand", ("on-demand",)),
    "a mode with one size": (
        one_model(convert="{mode: mxfp4, bits: 5}"),
        "5:34 convert-contradicts",
        ("leave it out",),
    ),
    "required twice": (one_model(requires="[tools, tools]"), "5:15 duplicate-requirement", ("twice",)),
    "a flag for a value": (one_model(options="{x: --trust-remote-code}"), "5:18 value-like-a-flag", ("flag",)),
    "a flag for a name": (one_model(options="{--trust: 1}"), "5:15 looks-like-a-flag", ("trust",)),
    "a secret": (one_model(request_params="{key: hf_ABCDEFGHIJKLMNOPQRSTUV}"), "5:27 looks-like-a-secret", ("secret",)),
    "what LiteLLM must not be told": (
        one_model(request_params="{api_base: x}") + "gateways: {litellm: {mode: direct}}\n",
        "5:32 request-param-refused",
        ("requests go",),
    ),
    "a placeholder elsewhere": (one_model(options="{x: '${env.X}'}"), "5:18 bad-placeholder", ("paths",)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_says_where_and_what_else(name: str) -> None:
    text, expected, words = BROKEN[name]
    found = only(problems(text, roots={"r": "/opt"}))
    assert said((found,)) == [expected]
    for word in words:
        assert word in found.message


def test_every_rule_has_a_case() -> None:
    room = Path(reconciler.desired.__file__).parent
    reported = {
        name
        for file in ("check.py", "check_models.py")
        for name in re.findall(r'"([a-z]+(?:-[a-z]+)+)"', (room / file).read_text())
    }
    reported -= {"on-demand", "machine-path-in-git", "too-many-models"}
    covered = {expected.partition(" ")[2] for _, expected, _ in BROKEN.values()}
    assert reported <= covered, reported - covered


@pytest.mark.fault("D04")
@pytest.mark.req("S1-44")
def test_one_port_one_model_names_both_labels_and_lines() -> None:
    found = only(problems(TWO.replace("8101", "8100")))
    assert found.line == 9
    for word in ("8100", " a ", " b ", "line 5", "line 9"):
        assert word in found.message


@pytest.mark.req("S1-01")
@pytest.mark.parametrize("port", ["8099", "8140", "1024"])
def test_a_port_outside_of_the_ranges_is_refused_with_the_ranges(port: str) -> None:
    found = only(problems(RANGES + f"models: {{a: {{source: {{repo: a/b}}, port: {port}}}}}\n"))
    assert found.reference == "port-out-of-range"
    assert "8100-8119" in found.message
    assert "8120-8139" in found.message


@pytest.mark.parametrize("port", ["8100", "8119", "8120", "8139"])
def test_both_ends_of_a_range_belong_to_it(port: str) -> None:
    assert problems(RANGES + f"models: {{a: {{source: {{repo: a/b}}, port: {port}}}}}\n") == ()


def test_two_hosts_may_use_one_port() -> None:
    text = TWO.replace("8101", "8100") + "hosts: {h: {models: [a]}, i: {models: [b]}}\n"
    assert problems(text) == ()


@pytest.mark.req("S0-25", "S3-11")
def test_a_source_is_a_repository_or_a_path() -> None:
    assert only(problems(one_model(source="{repo: a/b, path: /x}"))).reference == "source-not-one"
    assert only(problems(one_model(source="{}"))).reference == "source-not-one"
    assert only(problems("version: 1\nmodels:\n  a: {port: 8100}\n")).reference == "missing-field"
    assert problems(one_model(source="{repo: a/b}")) == ()
    assert problems(one_model(source="{path: '${root.r}/b'}"), roots={"r": "/opt"}) == ()


@pytest.mark.req("S0-05")
def test_community_variants_and_a_draft_are_accepted() -> None:
    for repo in ("gemma-4-31b-it-bf16", "gemma-4-31b-it-4bit", "gemma-4-31b-it-8bit", "gemma-4-31B-it-assistant-bf16"):
        text = one_model(source=f"{{repo: mlx-community/{repo}, revision: v1.0}}", draft="{repo: mlx-community/small}")
        read = state(text).models["a"]
        assert read.source.repo == f"mlx-community/{repo}"
        assert read.source.revision == "v1.0"
        assert read.draft is not None
        assert read.draft.repo == "mlx-community/small"


@pytest.mark.req("S0-16", "S0-21", "S0-29")
@pytest.mark.parametrize(
    ("repo", "denied"),
    [
        ("mlx-community/gemma-2-27b-it-4bit", True),
        ("google/Gemma-2-9b", True),
        ("mlx-community/gemma-3-27b-it-qat-4bit", False),
        ("google/gemma-4-31B-it", False),
    ],
)
@pytest.mark.parametrize("field", ["source", "draft"])
def test_denied_sources_stay_denied(repo: str, denied: bool, field: str) -> None:
    given = {"source": "{repo: org/name}", field: f"{{repo: {repo}}}"}
    found = problems(one_model(**given) + "policy: {deny_sources: ['*gemma-2*']}\n")
    assert [problem.reference for problem in found] == ["source-denied"] * denied


@pytest.mark.req("S0-16")
def test_a_denied_source_is_denied_from_the_environment_as_well() -> None:
    text = one_model() + "policy: {deny_sources: ['*gemma-2*']}\n"
    found = only(problems(text, environ={"MODEL__A__SOURCE": "google/gemma-2-9b"}))
    assert found.reference == "source-denied"
    assert "MODEL__A__SOURCE" in found.message


@pytest.mark.req("S0-37")
def test_label_and_repository_may_be_spelled_alike_and_are_not_linked() -> None:
    alike = "version: 1\nmodels:\n  name: {source: {repo: org/name}, port: 8100}\n"
    same = state(alike).models["name"]
    assert same.source.repo == "org/name"
    relabelled = state(alike.replace("  name:", "  other:"))
    assert relabelled.models == {"other": same}
    resourced = state(alike.replace("org/name", "org/else"))
    assert list(resourced.models) == ["name"]
    assert resourced.models["name"].source.repo == "org/else"


@pytest.mark.fault("S02")
@pytest.mark.parametrize("field", ["options", "request_params"])
@pytest.mark.parametrize(
    "given",
    [
        "{x: --trust-remote-code}",
        "{x: -t}",
        "{x: '--trust'}",
        "{x: '-'}",
        "{--trust: true}",
        "{'-t': true}",
        "{'a b': 1}",
        "{'a=b': 1}",
        "{'': 1}",
        "{'a;b': 1}",
    ],
)
def test_nothing_can_be_read_as_another_flag(field: str, given: str) -> None:
    found = only(problems(one_model(**{field: given})))
    assert found.reference in ("looks-like-a-flag", "value-like-a-flag", "bad-name")
    assert found.line == 5


@pytest.mark.fault("S02")
@pytest.mark.parametrize("field", ["backend", "tool_call_parser", "reasoning_parser", "group", "chat_template"])
@pytest.mark.parametrize("prefix", ["-", "--", "--t", "--trust", "--trust-remote-code"])
def test_no_name_begins_like_a_flag(field: str, prefix: str) -> None:
    assert only(problems(one_model(**{field: f'"{prefix}"'}))).line == 5


@pytest.mark.parametrize(
    "value",
    [
        "hf_ABCDEFGHIJKLMNOPQRSTUV",
        "sk-abcdefghijklmnopqrstuvwx",
        "ghp_ABCDEFGHIJKLMNOPQRST",
        "Bearer abcdefghijklmnopqrstuv",
    ],
)
def test_a_secret_is_not_repeated(value: str) -> None:
    found = only(problems(one_model(request_params=f"{{key: {value}}}")))
    assert found.reference == "looks-like-a-secret"
    assert value not in found.message


def test_a_mistake_in_one_model_hides_none_in_others() -> None:
    text = (
        TWO.replace("8101", "8100").replace("repo: org/a", "repo: bare")
        + "  c: {source: {repo: a/b}, prot: 1, port: 8100}\n"
    )
    assert {problem.reference for problem in problems(text)} == {"bare-repository-name", "unknown-field"}
    text = TWO.replace("8101", "8100") + "  c: {source: {repo: a/b}, prot: 1}\n"
    assert {problem.reference for problem in problems(text)} == {"duplicate-port", "unknown-field"}


def test_a_section_that_was_refused_makes_no_other_problem() -> None:
    text = one_model(port="8100", group="g", aliases="[x]") + "ports: {team: x}\ngroups: {g: {resident: 0}}\n"
    assert [p.reference for p in problems(text)] == ["bad-value", "out-of-range"]
    text = one_model(prot="8100") + "hosts: {h: {models: [a]}}\n"
    assert [p.reference for p in problems(text)] == ["unknown-field"]


def test_a_host_that_lists_what_is_no_label() -> None:
    text = one_model() + "hosts: {h: {models: [a, {}, [x], 1, 'A B']}}\n"
    assert [p.reference for p in problems(text)] == ["wrong-type", "wrong-type", "wrong-type", "bad-value"]


@pytest.mark.fault("S32")
def test_ten_thousand_models_are_read_and_one_more_is_refused() -> None:
    assert len(state(many_models(10_000)).models) == 10_000
    found = only(problems(many_models(10_001)))
    assert said((found,)) == ["2:1 too-many-models"]
    assert "10000" in found.message


@pytest.mark.fault("S32")
@pytest.mark.parametrize(
    "text",
    [
        "version: 1\nmodels: {}\nports:\n" + "".join(f" r{n}: {n + 1024}-{n + 1024}\n" for n in range(20_000)),
        "version: 1\nmodels: {}\nports:\n" + "".join(f" r{n}: 1024-65535\n" for n in range(20_000)),
        one_model(aliases="[" + ", ".join(f"x{n}" for n in range(60_000)) + "]"),
        one_model(aliases="[" + ", ".join(["x"] * 60_000) + "]"),
        one_model() + "policy: {deny_sources: [" + ", ".join(["'*a*a*a*a*a*a*a*b'"] * 20_000) + "]}\n",
        one_model() + "hosts: {h: {models: [" + ", ".join(["a"] * 60_000) + "]}}\n",
        one_model(group="g") + "groups: {" + ", ".join(f"g{n}: {{}}" for n in range(20_000)) + "}\n",
    ],
    ids=["ranges", "overlaps", "aliases", "one alias", "patterns", "one label", "groups"],
)
def test_a_file_that_declares_very_much_of_one_thing_comes_to_an_end(text: str) -> None:
    assert len(problems(text)) <= 101
