"""Which layers of a model remember every token, a window of them, or a state of constant size: pure functions.

By the model files of mlx-lm 0.32.2. Only models that it builds with a rotating or chunked cache have windows here:
several others carry the settings of a window in their configuration and are cached in full all the same.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

Text = Mapping[str, Any]

LAYERS: Final = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_transformer_layers")
HIDDEN: Final = ("hidden_size", "n_embd", "d_model", "dim", "model_dim", "hidden_dim")
HEADS: Final = ("num_attention_heads", "n_head", "n_heads", "num_heads")

DEFAULTS: Final[Mapping[str, Mapping[str, int]]] = {
    # What mlx-lm assumes; Google's own configurations of the larger models leave these out.
    "gemma3": {"num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256},
    "gemma3_text": {"num_hidden_layers": 26, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256},
}

_FULL: Final = "full_attention"
_SLIDING: Final = "sliding_attention"
_CONSTANT: Final = "constant"
_NOTHING: Final = "nothing"
_CONSTANT_LAYERS: Final = frozenset({"linear_attention", "mamba", "mamba2", "conv", "recurrent"})
_NOTHING_LAYERS: Final = frozenset({"mlp", "moe"})
_CONSTANT_MODELS: Final = frozenset({"mamba", "mamba2", "falcon_mamba", "rwkv7"})
_LETTERS: Final = {"M": _CONSTANT, "-": _NOTHING, "E": _NOTHING, "*": _FULL}
"""nemotron_h spells its layers: state space, feed forward, experts, attention."""


class _Windowed(NamedTuple):
    """How a model says which of its layers slide."""

    cycle: int = 0
    """Of so many layers the last is full, unless the configuration lists them; 0: all are."""
    window: int | None = None
    """Tokens, where the configuration does not say."""
    listed: bool = True
    """Whether `layer_types` decides."""
    every: str = ""
    """Setting that changes `cycle`."""
    names: tuple[str, ...] = ("sliding_window",)
    """Settings with the window."""


_BY_TYPE: Final = _Windowed()
_WINDOWED: Final[Mapping[str, _Windowed]] = {
    **dict.fromkeys(("llama", "mistral", "iquestcoder", "xverse", "ministral3", "mellum", "exaone_moe"), _BY_TYPE),
    "afmoe": _Windowed(window=2048),
    "laguna": _Windowed(window=512),
    "cohere2": _Windowed(cycle=4, window=4096, listed=False, every="sliding_window_pattern"),
    "gemma3": _Windowed(cycle=6, window=512, listed=False, every="sliding_window_pattern"),
    "gemma3_text": _Windowed(cycle=6, window=512, listed=False, every="sliding_window_pattern"),
    "gemma3n": _BY_TYPE,
    "gemma3n_text": _BY_TYPE,
    "gemma4": _Windowed(cycle=5, window=512, every="sliding_window_pattern"),
    "gemma4_text": _Windowed(cycle=5, window=512, every="sliding_window_pattern"),
    "gpt_oss": _Windowed(cycle=2, window=128),
    "llama4": _Windowed(cycle=4, listed=False, names=("attention_chunk_size",)),
    "mimo_v2_flash": _Windowed(names=("sliding_window_size",)),
    "muse_glimmer": _Windowed(cycle=4, window=2048),
    "olmo3": _Windowed(cycle=4),
    "plamo3": _Windowed(
        cycle=8, window=2048, listed=False, every="sliding_window_pattern", names=("sliding_window", "window_size")
    ),
    "recurrent_gemma": _Windowed(names=("attention_window_size",)),
    "spark2_5": _Windowed(cycle=4),
    "step3p5": _Windowed(cycle=2, window=512),
    "exaone4": _BY_TYPE,
}
_SHARING: Final = frozenset({"gemma3n", "gemma3n_text", "gemma4", "gemma4_text"})
"""Their last `num_kv_shared_layers` layers use the cache of an earlier one."""

_MOST_LAYERS: Final = 10_000
"""More than any model has: such a number is not counted one by one."""
_UNKNOWN_LAYERS: Final = 64
_UNKNOWN_HIDDEN: Final = 8_192
"""Assumed where a configuration says nothing: those of a 70B model."""
_UNKNOWN_STATE: Final = 512
"""Numbers of a state per number of the hidden size, where its shape is not known; the largest seen is 256."""


class Layers(NamedTuple):
    """How many layers keep what."""

    full: int
    sliding: int
    window: int
    """Tokens that the sliding ones keep."""
    constant: int


def layers_of(text: Text, kind: str) -> Layers:
    """The layers of a language model of this type, counted; those that are not understood count as full."""
    count = number(text, LAYERS) or _UNKNOWN_LAYERS
    if count > _MOST_LAYERS:
        return Layers(full=count, sliding=0, window=0, constant=0)
    names = _names(text, kind, count)
    if kind in _SHARING:
        names = names[: max(0, count - (positive(text.get("num_kv_shared_layers")) or 0))]
    sliding, constant, nothing = (names.count(name) for name in (_SLIDING, _CONSTANT, _NOTHING))
    rule = _WINDOWED.get(kind)
    window = (number(text, rule.names) or rule.window) if rule else None
    if window is None:
        sliding, window = 0, 0
    full = len(names) - sliding - constant - nothing
    if kind in ("falcon_h1", "baichuan_m1"):
        constant = full  # each layer has both
    if kind == "longcat_flash_ngram":
        constant = 1  # the last tokens, as numbers
    if kind == "nanbeige":
        full *= positive(text.get("num_loops")) or 1
    return Layers(full=full, sliding=sliding, window=window, constant=constant)


def _names(text: Text, kind: str, count: int) -> list[str]:
    """What each layer is."""
    if kind in _CONSTANT_MODELS:
        return [_CONSTANT] * count
    hybrid = _HYBRIDS.get(kind)
    names = hybrid(text, count) if hybrid else None
    if names:
        return names
    rule = _WINDOWED.get(kind, _BY_TYPE)
    listed = text.get("layer_types")
    if rule.listed and isinstance(listed, list) and listed and all(isinstance(name, str) for name in listed):
        # The list may have been cut short by whoever shrank the model: what it does not name counts as full.
        return [_meaning(name) for name in listed] + [_FULL] * (count - len(listed))
    cycle = (positive(text.get(rule.every)) if rule.every else None) or rule.cycle
    return [_SLIDING if cycle and (index + 1) % cycle else _FULL for index in range(count)]


def _meaning(name: str) -> str:
    if name in _CONSTANT_LAYERS:
        return _CONSTANT
    if name in _NOTHING_LAYERS:
        return _NOTHING
    return _SLIDING if name == _SLIDING else _FULL


def _every(text: Text, count: int, name: str, default: int | None) -> list[str] | None:
    """Each n-th layer has attention, the others a state."""
    interval = positive(text.get(name)) or default
    return (interval and [_CONSTANT if (index + 1) % interval else _FULL for index in range(count)]) or None


def _groups(text: Text, count: int) -> list[str] | None:
    """Each n-th layer has attention, and what is left over at the end."""
    size = positive(text.get("layer_group_size"))
    if size is None:
        return None
    return [_CONSTANT if (index + 1) % size and index < count // size * size else _FULL for index in range(count)]


def _spelled(text: Text, _: int) -> list[str] | None:
    pattern = text.get("hybrid_override_pattern")
    if isinstance(pattern, str | list) and pattern and all(isinstance(x, str) and x in _LETTERS for x in pattern):
        return [_LETTERS[letter] for letter in pattern]
    return None


def _pattern_text(text: Text, count: int) -> list[str] | None:
    """exaone4: `LLLG`, repeated."""
    pattern = text.get("sliding_window_pattern")
    if not (isinstance(pattern, str) and pattern):
        return [_FULL] * count
    return [_SLIDING if pattern[index % len(pattern)] == "L" else _FULL for index in range(count)]


def _flags(text: Text, count: int) -> list[str] | None:
    """mimo_v2_flash: 1 for a window."""
    flags = text.get("hybrid_layer_pattern")
    if not isinstance(flags, list):
        return None
    return [_SLIDING if flag == 1 else _FULL for flag in flags] + [_FULL] * (count - len(flags))


def _blocks(text: Text, count: int) -> list[str] | None:
    """recurrent_gemma: a cycle of block types, whose attention has a window."""
    blocks = text.get("block_types") or text.get("_block_types")
    if not (isinstance(blocks, list) and blocks):
        return [_SLIDING] * count
    return [_CONSTANT if blocks[index % len(blocks)] == "recurrent" else _SLIDING for index in range(count)]


def _indices(text: Text, count: int) -> list[str] | None:
    """lfm2: the numbers of the layers with attention."""
    chosen = text.get("full_attn_idxs")
    return [_FULL if index in chosen else _CONSTANT for index in range(count)] if isinstance(chosen, list) else None


def _kda(text: Text, count: int) -> list[str] | None:
    """kimi_linear: the numbers, from 1, of the layers without attention."""
    inner = text.get("linear_attn_config")
    chosen = inner.get("kda_layers") if isinstance(inner, Mapping) else None
    return [_CONSTANT if n + 1 in chosen else _FULL for n in range(count)] if isinstance(chosen, list) else None


def _periods(text: Text, count: int) -> list[str] | None:
    """jamba."""
    period, offset = positive(text.get("attn_layer_period")), text.get("attn_layer_offset")
    if period is None or not isinstance(offset, int):
        return None
    return [_FULL if index % period == offset else _CONSTANT for index in range(count)]


def _steps(text: Text, count: int) -> list[str] | None:
    """plamo2."""
    step = positive(text.get("mamba_step")) or 2
    place = step // 2
    if text.get("mamba_enabled") is False:
        return [_FULL] * count
    if count <= place:
        return [_CONSTANT] * (count - 1) + [_FULL]
    return [_FULL if index % step == place else _CONSTANT for index in range(count)]


def _three_of_four(text: Text, count: int) -> list[str] | None:
    return _every(text, count, "full_attention_interval", 4)


_HYBRIDS: Final[Mapping[str, Callable[[Text, int], list[str] | None]]] = {
    **dict.fromkeys(
        ("qwen3_next", "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text", "prism_hadamard_qwen35"),
        _three_of_four,
    ),
    **dict.fromkeys(("bailing_hybrid", "bailing_moe_linear", "bailing_moe_v3"), _groups),
    **dict.fromkeys(("lfm2", "lfm2_moe"), _indices),
    **dict.fromkeys(("kimi_linear", "kimi_k3"), _kda),
    "nemotron_h": _spelled,
    "exaone4": _pattern_text,
    "mimo_v2_flash": _flags,
    "recurrent_gemma": _blocks,
    "jamba": _periods,
    "plamo2": _steps,
}


def state_numbers(text: Text, kind: str) -> int:
    """Numbers in the state of one layer that has one, its convolution's included.

    value_heads * value_dim * key_dim (gated delta), inner * state (state space), heads * head_dim^2 (other linear
    attention), and kernel - 1 rows of what is convolved.
    """
    hidden = number(text, HIDDEN) or _UNKNOWN_HIDDEN
    heads = number(text, HEADS) or 1
    head = positive(text.get("head_dim")) or -(-hidden // heads)
    inner = text.get("linear_attn_config")
    found = [
        _delta(text),
        _state_space(text, hidden, kind),
        _square(inner) if isinstance(inner, Mapping) else 0,
        (positive(text.get("conv_L_cache")) or 0) * hidden,
        (positive(text.get("conv1d_width")) or 0) * (positive(text.get("lru_width")) or hidden),
    ]
    if kind == "rwkv7":
        found.append(hidden * (head + 2))
    elif kind.startswith("bailing"):
        found.append(_square({"num_heads": heads, "head_dim": head, **text}))
    elif kind in ("baichuan_m1", "longcat_flash_ngram"):
        found.append(2 * hidden)
    return max(found) or _UNKNOWN_STATE * hidden


def _delta(text: Text) -> int:
    names = ("linear_num_value_heads", "linear_value_head_dim", "linear_num_key_heads", "linear_key_head_dim")
    heads, value, key_heads, key = (positive(text.get(name)) or 0 for name in names)
    rows = (positive(text.get("linear_conv_kernel_dim")) or 4) - 1
    return heads * value * key + rows * (2 * key_heads * key + heads * value)


def _state_space(text: Text, hidden: int, kind: str) -> int:
    state = number(text, ("ssm_state_size", "mamba_d_state", "state_size"))
    if state is None and kind == "plamo2":
        state = 64
    if state is None:
        return 0
    heads = number(text, ("mamba_num_heads", "mamba_n_heads", "num_heads")) or 0
    head = number(text, ("mamba_head_dim", "mamba_d_head", "hidden_size_per_head", "head_dim")) or 0
    expanded = (number(text, ("mamba_expand", "expand")) or 2) * hidden
    own = [positive(text.get(name)) or 0 for name in ("mamba_d_ssm", "d_inner")]
    if kind in _CONSTANT_MODELS:
        own.append(positive(text.get("intermediate_size")) or 0)
    # Models with heads have what these make; the others expand the hidden size.
    width = max(heads * head, *own) or expanded
    groups = number(text, ("n_groups", "mamba_n_groups")) or 1
    rows = (number(text, ("conv_kernel", "mamba_d_conv")) or 4) - 1
    return width * state + rows * (width + 2 * groups * state)


def _square(text: Text) -> int:
    heads, head = positive(text.get("num_heads")) or 0, positive(text.get("head_dim")) or 0
    rows = (positive(text.get("short_conv_kernel_size")) or 4) - 1
    return heads * head * head + 3 * rows * heads * head


def number(text: Text, names: tuple[str, ...]) -> int | None:
    """The first positive whole number under one of these names."""
    return next((found for name in names if (found := positive(text.get(name)))), None)


def positive(value: object) -> int | None:
    """The value if it is a positive whole number."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
