"""The whole way from a bundle to a desired state: what comes with it, in which order, and what is not touched."""

import subprocess
import sys

import pytest

from reconciler.model.problem import ExitCode, InvalidDocument

from .reading import bundle, one_model, problems, read, said, state


def test_the_state_comes_with_its_revision_templates_and_provenance() -> None:
    text = one_model(chat_template="templates/a.jinja") + "  b: {source: {repo: org/b}}\n"
    given = bundle(text, {"templates/a.jinja": "{{ a }}", "templates/unused.jinja": "{{ b }}"})
    desired = read(given, environ={"MODEL__B__SOURCE": "org/else"}).desired
    assert desired.revision == given.revision
    assert desired.templates == {"templates/a.jinja": "{{ a }}"}
    assert desired.provenance == {"b": "env MODEL__B__SOURCE"}
    assert list(desired.state.models) == ["a", "b"]


def test_everything_but_the_models_may_be_left_out() -> None:
    read_state = state("version: 1\nmodels: {}\n")
    assert not read_state.ports
    assert not read_state.groups
    assert not read_state.hosts
    assert read_state.policy.prune
    assert read_state.defaults.backend == "mlx-lm"
    assert read_state.gateways.front is None
    assert read_state.gateways.litellm is None


@pytest.mark.fault("D01", "D12", "D15")
@pytest.mark.parametrize(
    "text", ["", "version: 1\nmodels: [", "version: 1\nmodels: {a: {}}\n", one_model(chat_template="gone.jinja")]
)
def test_a_refusal_keeps_the_last_good_state_and_has_its_exit_code(text: str) -> None:
    with pytest.raises(InvalidDocument) as refused:
        read(text)
    assert refused.value.code is ExitCode.INVALID
    assert refused.value.file == "ensemble.yaml"
    assert "ensemble.yaml has 1 problem; the last good state stays in force" in refused.value.message
    assert all(problem.located("f").startswith("f:") for problem in refused.value.problems)


@pytest.mark.req("S0-09")
def test_a_bad_name_is_reported_before_anything_that_needs_a_token() -> None:
    text = one_model(source="{repo: gemma-4-31b-it}")
    for environ in ({}, {"HF_TOKEN": ""}, {"HF_TOKEN": "hf_ABCDEFGHIJKLMNOPQRSTUV"}):
        [found] = problems(text, environ=environ)
        assert found.reference == "bare-repository-name"
        assert "token" not in found.message


@pytest.mark.req("S0-38")
@pytest.mark.parametrize(("tracked", "expected"), [(True, ["4:20 machine-path-in-git"]), (False, [])])
def test_a_path_of_one_machine_is_a_warning_where_others_read_it(tracked: bool, expected: list[str]) -> None:
    parsed = read(bundle(one_model(source="{path: /Users/me/models/x}"), tracked=tracked))
    assert said(parsed.warnings) == expected
    assert [problem.severity for problem in parsed.warnings] == ["warning"] * len(expected)
    assert parsed.desired.state.models["a"].source.path == "/Users/me/models/x"


@pytest.mark.fault("S32")
def test_a_great_many_warnings_refuse_nothing() -> None:
    lines = (f"  m{number}: {{source: {{path: /opt/{number}}}}}\n" for number in range(1_000))
    parsed = read("version: 1\nmodels:\n" + "".join(lines))
    assert len(parsed.desired.state.models) == 1_000
    assert len(parsed.warnings) == 101
    assert parsed.warnings[-1].reference == "too-many-warnings"


@pytest.mark.req("S0-38")
def test_a_path_through_the_host_file_or_the_environment_is_no_warning() -> None:
    text = "# /opt/models/x is where it was\n" + one_model(source="{path: '${root.models}/x'}")
    assert read(text, roots={"models": "/opt/models"}).warnings == ()
    text = one_model(source="{path: '${env.MODELS}/x'}")
    assert read(text, environ={"MODELS": "/opt/models"}).warnings == ()
    assert read(one_model(), environ={"MODEL__A__SOURCE": "/opt/models/x"}).warnings == ()


def test_problems_stand_in_the_order_of_the_text_each_of_them_once() -> None:
    text = (
        one_model(port="8100", chat_template="gone.jinja", aliases="[a]")
        + "  b: {source: {path: '${root.none}/x'}, port: 8100}\n"
        + "  c: {source: {repo: org/c}, port: 8100, idle_ttl: 1m}\n"
        + "  d: {source: {repo: org/d}, port: 80}\n"
        + "ports: {team: 9000-9001, other: 9001-9002}\n"
    )
    found = said(problems(text))
    assert found == [
        "5:11 port-out-of-range",
        "6:20 template-missing",
        "7:15 alias-is-label",
        "8:22 unset-root",
        "8:47 duplicate-port",
        "8:47 port-out-of-range",
        "9:36 duplicate-port",
        "9:36 port-out-of-range",
        "9:52 idle-ttl-without-on-demand",
        "10:36 out-of-range",
        "11:33 ranges-overlap",
    ]


def test_reading_imports_nothing_heavy() -> None:
    program = (
        "import sys; import reconciler.desired.parse as p; from reconciler.model.bundle import Bundle;"
        "text = b'version: 1\\nmodels: {a: {source: {repo: a/b}, port: 8100}}';"
        "b = Bundle(name='n', revision='r', text=text, files={});"
        "p.parse(b, roots={}, environ={}, overrides={});"
        "heavy = {'pydantic', 'difflib', 'unicodedata', 'jsonschema', 'ruamel', 'fnmatch', 'ipaddress', 'asyncio'};"
        "print(sorted(heavy & {name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
