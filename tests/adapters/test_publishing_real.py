"""Publication of a conversion on real files: whole or not at all, whatever ends the process."""

import errno
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.adapters.conversion.publishing import RECEIPT, prepare, publish, published, staging_folder
from reconciler.adapters.durable.copying import Watch
from reconciler.adapters.durable.files import LocalFiles

from .real_move import REFUSED, FailingFiles, Failpoint, in_child, persistently, refusal, stamps, tree

PARENT = "converted--acme--Tiny-1B"
KEY = "0123456789abcdef"
PLACE = f"{PARENT}/{KEY}"
OUTPUT = {"config.json": b'{"quantization": {"bits": 4}}', "model.safetensors": b"weights" * 50, "extra/a.json": b"{}"}
FACTS = {"recipe": {"arguments": ["bits=4"]}, "converter": "mlx-lm 0.32.2"}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LocalFiles]:
    with LocalFiles(str(tmp_path)) as held:
        yield held


def convert(root: Path) -> None:
    """What a converter does: it refuses a folder that exists, and syncs nothing."""
    staging = root / staging_folder(PLACE)
    for name, content in OUTPUT.items():
        (staging / name).parent.mkdir(exist_ok=name != next(iter(OUTPUT)))
        (staging / name).write_bytes(content)


def whole(root: Path, point: Failpoint) -> None:
    """The whole conversion."""
    with FailingFiles(str(root), point) as hub:
        if prepare(hub, PLACE) is None:
            convert(root)
            publish(hub, PLACE, FACTS)


@pytest.mark.fault("C01", "C02", "C03", "C08")
@pytest.mark.parametrize("act", [0, errno.EIO, errno.ENOSPC], ids=["kill", "EIO", "ENOSPC"])
def test_another_process_publishes_what_was_cut_off_at_any_step(tmp_path: Path, act: int) -> None:
    step, ended = 0, False
    while not ended:
        step += 1
        root, point = tmp_path / str(step), Failpoint(step, act)
        root.mkdir()
        status = in_child(lambda root=root, point=point: whole(root, point))  # type: ignore[misc]
        ended = status == 0
        assert ended or status == (REFUSED if act else -signal.SIGKILL)
        with LocalFiles(str(root)) as hub:
            assert (published(hub, PLACE) is not None) == (root / PLACE).exists()
        again = persistently(lambda root=root: whole(root, Failpoint(-1, 0)))  # type: ignore[misc]
        assert in_child(again) == 0
        assert {name: (root / PLACE / name).read_bytes() for name in OUTPUT} == OUTPUT
        assert os.listdir(root / PARENT) == [KEY]
        shutil.rmtree(root)
    assert step > 15


@pytest.mark.fault("C01")
def test_a_receipt_says_what_was_published(tmp_path: Path, hub: LocalFiles) -> None:
    assert prepare(hub, PLACE) is None
    convert(tmp_path)
    receipt = publish(hub, PLACE, FACTS)
    assert json.loads((tmp_path / PLACE / RECEIPT).read_bytes()) == receipt == published(hub, PLACE)
    assert {name: entry["size"] for name, entry in receipt["files"].items()} == {
        name: len(content) for name, content in OUTPUT.items()
    }
    assert {name: receipt[name] for name in FACTS} == FACTS
    before = stamps(tmp_path)
    assert prepare(hub, PLACE) == receipt
    assert stamps(tmp_path) == before


def _append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"!")


@pytest.mark.fault("C02")
@pytest.mark.parametrize(
    ("spoil", "quickly"),
    [
        (lambda folder: (folder / "model.safetensors").write_bytes(b"WEIGHTS" * 50), True),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"weights"), False),
        (lambda folder: (folder / "config.json").unlink(), False),
        (lambda folder: (folder / "more").write_text("more"), False),
        (lambda folder: (folder / "more").symlink_to("config.json"), False),
        (lambda folder: (folder / RECEIPT).write_text("{"), False),
        (lambda folder: (folder / RECEIPT).write_text('{"version": 2, "files": {}}'), False),
        (lambda folder: (folder / RECEIPT).unlink(), False),
    ],
    ids=["flipped", "short", "missing", "more", "link", "torn-receipt", "newer-receipt", "no-receipt"],
)
def test_a_folder_that_is_not_as_its_receipt_says_is_not_published(
    tmp_path: Path, hub: LocalFiles, spoil: Callable[[Path], object], quickly: bool
) -> None:
    whole(tmp_path, Failpoint(0, 0))
    spoil(tmp_path / PLACE)
    assert published(hub, PLACE) is None
    assert (published(hub, PLACE, thorough=False) is not None) is quickly


@pytest.mark.fault("C02")
def test_a_damaged_conversion_is_replaced_and_a_folder_of_somebody_else_is_not(tmp_path: Path, hub: LocalFiles) -> None:
    whole(tmp_path, Failpoint(0, 0))
    (tmp_path / PLACE / "config.json").write_bytes(b"x")
    whole(tmp_path, Failpoint(0, 0))
    assert published(hub, PLACE) is not None
    assert os.listdir(tmp_path / PARENT) == [KEY]
    (tmp_path / PLACE / RECEIPT).unlink()
    before = tree(tmp_path)
    assert refusal(lambda: prepare(hub, PLACE)).cause == "destination-foreign"
    assert tree(tmp_path) == before
    convert(tmp_path)
    assert refusal(lambda: publish(hub, PLACE, FACTS)).cause == "destination-foreign"
    assert {path: content for path, content in tree(tmp_path).items() if "converting" not in path} == before


@pytest.mark.fault("C01")
def test_only_the_leftover_of_this_conversion_is_removed(tmp_path: Path, hub: LocalFiles) -> None:
    others = [f"{PARENT}/.fedcba9876543210.converting/x", f"{PARENT}/notes.txt", f"models--a/.{KEY}.converting/x"]
    for name in (*others, f"{staging_folder(PLACE)}/half"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert prepare(hub, PLACE) is None
    assert sorted(path for path, content in tree(tmp_path).items() if content == b"x") == sorted(others)


@pytest.mark.parametrize("name", ["models--a--b/0123456789abcdef", f"{PARENT}/x", f"{PARENT}/../{KEY}", PARENT])
def test_another_name_is_no_place_of_a_conversion(hub: LocalFiles, name: str) -> None:
    with pytest.raises(ValueError, match="no place of a conversion"):
        prepare(hub, name)


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (lambda staging: None, "conversion-empty"),
        (lambda staging: staging.mkdir(), "conversion-empty"),
        (lambda staging: (staging.mkdir(), (staging / "a").symlink_to("/etc/hostname")), "conversion-unusual"),
    ],
    ids=["nothing", "empty", "link"],
)
def test_what_is_no_conversion_is_not_published(
    tmp_path: Path, hub: LocalFiles, spoil: Callable[[Path], object], cause: str
) -> None:
    prepare(hub, PLACE)
    spoil(tmp_path / staging_folder(PLACE))
    assert refusal(lambda: publish(hub, PLACE, FACTS)).cause == cause
    assert not (tmp_path / PLACE).exists()


def test_a_publication_can_be_cancelled_and_asked_for_again(tmp_path: Path, hub: LocalFiles) -> None:
    prepare(hub, PLACE)
    convert(tmp_path)
    assert refusal(lambda: publish(hub, PLACE, FACTS, Watch(cancelled=lambda: True))).cause == "cancelled"
    assert not (tmp_path / PLACE).exists()
    publish(hub, PLACE, FACTS)
    assert published(hub, PLACE) is not None
