"""The list of requirements, the list of waived ones and the counting of both are sound."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.requirements_catalogue import requirement_ids, waived

ROOT = Path(__file__).resolve().parents[2]
STORY = """
import pytest

@pytest.mark.req("S0-01", "S0-02")
@pytest.mark.fault("D01")
def test_passes(): pass

@pytest.mark.req("S0-02")
def test_fails(): assert False

@pytest.mark.req("S0-03")
def test_is_skipped(): pytest.skip("not here")

@pytest.mark.req("S1-01")
class TestClass:
    def test_passes_too(self): pass
"""


def run_pytest(folder: Path, story: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a small test file in its own pytest, with the plug-in loaded."""
    (folder / "pytest.ini").write_text(
        "[pytest]\nmarkers =\n  req(*ids): rows\n  fault(*ids): faults\n", encoding="utf-8"
    )
    (folder / "conftest.py").write_text('pytest_plugins = ("tests.requirements_plugin",)\n', encoding="utf-8")
    (folder / "test_story.py").write_text(story, encoding="utf-8")
    outside = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options],
        cwd=folder,
        env={**outside, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_ids_are_unique() -> None:
    assert [name for name, count in Counter(requirement_ids()).items() if count > 1] == []


def test_waived_rows_exist_once_and_have_a_reason() -> None:
    rows = waived()
    assert {name for name, _ in rows} <= set(requirement_ids())
    assert len({name for name, _ in rows}) == len(rows)
    assert all(reason for _, reason in rows)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_row_counts_when_all_its_tests_passed(tmp_path: Path, workers: str) -> None:
    run = run_pytest(tmp_path, STORY, "-n", workers)
    assert re.search(r"requirements covered: S0 1/39  S1 1/110 .* all 2/335 ", run.stdout), run.stdout
    assert "requirements with a skipped test, not counted: S0-03\n" in run.stdout
    assert "faults covered: D 1  all 1\n" in run.stdout


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("mark", ['req("S9-99")', 'fault("D1")'])
def test_an_unknown_id_fails_the_collection(tmp_path: Path, workers: str, mark: str) -> None:
    story = f"import pytest\n\n@pytest.mark.{mark}\ndef test_x(): pass\n"
    run = run_pytest(tmp_path, story, "-n", workers)
    assert run.returncode != 0
    assert re.search(r"test_x: '(S9-99|D1)' is not a ", run.stdout), run.stdout
