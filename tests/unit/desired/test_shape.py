"""What every field may be, and the words in which it says so."""

import pytest

from .reading import host_problems, model, one_model, only, problems, said

HEAD = "version: 1\nmodels: {}\n"


@pytest.mark.fault("D09")
@pytest.mark.parametrize(
    ("text", "expected", "hint"),
    [
        (one_model(prot="8100"), "5:5 unknown-field", "did you mean 'port'"),
        (one_model(chat_tempalte="a.jinja"), "5:5 unknown-field", "did you mean 'chat_template'"),
        (one_model(zzzzzzzz="1"), "5:5 unknown-field", "known here: source, port"),
        ("version: 1\nmodells: {}\n", "2:1 unknown-field", "did you mean 'models'"),
        (HEAD + "gateways: {frnt: {port: 1234}}\n", "3:12 unknown-field", "did you mean 'front'"),
        (HEAD + "policy: {prnue: false}\n", "3:10 unknown-field", "did you mean 'prune'"),
        (HEAD + "defaults: {context: 1}\n", "3:12 unknown-field", "did you mean 'context_length'"),
        (HEAD + "groups: {g: {resdent: 1}}\n", "3:14 unknown-field", "did you mean 'resident'"),
        (one_model(convert="{bts: 4}"), "5:15 unknown-field", "did you mean 'bits'"),
        (one_model(activation="ondemand"), "5:17 unknown-choice", "did you mean 'on-demand'"),
        (one_model(requires="[tool]"), "5:16 unknown-choice", "did you mean 'tools'"),
    ],
)
def test_a_typo_gets_the_name_that_was_meant(text: str, expected: str, hint: str) -> None:
    found = only(problems(text))
    assert said((found,)) == [expected]
    assert hint in found.message


@pytest.mark.fault("D09")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- 1\n", "1:1 wrong-type"),
        ("text\n", "1:1 wrong-type"),
        ("1\n", "1:1 wrong-type"),
        ("version: '1'\nmodels: {}\n", "1:10 wrong-type"),
        ("version: true\nmodels: {}\n", "1:10 wrong-type"),
        ("version: 1.0\nmodels: {}\n", "1:10 wrong-type"),
        ("version: 0\nmodels: {}\n", "1:10 unknown-choice"),
        ("models: {}\n", "1:1 missing-field"),
        ("version: 1\nmodels: []\n", "2:9 wrong-type"),
        ("version: 1\nmodels:\n  a: 1\n", "3:6 wrong-type"),
        ("version: 1\nmodels:\n  a:\n", "3:5 wrong-type"),
        ("version: 1\nmodels:\n  a: {port: 8100}\n", "3:3 missing-field"),
        (one_model(source="org/name"), "4:13 wrong-type"),
        (one_model(source="{repo: 1}"), "4:20 wrong-type"),
        (one_model(port="80"), "5:11 out-of-range"),
        (one_model(port="65536"), "5:11 out-of-range"),
        (one_model(port="8100.0"), "5:11 wrong-type"),
        (one_model(port="true"), "5:11 wrong-type"),
        (one_model(port="{}"), "5:11 wrong-type"),
        (one_model(port="automatic"), "5:11 unknown-choice"),
        (one_model(priority="1001"), "5:15 out-of-range"),
        (one_model(context_length="0"), "5:21 out-of-range"),
        (one_model(aliases="deep"), "5:14 wrong-type"),
        (one_model(aliases="[deep, Deep]"), "5:21 bad-value"),
        (one_model(idle_ttl="15", activation="on-demand"), "5:15 wrong-type"),
        (one_model(idle_ttl="15x", activation="on-demand"), "5:15 bad-value"),
        (one_model(options="{a: [1]}"), "5:18 wrong-type"),
        (one_model(options="{a: ~}"), "5:18 wrong-type"),
        (one_model(options="{a b: 1}"), "5:15 bad-name"),
        (one_model(convert="always"), "5:14 unknown-choice"),
        (one_model(convert="{bits: 7}"), "5:21 unknown-choice"),
        (one_model(backend="''"), "5:14 bad-value"),
        (HEAD + "policy: {prune: 1}\n", "3:17 wrong-type"),
        (HEAD + "policy: {prune: 'yes'}\n", "3:17 wrong-type"),
        (HEAD + "ports: {team: 8100}\n", "3:15 wrong-type"),
        (HEAD + "ports: {team: 8100-}\n", "3:15 bad-value"),
        (HEAD + "ports: {Team: 8100-8119}\n", "3:9 bad-name"),
        (HEAD + "groups: {g: {resident: 0}}\n", "3:24 out-of-range"),
    ],
)
def test_a_wrong_value_is_reported_at_its_place(text: str, expected: str) -> None:
    found = problems(text)
    assert said(found) == [expected], found


@pytest.mark.req("S1-12")
@pytest.mark.parametrize("port", ["abc", "'8100'", "-1", "[8100]"])
def test_a_port_is_a_number_auto_or_none(port: str) -> None:
    assert only(problems(one_model(port=port))).where == "models.a.port"


@pytest.mark.req("S1-12", "S3-15")
def test_every_form_of_a_port_is_read() -> None:
    assert model(one_model(port="8000")).port == 8000
    assert model(one_model(port="8100")).port == 8100
    assert model(one_model(port="auto") + "ports: {experimental: 8120-8139}\n").port == "auto"
    assert model(one_model(port="none")).port == model(one_model()).port == "none"


@pytest.mark.fault("D07")
@pytest.mark.req("S3-10")
@pytest.mark.parametrize("label", ["../../evil", "a/b", "A", "-x", ".x", "''", "a b", "a" * 129, "a\\b", "~"])
def test_a_label_is_no_path_and_nothing_else_than_a_plain_name(label: str) -> None:
    found = only(problems(f"version: 1\nmodels:\n  {label}: {{source: {{repo: org/name}}}}\n"))
    assert (found.line, found.column) == (3, 3)
    assert found.reference in ("bad-name", "key-not-text")


@pytest.mark.req("S3-10")
def test_a_model_in_a_list_without_a_name_is_refused_at_its_line() -> None:
    assert said(problems("version: 1\nmodels:\n  - source: {repo: org/name}\n")) == ["3:3 wrong-type"]


@pytest.mark.fault("D10")
@pytest.mark.parametrize("text", ["version: 2\nmodels: {}\n", "version: 2\nmodel_servers: [x]\nmodels: 7\n"])
def test_a_newer_format_is_called_so_and_nothing_else_is_said(text: str) -> None:
    found = only(problems(text))
    assert said((found,)) == ["1:10 newer-version"]
    assert "newer reconciler" in found.message
    assert said(host_problems(text)) == ["1:10 newer-version"]


@pytest.mark.req("S0-02")
@pytest.mark.parametrize("field", ["source", "draft"])
@pytest.mark.parametrize("name", ["gemma-4-31b-it", "x", "Gemma.4"])
def test_a_label_where_a_repository_belongs_is_refused_and_told_how_it_is_meant(field: str, name: str) -> None:
    given = {"source": "{repo: org/name}", field: f"{{repo: {name}}}"}
    found = only(problems(one_model(**given)))
    assert found.reference == "bare-repository-name"
    assert found.where == f"models.a.{field}.repo"
    assert found.message.startswith(found.where)
    assert "looks like an API label" in found.message
    assert "owner/name" in found.message
    assert f"mlx-community/{name}" in found.message


@pytest.mark.parametrize(
    ("repo", "reference"),
    [
        ("/opt/models/x", "path-as-repository"),
        ("~/models/x", "path-as-repository"),
        ("./x", "path-as-repository"),
        ("../../evil", "path-as-repository"),
        ("https://example.org/a/b", "url-as-repository"),
        ("a/b@main", "revision-in-repository"),
        ("a/b/c", "bad-value"),
        ("a/", "bad-value"),
        ("-a/b", "bad-value"),
        ("''", "bad-value"),
        ("a/..", "bad-value"),
        ("a/b..c", "bad-value"),
        ('"a/b\\n"', "bad-value"),
        ("a/b --trust-remote-code", "bad-value"),
    ],
)
def test_what_is_no_repository(repo: str, reference: str) -> None:
    assert only(problems(one_model(source=f"{{repo: {repo}}}"))).reference == reference


@pytest.mark.req("S0-04")
@pytest.mark.parametrize("repo", ["google/gemma-4-31B-it", "mlx-community/gemma-4-31b-it-4bit", "a/B_c.D-e"])
def test_a_repository_keeps_its_letter_case(repo: str) -> None:
    assert model(one_model(source=f"{{repo: {repo}}}")).source.repo == repo


@pytest.mark.fault("S31")
@pytest.mark.parametrize(
    "text",
    [
        one_model(source='{repo: "x\\ty\\nz"}'),
        one_model(chat_template='"a\\nb"'),
        one_model(backend='"a\\tb"'),
        'version: 1\nmodels:\n  "a\\nb": {source: {repo: org/name}}\n',
        one_model(options='{"a\\tb": 1}'),
        HEAD + '"pr\\nune": 1\n',
        HEAD + "policy: {deny_sources: 7}\n'a\n\n  b': 1\n",
    ],
)
def test_no_message_has_a_character_that_a_terminal_obeys(text: str) -> None:
    assert said(problems(text))


@pytest.mark.fault("S32")
def test_a_great_many_problems_are_cut_short() -> None:
    found = problems(HEAD + "".join(f"k{number:05}: 1\n" for number in range(50_000)))
    assert len(found) <= 102
    assert "too-many-problems" in {problem.reference for problem in found}
