"""The demo with a real model, as a user runs it: downloaded, converted, served, asked, and again without a network."""

import os
from pathlib import Path

import psutil
import pytest

from tests.cli.home import Home, Result

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]


def demo(root: Path, **more: str) -> Result:
    """Run it in the environment of whoever runs the tests: pip needs what is set up there."""
    (root / "tmp").mkdir(exist_ok=True)
    environ = {**os.environ, "TMPDIR": str(root / "tmp"), "XDG_CACHE_HOME": str(root / "cache"), **more}
    return Home(root).run("demo", "--model", "smollm2", env=environ, timeout=440)


def left_behind(root: Path) -> list[str]:
    """Temporary files, and processes whose arguments or folder are there."""
    tmp = root / "tmp"
    found = [str(path) for path in tmp.iterdir()]
    for process in psutil.process_iter(["cmdline", "cwd"]):
        told = [*(process.info["cmdline"] or ()), process.info["cwd"] or ""]
        found += [f"process {process.pid}: {told}"] if any(str(tmp) in text for text in told) else []
    return found


def test_it_answers_and_leaves_nothing_but_the_download(tmp_path: Path) -> None:
    cold = demo(tmp_path)
    assert cold.code == 0, cold.out + cold.err
    answers = [line for line in cold.out.splitlines() if line.startswith("smollm2, port ") and "says: " in line]
    assert len(answers) == 3
    assert all("Paris" in line.partition("says: ")[2] for line in answers)
    assert "Downloading SmolLM2" in cold.err
    assert left_behind(tmp_path) == []
    kept = tmp_path / "cache" / "reconciler" / "demo"
    assert [path.name for path in kept.glob("*.incomplete")] == []

    warm = demo(tmp_path, PIP_NO_INDEX="1", PIP_FIND_LINKS="", PIP_CONFIG_FILE=os.devnull)
    assert warm.code == 0, warm.out + warm.err
    assert warm.err.count("SmolLM2") == 0
    assert 'says: "The capital of France is Paris' in warm.out
    assert left_behind(tmp_path) == []
