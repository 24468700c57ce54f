"""Whether what a converter has left is what was asked for, by its files and whatever its exit code was.

Facts, of mlx_lm.convert 0.32.2 (facts/backends.md 2): with a group size that divides no layer it ends with 0, writes
`quantization` into the configuration and quantises nothing; a model that has 4 bits keeps them when 8 are asked for.
A quantised layer is a `weight` of U32 with `scales`, and `biases` in mode affine alone: 32 bits of the last axis of
`weight` hold 32 / bits weights, and each of the last axis of `scales` stands for a group.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from reconciler.adapters.cache.found_files import Allowed, files_of
from reconciler.adapters.cache.model_folder import CONFIG, INDEX, Recall, judge
from reconciler.adapters.cache.weights import LENGTH_BYTES, Damaged, read_file

_FORMAT: Final = "mlx"
_PACKED: Final = "U32"
_WORD: Final = 32
_DTYPES: Final = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}
_FLOATS: Final = frozenset(_DTYPES.values())
_QUANTIZING: Final = ("bits", "group_size", "mode")
_AFFINE: Final = "affine"
ENOUGH: Final = 0.5
"""Share of the parameters that must have been quantised. Layers that cannot be are an exception; a group size that
divides hardly any layer leaves far less than this."""
_NAMED: Final = 3


class Tensor(NamedTuple):
    """What a header says of one tensor."""

    dtype: str
    shape: tuple[int, ...]


class Layer(NamedTuple):
    """A weight and how it is kept."""

    name: str
    parameters: int
    settings: Mapping[str, Any] | None
    """`bits`, `group_size` and `mode`; None: it is not quantised."""


def flaw(folder: str, settings: Sequence[str], source: str) -> str:
    """What is wrong with a result, in one phrase; empty: it is whole, and what was asked for.

    `settings` are those of the recipe, `source` the folder that was converted. Raises OSError.
    """
    try:
        found = files_of(folder, Allowed(()))
    except FileNotFoundError:
        return "nothing was written"
    judged = judge(found.files, None, Recall())
    missing = [*judged.wrong(), *sorted(found.broken)]
    if missing:
        return f"it is not whole: {', '.join(missing[:_NAMED])}"
    try:
        headers = {
            name: _header(file.path)
            for name, file in found.files.items()
            if name.startswith("model") and name.endswith(".safetensors")
        }
        tensors = {name: tensor for _, held in headers.values() for name, tensor in held.items()}
        said = [f"{name} is not in MLX's format" for name, (kind, _) in headers.items() if kind != _FORMAT]
        if INDEX in found.files:
            said += _contradictions(_document(found.files[INDEX].path), headers)
        if said:
            return min(said)
        config = _document(found.files[CONFIG].path)
        return _unasked(dict(setting.split("=", 1) for setting in settings), config, tensors, source)
    except (Damaged, LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        return f"its configuration, index or headers make no sense ({type(error).__name__}: {error})"


def _contradictions(index: Mapping[str, Any], headers: Mapping[str, tuple[str, Mapping[str, Tensor]]]) -> Iterator[str]:
    """Tensors that are not in the file in which the index has them, or that it does not know."""
    held = {(tensor, name) for name, (_, tensors) in headers.items() for tensor in tensors}
    for tensor, name in sorted(held ^ set(index["weight_map"].items())):
        yield f"{name} and the index do not agree about {tensor}"


# -------------------------------------------------------------------------------------------------------- quantisation


def _unasked(asked: Mapping[str, str], config: Mapping[str, Any], tensors: Mapping[str, Tensor], source: str) -> str:
    """What differs from the settings that were asked for; what was not asked for may be as it likes."""
    wanted = {name: asked[name] for name in _QUANTIZING if name in asked}
    quantization = config.get("quantization")
    if wanted and not isinstance(quantization, dict):
        return f"{_told(wanted)} was asked for, and it is not quantised"
    quantization = quantization if isinstance(quantization, dict) else {}
    layers = list(_layers(tensors, quantization))
    if wrong := next((layer.name for layer in layers if not _fits(layer, tensors)), ""):
        return f"its configuration and its weights do not agree about {wrong}"
    if wanted and (said := _unquantized(wanted, quantization, layers, source)):
        return said
    return _other_type(asked.get("dtype"), tensors)


def _unquantized(
    wanted: Mapping[str, str], quantization: Mapping[str, Any], layers: Sequence[Layer], source: str
) -> str:
    total = sum(layer.parameters for layer in layers)
    done = sum(layer.parameters for layer in layers if layer.settings is not None)
    if done < ENOUGH * total:
        share = f"{100 * done // max(total, 1)} % of its weights are" if done else "none of its weights is"
        return f"{_told(wanted)} was asked for, and {share} quantised: its layers cannot be divided into such groups"
    if _is(wanted, quantization):
        return ""
    # What came quantised stays as it was. That is what was asked for only where the rest was quantised as asked.
    mixed = any(layer.settings is not None and _is(wanted, layer.settings) for layer in layers)
    if mixed and _was_quantized(source):
        return ""
    came = {name: str(quantization.get(name, _AFFINE if name == "mode" else "unknown")) for name in wanted}
    return f"{_told(wanted)} was asked for, and {_told(came)} came"


def _other_type(wanted: str | None, tensors: Mapping[str, Tensor]) -> str:
    if wanted is None:
        return ""
    sizes: dict[str, int] = {}
    for tensor in tensors.values():
        if tensor.dtype in _FLOATS:
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + math.prod(tensor.shape)
    if sizes.get(_DTYPES[wanted], 0) >= ENOUGH * sum(sizes.values()):
        return ""
    return f"dtype={wanted} was asked for, and {max(sizes, key=lambda dtype: sizes[dtype])} came"


def _layers(tensors: Mapping[str, Tensor], quantization: Mapping[str, Any]) -> Iterator[Layer]:
    """Every weight; scales and biases belong to theirs."""
    for name, tensor in tensors.items():
        path, _, last = name.rpartition(".")
        packed = tensors.get(f"{path}.weight")
        if last in {"scales", "biases", "global_scale"} and packed is not None and packed.dtype == _PACKED:
            continue
        if last == "weight" and tensor.dtype == _PACKED and f"{path}.scales" in tensors:
            own = quantization.get(path)
            settings = own if isinstance(own, dict) else quantization
            settings = {"mode": _AFFINE} | {key: settings[key] for key in _QUANTIZING if key in settings}
            packs = math.prod(tensor.shape) * _WORD // settings["bits"]
            yield Layer(path, packs, settings)
        else:
            yield Layer(name, math.prod(tensor.shape), None)


def _fits(layer: Layer, tensors: Mapping[str, Tensor]) -> bool:
    """Whether the shapes of a layer are what its settings say."""
    if layer.settings is None:
        return True
    weight, scales = tensors[f"{layer.name}.weight"].shape, tensors[f"{layer.name}.scales"].shape
    affine = f"{layer.name}.biases" in tensors
    return (
        weight[:-1] == scales[:-1]
        and weight[-1] * _WORD == scales[-1] * layer.settings["group_size"] * layer.settings["bits"]
        and affine == (layer.settings["mode"] == _AFFINE)
    )


def _is(wanted: Mapping[str, str], settings: Mapping[str, Any]) -> bool:
    return all(str(settings.get(name, _AFFINE if name == "mode" else None)) == wanted[name] for name in wanted)


def _was_quantized(source: str) -> bool:
    config = _document(f"{source}/{CONFIG}")
    return isinstance(config.get("quantization") or config.get("quantization_config"), dict)


def _told(settings: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items())


# ---------------------------------------------------------------------------------------------------------------- files


def _header(path: str) -> tuple[str, dict[str, Tensor]]:
    """Format and tensors of a file whose header was found sound. Raises OSError, ValueError."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        header = json.loads(file.read(length))
    kind = (header.pop("__metadata__", None) or {}).get("format", "")
    return kind, {name: Tensor(said["dtype"], tuple(said["shape"])) for name, said in header.items()}


def _document(path: str) -> dict[str, Any]:
    document = json.loads(read_file(path))
    if not isinstance(document, dict):
        raise Damaged(f"{path} is no JSON object")
    return document
