"""Writes tiny model repositories into a Hugging Face cache, in the layout of huggingface_hub 2.4, by hand.

Every file is real as far as an observer can tell: blobs named by their hash, links, refs, and safetensors files
whose headers describe the bytes behind them. The weights are zeros; no server could answer with them.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CONFIG: Mapping[str, Any] = {
    "model_type": "qwen3",
    "hidden_size": 1024,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
}
KV_BYTES = 28 * 8 * (128 + 128) * 2
TOKENIZER_CONFIG = {"chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}{% if tools %}x{% endif %}"}


def safetensors(tensors: Mapping[str, int]) -> bytes:
    """A weight file with one u8 tensor of each length."""
    header: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
    at = 0
    for name, length in tensors.items():
        header[name] = {"dtype": "U8", "shape": [length], "data_offsets": [at, at + length]}
        at += length
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + bytes(at)


def model_files(*, shards: int = 1, tensors: int = 4, length: int = 64) -> dict[str, bytes]:
    """The files of a small converted model."""
    files = {
        "config.json": json.dumps(CONFIG).encode(),
        "tokenizer.json": b'{"version": "1.0"}',
        "tokenizer_config.json": json.dumps(TOKENIZER_CONFIG).encode(),
        "README.md": b"# a model\n",
    }
    names = (
        ["model.safetensors"]
        if shards == 1
        else [f"model-{n:05d}-of-{shards:05d}.safetensors" for n in range(1, shards + 1)]
    )
    weight_map: dict[str, str] = {}
    for name in names:
        parts = {f"{name}.layers.{n}.weight": length for n in range(tensors)}
        files[name] = safetensors(parts)
        weight_map |= dict.fromkeys(parts, name)
    if shards > 1:
        files["model.safetensors.index.json"] = json.dumps({"weight_map": weight_map}).encode()
    return files


class TinyCache:
    """A cache folder and the repositories that a test puts into it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, repo: str) -> Path:
        """The folder of a repository."""
        return self.root / f"models--{repo.replace('/', '--')}"

    def snapshot(self, repo: str, commit: str) -> Path:
        """The folder of one commit of it."""
        return self.folder(repo) / "snapshots" / commit

    def blob(self, repo: str, commit: str, name: str) -> Path:
        """The file behind a link of a snapshot."""
        return (self.snapshot(repo, commit) / name).resolve()

    def add(self, repo: str, files: Mapping[str, bytes], *, ref: str | None = "main", listed: bool = False) -> str:
        """Put one commit of a repository there, as a finished download leaves it; the commit is returned."""
        commit = hashlib.sha1(repr((repo, sorted(files.items()))).encode()).hexdigest()
        folder, snapshot = self.folder(repo), self.snapshot(repo, commit)
        (folder / "blobs").mkdir(parents=True, exist_ok=True)
        snapshot.mkdir(parents=True)
        for name, content in files.items():
            blob = folder / "blobs" / hashlib.sha256(content).hexdigest()
            blob.write_bytes(content)
            (snapshot / name).symlink_to(f"../../blobs/{blob.name}")
        if ref is not None:
            self.point(repo, ref, commit)
        if listed:
            self.list(repo, commit, {name: len(content) for name, content in files.items()})
        return commit

    def point(self, repo: str, ref: str, content: str) -> None:
        """Write a ref, without a line break as the library does."""
        path = self.folder(repo) / "refs" / ref
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")

    def list(self, repo: str, commit: str, sizes: Mapping[str, int]) -> None:
        """Write the listing of a commit, which huggingface_hub 2.x keeps."""
        path = self.folder(repo) / "trees" / f"{commit}.json"
        path.parent.mkdir(exist_ok=True)
        entries = {name: {"size": size, "blob_id": "0" * 40} for name, size in sizes.items()}
        path.write_text(json.dumps({"format_version": 1, "files": entries}), encoding="utf-8")


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """A plain model folder, as a conversion leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def truncate(path: Path, by: int) -> None:
    """Cut bytes off the end of a file."""
    os.truncate(path, path.stat().st_size - by)
