"""The simulated disk answers as a real one does, and forgets what a real one may forget."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from reconciler.adapters.durable.files import Entry, Files, Kind, LocalFiles

from .disk import Disk, Machine, SimulatedFiles

Script = Callable[[Files], object]

SCRIPT: tuple[Script, ...] = (
    lambda files: files.look("a"),
    lambda files: files.make_folder("a"),
    lambda files: files.make_folder("a"),
    lambda files: files.make_folder("none/b"),
    lambda files: files.write("a/f", [b"one", b"", b"two"]),
    lambda files: files.write("a/f", [b"again"]),
    lambda files: files.read("a/f"),
    lambda files: files.look("a/f"),
    lambda files: files.look("a/f/x"),
    lambda files: b"".join(files.chunks("a/f")),
    lambda files: files.digest("a/f"),
    lambda files: files.link("a/l", "f"),
    lambda files: files.link("a/l", "g"),
    lambda files: files.target("a/l"),
    lambda files: files.look("a/l"),
    lambda files: files.names("a"),
    lambda files: files.names(""),
    lambda files: files.names("none"),
    lambda files: files.sync("a/f"),
    lambda files: files.sync("a"),
    lambda files: files.sync(""),
    lambda files: files.sync("a/none"),
    lambda files: files.remove_folder("a"),
    lambda files: files.make_folder("b"),
    lambda files: files.rename("b", "a"),
    lambda files: files.rename("a", "c"),
    lambda files: files.rename("a", "d"),
    lambda files: files.write("c/g", [b"new"]),
    lambda files: files.rename("c/g", "c/f"),
    lambda files: files.read("c/f"),
    lambda files: files.remove("c/f"),
    lambda files: files.remove("c/f"),
    lambda files: files.remove("c/l"),
    lambda files: files.remove_folder("c"),
    lambda files: files.names(""),
)


def simulated() -> SimulatedFiles:
    disk = Disk("internal")
    return SimulatedFiles(Machine(0, (disk, Disk("external")), "external"), disk)


@contextmanager
def real(root: Path) -> Iterator[Files]:
    with LocalFiles(str(root)) as files:
        yield files


def answer(step: Script, files: Files) -> object:
    try:
        return step(files)
    except OSError as error:
        return error.errno


def test_it_answers_as_a_real_one(tmp_path: Path) -> None:
    model = simulated()
    with real(tmp_path) as files:
        for number, step in enumerate(SCRIPT):
            assert answer(step, model) == answer(step, files), f"step {number}"


def test_a_loss_of_power_takes_some_of_what_was_not_synced() -> None:
    seen: dict[str, set[object]] = {"content": set(), "names": set()}
    for seed in range(60):
        files = simulated()
        files.write("old", [b"12345678"])
        files.sync("")
        files.write("new", [b"1"])
        files.rename("new", "newer")
        files.machine.random.seed(seed)
        files.machine.crashed(power=True)
        seen["content"].add(files.read("old"))
        seen["names"].add(files.names(""))
    assert {b"", b"12345678", bytes(8)} < seen["content"]
    assert seen["names"] == {("old",), ("new", "old"), ("newer", "old")}


def test_what_was_synced_stays() -> None:
    for seed in range(20):
        files = simulated()
        files.make_folder("a")
        files.write("a/f", [b"content"])
        files.sync("a/f")
        files.sync("a")
        files.sync("")
        files.machine.random.seed(seed)
        files.machine.crashed(power=True)
        assert files.read("a/f") == b"content"


def test_a_kill_takes_nothing() -> None:
    files = simulated()
    files.write("f", [b"content"])
    files.machine.crashed(power=False)
    assert files.look("f") == Entry(kind=Kind.FILE, size=7)


def test_what_rots_is_seen_by_reading_it_back_and_not_in_memory() -> None:
    files = simulated()
    files.machine.fragile = "internal"
    files.machine.faults.corrupt = 2
    files.write("f", [b"content"])
    files.sync("f")
    assert files.read("f") == b"content"
    assert files.digest("f") != hashlib.sha256(b"content").hexdigest()
    assert files.read("f") != b"content"
