"""Real conversions by mlx_lm: what is asked for is there, whole, once, and nothing else counts as it."""

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters.cache.hf_cache import LocalArtifacts
from reconciler.adapters.conversion.command import converter_command
from reconciler.model.desired import ModelSpec, Source
from reconciler.model.host import Converter
from reconciler.model.names import PathRef
from reconciler.model.observed import Present
from reconciler.planning import recipes
from tests.programs.tiny_base import change_config, write_base

from .converting import COMMIT, REPO, Converting, receipt_of


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model, in a folder with a blank in its name."""
    folder = tmp_path_factory.mktemp("base") / "a base"
    write_base(folder, shards=2)
    return folder


@pytest.fixture(scope="module")
def four_bits(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Converting, Path]:
    """A conversion to 4 bits, and the folder of its result."""
    work = Converting(tmp_path_factory.mktemp("four"), base)
    return work, work.run(work.order("bits=4"))


@pytest.fixture
def work(base: Path, tmp_path: Path) -> Converting:
    return Converting(tmp_path, base)


def header(folder: Path) -> dict[str, Any]:
    """Header of the weights."""
    content = (folder / "model.safetensors").read_bytes()
    said: dict[str, Any] = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return said


@pytest.mark.req("S1-67", "S1-79")
@pytest.mark.fault("C03")
def test_a_base_is_converted_without_quantisation(work: Converting) -> None:
    source = LocalArtifacts(cache=str(work.hub)).look([str(work.source)])[str(work.source)]
    assert isinstance(source, Present)
    assert source.value.converted is False
    spec = ModelSpec(source=Source(repo=REPO))
    settings = recipes.arguments(spec, PathRef(path=str(work.source)), source.value.converted, Converter())
    assert settings == ()  # so the plan has a conversion, and one without settings

    told: list[tuple[int, int]] = []
    order = work.order()
    work.staging(order).mkdir(parents=True)  # left behind by a killed run; mlx_lm refuses a folder that exists
    (work.staging(order) / "model.safetensors").write_bytes(b"half")
    folder = work.run(order, lambda done, total: told.append((done, total)))

    (made,) = work.made()
    assert (made.recipe, made.artifact.path, made.artifact.complete) == (order.recipe, str(folder), True)
    assert made.artifact.converted
    assert header(folder)["__metadata__"] == {"format": "mlx"}
    assert {tensor["dtype"] for name, tensor in header(folder).items() if name != "__metadata__"} == {"BF16"}
    assert told == sorted(told)
    assert {total for _, total in told} == {300_000}
    assert not work.staging(order).exists()


@pytest.mark.parametrize(
    ("settings", "quantization"),
    [
        (("bits=8", "group_size=32"), {"bits": 8, "group_size": 32, "mode": "affine"}),
        (("mode=mxfp4", "dtype=float16"), {"bits": 4, "group_size": 32, "mode": "mxfp4"}),
    ],
)
@pytest.mark.req("S1-79")
def test_what_was_asked_for_is_what_the_files_hold(
    work: Converting, settings: tuple[str, ...], quantization: dict[str, object]
) -> None:
    folder = work.run(work.order(*settings))
    assert json.loads((folder / "config.json").read_bytes())["quantization"] == quantization
    head = header(folder)["lm_head.weight"]
    assert head["dtype"] == "U32"
    assert head["shape"][1] == 64 * int(str(quantization["bits"])) // 32
    assert [str(path) for path in folder.parent.iterdir() if path.is_dir()] == [str(folder)]


def test_the_receipt_says_how_it_was_made_and_what_it_is(four_bits: tuple[Converting, Path]) -> None:
    work, folder = four_bits
    receipt = receipt_of(folder)
    order = work.order("bits=4")
    assert receipt["recipe"] == {
        "source": REPO,
        "revision": "main",
        "commit": COMMIT,
        "arguments": ["bits=4"],
        "command": [],
        "converter": order.recipe.converter,
    }
    assert receipt["recipe"]["converter"] == receipt["loaded_by"]
    assert receipt["seconds"] > 0
    assert receipt["peak_memory"] > 2**20
    assert abs(receipt["made_at"] - folder.stat().st_mtime) < 3600
    names = {path.name for path in folder.iterdir()} - {"receipt.json"}
    assert receipt["files"] == {
        name: {
            "size": (folder / name).stat().st_size,
            "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest(),
        }
        for name in names
    }


def test_the_same_recipe_makes_the_same_weights(four_bits: tuple[Converting, Path], work: Converting) -> None:
    again = work.run(work.order("bits=4"))
    one, two = (receipt_of(folder)["files"] for folder in (four_bits[1], again))
    assert one["model.safetensors"] == two["model.safetensors"]
    assert again.name == four_bits[1].name


@pytest.mark.parametrize(
    ("settings", "came"),
    [
        # Divides no layer, and mlx_lm ends with 0; divides one of seven, and the configuration says all is well.
        (("group_size=100",), "none of its weights is quantised"),
        (("group_size=128", "bits=4"), "14 % of its weights are quantised"),
    ],
)
@pytest.mark.fault("C07")
def test_a_group_size_that_fits_hardly_any_layer_is_no_quantisation(
    work: Converting, settings: tuple[str, ...], came: str
) -> None:
    error = work.refused(work.order(*settings))
    assert (error.cause, error.permanent) == ("conversion-wrong", True)
    assert came in error.message
    assert "the base weights were kept" in error.message


@pytest.mark.fault("C07")
def test_a_model_that_has_four_bits_already_does_not_count_as_one_of_eight(
    four_bits: tuple[Converting, Path], work: Converting
) -> None:
    work.source = work.folder / "four"
    shutil.copytree(four_bits[1], work.source)
    error = work.refused(work.order("bits=8"))
    assert (error.cause, error.permanent) == ("conversion-wrong", True)
    assert "bits=8 was asked for, and bits=4 came" in error.message


@pytest.mark.fault("C05")
def test_a_model_that_the_converter_does_not_know_fails_for_good(work: Converting) -> None:
    work.source = work.folder / "weirdo"
    write_base(work.source)
    change_config(work.source, model_type="weirdo")
    before = sorted(path.name for path in work.source.iterdir())
    error = work.refused(work.order("bits=4"))
    assert (error.cause, error.permanent) == ("conversion-failed", True)
    assert "ValueError: Model type weirdo not supported." in error.message
    assert sorted(path.name for path in work.source.iterdir()) == before


@pytest.mark.fault("C10")
def test_code_of_the_model_is_never_run(work: Converting) -> None:
    work.source = work.folder / "with code"
    write_base(work.source)
    ran = work.folder / "ran"
    (work.source / "code.py").write_text(f"open({str(ran)!r}, 'w').close()\n")
    change_config(work.source, model_file="code.py", auto_map={"AutoModel": "code.Model"})
    error = work.refused(work.order("bits=4"))
    assert (error.cause, error.permanent) == ("conversion-failed", True)
    assert not ran.exists()


@pytest.mark.req("S1-79")
@pytest.mark.fault("C10")
def test_the_built_in_command_is_that_of_this_python() -> None:
    work = Converting(Path("/c"), Path("/a b"))
    settings = ("bits=4", "group_size=64", "mode=affine", "dtype=bfloat16")
    words = converter_command(work.order(*settings).recipe, "/a b", "/d e", os.environ)
    start = (sys.executable, "-m", "mlx_lm", "convert", "--hf-path", "/a b", "--mlx-path", "/d e")
    switches = ["-q", "--q-bits", "4", "--q-group-size", "64", "--q-mode", "affine", "--dtype", "bfloat16"]
    assert words == (*start, *switches)
    assert converter_command(work.order("mode=mxfp4").recipe, "/a", "/d", os.environ)[8:] == ("-q", "--q-mode", "mxfp4")
    plain = converter_command(work.order("dtype=float16").recipe, "/a", "/d", os.environ)
    assert plain[8:] == ("--dtype", "float16")
    assert not any("trust" in word for word in (*words, *plain))


def test_another_version_of_the_converter_than_the_planned_one_is_not_run(work: Converting) -> None:
    error = work.refused(work.order(converter="mlx-lm 0.1"))
    assert (error.cause, error.permanent) == ("converter-changed", False)
