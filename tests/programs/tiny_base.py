"""Writes the repository of a tiny base model, as its author would publish it: not yet written for MLX.

    python tiny_base.py FOLDER --reply TEXT --dtype float16 --family qwen3 --shards 2

It is the model of `reconciler/programs/tiny_model.py` with the traits of a base: weights in bfloat16, float16 or
float32, `{"format": "pt"}` in their headers, as transformers writes it, and an index only where there are several.
It says its reply word for word before a conversion and after every one, because only +1, -1 and 0 count in it.
"""

import argparse
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from reconciler.programs.tiny_model import REPLY, write_model

WEIGHTS: Final = "model.safetensors"
INDEX: Final = f"{WEIGHTS}.index.json"
CONFIG: Final = "config.json"
_DTYPES: Final = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
_FAMILIES: Final = {"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}

Tensors = dict[str, tuple[list[int], bytes]]
"""Name -> shape, and values in bfloat16."""


def write_base(
    folder: Path, reply: str = REPLY, *, dtype: str = "bfloat16", family: str = "llama", shards: int = 1, seed: int = 0
) -> None:
    """Put the base model into a folder, which need not exist."""
    write_model(folder, reply, seed)
    tensors = _tensors(folder / WEIGHTS)
    for name in (WEIGHTS, INDEX):
        (folder / name).unlink()
    config = json.loads((folder / CONFIG).read_bytes())
    config |= {"architectures": [_FAMILIES[family]], "model_type": family, "torch_dtype": dtype}
    if family == "qwen3":
        tensors |= _head_norms(config)
    (folder / CONFIG).write_text(json.dumps(config, indent=2))
    (folder / "README.md").write_text("---\nlicense: mit\nlibrary_name: transformers\n---\n# A tiny base model\n")
    _write_weights(folder, tensors, dtype, shards)


def change_config(folder: Path, **changes: Any) -> None:
    """Change fields of its configuration."""
    config = json.loads((folder / CONFIG).read_bytes())
    (folder / CONFIG).write_text(json.dumps(config | changes, indent=2))


def _tensors(path: Path) -> Tensors:
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    del header["__metadata__"]
    return {
        name: (said["shape"], content[start + said["data_offsets"][0] : start + said["data_offsets"][1]])
        for name, said in header.items()
    }


def _head_norms(config: dict[str, Any]) -> Tensors:
    """What Qwen3 has more than Llama: a norm for the queries and one for the keys of a layer."""
    size = config["head_dim"]
    ones = struct.pack("<f", 1.0)[2:] * size
    return {
        f"model.layers.{layer}.self_attn.{name}.weight": ([size], ones)
        for layer in range(config["num_hidden_layers"])
        for name in ("q_norm", "k_norm")
    }


def _write_weights(folder: Path, tensors: Tensors, dtype: str, shards: int) -> None:
    names = list(tensors)
    each = -(-len(names) // shards)
    weight_map: dict[str, str] = {}
    for number in range(shards):
        file = WEIGHTS if shards == 1 else f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        part = names[number * each : (number + 1) * each]
        (folder / file).write_bytes(_safetensors({name: tensors[name] for name in part}, dtype))
        weight_map |= dict.fromkeys(part, file)
    if shards > 1:
        size = sum(len(_as(data, dtype)) for _, data in tensors.values())
        (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": size}, "weight_map": weight_map}))


def _safetensors(tensors: Tensors, dtype: str) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    parts, at = [], 0
    for name, (shape, data) in tensors.items():
        parts.append(_as(data, dtype))
        header[name] = {"dtype": _DTYPES[dtype], "shape": shape, "data_offsets": [at, at + len(parts[-1])]}
        at += len(parts[-1])
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(parts)


def _as(data: bytes, dtype: str) -> bytes:
    """Values in bfloat16, which are the upper halves of 32-bit floats, in another type."""
    if dtype == "bfloat16":
        return data
    wide = b"".join(b"\0\0" + data[at : at + 2] for at in range(0, len(data), 2))
    if dtype == "float32":
        return wide
    count = len(data) // 2
    return struct.pack(f"<{count}e", *struct.unpack(f"<{count}f", wide))


def main(arguments: Sequence[str] | None = None) -> None:
    """Write what the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--reply", default=REPLY)
    parser.add_argument("--dtype", choices=_DTYPES, default="bfloat16")
    parser.add_argument("--family", choices=_FAMILIES, default="llama")
    parser.add_argument("--shards", type=int, default=1)
    given = parser.parse_args(arguments)
    write_base(given.folder, given.reply, dtype=given.dtype, family=given.family, shards=given.shards)


if __name__ == "__main__":
    main()
