"""What was converted, what was moved away, which volumes are there and what room there is."""

import importlib.metadata
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters.cache.hf_cache import LocalArtifacts
from reconciler.adapters.cache.storage import IDENTITY, built_in_converter
from reconciler.model.host import ColdVolume
from reconciler.model.observed import Absent, ColdCopy, Conversion, Present, Storage, Unknown, Volume
from tests.adapters.looking import REFERENCE, REPO
from tests.adapters.verifying import RECIPE, Checked, flip, receipt, write_conversion
from tests.programs.tiny_cache import TinyCache, model_files, truncate

SOURCE = "some/Base"
BASE = f"{SOURCE}@main"
ID = "0123456789abcdef" * 2
OTHER_COMMIT = "d" * 40
FILES = model_files(shards=2)


def storage(cache: TinyCache, *references: str, **more: Any) -> Storage:
    return LocalArtifacts(str(cache.root), **more).storage(references or (BASE,))


def made(cache: TinyCache, reference: str = BASE) -> tuple[Conversion, ...]:
    return storage(cache, reference).conversions.get(reference, ())


# ------------------------------------------------------------------------------------------------------ conversions


def test_a_conversion_is_found_by_its_receipt_and_verified_like_a_download(cache: TinyCache, tmp_path: Path) -> None:
    folder = write_conversion(cache.root, FILES, made_at=42.5)
    checked = Checked(cache.root, tmp_path / "state")
    (conversion,) = checked.local.storage([BASE]).conversions[BASE]
    assert (conversion.recipe, conversion.made_at) == (RECIPE, 42.5)
    artifact = conversion.artifact
    assert (artifact.identity, artifact.path) == (f"recipe:{RECIPE.key}", str(folder))
    assert (artifact.verdict, artifact.shards, artifact.read_only) == ("not verified", 2, False)
    assert artifact.disk_bytes == sum(path.stat().st_size for path in folder.iterdir())
    assert checked.verify(str(folder)) == ()
    (conversion,) = checked.local.storage([BASE]).conversions[BASE]
    assert conversion.artifact.sound
    assert checked.artifact(str(folder)) == conversion.artifact


@pytest.mark.fault("C02")
def test_c02_a_conversion_that_was_damaged_later_is_corrupt_or_partial(cache: TinyCache, tmp_path: Path) -> None:
    folder = write_conversion(cache.root, FILES)
    checked = Checked(cache.root, tmp_path / "state")
    weights = "model-00001-of-00002.safetensors"
    flip(folder / weights)
    assert checked.verify(str(folder)) == (weights,)
    assert checked.artifact(str(folder)).verdict == f"corrupt ({weights})"
    truncate(folder / "tokenizer.json", 3)
    (folder / weights).unlink()
    (found,) = made(cache)
    assert found.artifact.missing == (weights, "tokenizer.json (15 of 18 bytes)")
    assert found.artifact.verdict == "partial (1 of 2 shards)"


def test_a_file_in_a_folder_of_a_conversion_belongs_to_it(cache: TinyCache) -> None:
    inner = {"extra/notes.json": b"{}"}
    folder = write_conversion(cache.root, FILES)
    (folder / "extra").mkdir()
    (folder / "extra" / "notes.json").write_bytes(b"{}")
    (folder / "receipt.json").write_text(json.dumps(receipt(FILES | inner)))
    assert made(cache)[0].artifact.complete
    (folder / "extra" / "notes.json").unlink()
    assert made(cache)[0].artifact.missing == ("extra/notes.json",)
    (folder / "receipt.json").write_text(json.dumps(receipt(FILES | {"../../config.json": b"{}"})))
    assert made(cache) == ()


@pytest.mark.fault("C01", "C02")
@pytest.mark.parametrize(
    "what", ["no receipt", "half a receipt", "no object", "other recipe", "no files", "bad digest", "hidden", "name"]
)
def test_c02_what_has_no_receipt_of_its_own_is_no_conversion(cache: TinyCache, what: str) -> None:
    folder = write_conversion(cache.root, FILES)
    assert len(made(cache)) == 1
    paper = folder / "receipt.json"
    document = receipt(FILES)
    if what == "no receipt":
        paper.unlink()
    elif what == "half a receipt":
        truncate(paper, 40)
    elif what == "no object":
        paper.write_text("[]")
    elif what == "other recipe":
        paper.write_text(json.dumps(receipt(FILES, replace(RECIPE, arguments=("bits=8",)))))
    elif what == "no files":
        paper.write_text(json.dumps(document | {"files": {}}))
    elif what == "bad digest":
        paper.write_text(json.dumps(document | {"files": {"config.json": {"size": 1, "sha256": "x"}}}))
    elif what == "hidden":
        folder.rename(folder.with_name(f".{folder.name}.converting"))
    else:
        folder.rename(folder.with_name("0" * 16))
    assert made(cache) == ()


def test_conversions_belong_to_the_reference_that_they_were_made_of(cache: TinyCache) -> None:
    eight = replace(RECIPE, arguments=("bits=8",))
    tagged = replace(RECIPE, revision="v2", commit=OTHER_COMMIT)
    for made_at, recipe in ((2.0, RECIPE), (1.0, eight), (3.0, tagged)):
        write_conversion(cache.root, FILES, recipe, made_at=made_at)
    assert [one.recipe for one in made(cache)] == [eight, RECIPE]
    assert [one.recipe for one in made(cache, f"{SOURCE}@v2")] == [tagged]
    assert [one.recipe for one in made(cache, f"{SOURCE}@{OTHER_COMMIT}")] == [tagged]
    assert [one.recipe for one in made(cache, f"{SOURCE}@{RECIPE.commit}")] == [eight, RECIPE]
    assert made(cache, f"{SOURCE}@v3") == made(cache, "some/Other@main") == ()


def test_a_folder_and_a_repository_of_the_same_letters_share_nothing(cache: TinyCache) -> None:
    of_folder = replace(RECIPE, source="/some/Base", revision="", commit="files:0123")
    write_conversion(cache.root, FILES, of_folder)
    assert [one.recipe for one in made(cache, "/some/Base")] == [of_folder]
    assert made(cache) == ()


@pytest.mark.fault("H22")
def test_h22_a_conversion_that_links_elsewhere_is_not_followed(cache: TinyCache, tmp_path: Path) -> None:
    folder = write_conversion(cache.root, FILES)
    shutil.move(folder / "config.json", tmp_path / "config.json")
    (folder / "config.json").symlink_to(tmp_path / "config.json")
    (found,) = made(cache)
    assert found.artifact.missing == ("config.json (leads out of the model cache)",)


def test_a_folder_with_somebody_elses_receipt_has_promised_nothing(cache: TinyCache, tmp_path: Path) -> None:
    """Only below the model cache, where conversions are made, is a receipt one of ours."""
    folder = write_conversion(tmp_path / "other", FILES)
    checked = Checked(cache.root, tmp_path / "state")
    found = checked.artifact(str(folder))
    assert (found.verdict, found.identity.partition(":")[0]) == ("complete", "files")


# ----------------------------------------------------------------------------------------------------- cold storage


def moved(cache: TinyCache, **more: Any) -> None:
    document = {
        "version": 1,
        "volume": "shelf",
        "identity": ID,
        "manifest": "e" * 64,
        "bytes": 1_000,
        "refs": {"main": RECIPE.commit},
        "commits": [RECIPE.commit, OTHER_COMMIT],
        "at": 77.0,
    }
    cache.root.mkdir(exist_ok=True)
    (cache.root / "offloaded--some--Base.json").write_text(json.dumps(document | more))


def shelf(path: Path, identity: str = ID, *, mounted: bool = True) -> ColdVolume:
    path.mkdir(exist_ok=True)
    if mounted:
        (path / IDENTITY).write_text(f"{identity}\n")
    return ColdVolume(path=str(path), id=ID, separate=False)


def test_a_repository_that_was_moved_away_is_absent_and_known_to_be_cold(cache: TinyCache, tmp_path: Path) -> None:
    moved(cache)
    local = LocalArtifacts(str(cache.root), volumes={"shelf": shelf(tmp_path / "shelf")})
    assert local.look([BASE]) == {BASE: Absent()}
    copy = local.storage([BASE]).cold[BASE]
    assert (copy.volume, copy.path) == ("shelf", str(tmp_path / "shelf" / "models--some--Base"))
    assert (copy.bytes, copy.at, copy.artifact.identity) == (1_000, 77.0, RECIPE.commit)
    assert copy.artifact.path == str(cache.folder(SOURCE) / "snapshots" / RECIPE.commit)


def test_the_copy_on_a_volume_that_is_there_says_what_it_is(cache: TinyCache, tmp_path: Path) -> None:
    commit = cache.add(SOURCE, FILES)
    before = LocalArtifacts(str(cache.root)).look([BASE])[BASE]
    assert isinstance(before, Present)
    volume = shelf(tmp_path / "shelf")
    shutil.move(cache.folder(SOURCE), Path(volume.path) / cache.folder(SOURCE).name)
    moved(cache, refs={"main": commit}, commits=[commit])
    copy = storage(cache, volumes={"shelf": volume}).cold[BASE]
    assert replace(copy.artifact, measurable=True) == replace(before.value, unverified=0)
    (Path(volume.path) / IDENTITY).unlink()
    unmounted = storage(cache, volumes={"shelf": volume}).cold[BASE]
    assert (unmounted.artifact.identity, unmounted.artifact.disk_bytes) == (commit, 1_000)


def test_a_repository_that_is_here_is_not_cold(cache: TinyCache) -> None:
    moved(cache)
    cache.folder(SOURCE).mkdir()
    assert storage(cache).cold == {}


def test_only_revisions_that_were_moved_are_cold(cache: TinyCache) -> None:
    moved(cache)
    asked = [f"{SOURCE}@{revision}" for revision in ("main", "v2", OTHER_COMMIT, "e" * 40)]
    cold = storage(cache, *asked, REFERENCE, "/some/Base").cold
    assert {reference: copy.artifact.identity for reference, copy in cold.items()} == {
        BASE: RECIPE.commit,
        f"{SOURCE}@{OTHER_COMMIT}": OTHER_COMMIT,
    }
    assert isinstance(cold[BASE], ColdCopy)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 2}', '{"version": 1, "volume": 3}'])
def test_a_receipt_of_a_move_that_cannot_be_read_is_none(cache: TinyCache, text: str) -> None:
    moved(cache)
    (cache.root / "offloaded--some--Base.json").write_text(text)
    assert storage(cache).cold == {}


# ---------------------------------------------------------------------------------------------------- volumes, room


@pytest.mark.fault("O06", "O08")
def test_o06_a_volume_is_there_when_it_holds_its_identity(cache: TinyCache, tmp_path: Path) -> None:
    volumes = {
        "here": shelf(tmp_path / "here"),
        "unmounted": shelf(tmp_path / "unmounted", mounted=False),
        "gone": ColdVolume(path=str(tmp_path / "gone"), id=ID),
        "other": shelf(tmp_path / "other", "f" * 32),
        "same-disk": replace(shelf(tmp_path / "same"), separate=True),
        "remote": ColdVolume(path="/Volumes/x", id=ID, host="mini.local"),
    }
    found = storage(cache, volumes=volumes).volumes
    room = os.statvfs(tmp_path)
    here = found["here"]
    assert isinstance(here, Present)
    assert here.value == Volume(path=str(tmp_path / "here"), free=here.value.free)
    assert 0 < (here.value.free or 0) <= room.f_blocks * room.f_frsize
    assert [found[name] for name in ("unmounted", "gone", "same-disk")] == [Absent()] * 3
    assert "another volume is mounted" in _reason(found["other"])
    assert "mini.local" in _reason(found["remote"])


def test_a_volume_that_cannot_be_looked_at_is_unknown(cache: TinyCache, tmp_path: Path) -> None:
    folder = tmp_path / "loop"
    folder.symlink_to("loop")
    volume = ColdVolume(path=str(folder), id=ID)
    assert "symbolic links" in _reason(storage(cache, volumes={"loop": volume}).volumes["loop"])


def test_the_room_is_that_of_the_nearest_folder_that_is_there(cache: TinyCache, tmp_path: Path) -> None:
    room = os.statvfs(tmp_path)
    free = storage(cache).free
    assert isinstance(free, Present)
    assert 0 < free.value <= room.f_blocks * room.f_frsize
    assert not cache.root.exists()


@pytest.mark.fault("H09")
def test_h09_the_room_of_a_cache_whose_volume_is_gone_is_unknown() -> None:
    found = storage(TinyCache(Path("/mnt/reconciler-test-no-such-volume/hub")))
    assert isinstance(found.free, Unknown)
    assert "is the volume mounted?" in found.free.reason


def test_the_converter_of_this_environment_is_named_as_its_metadata_do(cache: TinyCache) -> None:
    assert built_in_converter() == f"mlx-lm {importlib.metadata.version('mlx-lm')}"
    assert storage(cache).converter == built_in_converter()
    assert storage(cache, converter=lambda: "").converter == ""
    assert storage(cache).home == str(cache.root)


def test_looking_at_storage_writes_nothing_and_reads_nothing_else(cache: TinyCache) -> None:
    write_conversion(cache.root, FILES)
    cache.add(REPO, model_files())
    (cache.root / "converted--other--model").symlink_to("/dev/full")
    before = sorted((str(path), path.lstat().st_mtime_ns) for path in cache.root.rglob("*"))
    assert set(storage(cache).conversions) == {BASE}
    assert sorted((str(path), path.lstat().st_mtime_ns) for path in cache.root.rglob("*")) == before


def _reason(answer: object) -> str:
    assert isinstance(answer, Unknown), answer
    return answer.reason
