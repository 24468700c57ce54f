"""After a boot the watch brings up exactly what is declared to run always, and touches nobody who came before it."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from reconciler.model.problem import ExitCode
from tests.cli.home import Home
from tests.e2e.committed import Committed, committed
from tests.e2e.watching import QUICK, alive, kill, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120), pytest.mark.req("S1-62", "S1-100")]


@pytest.fixture
def machine(home: Home) -> Iterator[Committed]:
    """Four models in a repository; none is declared yet."""
    with committed(home, "alpha", "beta", "gamma", "delta") as made:
        yield made


def ensemble(machine: Committed, *always: str) -> str:
    """A desired state in which these run always, and gamma when somebody asks for it."""
    asked_for = machine.text("gamma", more="    activation: on-demand\n").partition("models:\n")[2]
    return machine.text(*always) + asked_for


def crash(machine: Committed) -> None:
    """What a power cut leaves: no process, and the records of a boot that is over."""
    for pid in machine.servers():
        kill(pid)
    for label in machine.labels():
        path = machine.state / "run" / f"{label}.json"
        # Pids are given out anew: that of the record is somebody else's by now.
        record = machine.record(label) | {"boot_id": "that of yesterday", "pid": psutil.Process().pid}
        path.write_text(json.dumps(record))


def served_before(machine: Committed, *labels: str) -> None:
    """A watch that has served these labels, until the machine went down."""
    first = machine.commit(ensemble(machine, *labels))
    watch = machine.watch()
    machine.in_force(first, watch)
    machine.one_each(*labels)
    watch.end(signal.SIGKILL)
    crash(machine)


@contextmanager
def start_script(machine: Committed, label: str) -> Iterator[int]:
    """A server that a script of somebody else's starts on the port of a label; its pid."""
    port = machine.ports[label]
    script = machine.home.root / "start.sh"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{QUICK}" /nowhere --model=/by-hand --port={port} "$@"\n')
    with subprocess.Popen(["/bin/sh", str(script), "--host=127.0.0.1"]) as by_hand:
        try:
            until(lambda: listens(by_hand.pid, port), "it listens")
            yield by_hand.pid
            assert alive(by_hand.pid), "nobody has touched it"
        finally:
            by_hand.kill()


def listens(pid: int, port: int) -> bool:
    connections = psutil.Process(pid).net_connections("tcp")
    return any(c.laddr.port == port and c.status == psutil.CONN_LISTEN for c in connections if c.laddr)


def test_a_boot_brings_up_exactly_what_is_declared_to_run_always(machine: Committed) -> None:
    served_before(machine, "alpha", "beta", "delta")
    newest = machine.commit(ensemble(machine, "alpha", "beta"), "delta goes while the machine is off")
    watch = machine.watch()
    machine.in_force(newest, watch)
    pids = machine.one_each("alpha", "beta")
    assert machine.routed() == {"alpha", "beta"}
    assert machine.told("failed") == [], "that the machine was started again is nobody's failure"
    assert alive(psutil.Process().pid), "the process that has got an old pid was not taken for a server"
    assert "Nothing to do." in machine.applied("--source", "commit")
    assert machine.one_each("alpha", "beta") == pids


def test_a_server_that_a_script_started_on_a_managed_port_is_foreign_and_left_alone(machine: Committed) -> None:
    served_before(machine, "alpha", "beta")
    with start_script(machine, "beta") as stranger:
        watch = machine.watch()
        until(lambda: machine.routed() == {"alpha"}, "what can be served is served", watch.said)
        (said,) = machine.told("blocked", "server/beta")
        assert said["reference"] == "port-occupied"
        assert f"port {machine.ports['beta']} is held by pid {stranger} (" in said["text"]
        assert "which is not ours" in said["text"]
        code, text = machine.run("status", COLUMNS="1000")
        assert code == ExitCode.BLOCKED
        assert f"is held by pid {stranger} (" in text
        assert list(machine.servers()) == [machine.pid("alpha")]
    machine.applied()
    machine.one_each("alpha", "beta")
