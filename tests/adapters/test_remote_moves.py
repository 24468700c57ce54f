"""Offload and restore over a real ssh connection, which is cut off anywhere."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from reconciler.adapters.durable.copying import Watch
from reconciler.ports.errors import ActionError

from .real_move import CONTENT, REPO, Failpoint, add_commit, is_back, is_cold, refusal, tree
from .remote_place import RemotePlace, fresh, kept
from .ssh_host import Cut, Process, SshHost, ssh_host

SMALL: Final = {"config.json": b'{"model_type": "tiny"}'}
UNSYNCED: Final = Failpoint(-1, 0)
"""Never reached, and nothing is synced on this side: that makes the loops faster."""
FAR: Final = [".reconciler-volume"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHost]:
    with ssh_host(tmp_path_factory.mktemp("host") / "mini") as made:
        yield made


@pytest.fixture
def host(shared: SshHost) -> SshHost:
    return fresh(shared)


@pytest.fixture
def place(tmp_path: Path, host: SshHost) -> RemotePlace:
    made = RemotePlace(tmp_path / "place", host=host)
    add_commit(made.source, CONTENT)
    return made


def failed(ask: Callable[[], object]) -> ActionError | None:
    """Why it was refused; None: it was not."""
    try:
        ask()
    except ActionError as error:
        return error
    return None


@pytest.mark.fault("O12")
def test_a_move_and_its_repetition_over_ssh(place: RemotePlace) -> None:
    whole = tree(place.source)
    receipt = place.offload()
    is_cold(place, whole)
    assert place.offload() == receipt
    place.restore()
    is_back(place, whole)
    told = set[str]()
    place.offload(Watch(lambda what, done: told.add(what)))
    assert told == {"reading", "checking"}
    is_cold(place, whole)


@pytest.mark.fault("O12")
def test_the_source_is_removed_only_after_a_second_connection_has_verified_the_copy(place: RemotePlace) -> None:
    whole, there = tree(place.source), list[bool]()

    async def serve(process: Process) -> None:
        there.append(tree(place.source) == whole)
        if len(there) == 2:
            next((place.volume / f".{REPO}.part" / "blobs").iterdir()).write_bytes(b"rotten")
        await place.host.run(process)

    place.host.serve = serve
    assert refusal(place.offload).cause == "copy-differs"
    assert (there, place.host.connections) == ([True, True], 2)
    assert tree(place.source) == whole
    assert os.listdir(place.volume) == FAR


@pytest.mark.heavy
@pytest.mark.fault("O12", "O15")
@pytest.mark.parametrize(("of", "first", "step"), [("answers", 1, 2), ("answers", 2, 2), ("requests", 1, 7)])
def test_a_move_survives_the_loss_of_the_connection_at_any_point(
    tmp_path: Path, host: SshHost, of: str, first: int, step: int
) -> None:
    at, cuts, survived = first, 0, False
    while not survived:
        shutil.rmtree(tmp_path / "place", ignore_errors=True)
        shutil.rmtree(host.volume / REPO, ignore_errors=True)
        place = RemotePlace(tmp_path / "place", UNSYNCED, host=host)
        add_commit(place.source, SMALL)
        whole = tree(place.source)
        host.cut = Cut(at, of)
        error = failed(place.offload)
        survived, at = host.cut.at > 0, at + step  # the cut was never reached
        if error is not None:
            cuts += 1
            assert (error.cause, error.permanent) == ("volume-connection-lost", False)
            assert tree(place.source) == whole
            assert os.listdir(place.hub) == [REPO]
            place.offload()
        is_cold(place, whole)
    assert cuts * step > 50


@pytest.mark.fault("O12", "O18")
@pytest.mark.parametrize(("of", "step"), [("answers", 1), ("requests", 3)])
def test_a_restore_survives_the_loss_of_the_connection_at_any_point(
    tmp_path: Path, host: SshHost, of: str, step: int
) -> None:
    place = RemotePlace(tmp_path / "place", UNSYNCED, host=host)
    add_commit(place.source, SMALL)
    whole = tree(place.source)
    place.offload()
    far, at, survived = tree(place.volume), 0, False
    while not survived:
        at += step
        host.cut = Cut(at, of)
        error = failed(place.restore)
        assert tree(place.volume) == far
        survived = host.cut.at > 0  # the cut was never reached
        if error is not None:
            assert (error.cause, error.permanent) == ("volume-connection-lost", False)
            place.restore()
        is_back(place, whole)
        shutil.rmtree(place.source)
    assert at > 8


@pytest.mark.fault("O12")
def test_a_move_can_be_cancelled_in_the_middle(place: RemotePlace) -> None:
    for stage in ("copying", "checking"):
        seen = list[str]()
        watch = Watch(lambda what, done, seen=seen: seen.append(what), lambda seen=seen, stage=stage: stage in seen)  # type: ignore[misc]
        assert kept(place, lambda watch=watch: place.offload(watch)).cause == "cancelled"  # type: ignore[misc]
