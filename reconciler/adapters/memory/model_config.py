"""What a model's config.json says about its memory and its context window: pure functions.

The formula of `cache_cost`, in bytes for one sequence (sources: the model files of mlx-lm 0.32.2, and measurements
in facts/backends.md 9). A layer keeps, of each token that it remembers,

    kv_heads * (head_dim + value_dim)                  numbers, when it has ordinary attention
    kv_lora_rank + qk_rope_head_dim                    with latent attention (twice the indexer's key on top)
    heads * (qk_nope + qk_rope + v) dimensions         with latent attention that mlx-lm caches unfolded

of 2 bytes, or of 4 where the configuration declares float32. `adapters.model_layers` says which layers remember every
token (`per_token`), which a window of them (`windows`), and which keep a state of constant size (`fixed`, that module
has its formula); layers that share another layer's cache have none. It is what mlx-lm takes for the usual families and
an upper bound for others: where a configuration or this module does not know, a layer counts as attention to
everything, with keys and values for every head. Only a state that this module does not know of may be more than that,
and only in a short context. Programs that build the model know better (`adapters.model_memory`).
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from reconciler.model.cache_cost import CacheCost, Window

from .model_layers import DEFAULTS, HEADS, HIDDEN, layers_of, number, positive, state_numbers

Config = Mapping[str, Any]

_NESTED: Final = (
    "text_config",
    "language_config",
    "llm_config",
    "thinker_config",
)
"""Where configurations of multimodal models keep the language model's part."""
_DEEPEST: Final = 8
"""Parts within parts; two have been seen."""
_OUTER: Final = frozenset({"gemma3", "llama4"})
"""Models whose layers are decided by the outer part: the inner one alone is built in another way."""
_KV_HEADS: Final = ("num_key_value_heads", "num_kv_heads", "n_kv_heads", "n_head_kv", "num_attention_groups")

_LATENT: Final = frozenset(
    {
        "bailing_hybrid",
        "bailing_moe_v3",
        "deepseek_v3",
        "deepseek_v32",
        "glm4_moe_lite",
        "glm_moe_dsa",
        "joyai_llm_flash",
        "kimi_k2",
        "kimi_k25",
        "kimi_k3",
        "kimi_linear",
        "kimi_vl",
        "longcat_flash",
        "longcat_flash_ngram",
        "mistral4",
    }
)
"""Models with a latent attention of which mlx-lm caches the latent; of others it caches what is made from it."""
_OWN_HEADS: Final = frozenset({"gpt2", "gpt_neox", "gptj", "phixtral", "qwen", "talkie"})
"""Models in which every head has keys and values of its own, whatever else is written."""
_TWO_ATTENTIONS: Final = frozenset({"longcat_flash", "longcat_flash_ngram"})

_UNKNOWN_HIDDEN: Final = 8_192
"""Assumed where a configuration says nothing: that of a 70B model."""
_STATE_ITEM: Final = 4
"""States are float32, or smaller."""

_WINDOW: Final = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "max_sequence_length",
    "seq_length",
    "n_ctx",
)
_FAMILY_WINDOW: Final = {"gemma3": 131_072, "gemma3_text": 131_072, "gemma4": 131_072, "gemma4_text": 131_072}
"""What transformers assumes for a family where its configurations leave the value out (`Gemma3TextConfig`)."""


def cache_cost(config: Config) -> CacheCost:
    """An upper bound of the cache of one sequence, by the formula above."""
    text = language_part(config)
    kind = family(config)
    text = {**DEFAULTS.get(kind, {}), **text}
    layers = layers_of(text, kind)
    item = 4 if "float32" in _types(config, text) else 2
    full, bounded = _widths(text, kind)
    if per_layer := _kv_head_list(text):
        # openelm: heads layer by layer.
        return CacheCost(per_token=item * full * max(sum(per_layer), layers.full))
    windows = (Window(per_token=item * bounded * layers.sliding, tokens=layers.window),) if layers.sliding else ()
    extra = _second_window(text, kind, item * full * layers.full)
    return CacheCost(
        per_token=item * full * layers.full,
        windows=windows + extra,
        fixed=_STATE_ITEM * state_numbers(text, kind) * layers.constant if layers.constant else 0,
    )


def context_window(config: Config) -> tuple[int, str] | None:
    """Tokens that a model was made for, and where that is said; None where it is not known."""
    place = ""
    for name, part in _parts(config):
        place = f" of {name}{place}" if name else ""
        for setting in _WINDOW:
            if found := positive(part.get(setting)):
                return found, setting + place
    kind = family(config)
    assumed = _FAMILY_WINDOW.get(kind)
    return None if assumed is None else (assumed, f"default of {kind}")


def language_part(config: Config) -> Config:
    """The language model's settings, those of a nested part winning over the outer ones."""
    return {key: value for _, part in _parts(config) for key, value in part.items() if key not in _NESTED}


def _parts(config: Config) -> Iterator[tuple[str, Config]]:
    """The configuration, and the parts within parts that lead to the language model's, with their names."""
    name = ""
    for _ in range(_DEEPEST):
        yield name, config
        found = next((nested for nested in _NESTED if isinstance(config.get(nested), Mapping)), None)
        if found is None:
            return
        name, config = found, config[found]


def family(config: Config) -> str:
    """The model type by which mlx-lm decides how layers are cached; empty where there is none."""
    outer = _text(config.get("model_type"))
    return outer if outer in _OUTER else _text(language_part(config).get("model_type"))


def _types(config: Config, text: Config) -> set[str]:
    return {value for part in (config, text) for name in ("torch_dtype", "dtype") if (value := _text(part.get(name)))}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _widths(text: Config, kind: str) -> tuple[int, int]:
    """Numbers that a layer keeps per token: one that remembers all of them, one that remembers a window."""
    latent = _latent_numbers(text, kind)
    if latent is not None:
        latent *= 2 if kind in _TWO_ATTENTIONS else 1
        return latent, latent
    hidden = number(text, HIDDEN) or _UNKNOWN_HIDDEN
    heads = number(text, HEADS)
    if heads is None:
        return 2 * hidden, 2 * hidden  # unknown: as if every head kept its own keys and values
    head = positive(text.get("head_dim")) or -(-hidden // heads)
    value = positive(text.get("v_head_dim")) or head
    if kind != "mimo_v2_flash":
        value = max(head, value)
    kv_heads = 1 if _kv_head_list(text) else _kv_heads(text, kind, heads)
    full = bounded = kv_heads * (head + value)
    if kind in ("gemma4", "gemma4_text"):
        # Layers with global attention have heads of another size, and of another number where keys are values.
        wide_heads = positive(text.get("num_global_key_value_heads")) if text.get("attention_k_eq_v") is True else None
        full = 2 * (wide_heads or kv_heads) * (positive(text.get("global_head_dim")) or head)
    elif kind == "mimo_v2_flash":
        narrow = positive(text.get("swa_num_key_value_heads")) or kv_heads
        keys, values = positive(text.get("swa_head_dim")) or head, positive(text.get("swa_v_head_dim")) or value
        bounded = narrow * (keys + values)
    elif kind == "step3p5" and isinstance(other := text.get("attention_other_setting"), Mapping):
        bounded = (number(other, _KV_HEADS) or kv_heads) * (head + value)
    return full, bounded


def _kv_heads(text: Config, kind: str, heads: int) -> int:
    if kind in _OWN_HEADS:
        return heads
    if text.get("multi_query") is True:
        return 1
    nested = text.get("attn_config")  # dbrx
    inner = positive(nested.get("kv_n_heads")) if isinstance(nested, Mapping) else None
    return number(text, _KV_HEADS) or inner or heads


def _latent_numbers(text: Config, kind: str) -> int | None:
    """Numbers per token and layer of multi-head latent attention; None where a model has none."""
    rank, rope = positive(text.get("kv_lora_rank")), positive(text.get("qk_rope_head_dim"))
    if rank is None or rope is None:
        return None
    # deepseek_v32 and glm_moe_dsa: the indexer keeps its key twice.
    latent = rank + rope + 2 * (positive(text.get("index_head_dim")) or 0)
    if kind in _LATENT:
        return latent
    heads = number(text, HEADS) or 1
    key = (positive(text.get("qk_nope_head_dim")) or 0) + rope
    return max(latent, heads * (key + (positive(text.get("v_head_dim")) or key)))


def _second_window(text: Config, kind: str, per_token: int) -> tuple[Window, ...]:
    """iquestloopcoder: each layer runs twice, the second time with a window of its own."""
    if kind != "iquestloopcoder":
        return ()
    return (Window(per_token=per_token, tokens=positive(text.get("loop_window_size")) or 64),)


def _kv_head_list(text: Config) -> list[int]:
    """Heads per layer, where a configuration gives them layer by layer."""
    for name in _KV_HEADS:
        value = text.get(name)
        if isinstance(value, list) and (found := [item for item in value if positive(item)]):
            return found
    return []
