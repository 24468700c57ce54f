"""Gateway files on a real file system: kept as they stand, replaced whole, and never somebody else's."""

import asyncio
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.adapters.gateway_files import LocalGateways
from reconciler.gateways.litellm import HEADER, LiteLlm
from reconciler.model.host import GatewayFiles, HostFile, LiteLlmFiles
from reconciler.model.observed import Absent, GatewayState
from reconciler.model.routes import Route
from reconciler.ports.errors import ActionError

from .gateway_place import DRAIN, A, B, Place

FOREIGN = "# mine\nmodel_list:\n- model_name: gpt\n  litellm_params: {model: openai/gpt-5}\n"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# ------------------------------------------------------------------------------------------------------------ looking


def test_a_host_file_without_gateways(tmp_path: Path) -> None:
    gateways = LocalGateways(HostFile(), {}, tmp_path, lambda: 0.0)
    assert gateways.look() == {}
    with pytest.raises(ActionError) as caught:
        asyncio.run(gateways.publish("litellm", ()))
    assert (caught.value.cause, caught.value.permanent) == ("gateway-unconfigured", True)


def test_a_gateway_without_a_writer(place: Place) -> None:
    files = GatewayFiles(litellm=LiteLlmFiles(include=str(place.file)))
    place.gateways = LocalGateways(HostFile(gateways=files), {}, place.root / "state", lambda: 0.0)
    assert "no writer" in place.unknown()
    assert place.refused(A).cause == "gateway-unreadable"


def test_looking_writes_nothing(place: Place) -> None:
    assert place.look() == Absent()
    place.publish(A)
    place.now += 1
    place.publish(B)
    before = {path: path.lstat().st_mtime_ns for path in place.root.rglob("*")}
    for _ in range(3):
        place.now += DRAIN
        place.state()
    assert {path: path.lstat().st_mtime_ns for path in place.root.rglob("*")} == before


def test_what_was_published_is_seen(place: Place) -> None:
    place.publish(A, B)
    assert place.file.read_text() == LiteLlm().write((A, B))
    place.restart()
    assert place.state() == GatewayState(routes=(A, B), may_dispatch=frozenset({8101, 8102}))


def test_no_routes_are_a_file_too(place: Place) -> None:
    place.publish()
    assert place.file.read_text() == HEADER + "model_list: []\n"
    assert place.state() == GatewayState()


@pytest.mark.parametrize("text", ["", "model_list: []\n"])
def test_a_file_with_nothing_in_it_may_be_filled(place: Place, text: str) -> None:
    place.file.write_text(text)
    assert place.state() == GatewayState()
    place.publish(A)
    assert place.state().routes == (A,)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\xfe", "UTF-8"),
        (HEADER.encode() + b"model_list: [", "no YAML"),
        (HEADER.encode() + b"model_list:\n" + b"  - x: {" * 9999, "is no"),
        (b"#" * (2**24 + 1), "longer than"),
    ],
)
def test_a_corrupt_file_is_unknown_and_left_alone(place: Place, content: bytes, says: str) -> None:
    place.file.write_bytes(content)
    reason = place.unknown()
    assert str(place.file) in reason
    assert says in reason or "does not write" in reason
    place.refused(A)


def test_something_else_in_place_of_the_file_is_unknown(place: Place) -> None:
    place.file.mkdir()
    assert "not a plain file" in place.unknown()
    assert place.refused(A).cause == "gateway-unreadable"
    place.file.rmdir()
    os.mkfifo(place.file)
    assert "not a plain file" in place.unknown()
    place.file.unlink()
    place.file.symlink_to(place.file.name)
    assert str(place.file) in place.unknown()
    place.restart(include=place.memory / "below-a-file" / "managed.yaml")
    place.memory.parent.mkdir(parents=True)
    place.memory.write_text('{"version": 1, "written": [], "withdrawn": {}}')
    assert "Not a directory" in place.unknown()


# --------------------------------------------------------------------------------------------------------- publishing


def test_a_foreign_file_is_never_replaced(place: Place) -> None:
    place.file.write_text(FOREIGN)
    assert "was not written by reconciler" in place.unknown()
    error = place.refused(A)
    assert (error.cause, error.permanent) == ("gateway-file-foreign", True)
    own = LiteLlm().write((A,))
    place.file.write_text(own + '  - model_name: "gpt"\n    litellm_params: {model: openai/gpt-5}\n')
    assert "left alone" in place.unknown()
    assert place.refused(B).cause == "gateway-file-foreign"
    assert not place.memory.exists()


def test_a_file_that_became_foreign_since_the_look_is_kept(place: Place) -> None:
    assert place.look() == Absent()
    place.file.write_text(FOREIGN)
    assert place.refused(A).cause == "gateway-file-foreign"


def test_a_route_that_cannot_be_said(place: Place) -> None:
    error = place.refused(replace(A, upstream=None))
    assert (error.cause, error.permanent) == ("route-unwritable", True)
    assert error.message.startswith("the routes ")


def test_the_same_bytes_are_not_written(place: Place) -> None:
    place.publish(A)
    before, memory = place.tree(), place.memory.stat().st_mtime_ns
    place.publish(A)
    place.restart()
    place.state()
    place.publish(A)
    assert place.tree() == before
    assert place.memory.stat().st_mtime_ns == memory


@pytest.mark.fault("G07")
def test_a_link_to_the_file_stays_a_link(place: Place) -> None:
    real = place.root / "elsewhere" / "real.yaml"
    real.parent.mkdir()
    link = place.folder / "link.yaml"
    link.symlink_to(Path("managed.yaml"))
    place.file.symlink_to(real)
    place.restart(include=link)
    assert place.look() == Absent()
    for routes in ((A,), (A, B)):
        place.publish(*routes)
        assert link.is_symlink()
        assert place.file.is_symlink()
        assert not real.is_symlink()
        assert place.state().routes == routes
    assert sorted(path.name for path in real.parent.iterdir()) == ["real.yaml"]
    real.with_name("other.yaml").write_text(real.read_text())
    place.file.unlink()
    place.file.symlink_to(real.with_name("other.yaml"))
    assert place.refused(B).cause == "gateway-changed"


@pytest.mark.fault("G09")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_mode_and_owner_are_kept(place: Place, mode: int) -> None:
    place.publish(A)
    assert stat.S_IMODE(place.file.stat().st_mode) == 0o600
    owner = (12345, 12346) if os.geteuid() == 0 else (os.getuid(), os.getgid())
    os.chown(place.file, *owner)
    place.file.chmod(mode)
    before = place.file.stat().st_ino
    place.publish(A, B)
    after = place.file.stat()
    assert after.st_ino != before
    assert (after.st_uid, after.st_gid) == owner
    assert stat.S_IMODE(after.st_mode) == mode


@pytest.mark.fault("G09")
def test_a_new_file_is_for_its_owner_alone_whatever_the_umask(place: Place) -> None:
    before = os.umask(0)
    try:
        place.publish(A)
    finally:
        os.umask(before)
    assert stat.S_IMODE(place.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.memory.stat().st_mode) == 0o600
    assert [stat.S_IMODE(p.stat().st_mode) for p in (place.memory.parent, place.memory.parent.parent)] == [0o700] * 2


@pytest.mark.fault("G06")
def test_a_folder_that_is_missing_or_no_folder(place: Place) -> None:
    place.restart(include=place.folder / "gone" / "managed.yaml")
    assert place.look() == Absent()
    error = place.refused(A)
    assert error.cause == "gateway-folder-missing"
    assert str(place.folder / "gone") in error.message
    place.restart()
    (place.folder / ".managed.yaml.reconciler.tmp").mkdir()  # nothing can be prepared beside the file
    error = place.refused(A)
    assert error.cause == "gateway-unwritable"
    assert not place.memory.exists()


@pytest.mark.fault("G06")
def test_a_state_directory_that_cannot_be_used(place: Place) -> None:
    place.memory.parent.parent.write_text("a file")
    assert "Not a directory" in place.unknown()
    assert place.refused(A).cause == "gateway-unreadable"


class Editor(LiteLlm):
    """A writer during whose work somebody saves the file."""

    def __init__(self, edit: Callable[[], object]) -> None:
        super().__init__()
        self.edit = edit

    def write(self, routes: tuple[Route, ...]) -> str:
        self.edit()
        return super().write(routes)


@pytest.mark.fault("G16")
def test_a_file_that_was_saved_since_the_look_is_looked_at_again(place: Place) -> None:
    place.publish(A)
    place.state()
    place.file.write_text(place.file.read_text() + "# a note\n")
    error = place.refused(B)
    assert (error.cause, error.permanent) == ("gateway-changed", False)
    assert place.state().routes == (A,)
    place.publish(B)
    assert place.state().routes == (B,)


@pytest.mark.fault("G16")
@pytest.mark.parametrize("content", [FOREIGN, LiteLlm().write((B,)), None])
def test_a_file_that_is_saved_while_it_is_being_published_is_kept(place: Place, content: str | None) -> None:
    place.publish(A)

    def edit() -> None:
        place.file.unlink() if content is None else place.file.write_text(content)

    place.restart(Editor(edit))
    assert place.state().routes == (A,)
    with pytest.raises(ActionError) as caught:
        place.publish(A, B)
    assert caught.value.cause == "gateway-changed"
    assert (place.file.read_text() if place.file.exists() else None) == content
    assert {path.name for path in place.folder.iterdir()} <= {place.file.name}


@pytest.mark.fault("G16")
def test_the_first_file_does_not_replace_one_that_came_meanwhile(place: Place) -> None:
    place.restart(Editor(lambda: place.file.write_text(FOREIGN)))
    assert place.look() == Absent()
    with pytest.raises(ActionError) as caught:
        place.publish(A)
    assert caught.value.cause == "gateway-changed"
    assert place.file.read_text() == FOREIGN


def test_nothing_that_is_slow_is_imported_before_a_file_is_read() -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "import reconciler.adapters.gateway_files, reconciler.gateways.litellm\n"
        "print(sorted({'yaml', 'ruamel', 'json', 'asyncio', 'hashlib', 'pydantic'} & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
