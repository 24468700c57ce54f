"""`doctor` on the command line: codes, names, data, and problems that a test has really made."""

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from reconciler.engine.doctor import CHECKS
from reconciler.model.problem import ExitCode
from tests.cli.home import Home, Result, state

ALONE = ("port-ranges", "wildcard-listeners", "desired-state")


def doctor(home: Home, *words: str, **more: str) -> Result:
    """A home whose file system and disk are those of this machine."""
    return home.run("doctor", *words, env=home.environment(**more))


def checks(result: Result) -> dict[str, dict[str, Any]]:
    """name -> check, of the JSON output."""
    document = json.loads(result.out)
    assert document["type"] == "doctor"
    return {check["name"]: check for check in document["checks"]}


def references(check: dict[str, Any]) -> set[str]:
    return {finding["reference"] for finding in check["findings"]}


def test_every_check_says_something_and_none_fails_itself(home: Home, port: int) -> None:
    home.write(state(port))
    result = doctor(home, "-o", "json")
    found = checks(result)
    assert list(found) == [check.name for check in CHECKS]
    problems = {name for name, check in found.items() if check["verdict"] == "problem"}
    assert result.code == (ExitCode.ENVIRONMENT if problems else ExitCode.OK)
    findings = [finding for check in found.values() for finding in check["findings"]]
    assert all(set(finding) == {"verdict", "text", "fix", "reference"} for finding in findings)
    assert not [finding for finding in findings if "the check itself failed" in finding["text"]]
    expected = {"state-filesystem", "state-owner", "state-database", "desired-state", "host-file", "git"}
    assert {name: found[name]["verdict"] for name in expected} == dict.fromkeys(expected, "ok")


def test_an_examination_leaves_nothing_behind(home: Home, port: int) -> None:
    home.write(state(port))
    before = sorted(home.root.rglob("*"))
    doctor(home)
    assert sorted(home.root.rglob("*")) == before


def test_named_checks_are_the_only_ones(home: Home) -> None:
    home.write("version: 1\nmodels: {}\n")
    result = doctor(home, "state-owner", "desired-state")
    assert result.code == ExitCode.OK
    assert result.out.splitlines() == [
        "ok             state-owner    there is nothing yet",
        "ok             desired-state  it is valid, with 0 models",
        "",
        "0 problems, 0 warnings, 0 unknown, 2 ok.",
    ]


def test_a_check_that_there_is_not_is_a_mistake_with_a_suggestion(home: Home) -> None:
    result = doctor(home, "wired-limits")
    assert result.code == ExitCode.USAGE
    assert "did you mean wired-limit?" in result.err


@pytest.mark.fault("S09")
def test_s09_a_port_that_is_open_to_the_network_is_a_problem_with_its_fix(home: Home) -> None:
    with socket.create_server(("0.0.0.0", 0)) as listener:
        port = listener.getsockname()[1]
        home.write(state(port))
        result = doctor(home, "wildcard-listeners")
        data = doctor(home, "wildcard-listeners", "-o", "json")
    assert result.code == data.code == ExitCode.ENVIRONMENT
    assert f"port {port} (fast) is open on every address" in result.out
    assert f"-> see who it is: lsof -nP -iTCP:{port}" in result.out
    assert references(checks(data)["wildcard-listeners"]) == {"port-open"}
    assert doctor(home, "wildcard-listeners").code == ExitCode.OK, "it is gone"


def test_a_second_backend_with_a_known_fault_is_found_on_the_path(home: Home) -> None:
    other = home.root / "other"
    (other / "lib" / "python3.12" / "site-packages" / "mlx_lm-0.31.3.dist-info").mkdir(parents=True)
    (other / "bin").mkdir()
    (other / "pyvenv.cfg").touch()
    program = other / "bin" / "mlx_lm.server"
    program.write_text(f"#!{other}/bin/python3\n")
    program.chmod(0o755)
    path = f"{other}/bin:{os.environ['PATH']}"
    result = doctor(home, "backend-installs", "known-faults", "-o", "json", PATH=path)
    found = checks(result)
    assert result.code == ExitCode.ENVIRONMENT
    assert references(found["backend-installs"]) == {"backend-twice"}
    assert "mlx-lm-runs-model-code" in references(found["known-faults"])


def test_a_host_file_that_others_could_write_ends_no_other_check(home: Home) -> None:
    home.write("version: 1\nmodels: {}\n")
    (home.root / "host.yaml").chmod(0o666)
    result = doctor(home, "host-file", "state-owner", "-o", "json")
    assert result.code == ExitCode.ENVIRONMENT
    assert references(checks(result)["host-file"]) == {"host-file-untrusted"}
    assert checks(result)["state-owner"]["verdict"] == "ok"


def test_a_desired_state_that_is_invalid_or_missing_ends_no_other_check(home: Home) -> None:
    missing = doctor(home, *ALONE, "-o", "json")
    assert missing.code == ExitCode.OK
    assert checks(missing)["desired-state"]["verdict"] == "not-applicable"
    home.write("version: 1\nmodells: {}\nmodels: {}\n")
    invalid = doctor(home, *ALONE, "-o", "json")
    assert invalid.code == ExitCode.ENVIRONMENT
    (finding,) = checks(invalid)["desired-state"]["findings"]
    assert "did you mean 'models'" in finding["text"]


def test_a_warning_is_no_problem(home: Home) -> None:
    token = Path(home.root, "hf", "token")
    token.parent.mkdir()
    token.write_text("hf_0123456789abcdefghij")
    token.chmod(0o644)
    result = doctor(home, "hub-token")
    assert result.code == ExitCode.OK
    assert result.out.startswith("warning ")
    assert f"-> chmod 600 '{token}'" in result.out
    assert "hf_" not in result.out


def test_git_is_asked_about_the_repository_of_the_desired_file(home: Home) -> None:
    subprocess.run(["git", "init", "-q", str(home.root)], check=True)
    home.write("version: 1\nmodels: {}\n")
    result = doctor(home, "git")
    assert result.code == ExitCode.OK
    assert str(home.root) in result.out
