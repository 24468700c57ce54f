"""The import contracts hold, and each of them would notice if it did not."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# (where the violation is planted, what it says, the contract that must notice)
PLANTED = [
    ("planning/planted.py", "import time", "deciding"),
    ("desired/planted.py", "from os import environ", "deciding"),
    ("model/planted.py", "import reconciler.planning", "layers"),
    ("adapters/planted.py", "import reconciler.planning", "layers"),
    ("surface/planted.py", "import reconciler.wiring", "layers"),
    ("utils.py", "", "layers"),
    ("engine/planted.py", "import reconciler.adapters", "adapters"),
    ("surface/planted.py", "from reconciler.adapters import planted_too", "adapters"),
    ("actions/planted.py", "import reconciler.actions.planted_too", "verbs"),
    ("backends/planted.py", "import reconciler.backends.planted_too", "backends"),
    ("gateways/planted.py", "from reconciler.gateways import planted_too", "gateways"),
    ("adapters/planted.py", "from mlx_lm import load", "runtimes"),
]


def lint_imports(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run import-linter over the package in a folder, without touching its cache."""
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command; lint_imports_command()",
            "--no-cache",
            "--no-logo",
            "--config",
            str(folder / "pyproject.toml"),
            *options,
        ],
        cwd=folder,
        env={**os.environ, "COLUMNS": "200", "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_contracts_are_kept() -> None:
    run = lint_imports(ROOT)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(("place", "line", "contract"), PLANTED)
def test_a_planted_violation_breaks_its_contract(tmp_path: Path, place: str, line: str, contract: str) -> None:
    shutil.copytree(ROOT / "reconciler", tmp_path / "reconciler", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    planted = tmp_path / "reconciler" / place
    planted.with_name("planted_too.py").write_text("", encoding="utf-8")
    if planted.parent.name == "reconciler":
        planted.with_name("planted_too.py").unlink()
    planted.write_text(f"{line}\n", encoding="utf-8")

    run = lint_imports(tmp_path, "--contract", contract)

    assert run.returncode == 1, run.stdout + run.stderr
    assert "0 kept, 1 broken" in run.stdout, run.stdout + run.stderr
    assert planted.stem in run.stdout
