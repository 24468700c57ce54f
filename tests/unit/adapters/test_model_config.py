"""Bytes of cache per token, for configurations as their models have them."""

from typing import Any

import pytest

from reconciler.adapters.model_config import kv_bytes_per_token


def config(layers: int, heads: int, kv: int | None, hidden: int, **more: Any) -> dict[str, Any]:
    found = {"num_hidden_layers": layers, "num_attention_heads": heads, "hidden_size": hidden, **more}
    return found if kv is None else found | {"num_key_value_heads": kv}


QWEN3_32B = config(64, 64, 8, 5120, model_type="qwen3", head_dim=128)
LLAMA_8B = config(32, 32, 8, 4096, model_type="llama")
PHI_2 = config(32, 32, None, 2560, model_type="phi")
SMOLLM2 = config(30, 9, 3, 576, model_type="llama")
GPT_OSS_20B = config(
    24,
    64,
    8,
    2880,
    model_type="gpt_oss",
    head_dim=64,
    sliding_window=128,
    layer_types=["sliding_attention", "full_attention"] * 12,
)
GEMMA3_27B = {
    "model_type": "gemma3",
    "vision_config": {"hidden_size": 1152, "num_hidden_layers": 27, "num_attention_heads": 16},
    "text_config": config(62, 32, 16, 5376, head_dim=128, sliding_window=1024, sliding_window_pattern=6),
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
QWEN3_NEXT = config(48, 16, 2, 2048, model_type="qwen3_next", head_dim=256, full_attention_interval=4)
LFM2 = config(16, 32, 8, 2048, model_type="lfm2", layer_types=(["conv", "conv", "full_attention"] * 6)[:16])
NEMOTRON_H = config(8, 32, 8, 4096, model_type="nemotron_h", head_dim=128, hybrid_override_pattern="M-M-M*-M")
GEMMA4 = config(
    10, 8, 4, 2048, model_type="gemma4_text", head_dim=256, global_head_dim=512, num_global_key_value_heads=2
)
GPT2 = {"model_type": "gpt2", "n_layer": 12, "n_head": 12, "n_embd": 768}
FALCON = config(32, 71, None, 4544, model_type="falcon", multi_query=True)
OPENELM = config(3, 12, None, 1280, model_type="openelm", head_dim=64, num_kv_heads=[3, 4, 5])
MIMO = config(48, 64, 4, 4096, model_type="mimo_v2_flash", head_dim=192, v_head_dim=128)
LONGCAT = config(28, 64, None, 6144, model_type="longcat_flash", kv_lora_rank=512, qk_rope_head_dim=64)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        pytest.param(QWEN3_32B, 262_144, id="qwen3-32b"),
        pytest.param(LLAMA_8B, 131_072, id="llama-8b"),
        pytest.param(PHI_2, 327_680, id="every head its own"),
        pytest.param(SMOLLM2, 23_040, id="smollm2"),
        pytest.param(GPT_OSS_20B, 49_152, id="sliding counts as full"),
        pytest.param(GEMMA3_27B, 507_904, id="nested"),
        pytest.param(QWEN2_VL, 28_672, id="flat multimodal"),
        pytest.param(QWEN3_OMNI, 98_304, id="nested twice"),
        pytest.param(DEEPSEEK_V3, 70_272, id="latent"),
        pytest.param(TINY_V3, 160, id="latent, measured"),
        pytest.param(DEEPSEEK_V2, 276_480, id="latent, kept decompressed"),
        pytest.param(DEEPSEEK_V32, 101_504, id="latent with indexer"),
        pytest.param(LONGCAT, 64_512, id="latent, two to a layer"),
        pytest.param(QWEN3_NEXT, 24_576, id="every fourth layer"),
        pytest.param(LFM2, 10_240, id="convolutions keep nothing"),
        pytest.param(NEMOTRON_H, 4_096, id="pattern of letters"),
        pytest.param(GEMMA4, 40_960, id="two sizes of heads"),
        pytest.param(GPT2, 36_864, id="old names"),
        pytest.param(FALCON, 8_192, id="one head for all"),
        pytest.param(OPENELM, 3_072, id="heads by layer"),
        pytest.param(MIMO, 122_880, id="values narrower than keys"),
        pytest.param({"model_type": "mamba2", "num_hidden_layers": 64, "hidden_size": 2560}, 0, id="state space"),
        pytest.param({"num_hidden_layers": 10, "hidden_size": 1000}, 40_000, id="heads unknown"),
        pytest.param({}, 64 * 8192 * 4, id="nothing known"),
    ],
)
def test_bytes_per_token(known: dict[str, Any], expected: int) -> None:
    assert kv_bytes_per_token(known) == expected


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
        "model_type",
    ],
)
def test_a_value_that_makes_no_sense_breaks_nothing_and_never_counts_less(field: str, value: object) -> None:
    assert kv_bytes_per_token(LLAMA_8B | {field: value}) >= kv_bytes_per_token(LLAMA_8B)
