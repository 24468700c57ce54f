"""A repository is found however it is laid out, and what is to be watched of it with it."""

import os
from pathlib import Path

import pytest

from reconciler.adapters.git.source import GitSource, repository
from reconciler.model.problem import ExitCode, ReconcilerError
from tests.adapters.git_parts import MAIN, TEXT, Repo, made


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return made(tmp_path / "repo")


def test_where_there_is_no_repository(tmp_path: Path) -> None:
    path = tmp_path / "ensemble.yaml"
    path.write_text(TEXT)
    assert repository(path) is None
    with pytest.raises(ReconcilerError) as caught:
        GitSource(path, None, None).position()
    assert (caught.value.reference, caught.value.code) == ("repository-missing", ExitCode.ENVIRONMENT)


def test_a_file_that_no_commit_has_is_in_no_repository(repo: Repo) -> None:
    found = repository(repo.desired)
    assert found is not None
    assert (found.top, found.path) == (str(repo.root), f"{repo.inside}/ensemble.yaml")
    assert repository(repo.write(TEXT, "other.yaml")) is None


def test_a_git_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("gitdir: elsewhere")
    path = tmp_path / "ensemble.yaml"
    path.write_text(TEXT)
    with pytest.raises(ReconcilerError) as caught:
        repository(path)
    assert (caught.value.reference, caught.value.code) == ("repository-unusable", ExitCode.ENVIRONMENT)


def test_a_repository_that_goes_away_and_comes_back(repo: Repo) -> None:
    source = repo.source()
    at = source.position()
    (repo.root / ".git").rename(repo.root / "aside")
    for reference in ("repository-unusable", "repository-missing"):
        with pytest.raises(ReconcilerError) as caught:
            source.position()
        assert caught.value.reference == reference
    assert list(source.folders()) == [str(repo.desired.parent)]
    (repo.root / "aside").rename(repo.root / ".git")
    assert source.position() == at


def test_a_repository_around_it_does_not_answer(repo: Repo) -> None:
    inner = made(repo.root / "inner")
    (inner.git_dir / "HEAD").unlink()
    with pytest.raises(ReconcilerError) as caught:
        inner.position()
    assert caught.value.reference == "repository-unusable"


def test_through_a_link(repo: Repo, tmp_path: Path) -> None:
    (tmp_path / "ensemble.yaml").symlink_to(repo.desired)
    source = GitSource(tmp_path / "ensemble.yaml", None, None)
    position = source.position()
    assert position == repo.position()
    assert source.read(position.revision).name == str(tmp_path / "ensemble.yaml")


def test_a_worktree(repo: Repo, tmp_path: Path) -> None:
    repo.git("worktree", "add", "-q", "-b", "other", str(tmp_path / "linked"))
    linked = Repo(tmp_path / "linked")
    source = linked.source()
    at = linked.commit(TEXT + "# linked\n")
    assert (source.position().ref, source.position().revision) == ("refs/heads/other", at)
    assert source.read(at).text.endswith(b"# linked\n")
    folders = set(source.folders())
    assert {str(linked.git_dir), str(repo.git_dir), str(repo.git_dir / "refs" / "heads")} <= folders


def test_a_submodule_that_holds_the_file(repo: Repo, tmp_path: Path) -> None:
    outer = made(tmp_path / "outer")
    outer.git("submodule", "add", "-q", str(repo.root), "sub")
    sub = Repo(outer.root / "sub")
    assert sub.git_dir == outer.git_dir / "modules" / "sub"
    source = sub.source()
    at = sub.commit(TEXT + "# sub\n")
    assert source.position().revision == at
    assert source.read(at).text.endswith(b"# sub\n")


def test_sha256(tmp_path: Path) -> None:
    repo = made(tmp_path / "long", "--object-format=sha256")
    source = repo.source()
    at = repo.commit("t", "templates/t.jinja")
    assert len(at) == 64
    position = source.position()
    assert (position.revision, position.uncommitted) == (at, ())
    assert source.read(at).files["templates/t.jinja"].content == b"t"
    repo.git("tag", "old", "HEAD~1")
    assert source.doubt(repo.head("old"), at) is None
    repo.write("x")
    assert source.position().uncommitted == ("ensemble.yaml",)


def test_refs_that_are_not_in_files_are_asked_for(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with reftable, whose HEAD says nothing; the git of the tests may be too old for it, so its answers are set."""
    at = repo.head()
    answers = tmp_path / "bin" / "git"
    answers.parent.mkdir()
    answers.write_text(
        "#!/bin/sh\nfor last; do :; done\n"
        f'case "$*" in *symbolic-ref*) echo {MAIN};; *"rev-parse --verify"*) echo {at};; '
        f'*) PATH="${{PATH#*:}}" exec git "$@";; esac\n'
    )
    answers.chmod(0o755)
    monkeypatch.setenv("PATH", f"{answers.parent}:{os.environ['PATH']}")
    (repo.git_dir / "HEAD").write_text("ref: refs/heads/.invalid\n")
    (repo.git_dir / MAIN).unlink()
    assert (repo.position().ref, repo.position().revision) == (MAIN, at)


def test_folders_follow_what_is_there(repo: Repo) -> None:
    source = repo.source("refs/heads/feature/x")
    heads = repo.git_dir / "refs" / "heads"
    folders = set(source.folders())
    assert {str(repo.git_dir), str(repo.git_dir / "refs"), str(heads), str(repo.desired.parent)} <= folders
    assert str(heads / "feature") not in folders
    repo.git("branch", "feature/x")
    assert str(heads / "feature") in set(source.folders())
    repo.commit("t", "templates/deep/t.jinja")
    assert str(repo.desired.parent / "templates" / "deep") in set(source.folders())
