"""A cache is read whole and compared with what was promised before anything of it is served, once."""

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from reconciler.adapters.cache.digests import Digests
from reconciler.adapters.cache.hf_cache import LocalArtifacts
from tests.adapters.looking import REFERENCE, REPO
from tests.adapters.verifying import Checked, flip, git_name, promise_of, run
from tests.programs.tiny_cache import TinyCache, model_files, truncate

WEIGHTS = "model.safetensors"
SECOND = "model-00002-of-00004.safetensors"
THIRD = "model-00003-of-00004.safetensors"


@pytest.fixture
def checked(cache: TinyCache, tmp_path: Path) -> Checked:
    return Checked(cache.root, tmp_path / "state")


# ------------------------------------------------------------------------------------------------------- verdicts


def test_what_was_not_read_is_not_verified_and_then_complete(cache: TinyCache, checked: Checked) -> None:
    files = model_files(shards=4)
    cache.add(REPO, files)
    loaded = sum(len(content) for name, content in files.items() if name != "README.md")
    before = checked.artifact()
    assert (before.verdict, before.unverified, before.complete, before.sound) == ("not verified", loaded, True, False)
    assert checked.verify() == ()
    after = checked.artifact()
    assert (after.verdict, after.unverified, after.sound) == ("complete", 0, True)
    assert checked.told[-1] == (loaded, loaded)


@pytest.mark.fault("H05")
def test_h05_a_flipped_byte_is_corrupt(cache: TinyCache, checked: Checked) -> None:
    commit = cache.add(REPO, model_files())
    flip(cache.blob(REPO, commit, WEIGHTS))
    assert checked.artifact().complete  # nothing but its content is wrong
    assert checked.verify() == (WEIGHTS,)
    found = checked.artifact()
    assert (found.verdict, found.corrupt, found.complete) == (f"corrupt ({WEIGHTS})", (WEIGHTS,), False)
    assert found.unverified == 0


@pytest.mark.fault("H05")
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_h05_a_flipped_byte_of_a_small_file_is_corrupt(cache: TinyCache, checked: Checked, name: str) -> None:
    content = model_files()
    commit = cache.add(REPO, content)
    blob = cache.blob(REPO, commit, name)
    blob.write_bytes(content[name].replace(b": ", b":\t", 1))
    assert checked.verify() == (name,)
    assert checked.artifact().corrupt == (name,)


@pytest.mark.fault("H05")
def test_h05_weights_that_were_zeroed_are_corrupt(cache: TinyCache, checked: Checked) -> None:
    commit = cache.add(REPO, model_files(shards=4))
    blob = cache.blob(REPO, commit, SECOND)
    blob.write_bytes(bytes(blob.stat().st_size))
    assert checked.artifact().verdict == "partial (3 of 4 shards)"
    assert checked.verify() == (SECOND,)
    assert checked.artifact().verdict == f"corrupt ({SECOND})"


@pytest.mark.fault("H04")
def test_h04_a_weight_file_that_was_cut_is_no_whole_shard(cache: TinyCache, checked: Checked) -> None:
    commit = cache.add(REPO, model_files(shards=4))
    truncate(cache.blob(REPO, commit, SECOND), 1)
    assert checked.artifact().verdict == "partial (3 of 4 shards)"
    assert checked.verify() == (SECOND,)


@pytest.mark.fault("H02", "H03")
def test_h03_shards_that_are_not_there_are_counted(cache: TinyCache, checked: Checked) -> None:
    files = model_files(shards=4)
    cache.add(REPO, {name: text for name, text in files.items() if name not in {SECOND, THIRD}})
    assert checked.artifact().verdict == "partial (2 of 4 shards)"
    commit = cache.add(REPO, files)
    for name in (SECOND, THIRD, "model-00004-of-00004.safetensors"):
        cache.blob(REPO, commit, name).unlink()
    assert checked.artifact().verdict == "partial (1 of 4 shards)"


@pytest.mark.fault("H01")
def test_h01_a_link_to_an_unfinished_blob_is_no_shard(cache: TinyCache, checked: Checked) -> None:
    commit = cache.add(REPO, model_files())
    link = cache.snapshot(REPO, commit) / WEIGHTS
    cache.blob(REPO, commit, WEIGHTS).rename(cache.folder(REPO) / "blobs" / "abc.1.incomplete")
    link.unlink()
    link.symlink_to("../../blobs/abc.1.incomplete")
    found = checked.artifact()
    assert (found.verdict, found.missing) == (f"partial ({WEIGHTS})", (f"{WEIGHTS} (not finished)",))


def test_a_file_that_is_not_there_is_partial(cache: TinyCache, checked: Checked) -> None:
    files = model_files()
    del files["config.json"]
    cache.add(REPO, files)
    assert checked.artifact().verdict == "partial (config.json)"


def test_what_was_written_through_a_link_is_read_again(cache: TinyCache, checked: Checked) -> None:
    commit = cache.add(REPO, model_files())
    assert checked.verify() == ()
    assert checked.artifact().sound
    flip(cache.snapshot(REPO, commit) / WEIGHTS)
    assert checked.artifact().unverified == cache.blob(REPO, commit, WEIGHTS).stat().st_size
    assert checked.verify() == (WEIGHTS,)
    assert checked.artifact().verdict == f"corrupt ({WEIGHTS})"


def test_links_that_were_swapped_are_found_by_the_listing(cache: TinyCache, checked: Checked) -> None:
    """Each blob has the content of its own name; only the listing knows which file it should be."""
    files = model_files(shards=4)
    commit = cache.add(REPO, files)
    write_listing(cache, commit, files)
    assert checked.verify() == ()
    assert checked.artifact().sound
    one, other = (cache.snapshot(REPO, commit) / name for name in (SECOND, THIRD))
    targets = one.readlink(), other.readlink()
    for link, target in zip((one, other), reversed(targets), strict=True):
        link.unlink()
        link.symlink_to(target)
    found = checked.artifact()
    assert found.verdict == f"corrupt ({SECOND}, {THIRD})"
    assert found.unverified == 0


def test_blobs_that_were_swapped_are_found_by_their_names(cache: TinyCache, checked: Checked) -> None:
    commit = cache.add(REPO, model_files(shards=4))
    one, other = (cache.blob(REPO, commit, name) for name in (SECOND, THIRD))
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    assert checked.verify() == (SECOND, THIRD)
    assert checked.artifact().verdict == f"corrupt ({SECOND}, {THIRD})"


def test_a_blob_of_the_shared_store_is_compared_with_the_name_of_the_link(cache: TinyCache, checked: Checked) -> None:
    """The store names its files by Xet hash (huggingface_hub 2.4), which is 64 digits too and no SHA-256."""
    commit = cache.add(REPO, model_files())
    blob, xet = cache.blob(REPO, commit, WEIGHTS), "ab" + "c" * 62
    shared = cache.root / "blobs" / "ab" / xet
    shared.parent.mkdir(parents=True)
    blob.rename(shared)
    blob.symlink_to(f"../../blobs/ab/{xet}")
    assert checked.verify() == ()
    assert checked.artifact().verdict == "complete"
    flip(shared)
    assert checked.verify() == (WEIGHTS,)


def test_a_small_file_is_named_by_git(cache: TinyCache, checked: Checked) -> None:
    files = model_files()
    commit = cache.add(REPO, files)
    for name in ("config.json", "tokenizer.json"):
        link, blob = cache.snapshot(REPO, commit) / name, cache.blob(REPO, commit, name)
        blob.rename(blob.with_name(git_name(files[name])))
        link.unlink()
        link.symlink_to(f"../../blobs/{git_name(files[name])}")
    assert checked.verify() == ()
    assert checked.artifact().sound
    config = cache.blob(REPO, commit, "config.json")
    assert len(config.name) == 40
    config.write_bytes(files["config.json"].replace(b": ", b":\t", 1))
    assert checked.verify() == ("config.json",)


def test_git_calls_a_file_as_these_tests_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content\n")
    said = subprocess.run(["git", "hash-object", tmp_path / "file"], check=True, capture_output=True, text=True)
    assert said.stdout.strip() == git_name(b"content\n")


def test_files_without_links_are_promised_by_the_listing(cache: TinyCache, checked: Checked) -> None:
    files = model_files()
    commit = cache.add(REPO, {})
    for name, content in files.items():
        (cache.snapshot(REPO, commit) / name).write_bytes(content)
    assert checked.artifact().verdict == "complete"  # nothing was promised
    write_listing(cache, commit, files)
    assert checked.artifact().verdict == "not verified"
    assert checked.verify() == ()
    flip(cache.snapshot(REPO, commit) / "tokenizer.json", at=2)
    flip(cache.snapshot(REPO, commit) / WEIGHTS)
    assert checked.verify() == (WEIGHTS, "tokenizer.json")


def test_without_a_memory_nothing_is_verified(cache: TinyCache, checked: Checked) -> None:
    cache.add(REPO, model_files())
    checked.verify()
    answer = LocalArtifacts(str(cache.root)).look([REFERENCE])[REFERENCE]
    assert answer.value.unverified > 0  # type: ignore[union-attr]


def test_a_snapshot_may_be_named_by_its_folder(cache: TinyCache, checked: Checked) -> None:
    commit = cache.add(REPO, model_files())
    assert checked.local.promises(str(cache.snapshot(REPO, commit))) == checked.local.promises(REFERENCE)
    assert checked.local.promises("other/model@main") == ()


# -------------------------------------------------------------------------------------------- what is remembered


def test_a_second_verification_reads_nothing_and_writes_nothing(cache: TinyCache, checked: Checked) -> None:
    cache.add(REPO, model_files(shards=3))
    checked.verify()
    database = checked.digests.path
    before = database.read_bytes(), database.stat().st_mtime_ns
    for _ in range(2):
        assert checked.verify() == ()
        assert checked.artifact().sound
        assert checked.told == []
    assert (database.read_bytes(), database.stat().st_mtime_ns) == before


def test_only_what_changed_is_read_again(cache: TinyCache, checked: Checked) -> None:
    commit = cache.add(REPO, model_files(shards=3))
    checked.verify()
    blob = cache.blob(REPO, commit, "tokenizer.json")
    os.utime(blob, ns=(1, 1))
    size = blob.stat().st_size
    assert checked.artifact().unverified == size
    assert checked.verify() == ()
    assert checked.told[-1] == (size, size)


def test_a_bad_file_is_told_again_without_being_read(cache: TinyCache, checked: Checked) -> None:
    commit = cache.add(REPO, model_files())
    flip(cache.blob(REPO, commit, WEIGHTS))
    assert checked.verify() == (WEIGHTS,)
    assert checked.verify() == (WEIGHTS,)
    assert checked.told == []


def test_another_file_in_its_place_is_read(cache: TinyCache, checked: Checked, tmp_path: Path) -> None:
    """Same size, same time: the inode tells."""
    commit = cache.add(REPO, model_files())
    checked.verify()
    blob = cache.blob(REPO, commit, WEIGHTS)
    status = blob.stat()
    other = tmp_path / "other"
    other.write_bytes(blob.read_bytes())
    flip(other)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(blob)
    assert checked.artifact().verdict == "not verified"
    assert checked.verify() == (WEIGHTS,)


def test_progress_is_told_in_bytes_and_never_goes_back(tmp_path: Path) -> None:
    files = []
    for number, size in enumerate((9 * 2**20, 5 * 2**20 + 3, 0)):
        path = tmp_path / f"{number}"
        path.write_bytes(os.urandom(size))
        files.append(promise_of(path))
    told: list[tuple[int, int]] = []
    assert run(files, Digests(tmp_path / "state"), told) == ()
    total = 14 * 2**20 + 3
    assert {one[1] for one in told} == {total}
    assert [one[0] for one in told] == sorted(one[0] for one in told)
    assert told[-1] == (total, total)
    assert len(told) > 3


def write_listing(cache: TinyCache, commit: str, files: dict[str, bytes]) -> None:
    """As huggingface_hub 2.4 keeps it: the SHA-256 of large files, git's name of small ones."""
    entries = {
        name: {"size": len(content), "blob_id": git_name(content)}
        | ({"lfs_sha256": hashlib.sha256(content).hexdigest()} if name.endswith(".safetensors") else {})
        for name, content in files.items()
    }
    path = cache.folder(REPO) / "trees" / f"{commit}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"format_version": 1, "files": entries}))
