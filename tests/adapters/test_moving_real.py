"""Offload and restore on real files: killed or failing at every step, and what they refuse."""

import errno
import os
import shutil
import signal
from pathlib import Path

import pytest

from reconciler.adapters.cold.receipts import Receipt, parse_receipt
from reconciler.adapters.durable.copying import Watch
from reconciler.adapters.durable.manifest import MARKER, parse

from .real_move import (
    AT,
    COMMIT,
    CONTENT,
    ID,
    REFUSED,
    Failpoint,
    Place,
    add_commit,
    complete,
    filled,
    in_child,
    is_back,
    is_cold,
    persistently,
    refusal,
    stamps,
    tree,
)

OTHER = "2" * 40


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return filled(tmp_path / "place")


# ------------------------------------------------------------------------------------------------- every step


@pytest.mark.heavy
@pytest.mark.fault("O01", "O02", "O18")
@pytest.mark.parametrize("act", [0, errno.EIO, errno.ENOSPC], ids=["kill", "EIO", "ENOSPC"])
@pytest.mark.parametrize("direction", ["offload", "restore"])
def test_another_process_finishes_what_was_cut_off_at_any_step(tmp_path: Path, direction: str, act: int) -> None:
    template = filled(tmp_path / "template")
    whole = tree(template.source)
    if direction == "restore":
        template.offload()
    check = is_cold if direction == "offload" else is_back
    step, ended = 0, False
    while not ended:
        step += 1
        place = Place(tmp_path / str(step), Failpoint(step, act))
        shutil.rmtree(place.root)
        shutil.copytree(template.root, place.root, symlinks=True)
        status = in_child(getattr(place, direction))
        ended = status == 0
        assert ended or status == (REFUSED if act else -signal.SIGKILL)
        assert complete(place, whole)
        assert place.source.exists() or place.receipt.exists()
        place.point = Failpoint(-1, 0)
        assert in_child(persistently(getattr(place, direction))) == 0
        check(place, whole)
        shutil.rmtree(place.root)
    assert step > 40


def test_a_move_and_its_repetition(place: Place) -> None:
    whole = tree(place.source)
    receipt = place.offload()
    is_cold(place, whole)
    manifest = parse((place.cold / MARKER).read_bytes())
    assert receipt == Receipt(
        volume="shelf",
        identity=ID,
        manifest=manifest.digest,
        bytes=sum(map(len, CONTENT.values())) + len(COMMIT),
        refs={"main": COMMIT},
        commits=(COMMIT,),
        at=AT,
    )
    assert parse_receipt(place.receipt.read_bytes()) == receipt
    before = stamps(place.root)
    assert place.offload() == receipt
    assert stamps(place.root) == before
    place.restore()
    is_back(place, whole)
    before = stamps(place.root)
    place.restore()
    assert stamps(place.root) == before


def test_how_far_it_is_is_told(place: Place) -> None:
    told: list[tuple[str, int]] = []
    receipt = place.offload(Watch(lambda what, done: told.append((what, done))))
    assert list(dict.fromkeys(what for what, _ in told)) == ["reading", "copying", "checking"]
    assert {what: done for what, done in told} == dict.fromkeys(("reading", "copying", "checking"), receipt.bytes)


@pytest.mark.parametrize("bytes_before", [0, 300, 600, 1_300])
def test_a_cancelled_move_keeps_the_source_and_no_part(place: Place, bytes_before: int) -> None:
    whole, seen = tree(place.source), 0

    def count(what: str, done: int) -> None:
        nonlocal seen
        seen += 1

    watch = Watch(count, lambda: seen * 100 >= bytes_before)
    assert refusal(lambda: place.offload(watch)).cause == "cancelled"
    assert tree(place.source) == whole
    assert os.listdir(place.volume) == [".reconciler-volume"]


def test_what_is_on_the_volume_already_is_not_copied_again(place: Place) -> None:
    whole = tree(place.source)
    place.offload()
    place.restore()
    notes = place.source / ".no_exist" / COMMIT
    notes.mkdir(parents=True)
    (notes / "added_tokens.json").touch()
    kept, told = stamps(place.cold), set[str]()
    place.offload(Watch(lambda what, done: told.add(what)))
    assert told == {"reading", "checking"}
    assert stamps(place.cold) == kept
    is_cold(place, whole)


def test_a_copy_that_somebody_has_looked_at_with_the_finder_is_still_one(place: Place) -> None:
    whole = tree(place.source)
    place.offload()
    (place.cold / "snapshots" / ".DS_Store").write_bytes(b"Bud1")
    (place.cold / "._blobs").write_bytes(b"x")
    place.restore()
    assert tree(place.source) == whole
    told = set[str]()
    place.offload(Watch(lambda what, done: told.add(what)))
    assert told == {"reading", "checking"}
    assert not place.source.exists()


def test_a_copy_is_replaced_by_one_that_has_all_of_it(place: Place) -> None:
    place.offload()
    place.restore()
    add_commit(place.source, {"config.json": b'{"model_type": "newer"}'}, OTHER)
    whole = tree(place.source)
    receipt = place.offload()
    is_cold(place, whole)
    assert (receipt.refs, receipt.commits) == ({"main": OTHER}, (COMMIT, OTHER))
