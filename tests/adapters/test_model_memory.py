"""What is predicted from a configuration against what mlx_lm writes, loads and really keeps, for tiny models."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters.memory.model_config import cache_cost
from reconciler.adapters.memory.model_memory import (
    Measured,
    as_document,
    from_document,
    interpreter,
    measure,
)
from reconciler.model.cache_cost import CacheCost, Window
from tests.adapters.servers import until
from tests.programs.tiny_architectures import FULL, HYBRID, LATENT, MXFP4_TOO, REFUSED, RUN, SLIDING, TABLE

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = (sys.executable, "-m", "mlx_lm", "server")
LENGTHS = (1, 256, 700, 3_000, 8_192, 131_072)
LLAMA = TABLE["llama"]
Seen = Mapping[str, Mapping[str, Any]]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """Everything in one process: importing mlx takes longer than all the models."""
    folder = tmp_path_factory.mktemp("architectures")
    command = [sys.executable, "-m", "tests.programs.measure_architectures", str(folder)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    found: Seen = json.loads(done.stdout)
    return found


def exact(made: Mapping[str, Any]) -> CacheCost:
    measured = from_document(made["predicted"])
    assert measured is not None
    return measured.cache


@pytest.mark.parametrize("name", TABLE)
def test_predicted_weights_are_the_bytes_that_mlx_lm_writes_and_loads(seen: Seen, name: str) -> None:
    for kind in ("plain", "affine"):
        made = seen[name][kind]
        assert made["predicted"]["weight_bytes"] == made["written"] == made["loaded"] > 0, kind
    assert seen[name]["affine"]["written"] < seen[name]["plain"]["written"]


@pytest.mark.parametrize("name", MXFP4_TOO)
def test_so_are_those_of_another_way_to_quantise(seen: Seen, name: str) -> None:
    made = seen[name]["mxfp4"]
    assert made["predicted"]["weight_bytes"] == made["written"] == made["loaded"] < seen[name]["plain"]["written"]


@pytest.mark.parametrize("name", TABLE)
def test_the_formula_is_never_below_what_the_built_model_takes(seen: Seen, name: str) -> None:
    formula, built = cache_cost(TABLE[name]), exact(seen[name]["plain"])
    assert not formula.exact
    assert built.exact
    assert all(formula.at(length) >= built.at(length) > 0 for length in LENGTHS)


@pytest.mark.parametrize("name", [*FULL, *SLIDING, *LATENT])
def test_without_states_the_formula_is_what_the_built_model_takes(seen: Seen, name: str) -> None:
    formula, built = cache_cost(TABLE[name]), exact(seen[name]["plain"])
    assert (formula.per_token, formula.windows, formula.fixed) == (built.per_token, built.windows, built.fixed)


@pytest.mark.parametrize("name", HYBRID)
def test_what_grows_is_exact_also_beside_states(seen: Seen, name: str) -> None:
    formula, built = cache_cost(TABLE[name]), exact(seen[name]["plain"])
    assert (formula.per_token, formula.windows) == (built.per_token, built.windows)


@pytest.mark.parametrize("name", RUN)
def test_a_real_run_keeps_what_was_predicted(seen: Seen, name: str) -> None:
    """Also beyond the window: 512 tokens of window, prompts of 1,024, read 256 at a time."""
    run = seen[name]["run"]
    built = exact(run)
    assert run["taken"].keys() == {"512", "1024"}
    for length, taken in run["taken"].items():
        assert built.at(int(length), 256) == pytest.approx(taken, rel=0.02)
        assert cache_cost(run["config"]).at(int(length), 256) >= 0.98 * taken
    slope = (run["taken"]["1024"] - run["taken"]["512"]) / 512
    assert (built.at(1024, 256) - built.at(512, 256)) / 512 == pytest.approx(slope, rel=0.02)


def test_there_are_windows_states_and_latents_among_the_real_runs(seen: Seen) -> None:
    costs = {name: exact(seen[name]["run"]) for name in RUN}
    assert sum(bool(cost.windows) for cost in costs.values()) >= 3
    assert any(cost.fixed for cost in costs.values())
    assert set(RUN) & LATENT.keys()


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_built_is_refused_for_a_reason(seen: Seen, name: str) -> None:
    assert seen["refused"][name] == REFUSED[name][1]


# ------------------------------------------------------------------------------------------------------ the real child


def asked(config: Mapping[str, Any], *runtime: str, deadline: float = 120.0) -> tuple[Measured | None, list[str]]:
    told: list[str] = []
    return asyncio.run(measure(config, runtime, deadline=deadline, tell=told.append)), told


def test_a_model_is_measured_in_the_environment_of_its_server() -> None:
    measured, told = asked({**LLAMA, "quantization_config": {"quant_method": "fp8"}, "auto_map": {"a": "b"}}, *RUNTIME)
    assert told == []
    assert measured is not None
    assert measured.cache == CacheCost(per_token=4 * 2 * 2 * 32 * 2, exact=True)
    assert measured.weight_bytes is None, "another program has quantised it: only its files can tell"
    assert measured.version
    assert from_document(json.loads(json.dumps(as_document(measured)))) == measured


def test_a_models_own_code_is_never_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    code = tmp_path / "own.py"
    code.write_text(f"open({str(ran)!r}, 'w').close()\n")
    measured, told = asked({**LLAMA, "model_file": str(code)}, *RUNTIME)
    assert (measured, len(told)) == (None, 1)
    assert "code of its own" in told[0]
    assert not ran.exists()


def test_an_environment_without_mlx_is_said_to_be_one(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -I "$@"\n')
    python.chmod(0o755)
    measured, told = asked(LLAMA, str(python))
    assert measured is None
    assert "mlx_lm cannot be used here" in told[0]


@pytest.mark.parametrize("runtime", [(), ("/nowhere/python",), ("/bin/sh",)])
def test_a_server_without_a_known_python_is_not_measured(runtime: tuple[str, ...]) -> None:
    measured, told = asked(LLAMA, *runtime)
    assert measured is None
    assert told[0].startswith("no Python is known")


def recording_python(folder: Path) -> Path:
    """A Python that says who and where it is, and then does nothing until it is killed."""
    python = folder / "python"
    script = (
        "import json, os, sys, time\n"
        "out = open(sys.argv[1] + '.new', 'w')\n"
        "json.dump({'pid': os.getpid(), 'nice': os.nice(0), 'environ': dict(os.environ)}, out)\n"
        "out.close()\n"
        "os.rename(sys.argv[1] + '.new', sys.argv[1])\n"
        "time.sleep(600)\n"
    )
    (folder / "script.py").write_text(script)
    python.write_text(
        f'#!/bin/sh\necho $$ >"{folder}/pid"\nexec "{sys.executable}" "{folder}/script.py" "{folder}/told"\n'
    )
    python.chmod(0o755)
    return python


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def told_by(folder: Path) -> dict[str, Any]:
    """What the child has told, once it is there."""
    until((folder / "told").exists, "the child has told who it is")
    found: dict[str, Any] = json.loads((folder / "told").read_text())
    return found


def test_the_child_has_low_priority_and_no_credential_and_goes_when_it_is_not_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY", "PYTHONPATH"):
        monkeypatch.setenv(name, "hf_secret")

    async def cancelled() -> dict[str, Any]:
        task = asyncio.create_task(measure(LLAMA, (str(recording_python(tmp_path)),)))
        told = await asyncio.to_thread(told_by, tmp_path)
        assert not gone(told["pid"])
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return told

    child = asyncio.run(cancelled())
    assert child["nice"] > os.nice(0)
    assert "hf_secret" not in child["environ"].values()
    assert child["environ"]["HF_HUB_OFFLINE"] == "1"
    assert gone(child["pid"])


def test_a_child_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    measured, told = asked(LLAMA, str(recording_python(tmp_path)), deadline=1.0)
    assert (measured, told) == (None, ["it took longer than 1 s"])
    # Written by the first words of its script; on a machine that is too busy even for those it is gone all the same.
    pids = [int(path.read_text()) for path in tmp_path.glob("pid")]
    assert all(gone(pid) for pid in pids)


# ------------------------------------------------------------------------------------------------ what needs no child


@pytest.mark.parametrize(
    "change",
    [
        {"weight_bytes": -1},
        {"weight_bytes": 1.5},
        {"weight_bytes": 2**70},
        {"per_token": None},
        {"per_token": True},
        {"fixed": "1"},
        {"windows": None},
        {"windows": [1]},
        {"windows": [{"per_token": 1}]},
    ],
)
def test_an_answer_that_makes_no_sense_is_no_measurement(change: dict[str, Any]) -> None:
    known = Measured(weight_bytes=5, cache=CacheCost(per_token=1, windows=(Window(per_token=1, tokens=2),), exact=True))
    assert from_document(as_document(known)) == known
    assert from_document({**as_document(known), **change}) is None


def script(path: Path, first: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{first}\nprint()\n")
    path.chmod(0o755)
    return str(path)


def test_the_interpreter_of_a_command(tmp_path: Path) -> None:
    own = sys.executable
    assert interpreter((own, "-m", "mlx_lm")) == own
    assert interpreter((script(tmp_path / "a/server", f"#!{own}"),)) == own
    long = f"#!/bin/sh\n'''exec' \"{own}\" \"$0\" \"$@\"\n' '''"
    assert interpreter((script(tmp_path / "b/server", long),)) == own
    beside = script(tmp_path / "c/python", "#!/bin/sh")
    assert interpreter((script(tmp_path / "c/server", "#!/usr/bin/env python3"),)) == beside
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/server").symlink_to(tmp_path / "c/server")
    assert interpreter((str(tmp_path / "bin/server"),)) == beside
    assert interpreter((script(tmp_path / "d/server", "\x7fELF"),)) is None
    assert interpreter((script(tmp_path / "d/shell", "#!/bin/sh"),)) is None
