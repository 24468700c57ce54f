"""The demo, as a user runs it: real servers, real completions, a real commit, nothing left behind."""

from pathlib import Path

import pytest

from tests.cli.home import Home

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
