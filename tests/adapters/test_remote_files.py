"""One suite for the folder of this machine and for that of another host: whoever moves weights need not know which."""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from reconciler.adapters.cold.remote_volume import connected
from reconciler.adapters.durable.files import PIECE, SMALL, Entry, Files, Kind, LocalFiles

from .ssh_host import ID, SshHost, ssh_host
from .test_files import REQUESTS

MARK: Final = ".reconciler-volume"
NAMES: Final = ("$(touch x)", "`id`; rm -rf ~", "a b", "it's", '"', "-rf", "a\nb", "é", "\udcff.bin", "*", "\\n", "{}")


class Cancelled(Exception):
    """Nobody wants it any more."""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHost]:
    with ssh_host(tmp_path_factory.mktemp("host") / "mini") as made:
        yield made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / MARK).write_text(ID)
    return folder


@pytest.fixture(params=["local", "remote"])
def files(root: Path, host: SshHost, request: pytest.FixtureRequest) -> Iterator[Files]:
    if request.param == "local":
        with LocalFiles(str(root)) as local:
            yield local
    else:
        with connected(host.place(root), host.environ) as remote:
            yield remote


@pytest.mark.fault("O05")
@pytest.mark.parametrize("path", ["out/secret", "../outside/secret", "/etc/hostname", "a/../../outside/secret", "a//b"])
def test_no_request_leaves_the_folder(root: Path, files: Files, path: str) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (root / "out").symlink_to(outside)
    (root / "own").write_text("own")
    for request in REQUESTS.values():
        with pytest.raises(OSError, match=r"path|link|directory"):
            request(files, path)
    assert {entry.name: entry.read_text() for entry in outside.iterdir()} == {"secret": "secret"}
    assert (root / "own").read_text() == "own"


@pytest.mark.fault("O05")
def test_the_last_name_is_not_followed_either(root: Path, files: Files) -> None:
    target = root.parent / "target"
    target.write_text("secret")
    (root / "link").symlink_to(target)
    for name in ("names", "read", "digest", "write", "sync"):
        with pytest.raises(OSError, match=r"link|exists|directory"):
            REQUESTS[name](files, "link")
    assert target.read_text() == "secret"
    assert (files.look("link"), files.target("link")) == (Entry(kind=Kind.LINK), str(target))


def test_what_is_there(root: Path, files: Files) -> None:
    files.write("file", [b"a" * 10, b"b"])
    os.link(root / "file", root / "again")
    os.mkfifo(root / "pipe")
    files.make_folder("folder")
    files.link("folder/link", "../file")
    assert files.look("file") == Entry(kind=Kind.FILE, size=11, names=2)
    assert files.look("pipe") == Entry(kind=Kind.OTHER)
    assert files.look("folder") == Entry(kind=Kind.FOLDER)
    assert (files.look("folder/none"), files.look("none")) == (None, None)
    assert files.names("") == (MARK, "again", "file", "folder", "pipe")
    assert files.names("folder") == ("link",)
    assert files.target("folder/link") == "../file"


@pytest.mark.parametrize("sizes", [(), (0,), (1, 0, 2), (PIECE,), (PIECE - 1, 2), (2 * PIECE + 5, 7)])
def test_what_was_written_is_read_back(root: Path, files: Files, sizes: tuple[int, ...]) -> None:
    content = [os.urandom(size) for size in sizes]
    whole = b"".join(content)
    files.write("file", content)
    for path in ("file", ""):
        files.sync(path)
    assert (root / "file").read_bytes() == files.read("file") == b"".join(files.chunks("file")) == whole
    lengths: list[int] = []
    assert files.digest("file", lengths.append) == hashlib.sha256(whole).hexdigest()
    assert (sum(lengths), max(lengths, default=0) <= PIECE) == (len(whole), True)
    assert oct((root / "file").stat().st_mode & 0o7111) == "0o0"  # nobody can execute it


def test_a_name_is_bytes_and_no_shell_reads_it(root: Path, files: Files, host: SshHost) -> None:
    for name in NAMES:
        files.make_folder(name)
        files.write(f"{name}/file", [name.encode("utf-8", "surrogateescape")])
        files.link(f"{name}/link", name)
        files.rename(f"{name}/file", f"{name}/{name}")
        assert files.read(f"{name}/{name}") == os.fsencode(name)
        assert files.target(f"{name}/link") == name
    assert files.names("") == tuple(sorted((*NAMES, MARK)))
    assert sorted(os.listdir(root)) == sorted((*NAMES, MARK))
    assert not {"x", *NAMES} & {*os.listdir(host.folder), *os.listdir(root.parent)}


ERRORS: Final[dict[str, tuple[Callable[[Files], object], tuple[int, ...]]]] = {
    "write on a file": (lambda files: files.write("file", [b"x" * PIECE] * 3), (errno.EEXIST,)),
    "write on a folder": (lambda files: files.write("full", [b"x"]), (errno.EEXIST,)),
    "write in none": (lambda files: files.write("none/file", [b"x"]), (errno.ENOENT,)),
    "make on a folder": (lambda files: files.make_folder("full"), (errno.EEXIST,)),
    "make in none": (lambda files: files.make_folder("none/x"), (errno.ENOENT,)),
    "link on a file": (lambda files: files.link("file", "x"), (errno.EEXIST,)),
    "read none": (lambda files: files.read("none"), (errno.ENOENT,)),
    "chunks of none": (lambda files: list(files.chunks("none")), (errno.ENOENT,)),
    "digest of none": (lambda files: files.digest("none"), (errno.ENOENT,)),
    "sync none": (lambda files: files.sync("none"), (errno.ENOENT,)),
    "names of a file": (lambda files: files.names("file"), (errno.ENOTDIR,)),
    "look through a file": (lambda files: files.look("file/x"), (errno.ENOTDIR,)),
    "target of a file": (lambda files: files.target("file"), (errno.EINVAL,)),
    "rename none": (lambda files: files.rename("none", "other"), (errno.ENOENT,)),
    "rename on a full folder": (lambda files: files.rename("empty", "full"), (errno.ENOTEMPTY, errno.EEXIST)),
    "remove none": (lambda files: files.remove("none"), (errno.ENOENT,)),
    "remove a folder": (lambda files: files.remove("empty"), (errno.EISDIR, errno.EPERM)),
    "remove a full folder": (lambda files: files.remove_folder("full"), (errno.ENOTEMPTY, errno.EEXIST)),
    "remove a file as a folder": (lambda files: files.remove_folder("file"), (errno.ENOTDIR,)),
}


def test_an_error_has_its_number_and_changes_nothing(root: Path, files: Files) -> None:
    files.write("file", [b"file"])
    for name in ("empty", "full"):
        files.make_folder(name)
    files.write("full/file", [b"full"])
    for name, (request, numbers) in ERRORS.items():
        with pytest.raises(OSError, match=r".") as raised:
            request(files)
        assert raised.value.errno in numbers, name
    for path in ("full", MARK + "x"):
        with pytest.raises(OSError, match=r"no plain file|No such file"):
            files.read(path)
    assert files.names("") == (MARK, "empty", "file", "full")
    assert (files.read("file"), files.read("full/file"), files.names("empty")) == (b"file", b"full", ())


def test_a_file_is_replaced_and_an_empty_folder_removed(files: Files) -> None:
    files.write("old", [b"old"])
    files.write("new", [b"new"])
    files.rename("new", "old")
    files.make_folder("folder")
    files.rename("folder", "other")
    files.remove_folder("other")
    assert (files.names(""), files.read("old")) == ((MARK, "old"), b"new")
    files.remove("old")
    assert files.look("old") is None


def test_whoever_watches_ends_it_and_the_next_request_is_answered(files: Files) -> None:
    content = os.urandom(9 * PIECE)

    def cancel(length: int) -> None:
        raise Cancelled

    def broken() -> Iterator[bytes]:
        yield content[:PIECE]
        yield content[PIECE : 3 * PIECE]
        raise Cancelled

    files.write("file", [content])
    with pytest.raises(Cancelled):
        files.digest("file", cancel)
    begun = files.chunks("file")
    assert next(begun) == content[:PIECE]
    assert files.look("none") is None  # asked while that is not read to its end
    with pytest.raises(Cancelled):
        files.write("half", broken())
    assert files.read("half") == content[: 3 * PIECE]
    assert files.digest("file") == hashlib.sha256(content).hexdigest()


def test_a_long_file_is_not_read_in_one_piece(root: Path, files: Files) -> None:
    with (root / "long").open("wb") as long:
        long.truncate(SMALL + 1)
    with pytest.raises(OSError, match="too long"):
        files.read("long")
    with (root / "long").open("wb") as long:
        long.truncate(PIECE + 1)
    assert files.read("long") == bytes(PIECE + 1)


@pytest.mark.fault("O06", "O07")
def test_a_folder_that_was_removed_is_an_error_and_not_empty(root: Path, files: Files) -> None:
    shutil.rmtree(root)
    root.mkdir()
    with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
        files.look("anything")
    with pytest.raises(OSError, match=os.strerror(errno.ENOENT)):
        files.write("anything", [b"x"])
    assert os.listdir(root) == []


def test_a_closed_folder_is_an_error(root: Path, host: SshHost) -> None:
    with LocalFiles(str(root)) as local, connected(host.place(root), host.environ) as remote:
        assert local.device() not in remote.device()[: len(local.device())]
        assert remote.device().startswith("ssh://mini/")
        remote.write("file", [b"x"])
    closed: tuple[Files, ...] = (local, remote)
    for files in closed:
        for name in ("look", "names", "read", "digest", "write", "remove"):
            with pytest.raises(OSError, match="descriptor"):
                REQUESTS[name](files, "file")


# ------------------------------------------------------------------------------------------------- only the remote one


def test_what_marks_the_volume_is_never_changed(root: Path, host: SshHost) -> None:
    with connected(host.place(root), host.environ) as files:
        for change in ("make_folder", "link", "write", "rename", "remove", "remove_folder"):
            files.write("own", [b"x"])
            with pytest.raises(OSError, match=r"permitted"):
                REQUESTS[change](files, MARK)
            files.remove("own")
        with pytest.raises(PermissionError):
            files.rename(MARK, "other")
        assert files.read(MARK).decode() == ID
        assert files.digest(MARK) == hashlib.sha256(ID.encode()).hexdigest()
    assert (root / MARK).read_text() == ID


def test_what_is_being_read_over_a_connection_cannot_be_written_over_it(root: Path, host: SshHost) -> None:
    with connected(host.place(root), host.environ) as files:
        files.write("file", [b"abc"])
        with pytest.raises(OSError, match="is being written") as raised:
            files.write("copy", files.chunks("file"))
        assert raised.value.errno == errno.EBUSY
        begun = files.chunks("file")
        assert next(begun) == b"abc"
        assert files.read("file") == b"abc"
        with pytest.raises(OSError, match="something else was asked"):
            next(begun)
