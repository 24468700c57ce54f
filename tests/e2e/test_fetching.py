"""A model that is not here: named with the command that fetches it, and served once that command has."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.model.problem import ExitCode
from reconciler.programs.tiny_model import write_model
from tests.programs.fake_hub import Hub, Kind, Repo, serving

from .ensemble import Ensemble
from .test_lifecycle import answer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def hint(said: str) -> list[str]:
    """The command that a plan tells a person to run."""
    (line,) = {line.strip() for line in said.splitlines() if line.strip().startswith("hf download ")}
    return shlex.split(line)


def fetch(ensemble: Ensemble, hub: Hub, command: list[str]) -> int:
    """Run that command, the real one of huggingface_hub, against a hub on this machine."""
    env = ensemble.home.environment(HF_ENDPOINT=hub.endpoint, HF_HUB_DISABLE_TELEMETRY="1")
    program = Path(sys.executable).parent / command[0]
    return subprocess.run(
        [str(program), *command[1:]], env=env, capture_output=True, timeout=60, check=False
    ).returncode


@pytest.mark.req("S1-25")
def test_a_model_is_fetched_before_it_is_launched_and_nothing_is_launched_when_that_failed(
    ensemble: Ensemble, tmp_path: Path
) -> None:
    write_model(tmp_path / "model", "Fetched and served.")
    ensemble.declare("alpha")
    with serving({"demo/alpha": Repo(tmp_path / "model", Kind.DOWN)}) as hub:
        command = hint(ensemble.apply(ExitCode.BLOCKED))
        assert fetch(ensemble, hub, command) != 0
        assert hub.asked, "the real client asked this hub"
        assert "artifact-missing" in ensemble.apply(ExitCode.BLOCKED)
        assert ensemble.running() == []
        assert ensemble.routed() == set()
        hub.repos["demo/alpha"] = Repo(tmp_path / "model")
        assert fetch(ensemble, hub, command) == 0
        asked = len(hub.asked)
        ensemble.apply(HF_ENDPOINT=hub.endpoint)
        assert answer(ensemble.port("alpha")) == "Fetched and served."
        assert ensemble.routed() == {"alpha"}
        assert len(hub.asked) == asked, "what is in the cache is served without a question to the hub"


@pytest.mark.fault("H04")
def test_h04_a_file_that_was_cut_off_is_fetched_again_by_the_command_that_is_named(
    ensemble: Ensemble, tmp_path: Path
) -> None:
    """Without force the library takes the short file for good and says that it has downloaded it."""
    write_model(tmp_path / "model", "Whole again.")
    ensemble.declare("alpha")
    with serving({"demo/alpha": Repo(tmp_path / "model")}) as hub:
        assert fetch(ensemble, hub, hint(ensemble.apply(ExitCode.BLOCKED))) == 0
        weights = (ensemble.snapshot("alpha") / "model.safetensors").resolve()
        os.truncate(weights, weights.stat().st_size // 2)
        said = ensemble.apply(ExitCode.BLOCKED)
        assert "artifact-partial" in said
        assert ensemble.running() == []
        assert fetch(ensemble, hub, hint(said)) == 0
        ensemble.apply()
        assert answer(ensemble.port("alpha")) == "Whole again."
