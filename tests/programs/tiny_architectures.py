"""Configurations of tiny language models of many types, as mlx_lm 0.32.2 reads them: data."""

from collections.abc import Mapping
from typing import Any, Final

_BASE: Final = {
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "intermediate_size": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "vocab_size": 256,
    "max_position_embeddings": 8192,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
_EXPERTS: Final = {
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 128,
    "shared_expert_intermediate_size": 128,
    "n_shared_experts": 1,
    "decoder_sparse_step": 1,
    "first_k_dense_replace": 1,
    "mlp_only_layers": [],
    "norm_topk_prob": True,
    "n_group": 1,
    "topk_group": 1,
    "routed_scaling_factor": 1.0,
}
_LATENT: Final = {
    "kv_lora_rank": 64,
    "q_lora_rank": 64,
    "qk_rope_head_dim": 32,
    "qk_nope_head_dim": 32,
    "v_head_dim": 32,
    "num_key_value_heads": 4,
}
_YARN: Final = {
    "type": "yarn",
    "factor": 2,
    "original_max_position_embeddings": 4096,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
}
_DELTA: Final = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
    "linear_conv_kernel_dim": 4,
    "partial_rotary_factor": 0.5,
}
_HEAD: Final = {"head_dim": 32}
_NORM: Final = {"layer_norm_eps": 1e-5, "layer_norm_epsilon": 1e-5, "norm_epsilon": 1e-5, "norm_eps": 1e-5}
_GRANITE: Final = {
    "logits_scaling": 1.0,
    "attention_multiplier": 1.0,
    "embedding_multiplier": 1.0,
    "residual_multiplier": 1.0,
    "attention_bias": False,
    "mlp_bias": False,
}
_GPT: Final = {
    "n_layer": 4,
    "n_head": 4,
    "n_embd": 128,
    "n_positions": 1024,
    "n_ctx": 1024,
    "n_inner": 256,
    "vocab_size": 256,
    "layer_norm_epsilon": 1e-5,
}
_S: Final = "sliding_attention"
_F: Final = "full_attention"


def _flat(model_type: str, *parts: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    config: dict[str, Any] = dict(_BASE)
    for part in parts:
        config |= part
    return config | more | {"model_type": model_type}


def _nested(model_type: str, inner: Mapping[str, Any]) -> dict[str, Any]:
    return {"model_type": model_type, "text_config": dict(inner), "vocab_size": 256, "torch_dtype": "bfloat16"}


FULL: Final[Mapping[str, Mapping[str, Any]]] = {
    "llama": _flat("llama"),
    "mistral": _flat("mistral", sliding_window=64),
    "qwen2": _flat("qwen2"),
    "qwen3": _flat("qwen3", _HEAD, head_dim=64),
    "qwen3_moe": _flat("qwen3_moe", _HEAD, _EXPERTS),
    "mixtral": _flat("mixtral", _EXPERTS),
    "gemma": _flat("gemma", _HEAD),
    "gemma2": _flat("gemma2", _HEAD, sliding_window=64, query_pre_attn_scalar=32),
    "phi": _flat("phi", _NORM, partial_rotary_factor=0.5, num_key_value_heads=4),
    "phi3": _flat("phi3"),
    "starcoder2": _flat("starcoder2", _NORM, sliding_window=64),
    "olmo2": _flat("olmo2"),
    "olmoe": _flat("olmoe", _EXPERTS),
    "cohere": _flat("cohere", _NORM),
    "granite": _flat("granite", _GRANITE),
    "granitemoe": _flat("granitemoe", _GRANITE, _EXPERTS),
    "glm4": _flat("glm4", _HEAD, attention_bias=False, partial_rotary_factor=0.5),
    "glm4_moe": _flat(
        "glm4_moe",
        _HEAD,
        _EXPERTS,
        use_qk_norm=True,
        attention_bias=False,
        partial_rotary_factor=0.5,
        rope_scaling=None,
    ),
    "smollm3": _flat("smollm3"),
    "seed_oss": _flat("seed_oss", _HEAD),
    "ernie4_5": _flat("ernie4_5", _HEAD, use_bias=False),
    "hunyuan_v1_dense": _flat("hunyuan_v1_dense", _HEAD),
    "internlm2": _flat("internlm2", bias=False),
    "nemotron": _flat("nemotron", _NORM, hidden_act="relu2", partial_rotary_factor=0.5),
    "gpt2": {"model_type": "gpt2", **_GPT},
    "gpt_neox": _flat("gpt_neox", _NORM, rotary_emb_base=10000, rotary_pct=0.25, num_key_value_heads=4),
    "qwen2_vl": _nested("qwen2_vl", _flat("qwen2")),
    "qwen3_vl": _nested("qwen3_vl", _flat("qwen3_vl_text", _HEAD)),
}
SLIDING: Final[Mapping[str, Mapping[str, Any]]] = {
    "llama, sliding": _flat("llama", sliding_window=512, layer_types=[_S, _S, _S, _F]),
    "gemma3_text": _flat(
        "gemma3_text",
        _HEAD,
        num_hidden_layers=6,
        sliding_window=512,
        sliding_window_pattern=6,
        query_pre_attn_scalar=32,
    ),
    "gemma3": _nested(
        "gemma3",
        {
            "model_type": "gemma3_text",
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 12,
            "sliding_window": 512,
        },
    ),
    "gemma3n": _nested(
        "gemma3n",
        _flat(
            "gemma3n_text",
            _HEAD,
            num_hidden_layers=10,
            num_kv_shared_layers=4,
            sliding_window=512,
            layer_types=[_S, _F] * 5,
            vocab_size_per_layer_input=256,
            rope_local_base_freq=10000.0,
            activation_sparsity_pattern=[0] * 10,
            hidden_size_per_layer_input=64,
            final_logit_softcapping=30.0,
            altup_num_inputs=4,
            altup_coef_clip=120.0,
            altup_correct_scale=True,
            altup_active_idx=0,
            laurel_rank=64,
        ),
    ),
    "gemma4_text": _flat(
        "gemma4_text",
        _HEAD,
        num_hidden_layers=10,
        num_kv_shared_layers=4,
        global_head_dim=64,
        sliding_window=512,
        hidden_size_per_layer_input=64,
        vocab_size_per_layer_input=256,
    ),
    "gemma4": _nested(
        "gemma4",
        _flat(
            "gemma4_text",
            _HEAD,
            num_hidden_layers=10,
            num_kv_shared_layers=0,
            global_head_dim=64,
            num_global_key_value_heads=1,
            attention_k_eq_v=True,
            hidden_size_per_layer_input=64,
            vocab_size_per_layer_input=256,
        ),
    ),
    "gpt_oss": _flat("gpt_oss", _HEAD, _EXPERTS, sliding_window=512, rope_scaling=None),
    "cohere2": _flat("cohere2", _HEAD, _NORM, sliding_window=512, sliding_window_pattern=4),
    "olmo3": _flat("olmo3", sliding_window=300),
    "exaone4": _flat("exaone4", _HEAD, sliding_window=512, sliding_window_pattern="LLLG", rope_scaling=None),
    "afmoe": _flat("afmoe", _HEAD, _EXPERTS, sliding_window=512, layer_types=[_S, _S, _S, _F]),
    "mimo_v2_flash": _flat(
        "mimo_v2_flash",
        _HEAD,
        _EXPERTS,
        v_head_dim=16,
        topk_method="noaux_tc",
        scoring_func="sigmoid",
        hybrid_layer_pattern=[0, 1, 1, 0],
        moe_layer_freq=[0, 1, 1, 1],
        add_swa_attention_sink_bias=True,
        add_full_attention_sink_bias=False,
        sliding_window_size=128,
        swa_rope_theta=10000.0,
        swa_num_attention_heads=4,
        swa_num_key_value_heads=4,
        swa_head_dim=32,
        swa_v_head_dim=16,
        layernorm_epsilon=1e-5,
        attention_bias=False,
        partial_rotary_factor=1.0,
    ),
    "llama4": _nested(
        "llama4",
        _flat(
            "llama4_text",
            _HEAD,
            _EXPERTS,
            num_experts_per_tok=1,
            attention_bias=False,
            attention_chunk_size=512,
            intermediate_size_mlp=256,
            interleave_moe_layer_step=2,
            use_qk_norm=True,
            rope_scaling=None,
        ),
    ),
}
LATENT: Final[Mapping[str, Mapping[str, Any]]] = {
    "deepseek_v3": _flat("deepseek_v3", _EXPERTS, _LATENT),
    "deepseek_v2": _flat("deepseek_v2", _EXPERTS, _LATENT, rope_scaling=_YARN),
    "deepseek_v32": _flat("deepseek_v32", _EXPERTS, _LATENT, index_head_dim=64, index_n_heads=4),
    "kimi_vl": _nested("kimi_vl", _flat("deepseek_v3", _EXPERTS, _LATENT)),
    "glm4_moe_lite": _flat("glm4_moe_lite", _EXPERTS, _LATENT),
    "longcat_flash": _flat(
        "longcat_flash",
        _EXPERTS,
        _LATENT,
        num_layers=4,
        attention_method="MLA",
        zero_expert_type="identity",
        zero_expert_num=1,
        ffn_hidden_size=256,
        expert_ffn_hidden_size=128,
        moe_topk=2,
        mla_scale_q_lora=True,
        mla_scale_kv_lora=True,
        attention_bias=False,
    ),
}
HYBRID: Final[Mapping[str, Mapping[str, Any]]] = {
    "qwen3_next": _flat("qwen3_next", _HEAD, _EXPERTS, _DELTA),
    "qwen3_5": _nested("qwen3_5", _flat("qwen3_5_text", _HEAD, _DELTA)),
    "mamba2": _flat(
        "mamba2",
        num_heads=8,
        head_dim=32,
        state_size=16,
        conv_kernel=4,
        n_groups=1,
        expand=2,
        time_step_rank=8,
        time_step_limit=[0.0, 100.0],
        use_bias=False,
        use_conv_bias=True,
        layer_norm_epsilon=1e-5,
    ),
    "mamba": _flat(
        "mamba", state_size=16, conv_kernel=4, expand=2, time_step_rank=8, use_bias=False, use_conv_bias=True
    ),
    "granitemoehybrid": _flat(
        "granitemoehybrid",
        _GRANITE,
        _EXPERTS,
        layer_types=["mamba", "mamba", "attention", "mamba"],
        shared_intermediate_size=128,
        mamba_n_heads=4,
        mamba_d_head=64,
        mamba_d_state=16,
        mamba_d_conv=4,
        mamba_n_groups=1,
        mamba_expand=2,
        mamba_chunk_size=256,
        mamba_conv_bias=True,
        mamba_proj_bias=False,
        position_embedding_type="nope",
    ),
    "jamba": _flat(
        "jamba",
        _EXPERTS,
        attn_layer_offset=1,
        attn_layer_period=4,
        expert_layer_offset=1,
        expert_layer_period=2,
        mamba_d_state=16,
        mamba_d_conv=4,
        mamba_expand=2,
        mamba_dt_rank=8,
        mamba_proj_bias=False,
        mamba_conv_bias=True,
    ),
    "lfm2": _flat(
        "lfm2",
        _NORM,
        layer_types=["conv", "conv", _F, "conv"],
        conv_bias=False,
        conv_L_cache=3,
        block_dim=128,
        block_ff_dim=256,
        block_multiple_of=64,
        block_ffn_dim_multiplier=1.0,
        block_auto_adjust_ff_dim=False,
    ),
    "nemotron_h": _flat(
        "nemotron_h",
        _HEAD,
        _NORM,
        _EXPERTS,
        hybrid_override_pattern="M*-E",
        mamba_num_heads=8,
        mamba_head_dim=32,
        ssm_state_size=16,
        conv_kernel=4,
        n_groups=1,
        attention_bias=False,
        mlp_bias=False,
        use_bias=False,
        use_conv_bias=True,
        mamba_proj_bias=False,
        mlp_hidden_act="relu2",
        moe_shared_expert_intermediate_size=128,
    ),
}
TABLE: Final = {**FULL, **SLIDING, **LATENT, **HYBRID}
RUN: Final = (
    "llama",
    "qwen3_moe",
    "gemma3_text",
    "gpt_oss",
    "deepseek_v3",
    "qwen3_next",
    "llama4",
)
"""Types of which a real cache is measured."""
MXFP4_TOO: Final = ("llama", "gpt_oss", "qwen3_moe")
"""Types that are also quantised in another way."""
REFUSED: Final[Mapping[str, tuple[Mapping[str, Any], str]]] = {
    "nothing": ({}, "bad-config"),
    "a path": ({"model_type": "../tiny_model"}, "bad-config"),
    "a type that nobody has": ({"model_type": "nobody_has_this"}, "unsupported-model"),
    "no model of mlx_lm": ({"model_type": "cache"}, "unsupported-model"),
    "code of its author": ({"model_type": "nobody_has_this", "auto_map": {"AutoModel": "own.Model"}}, "custom-code"),
    "a file of code": ({**FULL["llama"], "model_file": "own.py"}, "custom-code"),
    "sizes left out": ({"model_type": "llama"}, "bad-config"),
    "half a quantisation": ({**FULL["llama"], "quantization": {"bits": 4}}, "bad-config"),
    "a word for a quantisation": ({**FULL["llama"], "quantization": "yes"}, "bad-config"),
    "experts that ask for numbers": (
        {
            "model_type": "dbrx",
            "vocab_size": 256,
            "d_model": 128,
            "n_layers": 2,
            "n_heads": 4,
            "ffn_config": {"ffn_hidden_size": 256, "moe_num_experts": 4, "moe_top_k": 2},
            "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
        },
        "not-lazy",
    ),
}
"""What is not measured, and the kind of the reason."""
