"""Tiny random checkpoints of the model families that people fine-tune, made on the spot from the families' own config classes.

One line per family: how its config differs from SIZES, and what METEOR must be able to do with it. Hidden size 32, two layers, the
tokenizer of tests.fakes.tiny_model; a folder takes milliseconds to make and a few 100 kB.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fakes.tiny_model import TEMPLATE, write_tokenizer

# Heads of 32: vLLM on a CPU refuses smaller ones.
SIZES: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
    "tie_word_embeddings": True,
    "initializer_range": 0.1,
}
ALL = frozenset({"train_lora", "train_full", "dpo", "search", "serve"})
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
SSM = {"mamba_n_heads": 2, "mamba_d_head": 32, "mamba_d_state": 32, "mamba_expand": 2, "mamba_chunk_size": 16}
LINEAR = {
    "linear_num_key_heads": 1,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
    "layer_types": ["linear_attention", "full_attention"],
}
EXPERTS = {"num_experts_per_tok": 2}


@dataclass(frozen=True)
class Family:
    """model_type: of transformers. fields: beside SIZES; None takes a field of SIZES away. can: what must work.

    vision: fields of the vision part of a wrapper, whose text part has the other fields and text_type's class.
    extracted: the architecture that `pull` leaves of a wrapper.
    """

    model_type: str
    fields: dict[str, Any] = field(default_factory=dict)
    can: frozenset[str] = ALL
    text_type: str = ""
    vision: dict[str, Any] | None = None
    extracted: str = ""
    template: str = TEMPLATE


FAMILIES: dict[str, Family] = {
    "llama": Family("llama"),
    "qwen2": Family("qwen2", {"head_dim": None, "num_attention_heads": 1}),
    "qwen3": Family("qwen3"),
    "qwen3-moe": Family("qwen3_moe", EXPERTS | {"num_experts": 4, "moe_intermediate_size": 32}),
    "mixtral": Family("mixtral", EXPERTS | {"num_local_experts": 4}),
    "gemma2": Family("gemma2", {"attn_logit_softcapping": 5.0, "query_pre_attn_scalar": 32, "sliding_window": 32}),
    "gemma3-text": Family("gemma3_text", {"query_pre_attn_scalar": 32, "sliding_window": 32}),
    "gemma3": Family(
        "gemma3",
        {"query_pre_attn_scalar": 32, "sliding_window": 32},
        text_type="gemma3_text",
        vision=VISION,
        extracted="Gemma3ForCausalLM",
    ),
    "gemma4": Family(
        "gemma4",
        {
            "global_head_dim": 32,
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": 512,
            "sliding_window": 32,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        text_type="gemma4_text",
        vision=VISION | {"num_key_value_heads": 2, "head_dim": 16},
        extracted="Gemma4ForCausalLM",
    ),
    "qwen3.5": Family(
        "qwen3_5",
        LINEAR,
        text_type="qwen3_5_text",
        vision={"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32},
        extracted="Qwen3_5ForCausalLM",
    ),
    "mistral": Family("mistral"),
    "mistral3": Family(
        "mistral3",
        text_type="ministral3",
        vision=VISION | {"model_type": "pixtral", "head_dim": 16},
        extracted="Ministral3ForCausalLM",
    ),
    "phi3": Family("phi3", {"head_dim": None, "num_attention_heads": 1}),
    "granite": Family("granite", {"head_dim": None, "num_attention_heads": 1}),
    "granite-hybrid": Family(
        "granitemoehybrid",
        SSM
        | {"head_dim": None, "num_attention_heads": 1, "layer_types": ["mamba", "attention"]}
        | {"num_local_experts": 0, "num_experts_per_tok": 0, "shared_intermediate_size": 64},
    ),
    "smollm3": Family("smollm3", {"head_dim": None, "num_attention_heads": 1}),
    "olmo2": Family("olmo2", {"head_dim": None, "num_attention_heads": 1}),
    "falcon-h1": Family("falcon_h1", SSM | {"mamba_d_ssm": 64}),
    "mamba2": Family(
        "mamba2",
        {"num_heads": 2, "expand": 2, "state_size": 32, "n_groups": 1, "chunk_size": 16}
        | dict.fromkeys(["num_attention_heads", "num_key_value_heads", "intermediate_size", "max_position_embeddings"]),
    ),
    "gpt-oss": Family(
        "gpt_oss",
        EXPERTS
        | {"num_local_experts": 4, "sliding_window": 32, "layer_types": ["sliding_attention", "full_attention"]},
    ),
}


def make(name: str, folder: Path | str, seed: int = 0) -> Path:
    """Write a family's folder: config.json, safetensors, tokenizer, chat template. Equal seeds give equal bytes."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    family = FAMILIES[name]
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder, family.template)
    fields = {key: value for key, value in (SIZES | family.fields).items() if value is not None}
    if family.vision is None:
        config, auto = AutoConfig.for_model(family.model_type, **fields), AutoModelForCausalLM
    else:
        text = fields | {"model_type": family.text_type}
        shared = {key: SIZES[key] for key in ("tie_word_embeddings",)}
        config = AutoConfig.for_model(family.model_type, text_config=text, vision_config=family.vision, **shared)
        auto = AutoModelForImageTextToText
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    model = auto.from_config(config)
    torch.random.set_rng_state(state)
    model.save_pretrained(folder)
    return folder
