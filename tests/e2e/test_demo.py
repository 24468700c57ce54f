"""The demo, as a user runs it: real servers, real completions, a real commit, nothing left behind."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.model.problem import ExitCode
from tests.cli.home import Home

README = Path(__file__).resolve().parents[2] / "README.md"
STEPS = [
    "Two tiny models",
    "What would be done",
    "Do it",
    "What LiteLLM reads",
    "Again: nothing to do",
    "One server is killed",
    "A commit swaps the two ports",
    "Nothing is declared any more",
    "Done",
]


@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_the_demo_does_every_step_and_leaves_nothing(home: Home, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    result = home.run("demo", env=home.environment(TMPDIR=str(scratch)), timeout=280)
    assert result.code == 0, result.out + result.err
    headings = [line.removeprefix("--- ") for line in result.out.splitlines() if line.startswith("--- ")]
    assert [h[: len(step)] for h, step in zip(headings, STEPS, strict=True)] == STEPS
    assert 'says: "Hello from alpha, a tiny model."' in result.out
    assert list(scratch.iterdir()) == []
    printed = {plainly(line) for line in result.out.splitlines()}
    (shown,) = [
        block for block in README.read_text().split("```console\n") if block.startswith("$ reconciler apply --yes")
    ]
    assert [line for line in shown.partition("```")[0].splitlines() if plainly(line) not in printed] == []


def plainly(line: str) -> str:
    """A line of the demo without what is another number in every run."""
    return re.sub(r"worktree:[0-9a-f]{12}|\b\d{4,5}\b", "N", line)


def ctrl_c(process: subprocess.Popen[str]) -> None:
    """What a terminal does: every process of the group gets it."""
    os.killpg(process.pid, signal.SIGINT)


@pytest.mark.e2e
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("end", "code"),
    [(ctrl_c, ExitCode.INTERRUPTED), (subprocess.Popen.terminate, ExitCode.TERMINATED)],
    ids=["ctrl-c", "terminated"],
)
def test_a_demo_that_is_ended_leaves_nothing_either(
    home: Home, tmp_path: Path, end: Callable[[subprocess.Popen[str]], None], code: ExitCode
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "reconciler", "demo"],
        env=home.environment(TMPDIR=str(scratch)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if line.startswith("--- Again"):
            end(process)
    assert process.wait(120) == code, said
    assert "Traceback" not in said
    assert "--- Nothing is declared any more" in said
    assert list(scratch.iterdir()) == []
