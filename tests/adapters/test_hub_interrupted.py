"""Downloads that are killed, cancelled or stand still, and what the next one makes of what they left."""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from reconciler.adapters.hub.cache import MARK
from reconciler.model.supply import FetchOrder
from reconciler.ports.errors import ActionError
from tests.programs.fake_hub import Hub, Repo, Trouble, serving

from .hub_parts import REPO, TOKEN, WEIGHTS, Place, children, loaded, until, written

pytestmark = pytest.mark.heavy

AFTER = 70_000
"""Bytes of the weights that arrive before the interruption."""
ORDERS = """
import asyncio, sys
from tests.adapters.hub_parts import Place
from pathlib import Path
place = Place(None, Path(sys.argv[1]), {"HF_ENDPOINT": sys.argv[2]})
asyncio.run(place.bring(place.order()))
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub that has one repository."""
    with serving({REPO: Repo(written(tmp_path / "model"))}, TOKEN) as made:
        yield made


@pytest.fixture
def place(hub: Hub, tmp_path: Path) -> Place:
    """An empty cache."""
    return Place(hub, tmp_path)


def begun(place: Place, size: int = AFTER) -> bool:
    """Whether so much of the weights is on disk, and under a name of ours."""
    return [path.stat().st_size for path in place.begun()] == [size]


def interrupted(place: Place, hub: Hub, order: FetchOrder, how: str, upto: int = AFTER) -> Any:
    """Begin or go on with a download, end it when `upto` bytes of weights are there, and return what became of it."""
    fault = hub.fail(Trouble.GATE, after=AFTER)

    async def ended() -> Any:
        task = asyncio.create_task(place.bring(order))
        await until(lambda: begun(place, upto), "it is in the middle")
        (child,) = children()
        if how == "kill":
            child.send_signal(signal.SIGKILL)
        else:
            task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        assert not psutil.pid_exists(child.pid), "it is gone, and no zombie, when the request returns"
        return outcome

    outcome = asyncio.run(ended())
    hub.faults.remove(fault)
    fault.gate.set()
    return outcome


def whole(place: Place, hub: Hub, order: FetchOrder) -> bool:
    """Whether the cache has all of the commit, and nothing that was only begun."""
    there = place.content(order.commit) == loaded(hub.repos[REPO].folder)
    return there and place.ref() == order.commit and not place.begun()


# -------------------------------------------------------------------------------------------------------- resumed


@pytest.mark.fault("H01")
def test_a_download_that_is_killed_again_and_again_goes_on_where_it_was(place: Place, hub: Hub) -> None:
    order = place.order()
    for times in (1, 2, 3):
        outcome = interrupted(place, hub, order, "kill", times * AFTER)
        assert isinstance(outcome, ActionError)
        assert (outcome.cause, outcome.permanent) == ("program-failed", False)
        assert place.ref() == order.commit
        assert WEIGHTS not in place.content(order.commit)
    asked = len(hub.asked)
    place.reported.clear()
    place.fetch(order)
    assert whole(place, hub, order)
    assert {request.path.rpartition("/")[2] for request in hub.asked[asked:]} == {WEIGHTS}, "the rest was whole"
    assert [request.status for request in hub.gets(WEIGHTS)] == [200, 206, 206, 206]
    size = len(loaded(hub.repos[REPO].folder)[WEIGHTS])
    assert (place.reported[0], place.reported[-1]) == ((3 * AFTER, size), (size, size))


def test_a_cancelled_download_leaves_no_program_and_keeps_what_has_arrived(place: Place, hub: Hub) -> None:
    order = place.order()
    assert isinstance(interrupted(place, hub, order, "cancel"), asyncio.CancelledError)
    assert children() == []
    assert begun(place)
    place.fetch(order)
    assert whole(place, hub, order)


@pytest.mark.fault("H19")
def test_what_was_begun_and_has_changed_since_is_brought_again(place: Place, hub: Hub) -> None:
    order = place.order()
    interrupted(place, hub, order, "kill")
    (partial,) = place.begun()
    partial.write_bytes(bytes(AFTER))
    place.fetch(order)
    assert whole(place, hub, order)


def test_a_part_that_is_longer_than_the_file_is_brought_again(place: Place, hub: Hub) -> None:
    order = place.order()
    interrupted(place, hub, order, "kill")
    os.truncate(place.begun()[0], 2**20)
    place.fetch(order)
    assert whole(place, hub, order)


def test_a_download_that_stands_still_is_ended(place: Place, hub: Hub, tmp_path: Path) -> None:
    impatient = Place(hub, tmp_path, patience=1.0)
    order = impatient.order()
    fault = hub.fail(Trouble.GATE, after=AFTER)
    with pytest.raises(ActionError) as error:
        impatient.fetch(order)
    fault.gate.set()
    assert (error.value.cause, error.value.permanent) == ("download-stalled", False)
    assert children() == []
    assert WEIGHTS not in place.content(order.commit)
    place.fetch(order)
    assert whole(place, hub, order)


def test_no_program_outlives_a_reconciler_that_is_killed(place: Place, hub: Hub, tmp_path: Path) -> None:
    fault = hub.fail(Trouble.GATE, after=AFTER)
    argv = [sys.executable, "-c", ORDERS, str(tmp_path), hub.endpoint]
    with subprocess.Popen(argv, cwd=Path(__file__).parents[2], env=place.environ) as reconciler:
        asyncio.run(until(lambda: begun(place), "it is in the middle"))
        (program,) = psutil.Process(reconciler.pid).children()
        reconciler.kill()
    asyncio.run(until(lambda: not running(program), "its program has ended"))
    fault.gate.set()
    order = place.fetch()
    assert whole(place, hub, order)


def running(process: psutil.Process) -> bool:
    """Whether it still does anything; whose parent has gone is reaped by another."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# -------------------------------------------------------------------------------------------------------- repaired


def test_a_damaged_file_is_brought_afresh_beside_what_serves_it(place: Place, hub: Hub) -> None:
    order = place.fetch()
    blob = (place.snapshot(order.commit) / WEIGHTS).resolve()
    good = blob.read_bytes()
    with blob.open("r+b") as file:
        file.seek(5_000)
        file.write(b"rotten")
    with blob.open("rb") as served:
        asked = len(hub.asked)
        place.fetch(order)
        assert len(hub.asked) == asked, "its length is right, and nobody has said that it is bad"
        place.fetch(place.order(afresh=(WEIGHTS,)))
        assert served.read() != good, "whoever has the old file keeps it"
    assert blob.read_bytes() == good
    assert whole(place, hub, order)
    assert {one.path.rpartition("/")[2] for one in hub.asked[asked:] if "resolve" in one.path} == {
        WEIGHTS,
        "config.json",  # by the check
    }


@pytest.mark.fault("H04")
def test_a_file_that_is_too_short_is_brought_again(place: Place, hub: Hub) -> None:
    order = place.fetch()
    os.truncate((place.snapshot(order.commit) / WEIGHTS).resolve(), 1_000)
    place.fetch(order)
    assert whole(place, hub, order)


@pytest.mark.fault("H02")
def test_a_link_to_nothing_is_mended(place: Place, hub: Hub) -> None:
    order = place.fetch()
    (place.snapshot(order.commit) / WEIGHTS).resolve().unlink()
    place.fetch(order)
    assert whole(place, hub, order)


# ------------------------------------------------------------------------------------------------- what is left over


@pytest.mark.fault("H01")
def test_what_was_begun_of_a_commit_that_nobody_wants_any_more_is_removed(
    place: Place, hub: Hub, tmp_path: Path
) -> None:
    interrupted(place, hub, place.order(), "kill")
    hub.push(REPO, written(tmp_path / "newer", seed=2))
    order = place.fetch()
    assert whole(place, hub, order)


@pytest.mark.fault("H11")
def test_what_others_have_begun_is_never_touched(place: Place, hub: Hub) -> None:
    order = place.order()
    digest = next(file.digest for file in order.files if file.name == WEIGHTS)
    blobs = place.folder / "blobs"
    blobs.mkdir(parents=True)
    theirs = [blobs / f"{digest}.1a2b3c4d.incomplete", blobs / f"{'0' * 64}.incomplete", blobs / ("f" * 64)]
    for path in theirs:
        path.write_bytes(b"theirs")
    place.fetch(order)
    assert [path.read_bytes() for path in theirs] == [b"theirs"] * 3


@pytest.mark.fault("H11")
def test_what_another_reconciler_is_writing_stays(place: Place) -> None:
    order = place.order()
    locks = place.cache / ".locks" / place.folder.name
    locks.mkdir(parents=True)
    (place.folder / "blobs").mkdir(parents=True)
    partial = place.folder / "blobs" / f"{'0' * 64}{MARK}"
    partial.write_bytes(b"its own")
    with (locks / f"{'0' * 64}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        place.fetch(order)
        assert partial.read_bytes() == b"its own"
    place.fetch(order)
    assert not partial.exists()


@pytest.mark.fault("H11")
def test_a_file_that_somebody_else_is_bringing_is_waited_for_and_not_brought_twice(place: Place, hub: Hub) -> None:
    """The lock is the library's: `hf download` of the same file holds it."""
    order = place.order()
    digest = next(file.digest for file in order.files if file.name == WEIGHTS)
    locks = place.cache / ".locks" / place.folder.name
    locks.mkdir(parents=True)

    async def waited() -> None:
        with (locks / f"{digest}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            task = asyncio.create_task(place.bring(order))
            await until(lambda: [one for one in hub.asked if one.method == "HEAD" and WEIGHTS in one.path], "it asks")
            (place.folder / "blobs" / digest).write_bytes(loaded(hub.repos[REPO].folder)[WEIGHTS])
        await task

    asyncio.run(waited())
    assert whole(place, hub, order)
    assert hub.gets(WEIGHTS) == []
