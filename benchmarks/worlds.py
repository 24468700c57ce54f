"""A desired state of many models and a Hugging Face cache that holds all of them, made on the spot."""

import hashlib
import json
import struct
from pathlib import Path

from reconciler.adapters.cache.digests import Digests
from reconciler.adapters.cache.hf_cache import LocalArtifacts
from reconciler.adapters.memory.model_memory_key import memory_key

FIRST_PORT = 20_000


def write_state(path: Path, models: int) -> None:
    """A file of `models` models with the fields that people use."""
    lines = ["version: 1", f"ports: {{bench: {FIRST_PORT}-{FIRST_PORT + 19_999}}}", "models:"]
    for number in range(models):
        lines += [
            f"  # model {number}",
            f"  model-{number:05d}:",
            f"    source: {{repo: bench/synth-{number:05d}}}",
            f"    port: {FIRST_PORT + number}",
        ]
        if models <= 1_000:
            lines += [
                "    context_length: 32768",
                f"    aliases: [fast-{number:05d}]",
                "    options: {max_tokens: 4096}",
            ]
    path.write_text("\n".join(lines) + "\n")


def write_host(path: Path) -> None:
    """A host on which forty of the models fit."""
    path.write_text("version: 1\naccept_cpu: true\nmax_launches: 64\nmemory: {budget: 57GiB}\n")
    path.chmod(0o600)


def write_cache(hub: Path, models: int) -> None:
    """Complete snapshots in the layout of huggingface_hub, with sparse weights."""
    for number in range(models):
        _write_repo(hub / f"models--bench--synth-{number:05d}", f"{number}")


def remember(hub: Path, models: int, state: Path) -> None:
    """What verifying and measuring the first `models` of a cache leaves in a state directory: plans launch at once."""
    local, digests = LocalArtifacts(str(hub)), Digests(state)
    promises = [p for number in range(models) for p in local.promises(f"bench/synth-{number:05d}@main")]
    digests.remember_all({promise.path: (promise.stamp, promise.digest) for promise in promises})
    config = next(hub.glob("models--bench--synth-00000/snapshots/*/config.json")) if models else None
    if config is not None:
        digests.remember_measure(memory_key(config.read_bytes()), {"error": "not measured"})


def _write_repo(repo: Path, name: str) -> None:
    commit = hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()
    snapshot = repo / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "blobs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    config = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    tensor = {"dtype": "BF16", "shape": [512], "data_offsets": [0, 1024]}
    header = json.dumps({"__metadata__": {"format": "mlx"}, "w": tensor}).encode()
    weights = struct.pack("<Q", len(header)) + header + bytes(1024)
    files = {
        "config.json": json.dumps(config).encode(),
        "tokenizer.json": b"{}",
        "tokenizer_config.json": b"{}",
        "model.safetensors": weights,
        "model.safetensors.index.json": json.dumps({"weight_map": {"w": "model.safetensors"}}).encode(),
    }
    for file, content in files.items():
        blob = hashlib.sha256(content).hexdigest()
        (repo / "blobs" / blob).write_bytes(content)
        (snapshot / file).symlink_to(f"../../blobs/{blob}")
