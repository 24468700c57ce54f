"""Models of other programs: found where the cache has none, and only ever read."""

import os
import shutil
from pathlib import Path

import pytest

from reconciler.adapters.cache.hf_cache import LocalArtifacts
from reconciler.model.observed import Absent, Artifact, Observation, Present, Unknown
from tests.adapters.looking import REFERENCE, REPO
from tests.adapters.verifying import Checked, flip
from tests.programs.tiny_cache import TinyCache, model_files, write_folder


@pytest.fixture
def studio(tmp_path: Path) -> Path:
    """LM Studio's folder of models."""
    folder = tmp_path / ".lmstudio" / "models"
    folder.mkdir(parents=True)
    return folder


def look(cache: TinyCache, *folders: Path, reference: str = REFERENCE) -> Observation[Artifact]:
    return LocalArtifacts(str(cache.root), folders=[str(folder) for folder in folders]).look([reference])[reference]


def found(cache: TinyCache, *folders: Path, reference: str = REFERENCE) -> Artifact:
    answer = look(cache, *folders, reference=reference)
    assert isinstance(answer, Present), answer
    return answer.value


def state(folder: Path) -> list[tuple[str, int, int]]:
    return sorted((str(path), path.lstat().st_mtime_ns, path.lstat().st_mode) for path in folder.rglob("*"))


@pytest.mark.req("S2-52")
def test_a_model_of_lm_studio_is_found_and_nothing_is_written(cache: TinyCache, studio: Path) -> None:
    write_folder(studio / REPO, model_files(shards=3))
    before = state(studio)
    artifact = found(cache, studio)
    assert (artifact.path, artifact.read_only, artifact.verdict) == (str(studio / REPO), True, "complete")
    assert artifact.sound  # nobody has promised anything
    assert artifact.identity.startswith("files:")
    assert found(cache, studio).identity == artifact.identity
    assert state(studio) == before
    assert not cache.root.exists()
    os.utime(studio / REPO / "config.json", ns=(1, 1))
    assert found(cache, studio).identity != artifact.identity


def test_the_cache_goes_first(cache: TinyCache, studio: Path) -> None:
    write_folder(studio / REPO, model_files())
    commit = cache.add(REPO, model_files())
    artifact = found(cache, studio)
    assert (artifact.identity, artifact.read_only) == (commit, False)


def test_a_folder_without_commits_has_only_the_default_revision(cache: TinyCache, studio: Path) -> None:
    write_folder(studio / REPO, model_files())
    for revision in ("v2", "refs/pr/1", "a" * 40):
        assert look(cache, studio, reference=f"{REPO}@{revision}") == Absent()


def test_another_cache_is_found_with_its_commits_and_promises(cache: TinyCache, tmp_path: Path) -> None:
    other = TinyCache(tmp_path / "other" / "hub")
    commit = other.add(REPO, model_files())
    before = state(other.root)
    artifact = found(cache, other.root)
    assert (artifact.identity, artifact.read_only) == (commit, True)
    assert artifact.path == str(other.snapshot(REPO, commit))
    assert found(cache, other.root, reference=f"{REPO}@{commit}") == artifact
    assert artifact.verdict == "not verified"
    checked = Checked(cache.root, tmp_path / "state", folders=[str(other.root)])
    assert checked.verify() == ()
    assert checked.artifact().sound
    assert state(other.root) == before


def test_what_is_partial_or_corrupt_there_cannot_be_mended_and_counts_as_absent(
    cache: TinyCache, studio: Path, tmp_path: Path
) -> None:
    write_folder(studio / REPO, {"model.gguf": b"GGUF", "config.json": b"{}"})
    assert look(cache, studio) == Absent()
    other = TinyCache(tmp_path / "other")
    commit = other.add(REPO, model_files())
    assert found(cache, studio, other.root).identity == commit
    checked = Checked(cache.root, tmp_path / "state", folders=[str(studio), str(other.root)])
    flip(other.blob(REPO, commit, "model.safetensors"))
    assert checked.verify() == ("model.safetensors",)
    assert checked.local.look([REFERENCE]) == {REFERENCE: Absent()}


@pytest.mark.fault("H20")
def test_h20_letters_count_also_where_a_file_system_takes_any_case(cache: TinyCache, studio: Path) -> None:
    """On macOS the folder of another spelling opens; what is listed decides."""
    owner, name = REPO.split("/")
    write_folder(studio / owner.upper() / name, model_files())
    (studio / owner).symlink_to(studio / owner.upper())
    assert found(cache, studio).complete
    (studio / owner).unlink()
    assert look(cache, studio) == Absent()
    write_folder(studio / owner / name.lower(), model_files())
    assert look(cache, studio) == Absent()


@pytest.mark.fault("H22")
@pytest.mark.parametrize("part", ["file", "model", "owner"])
def test_h22_links_may_not_lead_out_of_the_folder(cache: TinyCache, studio: Path, tmp_path: Path, part: str) -> None:
    """Not into the main cache either: whoever can write the one cannot speak for the other."""
    folder = studio / REPO
    write_folder(folder, model_files())
    inside = {"file": folder / "model.safetensors", "model": folder, "owner": folder.parent}[part]
    cache.root.mkdir()
    target = cache.root / "elsewhere"
    shutil.move(inside, target)
    inside.symlink_to(target)
    assert look(cache, studio) == Absent()
    inside.unlink()
    shutil.move(target, studio / "kept")
    inside.symlink_to(studio / "kept")
    assert found(cache, studio).complete


@pytest.mark.fault("H07")
def test_h07_a_broken_ref_of_another_program_hides_nothing(cache: TinyCache, studio: Path, tmp_path: Path) -> None:
    other = TinyCache(tmp_path / "other")
    other.add(REPO, model_files())
    other.point(REPO, "main", "../..")
    assert look(cache, other.root) == Absent()
    write_folder(studio / REPO, model_files())
    assert found(cache, other.root, studio).read_only


@pytest.mark.fault("H09")
def test_h09_a_folder_on_a_volume_that_is_not_mounted_is_unknown(cache: TinyCache, studio: Path) -> None:
    gone = Path("/mnt/reconciler-test-no-such-volume/models")
    answer = look(cache, gone)
    assert isinstance(answer, Unknown)
    assert "is the volume mounted?" in answer.reason
    write_folder(studio / REPO, model_files())
    assert found(cache, gone, studio).read_only


def test_a_folder_that_is_not_there_has_nothing(cache: TinyCache, tmp_path: Path) -> None:
    assert look(cache, tmp_path / "none") == Absent()
    (tmp_path / "mlx-community").write_bytes(b"a file")
    assert look(cache, tmp_path) == Absent()


def test_only_the_declared_names_are_looked_at(cache: TinyCache, studio: Path) -> None:
    write_folder(studio / REPO, model_files())
    (studio / "other").symlink_to("/dev/full")
    (studio / REPO).parent.joinpath("broken").symlink_to("nowhere")
    assert found(cache, studio).complete
