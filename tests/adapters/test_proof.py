"""The proof against records that lie: edited, damaged, removed, of another boot; nobody is signalled on a doubt."""

import asyncio
import contextlib
import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.adapters import process_table
from reconciler.adapters.darwin_processes import parse_arguments
from reconciler.adapters.records import Run, parse
from reconciler.model.observed import ServerProcess, Standing
from reconciler.ports.errors import ObservationError
from tests.adapters.servers import FAKE, Servers, refused, until

Start = Callable[..., int]


@pytest.fixture
def servers(tmp_path: Path, free_ports: Callable[[int], list[int]]) -> Iterator[Servers]:
    made = Servers(tmp_path, free_ports)
    yield made
    made.close()


@pytest.fixture
def stranger() -> Iterator[Start]:
    """Start a process that is not ours; its pid. A signal that reached it would have ended it."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> int:
        arguments = arguments or (sys.executable, "-S", "-c", "input()")
        started.append(subprocess.Popen(arguments, stdin=subprocess.PIPE, start_new_session=True))
        return started[-1].pid

    yield start
    for process in started:
        assert process.poll() is None, "a stranger was ended"
        process.kill()
        process.communicate()


def nobody_is_touched(servers: Servers, found: ServerProcess) -> None:
    """Every request on a doubtful record is refused, and every process lives."""
    before = servers.leaders()
    for request in (servers.processes.stop, servers.processes.adopt, servers.processes.forget):
        assert refused(request(found)).cause == "proof-failed"
    assert servers.leaders() == before
    assert Path(servers.run(found.label).record_path).exists()


def as_stranger(servers: Servers, label: str, pid: int) -> None:
    """Make a record name another process, with all that there is to know about it."""
    found = process_table.seen(pid)
    assert found is not None
    servers.edit(label, pid=pid, started=found.started, unique=process_table.unique(pid))


# ---------------------------------------------------------------------------------------------------- other processes


@pytest.mark.fault("R06")
def test_r06_a_record_that_names_a_stranger_is_unknown(servers: Servers, stranger: Start) -> None:
    servers.launch("fast")
    pid = stranger()
    as_stranger(servers, "fast", pid)
    found = servers.record("fast")
    assert found.standing is Standing.UNKNOWN
    assert found.detail == f"pid {pid} does not carry the token of its launch"
    nobody_is_touched(servers, found)


@pytest.mark.fault("R06")
def test_r06_a_recycled_pid_is_not_our_server(servers: Servers, stranger: Start) -> None:
    first = servers.launch("fast")
    os.kill(first.pid or 0, signal.SIGKILL)
    servers.stands("fast", Standing.GONE)
    as_stranger(servers, "fast", stranger())
    found = servers.record("fast")
    assert found.standing is Standing.GONE
    asyncio.run(servers.processes.stop(found))
    assert servers.processes.records() == {}


@pytest.mark.fault("R06")
@pytest.mark.parametrize("name", ["started", "unique"])
def test_r06_the_same_pid_with_another_start_or_number_is_another_process(servers: Servers, name: str) -> None:
    if name == "unique" and process_table.unique(os.getpid()) is None:
        pytest.skip("no unique numbers here")
    servers.launch("fast")
    record = json.loads(Path(servers.run("fast").record_path).read_text())
    servers.edit("fast", token="of another launch", **{name: record[name] + 1})
    found = servers.record("fast")
    assert found.standing is Standing.UNKNOWN
    assert "is another process now" in found.detail
    nobody_is_touched(servers, found)


def test_a_look_alike_is_not_ours(servers: Servers, stranger: Start, free_ports: Callable[[int], list[int]]) -> None:
    found = servers.launch("fast")
    port = free_ports(1)[0]
    stranger(sys.executable, "-S", str(FAKE), f"--port={port}")
    twin = stranger(sys.executable, "-S", str(FAKE), f"--port={found.port}", "--lose-bind")
    assert servers.processes.records() == {"fast": found}
    asyncio.run(servers.processes.stop(found))
    assert process_table.seen(twin) is not None


def test_a_lock_that_a_stranger_holds_proves_nothing(servers: Servers) -> None:
    first = servers.launch("fast")
    os.kill(first.pid or 0, signal.SIGKILL)
    servers.stands("fast", Standing.GONE)
    with open(servers.run("fast").lock_path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        found = servers.record("fast")
        assert found.standing is Standing.UNKNOWN
        assert found.detail == f"pid {first.pid} is gone, and something that cannot be named holds its lock"
        nobody_is_touched(servers, found)
    assert servers.record("fast").standing is Standing.GONE


@pytest.mark.skipif(sys.platform != "linux", reason="macOS does not show who has a file open")
def test_a_copied_token_alone_makes_nobody_ours(servers: Servers, stranger: Start) -> None:
    first = servers.launch("fast")
    token = json.loads(Path(servers.run("fast").record_path).read_text())["token"]
    copy = stranger("/usr/bin/env", f"RECONCILER_TOKEN={token}", sys.executable, "-S", "-c", "input()")
    os.kill(first.pid or 0, signal.SIGKILL)
    gone = servers.stands("fast", Standing.GONE)
    asyncio.run(servers.processes.stop(gone))
    assert process_table.seen(copy) is not None


# --------------------------------------------------------------------------------------------------- damaged records


@pytest.mark.fault("R19")
@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"port": "x", "pid": true, "fields": [1]}', "[" * 100_000, "\0" * 100, '{"version": 1}']
)
def test_r19_a_damaged_record_is_unknown(servers: Servers, content: str) -> None:
    servers.launch("fast")
    Path(servers.run("fast").record_path).write_text(content)
    found = servers.record("fast")
    assert (found.standing, found.pid, found.fields) == (Standing.UNKNOWN, None, {})
    assert found.detail.startswith("its record is damaged: ")
    nobody_is_touched(servers, found)


@pytest.mark.fault("R19")
@pytest.mark.parametrize(
    "change",
    [
        *({"pid": 1}, {"pid": 0}, {"pid": -1}, {"pid": 2**40}, {"pid": None}, {"port": 0}, {"token": ""}),
        *({"label": "other"}, {"started": None}, {"phase": "starting"}, {"boot_id": ""}, {"version": 2}),
        {"since": 1e308},
    ],
    ids=str,
)
def test_r19_a_record_with_a_wrong_value_is_unknown(servers: Servers, change: dict[str, object]) -> None:
    server = servers.launch("fast")
    servers.edit("fast", **change)
    found = servers.record("fast")
    if "since" in change:
        assert (found.standing, found.since) == (Standing.OURS, 0.0)
        return
    assert found.standing is Standing.UNKNOWN
    assert found.detail
    assert found.port in {0, server.port}
    nobody_is_touched(servers, found)


@pytest.mark.fault("R19")
def test_r19_a_removed_record_leaves_its_server_alone(servers: Servers) -> None:
    found = servers.launch("fast")
    Path(servers.run("fast").record_path).unlink()
    assert servers.processes.records() == {}
    assert refused(servers.processes.stop(found)).cause == "proof-failed"
    assert refused(servers.processes.launch(servers.order("fast"))).cause == "already-running"
    assert servers.leaders() == [found.pid]


@pytest.mark.fault("R19")
def test_r19_a_removed_lock_file_is_unknown_while_the_server_lives(servers: Servers) -> None:
    server = servers.launch("fast")
    Path(servers.run("fast").lock_path).unlink()
    found = servers.record("fast")
    assert (found.standing, found.detail) == (Standing.UNKNOWN, "its lock file is missing")
    nobody_is_touched(servers, found)
    os.kill(server.pid or 0, signal.SIGKILL)
    gone = servers.stands("fast", Standing.GONE)
    asyncio.run(servers.processes.forget(gone))
    assert servers.processes.records() == {}


@pytest.mark.fault("R19")
def test_r19_a_replaced_lock_file_is_unknown_and_starts_no_second_server(servers: Servers) -> None:
    server = servers.launch("fast")
    Path(servers.run("fast").lock_path).unlink()
    Path(servers.run("fast").lock_path).touch()
    found = servers.record("fast")
    assert (found.standing, found.detail) == (Standing.UNKNOWN, f"pid {server.pid} runs and does not hold its lock")
    nobody_is_touched(servers, found)
    assert refused(servers.processes.launch(servers.order("fast"))).cause == "already-running"
    assert servers.leaders() == [server.pid]


def test_a_damaged_record_that_nobody_holds_is_gone(servers: Servers) -> None:
    (servers.root / "run").mkdir(parents=True)
    (servers.root / "run" / "fast.lock").touch()
    (servers.root / "run" / "fast.json").write_text("{")
    found = servers.record("fast")
    assert (found.standing, found.port) == (Standing.GONE, 0)
    asyncio.run(servers.processes.forget(found))
    assert servers.processes.records() == {}


@pytest.mark.fault("X25")
@pytest.mark.parametrize("flavour", ["an earlier version", "a newer one"])
def test_x25_a_record_of_another_version_proves_its_server(servers: Servers, flavour: str) -> None:
    before = servers.launch("fast")
    path = Path(servers.run("fast").record_path)
    record = json.loads(path.read_text())
    if flavour == "an earlier version":
        del record["revision"], record["generation"]
    else:
        record |= {"colour": "blue", "phases": [{"at": 1}]}
    path.write_text(json.dumps(record))
    found = servers.record("fast")
    known = flavour == "a newer one"
    assert found == replace(before, revision=before.revision * known, generation=before.generation * known)
    asyncio.run(servers.processes.stop(found))
    assert servers.is_free("fast")


def test_a_newer_version_s_record_is_left_alone_whatever_its_lock(servers: Servers) -> None:
    (servers.root / "run").mkdir(parents=True)
    (servers.root / "run" / "fast.lock").touch()
    (servers.root / "run" / "fast.json").write_text('{"version": 2, "port": 8100}')
    found = servers.record("fast")
    assert (found.standing, found.port) == (Standing.UNKNOWN, 8100)
    nobody_is_touched(servers, found)


def test_a_record_that_cannot_be_looked_at_is_unknown(servers: Servers) -> None:
    servers.launch("other")
    (servers.root / "run" / "fast.json").symlink_to("other.json")
    (servers.root / "run" / "slow.json").mkdir()
    found = servers.processes.records()
    assert [found[label].standing for label in ("fast", "other", "slow")] == ["unknown", "ours", "unknown"]
    assert "could not be looked at" in found["fast"].detail


@pytest.mark.skipif(sys.platform != "linux", reason="macOS does not limit what it is asked there")
def test_a_look_that_lacks_descriptors_is_not_absence(servers: Servers) -> None:
    servers.launch("fast")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        for _ in range(4):
            # Nothing can be opened, or the listing alone, or the record but not the lock, and so on.
            with contextlib.suppress(ObservationError):
                assert servers.record("fast").standing in (Standing.UNKNOWN, Standing.OURS)
            os.close(held.pop())
    finally:
        for number in held:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert servers.record("fast").standing is Standing.OURS


# ------------------------------------------------------------------------------------------------------ another boot


@pytest.mark.fault("R20")
def test_r20_a_record_of_another_boot_is_void_and_its_pid_never_signalled(servers: Servers) -> None:
    server = servers.launch("fast")
    servers.edit("fast", boot_id="another")
    found = servers.record("fast")
    assert (found.standing, found.pid) == (Standing.GONE, server.pid)
    assert found.detail == "the machine has been started again since"
    asyncio.run(servers.processes.forget(found))
    assert servers.leaders() == [server.pid]


# ----------------------------------------------------------------------------------------------------------- the parts


def test_a_process_is_seen_until_it_is_reaped() -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as child:
        before = process_table.seen(child.pid)
        assert before is not None
        assert before.alive
        assert process_table.seen(child.pid) == before
        assert process_table.unique(child.pid) == process_table.unique(child.pid)
        child.kill()
        if hasattr(os, "waitid"):
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            zombie = process_table.seen(child.pid)
            assert zombie is not None
            assert (zombie.alive, zombie.started) == (False, before.started)
    assert process_table.seen(child.pid) is None
    assert process_table.token(child.pid) is None
    assert process_table.unique(child.pid) is None


def test_the_token_of_a_process(stranger: Start) -> None:
    pid = stranger("/usr/bin/env", "-i", "XRECONCILER_TOKEN=no", "RECONCILER_TOKEN=yes", "/bin/sh", "-c", "read line")
    until(lambda: process_table.token(pid) == "yes", "its program has started")
    assert pid in process_table.own_pids()
    assert os.getpid() not in process_table.own_pids()


def test_arguments_as_macos_gives_them() -> None:
    area = (2).to_bytes(
        4, sys.byteorder
    ) + b"/bin/server\0\0\0\0server\0--port=1\0A=1\0RECONCILER_TOKEN=ab\0\0\0pointers\0"
    assert parse_arguments(area) == [b"A=1", b"RECONCILER_TOKEN=ab"]
    assert parse_arguments(b"") == []
    assert parse_arguments(area[:20]) == []


def test_this_boot_has_a_name() -> None:
    assert process_table.boot_id() == process_table.boot_id() != ""


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert Run(str(tmp_path), "fast").record() is None
    assert parse("fast", b'{"version": 1, "since": 12}').since == 12.0
