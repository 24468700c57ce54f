"""The desired state is read from real folders, whole or not at all."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.adapters.template_files import FILE_LIMIT, MAX_FILES
from reconciler.adapters.worktree import WorktreeSource
from reconciler.model.bundle import REGULAR, BundleFile
from reconciler.model.problem import ExitCode, ReconcilerError

TEXT = b"version: 1\nmodels: {}\n"
LINK = 0o120000


@pytest.fixture
def desired(tmp_path: Path) -> Path:
    path = tmp_path / "desired-state" / "ensemble.yaml"
    path.parent.mkdir()
    path.write_bytes(TEXT)
    return path


def template(desired: Path, name: str, content: bytes = b"{{ x }}") -> Path:
    path = desired.parent / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def refused(path: Path) -> ReconcilerError:
    with pytest.raises(ReconcilerError) as caught:
        WorktreeSource(path).bundle()
    assert caught.value.hint
    return caught.value


def test_the_file_and_its_templates(desired: Path) -> None:
    template(desired, "templates/a.jinja", b"a")
    template(desired, "templates/deep/er/b.txt", b"b")
    template(desired, "notes.md")
    bundle = WorktreeSource(desired).bundle()
    assert bundle.name == str(desired)
    assert bundle.text == TEXT
    assert bundle.files == {
        "templates/a.jinja": BundleFile(mode=REGULAR, content=b"a"),
        "templates/deep/er/b.txt": BundleFile(mode=REGULAR, content=b"b"),
    }


def test_templates_elsewhere_are_read_if_the_text_names_them(desired: Path) -> None:
    for name in ("mine.jinja", "other/mine.jinja", "unnamed.jinja"):
        template(desired, name)
    desired.write_bytes(
        b"a: {chat_template: mine.jinja, b: 'other/mine.jinja', c: ../x.jinja, d: /etc/e.jinja, f: none.jinja}"
    )
    assert set(WorktreeSource(desired).bundle().files) == {"mine.jinja", "other/mine.jinja"}


def test_the_revision_is_that_of_everything_that_was_read(desired: Path) -> None:
    revisions = [WorktreeSource(desired).bundle().revision]
    path = template(desired, "templates/a.jinja")
    revisions.append(WorktreeSource(desired).bundle().revision)
    path.chmod(0o755)
    revisions.append(WorktreeSource(desired).bundle().revision)
    path.write_bytes(b"other")
    revisions.append(WorktreeSource(desired).bundle().revision)
    desired.write_bytes(TEXT + b"#")
    revisions.append(WorktreeSource(desired).bundle().revision)
    assert len(set(revisions)) == 5
    assert all(revision.startswith("worktree:") and len(revision) == 21 for revision in revisions)
    assert WorktreeSource(desired).bundle().revision == revisions[-1]


def test_what_is_read_is_what_was_there_at_the_position(desired: Path) -> None:
    source = WorktreeSource(desired)
    position = source.position()
    desired.write_bytes(TEXT + b"#")
    assert source.read(position.revision).text == TEXT
    newer = source.position()
    assert source.read(newer.revision).text == TEXT + b"#"
    with pytest.raises(ReconcilerError) as caught:
        source.read(position.revision)
    assert caught.value.reference == "desired-file-changed"
    assert source.read(newer.revision).revision == newer.revision


def test_a_saved_file_has_no_history(desired: Path) -> None:
    source = WorktreeSource(desired)
    position = source.position()
    assert (position.ref, position.reference, position.uncommitted) == ("", "", ())
    assert source.doubt("", position.revision) is None
    assert source.behind(position.revision) is None


def test_modes_are_those_of_git(desired: Path) -> None:
    template(desired, "templates/run.jinja").chmod(0o755)
    (desired.parent / "templates" / "link.jinja").symlink_to("run.jinja")
    (desired.parent / "templates" / "folder").symlink_to("/etc")
    (desired.parent / "templates" / "nowhere").symlink_to("nothing")
    files = WorktreeSource(desired).bundle().files
    assert {name: (found.mode, found.content) for name, found in files.items()} == {
        "templates/run.jinja": (0o100755, b"{{ x }}"),
        "templates/link.jinja": (LINK, b"run.jinja"),
        "templates/folder": (LINK, b"/etc"),
        "templates/nowhere": (LINK, b"nothing"),
    }


def test_a_path_through_a_linked_folder_is_a_link(desired: Path, tmp_path: Path) -> None:
    template(desired, "../outside/secret.jinja", b"secret")
    (desired.parent / "sub").symlink_to(tmp_path / "outside")
    desired.write_bytes(b"chat_template: sub/secret.jinja")
    assert WorktreeSource(desired).bundle().files == {
        "sub/secret.jinja": BundleFile(mode=LINK, content=os.fsencode(tmp_path / "outside"))
    }


def test_a_templates_folder_that_is_a_link_is_not_entered(desired: Path, tmp_path: Path) -> None:
    template(desired, "../outside/secret.jinja")
    (desired.parent / "templates").symlink_to(tmp_path / "outside")
    assert WorktreeSource(desired).bundle().files == {}


def test_tracked_is_whether_git_has_it(desired: Path, tmp_path: Path) -> None:
    assert not WorktreeSource(desired).bundle().tracked
    (tmp_path / ".git").write_text("gitdir: elsewhere")
    assert WorktreeSource(desired).bundle().tracked


def test_a_linked_desired_file_and_a_linked_folder_are_resolved_once(desired: Path, tmp_path: Path) -> None:
    template(desired, "templates/a.jinja")
    (tmp_path / "link.yaml").symlink_to(desired)
    (tmp_path / "folder").symlink_to(desired.parent)
    for path in (tmp_path / "link.yaml", tmp_path / "folder" / "ensemble.yaml"):
        bundle = WorktreeSource(path).bundle()
        assert (bundle.name, bundle.text, set(bundle.files)) == (str(path), TEXT, {"templates/a.jinja"})


@pytest.mark.fault("D14")
def test_d14_a_file_that_became_a_link_is_not_followed(desired: Path) -> None:
    source = WorktreeSource(desired)
    source.bundle()
    desired.rename(desired.with_name("other.yaml"))
    desired.symlink_to("other.yaml")
    with pytest.raises(ReconcilerError) as caught:
        source.bundle()
    assert caught.value.reference == "desired-file-irregular"
    assert "link" in caught.value.message


@pytest.mark.fault("D14")
def test_d14_a_loop_of_links(desired: Path) -> None:
    desired.unlink()
    desired.symlink_to("ensemble.yaml")
    assert refused(desired).reference == "desired-file-irregular"


@pytest.mark.fault("D14")
def test_d14_a_pipe_is_refused_at_once(desired: Path) -> None:
    desired.unlink()
    os.mkfifo(desired)
    error = refused(desired)
    assert (error.reference, error.code) == ("desired-file-irregular", ExitCode.INVALID)
    assert "a pipe" in error.message


@pytest.mark.fault("D14")
def test_d14_a_folder_a_socket_and_a_device(desired: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "a folder" in refused(desired.parent).message
    desired.unlink()
    monkeypatch.chdir(desired.parent)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("ensemble.yaml")
        assert "a socket" in refused(desired).message
    assert "a device" in refused(Path("/dev/null")).message


@pytest.mark.fault("D14")
def test_d14_a_template_that_is_a_pipe(desired: Path) -> None:
    template(desired, "templates/a.jinja")
    os.mkfifo(desired.parent / "templates" / "b.jinja")
    assert "templates/b.jinja is a pipe" in refused(desired).message


@pytest.mark.fault("D15")
def test_d15_a_deleted_file_is_no_empty_desired_state(desired: Path) -> None:
    source = WorktreeSource(desired)
    source.bundle()
    desired.unlink()
    with pytest.raises(ReconcilerError) as caught:
        source.bundle()
    assert (caught.value.reference, caught.value.code) == ("desired-file-missing", ExitCode.INVALID)
    assert "this is not an empty desired state" in caught.value.message


@pytest.mark.fault("D15")
def test_d15_a_deleted_folder_is_no_empty_desired_state(tmp_path: Path) -> None:
    assert refused(tmp_path / "no" / "ensemble.yaml").reference == "desired-file-missing"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become nobody")
def test_a_file_that_may_not_be_read(desired: Path) -> None:
    source = WorktreeSource(desired)
    os.seteuid(65_534)
    try:
        with pytest.raises(ReconcilerError) as caught:
            source.bundle()
    finally:
        os.seteuid(0)
    assert (caught.value.reference, caught.value.code) == ("desired-file-unreadable", ExitCode.ENVIRONMENT)


def looked(path: Path) -> bytes | str:
    """The text, or the reference of the error."""
    try:
        return WorktreeSource(path).bundle().text
    except ReconcilerError as error:
        return error.reference


@pytest.mark.fault("D11")
def test_d11_a_file_that_grows_is_read_or_refused_and_in_the_end_read(desired: Path) -> None:
    program = (
        "import sys\n"
        "with open(sys.argv[1], 'ab', 0) as file:\n"
        "    print(flush=True)\n"
        "    while file.write(b'#') and file.tell() < 900_000: pass\n"
    )
    desired.write_bytes(b"#" * 500_000)
    results: list[bytes | str] = []
    with subprocess.Popen([sys.executable, "-c", program, str(desired)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        while writer.poll() is None:
            results.append(looked(desired))
    assert all(set(result) == {ord("#")} for result in results if isinstance(result, bytes))
    assert {result for result in results if isinstance(result, str)} <= {"desired-file-changing"}
    assert looked(desired) == b"#" * 900_000


@pytest.mark.fault("D11")
@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux")
def test_d11_a_file_whose_size_and_content_never_agree_is_refused() -> None:
    """The kernel says that this plain file is empty, and hands over text, as for one that is being written."""
    assert looked(Path("/proc/version")) == "desired-file-changing"


@pytest.mark.fault("D11")
def test_d11_a_file_that_is_replaced_is_always_whole(desired: Path) -> None:
    whole = [bytes([letter]) * 100_000 for letter in b"ab"]
    desired.write_bytes(whole[0])
    program = (
        "import os, sys\n"
        "for n in range(300):\n"
        "    open(sys.argv[1] + '.new', 'wb').write(b'ab'[n % 2 : n % 2 + 1] * 100_000)\n"
        "    os.replace(sys.argv[1] + '.new', sys.argv[1])\n"
    )
    results: set[bytes | str] = set()
    with subprocess.Popen([sys.executable, "-c", program, str(desired)]) as writer:
        while writer.poll() is None:
            results.add(looked(desired))
    assert results <= {*whole, "desired-file-changing"}


def test_a_file_that_is_too_long_is_handed_over_one_byte_too_long(desired: Path) -> None:
    desired.write_bytes(b"#" * (FILE_LIMIT + 1000))
    assert len(WorktreeSource(desired).bundle().text) == FILE_LIMIT + 1


def test_limits_of_the_folder(desired: Path) -> None:
    big = template(desired, "templates/big.jinja", b"x" * (FILE_LIMIT + 1))
    assert (refused(desired).reference, str(big) in refused(desired).message) == ("bundle-too-large", True)
    big.write_bytes(b"x" * FILE_LIMIT)
    assert len(WorktreeSource(desired).bundle().files) == 1
    for number in range(MAX_FILES):
        (desired.parent / "templates" / f"{number}.jinja").touch()
    assert refused(desired).reference == "bundle-too-large"


def test_folders_that_are_too_deep_are_left_out(desired: Path) -> None:
    template(desired, "templates/1/2/3/in.jinja")
    template(desired, "templates/1/2/3/4/out.jinja")
    assert set(WorktreeSource(desired).bundle().files) == {"templates/1/2/3/in.jinja"}


def test_no_descriptor_is_left_open(desired: Path) -> None:
    template(desired, "templates/a/b.jinja")
    before = len(os.listdir("/dev/fd"))
    WorktreeSource(desired).bundle()
    desired.unlink()
    refused(desired)
    assert len(os.listdir("/dev/fd")) == before
