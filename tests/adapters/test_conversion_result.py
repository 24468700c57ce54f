"""What a converter has left is judged by its headers, its index and its configuration together."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from reconciler.adapters.conversion.result import flaw

Shape = tuple[str, tuple[int, ...]]
_BYTES: Final = {"U32": 4, "BF16": 2, "F16": 2, "U8": 1}
_FOUR: Final = {"bits": 4, "group_size": 64, "mode": "affine"}
_EIGHT: Final = {"bits": 8, "group_size": 64, "mode": "affine"}
_MXFP4: Final = {"bits": 4, "group_size": 32, "mode": "mxfp4"}


def layer(name: str, settings: Mapping[str, Any], rows: int = 64, columns: int = 64) -> dict[str, Shape]:
    """A quantised layer."""
    groups = (rows, columns // settings["group_size"])
    affine = settings["mode"] == "affine"
    made = {
        f"{name}.weight": ("U32", (rows, columns * settings["bits"] // 32)),
        f"{name}.scales": ("BF16" if affine else "U8", groups),
    }
    return made | ({f"{name}.biases": ("BF16", groups)} if affine else {})


def write(folder: Path, config: dict[str, Any], tensors: Mapping[str, Shape], **index: str) -> str:
    """A model folder; `index` moves tensors to other files in the index."""
    folder.mkdir()
    header: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
    at = 0
    for name, (dtype, shape) in tensors.items():
        size = _BYTES[dtype]
        for length in shape:
            size *= length
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(at))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"} | config))
    (folder / "tokenizer.json").write_text("{}")
    weight_map = dict.fromkeys(tensors, "model.safetensors") | index
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return str(folder)


@pytest.fixture
def base(tmp_path: Path) -> str:
    """A source that is not quantised."""
    return write(tmp_path / "base", {}, {"a.weight": ("BF16", (64, 64))})


def test_layers_that_came_quantised_may_stay_so_where_the_rest_is_as_asked(tmp_path: Path, base: str) -> None:
    tensors = layer("experts", _MXFP4, 640) | layer("head", _EIGHT)
    result = write(tmp_path / "result", {"quantization": _MXFP4 | {"head": _EIGHT}}, tensors)
    source = write(tmp_path / "source", {"quantization_config": {"quant_method": "mxfp4"}}, tensors)
    assert flaw(result, ("bits=8",), source) == ""
    assert flaw(result, ("bits=4",), source) == ""
    assert flaw(result, ("bits=6",), source) == "bits=6 was asked for, and bits=4 came"
    assert flaw(result, ("bits=8",), base) == "bits=8 was asked for, and bits=4 came"


def test_a_mode_that_was_not_asked_for_is_named(tmp_path: Path, base: str) -> None:
    result = write(tmp_path / "result", {"quantization": _MXFP4}, layer("a", _MXFP4))
    assert flaw(result, ("bits=4", "mode=mxfp4"), base) == ""
    said = "bits=4, mode=affine was asked for, and bits=4, mode=mxfp4 came"
    assert flaw(result, ("bits=4", "mode=affine"), base) == said
    assert flaw(result, (), base) == ""


@pytest.mark.parametrize("settings", [_EIGHT, _FOUR | {"group_size": 32}, _FOUR | {"mode": "mxfp4"}])
def test_shapes_that_contradict_the_configuration_are_named(
    tmp_path: Path, base: str, settings: Mapping[str, Any]
) -> None:
    result = write(tmp_path / "result", {"quantization": _FOUR}, layer("a", settings))
    assert flaw(result, (), base) == "its configuration and its weights do not agree about a"


def test_a_quarter_of_the_weights_is_not_enough(tmp_path: Path, base: str) -> None:
    tensors = layer("a", _FOUR) | {"b.weight": ("BF16", (192, 64))}
    result = write(tmp_path / "result", {"quantization": _FOUR}, tensors)
    assert "25 % of its weights are quantised" in flaw(result, ("bits=4",), base)
    tensors = layer("a", _FOUR, 192) | {"b.weight": ("BF16", (64, 64))}
    assert flaw(write(tmp_path / "most", {"quantization": _FOUR}, tensors), ("bits=4",), base) == ""


def test_another_type_than_the_one_asked_for_is_named(tmp_path: Path, base: str) -> None:
    result = write(tmp_path / "result", {}, {"a.weight": ("F16", (64, 64)), "norm.weight": ("BF16", (64,))})
    assert flaw(result, ("dtype=float16",), base) == ""
    assert flaw(result, ("dtype=bfloat16",), base) == "dtype=bfloat16 was asked for, and F16 came"


def test_an_index_that_does_not_fit_its_files_is_named(tmp_path: Path, base: str) -> None:
    tensors: dict[str, Shape] = {"a.weight": ("BF16", (64, 64))}
    more = write(tmp_path / "more", {}, tensors, **{"b.weight": "model.safetensors"})
    assert flaw(more, (), base) == "model.safetensors and the index do not agree about b.weight"
    other = write(tmp_path / "other", {}, tensors, **{"a.weight": "model-00002.safetensors"})
    assert flaw(other, (), base) == "it is not whole: model-00002.safetensors"


def test_a_configuration_that_makes_no_sense_is_a_flaw_and_no_crash(tmp_path: Path, base: str) -> None:
    for number, quantization in enumerate(({"bits": "4"}, {"bits": 0, "group_size": 64}, {}, {"bits": 4, "a": 3})):
        result = write(tmp_path / str(number), {"quantization": quantization}, layer("a", _FOUR))
        assert flaw(result, ("bits=4",), base)
