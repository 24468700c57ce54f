"""The demo's table of models, and its last resort."""

import json
import subprocess
import sys
from pathlib import Path

import click

from reconciler.programs.demo import SMOLLM2, VARIANTS, Demo
from reconciler.surface.cli.demo import command

HOLD = "import fcntl, sys; fcntl.flock(f := open(sys.argv[1]), fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"


def test_every_variant_can_be_asked_for() -> None:
    (option,) = command.params
    assert isinstance(option.type, click.Choice)
    assert list(option.type.choices) == list(VARIANTS)


def test_a_tiny_model_answers_word_for_word_and_a_real_one_in_its_own_words() -> None:
    assert SMOLLM2.says("The capital of France is Paris.")
    assert not SMOLLM2.says("I cannot tell.")
    for model in VARIANTS["tiny"][1]:
        assert model.says(model.answer)
        assert not model.says(f"{model.answer} And more.")


def test_a_server_that_is_left_over_is_ended_and_a_reused_number_is_not(tmp_path: Path) -> None:
    run = tmp_path / "state" / "run"
    run.mkdir(parents=True)
    processes = {}
    for label, lock in {"server": "server", "stranger": "own"}.items():
        (run / f"{label}.lock").touch()
        (run / f"{lock}.lock").touch()
        processes[label] = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(run / f"{lock}.lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        (run / f"{label}.json").write_text(json.dumps({"pid": processes[label].pid}))
    try:
        for process in processes.values():
            assert process.stdout is not None
            process.stdout.readline()
        Demo(tmp_path, "tiny").sweep()
        assert processes["server"].wait(10) != 0
        assert processes["stranger"].poll() is None
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()
