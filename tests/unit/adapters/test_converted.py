"""Whether the files of a model say that they were written for MLX."""

import json
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters.cache.model_folder import FoundFile, Judged, Recall, judge

LLAMA = {"model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64}
MLX = {"bits": 4, "group_size": 64}


def weights(metadata: dict[str, str] | None, *, first: bool = True) -> bytes:
    tensors: dict[str, Any] = {"w": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}
    about = {} if metadata is None else {"__metadata__": metadata}
    header = json.dumps(about | tensors if first else tensors | about).encode()
    return len(header).to_bytes(8, "little") + header + b"\0" * 4


def judged(folder: Path, config: dict[str, Any], *files: bytes) -> Judged:
    contents = {"config.json": json.dumps(config).encode(), "tokenizer.json": b"{}"}
    contents |= {f"model-{number + 1:05}-of-{len(files):05}.safetensors": file for number, file in enumerate(files)}
    found = {}
    for name, content in contents.items():
        path = folder / name
        path.write_bytes(content)
        status = path.stat()
        found[name] = FoundFile(str(path), (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
    return judge(found, None, Recall())


@pytest.mark.parametrize(
    ("config", "metadata", "expected"),
    [
        pytest.param({}, {"format": "mlx"}, True, id="written by mlx"),
        pytest.param({}, {"format": "pt"}, False, id="written by transformers"),
        pytest.param({}, None, None, id="no metadata"),
        pytest.param({}, {}, None, id="empty metadata"),
        pytest.param({}, {"total_size": "4"}, None, id="metadata about something else"),
        pytest.param(
            {}, {"note": '"__metadata__": {"format": "mlx"}', "format": "pt"}, False, id="a note that quotes it"
        ),
        pytest.param({}, {"note": "a } and a {", "format": "mlx"}, True, id="braces in a note"),
        pytest.param({"quantization": MLX}, None, True, id="quantised by mlx_lm"),
        pytest.param({"quantization": MLX}, {"format": "pt"}, True, id="quantised by mlx_lm, saved by another"),
        pytest.param({"quantization": MLX | {"quant_method": "awq"}}, {"format": "pt"}, False, id="by another method"),
        pytest.param({"quantization": {"group_size": 64}}, None, None, id="without bits"),
        pytest.param({"quantization": "4bit"}, None, None, id="no settings"),
        pytest.param({"quantization_config": MLX | {"quant_method": "fp8"}}, {"format": "pt"}, False, id="fp8"),
    ],
)
@pytest.mark.parametrize("first", [True, False], ids=["first in the header", "last in the header"])
def test_what_files_say(
    tmp_path: Path, config: dict[str, Any], metadata: dict[str, str] | None, expected: bool | None, first: bool
) -> None:
    assert judged(tmp_path, LLAMA | config, weights(metadata, first=first)).converted is expected


def test_one_file_that_mlx_wrote_is_enough(tmp_path: Path) -> None:
    pt, mlx = weights({"format": "pt"}), weights({"format": "mlx"})
    assert judged(tmp_path, LLAMA, pt, mlx, pt).converted is True
    assert judged(tmp_path, LLAMA, mlx, pt).converted is True
    assert judged(tmp_path, LLAMA, pt, weights(None)).converted is False


def test_a_file_that_is_cut_says_nothing(tmp_path: Path) -> None:
    found = judged(tmp_path, LLAMA, weights({"format": "mlx"})[:-1])
    assert found.converted is None
    assert found.missing


def test_cache_and_window_come_with_it(tmp_path: Path) -> None:
    found = judged(tmp_path, LLAMA | {"max_position_embeddings": 4096}, weights(None))
    assert (found.cache.per_token, found.cache.exact, found.context_window) == (2 * 2 * 64 * 2, False, 4096)
    assert found.weight_bytes == 4
