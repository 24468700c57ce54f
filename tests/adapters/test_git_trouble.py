"""Git that is missing, hangs or refuses, variables that lead elsewhere, and objects that are damaged or not there."""

import os
import zlib
from pathlib import Path

import psutil
import pytest

from reconciler.adapters.git.objects import Objects
from reconciler.adapters.git.running import Git
from reconciler.adapters.git.source import GitSource, repository
from reconciler.model.problem import ExitCode, ReconcilerError
from tests.adapters.git_parts import TEXT, Repo, error_of, made
from tests.e2e.watching import until


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return made(tmp_path / "repo")


@pytest.mark.fault("D26")
def test_d26_variables_of_a_hook_lead_nowhere(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = made(tmp_path / "other")
    other.commit("other")
    at, first = repo.commit("mine"), repo.head("HEAD~1")
    for name, value in {
        "GIT_DIR": str(other.git_dir),
        "GIT_WORK_TREE": str(other.root),
        "GIT_INDEX_FILE": str(other.git_dir / "index"),
        "GIT_OBJECT_DIRECTORY": str(other.git_dir / "objects"),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.worktree",
        "GIT_CONFIG_VALUE_0": "/nonexistent",
        "GIT_CONFIG_PARAMETERS": "'core.bare'='true'",
    }.items():
        monkeypatch.setenv(name, value)
    source = GitSource(repo.desired, None, None)
    assert source.position().revision == at
    assert source.read(at).text == b"mine"
    assert source.doubt(first, at) is None
    assert source.behind(first) == 1


@pytest.mark.fault("D28")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give the repository away")
def test_d28_a_repository_of_somebody_else(repo: Repo) -> None:
    at = repo.head()
    known = repo.source()
    assert known.read(at)
    for folder, _, files in os.walk(repo.root):
        for path in (folder, *(os.path.join(folder, name) for name in files)):
            os.chown(path, 12_345, 12_345)
    for call in (lambda: repository(repo.desired), repo.position, lambda: known.doubt("", at) or repo.position()):
        with pytest.raises(ReconcilerError) as caught:
            call()
        assert (caught.value.reference, caught.value.code) == ("repository-foreign", ExitCode.ENVIRONMENT)
        assert "chown" in caught.value.hint


@pytest.mark.fault("D29")
def test_d29_git_is_missing(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ReconcilerError) as caught:
        repo.position()
    assert (caught.value.reference, caught.value.code) == ("git-missing", ExitCode.ENVIRONMENT)


@pytest.fixture
def hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git that hangs, with a child that keeps its pipes open; the file that it writes their pids to."""
    pids = tmp_path / "pids"
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\nsleep 600 &\necho $! $$ >> "{pids}"\nwait\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    return pids


def runs(pid: int) -> bool:
    """Whether a process is there and has not ended, whoever is to collect it."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.fault("D29")
@pytest.mark.parametrize("talking", [False, True])
def test_d29_git_hangs(hanging: Path, tmp_path: Path, talking: bool) -> None:
    git = Git(str(tmp_path), patience=0.3)

    def ask() -> None:
        if not talking:
            git.run("rev-parse", "HEAD")
            return
        with Objects(git) as objects:
            objects.tree_of("0" * 40)

    for _ in range(2):
        with pytest.raises(ReconcilerError) as caught:
            ask()
        assert (caught.value.reference, caught.value.code) == ("git-hung", ExitCode.ENVIRONMENT)
    assert len(hanging.read_text().splitlines()) == 1, "it is not waited for again at once"
    pids = [int(pid) for pid in hanging.read_text().split()]
    until(lambda: not any(runs(pid) for pid in pids), "both are gone")


def object_file(repo: Repo, name: str) -> Path:
    """Where a loose object is."""
    path = repo.git_dir / "objects" / name[:2] / name[2:]
    path.chmod(0o644)
    return path


@pytest.mark.fault("D31")
@pytest.mark.parametrize("what", ["HEAD", "HEAD^{tree}", "HEAD:./ensemble.yaml"])
@pytest.mark.parametrize("how", ["truncated", "emptied", "other content", "missing"])
def test_d31_a_damaged_object(repo: Repo, what: str, how: str) -> None:
    at = repo.commit("important")
    spec = what.replace("./", f"{repo.inside}/")
    path = object_file(repo, repo.git("rev-parse", spec))
    whole = path.read_bytes()
    if how == "other content":
        path.write_bytes(zlib.compress(zlib.decompress(whole)[:-1] + b"!"))
    elif how == "missing":
        path.unlink()
    else:
        path.write_bytes(whole[: len(whole) // 2] if how == "truncated" else b"")
    source = repo.source()
    position = source.position()
    assert (position.revision, position.uncommitted) == (at, ())
    error = error_of(source, at)
    assert error.code is ExitCode.ENVIRONMENT
    assert "fsck" in error.hint
    path.write_bytes(whole)
    assert source.read(at).text == b"important"


@pytest.mark.fault("D31")
def test_d31_a_damaged_object_is_no_reason_to_follow_the_saved_file(repo: Repo) -> None:
    object_file(repo, repo.git("rev-parse", "HEAD^{tree}")).write_bytes(b"")
    with pytest.raises(ReconcilerError) as caught:
        repository(repo.desired)
    assert (caught.value.reference, caught.value.code) == ("git-failed", ExitCode.ENVIRONMENT)


@pytest.mark.fault("D31")
@pytest.mark.parametrize(
    "tree", [b"1006a4 x\0" + b"1" * 20, b"100644 x\0" + b"1" * 19, b"100644", b"9 x\0" + b"1" * 20]
)
def test_d31_a_tree_that_git_would_not_write(repo: Repo, tree: bytes, tmp_path: Path) -> None:
    (tmp_path / "tree").write_bytes(tree)
    bad = repo.git("hash-object", "-t", "tree", "-w", "--literally", str(tmp_path / "tree"))
    text = repo.git("cat-file", "commit", "HEAD").replace(repo.git("rev-parse", "HEAD^{tree}"), bad)
    at = repo.git("hash-object", "-t", "commit", "-w", "--literally", "--stdin", stdin=text)
    error = error_of(repo.source(), at)
    assert (error.reference, error.code) == ("git-failed", ExitCode.ENVIRONMENT)
    broken = repo.git("hash-object", "-t", "commit", "-w", "--literally", "--stdin", stdin=f"tree HEAD\n{text}")
    assert error_of(repo.source(), broken).reference == "git-failed"


@pytest.mark.fault("D29")
def test_d29_a_partial_clone_fetches_nothing(repo: Repo, tmp_path: Path) -> None:
    repo.commit("missing", "templates/a.jinja")
    repo.git("config", "uploadpack.allowFilter", "true")
    partial = Repo(tmp_path / "partial")
    repo.git("clone", "-q", "--filter=blob:none", "--no-checkout", f"file://{repo.root}", str(partial.root))
    partial.write(TEXT)
    ran = tmp_path / "ran"
    partial.git("config", "remote.origin.uploadpack", f"touch {ran}; git-upload-pack")
    partial.git("config", "protocol.file.allow", "always")
    packs = sorted((partial.git_dir / "objects").rglob("*.pack"))
    assert error_of(partial.source(), partial.head()).reference == "object-missing"
    assert not ran.exists()
    assert sorted((partial.git_dir / "objects").rglob("*.pack")) == packs
    partial.git("cat-file", "--batch", stdin=f"HEAD:{repo.inside}/ensemble.yaml\n")
    assert ran.exists(), "git itself would have fetched"
