"""The command line as a process: what it prints, where, and with which exit code."""

import importlib.metadata
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

import reconciler
from reconciler.desired.schema import SCHEMAS
from reconciler.model.problem import PRECEDENCE, ExitCode, worst
from reconciler.surface.cli.main import COMMANDS
from tests.cli.home import Home, run, state
from tests.programs.tiny_cache import TinyCache, model_files

STATE = """version: 1
ports: {team: 8100-8119, experimental: 8120-8139}
models:
  fast:
    source: {repo: acme/fast}
    port: 8100
"""


def test_validate_accepts_a_valid_file_and_says_what_it_declares(home: Home) -> None:
    home.write(STATE)
    result = home.run("validate")
    assert (result.code, result.err) == (0, "")
    assert result.out == "ensemble.yaml is valid: 1 model, 1 with a port.\n"


def test_validate_shows_every_problem_of_a_file_with_its_place(home: Home) -> None:
    home.write("version: 1\nmodells: {}\nmodels:\n  a:\n    source: {repo: a/b}\n    port: 80\n")
    result = home.run("validate")
    assert result.code == ExitCode.INVALID
    places = [line.split(": ")[0] for line in result.err.splitlines()[:-1]]
    assert places == ["ensemble.yaml:2:1", "ensemble.yaml:6:11"]
    assert "did you mean 'models'" in result.err
    assert "last good state stays in force" in result.err.splitlines()[-1]


def test_an_error_is_data_for_a_script(home: Home) -> None:
    home.write("version: 1\nmodells: {}\nmodels: {}\n")
    result = home.run("validate", "-o", "json")
    assert result.code == ExitCode.INVALID
    told = json.loads(result.out)
    assert told["exit_code"] == ExitCode.INVALID
    assert [(p["reference"], p["line"], p["column"]) for p in told["problems"]] == [("unknown-field", 2, 1)]


def test_plan_of_a_cached_model_launches_it(home: Home, port: int) -> None:
    files = model_files()
    commit = TinyCache(home.hub).add("acme/fast", files)
    home.write(state(port))
    result = home.run("plan", "--full")
    assert (result.code, result.err) == (0, "")
    verify, launch = [line.split() for line in result.out.splitlines() if re.match(r"  \d  \S ", line)]
    needed = sum(len(content) for name, content in files.items() if not name.endswith(".md"))
    assert verify == ["1", "v", "ensure", "artifact/acme/fast@main", "verify", str(needed), "B,", "once"]
    assert launch[:6] == ["2", "+", "launch", "server/fast", "port", f"{port},"]
    assert f"--model={home.hub}/models--acme--fast/snapshots/{commit}" in result.out
    assert home.run("plan", "--full") == result, "the same world gives the same bytes"


def test_plan_changes_nothing_on_the_machine(home: Home, port: int) -> None:
    TinyCache(home.hub).add("acme/fast", model_files())
    home.write(state(port))
    before = sorted((str(p), p.lstat().st_mtime_ns, p.lstat().st_size) for p in home.root.rglob("*"))
    assert home.run("plan").code == 0
    assert sorted((str(p), p.lstat().st_mtime_ns, p.lstat().st_size) for p in home.root.rglob("*")) == before


@pytest.mark.parametrize(("flag", "code"), [((), ExitCode.OK), (("--detailed-exitcode",), ExitCode.CHANGES)])
def test_pending_changes_are_an_exit_code_only_when_asked_for(
    home: Home, port: int, flag: tuple[str, ...], code: ExitCode
) -> None:
    TinyCache(home.hub).add("acme/fast", model_files())
    home.write(state(port))
    assert home.run("plan", *flag).code == code


def test_nothing_to_do_is_zero_also_with_detailed_exitcode(home: Home) -> None:
    home.write("version: 1\nmodels: {}\n")
    result = home.run("plan", "--detailed-exitcode")
    assert result.code == ExitCode.OK
    assert "Nothing to do." in result.out


def test_a_missing_artifact_is_blocked_offline_with_the_command_that_brings_it(home: Home, port: int) -> None:
    home.write(state(port, repo="acme/absent"))
    result = home.run("plan", env=home.environment(HF_HUB_OFFLINE="1"))
    assert result.code == ExitCode.BLOCKED
    assert "acme/absent@main is not on this machine" in result.out
    assert "hf download acme/absent --revision main" in result.out


@pytest.mark.req("S3-04")
def test_a_foreign_listener_is_named_and_left_alone(home: Home) -> None:
    TinyCache(home.hub).add("acme/fast", model_files())
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        home.write(state(port))
        result = home.run("plan")
        assert result.code == ExitCode.BLOCKED
        assert f"port {port} is held by pid {os.getpid()}" in result.out
        assert "+ launch" not in result.out
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass  # it still accepts


def test_a_plan_can_be_kept_and_describes_itself(home: Home, port: int) -> None:
    TinyCache(home.hub).add("acme/fast", model_files())
    home.write(state(port))
    kept = home.root / "plan.json"
    result = home.run("plan", "-o", str(kept), "-o", "json")
    assert result.code == ExitCode.OK
    plan = json.loads(kept.read_text())
    assert plan == json.loads(result.out)
    Draft202012Validator(SCHEMAS["plan.v1.json"]()).validate(plan)
    assert [(a["kind"], a["subject"]) for a in plan["actions"]] == [
        ("ensure", "artifact/acme/fast@main"),
        ("launch", "server/fast"),
    ]
    assert {"desired", "host", f"port/{port}", "artifact/acme/fast@main"} <= plan["facts"].keys()


def test_a_plan_that_cannot_be_kept_leaves_the_old_one(home: Home) -> None:
    home.write("version: 1\nmodels: {}\n")
    result = home.run("plan", "-o", str(home.root / "no-such-folder" / "plan.json"))
    assert result.code == ExitCode.ENVIRONMENT
    assert "plan-not-saved" in result.err


def test_ndjson_is_one_record_per_line(home: Home, port: int) -> None:
    TinyCache(home.hub).add("acme/fast", model_files())
    home.write(state(port))
    records = [json.loads(line) for line in home.run("plan", "-o", "ndjson").out.splitlines()]
    assert [r["type"] for r in records] == ["version", "subject", "planned_action", "planned_action", "plan_summary"]
    assert [r["kind"] for r in records if r["type"] == "planned_action"] == ["ensure", "launch"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["plann"], "Did you mean 'plan'?"),
        (["plan", "--no-such-option"], "--no-such-option"),
        (["plan", "--set", "models.fast"], "FIELD=VALUE"),
        (["plan", "-o", "json", "-o", "table"], "at most one format"),
        (["completion", "tcsh"], "tcsh"),
    ],
)
def test_a_wrong_command_line_is_64_and_never_2(home: Home, argv: list[str], said: str) -> None:
    result = home.run(*argv)
    assert result.code == ExitCode.USAGE
    assert said in (result.out if "json" in argv else result.err)


@pytest.mark.req("S1-03", "S1-18")
def test_every_command_is_in_the_help(home: Home) -> None:
    out = home.run("--help").out
    for command in COMMANDS:
        assert f"\n  {command} " in out
        assert home.run(command, "--help").code == ExitCode.OK
    assert home.run("--version").out == f"reconciler, version {reconciler.__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_program(home: Home, shell: str) -> None:
    result = home.run("completion", shell)
    assert result.code == ExitCode.OK
    assert "_RECONCILER_COMPLETE" in result.out


def test_completion_knows_the_commands(home: Home) -> None:
    env = home.environment(_RECONCILER_COMPLETE="bash_complete", COMP_WORDS="reconciler va", COMP_CWORD="1")
    assert "validate" in home.run(env=env).out


def test_it_works_from_any_directory_and_through_a_link(home: Home, tmp_path: Path) -> None:
    home.write(STATE, "repo/desired-state/ensemble.yaml")
    (home.root / "repo" / ".git").mkdir()
    deep = home.root / "repo" / "a" / "b"
    deep.mkdir(parents=True)
    assert "../../desired-state/ensemble.yaml is valid" in home.run("validate", cwd=deep).out
    link = tmp_path / "link"
    link.symlink_to(home.root / "repo")
    assert home.run("validate", cwd=link).code == ExitCode.OK
    assert home.run("validate", "-c", str(link / "desired-state" / "ensemble.yaml")).code == ExitCode.OK


def test_the_console_script_and_the_module_are_the_same(home: Home) -> None:
    script = Path(sys.executable).with_name("reconciler")
    home.write(STATE)
    by_script = run([str(script), "validate"], home.root, home.environment())
    assert by_script == home.run("validate")
    link = home.root / "bin" / "reconciler"
    link.parent.mkdir()
    link.symlink_to(script)
    assert run([str(link), "validate"], home.root, home.environment()) == by_script


def test_no_file_at_all_says_where_it_looked(home: Home, tmp_path: Path) -> None:
    result = home.run("plan", cwd=tmp_path)
    assert result.code == ExitCode.INVALID
    assert "-c FILE" in result.err


@pytest.mark.fault("D15")
def test_d15_a_deleted_file_is_no_empty_desired_state(home: Home) -> None:
    result = home.run("plan", "-c", "gone.yaml")
    assert result.code == ExitCode.INVALID
    assert "not an empty desired state" in result.err
    assert result.out == ""


@pytest.mark.fault("S31")
def test_s31_no_control_character_reaches_the_terminal(home: Home) -> None:
    home.write('version: 1\nmodels:\n  a:\n    source: {repo: "x\\e[31m\\u202e\\nforged: line"}\n    port: 8100\n')
    result = home.run("validate")
    assert result.code == ExitCode.INVALID
    assert not [c for c in result.out + result.err if not c.isprintable() and c != "\n"]
    assert "forged: line\n" not in result.err


def test_a_broken_host_file_stops_before_anything_is_looked_at(home: Home) -> None:
    home.write(STATE)
    (home.root / "host.yaml").write_text("version: 1\nmax_launchs: 3\n")
    result = home.run("plan")
    assert result.code == ExitCode.ENVIRONMENT
    assert "host.yaml:2:1" in result.err
    assert "did you mean 'max_launches'" in result.err


def test_a_reader_that_goes_away_is_no_error(home: Home) -> None:
    home.write(STATE)
    shell = f"{sys.executable} -m reconciler plan -o json | head -c 1"
    result = run(["sh", "-c", shell], home.root, home.environment())
    assert "Traceback" not in result.err


def test_an_interrupt_is_130_and_one_sentence(home: Home) -> None:
    os.mkfifo(home.root / "host.fifo")
    env = home.environment()
    # Opening a pipe that nobody writes to is the one place where a short command can be caught waiting.
    code = (
        "import sys\nfrom reconciler.surface.cli.main import run\n"
        "def compose(settings):\n    print('waiting', flush=True)\n    open('host.fifo').read()\n"
        "sys.exit(run(compose, ['plan']))\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], cwd=home.root, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "waiting\n"
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=30)
    assert child.returncode == ExitCode.INTERRUPTED
    assert err.strip() == "error: interrupted; nothing was changed by it"


def test_an_internal_error_is_one_sentence_and_1(home: Home) -> None:
    code = (
        "import sys\nfrom reconciler.surface.cli.main import run\n"
        "def compose(settings):\n    raise RuntimeError('a bug')\n"
        "sys.exit(run(compose, ['plan']))\n"
    )
    result = run([sys.executable, "-c", code], home.root, home.environment())
    assert result.code == ExitCode.INTERNAL
    assert "a bug" in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize("codes", [{a, b} for a in PRECEDENCE for b in PRECEDENCE])
def test_of_several_codes_the_first_of_the_order_wins(codes: set[ExitCode]) -> None:
    assert worst(codes) == min(codes, key=PRECEDENCE.index)


def test_help_and_validate_import_nothing_heavy(home: Home) -> None:
    home.write(STATE)
    heavy = {"pydantic", "aiohttp", "rich", "huggingface_hub", "psutil", "asyncio", "jsonschema", "mlx_lm", "ruamel"}
    for argv in (["--help"], ["validate"], ["plan"]):
        code = (
            "import sys\nfrom reconciler.__main__ import _compose\nfrom reconciler.surface.cli.main import run\n"
            f"run(_compose, {argv!r})\n"
            "print('MODULES', *sorted({m.partition('.')[0] for m in sys.modules}))\n"
        )
        result = run([sys.executable, "-c", code], home.root, home.environment())
        loaded = set(result.out.rpartition("MODULES ")[2].split())
        assert "reconciler" in loaded
        assert not heavy & loaded, argv


def test_exit_codes_are_the_same_in_the_code_the_help_and_the_readme(home: Home) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    printed = home.run("--exit-codes").out
    for code in ExitCode:
        assert f"| {code.value} | {code.meaning} |" in readme
        assert f"{code.value:>3}  {code.meaning}" in printed


@pytest.mark.req("S4-37")
def test_the_package_says_which_python_it_needs() -> None:
    assert importlib.metadata.metadata("reconciler")["Requires-Python"] == ">=3.11"


def test_a_plan_replaces_nothing_but_a_plan(home: Home) -> None:
    path = home.write("version: 1\nmodels: {}\n", "keep.yaml")
    result = home.run("plan", "-c", "keep.yaml", "-o", "keep.yaml")
    assert result.code == ExitCode.USAGE
    assert "was left as it is" in result.err
    assert path.read_text() == "version: 1\nmodels: {}\n"
    for target in ("/dev/null", "."):
        assert home.run("plan", "-c", "keep.yaml", "-o", target).code == ExitCode.USAGE
    for _ in range(2):
        assert home.run("plan", "-c", "keep.yaml", "-o", "plan.json").code == ExitCode.OK


def test_a_misspelled_format_is_no_file(home: Home) -> None:
    home.write("version: 1\nmodels: {}\n")
    result = home.run("plan", "-o", "jsn")
    assert result.code == ExitCode.USAGE
    assert "Did you mean 'json'?" in result.err
    assert not (home.root / "jsn").exists()


def test_a_full_disk_is_the_environment_and_no_bug(home: Home) -> None:
    home.write("version: 1\nmodels: {}\n")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "reconciler", "plan", "-o", "json"],
            cwd=home.root,
            env=home.environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    assert "internal error" not in done.stderr
