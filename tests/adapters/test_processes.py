"""Run records: what can be proved of them without a process, and that nothing else is claimed."""

import asyncio
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.adapters.gateway_files import LocalGateways
from reconciler.adapters.processes import RecordedProcesses, boot_id
from reconciler.model.host import GatewayFiles, HostFile, LiteLlmFiles
from reconciler.model.observed import Absent, ServerProcess, Standing, Unknown
from reconciler.ports.errors import ActionError, ObservationError

RECORD = {"port": 8100, "pid": 4, "started": 5, "spec_hash": "abc", "fields": {"port": "8100"}, "memory": 7}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


@pytest.fixture
def held(run: Path) -> Iterator[Path]:
    """A lock that somebody holds."""
    path = run / "fast.lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    yield path
    os.close(handle)


def record(run: Path, content: object) -> ServerProcess:
    text = content if isinstance(content, str) else json.dumps(content)
    (run / "fast.json").write_text(text)
    return RecordedProcesses(run).records()["fast"]


def test_no_directory_no_records(tmp_path: Path) -> None:
    assert RecordedProcesses(tmp_path / "none").records() == {}


def test_only_records_are_records(run: Path) -> None:
    for name in ("fast.lock", "fast.json.tmp", ".json", ".hidden.json"):
        (run / name).touch()
    assert RecordedProcesses(run).records() == {}


def test_a_directory_that_cannot_be_listed_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(ObservationError, match="Not a directory"):
        RecordedProcesses(tmp_path / "run").records()


def test_a_lock_that_is_held_proves_nothing_yet(run: Path, held: Path) -> None:
    found = record(run, RECORD | {"boot_id": boot_id()})
    assert (found.standing, found.port, found.pid, found.started) == (Standing.UNKNOWN, 8100, 4, 5)
    assert (found.spec_hash, found.fields, found.memory) == ("abc", {"port": "8100"}, 7)


def test_a_lock_that_is_free_proves_that_the_server_is_gone(run: Path) -> None:
    (run / "fast.lock").touch()
    assert record(run, RECORD).standing is Standing.GONE


@pytest.mark.fault("R20")
def test_r20_a_record_of_another_boot_is_void(run: Path, held: Path) -> None:
    assert record(run, RECORD | {"boot_id": "another"}).standing is Standing.GONE


@pytest.mark.fault("R19")
@pytest.mark.parametrize("content", ["", "[]", "{", '{"port": "x", "pid": true, "fields": [1]}', "[" * 100_000])
def test_r19_a_damaged_record_is_unknown(run: Path, held: Path, content: str) -> None:
    found = record(run, content)
    assert (found.standing, found.port, found.pid, found.fields) == (Standing.UNKNOWN, 0, None, {})


@pytest.mark.fault("R19")
def test_r19_a_record_without_a_lock_is_unknown(run: Path) -> None:
    assert record(run, RECORD).standing is Standing.UNKNOWN


def test_nothing_is_started_or_ended(run: Path) -> None:
    (run / "fast.lock").touch()
    found = record(run, RECORD)
    processes = RecordedProcesses(run)
    for request in (processes.stop, processes.adopt, processes.forget):
        with pytest.raises(ActionError) as caught:
            asyncio.run(request(found))
        assert (caught.value.cause, caught.value.permanent) == ("not-available", True)
    assert (run / "fast.json").exists()


def test_gateway_files(tmp_path: Path) -> None:
    assert LocalGateways(HostFile()).look() == {}
    include = tmp_path / "models.yaml"
    host_file = HostFile(gateways=GatewayFiles(litellm=LiteLlmFiles(include=str(include))))
    gateways = LocalGateways(host_file)
    assert gateways.look() == {"litellm": Absent()}
    include.write_text("model_list: []\n")
    answer = gateways.look()["litellm"]
    assert isinstance(answer, Unknown)
    assert "cannot read" in answer.reason
    with pytest.raises(ActionError) as caught:
        asyncio.run(gateways.publish("litellm", ()))
    assert caught.value.cause == "not-available"
    assert include.read_text() == "model_list: []\n"
