"""What can happen to a watch that runs: its lock, its holder, its disk, its records, its environment, its mistakes."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from reconciler.model.problem import ExitCode
from tests.cli.home import Home
from tests.e2e.watching import Command, Machine, kill, machine_of, until

pytestmark = [pytest.mark.heavy, pytest.mark.e2e, pytest.mark.timeout(120)]

FLAWED: Final = Path(__file__).resolve().parents[1] / "programs" / "flawed_watch.py"
RETUNED: Final = "    options: {max_tokens: 7}\n"
LOCK_DESCRIPTOR: Final = 9


@pytest.fixture
def machine(home: Home) -> Iterator[Machine]:
    """Two models that are declared; nothing runs yet."""
    with machine_of(home, "alpha", "beta") as made:
        made.declare("alpha", "beta")
        yield made


def served(machine: Machine) -> tuple[Command, dict[str, int]]:
    """A watch that has started both, and their processes."""
    watch = machine.watch()
    watch.says("settled ensemble")
    return watch, machine.one_each("alpha", "beta")


def flawed(machine: Machine, flaw: str) -> Command:
    return machine.start("watch", program=(str(FLAWED), flaw), PYTHONPATH=str(FLAWED.parents[2]))


# ------------------------------------------------------------------------------------------------- the lock, the holder


@pytest.mark.fault("X04")
@pytest.mark.skipif(sys.platform != "linux", reason="only there it can be seen what another process has open")
def test_x04_a_server_has_no_descriptor_but_its_own(machine: Machine) -> None:
    watch, pids = served(machine)
    kill(pids["alpha"])  # the next one is started by a watch that has a socket, an event queue and connections
    watch.says("settled ensemble", 2)
    for pid in machine.one_each("alpha", "beta").values():
        held = {int(name): os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
        strange = {number: what for number, what in held.items() if number > 2 and not what.startswith("socket:")}
        assert set(strange) == {LOCK_DESCRIPTOR}, held
        assert strange[LOCK_DESCRIPTOR].startswith(str(machine.state / "run"))
    watch.end(signal.SIGKILL)
    assert machine.lock_is_free()


@pytest.mark.fault("X05")
def test_x05_without_its_lock_file_a_watch_is_still_the_only_one(machine: Machine) -> None:
    watch, pids = served(machine)
    lock = machine.state / "reconciler.lock"
    lock.unlink()
    for _ in range(2):  # the first one makes the file again
        code, said = machine.run("watch")
        assert code == ExitCode.LOCKED, said
        assert "another reconciler is at work here" in said
        assert lock.exists()
    assert machine.one_each("alpha", "beta") == pids
    assert watch.end() == ExitCode.TERMINATED
    assert "Nothing to do." in machine.applied()


@pytest.mark.fault("X07")
def test_x07_a_watch_that_was_stopped_looks_before_it_acts(machine: Machine) -> None:
    watch, pids = served(machine)
    watch.process.send_signal(signal.SIGSTOP)
    code, said = machine.run("watch")
    assert code == ExitCode.LOCKED
    assert f"pid {watch.pid} (watch)" in said
    kill(pids["alpha"])
    with socket.create_server(("127.0.0.1", machine.ports["alpha"])):
        watch.process.send_signal(signal.SIGCONT)
        watch.says("blocked server/alpha")
        assert list(machine.servers()) == [pids["beta"]], "nobody was started on a port that is taken"
        until(lambda: machine.routed() == {"beta"}, "nobody is sent there", watch.said)
    machine.served("alpha", "beta", told=watch.said)
    assert machine.one_each("alpha", "beta")["beta"] == pids["beta"]


# ------------------------------------------------------------------------------------------------------------ mistakes


@pytest.mark.fault("X18")
def test_x18_a_mistake_about_one_server_is_no_harm_to_the_others(machine: Machine) -> None:
    watch = flawed(machine, "raises-alpha")
    until(lambda: machine.told("failed"), "it has failed", watch.said)
    until(lambda: machine.routed() == {"beta"}, "the other one is served", watch.said)
    (failed, *_) = machine.told("failed")
    assert (failed["subject"], failed["reference"]) == ("server/alpha", "internal-error")
    beta = machine.pid("beta")
    assert watch.end() == ExitCode.TERMINATED
    assert machine.run("retry", "alpha")[0] == ExitCode.OK
    assert machine.one_each("alpha", "beta")["beta"] == beta


@pytest.mark.fault("X27", "P02")
def test_x27_what_is_no_longer_as_it_was_planned_is_planned_anew(machine: Machine) -> None:
    watch = flawed(machine, "late-alpha")
    machine.served("alpha", "beta", told=watch.said)
    machine.one_each("alpha", "beta")
    (failed,) = machine.told("failed")
    assert (failed["subject"], failed["reference"]) == ("server/alpha", "port-occupied")


def test_a_revision_that_cannot_be_foreseen_is_refused_and_ends_no_watch(machine: Machine) -> None:
    """It ended the watch, and each one that a service manager started after it."""
    machine.declare("alpha")
    machine.applied()
    pids = machine.one_each("alpha")
    watch = flawed(machine, "endless")
    until(lambda: machine.is_watched() or watch.process.poll() is not None, "it watches", watch.said)
    machine.declare("alpha", "beta")
    watch.says("blocked source/worktree: what it would come to could not be foreseen (no end after 40 ticks)")
    (blocked,) = machine.told("blocked")
    assert blocked["reference"] == "forecast-failed"
    kill(pids["alpha"])
    until(lambda: machine.pid("alpha") not in (0, pids["alpha"]), "what is in force is healed", watch.said)
    assert machine.served("alpha", told=watch.said) == machine.one_each("alpha")
    assert watch.end() == ExitCode.TERMINATED


# ------------------------------------------------------------------------------------------------------------ the disk


@contextmanager
def disk(place: Path, size: str) -> Iterator[None]:
    """A small file system at a place."""
    place.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root may mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path) -> None:
    """Leave nothing free on the disk of a folder."""
    with suppress(OSError), (place / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@pytest.mark.fault("X22")
def test_x22_a_full_disk_keeps_everything_as_it_is(home: Home) -> None:
    with disk(home.root / "small", "8m"), machine_of(home, "alpha", "beta", state=home.root / "small" / "s") as machine:
        machine.declare("alpha", "beta")
        watch, pids = served(machine)
        fill(home.root / "small")
        stamp = machine.stamp()
        machine.declare("beta", more=RETUNED)
        until(lambda: "the look failed and is tried again" in watch.err, "it says so", watch.said)
        assert "state.db cannot be used" in watch.err
        kill(pids["beta"])
        assert watch.process.poll() is None
        assert list(machine.servers()) == [pids["alpha"]]
        assert machine.stamp() == stamp
        (home.root / "small" / "ballast").unlink()
        machine.served("beta", told=watch.said)
        assert all("--max-tokens=7 " in line for line in machine.servers().values())
        watch.end()
        fill(home.root / "small")
        pid = machine.pid("beta")
        machine.declare("alpha")
        code, said = machine.run("apply", "--yes")
        assert code == ExitCode.ENVIRONMENT, said
        assert list(machine.servers()) == [pid]
        assert machine.routed() == {"beta"}
        (home.root / "small" / "ballast").unlink()


# ------------------------------------------------------------------------------------------- other versions, odd places


@pytest.mark.fault("X25")
def test_x25_a_newer_watch_takes_up_the_servers_of_an_older_one(machine: Machine) -> None:
    machine.applied()
    pids, stamp = machine.one_each("alpha", "beta"), machine.stamp()
    for label in pids:
        path = machine.state / "run" / f"{label}.json"
        older = {name: value for name, value in machine.record(label).items() if name not in ("revision", "generation")}
        path.write_text(json.dumps({**older, "of_another_version": [1, 2]}))
    watch = machine.watch()
    assert machine.run("apply", "--yes")[0] == ExitCode.OK
    assert machine.one_each("alpha", "beta") == pids
    assert machine.stamp() == stamp
    assert watch.process.poll() is None


@pytest.mark.fault("X25")
def test_x25_an_older_watch_leaves_the_servers_of_a_newer_one(machine: Machine) -> None:
    machine.applied()
    pids = machine.one_each("alpha", "beta")
    path = machine.state / "run" / "alpha.json"
    ours = path.read_text()
    path.write_text(json.dumps({**machine.record("alpha"), "version": 99}))
    machine.declare("beta")
    watch = machine.watch()
    watch.says("blocked server/alpha")
    assert "newer version" in watch.out
    assert set(machine.servers()) == set(pids.values())
    path.write_text(ours)
    machine.served("beta", told=watch.said)


@pytest.mark.fault("X28")
def test_x28_an_odd_environment_reaches_no_server_and_opens_no_file(machine: Machine, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        watch = machine.start(
            "watch",
            TZ="Asia/Kathmandu",
            LC_ALL="C",
            LANG="tr_TR",
            PYTHONHASHSEED="7",
            PYTHONPATH=str(tmp_path / "nowhere"),
            PYTHONSTARTUP="/dev/null",
            LD_LIBRARY_PATH=str(tmp_path),
            DYLD_LIBRARY_PATH=str(tmp_path),
            HF_TOKEN="hf_" + "c" * 34,
        )
        machine.served("alpha", "beta", told=watch.said)
    finally:
        os.umask(before)
    for path in machine.state.rglob("*"):
        assert not path.stat().st_mode & 0o077 or path.is_symlink(), path
    for pid in machine.one_each("alpha", "beta").values():
        if sys.platform == "linux":
            entries = Path(f"/proc/{pid}/environ").read_text().split("\0")
            names = {entry.partition("=")[0] for entry in entries}
            strange = {name for name in names if name.startswith(("PYTHON", "LD_", "DYLD_")) or "TOKEN" in name}
            assert strange == {"RECONCILER_TOKEN"}
    assert watch.end() == ExitCode.TERMINATED
