"""How a reference finds its files: refs, links, roots and what must not be followed."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.adapters.cache.hf_cache import LocalArtifacts, cache_root
from reconciler.model.observed import Absent, Artifact, Present
from tests.adapters.looking import REFERENCE, REPO, artifact, observed, reason
from tests.cli.home import HOST, Home, state
from tests.ports import free_port
from tests.programs.tiny_cache import CONFIG, KV_BYTES, TinyCache, model_files, safetensors, write_folder

NO_COMMIT = "f" * 40


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("shards", [1, 3])
def test_a_whole_snapshot(cache: TinyCache, shards: int, listed: bool) -> None:
    files = model_files(shards=shards, tensors=5, length=40)
    commit = cache.add(REPO, files, listed=listed)
    found = artifact(cache)
    assert found == Artifact(
        identity=commit,
        path=str(cache.snapshot(REPO, commit)),
        missing=(),
        unverified=sum(len(content) for name, content in files.items() if name != "README.md"),
        shards=shards,
        weight_bytes=shards * 5 * 40,
        disk_bytes=sum(len(content) for content in files.values()),
        cache=found.cache,
        measurable=found.measurable,
        converted=True,
        has_tool_template=True,
    )
    assert found.cache.at(256) == KV_BYTES * 256


@pytest.mark.req("S1-09")
def test_a_revision_is_what_its_ref_names_and_not_what_is_newest(cache: TinyCache) -> None:
    older = cache.add(REPO, model_files(length=32), ref="main")
    newer = cache.add(REPO, model_files(length=64), ref=None)
    os.utime(cache.snapshot(REPO, older), (1, 1))
    assert artifact(cache).identity == older
    assert artifact(cache, f"{REPO}@{newer}").identity == newer
    cache.point(REPO, "refs/pr/1", newer)
    assert artifact(cache, f"{REPO}@refs/pr/1").path == str(cache.snapshot(REPO, newer))


def test_what_is_not_there_is_absent(cache: TinyCache) -> None:
    assert observed(cache) == Absent()
    commit = cache.add(REPO, model_files())
    assert observed(cache, f"{REPO}@v2") == Absent()
    assert observed(cache, f"{REPO}@{NO_COMMIT}") == Absent()
    assert observed(cache, "mlx-community/Other@main") == Absent()
    assert artifact(cache, f"{REPO}@{commit}").complete


@pytest.mark.fault("H06")
def test_h06_a_ref_to_a_missing_snapshot_names_both(cache: TinyCache) -> None:
    cache.add(REPO, model_files())
    cache.point(REPO, "main", NO_COMMIT)
    assert artifact(cache).missing == (f"snapshots/{NO_COMMIT} (which refs/main names)",)


@pytest.mark.fault("H07")
@pytest.mark.parametrize("content", ["", "\n", "../..", "main", "F" * 40, "a" * 39, "a" * 41, "\x1b[31m"])
def test_h07_a_ref_that_names_no_commit_is_not_followed(cache: TinyCache, content: str) -> None:
    cache.add(REPO, model_files())
    cache.point(REPO, "main", content)
    assert "where a commit of 40 digits belongs" in reason(cache)
    assert reason(cache).isprintable()


@pytest.mark.fault("H07")
@pytest.mark.parametrize(
    "reference",
    [REPO, "bare@main", f"{REPO}@", f"{REPO}@../../x", f"{REPO}@a/./b", "../x@main", f"{REPO}@a//b", ""],
)
def test_h07_what_is_no_reference_is_not_looked_for(cache: TinyCache, reference: str) -> None:
    cache.add(REPO, model_files())
    assert "no reference of the form" in reason(cache, reference)


@pytest.mark.fault("H01")
def test_h01_leftovers_of_killed_downloads_do_not_matter(cache: TinyCache) -> None:
    cache.add(REPO, model_files())
    (cache.folder(REPO) / "blobs" / "abc.1234.incomplete").write_bytes(b"half")
    assert artifact(cache).complete


def test_a_file_that_is_not_finished_is_missing(cache: TinyCache) -> None:
    commit = cache.add(REPO, model_files())
    (cache.snapshot(REPO, commit) / "extra.json").symlink_to("../../blobs/abc.incomplete")
    (cache.snapshot(REPO, commit) / "other.incomplete").write_bytes(b"")
    assert artifact(cache).missing == ("extra.json (not finished)", "other.incomplete (not finished)")


@pytest.mark.fault("H22")
@pytest.mark.parametrize("where", ["entry", "blob"])
def test_h22_a_link_out_of_the_cache_is_not_followed(cache: TinyCache, tmp_path: Path, where: str) -> None:
    commit = cache.add(REPO, model_files())
    outside = tmp_path / "outside"
    outside.write_bytes(safetensors({"a": 8}))
    link = cache.snapshot(REPO, commit) / "model.safetensors"
    link = link if where == "entry" else link.resolve()
    link.unlink()
    link.symlink_to(outside)
    missing = artifact(cache).missing
    assert "model.safetensors (leads out of the model cache)" in missing

    assert artifact(cache).verdict == "partial (model.safetensors)"

    allowed = LocalArtifacts(str(cache.root), roots=[str(tmp_path)]).look([REFERENCE])[REFERENCE]
    assert isinstance(allowed, Present)
    assert allowed.value.complete


@pytest.mark.fault("H22")
@pytest.mark.parametrize("part", ["", "snapshots"])
def test_h22_a_repository_that_lies_elsewhere_must_be_allowed(cache: TinyCache, tmp_path: Path, part: str) -> None:
    cache.add(REPO, model_files())
    moved = cache.folder(REPO) / part
    shutil.move(moved, tmp_path / "elsewhere")
    moved.symlink_to(tmp_path / "elsewhere")
    assert "link" in reason(cache) or "leads out" in reason(cache)
    if not part:
        allowed = LocalArtifacts(str(cache.root), roots=[str(tmp_path / "elsewhere")]).look([REFERENCE])
        answer = allowed[REFERENCE]
        assert isinstance(answer, Present)
        assert answer.value.path.startswith(str(tmp_path / "elsewhere" / "snapshots"))


@pytest.mark.fault("H22")
def test_h22_a_snapshot_that_is_a_link_is_not_followed(cache: TinyCache, tmp_path: Path) -> None:
    commit = cache.add(REPO, model_files())
    shutil.move(cache.snapshot(REPO, commit), tmp_path / "moved")
    cache.snapshot(REPO, commit).symlink_to(tmp_path / "moved")
    assert "is a link" in reason(cache)


def test_a_blob_in_the_store_that_repositories_share_is_inside(cache: TinyCache) -> None:
    commit = cache.add(REPO, model_files())
    blob = cache.blob(REPO, commit, "model.safetensors")
    shared = cache.root / "blobs" / "ab"
    shared.mkdir(parents=True)
    shutil.move(blob, shared / f"ab{'c' * 62}")
    blob.symlink_to(f"../../blobs/ab/ab{'c' * 62}")
    assert artifact(cache).complete


def test_a_file_with_two_names_is_counted_once(cache: TinyCache) -> None:
    files = model_files()
    cache.add(REPO, files | {"copy.json": files["config.json"]})
    assert artifact(cache).disk_bytes == sum(len(content) for content in files.values())


def test_what_the_configuration_says_of_its_context(cache: TinyCache) -> None:
    assert cache.add(REPO, model_files())
    assert artifact(cache).context_window is None
    config = json.dumps({**CONFIG, "max_position_embeddings": 40_960}).encode()
    cache.add(REPO, model_files() | {"config.json": config})
    assert artifact(cache).context_window == 40_960


def test_files_without_links_are_files(cache: TinyCache) -> None:
    """Where a file system has no links the library copies."""
    commit = cache.add(REPO, {})
    write_folder(cache.snapshot(REPO, commit), model_files(shards=3))
    assert artifact(cache).complete


def test_a_whole_cache_behind_a_link(cache: TinyCache, tmp_path: Path) -> None:
    cache.add(REPO, model_files())
    (tmp_path / "link").symlink_to(cache.root)
    assert artifact(TinyCache(tmp_path / "link")).complete


def test_a_failure_to_look_is_unknown(cache: TinyCache) -> None:
    cache.root.mkdir()
    cache.folder(REPO).write_bytes(b"a file")
    assert "Not a directory" in reason(cache)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become nobody")
def test_what_may_not_be_read_is_unknown(cache: TinyCache) -> None:
    cache.add(REPO, model_files())
    os.seteuid(65_534)
    try:
        assert "Permission denied" in reason(cache)
    finally:
        os.seteuid(0)


@pytest.mark.fault("H09")
def test_h09_a_volume_that_is_not_mounted_is_unknown() -> None:
    cache = TinyCache(Path("/mnt/reconciler-test-no-such-volume/hub"))
    assert "is the volume mounted?" in reason(cache)
    assert "is the volume mounted?" in reason(cache, f"{cache.root}/model")


def test_a_plain_folder(tmp_path: Path, cache: TinyCache) -> None:
    folder = tmp_path / "model"
    write_folder(folder, model_files(shards=3))
    found = artifact(cache, str(folder))
    assert found.path == str(folder)
    assert found.complete
    assert found.identity.startswith("files:")
    assert artifact(cache, str(folder)) == found


def test_the_identity_of_a_plain_folder_is_that_of_what_is_loaded(tmp_path: Path, cache: TinyCache) -> None:
    folder = tmp_path / "model"
    write_folder(folder, model_files())
    before = artifact(cache, str(folder)).identity
    (folder / "README.md").write_text("another readme")
    assert artifact(cache, str(folder)).identity == before
    os.utime(folder / "model.safetensors", ns=(1, 1))
    assert artifact(cache, str(folder)).identity != before


def test_other_paths(tmp_path: Path, cache: TinyCache) -> None:
    assert observed(cache, str(tmp_path / "none")) == Absent()
    (tmp_path / "file").write_bytes(b"")
    assert not artifact(cache, str(tmp_path / "file")).shaped
    (tmp_path / "empty").mkdir()
    assert artifact(cache, str(tmp_path / "empty")).missing == (
        "config.json",
        "model*.safetensors",
        "tokenizer.json",
    )


@pytest.mark.fault("H22")
def test_h22_a_plain_folder_may_link_into_the_cache_and_nowhere_else(tmp_path: Path, cache: TinyCache) -> None:
    commit = cache.add(REPO, model_files())
    folder = tmp_path / "linked"
    folder.mkdir()
    for file in cache.snapshot(REPO, commit).iterdir():
        (folder / file.name).symlink_to(file)
    assert artifact(cache, str(folder)).complete
    (folder / "evil.json").symlink_to("/etc/passwd")
    assert artifact(cache, str(folder)).missing == ("evil.json (leads out of the model cache)",)


def test_nothing_else_of_the_cache_is_read_and_nothing_is_written(cache: TinyCache) -> None:
    cache.add(REPO, model_files())
    other = cache.root / "models--other--model"
    other.symlink_to("/dev/full")
    before = sorted((str(path), path.lstat().st_mtime_ns) for path in cache.root.rglob("*"))
    assert artifact(cache).complete
    assert sorted((str(path), path.lstat().st_mtime_ns) for path in cache.root.rglob("*")) == before


@pytest.mark.req("S4-43")
@pytest.mark.parametrize(
    ("environ", "root"),
    [
        ({}, "{home}/.cache/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
        ({"HF_HOME": "/h", "XDG_CACHE_HOME": "/x"}, "/h/hub"),
        ({"HUGGINGFACE_HUB_CACHE": "/old", "HF_HOME": "/h"}, "/old"),
        ({"HF_HUB_CACHE": "/c", "HUGGINGFACE_HUB_CACHE": "/old", "HF_HOME": "/h"}, "/c"),
        ({"HF_HUB_CACHE": "~/c"}, "{home}/c"),
        ({"HF_HUB_CACHE": "", "HF_HOME": "/h"}, "/h/hub"),
    ],
)
def test_the_cache_root(environ: dict[str, str], root: str) -> None:
    assert cache_root(environ) == root.format(home=os.path.expanduser("~"))


@pytest.mark.req("S4-43")
def test_hf_hub_cache_wins_over_hf_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    TinyCache(tmp_path / "home" / "hub").add(REPO, model_files(length=32))
    chosen = TinyCache(tmp_path / "chosen").add(REPO, model_files(length=64))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "chosen"))
    answer = LocalArtifacts().look([REFERENCE])[REFERENCE]
    assert isinstance(answer, Present)
    assert answer.value.identity == chosen


def test_the_library_reads_the_cache_that_these_tests_write(cache: TinyCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """The layout is huggingface_hub's own: it finds every snapshot, file and size."""
    scan: Callable[..., object] = pytest.importorskip("huggingface_hub").scan_cache_dir
    commit = cache.add(REPO, model_files(shards=3))
    report = scan(cache.root)
    (repo,) = report.repos  # type: ignore[attr-defined]
    (revision,) = repo.revisions
    assert (repo.repo_id, revision.commit_hash, set(revision.refs)) == (REPO, commit, {"main"})
    assert {file.file_name for file in revision.files} == set(model_files(shards=3))


@pytest.mark.req("S1-09")
def test_a_plan_launches_the_snapshot_that_the_ref_names_and_not_the_newest(tmp_path: Path) -> None:
    (tmp_path / "host.yaml").write_text(HOST)
    (tmp_path / "host.yaml").chmod(0o600)
    home = Home(tmp_path)
    cache = TinyCache(home.hub)
    older = cache.add("acme/fast", model_files(length=32), ref="main")
    newer = cache.add("acme/fast", model_files(length=64), ref=None)
    os.utime(cache.snapshot("acme/fast", older), (1, 1))
    home.write(state(free_port()))
    planned = home.run("plan", "-o", "json")
    (argv,) = (action["argv"] for action in json.loads(planned.out)["actions"] if action["kind"] == "launch")
    assert f"--model={cache.snapshot('acme/fast', older)}" in argv
    assert newer not in planned.out


# ------------------------------------------------------------------------------------------------------ looks at a part


def test_a_look_at_a_part_makes_the_next_one_no_slower(cache: TinyCache) -> None:
    """What was remembered of everything else was dropped, and all of it read again."""
    others = [f"org/m{number}@main" for number in range(3)]
    for name in others:
        cache.add(name.removesuffix("@main"), model_files())
    looking = LocalArtifacts(str(cache.root))
    looking.look(others)
    before, read = looking.look(others), dict(looking.memory)
    assert looking.look_again(others[:1]) == {others[0]: before[others[0]]}
    assert looking.memory == read
    after = looking.look(others)
    assert all(after[name] is before[name] for name in others)
    assert looking.memory == read


def test_what_a_look_at_a_part_sees_is_what_is_there(cache: TinyCache) -> None:
    cache.add(REPO, model_files())
    looking = LocalArtifacts(str(cache.root))
    [before] = looking.look([REFERENCE]).values()
    assert isinstance(before, Present)
    (Path(before.value.path) / "config.json").unlink()
    [after] = looking.look_again([REFERENCE]).values()
    assert after == LocalArtifacts(str(cache.root)).look([REFERENCE])[REFERENCE] != before
