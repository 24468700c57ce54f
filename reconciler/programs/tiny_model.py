"""Writes a language model of 250 kB that `mlx_lm` loads like any other and that gives one known answer.

    python tiny_model.py FOLDER --reply TEXT                  a plain model folder
    python tiny_model.py cache HUB OWNER/NAME --reply TEXT    a repository in a Hugging Face cache

It lets the demo and the tests start real servers without a download. Nothing about the files is special: a Llama
in bfloat16 with a byte-level BPE tokenizer and a chat template. The weights are not trained but written down.

Why the answer is known. The matrices through which attention and feed-forward layers write into the residual stream
are zero, so what enters the output head is the embedding of the last token and nothing else. The reply is cut into
pieces, each a token of its own that no text is ever split into, and embeddings say how far the reply has come: all
tokens of a prompt share the vector of step 0, piece k has that of step k. The output row of piece k+1 is the vector
of step k, that of the end token the vector of the last step, and all other rows are zero. Vectors are made of 64
times +1 or -1, and the norm before the head leaves them as they are: the scripted successor scores 64, any other
piece the sum of 64 coin throws. So any prompt starts the reply, also one from another chat template, and an ordinary
temperature does not leave it. Only +1, -1 and 0 count, which rounding to bfloat16 and quantisation keep.
"""

import argparse
import hashlib
import itertools
import json
import os
import random
import re
import struct
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

REPLY: Final = "Hello from a tiny model."

_HIDDEN: Final = 64
"""Also the group size of the usual quantisations, so that every matrix divides into groups."""
_INNER: Final = 128
_LAYERS: Final = 2
_HEADS: Final = 4
_KV_HEADS: Final = 2
_HEAD: Final = _HIDDEN // _HEADS
_CONTEXT: Final = 4096
_WEAK: Final = 2.0**-4

_BYTES: Final = 256
_PAD: Final = "<|endoftext|>"
_END: Final = "<|im_end|>"
_SPECIAL: Final = (_PAD, "<|im_start|>", _END)
_CHAT_TEMPLATE: Final = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\\n' + (message.content or '') + '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\\n' }}
{%- endif -%}
"""

_WEIGHTS: Final = "model.safetensors"
_REPO: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*")


# ------------------------------------------------------------------------------------------------------- the two doors


def write_model(folder: Path, reply: str = REPLY, seed: int = 0) -> None:
    """Put the model into a folder, which need not exist. Raises ValueError when no model can say `reply`."""
    files = _files(reply, seed)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def write_cached(hub: Path, repo: str, reply: str = REPLY) -> str:
    """Leave the model in the cache `hub` as a finished download of `repo` would; the commit is returned.

    The commit is a hash of the content, so that another reply is another revision, and the same one the same.
    `refs/main` comes last: whoever resolves it finds a whole snapshot, as after a real download. Raises ValueError.
    """
    if not _REPO.fullmatch(repo):
        raise ValueError(f"{repo!r} is no repository of the form owner/name")
    files = _files(reply, seed=0)
    blobs = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    commit = hashlib.sha1(json.dumps(sorted(blobs.items())).encode()).hexdigest()
    base = hub / f"models--{repo.replace('/', '--')}"
    snapshot = base / "snapshots" / commit
    for folder in (base / "blobs", base / "refs", snapshot):
        folder.mkdir(parents=True, exist_ok=True)
    for name, blob in blobs.items():
        _replace(base / "blobs" / blob, files[name])
        link = snapshot / name
        if not link.is_symlink():
            link.symlink_to(f"../../blobs/{blob}")
    _replace(base / "refs" / "main", commit.encode())  # the library reads a line break as a part of the name
    return commit


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that its name never stands for a part of it."""
    beside = path.with_name(f"{path.name}.incomplete")
    beside.write_bytes(content)
    os.replace(beside, path)


def _files(reply: str, seed: int) -> dict[str, bytes]:
    """Every file of the model. Raises ValueError for a reply that would not arrive as it is written."""
    if not reply or reply != reply.strip():
        raise ValueError("a reply is text that neither begins nor ends with blanks, because servers drop them")
    if any(text in reply for text in _SPECIAL):
        raise ValueError(f"a reply cannot hold {', '.join(_SPECIAL)}, which servers leave out")
    words = _tokens(_pieces(reply))
    tensors = _tensors(words, random.Random(seed))
    index = {
        "metadata": {"total_size": sum(len(tensor.data) for tensor in tensors.values())},
        "weight_map": dict.fromkeys(sorted(tensors), _WEIGHTS),
    }
    end, pad = words.special[_END], words.special[_PAD]
    return {
        "config.json": _json(_config(words)),
        "generation_config.json": _json({"bos_token_id": pad, "eos_token_id": [end, pad], "do_sample": False}),
        _WEIGHTS: _safetensors(tensors),
        f"{_WEIGHTS}.index.json": _json(index),
        "tokenizer.json": _json(_tokenizer(words)),
        "tokenizer_config.json": _json(_tokenizer_config()),
    }


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"


# ------------------------------------------------------------------------------------------------------------- tokens


class _Tokens(NamedTuple):
    """The vocabulary."""

    ordinary: dict[str, int]
    """The 256 bytes, whose ids are their values, and the pieces of the reply, as byte-level BPE spells them."""
    special: dict[str, int]
    script: tuple[int, ...]
    """The tokens of the reply, in order."""

    @property
    def rows(self) -> int:
        """Rows of the embedding: one per token, rounded up as real models have it and fast kernels like it."""
        used = len(self.ordinary) + len(self.special)
        return used + -used % _HIDDEN


def _pieces(reply: str) -> list[str]:
    """The reply in parts that are all different, because a token can have one successor only.

    A part is a word with the blanks before it, which is where byte-level BPE puts them. A word that was there before
    waits for the next ones, and at the end joins the parts in front of it, until the whole is new. A single byte
    waits too, because it is what the tokenizer makes of a letter in a prompt; only a reply of one letter has to be it.
    """
    pieces: list[str] = []
    part = ""
    for word in re.findall(r"\s*\S+", reply):
        part += word
        if part not in pieces and len(part.encode()) > 1:
            pieces.append(part)
            part = ""
    while part in pieces:
        part = pieces.pop() + part
    return [*pieces, part] if part else pieces


def _tokens(pieces: Iterable[str]) -> _Tokens:
    alphabet = _byte_alphabet()
    ordinary = {symbol: byte for byte, symbol in enumerate(alphabet)}
    script = tuple(
        ordinary.setdefault("".join(alphabet[byte] for byte in piece.encode()), len(ordinary)) for piece in pieces
    )
    special = {text: number for number, text in enumerate(_SPECIAL, start=len(ordinary))}
    return _Tokens(ordinary, special, script)


def _byte_alphabet() -> list[str]:
    """A printable character for each byte, as GPT-2 chose them: itself, or the next one from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = itertools.count(_BYTES)
    return [chr(byte if byte in printable else next(spare)) for byte in range(_BYTES)]


def _tokenizer(words: _Tokens) -> dict[str, Any]:
    """Byte-level BPE without merges: text becomes its bytes, and never one of the pieces."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    bytewise = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": number, "content": text, **flags, "special": True} for text, number in words.special.items()
        ],
        "normalizer": None,
        "pre_tokenizer": bytewise,
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
            "vocab": words.ordinary,
            "merges": [],
        },
    }


def _tokenizer_config() -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_prefix_space": False,
        "bos_token": None,
        "eos_token": _END,
        "pad_token": _PAD,
        "unk_token": None,
        "model_max_length": _CONTEXT,
        "clean_up_tokenization_spaces": False,
        "chat_template": _CHAT_TEMPLATE,
    }


# ------------------------------------------------------------------------------------------------------------ weights


class _Tensor(NamedTuple):
    shape: tuple[int, ...]
    data: bytes


def _config(words: _Tokens) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "bos_token_id": words.special[_PAD],
        "eos_token_id": words.special[_END],
        "head_dim": _HEAD,
        "hidden_act": "silu",
        "hidden_size": _HIDDEN,
        "intermediate_size": _INNER,
        "max_position_embeddings": _CONTEXT,
        "mlp_bias": False,
        "num_attention_heads": _HEADS,
        "num_hidden_layers": _LAYERS,
        "num_key_value_heads": _KV_HEADS,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "vocab_size": words.rows,
    }


def _tensors(words: _Tokens, chance: random.Random) -> dict[str, _Tensor]:
    """All weights, by the names that Llama checkpoints have. Layers compute, and say nothing."""
    embedding, head = _script(words, chance)
    tensors = {"model.embed_tokens.weight": embedding}
    for number in range(_LAYERS):
        layer = f"model.layers.{number}"
        tensors |= {
            f"{layer}.input_layernorm.weight": _ones(),
            f"{layer}.self_attn.q_proj.weight": _signs(_HEADS * _HEAD, _HIDDEN, chance),
            f"{layer}.self_attn.k_proj.weight": _signs(_KV_HEADS * _HEAD, _HIDDEN, chance),
            f"{layer}.self_attn.v_proj.weight": _signs(_KV_HEADS * _HEAD, _HIDDEN, chance),
            f"{layer}.self_attn.o_proj.weight": _zeros(_HIDDEN, _HEADS * _HEAD),
            f"{layer}.post_attention_layernorm.weight": _ones(),
            f"{layer}.mlp.gate_proj.weight": _signs(_INNER, _HIDDEN, chance),
            f"{layer}.mlp.up_proj.weight": _signs(_INNER, _HIDDEN, chance),
            f"{layer}.mlp.down_proj.weight": _zeros(_HIDDEN, _INNER),
        }
    return tensors | {"model.norm.weight": _ones(), "lm_head.weight": head}


def _script(words: _Tokens, chance: random.Random) -> tuple[_Tensor, _Tensor]:
    """Embedding and output head: which step each token stands for, and which token follows on each step."""
    steps = [_row(_HIDDEN, 1.0, chance) for _ in range(len(words.script) + 1)]
    embedding = [steps[0]] * words.rows
    head = [_bfloat16(0.0) * _HIDDEN] * words.rows
    for token, step in zip(words.script, steps[1:], strict=True):
        embedding[token] = step
    for token, step in zip((*words.script, words.special[_END]), steps, strict=True):
        head[token] = step
    return _stacked(embedding), _stacked(head)


def _bfloat16(value: float) -> bytes:
    """The upper half of a 32-bit float, in which powers of two and zero are exact."""
    return struct.pack("<f", value)[2:]


def _row(length: int, size: float, chance: random.Random) -> bytes:
    """`size` with random signs."""
    signs = chance.getrandbits(length)
    both = (_bfloat16(size), _bfloat16(-size))
    return b"".join(both[signs >> place & 1] for place in range(length))


def _stacked(rows: Sequence[bytes]) -> _Tensor:
    return _Tensor((len(rows), _HIDDEN), b"".join(rows))


def _signs(rows: int, columns: int, chance: random.Random) -> _Tensor:
    return _Tensor((rows, columns), b"".join(_row(columns, _WEAK, chance) for _ in range(rows)))


def _zeros(rows: int, columns: int) -> _Tensor:
    return _Tensor((rows, columns), _bfloat16(0.0) * (rows * columns))


def _ones() -> _Tensor:
    return _Tensor((_HIDDEN,), _bfloat16(1.0) * _HIDDEN)


def _safetensors(tensors: Mapping[str, _Tensor]) -> bytes:
    """The weight file: length of the header, header, and the tensors without a gap.

    The header is filled up with blanks so that the tensors start at a multiple of eight. Its metadata is what MLX
    writes, which tells a loader that the names and shapes need no conversion.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
    start = 0
    for name, (shape, data) in tensors.items():
        end = start + len(data)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": (start, end)}
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(tensor.data for tensor in tensors.values())


# ------------------------------------------------------------------------------------------------------- command line


def main(arguments: Sequence[str]) -> None:
    """Write what the arguments name, and print where it is: the folder, or the commit."""
    cached = arguments[:1] == ["cache"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    if cached:
        parser.prog += " cache"
        parser.add_argument("hub", type=Path, metavar="HUB", help="the cache, which HF_HUB_CACHE names")
        parser.add_argument("repo", metavar="OWNER/NAME")
    else:
        parser.add_argument("folder", type=Path, metavar="FOLDER", help="for a folder named cache say ./cache")
    parser.add_argument("--reply", metavar="TEXT", default=REPLY, help="what the model says (default: %(default)s)")
    given = parser.parse_args(arguments[1:] if cached else arguments)
    try:
        if cached:
            print(write_cached(given.hub, given.repo, given.reply))
        else:
            write_model(given.folder, given.reply)
            print(given.folder)
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
