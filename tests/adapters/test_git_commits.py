"""What a commit says is read whole or not at all, and history that does not go forward is doubted."""

import os
from pathlib import Path

import pytest

from reconciler.adapters.git.source import GitSource
from reconciler.adapters.template_files import EXECUTABLE, FILE_LIMIT, LINK, MAX_FILES, SUBMODULE
from reconciler.adapters.worktree import WorktreeSource
from reconciler.model.bundle import REGULAR, BundleFile
from reconciler.model.problem import ExitCode
from tests.adapters.git_parts import TEXT, Repo, error_of, made, reference


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return made(tmp_path / "repo")


def test_the_same_files_as_from_the_folder(repo: Repo, tmp_path: Path) -> None:
    repo.write("a", "templates/a.jinja")
    repo.write("ä", "templates/deep/er/ü b.txt")
    repo.write("x", "templates/1/2/3/in.jinja")
    repo.write("x", "templates/1/2/3/4/out.jinja")
    repo.write("x", "templates/run.jinja").chmod(0o755)
    (repo.desired.parent / "templates" / "link.jinja").symlink_to("run.jinja")
    (repo.desired.parent / "sub").symlink_to("templates")
    repo.write("x", "mine.jinja")
    repo.write("x", "unnamed.jinja")
    at = repo.commit("a: {b: mine.jinja, c: sub/a.jinja, d: none.jinja, e: ../x.jinja, f: templates.jinja/x.jinja}")
    bundle = repo.source().read(at)
    assert bundle.files == WorktreeSource(repo.desired).bundle().files
    assert bundle.files["templates/run.jinja"] == BundleFile(mode=EXECUTABLE, content=b"x")
    assert bundle.files["templates/link.jinja"] == BundleFile(mode=LINK, content=b"run.jinja")
    assert bundle.files["sub/a.jinja"] == BundleFile(mode=LINK, content=b"templates")
    assert "templates/1/2/3/4/out.jinja" not in bundle.files
    assert (bundle.name, bundle.revision, bundle.tracked) == (str(repo.desired), at, True)


def test_at_the_top_of_the_repository(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "flat", inside=".")
    repo.root.mkdir()
    repo.git("init", "-q", "-b", "main")
    repo.write("t", "templates/t.jinja")
    at = repo.commit(TEXT)
    assert repo.source().read(at).files == {"templates/t.jinja": BundleFile(mode=REGULAR, content=b"t")}


def test_a_name_that_a_mac_decomposes(repo: Repo) -> None:
    folder = repo.root / "Mu\u0308ller & co"
    repo.desired.parent.rename(folder)
    source = GitSource(folder / "ensemble.yaml", None, None)
    assert source.read(repo.head()).text == TEXT.encode()


@pytest.mark.fault("D15")
def test_d15_a_commit_without_the_file_is_no_empty_desired_state(repo: Repo) -> None:
    repo.git("rm", "-q", "-r", "--cached", ".")
    repo.git("commit", "-q", "--allow-empty", "-m", "gone")
    source = repo.source()
    position = source.position()
    assert (position.reference, position.uncommitted) == ("", ())
    error = error_of(source, position.revision)
    assert (error.reference, error.code) == ("desired-file-missing", ExitCode.INVALID)
    assert "not an empty desired state" in error.message


@pytest.mark.fault("D14")
def test_d14_a_commit_with_a_link_or_a_folder_instead_of_the_file(repo: Repo) -> None:
    repo.desired.rename(repo.desired.with_name("other.yaml"))
    source = repo.source()
    repo.desired.symlink_to("other.yaml")
    repo.git("add", "--all")
    repo.git("commit", "-q", "-m", "link")
    assert "a link" in error_of(source, repo.head()).message
    repo.desired.unlink()
    at = repo.commit("x", "ensemble.yaml/inner")
    error = error_of(source, at)
    assert (error.reference, error.code) == ("desired-file-irregular", ExitCode.INVALID)
    assert "a folder" in error.message


@pytest.mark.fault("D14")
def test_d14_a_folder_on_the_way_became_a_link(repo: Repo) -> None:
    source = repo.source()
    repo.git("mv", repo.inside, "elsewhere")
    repo.desired.parent.symlink_to("elsewhere")
    repo.git("add", "--all")
    repo.git("commit", "-q", "-m", "link")
    assert error_of(source, repo.head()).reference == "desired-file-irregular"


@pytest.mark.fault("D23")
def test_d23_submodules_and_pointers(repo: Repo, tmp_path: Path) -> None:
    other = made(tmp_path / "other")
    repo.git("submodule", "add", "-q", str(other.root), f"{repo.inside}/templates/sub")
    repo.git("submodule", "add", "-q", str(other.root), f"{repo.inside}/beside")
    at = repo.commit("chat_template: beside/x.jinja")
    bundle = repo.source().read(at)
    module = BundleFile(mode=SUBMODULE, content=b"")
    assert bundle.files == {"templates/sub": module, "beside/x.jinja": module}
    assert repo.position().uncommitted == ()
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    error = error_of(repo.source(), repo.commit(pointer))
    assert (error.reference, error.code) == ("desired-file-lfs", ExitCode.INVALID)
    repo.git("rm", "-q", "--cached", f"{repo.inside}/ensemble.yaml")
    repo.git("update-index", "--add", "--cacheinfo", f"160000,{other.head()},{repo.inside}/ensemble.yaml")
    repo.git("commit", "-q", "-m", "submodule")
    assert "a submodule" in error_of(repo.source(), repo.head()).message


def test_limits(repo: Repo) -> None:
    at = repo.commit(b"#" * (FILE_LIMIT + 100))
    assert len(repo.source().read(at).text) == FILE_LIMIT + 1
    repo.write(TEXT)
    big = repo.commit(b"x" * (FILE_LIMIT + 1), "templates/big.jinja")
    assert error_of(repo.source(), big).reference == "bundle-too-large"
    (repo.desired.parent / "templates" / "big.jinja").unlink()
    for number in range(MAX_FILES):
        repo.write("", f"templates/{number}.jinja")
    assert len(repo.source().read(repo.commit("x", "beside")).files) == MAX_FILES
    assert error_of(repo.source(), repo.commit("", "templates/more.jinja")).reference == "bundle-too-large"


def test_no_descriptor_and_no_process_is_left(repo: Repo, tmp_path: Path) -> None:
    source = repo.source()
    gone = "0" * 40
    before = len(os.listdir("/dev/fd"))
    for _ in range(3):
        repo.source().read(repo.head())
        error_of(source, gone)
        source.doubt(gone, repo.head())
    assert len(os.listdir("/dev/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


# -------------------------------------------------------------------------------------------------------- history


def test_forward_is_no_doubt(repo: Repo) -> None:
    first, second = repo.head(), repo.commit("two")
    source = repo.source()
    assert source.doubt(first, second) is None
    assert source.doubt("", second) is None
    assert source.doubt("worktree:123456789abc", second) is None
    assert source.doubt(second, second) is None


@pytest.mark.fault("D22")
@pytest.mark.parametrize("how", ["amended", "set back", "forced"])
def test_d22_history_that_was_rewritten(repo: Repo, tmp_path: Path, how: str) -> None:
    repo.commit("one")
    source = repo.source()
    old = repo.commit("two")
    if how == "amended":
        new = repo.commit("other", "ensemble.yaml", "--amend")
    elif how == "set back":
        repo.git("reset", "-q", "--hard", "HEAD~1")
        new = repo.head()
    else:
        repo.git("clone", "-q", ".", str(tmp_path / "clone"))
        clone = Repo(tmp_path / "clone")
        clone.git("reset", "-q", "--hard", "HEAD~1")
        clone.commit("forced")
        repo.git("config", "receive.denyCurrentBranch", "ignore")
        clone.git("push", "-q", "--force", "origin", "main")
        new = clone.head()
    position = source.position()
    assert (position.revision, position.reference) == (new, "")
    doubt = source.doubt(old, new)
    assert doubt is not None
    assert doubt.reference == "history-rewritten"
    assert f"reconciler accept {new[:7]} --reason TEXT" in doubt.hint


@pytest.mark.fault("D21")
def test_d21_the_old_commit_is_not_in_a_shallow_clone(repo: Repo, tmp_path: Path) -> None:
    old = repo.head()
    repo.commit("two")
    repo.commit("three")
    repo.git("clone", "-q", "--depth", "1", f"file://{repo.root}", str(tmp_path / "shallow"))
    shallow = Repo(tmp_path / "shallow")
    source = shallow.source()
    at = source.position().revision
    doubt = source.doubt(old, at)
    assert doubt is not None
    assert doubt.reference == "history-unknown"
    assert "--unshallow" in doubt.hint
    assert source.doubt(at, shallow.commit("four")) is None
    forced = shallow.git("commit-tree", "-m", "forced", "HEAD^{tree}")
    assert reference(source.doubt(at, forced)) == "history-unknown", "what was cut off cannot be seen"
    shallow.git("fetch", "-q", "--unshallow")
    assert shallow.source().doubt(old, at) is None


@pytest.mark.fault("D21", "D22")
def test_d22_the_old_commit_was_collected(repo: Repo) -> None:
    old = repo.commit("two")
    new = repo.commit("other", "ensemble.yaml", "--amend")
    repo.git("reflog", "expire", "--expire=now", "--all")
    repo.git("gc", "-q", "--prune=now")
    source = repo.source()
    assert reference(source.doubt(old, new)) == "history-unknown"
    assert error_of(source, old).reference == "object-missing"
    assert source.behind(old) is None


@pytest.mark.fault("D22")
def test_d22_neither_grafts_nor_replaced_commits_mend_history(repo: Repo) -> None:
    old = repo.commit("two")
    new = repo.commit("other", "ensemble.yaml", "--amend")
    mended = repo.git("commit-tree", "-p", old, "-m", "mended", f"{new}^{{tree}}")
    repo.git("replace", new, mended)
    (repo.git_dir / "info").mkdir(exist_ok=True)
    (repo.git_dir / "info" / "grafts").write_text(f"{new} {old}\n")
    assert repo.git("merge-base", "--is-ancestor", old, new) == ""
    assert reference(repo.source().doubt(old, new)) == "history-rewritten"


def test_behind_counts_what_touches_the_desired_state(repo: Repo) -> None:
    first = repo.head()
    repo.commit("x", "notes.md")
    repo.commit("x", "templates/x.jinja")
    repo.commit("chat_template: mine.jinja")
    repo.commit("x", "mine.jinja")
    source = repo.source()
    assert source.position().revision == repo.head()
    assert source.behind(first) == 3
    assert source.behind(repo.head()) == 0
    assert source.behind("worktree:123456789abc") is None
    repo.git("branch", "-m", "gone")
    assert source.behind(first) is None
