"""What tells a server that works from one that hangs: the processor time of it and of its workers."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from reconciler.adapters.process_table import session_cpu_seconds

BUSY_WORKER = """
import subprocess, sys
worker = subprocess.Popen([sys.executable, "-c", "while True: pass"])
print("started", flush=True)
worker.wait()
"""
IDLE = "import time; print('started', flush=True); time.sleep(600)"


@pytest.fixture
def leader(request: pytest.FixtureRequest) -> Iterator[int]:
    """A session of its own, ended whole."""
    program: str = request.param
    with subprocess.Popen([sys.executable, "-c", program], start_new_session=True, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("leader", [BUSY_WORKER], indirect=True)
def test_the_work_of_a_worker_counts_for_its_server(leader: int) -> None:
    before, end = session_cpu_seconds([leader]), time.monotonic() + 20
    while session_cpu_seconds([leader])[leader] < before[leader] + 0.1:
        assert time.monotonic() < end, "a worker that computes uses processor time"


@pytest.mark.parametrize("leader", [IDLE], indirect=True)
def test_who_sleeps_uses_none(leader: int) -> None:
    before, until = session_cpu_seconds([leader]), time.monotonic() + 0.5
    while time.monotonic() < until:
        session_cpu_seconds([leader])
    assert session_cpu_seconds([leader])[leader] - before[leader] <= 0.02


def test_nobody_has_used_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        assert session_cpu_seconds([process.pid]) == {}
