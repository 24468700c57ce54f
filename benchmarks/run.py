"""`make bench`: every goal as a ratio against a floor of the same run. Nothing here is a test, and nothing fails."""

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.artifacts import artifacts
from benchmarks.launching import launching
from benchmarks.looking import looking
from benchmarks.ratios import timed
from benchmarks.watched import watched
from benchmarks.worlds import remember, write_cache, write_host, write_state

PYTHON = sys.executable
ROUNDS = int(os.environ.get("ROUNDS", "15"))


def main() -> None:
    """Print one table per goal."""
    load = os.getloadavg()[0]
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} processors, load {load:.1f}, {ROUNDS} rounds in turns.")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        env = _environment(root)
        write_cache(root / "hf" / "hub", 10_000)
        remember(root / "hf" / "hub", 10_000, root / "state")
        write_host(root / "host.yaml")
        for models in (0, 40, 1_000, 10_000):
            write_state(root / f"state{models}.yaml", models)
        _start_up(env)
        _first_plan(root, env)
        _growth(root, env)
        artifacts(root, ROUNDS)
        looking(root, ROUNDS, env)
        launching(root, ROUNDS)
        watched(root, ROUNDS)


def _environment(root: Path) -> dict[str, str]:
    keep = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return keep | {
        "HOME": str(root),
        "HF_HOME": str(root / "hf"),
        "HF_HUB_OFFLINE": "1",
        "RECONCILER_STATE": str(root / "state"),
        "RECONCILER_HOST_FILE": str(root / "host.yaml"),
    }


def _plan(root: Path, models: int) -> list[str]:
    return [PYTHON, "-m", "reconciler", "plan", "-c", str(root / f"state{models}.yaml")]


def _start_up(env: Mapping[str, str]) -> None:
    _table(
        "Help: <= 1.5 of importing click",
        {
            "python -c 'import click'": [PYTHON, "-c", "import click"],
            "reconciler --help": [PYTHON, "-m", "reconciler", "--help"],
            "reconciler --version": [PYTHON, "-m", "reconciler", "--version"],
        },
        ROUNDS,
        env,
    )


def _first_plan(root: Path, env: Mapping[str, str]) -> None:
    _table(
        "G2, first plan of 40 models after an edit: <= 1.75 of importing BaseModel and yaml",
        {
            "BaseModel and yaml": [PYTHON, "-c", "from pydantic import BaseModel; import yaml"],
            "plan, 40 models": _plan(root, 40),
            "validate, 40 models": [PYTHON, "-m", "reconciler", "validate", str(root / "state40.yaml")],
            "python -c pass (for G1)": [PYTHON, "-c", "pass"],
        },
        ROUNDS,
        env,
    )


def _growth(root: Path, env: Mapping[str, str]) -> None:
    _table(
        "1,000 models: <= 3 of 40 models",
        {"plan, 40 models": _plan(root, 40), "plan, 1,000 models": _plan(root, 1_000)},
        max(5, ROUNDS // 2),
        env,
    )
    _table(
        "10,000 models: <= 10 of 1,000 models is linear",
        {"plan, 1,000 models": _plan(root, 1_000), "plan, 10,000 models": _plan(root, 10_000)},
        max(3, ROUNDS // 5),
        env,
    )


def _table(title: str, commands: Mapping[str, Sequence[str]], rounds: int, env: Mapping[str, str]) -> None:
    print(f"\n{title}\n{'':28} {'ms':>8} {'ratio':>7}  exit")
    for timing in timed(commands, rounds, env):
        codes = ", ".join(str(code) for code in sorted(timing.codes))
        print(f"{timing.name:28} {timing.wall * 1e3:8.1f} {timing.ratio:7.2f}  {codes}", flush=True)


if __name__ == "__main__":
    main()
