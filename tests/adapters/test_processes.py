"""Records and requests on real processes: launched, looked at, taken up again, forgotten."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from reconciler.adapters.records import Lock
from reconciler.model.hint import Hint
from reconciler.model.observed import Health, Standing
from reconciler.ports.errors import ActionError, ObservationError
from tests.adapters.conftest import Listen
from tests.adapters.servers import REPOSITORY, Servers, refused, until


@pytest.fixture
def servers(tmp_path: Path, free_ports: Callable[[int], list[int]]) -> Iterator[Servers]:
    made = Servers(tmp_path, free_ports)
    yield made
    made.close()


# ------------------------------------------------------------------------------------------------------- launching


def test_a_launched_server_is_ours(servers: Servers) -> None:
    found = servers.launch("fast", "--say=hello")
    assert (found.standing, found.health, found.label) == (Standing.OURS, Health.STARTING, "fast")
    assert (found.spec_hash, found.artifact, found.served_name, found.memory) == ("5bec", "a11", "default_model", 1024)
    assert found.fields == {"port": str(found.port)}
    assert found.pid in servers.leaders()
    assert abs(found.since - psutil.Process(found.pid).create_time()) < 5
    assert servers.listens(found.port)
    assert servers.processes.pids() == (found.pid,)
    assert servers.record("fast") == found
    assert servers.adapter().records() == {"fast": found}


def test_what_a_proved_server_does_is_judged_elsewhere(servers: Servers) -> None:
    servers.launch("fast")
    adapter = servers.adapter(judge=lambda process, proof: replace(process, health=Health.SERVING))
    assert adapter.records()["fast"].health is Health.SERVING


@pytest.mark.fault("R07")
def test_a_second_launch_of_a_label_is_refused(servers: Servers) -> None:
    first = servers.launch("fast")
    assert refused(servers.adapter().launch(servers.order("fast"))).cause == "already-running"
    assert servers.leaders() == [first.pid]
    assert servers.record("fast") == first


def test_two_launches_of_a_label_at_once_start_one_server(servers: Servers) -> None:
    causes: list[str] = []

    def launch() -> None:
        try:
            asyncio.run(servers.adapter().launch(servers.order("fast")))
        except ActionError as error:
            causes.append(error.cause)

    threads = [threading.Thread(target=launch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert causes == ["already-running"] * 3
    assert len(servers.leaders()) == 1


def test_a_dead_server_is_launched_again(servers: Servers) -> None:
    first = servers.launch("fast")
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    servers.stands("fast", Standing.GONE)
    second = servers.launch("fast", port=first.port)
    assert (second.standing, second.port) == (Standing.OURS, first.port)
    assert second.pid != first.pid


@pytest.mark.fault("P02")
def test_p02_a_port_that_was_taken_meanwhile_is_named(servers: Servers, listen: Listen) -> None:
    error = refused(servers.processes.launch(servers.order("fast", port=listen())))
    assert (error.cause, error.permanent) == ("port-occupied", False)
    assert str(os.getpid()) in error.message
    assert servers.processes.records() == {}
    assert servers.leaders() == []


@pytest.mark.fault("R22")
def test_r22_a_program_that_is_not_there_is_no_crash(servers: Servers) -> None:
    error = refused(servers.processes.launch(servers.order("fast", argv=("/no/such/server", "--port=1"))))
    assert (error.cause, error.permanent) == ("executable-missing", True)
    assert "/no/such/server" in error.message
    assert servers.processes.records() == {}


@pytest.mark.fault("R22")
def test_r22_a_program_that_cannot_run_says_so(servers: Servers, tmp_path: Path) -> None:
    program = tmp_path / "server"
    program.write_bytes(b"\x7fELF of another machine\0")
    program.chmod(0o700)
    asyncio.run(servers.processes.launch(servers.order("fast", argv=(str(program),))))
    assert servers.stands("fast", Standing.GONE).detail


def test_a_launch_that_cannot_write_says_so(servers: Servers) -> None:
    servers.root.write_text("not a folder")
    assert refused(servers.processes.launch(servers.order("fast"))).cause == "launch-failed"


# --------------------------------------------------------------------------------------------------------- looking


def test_no_directory_no_records(servers: Servers) -> None:
    assert servers.processes.records() == {}
    assert not servers.root.exists()


def test_only_records_are_records(servers: Servers) -> None:
    (servers.root / "run").mkdir(parents=True)
    for name in ("fast.lock", "fast.json.tmp", ".json", ".hidden.json"):
        (servers.root / "run" / name).touch()
    assert servers.processes.records() == {}


def test_a_directory_that_cannot_be_listed_is_not_empty(servers: Servers) -> None:
    servers.root.mkdir()
    (servers.root / "run").touch()
    with pytest.raises(ObservationError, match="Not a directory"):
        servers.processes.records()


def test_looking_changes_nothing(servers: Servers) -> None:
    servers.launch("fast")
    dead = servers.launch("slow")
    os.kill(dead.pid or 0, signal.SIGKILL)
    servers.stands("slow", Standing.GONE)
    files = {path: path.stat() for path in servers.root.rglob("*") if path.is_file()}
    servers.processes.records()
    after = {path: path.stat() for path in servers.root.rglob("*") if path.is_file()}
    assert {path: (s.st_ino, s.st_size, s.st_mtime_ns) for path, s in files.items()} == {
        path: (s.st_ino, s.st_size, s.st_mtime_ns) for path, s in after.items()
    }


def test_what_decides_imports_neither_a_loop_nor_psutil() -> None:
    code = "import sys, reconciler.adapters.processes; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    modules = set(loaded.stdout.split())
    assert not modules & {"asyncio", "subprocess", "psutil", "json", "signal", "socket", "ctypes"}


# ----------------------------------------------------------------------------------------------------- ends of servers


@pytest.mark.fault("R01")
def test_r01_a_killed_server_is_gone_with_its_last_words(servers: Servers) -> None:
    found = servers.launch("fast", "--say=\x1b[31mout of memory")
    os.kill(found.pid or 0, signal.SIGKILL)
    gone = servers.stands("fast", Standing.GONE)
    assert gone.detail == "ended by signal 9; its log ends with: ready"
    assert servers.processes.pids() == ()
    assert servers.is_free("fast")


def test_last_words_are_this_launch_s_and_cannot_touch_the_terminal(servers: Servers) -> None:
    os.kill(servers.launch("fast", "--say=an old line").pid or 0, signal.SIGKILL)
    servers.stands("fast", Standing.GONE)
    asyncio.run(servers.processes.launch(servers.order("fast", "--crash=3")))
    assert servers.stands("fast", Standing.GONE).detail == "ended with exit code 3"
    asyncio.run(servers.processes.launch(servers.order("fast", "--say=\x1b[31m" + "x" * 500, "--crash=3")))
    until(lambda: "x" in servers.record("fast").detail, "the line is there")
    detail = servers.stands("fast", Standing.GONE).detail
    assert detail.startswith("ended with exit code 3; its log ends with: \\x1b[31mxxx")
    assert len(detail) < 250
    assert servers.log("fast").startswith("an old line")


def test_a_server_that_ends_by_itself_says_how(servers: Servers) -> None:
    asyncio.run(
        servers.processes.launch(servers.order("fast", "--say=that was it", "--never-listen", "--exit-after=0"))
    )
    assert servers.stands("fast", Standing.GONE).detail.startswith("ended with exit code 0; ")


@pytest.mark.fault("R05")
def test_r05_a_zombie_is_dead(servers: Servers) -> None:
    found = servers.launch("fast")
    assert found.pid is not None
    os.kill(found.pid, signal.SIGKILL)
    until(lambda: psutil.Process(found.pid).status() == psutil.STATUS_ZOMBIE, "nobody has reaped it")
    # Another reconciler is not its parent: it cannot reap it.
    assert servers.adapter().records()["fast"].standing is Standing.GONE
    assert psutil.Process(found.pid).status() == psutil.STATUS_ZOMBIE
    assert servers.record("fast").standing is Standing.GONE
    assert not psutil.pid_exists(found.pid)


@pytest.mark.skipif(sys.platform != "linux", reason="a first thread that has ended looks like a zombie on Linux")
@pytest.mark.fault("R05")
def test_r05_a_server_whose_first_thread_has_ended_is_alive(servers: Servers) -> None:
    found = servers.launch("fast", "--leave-main")
    until(lambda: psutil.Process(found.pid).status() == psutil.STATUS_ZOMBIE, "it looks like a zombie")
    assert servers.record("fast").standing is Standing.OURS
    assert servers.listens(found.port)


@pytest.mark.fault("R01")
def test_the_end_of_a_server_is_a_hint(servers: Servers) -> None:
    async def main() -> Hint:
        for _ in range(10):
            ended = asyncio.create_task(servers.processes.exited())
            await asyncio.sleep(0)
            assert not ended.done()
            ended.cancel()
        again = asyncio.create_task(servers.processes.exited())
        await asyncio.sleep(0)
        os.kill(victim.pid or 0, signal.SIGKILL)
        told = await asyncio.wait_for(again, 10)
        once_more = asyncio.create_task(servers.processes.exited())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not once_more.done(), "it is told once for each look"
        once_more.cancel()
        return told

    servers.launch("fast")
    victim = servers.launch("slow")
    servers.processes.records()
    before = len(os.listdir("/dev/fd"))
    assert asyncio.run(main()) == Hint(ended=frozenset({"slow"}))
    assert len(os.listdir("/dev/fd")) == before + 2, "one descriptor for all waits, and one for who still runs"
    servers.processes.close()
    assert len(os.listdir("/dev/fd")) == before
    assert servers.processes.record("slow", None) == servers.record("slow")
    assert servers.record("slow").standing is Standing.GONE
    assert servers.processes.record("nobody", None) is None


# -------------------------------------------------------------------------------- the launcher killed at every point


def converge(servers: Servers, port: int) -> None:
    """What the engine would do, until the server is ours."""
    found = servers.processes.records().get("fast")
    if found is None or found.standing is Standing.GONE:
        asyncio.run(servers.processes.launch(servers.order("fast", port=port)))
    elif found.standing is Standing.ORPHAN:
        asyncio.run(servers.processes.adopt(found))


@pytest.mark.parametrize(
    ("point", "standing"),
    [
        pytest.param("before-record", None, marks=pytest.mark.fault("R08")),
        pytest.param("after-record", Standing.GONE, marks=pytest.mark.fault("R08")),
        pytest.param("after-spawn", Standing.ORPHAN, marks=pytest.mark.fault("R07")),
        pytest.param("after-complete", Standing.OURS, marks=pytest.mark.fault("R09")),
    ],
)
def test_a_launcher_killed_at_any_point_leads_to_one_server(
    servers: Servers, point: str, standing: Standing | None
) -> None:
    order = servers.order("fast")
    servers.killed_at("launch", order, point)
    if standing in (Standing.ORPHAN, Standing.OURS):
        servers.stands("fast", standing)
    found = servers.processes.records().get("fast")
    assert (found and found.standing) == standing
    earlier = servers.leaders()
    converge(servers, order.port)
    until(lambda: "ready" in servers.log("fast"), "it is ready")
    ours = servers.record("fast")
    assert ours.standing is Standing.OURS
    assert servers.leaders() == [ours.pid]
    assert not earlier or earlier == [ours.pid]
    assert not list(servers.root.rglob("*.tmp"))


@pytest.mark.fault("R07")
def test_r07_an_orphan_is_not_launched_again_and_not_stopped_before_it_is_adopted(servers: Servers) -> None:
    order = servers.order("fast")
    servers.killed_at("launch", order, "after-spawn")
    orphan = servers.stands("fast", Standing.ORPHAN)
    assert (orphan.pid, orphan.started) == (servers.leaders()[0], None)
    assert refused(servers.processes.launch(order)).cause == "already-running"
    assert refused(servers.processes.stop(orphan)).cause == "proof-failed"
    assert refused(servers.processes.forget(orphan)).cause == "proof-failed"
    assert servers.leaders() == [orphan.pid]
    asyncio.run(servers.processes.adopt(orphan))
    asyncio.run(servers.processes.adopt(orphan))
    adopted = servers.record("fast")
    assert (adopted.standing, adopted.pid, adopted.since) == (Standing.OURS, orphan.pid, orphan.since)
    asyncio.run(servers.processes.stop(adopted))
    assert servers.leaders() == []


@pytest.mark.fault("R07")
def test_r07_an_orphan_is_found_without_its_pid_file(servers: Servers) -> None:
    servers.killed_at("launch", servers.order("fast", "--fork-child"), "after-spawn")
    until(lambda: "ready" in servers.log("fast"), "it has its worker")
    Path(servers.run("fast").pid_path).unlink()
    assert servers.record("fast").standing is Standing.ORPHAN
    assert servers.record("fast").pid == servers.leaders()[0]


@pytest.mark.fault("R09")
def test_r09_a_server_outlives_its_launcher_again_and_again(servers: Servers) -> None:
    found = servers.launch("fast")
    for _ in range(100):
        assert servers.adapter().records() == {"fast": found}
    assert servers.leaders() == [found.pid]


def test_an_adoption_of_what_is_no_orphan_is_refused(servers: Servers) -> None:
    found = servers.launch("fast")
    os.kill(found.pid or 0, signal.SIGKILL)
    gone = servers.stands("fast", Standing.GONE)
    assert refused(servers.processes.adopt(gone)).cause == "proof-failed"


# ------------------------------------------------------------------------------------------------------- forgetting


def test_a_dead_record_is_forgotten_and_its_lock_stays(servers: Servers) -> None:
    found = servers.launch("fast")
    os.kill(found.pid or 0, signal.SIGKILL)
    gone = servers.stands("fast", Standing.GONE)
    asyncio.run(servers.processes.forget(gone))
    assert servers.processes.records() == {}
    assert os.listdir(servers.root / "run") == ["fast.lock"]
    assert refused(servers.processes.forget(gone)).cause == "proof-failed"


def test_a_live_record_is_not_forgotten(servers: Servers) -> None:
    found = servers.launch("fast")
    assert refused(servers.processes.forget(found)).cause == "proof-failed"
    assert servers.record("fast") == found


def test_the_record_of_a_later_launch_is_not_forgotten(servers: Servers) -> None:
    os.kill(servers.launch("fast").pid or 0, signal.SIGKILL)
    gone = servers.stands("fast", Standing.GONE)
    os.kill(servers.launch("fast").pid or 0, signal.SIGKILL)
    servers.stands("fast", Standing.GONE)
    assert refused(servers.processes.forget(gone)).cause == "proof-failed"


def test_modes_are_the_owner_s(servers: Servers) -> None:
    before = os.umask(0)
    try:
        servers.launch("fast")
    finally:
        os.umask(before)
    modes = {str(path.relative_to(servers.root)): path.stat().st_mode & 0o777 for path in servers.root.rglob("*")}
    folders = {"run": 0o700, "logs": 0o700}
    files = dict.fromkeys(("run/fast.json", "run/fast.lock", "run/fast.pid", "logs/fast.log"), 0o600)
    assert modes == folders | files
    assert servers.root.stat().st_mode & 0o777 == 0o700


def test_a_record_says_what_was_started(servers: Servers) -> None:
    order = servers.order("fast", "--say=" + "x" * 1000)
    asyncio.run(servers.processes.launch(order))
    record = json.loads(Path(servers.run("fast").record_path).read_text())
    assert (record["version"], record["phase"], record["host"]) == (1, "running", "127.0.0.1")
    assert record["log"] == servers.run("fast").log_path
    assert record["argv"][:-1] == list(order.argv[:-1])
    assert record["argv"][-1].endswith("xx... (1006 characters)")
    assert servers.run("fast").lock() is Lock.HELD
