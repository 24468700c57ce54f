"""`reconciler import` as a process: what it prints, what it writes, and what it leaves alone."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reconciler.model.problem import ExitCode
from tests.cli.home import Home
from tests.unit.desired.registries import DEEP, FAST, KEPT, text, v1, v2


def registry(home: Home, document: Any) -> Path:
    """A registry.json on the machine."""
    path = home.root / "registry.json"
    path.write_bytes(text(document))
    return path


@pytest.mark.req("S1-05")
@pytest.mark.parametrize("document", [v1(DEEP, FAST, KEPT), v2(DEEP, FAST, KEPT)], ids=["version 1", "version 2"])
def test_what_is_imported_is_valid_and_the_registry_is_left_alone(home: Home, document: dict[str, Any]) -> None:
    path = registry(home, document)
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    result = home.run("import", "registry.json", "--write", "ensemble.yaml")
    assert result.code == ExitCode.OK
    assert result.out == "ensemble.yaml was written; look at it with `reconciler validate ensemble.yaml`.\n"
    assert all(line.startswith("registry.json:") and ": warning: " in line for line in result.err.splitlines())
    assert "[template-not-imported]" in result.err
    checked = home.run("validate", "--strict")
    assert (checked.code, checked.err) == (ExitCode.OK, "")
    assert checked.out == "ensemble.yaml is valid: 3 models, 2 with a port.\n"
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


@pytest.mark.req("S1-05")
def test_a_newer_version_is_3_and_its_file_is_left_alone(home: Home) -> None:
    path = registry(home, {"version": 99, "models": {}})
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    result = home.run("import", "registry.json", "--write", "ensemble.yaml")
    assert (result.code, result.out) == (ExitCode.INVALID, "")
    first, last = result.err.splitlines()
    assert first.startswith("registry.json:2:14: version 99 needs a newer reconciler")
    assert last == "error: registry.json has 1 problem; nothing was written. Mend the file. [invalid-document]"
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert not (home.root / "ensemble.yaml").exists()


@pytest.mark.req("S1-08")
def test_an_entry_under_another_key_goes_by_its_model_id(home: Home) -> None:
    registry(home, v1(**{"other-key": FAST}))
    result = home.run("import", "registry.json")
    assert result.code == ExitCode.OK
    assert "\n  mlx-fast-4b-4bit:\n" in result.out
    assert "registry.json:6:19: warning: " in result.err
    assert "[label-differs-from-key]" in result.err


def test_the_same_registry_is_the_same_text_however_it_is_handed_over(home: Home) -> None:
    path = registry(home, v2(DEEP, FAST, KEPT))
    printed = home.run("import", "registry.json")
    with path.open("rb") as source:
        piped = subprocess.run(
            [sys.executable, "-m", "reconciler", "import", "-"],
            stdin=source,
            capture_output=True,
            text=True,
            cwd=home.root,
            env=home.environment(PYTHONHASHSEED="7"),
            check=True,
        )
    assert piped.stdout == printed.out
    assert home.run("import", "registry.json", "--write", "ensemble.yaml").code == ExitCode.OK
    assert (home.root / "ensemble.yaml").read_text() == printed.out


def test_a_file_that_says_the_same_is_left_and_another_is_refused(home: Home) -> None:
    registry(home, v1(FAST))
    assert home.run("import", "registry.json", "--write", "ensemble.yaml").code == ExitCode.OK
    written = home.root / "ensemble.yaml"
    before = (written.read_bytes(), written.stat().st_mtime_ns)
    again = home.run("import", "registry.json", "--write", "ensemble.yaml")
    assert (again.code, again.out) == (ExitCode.OK, "ensemble.yaml says this already.\n")
    registry(home, v1(KEPT))
    other = home.run("import", "registry.json", "--write", "ensemble.yaml")
    assert (other.code, other.out) == (ExitCode.BLOCKED, "")
    assert "ensemble.yaml exists and says something else, so it was left as it is" in other.err
    assert (written.read_bytes(), written.stat().st_mtime_ns) == before
    (home.root / "link.yaml").symlink_to("nowhere.yaml")
    assert home.run("import", "registry.json", "--write", "link.yaml").code == ExitCode.BLOCKED
    assert not (home.root / "nowhere.yaml").exists()


@pytest.mark.parametrize("target", ["missing/ensemble.yaml", ".", ".."])
def test_where_nothing_can_be_written_is_one_sentence(home: Home, target: str) -> None:
    registry(home, v1(FAST))
    result = home.run("import", "registry.json", "--write", target)
    assert result.code in (ExitCode.ENVIRONMENT, ExitCode.BLOCKED)
    assert result.err.startswith("error: ")
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize("source", ["missing.json", "."])
def test_a_registry_that_cannot_be_read_is_one_sentence(home: Home, source: str) -> None:
    result = home.run("import", source)
    assert (result.code, result.out) == (ExitCode.ENVIRONMENT, "")
    assert result.err.startswith(f"error: {source}: ")


def test_a_secret_of_a_registry_is_printed_nowhere(home: Home) -> None:
    secret = "hf_" + "S" * 30
    registry(home, v1({**FAST, "request_params": {"api_key": secret}, "hf_token": secret}))
    result = home.run("import", "registry.json")
    assert result.code == ExitCode.OK
    assert secret not in result.out + result.err
    assert "hf_token" in result.err
    assert json.dumps(secret) in (home.root / "registry.json").read_text()
