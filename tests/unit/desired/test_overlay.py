"""What is laid over the file: folders of this machine, sources from the environment, overrides of one command."""

from collections.abc import Iterator, Mapping

import pytest

from reconciler.desired.overlay import variable
from reconciler.model.desired import Source

from .reading import model, one_model, only, problems, read, said

VAR = "MODEL__A__SOURCE"


class Guarded(Mapping[str, str]):
    """An environment that remembers what was asked of it and does not let itself be listed."""

    def __init__(self, **values: str) -> None:
        self.values_ = values
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        return self.values_[name]

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("the environment was listed")

    def __len__(self) -> int:
        raise AssertionError("the environment was counted")


def test_placeholders_are_filled_in() -> None:
    text = one_model(source='{path: "${root.models}/${env.SIZE}/x"}', draft='{path: "${env.DRAFTS}"}')
    made = model(text, roots={"models": "/opt/models"}, environ={"SIZE": "big", "DRAFTS": "/opt/${env.SIZE}"})
    assert made.source == Source(path="/opt/models/big/x")
    assert made.draft == Source(path="/opt/${env.SIZE}"), "a value is not looked through again"


@pytest.mark.parametrize(
    ("path", "reference", "named"),
    [
        ("${env.UNSET}/x", "unset-env", "UNSET"),
        ("${env.EMPTY}/x", "unset-env", "EMPTY"),
        ("${root.nowhere}/x", "unset-root", "nowhere"),
        ("${HOME}/x", "bad-placeholder", "${env.NAME}"),
        ("$HOME/x", "bad-placeholder", "${root.NAME}"),
        ("${env.}/x", "bad-placeholder", "${env.NAME}"),
        ("${env.HF_TOKEN}/x", "secret-in-path", "HF_TOKEN"),
        ("/x/${env.AWS_SECRET_ACCESS_KEY}", "secret-in-path", "AWS_SECRET_ACCESS_KEY"),
        ("${env.RELATIVE}/x", "path-not-absolute", "absolute"),
        ("${env.UP}", "path-not-plain", "'..'"),
        ("${env.ESC}", "path-not-plain", "control"),
        ("${env.LINE}", "path-not-plain", "control"),
        ("~/models", "path-of-home", "~"),
        ("models/x", "path-not-absolute", "absolute"),
        ("./x", "path-not-absolute", "absolute"),
        ("/x/../y", "path-not-plain", "'..'"),
        ('""', "path-not-absolute", "absolute"),
    ],
)
@pytest.mark.parametrize("field", ["source", "draft"])
def test_a_path_that_means_no_one_folder_is_refused(path: str, reference: str, named: str, field: str) -> None:
    environ = {
        "EMPTY": "",
        "RELATIVE": "oops",
        "UP": "/a/../b",
        "ESC": "/a\x1b[2J",
        "LINE": "/a\nb",
        "HF_TOKEN": "hf_x",
    }
    quoted = path if path.startswith('"') else f'"{path}"'
    found = tuple(
        p for p in problems(one_model(**{field: f"{{path: {quoted}}}"}), environ=environ) if p.severity == "error"
    )
    assert [p.reference for p in found] == [reference]
    assert only(found).where == f"models.a.{field}.path"
    assert named in only(found).message
    assert only(found).line == (4 if field == "source" else 5)
    assert "oops" not in only(found).message, "a value of the environment is not repeated"


def test_two_unset_variables_are_both_named() -> None:
    found = problems(one_model(source='{path: "${env.ONE}/${env.TWO}"}'))
    assert [p.reference for p in found] == ["unset-env", "unset-env"]
    assert {word for p in found for word in ("ONE", "TWO") if word in p.message} == {"ONE", "TWO"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("org/Other", Source(repo="org/Other")),
        ("org/Other@v1.2", Source(repo="org/Other", revision="v1.2")),
        ("/opt/models/x", Source(path="/opt/models/x")),
    ],
)
def test_a_variable_overrides_the_source_and_says_so(value: str, expected: Source) -> None:
    parsed = read(one_model(source="{repo: org/name, revision: old}", port="8100"), environ={VAR: value})
    made = parsed.desired.state.models["a"]
    assert made.source == expected
    assert made.port == 8100
    assert parsed.desired.provenance == {"a": f"env {VAR}"}
    assert not parsed.warnings, "the path does not stand in the shared file"


@pytest.mark.parametrize("environ", [{}, {VAR: ""}])
def test_unset_and_empty_variables_leave_the_file_alone(environ: dict[str, str]) -> None:
    parsed = read(one_model(), environ=environ)
    assert parsed.desired.state.models["a"].source == Source(repo="org/name")
    assert parsed.desired.provenance == {}


def test_nothing_else_of_the_environment_is_read() -> None:
    environ = Guarded(OPENAI_MODEL="evil/model", DRAFTS="/drafts", HF_HOME="/x")
    read(one_model(draft='{path: "${env.DRAFTS}"}'), environ=environ)
    assert environ.asked == {VAR, "DRAFTS"}


@pytest.mark.parametrize(
    ("value", "reference"),
    [
        ("gemma-4-31b-it", "bare-repository-name"),
        ("org/name@", "bad-override"),
        ("org/name@a b", "bad-override"),
        ("a/b/c", "bad-override"),
        ("../x", "path-as-repository"),
        ("~/x", "path-as-repository"),
        ("/x/../y", "path-not-plain"),
        ("/x\x1b[2J", "path-not-plain"),
        ("https://hub.example/org/name", "url-as-repository"),
        ("-x", "bare-repository-name"),
    ],
)
def test_a_wrong_variable_is_named(value: str, reference: str) -> None:
    found = problems(one_model(), environ={VAR: value})
    assert said(found) == [reference]
    assert VAR in only(found).message
    assert only(found).line is None


def test_a_variable_that_could_mean_two_labels_is_refused() -> None:
    text = "version: 1\nmodels:\n  a.b: {source: {repo: o/n}}\n  a-b: {source: {repo: o/n}}\n"
    assert variable("a.b") == variable("a-b") == "MODEL__A_B__SOURCE"
    assert problems(text) == ()
    found = problems(text, environ={"MODEL__A_B__SOURCE": "o/x"})
    assert said(found) == ["4:3 ambiguous-override"]
    assert "a.b" in only(found).message
    assert "a-b" in only(found).message


def test_an_overridden_source_needs_no_placeholder() -> None:
    text = one_model(source='{path: "${env.UNSET}"}')
    assert model(text, environ={VAR: "o/n"}).source == Source(repo="o/n")
    assert model(text, overrides={"models.a.source.repo": "o/n"}).source == Source(repo="o/n")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"models.a.source.repo": "o/n"}, Source(repo="o/n")),
        ({"models.a.source.repo": "o/n@v2"}, Source(repo="o/n", revision="v2")),
        ({"models.a.source.revision": "v2"}, Source(repo="org/name", revision="v2")),
        ({"models.a.source.repo": "o/n", "models.a.source.revision": "v2"}, Source(repo="o/n", revision="v2")),
        ({"models.a.source.path": "/opt/x"}, Source(path="/opt/x")),
    ],
)
def test_a_command_overrides_the_source_and_nothing_else(overrides: dict[str, str], expected: Source) -> None:
    text = one_model(source="{repo: org/name, revision: old}", port="8100")
    parsed = read(text, overrides=overrides, environ={VAR: "from/env"} if len(overrides) > 1 else {})
    made = parsed.desired.state.models["a"]
    assert made.source == expected
    assert made.port == 8100
    assert parsed.desired.provenance == {"a": "--set"}


def test_a_repository_clears_a_path() -> None:
    made = model(one_model(source="{path: /opt/x}"), overrides={"models.a.source.repo": "o/n"})
    assert made.source == Source(repo="o/n")


@pytest.mark.parametrize(("text", "port"), [("8105", 8105), ("none", "none")])
def test_a_command_overrides_the_port(text: str, port: object) -> None:
    parsed = read(one_model(port="8100"), overrides={"models.a.port": text})
    assert parsed.desired.state.models["a"].port == port
    assert parsed.desired.provenance == {}


def test_a_label_with_dots_can_be_overridden() -> None:
    text = "version: 1\nmodels:\n  a.port.b: {source: {repo: o/n}}\n"
    assert model(text, "a.port.b", overrides={"models.a.port.b.port": "8101"}).port == 8101


@pytest.mark.parametrize(
    ("field", "value", "reference"),
    [
        ("models.a.source.repo", "gemma", "bare-repository-name"),
        ("models.a.source.repo", "/opt/x", "path-as-repository"),
        ("models.a.source.path", "opt/x", "path-not-absolute"),
        ("models.a.source.path", "~/x", "path-of-home"),
        ("models.a.source.revision", "a b", "bad-override"),
        ("models.a.port", "80", "bad-override"),
        ("models.a.port", "8100x", "bad-override"),
        ("models.a.port", "\u0968\u0966\u0966\u0966", "bad-override"),
        ("models.a.backend", "x", "bad-override"),
        ("models.b.port", "8100", "bad-override"),
        ("\x1b[2J", "x", "bad-override"),
    ],
)
def test_a_wrong_override_is_refused(field: str, value: str, reference: str) -> None:
    assert said(problems(one_model(), overrides={field: value})) == [reference]


def test_repo_and_path_together_are_refused() -> None:
    overrides = {"models.a.source.repo": "o/n", "models.a.source.path": "/x"}
    assert said(problems(one_model(), overrides=overrides)) == ["source-not-one"]


def test_a_denied_source_is_denied_from_everywhere() -> None:
    text = one_model() + "policy: {deny_sources: ['*gemma-2*']}\n"
    for outside in ({"environ": {VAR: "org/Gemma-2-9b"}}, {"overrides": {"models.a.source.repo": "org/Gemma-2-9b"}}):
        found = problems(text, **outside)
        assert [p.reference for p in found] == ["source-denied"]
        assert "from " in only(found).message
