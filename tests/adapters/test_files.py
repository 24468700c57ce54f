"""A folder that is held: what its requests reach, and which disk counts as the volume."""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.adapters.cold.volume import IDENTITY, initialise, mounted
from reconciler.adapters.durable.files import Entry, Files, Kind, LocalFiles
from reconciler.ports.errors import ActionError

ID = "ab" * 16


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def files(root: Path) -> Iterator[LocalFiles]:
    with LocalFiles(str(root)) as held:
        yield held


REQUESTS: dict[str, Callable[[Files, str], object]] = {
    "look": lambda files, path: files.look(path),
    "names": lambda files, path: files.names(path),
    "read": lambda files, path: files.read(path),
    "digest": lambda files, path: files.digest(path),
    "make_folder": lambda files, path: files.make_folder(path),
    "link": lambda files, path: files.link(path, "x"),
    "write": lambda files, path: files.write(path, [b"x"]),
    "sync": lambda files, path: files.sync(path),
    "rename": lambda files, path: files.rename("own", path),
    "remove": lambda files, path: files.remove(path),
    "remove_folder": lambda files, path: files.remove_folder(path),
}


@pytest.mark.fault("O05")
@pytest.mark.parametrize("request_name", REQUESTS)
@pytest.mark.parametrize("path", ["out/secret", "../outside/secret", "/etc/hostname", "a/../../outside/secret", "a//b"])
def test_no_request_leaves_the_folder(root: Path, files: LocalFiles, path: str, request_name: str) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (root / "out").symlink_to(outside)
    (root / "own").write_text("own")
    with pytest.raises(OSError, match=r"path|link|directory"):
        REQUESTS[request_name](files, path)
    assert {entry.name: entry.read_text() for entry in outside.iterdir()} == {"secret": "secret"}
    assert (root / "own").read_text() == "own"


@pytest.mark.fault("O05")
@pytest.mark.parametrize("request_name", ["names", "read", "digest", "write", "sync"])
def test_the_last_name_is_not_followed_either(root: Path, files: LocalFiles, request_name: str) -> None:
    target = root.parent / "target"
    target.write_text("secret")
    (root / "link").symlink_to(target)
    with pytest.raises(OSError, match=r"link|exists|directory"):
        REQUESTS[request_name](files, "link")
    assert target.read_text() == "secret"
    assert files.look("link") == Entry(kind=Kind.LINK)


def test_what_is_there(root: Path, files: LocalFiles) -> None:
    files.write("file", [b"a" * 10, b"b"])
    os.link(root / "file", root / "again")
    os.mkfifo(root / "pipe")
    files.make_folder("folder")
    assert files.look("file") == Entry(kind=Kind.FILE, size=11, names=2)
    assert files.look("pipe") == Entry(kind=Kind.OTHER)
    assert files.look("folder") == Entry(kind=Kind.FOLDER)
    assert files.look("folder/none") is None
    assert files.names("") == ("again", "file", "folder", "pipe")
    with pytest.raises(OSError, match="no plain file"):
        files.read("pipe")
    with pytest.raises(NotADirectoryError):
        files.look("file/none")


def test_a_digest_is_read_in_pieces_that_can_be_watched(files: LocalFiles) -> None:
    content = os.urandom(9 * 2**20)
    files.write("file", [content])
    lengths: list[int] = []
    assert files.digest("file", lengths.append) == hashlib.sha256(content).hexdigest()
    assert (sum(lengths), len(lengths)) == (len(content), 3)


@pytest.mark.fault("O06", "O07")
def test_a_folder_that_was_removed_is_an_error_and_not_empty(root: Path, files: LocalFiles) -> None:
    shutil.rmtree(root)
    with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
        files.look("anything")


def test_a_closed_folder_is_an_error(root: Path) -> None:
    with LocalFiles(str(root)) as closed:
        closed.write("file", [b"x"])
    for ask in (lambda: closed.look("file"), lambda: closed.names(""), lambda: closed.read("file")):
        with pytest.raises(OSError, match="descriptor"):
            ask()


# ----------------------------------------------------------------------------------------------------- volume


def refusal(path: Path, cache: LocalFiles, *, separate: bool) -> tuple[str, bool]:
    with pytest.raises(ActionError) as raised, mounted(str(path), ID, cache=cache, separate=separate):
        raise AssertionError("it was let through")
    return raised.value.cause, raised.value.permanent


@pytest.mark.fault("O06")
def test_a_volume_that_is_not_mounted(root: Path, files: LocalFiles) -> None:
    place = root.parent / "mnt"
    assert refusal(place, files, separate=True) == ("volume-unmounted", False)
    place.mkdir()  # an empty mount point is a folder of the system disk
    assert refusal(place, files, separate=True) == ("volume-unmounted", False)
    (place / IDENTITY).write_text(ID)  # even one that somebody has copied the volume to
    assert refusal(place, files, separate=True) == ("volume-unmounted", False)
    assert os.listdir(place) == [IDENTITY]
    with mounted(str(place), ID, cache=files, separate=False) as volume:
        assert volume.names("") == (IDENTITY,)


@pytest.mark.fault("O08")
@pytest.mark.parametrize(
    ("content", "refused"),
    [
        (None, ("volume-unmarked", True)),
        ("", ("volume-unmarked", True)),
        ("AB" * 16, ("volume-unmarked", True)),
        ("cd" * 16, ("volume-wrong", False)),
    ],
)
def test_a_disk_that_is_not_the_volume(
    root: Path, files: LocalFiles, content: str | None, refused: tuple[str, bool]
) -> None:
    place = root.parent / "mnt"
    place.mkdir()
    if content is not None:
        (place / IDENTITY).write_text(content)
    assert refusal(place, files, separate=False) == refused


@pytest.mark.fault("O05", "O08")
def test_an_identity_that_is_a_link_is_none(root: Path, files: LocalFiles) -> None:
    place = root.parent / "mnt"
    place.mkdir()
    (root / "identity").write_text(ID)
    (place / IDENTITY).symlink_to(root / "identity")
    assert refusal(place, files, separate=False) == ("volume-unmounted", False)


def test_a_volume_keeps_the_identity_that_it_was_given(root: Path, files: LocalFiles) -> None:
    identity = initialise(str(root))
    assert len(bytes.fromhex(identity)) == 16
    assert initialise(str(root)) == identity
    assert os.listdir(root) == [IDENTITY]
    with mounted(str(root), identity, cache=files, separate=False) as volume:
        assert volume.device() == files.device()
    with pytest.raises(ActionError) as missing:
        initialise(str(root / "none"))
    assert missing.value.cause == "volume-unmounted"


def test_two_volumes_have_two_identities_and_a_leftover_is_none(root: Path) -> None:
    other = root.parent / "other"
    other.mkdir()
    (other / f"{IDENTITY}.part").write_text("torn")
    assert initialise(str(root)) != initialise(str(other))
    assert os.listdir(other) == [IDENTITY]


def test_a_damaged_identity_is_not_replaced(root: Path) -> None:
    (root / IDENTITY).write_text("torn")
    with pytest.raises(ActionError, match="is damaged") as raised:
        initialise(str(root))
    assert raised.value.cause == "volume-unwritable"
    assert (root / IDENTITY).read_text() == "torn"
