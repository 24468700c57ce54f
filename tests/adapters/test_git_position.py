"""Where a branch is, in every state that a working tree can be in."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.model.problem import ExitCode, ReconcilerError
from tests.adapters.git_parts import MAIN, TEXT, Repo, made


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return made(tmp_path / "repo")


def test_the_branch_that_is_checked_out_is_followed(repo: Repo) -> None:
    source = repo.source()
    first = source.position()
    assert (first.revision, first.ref, first.reference, first.uncommitted) == (repo.head(), MAIN, "", ())
    assert source.read(first.revision).text == TEXT.encode()
    second = repo.commit(TEXT + "# more\n")
    assert source.position().revision == second
    assert source.read(second).text.endswith(b"# more\n")
    assert source.read(first.revision).text == TEXT.encode()


def test_a_tick_costs_no_process(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    source = repo.source()
    at = source.position()
    monkeypatch.setenv("PATH", "/nonexistent")
    assert source.position() == at
    repo.write("other")
    assert source.position().uncommitted == ("ensemble.yaml",)


@pytest.mark.fault("D18")
def test_d18_another_branch_is_checked_out(repo: Repo) -> None:
    source = repo.source()
    main = source.position().revision
    repo.git("switch", "-q", "-c", "feature/x")
    repo.commit("other")
    position = source.position()
    assert (position.revision, position.ref, position.reference) == (main, MAIN, "")
    assert repo.position().ref == "refs/heads/feature/x"
    assert repo.position(MAIN).revision == main


@pytest.mark.fault("D18")
def test_d18_detached_head_pauses_and_keeps_the_branch(repo: Repo) -> None:
    source = repo.source()
    first = source.position().revision
    second = repo.commit(TEXT + "#")
    repo.git("checkout", "-q", first)
    position = source.position()
    assert (position.revision, position.ref, position.reference) == (second, MAIN, "head-detached")
    assert "git switch main" in position.hint
    with pytest.raises(ReconcilerError) as caught:
        repo.position()
    assert (caught.value.reference, caught.value.code) == ("head-detached", ExitCode.BLOCKED)
    assert "source.ref" in caught.value.hint


def test_a_ref_that_nobody_checks_out_is_never_paused(repo: Repo, tmp_path: Path) -> None:
    repo.git("update-ref", "refs/remotes/origin/main", "HEAD")
    repo.git("update-ref", "refs/followed/main", "HEAD")
    repo.git("tag", "-a", "-m", "one", "v1")
    at = repo.head()
    repo.commit("other")
    repo.git("checkout", "-q", "--detach")
    for ref in ("refs/remotes/origin/main", "refs/followed/main", "refs/tags/v1"):
        position = repo.position(ref)
        assert (position.revision, position.reference) == (at, ""), ref
    repo.git("tag", "-a", "-f", "-m", "two", "v1", "HEAD")
    repo.git("pack-refs", "--all")
    assert repo.position("refs/tags/v1").revision == repo.head()


def test_a_missing_ref_is_a_pause(repo: Repo, tmp_path: Path) -> None:
    source = repo.source()
    source.position()
    repo.git("branch", "-m", "trunk")
    position = source.position()
    assert (position.revision, position.reference) == ("", "ref-missing")
    with pytest.raises(ReconcilerError) as caught:
        source.read(position.revision)
    assert caught.value.reference == "commit-missing"
    empty = Repo(tmp_path / "empty")
    empty.root.mkdir()
    empty.git("init", "-q", "-b", "main")
    empty.write(TEXT)
    assert empty.position().reference == "ref-missing"


@pytest.mark.parametrize("ref", ["refs/heads/../../../etc/passwd", "refs/heads/a.lock", "refs/heads//x", "refs/x/.y"])
def test_a_ref_that_is_none_is_no_path(repo: Repo, ref: str) -> None:
    with pytest.raises(ReconcilerError) as caught:
        repo.position(ref)
    assert caught.value.reference == "ref-invalid"


def test_a_damaged_ref_is_an_error_and_no_missing_branch(repo: Repo) -> None:
    (repo.git_dir / MAIN).write_text("")
    with pytest.raises(ReconcilerError) as caught:
        repo.position(MAIN)
    assert caught.value.code is ExitCode.ENVIRONMENT


# ---------------------------------------------------------------------------------------------------- in progress


def conflicting(repo: Repo) -> None:
    """Two branches that changed the same line; main is checked out."""
    repo.git("switch", "-q", "-c", "side")
    repo.commit("side\n")
    repo.commit("side again\n")
    repo.git("switch", "-q", "main")
    repo.commit("main\n")


def mails(repo: Repo) -> None:
    """Apply the mails of the other side."""
    repo.git("am", "-q", ok=False, stdin=repo.git("format-patch", "--stdout", "main..side") + "\n")


STOPPED: dict[str, Callable[[Repo], object]] = {
    "rebase": lambda repo: repo.git("rebase", "side", ok=False),
    "merge": lambda repo: repo.git("merge", "side", ok=False),
    "cherry-pick": lambda repo: repo.git("cherry-pick", "side~1", "side", ok=False),
    "revert": lambda repo: repo.git("revert", "HEAD~1", ok=False),
    "am": mails,
    "bisect": lambda repo: repo.git("bisect", "start", "HEAD", "HEAD~1"),
}


@pytest.mark.fault("D19")
@pytest.mark.parametrize("name", STOPPED)
def test_d19_something_is_in_progress(repo: Repo, name: str) -> None:
    conflicting(repo)
    source = repo.source()
    before = source.position()
    assert before.reference == ""
    STOPPED[name](repo)
    position = source.position()
    assert (position.revision, position.ref) == (before.revision, MAIN)
    assert position.reference == f"{name}-in-progress"
    assert f"git {name}" in position.reason
    assert f"git {name}" in position.hint
    assert repo.position().ref == MAIN, "a new source learns the branch all the same"
    repo.git("bisect" if name == "bisect" else name, "reset" if name == "bisect" else "--abort")
    assert source.position().reference == ""


@pytest.mark.fault("D19")
def test_d19_between_two_picks(repo: Repo) -> None:
    conflicting(repo)
    repo.git("cherry-pick", "side~1", "side", ok=False)
    repo.git("add", "--all")
    repo.git("commit", "-q", "-m", "by hand")
    assert not (repo.git_dir / "CHERRY_PICK_HEAD").exists()
    assert repo.position().reference == "cherry-pick-in-progress"


@pytest.mark.fault("D19")
@pytest.mark.parametrize("name", ["rebase", "merge", "bisect"])
def test_d19_what_is_in_progress_elsewhere_pauses_nothing(repo: Repo, name: str) -> None:
    conflicting(repo)
    repo.git("branch", "followed")
    repo.git("switch", "-q", "-c", "mine")
    source = repo.source("refs/heads/followed")
    STOPPED[name](repo)
    assert source.position().reference == ""


@pytest.mark.fault("D19")
def test_d19_a_rebase_of_another_worktree_does_not_move_the_branch(repo: Repo, tmp_path: Path) -> None:
    conflicting(repo)
    repo.git("switch", "-q", "side")
    repo.git("worktree", "add", "-q", str(tmp_path / "other"), "main")
    other = Repo(tmp_path / "other")
    source, followed = repo.source(MAIN), other.source()
    before = followed.position()
    other.git("rebase", "side", ok=False)
    assert (source.position().revision, source.position().reference) == (before.revision, "")
    assert followed.position().reference == "rebase-in-progress"


@pytest.mark.fault("D20")
def test_d20_locks_do_not_stop_reading(repo: Repo) -> None:
    source = repo.source()
    for lock in ("index.lock", f"{MAIN}.lock", "packed-refs.lock", "HEAD.lock", "config.lock", "gc.pid"):
        (repo.git_dir / lock).write_text("")
    at = source.position()
    assert at.reference == ""
    assert source.read(at.revision).text == TEXT.encode()
    assert source.doubt("", at.revision) is None


@pytest.mark.fault("D20")
def test_d20_a_collected_repository_is_the_same_one(repo: Repo) -> None:
    source = repo.source()
    for number in range(3):
        repo.commit(f"{TEXT}# {number}\n")
    before = source.position()
    repo.git("gc", "-q", "--prune=now")
    assert not (repo.git_dir / MAIN).exists()
    assert source.position() == before
    assert repo.position() == before
    newer = repo.commit(TEXT)
    assert source.position().revision == newer
    repo.git("pack-refs", "--all")
    repo.git("update-ref", MAIN, before.revision)
    repo.git("pack-refs", "--all")
    assert source.position().revision == before.revision


# ---------------------------------------------------------------------------------------------------- not committed


@pytest.mark.fault("D17")
def test_d17_what_is_saved_and_not_committed_is_said_and_not_read(repo: Repo) -> None:
    repo.commit("a", "templates/a.jinja")
    repo.commit("b", "templates/b.jinja")
    repo.commit("c", "templates/c.jinja")
    source = repo.source()
    assert source.position().uncommitted == ()
    repo.write("saved")
    repo.write("x", "templates/a.jinja")
    (repo.desired.parent / "templates" / "b.jinja").unlink()
    repo.write("new", "templates/d.jinja")
    repo.git("add", "--all")
    repo.write("new", "templates/.DS_Store")
    repo.write("new", "templates/c.jinja~")
    position = source.position()
    assert position.uncommitted == (
        "ensemble.yaml",
        "templates/a.jinja",
        "templates/b.jinja",
        "templates/d.jinja",
    )
    bundle = source.read(position.revision)
    assert bundle.text == TEXT.encode()
    assert {name: file.content for name, file in bundle.files.items()} == {
        "templates/a.jinja": b"a",
        "templates/b.jinja": b"b",
        "templates/c.jinja": b"c",
    }
    repo.git("commit", "-q", "-m", "all")
    assert source.position().uncommitted == ()


@pytest.mark.fault("D17")
def test_d17_an_edit_is_seen_whatever_its_time_stamp_says(repo: Repo) -> None:
    source = repo.source()
    assert source.position().uncommitted == ()
    times = repo.desired.stat()
    repo.write(TEXT.replace("1", "2"))
    os.utime(repo.desired, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert source.position().uncommitted == ("ensemble.yaml",)
    repo.write(TEXT)
    assert source.position().uncommitted == ()


@pytest.mark.fault("D17")
def test_d17_a_deleted_folder_and_a_pipe(repo: Repo) -> None:
    source = repo.source()
    source.position()
    repo.desired.unlink()
    os.mkfifo(repo.desired)
    assert source.position().uncommitted == ("ensemble.yaml",)
    shutil.rmtree(repo.desired.parent)
    position = source.position()
    assert position.uncommitted == ("ensemble.yaml",)
    assert source.read(position.revision).text == TEXT.encode()


def test_line_ends_of_a_checkout_are_no_edit(repo: Repo) -> None:
    repo.git("config", "core.autocrlf", "true")
    repo.desired.unlink()
    repo.git("checkout", "--", ".")
    assert b"\r\n" in repo.desired.read_bytes()
    assert repo.position().uncommitted == ()
