"""Everything that is known about one subject, on one page or as data."""

import json
import os
import signal
import socket
from collections.abc import Iterator

import pytest

from reconciler.model.problem import ExitCode
from tests.cli.home import Home
from tests.e2e.watching import Machine, machine_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


@pytest.fixture
def machine(home: Home) -> Iterator[Machine]:
    with machine_of(home, "alpha", "beta") as made:
        made.declare("alpha", "beta")
        yield made


@pytest.fixture
def served(machine: Machine) -> Machine:
    machine.applied()
    return machine


def explained(machine: Machine, subject: str, code: ExitCode = ExitCode.OK) -> str:
    got, said = machine.run("explain", subject)
    assert got == code, said
    return said


def test_a_label_a_subject_and_a_port_are_one_page(served: Machine) -> None:
    port = served.ports["alpha"]
    said = explained(served, "alpha")
    assert explained(served, "server/alpha") == said
    assert explained(served, str(port)) == said
    assert said.startswith("server/alpha: Synced, Healthy. serving as declared [in-sync]\n")
    assert "proved: it last answered a completion on " in said
    assert f"{port} is held by pid {served.pid('alpha')}" in said
    assert "demo/alpha@main" in said
    assert f"--port={port}" in said
    assert f"proved server/alpha: pid {served.pid('alpha')}" in said
    assert "POST /v1/chat/completions" in said


def test_a_gateway_shows_its_routes_on_both_sides(served: Machine) -> None:
    port = served.ports["alpha"]
    assert explained(served, "gateway/litellm") == explained(served, "litellm")
    (row,) = [
        line for line in explained(served, "litellm").splitlines() if line.replace("~", " ").split()[:1] == ["alpha"]
    ]
    assert row.count(f"127.0.0.1:{port} as default_model") == 2
    os.kill(served.pid("alpha"), signal.SIGKILL)
    said = explained(served, "litellm")
    assert "publish: withdraw alpha" in said
    (row,) = [line for line in said.splitlines() if line.replace("~", " ").split()[:1] == ["alpha"]]
    assert row.count(f"127.0.0.1:{port}") == 1
    served.published.unlink()
    served.published.mkdir()
    said = explained(served, "litellm", ExitCode.BLOCKED)
    assert "unknown: " in said
    assert "not a plain file" in said
    served.published.rmdir()


def test_what_is_declared_and_does_not_run(machine: Machine) -> None:
    said = explained(machine, "alpha")
    assert said.startswith("server/alpha: OutOfSync, Missing. demo/alpha@main has to be verified first [waiting-for-")
    assert "ensure artifact/demo/alpha@main: verify " in said
    assert f"{machine.ports['alpha']} is free" in said
    machine.applied()
    machine.declare("beta")
    machine.applied()
    machine.declare("alpha", "beta")
    said = explained(machine, "alpha")
    assert said.startswith("server/alpha: OutOfSync, Missing. it is declared and does not run [not-running]\n")
    assert "launch: it is declared and does not run" in said
    assert "verify" not in said, "its weights were verified before"
    assert f"{machine.ports['alpha']} is free" in said


def test_a_server_that_failed_is_explained_by_its_own_words(machine: Machine) -> None:
    machine.order("alpha", "unsupported")
    assert machine.run("apply", "--yes")[0] == ExitCode.BLOCKED
    said = explained(machine, "alpha", ExitCode.BLOCKED)
    assert "failed 1 times (architecture-unsupported)" in said
    assert "reconciler retry alpha" in said
    assert "ValueError: Model type weirdo not supported." in said


def test_a_suspension_names_its_reason(served: Machine) -> None:
    served.run("stop", "alpha", "--reason", "too hot in here")
    said = explained(served, "alpha")
    assert said.startswith("server/alpha: OutOfSync, Suspended. too hot in here [suspended]\n")
    assert "until `reconciler start`: too hot in here" in said


def test_a_field_that_differs_is_marked(machine: Machine) -> None:
    machine.declare("alpha", "beta", more="    options: {max_tokens: 7}\n")
    machine.applied()
    machine.declare("alpha", "beta", more="    options: {max_tokens: 9}\n")
    said = explained(machine, "alpha")
    marked = [line.split() for line in said.splitlines() if line.startswith("  ~ ")]
    assert marked == [["~", "options.max_tokens", "9", "7"]]
    assert said.startswith("server/alpha: OutOfSync, Healthy. ")


def test_a_port_that_a_stranger_holds(machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", machine.ports["alpha"])):
        said = explained(machine, str(machine.ports["alpha"]), ExitCode.BLOCKED)
    assert f"is held by pid {os.getpid()}" in said
    assert "[port-occupied]" in said


def test_the_same_as_data(served: Machine) -> None:
    code, said = served.run("explain", "alpha", "-o", "json")
    assert code == ExitCode.OK
    found = json.loads(said)
    assert (found["type"], found["subject"], found["format_version"]) == ("explanation", "server/alpha", "1.0")
    assert found["status"]["health"] == "Healthy"
    assert found["live"]["pid"] == served.pid("alpha")
    assert {side["name"] for side in found["sides"]} >= {"source", "backend", "port", "weights", "memory", "listener"}
    assert [event["kind"] for event in found["events"]][-1] == "proved"
    assert found["log_tail"]
    gateway = json.loads(served.run("explain", "gateway/litellm", "-o", "json")[1])
    assert {side["name"] for side in gateway["sides"]} == {"alpha", "beta"}


@pytest.mark.parametrize(
    ("said", "meant"), [("alpa", "alpha"), ("server/alpah", "server/alpha"), ("gateway/litelm", "gateway/litellm")]
)
def test_an_unknown_subject_is_answered_with_the_one_that_was_meant(machine: Machine, said: str, meant: str) -> None:
    code, told = machine.run("explain", said)
    assert code == ExitCode.USAGE
    assert f"nothing is known about '{said}'" in told
    assert f"Did you mean {meant}?" in told
    code, told = machine.run("explain", said, "-o", "json")
    assert code == ExitCode.USAGE
    assert (json.loads(told)["reference"], json.loads(told)["hint"]) == ("unknown-subject", f"did you mean {meant}?")


@pytest.mark.parametrize("said", ["zzz", "1", "99999", "²", "٣", "-1", "server/", "/", "\x1b[31m", ""])
def test_what_nobody_knows_is_never_an_internal_error(machine: Machine, said: str) -> None:
    code, told = machine.run("explain", "--", said)
    assert code == ExitCode.USAGE, told
    assert "\x1b" not in told


def test_explaining_changes_nothing(served: Machine) -> None:
    before = sorted((str(path), path.lstat().st_mtime_ns) for path in served.state.rglob("*"))
    explained(served, "alpha")
    explained(served, "litellm")
    assert sorted((str(path), path.lstat().st_mtime_ns) for path in served.state.rglob("*")) == before
