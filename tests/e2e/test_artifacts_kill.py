"""`apply` ended in the middle of a download, a verification, a conversion or a move: nothing of it stays behind."""

import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil
import pytest

from reconciler.adapters.hub.cache import MARK
from reconciler.model.problem import ExitCode
from tests.cli.home import Home
from tests.programs.tiny_cache import model_files

from .ensemble import until
from .supplied import BITS, WEIGHTS, Supplied, digests, supplied
from .test_lifecycle import answer

pytestmark = [pytest.mark.e2e, pytest.mark.heavy, pytest.mark.timeout(240)]

HUGE: Final = 2**30
"""Bytes that take a moment to read; a file of zeros, for which the disk has no room to give."""
LARGE: Final = 2**27
FAKE: Final = Path(__file__).resolve().parents[1] / "programs" / "fake_converter.py"
ways = pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])


@pytest.fixture
def machine(home: Home) -> Iterator[Supplied]:
    """A hub, and a machine with nothing in its cache."""
    with supplied(home) as made:
        yield made


def ended(machine: Supplied, number: signal.Signals, there: Callable[[], object], what: str) -> None:
    """Start an apply, end it when it is where it should be, and see everything go that it had started."""
    with machine.applying() as applying:
        until(there, what, applying)
        applying.send_signal(number)
        code = applying.wait(60)
    assert code == (ExitCode.INTERRUPTED if number is signal.SIGINT else -number), machine.said()
    until(lambda: not machine.children(), "nothing that it had started runs")
    if number is signal.SIGINT:
        assert "interrupted: servers stay as they are" in machine.said()
        assert "Traceback" not in machine.said()


def sparse(path: Path, zeros: int) -> str:
    """A file of weights that is nothing but zeros behind its header; its digest."""
    weights = {"dtype": "U8", "shape": [zeros], "data_offsets": [0, zeros]}
    header = json.dumps({"__metadata__": {"format": "mlx"}, "w": weights})
    start = len(header).to_bytes(8, "little") + header.encode()
    path.write_bytes(start)
    os.truncate(path, len(start) + zeros)
    digest, block = hashlib.sha256(start), bytes(2**24)
    for _ in range(zeros // len(block)):
        digest.update(block)
    return digest.hexdigest()


def cached(machine: Supplied, repo: str, zeros: int) -> None:
    """Put a model with large weights into the cache, as a finished download leaves it."""
    folder = machine.cached(repo)
    commit = hashlib.sha1(repo.encode()).hexdigest()
    snapshot = folder / "snapshots" / commit
    for path in (folder / "blobs", folder / "refs", snapshot):
        path.mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    for name, content in model_files().items():
        if name != WEIGHTS:
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            (folder / "blobs" / blob).write_bytes(content)
            (snapshot / name).symlink_to(f"../../blobs/{blob}")
    digest = sparse(folder / "blobs" / "new", zeros)
    (folder / "blobs" / "new").rename(folder / "blobs" / digest)
    (snapshot / WEIGHTS).symlink_to(f"../../blobs/{digest}")


@ways
@pytest.mark.req("S1-28")
def test_ended_in_the_middle_of_a_download(machine: Supplied, number: signal.Signals) -> None:
    machine.offers("acme/tiny")
    machine.declare("alpha", alpha={"source": {"repo": "acme/tiny"}})
    gate = machine.gate("acme/tiny")
    (size,) = {path.stat().st_size for path in machine.hub.repos["acme/tiny"].folder.glob(WEIGHTS)}

    def begun() -> list[Path]:
        return [p for p in machine.cached("acme/tiny").glob(f"blobs/*{MARK}") if p.stat().st_size == size * 6 // 10]

    ended(machine, number, begun, "more than half of it is here")
    gate.gate.set()
    assert len(begun()) == 1, "what has arrived is kept"
    assert machine.running() == []
    machine.apply()
    assert [asked.status for asked in machine.hub.gets(WEIGHTS)] == [200, 206]
    assert answer(machine.port("alpha")) == "I am acme/tiny."
    assert not list(machine.cached("acme/tiny").rglob("*incomplete"))
    assert machine.artifacts()["cache", "acme/tiny"]["verdict"] == "complete"


@ways
def test_ended_in_the_middle_of_a_verification(machine: Supplied, number: signal.Signals) -> None:
    """A server is launched by none but the apply that has read all of it."""
    machine.quick()
    cached(machine, "demo/alpha", HUGE)
    before = {path: path.stat().st_mtime_ns for path in machine.cached("demo/alpha").rglob("*")}
    machine.declare("alpha")
    ended(machine, number, lambda: "ensure artifact/demo/alpha@main: verify" in machine.said(), "it is being verified")
    assert machine.running() == []
    assert ("ensure", "artifact/demo/alpha@main") not in machine.done()
    said = machine.apply()
    assert "ensure artifact/demo/alpha@main: verify" in said, "what was not read to its end is read again"
    assert machine.routed() == {"alpha"}
    assert {path: path.stat().st_mtime_ns for path in machine.cached("demo/alpha").rglob("*")} == before
    assert "Nothing to do." in machine.apply()


@ways
@pytest.mark.req("S1-67")
@pytest.mark.fault("C01")
def test_c01_ended_in_the_middle_of_a_conversion(machine: Supplied, number: signal.Signals) -> None:
    """By the real converter; what it had written is not used, and neither is it left."""
    machine.offers("acme/base", "Converted twice.", base=True)
    machine.declare("alpha", alpha={"source": {"repo": "acme/base"}, "convert": BITS})
    assert ("convert", "artifact/acme/base@main") in machine.planned("--check-sources")
    assert machine.conversions("acme/base") == []
    ended(machine, number, lambda: converting(machine), "the converter runs")
    assert [path for path in machine.conversions("acme/base") if not path.name.startswith(".")] == []
    assert machine.running() == []
    for left in machine.conversions("acme/base"):
        (left / "config.json").write_text("{}")  # a later one must not take it for its own
    machine.apply()
    (made,) = machine.conversions("acme/base")
    assert f"--model={made}" in machine.argv("alpha")
    assert answer(machine.port("alpha")) == "Converted twice."
    assert "Nothing to do." in machine.apply()


def converting(machine: Supplied) -> list[psutil.Process]:
    """The processes of the real converter."""
    found = []
    for process in machine.children():
        try:
            found += [process] if {"mlx_lm", "convert"} <= set(process.cmdline()) else []
        except psutil.Error:
            continue
    return found


def grows(folder: Path) -> bool:
    """Whether a large file is being written somewhere in a folder."""
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if path.lstat().st_size > 2**20:
                return True
    return False


@ways
@pytest.mark.fault("O02")
def test_o02_ended_in_the_middle_of_a_move(machine: Supplied, number: signal.Signals) -> None:
    """There is a whole copy at every moment, and the next apply comes to the end of it."""
    machine.has_volume()
    machine.quick()
    machine.offers("acme/small")
    small = machine.hub.repos["acme/small"].folder
    command = [sys.executable, "-S", str(FAKE), "--dest", "{dest}", "--from", str(small)]
    machine.host |= {"converter": {"command": command}}
    cached(machine, "demo/alpha", LARGE)
    before = digests(machine.cached("demo/alpha"))
    machine.declare("alpha", alpha={"convert": "force"})

    ended(machine, number, lambda: grows(machine.volume), "a part of it is on the volume")
    assert digests(machine.cached("demo/alpha")) == before, "it was in the middle: all of it is still here"
    assert machine.routed() == {"alpha"}
    pid = machine.pid("alpha")
    machine.apply()
    assert machine.pid("alpha") == pid
    assert not machine.cached("demo/alpha").exists()
    there = digests(machine.moved("demo/alpha"))
    assert before.items() <= there.items()
    assert len(machine.on_volume()) == 2, "its identity and the repository, and nothing that was begun"
    assert "Nothing to do." in machine.apply()


@ways
@pytest.mark.fault("O18")
def test_o18_ended_in_the_middle_of_a_return(machine: Supplied, number: signal.Signals) -> None:
    """The copy in cold storage stays as it is, and no server is launched on a part of it."""
    machine.has_volume()
    machine.quick()
    cached(machine, "demo/alpha", LARGE)
    before = digests(machine.cached("demo/alpha"))
    machine.declare()
    assert machine.run("offload", "demo/alpha", "--yes").code == ExitCode.OK
    assert not machine.cached("demo/alpha").exists()
    copy = digests(machine.moved("demo/alpha"))
    machine.declare("alpha")

    ended(machine, number, lambda: grows(machine.home.hub), "a part of it is here")
    assert machine.running() == []
    assert digests(machine.moved("demo/alpha")) == copy
    machine.apply()
    assert machine.routed() == {"alpha"}
    assert digests(machine.cached("demo/alpha")) == before
    assert digests(machine.moved("demo/alpha")) == copy
    assert machine.launches("alpha") == 1
    assert "Nothing to do." in machine.apply()
