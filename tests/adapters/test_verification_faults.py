"""A verification that cannot be finished says so, and says nothing about the content."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from reconciler.adapters.cache.digests import DATABASE, Digests
from reconciler.adapters.cache.promises import Promise, stamp_of
from reconciler.adapters.cache.verification import verify
from reconciler.ports.errors import ActionError
from tests.adapters.verifying import promise_of, run


def test_a_file_that_cannot_be_read_is_no_corrupt_one(tmp_path: Path) -> None:
    good, gone = tmp_path / "good", tmp_path / "gone"
    good.write_bytes(b"good")
    gone.write_bytes(b"gone")
    promises = [promise_of(good), promise_of(gone)]
    gone.unlink()
    digests = Digests(tmp_path / "state")
    with pytest.raises(ActionError, match="cannot be read: No such file") as caught:
        run(promises, digests)
    assert (caught.value.cause, caught.value.permanent) == ("unreadable", False)
    assert set(digests.known([str(good), str(gone)])) == {str(good)}


@pytest.mark.fault("H22")
@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_h22_what_is_no_plain_file_any_more_is_not_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    promise = promise_of(path)
    path.unlink()
    if kind == "link":
        path.symlink_to("/etc/passwd")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(ActionError) as caught:
        run([promise], Digests(tmp_path / "state"))
    assert caught.value.cause == "unreadable"


def test_a_file_that_changes_while_it_is_read_is_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "growing"
    path.write_bytes(bytes(12 * 2**20))
    digests = Digests(tmp_path / "state")

    def grow(_done: int, _total: int) -> None:
        with path.open("ab") as file:
            file.write(b"x")

    with pytest.raises(ActionError, match="changed while it was read") as caught:
        asyncio.run(verify([promise_of(path)], digests, grow))
    assert caught.value.cause == "changed"
    assert digests.known([str(path)]) == {}


def test_a_cancelled_verification_keeps_what_was_read(tmp_path: Path) -> None:
    """The longest file is read first; when the rest begins, somebody cancels."""
    files = []
    for number, size in enumerate((12 * 2**20, 8 * 2**20, 2**20, 2**20)):
        path = tmp_path / f"{number}"
        path.write_bytes(bytes(size))
        files.append(promise_of(path))
    digests = Digests(tmp_path / "state")
    enough = threading.Event()

    def report(done: int, _total: int) -> None:
        if done > 20 * 2**20:
            enough.set()

    with pytest.raises(ActionError) as caught:
        asyncio.run(verify(files, digests, report, enough.is_set))
    assert caught.value.cause == "cancelled"
    remembered = set(digests.known([file.path for file in files]))
    assert remembered < {file.path for file in files}
    told: list[tuple[int, int]] = []
    assert run(files, digests, told) == ()
    assert told[-1][1] == sum(file.size for file in files if file.path not in remembered) < 22 * 2**20


def test_a_task_that_is_cancelled_ends_its_threads(tmp_path: Path) -> None:
    path = tmp_path / "long"
    with path.open("wb") as file:
        file.truncate(8 * 2**30)
    promise = Promise("long", str(path), stamp_of(path.stat()), "0" * 64)
    digests = Digests(tmp_path / "state")

    async def cancel() -> None:
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        def report(_done: int, _total: int) -> None:
            loop.call_soon_threadsafe(begun.set)

        task = asyncio.create_task(verify([promise], digests, report))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    for thread in threading.enumerate():
        if thread.name.startswith("verify"):
            thread.join(30)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("verify")]
    assert digests.known([str(path)]) == {}


def test_a_memory_that_takes_nothing_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    (tmp_path / "state" / DATABASE / "folder").mkdir(parents=True)
    with pytest.raises(ActionError) as caught:
        run([promise_of(path)], Digests(tmp_path / "state"))
    assert caught.value.cause == "not-remembered"
