"""Hooks in real repositories: they touch one file, never delay or fail a commit, and never replace anybody's."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from reconciler.adapters.git.hooks import POKE, RepositoryHooks
from reconciler.model.hook import NAMES, HookStanding
from reconciler.model.problem import ExitCode, ReconcilerError
from tests.adapters.git_parts import TEXT, Repo, made
from tests.e2e.watching import until


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return made(tmp_path / "repo")


@pytest.fixture
def wake(tmp_path: Path) -> Path:
    """A folder whose name a shell would take apart."""
    return tmp_path / 'it\'s $(here) & "there"' / "wake"


@pytest.fixture
def hooks(repo: Repo, wake: Path) -> RepositoryHooks:
    return RepositoryHooks(str(repo.desired), wake)


def standings(hooks: RepositoryHooks) -> list[HookStanding]:
    return [hook.standing for hook in hooks.status()]


def poked(wake: Path) -> None:
    """Wait for a poke, and take it away."""
    until((wake / POKE).exists, "a poke")
    (wake / POKE).unlink()


def refused(hooks: RepositoryHooks) -> ReconcilerError:
    with pytest.raises(ReconcilerError) as caught:
        hooks.install()
    return caught.value


@pytest.mark.fault("D27")
def test_d27_every_way_to_a_new_commit_pokes(repo: Repo, hooks: RepositoryHooks, wake: Path) -> None:
    assert standings(hooks) == [HookStanding.ABSENT] * 4
    assert not wake.exists(), "looking leaves no trace"
    assert [hook.standing for hook in hooks.install()] == [HookStanding.CURRENT] * 4
    assert stat.S_IMODE(wake.stat().st_mode) == stat.S_IMODE(wake.parent.stat().st_mode) == 0o700
    repo.commit("two")
    poked(wake)
    repo.git("commit", "-q", "--amend", "-m", "amended")
    poked(wake)
    repo.git("switch", "-q", "-c", "side", "HEAD~1")
    poked(wake)
    repo.git("merge", "-q", "--ff-only", "main")
    poked(wake)


@pytest.mark.fault("D27")
@pytest.mark.parametrize("trouble", ["no folder", "a folder instead", "a pipe that nobody reads", "read-only"])
def test_d27_no_commit_fails_waits_or_prints(repo: Repo, hooks: RepositoryHooks, wake: Path, trouble: str) -> None:
    hooks.install()
    if trouble == "no folder":
        shutil.rmtree(wake.parent)
    elif trouble == "a folder instead":
        (wake / POKE).mkdir()
    elif trouble == "a pipe that nobody reads":
        os.mkfifo(wake / POKE)
    else:
        wake.chmod(0o500)
    repo.write("two")
    repo.git("add", "--all")
    who = {f"GIT_{role}_{what}": "x" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(
        ("git", "commit", "-q", "-m", "two"),
        cwd=repo.root,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **who},
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    if trouble == "a pipe that nobody reads":
        handle = os.open(wake / POKE, os.O_RDONLY)  # the one that waits in the background comes to its end
        assert os.read(handle, 10) == b"."
        os.close(handle)


@pytest.mark.fault("S34")
def test_s34_a_poke_carries_nothing_and_is_always_a_change(repo: Repo, hooks: RepositoryHooks, wake: Path) -> None:
    hooks.install()
    (wake / POKE).write_bytes(b"")
    repo.commit("two")
    until(lambda: (wake / POKE).read_bytes() == b".", "a poke")


def test_install_is_repeatable_and_follows_the_state_directory(
    repo: Repo, hooks: RepositoryHooks, tmp_path: Path
) -> None:
    elsewhere = RepositoryHooks(str(repo.desired), tmp_path / "other" / "wake")
    elsewhere.install()
    assert standings(hooks) == [HookStanding.OUTDATED] * 4
    hooks.install()
    before = {hook.path: Path(hook.path).stat().st_ino for hook in hooks.status()}
    hooks.install()
    assert {path: Path(path).stat().st_ino for path in before} == before
    assert standings(elsewhere) == [HookStanding.OUTDATED] * 4
    Path(next(iter(before))).chmod(0o644)
    assert standings(hooks)[0] is HookStanding.OUTDATED, "git would not run it"
    hooks.install()
    assert standings(hooks) == [HookStanding.CURRENT] * 4


def test_the_needed_hook_of_somebody_else_is_never_written_to(repo: Repo, hooks: RepositoryHooks, wake: Path) -> None:
    theirs = repo.git_dir / "hooks" / "post-commit"
    theirs.write_text("#!/bin/sh\nexec true\n")
    error = refused(hooks)
    assert (error.reference, error.code) == ("hook-foreign", ExitCode.BLOCKED)
    assert error.hint.endswith(hooks.line)
    assert theirs.read_text() == "#!/bin/sh\nexec true\n"
    assert standings(hooks) == [HookStanding.FOREIGN, *[HookStanding.ABSENT] * 3]
    assert not wake.exists()
    theirs.write_text(f"#!/bin/sh\n{hooks.line}\nexec true\n")
    theirs.chmod(0o755)
    hooks.install()
    assert standings(hooks) == [HookStanding.JOINED, *[HookStanding.CURRENT] * 3]
    repo.commit("two")
    poked(wake)
    assert {hook.name for hook in hooks.uninstall()} == set(NAMES[1:])
    assert theirs.exists()


def test_other_hooks_of_somebody_else_are_left_alone(repo: Repo, hooks: RepositoryHooks, tmp_path: Path) -> None:
    folder = repo.git_dir / "hooks"
    (tmp_path / "program").write_text("")
    (folder / "post-merge").symlink_to(tmp_path / "program")
    (folder / "post-rewrite").symlink_to("/nonexistent")
    (folder / "post-checkout").mkdir()
    hooks.install()
    assert standings(hooks) == [HookStanding.CURRENT, *[HookStanding.FOREIGN] * 3]
    assert [hook.name for hook in hooks.uninstall()] == ["post-commit"]
    assert os.readlink(folder / "post-rewrite") == "/nonexistent"
    assert (tmp_path / "program").read_text() == ""


def test_uninstall_removes_ours_only(repo: Repo, hooks: RepositoryHooks) -> None:
    before = sorted(os.listdir(repo.git_dir / "hooks"))
    hooks.install()
    edited = repo.git_dir / "hooks" / "post-merge"
    edited.write_text(edited.read_text() + "echo more\n")
    assert standings(hooks)[1] is HookStanding.JOINED, "what a person has added to is theirs"
    assert len(hooks.uninstall()) == 3
    assert sorted(os.listdir(repo.git_dir / "hooks")) == sorted([*before, "post-merge"])
    assert hooks.uninstall() == ()


def test_where_git_looks_for_hooks(repo: Repo, hooks: RepositoryHooks, wake: Path, tmp_path: Path) -> None:
    repo.git("config", "core.hooksPath", ".hooks")
    assert hooks.install()[0].path == str(repo.root / ".hooks" / "post-commit")
    repo.commit("two")
    poked(wake)
    repo.git("config", "core.hooksPath", str(tmp_path / "shared"))
    error = refused(hooks)
    assert (error.reference, error.code) == ("hooks-elsewhere", ExitCode.BLOCKED)
    assert not (tmp_path / "shared").exists()
    (repo.root / "link").symlink_to(tmp_path / "shared")
    repo.git("config", "core.hooksPath", "link")
    assert refused(hooks).reference == "hooks-elsewhere"


def test_the_hooks_path_of_the_user_counts(
    hooks: RepositoryHooks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".gitconfig").write_text(f"[core]\n\thooksPath = {tmp_path / 'mine'}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert refused(hooks).reference == "hooks-elsewhere"


@pytest.mark.fault("D26")
def test_d26_a_worktree_pokes_as_well(repo: Repo, hooks: RepositoryHooks, wake: Path, tmp_path: Path) -> None:
    repo.git("worktree", "add", "-q", "-b", "other", str(tmp_path / "linked"))
    linked = Repo(tmp_path / "linked")
    there = RepositoryHooks(str(linked.desired), wake)
    assert there.install() == hooks.status()
    linked.commit(TEXT + "#")
    poked(wake)


def test_without_a_repository(tmp_path: Path, wake: Path) -> None:
    error = refused(RepositoryHooks(str(tmp_path / "ensemble.yaml"), wake))
    assert error.reference == "repository-missing"
