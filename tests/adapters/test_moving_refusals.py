"""What offload and restore refuse on real files, and that a refusal keeps everything."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.adapters.cold.receipts import receipt_name
from reconciler.adapters.durable.copying import Watch
from reconciler.adapters.durable.manifest import MARKER

from .real_move import (
    COMMIT,
    CONTENT,
    GRAVE,
    REPO,
    SHARDS,
    Failpoint,
    Place,
    add_commit,
    filled,
    in_child,
    is_back,
    is_cold,
    refusal,
    tree,
)

OTHER = "2" * 40


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return filled(tmp_path / "place")


def spoiled(change: Callable[[Place], object], place: Place) -> tuple[str, bool]:
    change(place)
    hub = tree(place.hub)
    error = refusal(place.offload)
    assert tree(place.hub) == hub
    assert os.listdir(place.volume) == [".reconciler-volume"]
    return error.cause, error.permanent


def _replace(path: Path, target: str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _moved_away(place: Place) -> None:
    place.source.rename(place.root / "away")
    place.source.symlink_to(place.root / "away")


def _without_blobs(place: Place) -> None:
    shutil.rmtree(place.source)
    (place.source / "blobs").mkdir(parents=True)


def _without_shard(place: Place) -> None:
    (place.source / "snapshots" / COMMIT / SHARDS[1]).unlink()
    place.blob(SHARDS[1]).unlink()


@pytest.mark.fault("O04", "O05")
@pytest.mark.parametrize(
    "change",
    [
        lambda place: os.link(place.blob(SHARDS[0]), place.root / "second-name"),
        lambda place: (place.source / "snapshots" / COMMIT / "root").symlink_to("/"),
        lambda place: (place.source / "snapshots" / COMMIT / "up").symlink_to("../../../other"),
        lambda place: _replace(place.blob(SHARDS[0]), "../../blobs/ab/abcd"),
        lambda place: (place.source / "a").symlink_to("blobs/../../x"),
        _moved_away,
    ],
    ids=["hard-link", "absolute-link", "link-out", "shared-blob", "detour", "the-folder-is-a-link"],
)
def test_a_folder_that_is_shared_with_something_outside_stays(place: Place, change: Callable[[Place], object]) -> None:
    assert spoiled(change, place) == ("source-shared", True)


@pytest.mark.fault("O11")
@pytest.mark.parametrize(
    "change",
    [
        lambda place: place.blob(SHARDS[1]).unlink(),
        _without_shard,
        lambda place: (place.source / "refs" / "main").write_text(OTHER),
        lambda place: (place.source / "refs" / "main").write_text(""),
        _without_blobs,
    ],
    ids=["no-blob", "no-shard", "ref-to-nothing", "empty-ref", "no-snapshot"],
)
def test_a_folder_that_is_not_complete_stays(place: Place, change: Callable[[Place], object]) -> None:
    assert spoiled(change, place) == ("source-incomplete", True)


@pytest.mark.fault("H05", "O11")
@pytest.mark.parametrize("name", [SHARDS[0], "config.json"], ids=["lfs", "git"])
def test_a_blob_that_is_not_what_its_name_promises_stays(place: Place, name: str) -> None:
    assert spoiled(lambda place: place.blob(name).write_bytes(b"!" * len(CONTENT[name])), place)[0] == "source-corrupt"


def test_something_that_is_no_file_stays(place: Place) -> None:
    assert spoiled(lambda place: os.mkfifo(place.source / "blobs" / "pipe"), place) == ("source-unusual", True)


def test_what_is_not_there_is_not_moved(place: Place) -> None:
    shutil.rmtree(place.source)
    assert refusal(place.offload).cause == "source-absent"
    assert refusal(place.restore).cause == "cold-copy-absent"


def test_a_folder_that_something_writes_to_meanwhile_stays(place: Place) -> None:
    def download(what: str, done: int) -> None:
        if what == "copying" and not (place.source / "snapshots" / OTHER).exists():
            add_commit(place.source, {"config.json": b"{}"}, OTHER)

    error = refusal(lambda: place.offload(Watch(download)))
    assert (error.cause, error.permanent) == ("source-changed", False)
    whole = tree(place.source)
    place.offload()
    is_cold(place, whole)


@pytest.mark.fault("O10")
def test_a_different_complete_copy_is_never_overwritten(place: Place) -> None:
    place.offload()
    before = tree(place.cold)
    add_commit(place.source, {"config.json": b"{}"}, OTHER)
    error = refusal(place.offload)
    assert (error.cause, error.permanent) == ("destination-differs", True)
    assert tree(place.cold) == before
    assert place.source.is_dir()


@pytest.mark.fault("O10")
def test_a_folder_of_somebody_else_is_never_overwritten(place: Place) -> None:
    place.cold.mkdir()
    (place.cold / "mine").write_text("mine")
    assert refusal(place.offload).cause == "destination-foreign"
    assert tree(place.cold) == {"mine": b"mine"}


@pytest.mark.fault("O09", "O12")
def test_the_copy_is_verified_through_a_second_connection(place: Place) -> None:
    whole = tree(place.source)

    def spoil(number: int) -> None:
        part = place.volume / f".{REPO}.part"
        if number == 2:
            next((part / "blobs").iterdir()).write_bytes(b"rotten")

    place.between = spoil
    error = refusal(place.offload)
    assert (error.cause, place.opened) == ("copy-differs", 2)
    assert tree(place.source) == whole
    assert os.listdir(place.volume) == [".reconciler-volume"]


@pytest.mark.fault("O06", "O07")
def test_nothing_is_written_to_what_replaces_the_volume_meanwhile(place: Place) -> None:
    whole = tree(place.source)

    def swap(what: str, done: int) -> None:
        if what == "copying" and not (place.root / "gone").exists():
            place.volume.rename(place.root / "gone")
            place.volume.mkdir()

    assert refusal(lambda: place.offload(Watch(swap))).cause == "volume-unmarked"
    assert os.listdir(place.volume) == []
    assert tree(place.source) == whole


@pytest.mark.fault("O08")
def test_another_disk_is_refused_also_in_the_middle(place: Place) -> None:
    steps = _killed_before_the_end(place)
    (place.volume / ".reconciler-volume").write_text("cd" * 16)
    before = tree(place.root)
    assert refusal(place.offload).cause == "volume-wrong"
    assert tree(place.root) == before
    assert steps > 40


def _killed_before_the_end(place: Place) -> int:
    """Hide the folder and remove half of it; the number of the step is returned."""
    trial = Place(place.root.parent / "trial", Failpoint(-1, 0))
    add_commit(trial.source, CONTENT)
    trial.offload()
    step = trial.point.count - 10
    place.point = Failpoint(step, 0)
    assert in_child(place.offload) == -signal.SIGKILL
    assert (place.hub / GRAVE).is_dir()
    place.point = Failpoint(0, 0)
    return step


@pytest.mark.fault("O09")
def test_neither_copy_is_touched_when_both_are_damaged(place: Place) -> None:
    _killed_before_the_end(place)
    next((place.cold / "blobs").iterdir()).write_bytes(b"rotten")
    before = tree(place.root)
    for ask in (place.offload, place.restore):
        error = refusal(ask)
        assert (error.cause, error.permanent) == ("both-copies-bad", True)
    assert tree(place.root) == before


@pytest.mark.fault("O09")
def test_a_hidden_folder_comes_back_when_its_copy_is_damaged(place: Place) -> None:
    whole = tree(place.source)
    place.offload()
    shutil.copytree(place.cold, place.hub / GRAVE, symlinks=True, ignore=shutil.ignore_patterns(MARKER))
    next((place.cold / "blobs").iterdir()).write_bytes(b"rotten")
    assert refusal(place.offload).cause == "cold-copy-bad"
    assert os.listdir(place.hub) == [REPO]
    assert tree(place.source) == whole
    place.offload()
    is_cold(place, whole)


@pytest.mark.fault("O18")
def test_a_damaged_copy_is_not_restored(place: Place) -> None:
    place.offload()
    next((place.cold / "blobs").iterdir()).write_bytes(b"rotten")
    before = tree(place.root)
    assert refusal(place.restore).cause == "cold-copy-bad"
    assert tree(place.root) == before
    (place.cold / MARKER).write_bytes(b"{")
    assert refusal(place.restore).cause == "cold-copy-bad"


@pytest.mark.fault("O18")
def test_a_manifest_that_leads_out_of_its_folder_is_not_followed(place: Place) -> None:
    place.offload()
    text = (place.cold / MARKER).read_bytes()
    for old, new in ((b"refs/main", b"refs/../../../x"), (b'"../../blobs/', b'"../../../blobs/'), (b"blobs", b"/tmp")):
        (place.cold / MARKER).write_bytes(text.replace(old, new))
        assert refusal(place.restore).cause == "cold-copy-bad"
    assert os.listdir(place.hub) == [receipt_name(REPO)]


@pytest.mark.fault("O18")
def test_a_part_of_the_repository_in_the_cache_makes_room_and_other_files_do_not(place: Place) -> None:
    whole = tree(place.source)
    place.offload()
    add_commit(place.source, {"config.json": CONTENT["config.json"]})
    place.restore()
    is_back(place, whole)
    place.offload()
    add_commit(place.source, {"config.json": b"{}"}, OTHER)
    before = tree(place.root)
    assert refusal(place.restore).cause == "destination-differs"
    assert tree(place.root) == before
