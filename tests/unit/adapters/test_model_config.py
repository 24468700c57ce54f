"""Cost of the cache and window of the context, for configurations as their models have them."""

from typing import Any

import pytest

from reconciler.adapters.memory.model_config import cache_cost, context_window
from reconciler.model.cache_cost import CacheCost, Window

LENGTHS = (1, 256, 1_000, 8_192, 131_072)


def config(layers: int, heads: int, kv: int | None, hidden: int, **more: Any) -> dict[str, Any]:
    found = {"num_hidden_layers": layers, "num_attention_heads": heads, "hidden_size": hidden, **more}
    return found if kv is None else found | {"num_key_value_heads": kv}


QWEN3_32B = config(64, 64, 8, 5120, model_type="qwen3", head_dim=128)
LLAMA_8B = config(32, 32, 8, 4096, model_type="llama")
PHI_2 = config(32, 32, None, 2560, model_type="phi")
SMOLLM2 = config(30, 9, 3, 576, model_type="llama")
SLIDING = ["sliding_attention", "full_attention"]
GPT_OSS_20B = config(24, 64, 8, 2880, model_type="gpt_oss", head_dim=64, sliding_window=128, layer_types=SLIDING * 12)
MISTRAL_7B = config(32, 32, 8, 4096, model_type="mistral", sliding_window=4096)
QWEN2_SLIDING = config(28, 28, 4, 3584, model_type="qwen2", sliding_window=4096, layer_types=SLIDING * 14)
COMMAND_R7B = config(32, 32, 8, 4096, model_type="cohere2", sliding_window=4096, sliding_window_pattern=4)
GEMMA2_9B = config(42, 16, 8, 3584, model_type="gemma2", head_dim=256, sliding_window=4096)
GEMMA3_27B = {
    "model_type": "gemma3",
    "vision_config": {"hidden_size": 1152, "num_hidden_layers": 27, "num_attention_heads": 16},
    "text_config": config(62, 32, 16, 5376, head_dim=128, sliding_window=1024, sliding_window_pattern=6),
}
GEMMA3_4B = {
    "model_type": "gemma3",
    "text_config": {
        "model_type": "gemma3_text",
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 34,
        "sliding_window": 1024,
    },
}
"""As Google published it: the rest is the default of the family."""
LLAMA4 = {
    "model_type": "llama4",
    "text_config": config(48, 40, 8, 5120, model_type="llama4_text", head_dim=128, attention_chunk_size=8192),
}
QWEN2_VL = config(28, 12, 2, 1536, model_type="qwen2_vl", vision_config={"hidden_size": 1280})
QWEN3_OMNI = {
    "model_type": "qwen3_omni_moe",
    "thinker_config": {"text_config": config(48, 32, 4, 2048, head_dim=128), "audio_config": {"d_model": 1280}},
}
DEEPSEEK_V3 = config(
    61, 128, 128, 7168, model_type="deepseek_v3", kv_lora_rank=512, qk_rope_head_dim=64, v_head_dim=128
)
TINY_V3 = config(1, 4, 4, 256, model_type="deepseek_v3", kv_lora_rank=64, qk_rope_head_dim=16)
DEEPSEEK_V2 = config(
    27,
    16,
    16,
    2048,
    model_type="deepseek_v2",
    kv_lora_rank=512,
    qk_rope_head_dim=64,
    qk_nope_head_dim=128,
    v_head_dim=128,
)
DEEPSEEK_V32 = DEEPSEEK_V3 | {"model_type": "deepseek_v32", "index_head_dim": 128}
UNKNOWN_LATENT = DEEPSEEK_V2 | {"model_type": "deepseek_v9"}
DELTA = {
    "linear_num_value_heads": 32,
    "linear_num_key_heads": 16,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
}
QWEN3_NEXT = config(48, 16, 2, 2048, model_type="qwen3_next", head_dim=256, full_attention_interval=4, **DELTA)
LFM2 = config(
    16, 32, 8, 2048, model_type="lfm2", conv_L_cache=3, layer_types=(["conv", "conv", "full_attention"] * 6)[:16]
)
NEMOTRON_H = config(
    9,
    32,
    8,
    4096,
    model_type="nemotron_h",
    head_dim=128,
    hybrid_override_pattern="M-M-M*-M-",
    mamba_num_heads=128,
    mamba_head_dim=64,
    ssm_state_size=128,
    n_groups=8,
    conv_kernel=4,
)
GEMMA4 = config(
    10, 8, 4, 2048, model_type="gemma4_text", head_dim=256, global_head_dim=512, num_global_key_value_heads=2
)
GEMMA4_SHARED = GEMMA4 | {"num_kv_shared_layers": 5, "attention_k_eq_v": True}
GPT2 = {"model_type": "gpt2", "n_layer": 12, "n_head": 12, "n_embd": 768}
FALCON = config(32, 71, None, 4544, model_type="falcon", multi_query=True)
DBRX = {
    "model_type": "dbrx",
    "n_layers": 40,
    "n_heads": 48,
    "d_model": 6144,
    "attn_config": {"kv_n_heads": 8},
}
OPENELM = config(3, 12, None, 1280, model_type="openelm", head_dim=64, num_kv_heads=[3, 4, 5])
MIMO = config(48, 64, 4, 4096, model_type="mimo_v2_flash", head_dim=192, v_head_dim=128)
LONGCAT = config(28, 64, None, 6144, model_type="longcat_flash", kv_lora_rank=512, qk_rope_head_dim=64)
MAMBA2 = {
    "model_type": "mamba2",
    "num_hidden_layers": 64,
    "hidden_size": 2560,
    "num_heads": 80,
    "head_dim": 64,
    "state_size": 128,
    "n_groups": 1,
    "conv_kernel": 4,
}


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        pytest.param(QWEN3_32B, 262_144, id="qwen3-32b"),
        pytest.param(LLAMA_8B, 131_072, id="llama-8b"),
        pytest.param(LLAMA_8B | {"torch_dtype": "float32"}, 262_144, id="declared float32"),
        pytest.param(PHI_2, 327_680, id="every head its own"),
        pytest.param(SMOLLM2, 23_040, id="smollm2"),
        pytest.param(MISTRAL_7B, 131_072, id="a window that mlx-lm does not use"),
        pytest.param(QWEN2_SLIDING, 57_344, id="sliding layers that mlx-lm caches in full"),
        pytest.param(GEMMA2_9B, 344_064, id="gemma2 is cached in full"),
        pytest.param(QWEN2_VL, 28_672, id="flat multimodal"),
        pytest.param(QWEN3_OMNI, 98_304, id="nested twice"),
        pytest.param(DEEPSEEK_V3, 70_272, id="latent"),
        pytest.param(TINY_V3, 160, id="latent, measured"),
        pytest.param(DEEPSEEK_V2, 276_480, id="latent, kept decompressed"),
        pytest.param(UNKNOWN_LATENT, 276_480, id="latent of a family that is not known"),
        pytest.param(DEEPSEEK_V32, 101_504, id="latent with indexer"),
        pytest.param(LONGCAT, 64_512, id="latent, two to a layer"),
        pytest.param(GPT2, 36_864, id="old names"),
        pytest.param(FALCON, 8_192, id="one head for all"),
        pytest.param(DBRX, 163_840, id="heads in a part of their own"),
        pytest.param(OPENELM, 3_072, id="heads by layer"),
        pytest.param(MIMO, 122_880, id="values narrower than keys"),
        pytest.param({"num_hidden_layers": 10, "hidden_size": 1000}, 40_000, id="heads unknown"),
        pytest.param({}, 64 * 8192 * 4, id="nothing known"),
        pytest.param({"num_hidden_layers": 10**15}, 10**15 * 8192 * 4, id="more layers than can be counted"),
    ],
)
def test_bytes_per_token(known: dict[str, Any], expected: int) -> None:
    assert cache_cost(known) == CacheCost(per_token=expected)


@pytest.mark.parametrize(
    ("known", "per_token", "window"),
    [
        pytest.param(GPT_OSS_20B, 24_576, (24_576, 128), id="every second layer"),
        pytest.param(GEMMA3_27B, 81_920, (425_984, 1024), id="five of six"),
        pytest.param(GEMMA3_4B, 20_480, (118_784, 1024), id="heads by default of the family"),
        pytest.param(COMMAND_R7B, 32_768, (98_304, 4096), id="three of four"),
        pytest.param(LLAMA4, 49_152, (147_456, 8192), id="chunks"),
        pytest.param(GEMMA4, 16_384, (32_768, 512), id="two sizes of heads"),
        pytest.param(GEMMA4_SHARED, 4_096, (16_384, 512), id="layers that use another one's cache"),
    ],
)
def test_layers_with_a_window_stop_growing(known: dict[str, Any], per_token: int, window: tuple[int, int]) -> None:
    bounded = Window(per_token=window[0], tokens=window[1])
    assert cache_cost(known) == CacheCost(per_token=per_token, windows=(bounded,))


@pytest.mark.parametrize(
    ("known", "per_token", "fixed"),
    [
        pytest.param(QWEN3_NEXT, 24_576, 36 * 4 * (32 * 128 * 128 + 3 * 8192), id="every fourth layer"),
        pytest.param(LFM2, 10_240, 11 * 4 * 3 * 2048, id="convolutions"),
        pytest.param(NEMOTRON_H, 4_096, 4 * 4 * (8192 * 128 + 3 * 10_240), id="pattern of letters"),
        pytest.param(MAMBA2, 0, 64 * 4 * (5120 * 128 + 3 * 5376), id="state space"),
    ],
)
def test_a_state_of_constant_size_is_counted_once(known: dict[str, Any], per_token: int, fixed: int) -> None:
    assert cache_cost(known) == CacheCost(per_token=per_token, fixed=fixed)


@pytest.mark.parametrize("value", [None, "8", -1, 0, 1.5, True, [], {}, [None, "x"]])
@pytest.mark.parametrize(
    "field",
    [
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "hidden_size",
        "head_dim",
        "v_head_dim",
        "layer_types",
        "text_config",
        "kv_lora_rank",
        "full_attention_interval",
        "hybrid_override_pattern",
        "sliding_window",
        "torch_dtype",
        "attn_config",
        "linear_attn_config",
        "model_type",
    ],
)
def test_a_value_that_makes_no_sense_breaks_nothing_and_never_counts_less(field: str, value: object) -> None:
    odd, plain = cache_cost(LLAMA_8B | {field: value}), cache_cost(LLAMA_8B)
    assert all(odd.at(length) >= plain.at(length) for length in LENGTHS)


@pytest.mark.parametrize("value", [None, "8", -1, 0, 1.5, True, [], {}, [None, "x"]])
@pytest.mark.parametrize("field", ["sliding_window", "layer_types", "sliding_window_pattern", "num_kv_shared_layers"])
@pytest.mark.parametrize("known", [GPT_OSS_20B, COMMAND_R7B, GEMMA4], ids=["gpt-oss", "cohere2", "gemma4"])
def test_a_window_that_makes_no_sense_breaks_nothing(known: dict[str, Any], field: str, value: object) -> None:
    assert cache_cost(known | {field: value}).at(131_072) >= cache_cost(known).at(256)


@pytest.mark.req("S4-26")
@pytest.mark.req("S4-46")
@pytest.mark.parametrize(
    ("known", "expected"),
    [
        pytest.param({"max_position_embeddings": 40960}, (40960, "max_position_embeddings"), id="at the top"),
        pytest.param(
            {"model_type": "qwen3_vl", "text_config": {"max_position_embeddings": 262144}},
            (262144, "max_position_embeddings of text_config"),
            id="Qwen3-VL, nested",
        ),
        pytest.param(
            {"llm_config": {"max_position_embeddings": 32768}},
            (32768, "max_position_embeddings of llm_config"),
            id="InternVL, nested",
        ),
        pytest.param(
            {"thinker_config": {"text_config": {"max_position_embeddings": 32768}}},
            (32768, "max_position_embeddings of text_config of thinker_config"),
            id="nested twice",
        ),
        pytest.param(
            {"max_position_embeddings": 4096, "text_config": {"max_position_embeddings": 8192}},
            (4096, "max_position_embeddings"),
            id="the top goes first",
        ),
        pytest.param(GEMMA3_4B, (131_072, "default of gemma3"), id="gemma-3 does not say"),
        pytest.param({"model_type": "gemma3_text"}, (131_072, "default of gemma3_text"), id="gemma-3 text"),
        pytest.param(
            {"model_type": "gemma3_text", "max_position_embeddings": 32768},
            (32768, "max_position_embeddings"),
            id="gemma-3-1b says",
        ),
        pytest.param(GPT2 | {"n_positions": 1024}, (1024, "n_positions"), id="gpt2"),
        pytest.param(DBRX | {"max_seq_len": 32768}, (32768, "max_seq_len"), id="dbrx"),
        pytest.param({"seq_length": 2048}, (2048, "seq_length"), id="chatglm"),
        pytest.param(LLAMA_8B, None, id="it is not said"),
        pytest.param(MAMBA2, None, id="there is none"),
        pytest.param({}, None, id="nothing known"),
    ],
)
def test_the_context_window_and_where_it_is_said(known: dict[str, Any], expected: tuple[int, str] | None) -> None:
    assert context_window(known) == expected


@pytest.mark.req("S4-26")
@pytest.mark.parametrize("value", [None, "131072", -1, 0, 1e6, True, [], {}])
def test_a_context_window_that_cannot_be_read_is_not_known(value: object) -> None:
    assert context_window({"model_type": "llama", "max_position_embeddings": value}) is None
    assert context_window({"text_config": {"model_type": "llama", "max_position_embeddings": value}}) is None


def test_parts_within_parts_without_end_break_nothing() -> None:
    known: dict[str, Any] = {"max_position_embeddings": 4096}
    for _ in range(900):
        known = {"text_config": known}
    assert context_window(known) is None
    assert cache_cost(known) == cache_cost({})
