"""Where the source of a launch comes from, and that it comes from nowhere else."""

import json
import sys
from pathlib import Path

import pytest

import reconciler
from reconciler.model.problem import ExitCode
from tests.cli.home import Home, Result, run, state
from tests.programs.tiny_cache import TinyCache, model_files


@pytest.mark.req("S0-08", "S0-15", "S0-20", "S0-31")
def test_the_environment_can_replace_a_source_and_the_plan_says_so(home: Home, port: int) -> None:
    cache = TinyCache(home.hub)
    cache.add("acme/fast", model_files())
    other = cache.add("acme/other", model_files(length=32))
    home.write(state(port))
    name = "MODEL__FAST__SOURCE"
    plain = home.run("plan", "--full").out
    replaced = home.run("plan", "--full", env=home.environment(**{name: "acme/other"})).out
    assert f"source from env {name}" in replaced
    assert f"snapshots/{other}" in replaced
    assert home.run("plan", "--full", env=home.environment(**{name: ""})).out == plain, "empty is not set"
    root = Path(__file__).parents[2]
    assert name in (root / "README.md").read_text()
    assert '"source"' in (root / "schemas" / "desired-state.v1.json").read_text()


@pytest.mark.req("S0-06", "S0-19", "S0-27")
def test_a_variable_of_api_clients_changes_nothing(home: Home, port: int) -> None:
    TinyCache(home.hub).add("acme/fast", model_files())
    home.write(state(port))
    clients = home.environment(NEO_OPENAI_COMPATIBLE_MODEL="foo", OPENAI_MODEL="foo", OPENAI_API_BASE="http://x")
    assert home.run("plan", "--full", env=clients) == home.run("plan", "--full")


@pytest.mark.req("S0-14")
def test_only_the_declared_files_say_what_is_launched(home: Home, port: int) -> None:
    TinyCache(home.hub).add("acme/fast", model_files())
    home.write(state(port))
    code = (
        "import sys\nopened = []\n"
        "sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == 'open' else None)\n"
        "from reconciler.__main__ import _compose\nfrom reconciler.surface.cli.main import run\n"
        "run(_compose, ['plan'])\nprint('OPENED', *opened, sep='\\n')\n"
    )
    result = run([sys.executable, "-c", code], home.root, home.environment())
    opened = result.out.partition("OPENED\n")[2].splitlines()
    mine = {path for path in opened if path.startswith(str(home.root))}
    texts = {path for path in mine if not path.startswith(str(home.hub))}
    assert texts <= {str(home.root), str(home.root / "ensemble.yaml"), str(home.root / "host.yaml")}
    code_folders = (
        sys.prefix,
        sys.base_prefix,
        str(Path(reconciler.__file__).parent),
        "/proc/",
        "/sys/",
        "/etc/",
        "/dev/",
    )
    rest = [path for path in opened if path.startswith("/") and path not in mine and not path.startswith(code_folders)]
    assert rest == []


@pytest.mark.req("S0-17", "S0-35")
def test_an_override_changes_the_model_and_not_the_port(home: Home, port: int) -> None:
    cache = TinyCache(home.hub)
    cache.add("acme/fast", model_files())
    other = cache.add("acme/other", model_files(length=32))
    home.write(state(port))
    before = command_of(home.run("plan", "-o", "json"))
    override = "models.fast.source.repo=acme/other"
    after = command_of(home.run("plan", "-o", "json", "--set", override))
    assert [a for a, b in zip(after, before, strict=True) if a != b] == [
        f"--model={home.hub}/models--acme--other/snapshots/{other}"
    ]


def command_of(planned: Result) -> list[str]:
    """The command line of the one launch in a plan as JSON."""
    (argv,) = (a["argv"] for a in json.loads(planned.out)["actions"] if a["kind"] == "launch")
    assert isinstance(argv, list)
    return argv


@pytest.mark.req("S0-36")
def test_a_bad_id_without_a_token_is_about_the_id(home: Home, port: int) -> None:
    home.write(state(port, repo="gemma-4-31b-it"))
    result = home.run("plan")
    assert result.code == ExitCode.INVALID
    assert "looks like an API label, not a repository" in result.err
    assert "token" not in result.err.lower()


@pytest.mark.req("S0-11", "S0-23")
def test_the_exact_command_line_is_printed_and_is_the_same_every_time(home: Home, port: int) -> None:
    commit = TinyCache(home.hub).add("acme/fast", model_files())
    home.write(state(port))
    first = home.run("plan", "--full").out
    (line,) = [text.strip() for text in first.splitlines() if text.strip().startswith("$ ")]
    assert line == (
        f"$ {sys.executable} -m mlx_lm server --model={home.hub}/models--acme--fast/snapshots/{commit} "
        f"--host=127.0.0.1 --port={port} --allowed-origins=http://127.0.0.1:{port} --decode-concurrency=2 "
        "--prompt-cache-bytes=1073741824 --log-level=INFO"
    )
    assert home.run("plan", "--full").out == first


def test_who_names_a_branch_means_its_commits(home: Home, port: int) -> None:
    """`plan --ref` without `--source commit` was about the saved file, and said nothing of the branch."""
    home.write(state(port))
    for args in (("init", "-q", "-b", "main"), ("add", "-A"), ("commit", "-q", "-m", "first"), ("branch", "other")):
        who = ("-c", "user.name=x", "-c", "user.email=x@example.invalid", "-c", "commit.gpgsign=false")
        assert run(["git", *who, *args], home.root, home.environment()).code == 0
    home.write(state(port, repo="acme/saved"))
    planned = home.run("plan", "--ref", "other", "-o", "json")
    assert "acme/saved" not in planned.out
    assert "acme/fast" in planned.out
    assert "acme/saved" in home.run("plan", "-o", "json").out
    missing = home.run("plan", "--ref", "nowhere")
    assert missing.code != ExitCode.OK
    assert "nowhere" in missing.err
    both = home.run("plan", "--ref", "other", "--source", "worktree")
    assert both.code == ExitCode.USAGE
    assert "leave one out" in both.err
