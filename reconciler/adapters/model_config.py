"""Bytes of key/value cache per token, from a model's config.json: a pure function.

The sources are measurements with mlx-lm 0.32.2 (facts/backends.md 9, "exact" there) and its model files. It is
an upper bound: layers with a sliding window count as full attention and shared caches as their own, because how
long a context gets is decided by requests. Layers whose state does not grow with the context (state space,
linear attention, convolution) count nothing: their constant is kilobytes to a few megabytes per layer, which the
scratch allowance of `planning.memory` covers.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

Config = Mapping[str, Any]

CACHE_ITEM_BYTES: Final = 2
"""bf16 and f16, which is what servers keep unless told to quantise."""

_NESTED: Final = (
    "text_config",
    "language_config",
    "llm_config",
    "thinker_config",
)
"""Where configurations of multimodal models keep the language model's part."""
_LAYERS: Final = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_HIDDEN: Final = ("hidden_size", "n_embd", "d_model", "dim")
_HEADS: Final = ("num_attention_heads", "n_head", "n_heads", "num_heads")
_KV_HEADS: Final = ("num_key_value_heads", "num_kv_heads", "n_kv_heads", "n_head_kv")

_CONSTANT_LAYERS: Final = frozenset({"linear_attention", "mamba", "mamba2", "conv", "recurrent", "mlp", "moe"})
_CONSTANT_MODELS: Final = frozenset({"mamba", "mamba2", "falcon_mamba", "rwkv7"})
_DECOMPRESSED: Final = frozenset({"deepseek_v2", "minicpm3", "youtu_llm"})
"""Models with a latent attention whose mlx-lm code caches the keys and values made from it, not the latent."""
_TWO_ATTENTIONS: Final = frozenset({"longcat_flash", "longcat_flash_ngram"})

_LETTERS: Final = ("M", "-", "E", "*")
"""nemotron_h spells its layers: state space, feed forward, experts, attention."""

_UNKNOWN_LAYERS: Final = 64
_UNKNOWN_HIDDEN: Final = 8_192
"""Assumed where a configuration says nothing: those of a 70B model."""


def kv_bytes_per_token(config: Config) -> int:
    """An upper bound of what one token of context adds to the cache, all layers together."""
    text = language_part(config)
    if _kind(text) in _CONSTANT_MODELS:
        return 0
    layers = _attention_layers(text)
    latent = _latent_items(text)
    if latent is not None:
        twice = 2 if _kind(text) in _TWO_ATTENTIONS else 1
        return layers * twice * latent * CACHE_ITEM_BYTES
    return _full_items(text, layers) * CACHE_ITEM_BYTES


def language_part(config: Config) -> Config:
    """The language model's settings, those of a nested part winning over the outer ones."""
    for name in _NESTED:
        inner = config.get(name)
        if isinstance(inner, Mapping):
            return language_part({**{k: v for k, v in config.items() if k != name}, **inner})
    return config


def _full_items(text: Config, layers: int) -> int:
    """Numbers that ordinary attention keeps per token."""
    hidden = _number(text, _HIDDEN) or _UNKNOWN_HIDDEN
    heads = _number(text, _HEADS)
    if heads is None:
        return 2 * hidden * layers  # unknown: as if every head kept its own keys and values
    head = _positive(text.get("head_dim")) or -(-hidden // heads)
    value = _positive(text.get("v_head_dim")) or head
    per_layer = _kv_head_list(text)
    if per_layer:
        return sum(per_layer) * (head + value)
    kv_heads = 1 if text.get("multi_query") is True else (_number(text, _KV_HEADS) or heads)
    # gemma4: the layers with global attention have heads of another size and number.
    wide = _positive(text.get("global_head_dim")) or 0
    wide_heads = _positive(text.get("num_global_key_value_heads")) or kv_heads
    return layers * max(kv_heads * (head + value), 2 * wide_heads * wide)


def _latent_items(text: Config) -> int | None:
    """Numbers per token and layer of multi-head latent attention; None where a model has none."""
    rank, rope = _positive(text.get("kv_lora_rank")), _positive(text.get("qk_rope_head_dim"))
    if rank is None or rope is None:
        return None
    if _kind(text) in _DECOMPRESSED:
        heads = _number(text, _HEADS) or 1
        key = (_positive(text.get("qk_nope_head_dim")) or 0) + rope
        return heads * (key + (_positive(text.get("v_head_dim")) or key))
    # deepseek_v32 and glm_moe_dsa: the indexer keeps its key twice.
    return rank + rope + 2 * (_positive(text.get("index_head_dim")) or 0)


def _attention_layers(text: Config) -> int:
    """How many layers keep something for every token."""
    layers = _number(text, _LAYERS)
    kinds = text.get("layer_types")
    if isinstance(kinds, list) and kinds and all(isinstance(kind, str) for kind in kinds):
        growing = sum(kind not in _CONSTANT_LAYERS for kind in kinds)
        # The list may have been cut short by whoever shrank the model: count what it does not name as growing.
        return growing + max(0, (layers or 0) - len(kinds))
    pattern = text.get("hybrid_override_pattern")
    if isinstance(pattern, str | list) and pattern and all(kind in _LETTERS for kind in pattern):
        return sum(kind == "*" for kind in pattern)
    layers = layers or _UNKNOWN_LAYERS
    interval = _positive(text.get("full_attention_interval"))
    if interval is not None:
        return -(-layers // interval)
    return layers


def _kv_head_list(text: Config) -> list[int]:
    """Heads per layer, where a configuration gives them layer by layer."""
    return next((found for found in _int_lists(text) if found), [])


def _int_lists(text: Config) -> Iterator[list[int]]:
    for name in _KV_HEADS:
        value = text.get(name)
        if isinstance(value, list):
            yield [item for item in value if isinstance(item, int) and item > 0]


def _number(text: Config, names: tuple[str, ...]) -> int | None:
    """The first positive whole number under one of these names."""
    return next((found for name in names if (found := _positive(text.get(name)))), None)


def _kind(text: Config) -> str:
    name = text.get("model_type")
    return name if isinstance(name, str) else ""


def _positive(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
