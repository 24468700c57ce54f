"""The end of a server on real processes: what is proved is ended whole, nothing else is ever signalled."""

import asyncio
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from reconciler.model.observed import Health, ServerProcess, Standing
from tests.adapters.conftest import Listen
from tests.adapters.servers import FAKE, Servers, refused, until


@pytest.fixture
def servers(tmp_path: Path, free_ports: Callable[[int], list[int]]) -> Iterator[Servers]:
    made = Servers(tmp_path, free_ports)
    yield made
    made.close()


def stop(servers: Servers, process: ServerProcess, grace: float = 10.0) -> float:
    """Stop a server and check that nothing of it is left; the seconds that it took."""
    begin = time.monotonic()
    asyncio.run(servers.adapter(grace=grace).stop(process))
    took = time.monotonic() - begin
    assert process.label not in servers.processes.records()
    assert not servers.listens(process.port)
    assert servers.is_free(process.label)
    return took


def test_a_stopped_server_leaves_its_lock_and_its_log(servers: Servers) -> None:
    other = servers.launch("other")
    assert stop(servers, servers.launch("fast")) < 5
    assert sorted(path.name for path in servers.root.rglob("*fast*")) == ["fast.lock", "fast.log"]
    assert servers.processes.records() == {"other": other}
    assert servers.leaders() == [other.pid]


def test_a_server_that_has_ended_by_itself_is_stopped(servers: Servers) -> None:
    found = servers.launch("fast")
    os.kill(found.pid or 0, signal.SIGKILL)
    stop(servers, found)


@pytest.mark.fault("R12")
def test_r12_a_server_that_ignores_term_is_killed(servers: Servers) -> None:
    found = servers.launch("fast", "--ignore-term", "--fork-child")
    assert 0.3 <= stop(servers, found, grace=0.3) < 5
    assert servers.processes_of_test() == []


@pytest.mark.fault("P08")
def test_a_server_that_was_stopped_by_a_signal_takes_term(servers: Servers) -> None:
    found = servers.launch("fast")
    os.kill(found.pid or 0, signal.SIGSTOP)
    until(lambda: psutil.Process(found.pid).status() == psutil.STATUS_STOPPED, "it is stopped")
    assert servers.record("fast").standing is Standing.OURS
    assert stop(servers, found) < 5


@pytest.mark.parametrize("switch", ["--never-listen", "--bind-late=600"])
def test_a_server_that_does_not_listen_is_stopped(servers: Servers, switch: str) -> None:
    asyncio.run(servers.processes.launch(servers.order("fast", switch)))
    stop(servers, servers.record("fast"))


@pytest.mark.parametrize("switch", ["--fork-child", "--spawn-child"])
def test_workers_end_with_their_server(servers: Servers, switch: str) -> None:
    stop(servers, servers.launch("fast", switch))
    assert servers.processes_of_test() == []


@pytest.mark.fault("R11")
@pytest.mark.parametrize("switch", ["--fork-child", "--spawn-child"])
def test_r11_workers_whose_leader_is_dead_are_ours_to_stop(servers: Servers, switch: str) -> None:
    found = servers.launch("fast", switch)
    os.kill(found.pid or 0, signal.SIGKILL)
    until(lambda: servers.record("fast").detail, "its first process is seen to be gone")
    left = servers.record("fast")
    worker = servers.processes_of_test()[0].pid
    assert (left.standing, left.health, left.pid) == (Standing.OURS, Health.ZOMBIE, found.pid)
    assert left.detail == f"its first process {found.pid} is gone, and pid {worker} of it still run"
    assert servers.processes.pids() == (worker,)
    assert refused(servers.processes.launch(servers.order("fast"))).cause == "already-running"
    stop(servers, left)
    assert servers.processes_of_test() == []


@pytest.mark.skipif(sys.platform != "linux", reason="macOS does not show who has a file open")
@pytest.mark.fault("R14")
def test_r14_a_child_that_left_the_session_is_ours_by_token_and_lock(servers: Servers) -> None:
    found = servers.launch("fast", "--daemon-child", "--ignore-term")
    until(lambda: len(servers.leaders()) == 2, "it has its own session")
    # Not in the group, so it outlives TERM; it holds the lock, and so the stop is not over.
    stop(servers, found, grace=0.3)
    assert servers.processes_of_test() == []


@pytest.mark.parametrize("switches", [(), ("--fork-child", "--ignore-term"), ("--spawn-child",)], ids=str)
def test_a_system_without_pidfd_stops_by_group(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, switches: tuple[str, ...]
) -> None:
    """What macOS and old kernels have, and what a record that was written with pidfd then proves."""

    def refuse(pid: int, flags: int = 0) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    found = servers.launch("fast", *switches)
    monkeypatch.setattr(os, "pidfd_open", refuse, raising=False)
    assert servers.record("fast") == found
    stop(servers, found, grace=0.3)
    assert servers.processes_of_test() == []


def test_a_port_that_a_process_with_the_token_keeps_is_not_called_free(servers: Servers) -> None:
    found = servers.launch("fast")
    token = psutil.Process(found.pid).environ()["RECONCILER_TOKEN"]
    os.kill(found.pid or 0, signal.SIGKILL)
    gone = servers.stands("fast", Standing.GONE)
    # Neither of its session nor with its lock: a token alone is not enough to be signalled.
    arguments = [sys.executable, "-S", str(FAKE), f"--port={found.port}"]
    environment = {"RECONCILER_TOKEN": token}
    with subprocess.Popen(arguments, env=environment, stderr=subprocess.DEVNULL, start_new_session=True) as copy:
        until(lambda: servers.listens(found.port), "the copy has the port")
        error = refused(servers.adapter(grace=0.1).stop(gone))
        assert (error.cause, copy.poll()) == ("stuck", None)
        assert f"port {found.port} is still taken" in error.message
        copy.kill()
    stop(servers, servers.record("fast"))


@pytest.mark.fault("P03")
def test_p03_a_server_that_lost_its_port_is_stopped_and_the_winner_left_alone(servers: Servers, listen: Listen) -> None:
    order = servers.order("fast", "--lose-bind")

    def at(point: str) -> None:
        if point == "after-record":
            listen(port=order.port)

    asyncio.run(servers.adapter(at=at).launch(order))
    until(lambda: "ready" in servers.log("fast"), "it lives without its port")
    found = servers.record("fast")
    assert found.standing is Standing.OURS
    asyncio.run(servers.processes.stop(found))
    assert servers.processes.records() == {}
    assert servers.leaders() == []
    with socket.create_connection(("127.0.0.1", order.port)):
        pass


# -------------------------------------------------------------------------------------- the stop killed at every point


@pytest.mark.parametrize("point", ["before-term", "after-term", "before-forget"])
def test_a_stop_that_is_killed_at_any_point_can_be_repeated(servers: Servers, point: str) -> None:
    order = servers.order("fast")
    asyncio.run(servers.processes.launch(order))
    until(lambda: "ready" in servers.log("fast"), "it is ready")
    servers.killed_at("stop", order, point)
    if point != "before-term":
        servers.stands("fast", Standing.GONE)
    stop(servers, servers.record("fast"))
    assert servers.processes_of_test() == []


def test_a_stop_that_is_cancelled_can_be_repeated(servers: Servers) -> None:
    found = servers.launch("fast", "--ignore-term")

    async def main() -> None:
        stopping = asyncio.create_task(servers.processes.stop(found))
        await asyncio.sleep(0)
        stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=True)

    asyncio.run(main())
    assert servers.record("fast") == found
    stop(servers, found, grace=0.1)


# ---------------------------------------------------------------------------------------------- who is never signalled


def test_another_process_than_was_asked_for_is_not_stopped(servers: Servers) -> None:
    first = servers.launch("fast")
    os.kill(first.pid or 0, signal.SIGKILL)
    servers.stands("fast", Standing.GONE)
    second = servers.launch("fast")
    assert refused(servers.processes.stop(first)).cause == "proof-failed"
    assert servers.record("fast") == second


@pytest.mark.fault("R21")
def test_r21_a_process_that_became_another_between_looking_and_stopping_is_not_signalled(servers: Servers) -> None:
    found, bystander = servers.launch("fast"), servers.launch("bystander")

    def at(point: str) -> None:
        if point == "before-term":
            servers.edit("fast", pid=bystander.pid, started=bystander.started, unique=None)

    assert refused(servers.adapter(at=at).stop(found)).cause == "proof-failed"
    assert servers.record("bystander") == bystander
    assert len(servers.leaders()) == 2


def test_a_process_without_a_record_is_not_stopped(servers: Servers) -> None:
    found = servers.launch("fast")
    Path(servers.run("fast").record_path).unlink()
    assert refused(servers.processes.stop(found)).cause == "proof-failed"
    assert servers.leaders() == [found.pid]
