"""Real mlx_lm.server processes through the command line: the state of the machine is what is asserted."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.model.problem import ExitCode
from reconciler.programs.tiny_model import write_cached
from tests.cli.home import Home
from tests.ports import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


class Machine:
    """A home with tiny models and LiteLLM's managed file."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.published = home.root / "litellm.yaml"
        (home.root / "host.yaml").write_text(
            "version: 1\naccept_cpu: true\nmemory: {budget: 16GiB}\n"
            f"gateways: {{litellm: {{include: {self.published}, drain: 100ms}}}}\n"
        )
        self.ports = {"alpha": free_port(), "beta": free_port()}
        for label in self.ports:
            write_cached(home.hub, f"demo/{label}", f"Hello from {label}.")

    def declare(self, *labels: str, more: str = "") -> None:
        models = "".join(
            f"  {label}:\n    source: {{repo: demo/{label}}}\n    port: {self.ports[label]}\n{more}" for label in labels
        )
        text = f"models:\n{models}" if labels else "models: {}\n"
        self.home.write(f"version: 1\ngateways: {{litellm: {{mode: direct}}}}\n{text}")

    def run(self, *args: str) -> tuple[int, str]:
        result = self.home.run(*args, timeout=120)
        return result.code, result.out + result.err

    def record(self, label: str) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.home.root / "state" / "run" / f"{label}.json").read_text())
        return found

    def pid(self, label: str) -> int:
        pid = self.record(label)["pid"]
        assert isinstance(pid, int)
        return pid

    def labels(self) -> list[str]:
        return sorted(p.stem for p in (self.home.root / "state" / "run").glob("*.json"))

    def routed(self) -> set[str]:
        text = self.published.read_text()
        return {label for label, port in self.ports.items() if f"127.0.0.1:{port}/v1" in text}


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def answer(port: int) -> str:
    body = {"model": "default_model", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 32}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return str(json.load(response)["choices"][0]["message"]["content"]).strip()


@pytest.fixture
def machine(home: Home) -> Iterator[Machine]:
    """Whatever a test leaves running is stopped as a user would, and must then be gone."""
    made = Machine(home)
    yield made
    made.declare()
    if (home.root / "state" / "run").is_dir():
        pids = [made.pid(label) for label in made.labels()]
        code, said = made.run("apply", "--yes")
        assert code == ExitCode.OK, said
        assert made.labels() == []
        assert not [pid for pid in pids if alive(pid)]


@pytest.mark.req("S3-47", "S3-42", "S0-12")
def test_a_server_is_launched_proved_published_and_left_alone(machine: Machine) -> None:
    machine.declare("alpha")
    code, said = machine.run("apply", "--yes")
    assert code == ExitCode.OK, said
    pid = machine.pid("alpha")
    assert alive(pid), "it outlives the command"
    assert answer(machine.ports["alpha"]) == "Hello from alpha."
    assert machine.routed() == {"alpha"}
    before = (machine.published.stat().st_mtime_ns, machine.published.stat().st_ino)
    code, said = machine.run("apply", "--yes")
    assert code == ExitCode.OK
    assert "Nothing to do." in said
    assert machine.pid("alpha") == pid
    assert (machine.published.stat().st_mtime_ns, machine.published.stat().st_ino) == before
    os.kill(pid, signal.SIGKILL)
    assert machine.run("apply", "--yes")[0] == ExitCode.OK
    assert machine.pid("alpha") != pid
    assert answer(machine.ports["alpha"]) == "Hello from alpha."


@pytest.mark.req("S3-51")
def test_status_shows_pid_port_and_both_axes_and_changes_nothing(machine: Machine) -> None:
    machine.declare("alpha")
    assert machine.run("apply", "--yes")[0] == ExitCode.OK
    state = machine.home.root / "state"
    before = sorted((str(p), p.lstat().st_mtime_ns) for p in state.rglob("*"))
    code, said = machine.run("status", "-o", "json")
    assert code == ExitCode.OK
    (server,) = json.loads(said)["servers"]
    assert (server["label"], server["port"], server["pid"]) == ("alpha", machine.ports["alpha"], machine.pid("alpha"))
    assert (server["sync"], server["health"]) == ("Synced", "Healthy")
    assert "Healthy" in machine.run("status")[1]
    assert sorted((str(p), p.lstat().st_mtime_ns) for p in state.rglob("*")) == before
    assert "GET" in machine.run("logs", "alpha")[1] or "POST" in machine.run("logs", "alpha")[1]


@pytest.mark.req("S3-48")
@pytest.mark.fault("R18")
def test_r18_a_stopped_server_stays_stopped_until_start(machine: Machine) -> None:
    machine.declare("alpha", "beta")
    assert machine.run("apply", "--yes")[0] == ExitCode.OK
    pid, other = machine.pid("alpha"), machine.pid("beta")
    code, said = machine.run("stop", "alpha", "--reason", "maintenance")
    assert code == ExitCode.OK, said
    assert not alive(pid)
    assert machine.pid("beta") == other
    assert machine.routed() == {"beta"}
    assert "Nothing to do." in machine.run("apply", "--yes")[1]
    assert "maintenance" in machine.run("status")[1]
    assert machine.run("start", "alpha")[0] == ExitCode.OK
    assert answer(machine.ports["alpha"]) == "Hello from alpha."
    assert machine.run("stop", "gamma")[0] == ExitCode.USAGE


@pytest.mark.fault("P01")
def test_p01_a_foreign_listener_is_untouched_and_the_others_proceed(machine: Machine) -> None:
    machine.declare("alpha", "beta")
    with socket.create_server(("127.0.0.1", machine.ports["alpha"])):
        code, said = machine.run("apply", "--yes")
        assert code == ExitCode.BLOCKED
        assert f"port {machine.ports['alpha']} is held by pid {os.getpid()}" in said
        assert machine.labels() == ["beta"]
        with socket.create_connection(("127.0.0.1", machine.ports["alpha"]), timeout=5):
            pass
    assert answer(machine.ports["beta"]) == "Hello from beta."
    assert machine.routed() == {"beta"}


def test_a_stale_plan_is_refused_and_names_what_moved(machine: Machine) -> None:
    machine.declare("alpha")
    kept = str(machine.home.root / "plan.json")
    assert machine.run("plan", "-o", kept)[0] == ExitCode.OK
    with socket.create_server(("127.0.0.1", machine.ports["alpha"])):
        code, said = machine.run("apply", kept)
    assert code == ExitCode.STALE
    assert f"port/{machine.ports['alpha']} moved since the plan" in said
    assert not (machine.home.root / "state" / "run").exists()
    assert machine.run("apply", kept)[0] == ExitCode.OK
    assert answer(machine.ports["alpha"]) == "Hello from alpha."
    code, said = machine.run("apply", kept)
    assert code == ExitCode.STALE
    assert "server/alpha" in said


@pytest.mark.fault("X01")
def test_x01_a_second_apply_is_told_who_is_at_work(machine: Machine) -> None:
    machine.declare("alpha")
    first = subprocess.Popen(
        [sys.executable, "-m", "reconciler", "apply", "--yes"],
        cwd=machine.home.root,
        env=machine.home.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert first.stdout is not None
    while "launch server/alpha: port" not in first.stdout.readline():
        pass
    code, said = machine.run("apply", "--yes")
    assert code == ExitCode.LOCKED
    assert f"pid {first.pid} (apply)" in said
    assert first.wait(timeout=120) == ExitCode.OK
    first.stdout.close()


@pytest.mark.fault("X15")
def test_x15_a_signal_ends_the_loop_and_no_server(machine: Machine) -> None:
    machine.declare("alpha")
    command = subprocess.Popen(
        [sys.executable, "-m", "reconciler", "apply", "--yes"],
        cwd=machine.home.root,
        env=machine.home.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert command.stdout is not None
    while "wait server/alpha: started" not in command.stdout.readline():
        pass
    command.send_signal(signal.SIGTERM)
    assert command.wait(timeout=60) == ExitCode.TERMINATED
    command.stdout.close()
    pid = machine.pid("alpha")
    assert alive(pid)
    assert machine.run("apply", "--yes")[0] == ExitCode.OK
    assert machine.pid("alpha") == pid, "the same server is proved, not another one started"


def test_a_server_that_cannot_load_is_never_published(machine: Machine) -> None:
    machine.declare("alpha")
    config = next(machine.home.hub.glob("models--demo--alpha/snapshots/*/config.json"))
    text = json.loads(config.read_text())
    config.unlink()
    config.write_text(json.dumps({**text, "model_type": "weirdo"}))
    code, said = machine.run("apply", "--yes", "--timeout", "20s")
    assert code in (ExitCode.UNSETTLED, ExitCode.BLOCKED), said
    assert not machine.published.exists() or machine.routed() == set()
    assert "weirdo" in machine.run("logs", "alpha")[1]


def test_without_a_terminal_nothing_is_done_unasked(machine: Machine) -> None:
    machine.declare("alpha")
    code, said = machine.run("apply")
    assert code == ExitCode.BLOCKED
    assert "--yes" in said
    assert not (machine.home.root / "state" / "run").exists()
    with pytest.raises(urllib.error.URLError):
        answer(machine.ports["alpha"])
