"""What a student's architecture asks of training and search: its text part, its attention, where an adapter may sit."""

import re

from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

ALL_LINEAR = "all-linear"
ATTENTION = re.compile(r"attn|attention")
MLP = re.compile(r"mlp|feed_forward|ffn")
STATE = re.compile(r"mamba|mixer|linear_attn|ssm|conv|recurrent|rglru|gated_delta")
# Parts that are never trained by an adapter: other senses, and what chooses the experts.
APART = re.compile(r"vision|visual|audio|image|multi_modal|projector|router|experts|lm_head")
ROUTER = re.compile(r"router|\bgate\b")
EXPERTS = re.compile(r"(num|n)_(local_|routed_)?experts|moe_num_experts")
SOFT_CAP = re.compile(r"(attn|attention)\w*(softcap|logit_cap)")
CONTEXT = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")


def context(config: PreTrainedConfig) -> int | None:
    """Tokens of question and answer together; None for a model without such a limit."""
    text = config.get_text_config()
    return next((value for name in CONTEXT if isinstance(value := getattr(text, name, None), int)), None)


def experts(config: PreTrainedConfig) -> int:
    """How many experts a layer has; 0 for a dense model."""
    fields = config.get_text_config().to_dict().items()
    return max((value for name, value in fields if EXPERTS.fullmatch(name) and isinstance(value, int)), default=0)


def attention(config: PreTrainedConfig) -> str:
    """sdpa; eager where the model's class refuses it or its scores are capped, which sdpa leaves out."""
    kind = AutoModelForCausalLM._model_mapping.get(type(config), None)
    capped = any(value and SOFT_CAP.search(name) for name, value in config.get_text_config().to_dict().items())
    return "sdpa" if getattr(kind, "_supports_sdpa", False) and not capped else "eager"


def is_hybrid(model: PreTrainedModel) -> bool:
    """Whether layers carry a state that cannot be cut or copied as keys and values can."""
    return bool(getattr(model, "_is_stateful", False))


def linear_modules(model: nn.Module) -> list[str]:
    """Full names of all linear modules but the output layer."""
    return [
        name for name, part in model.named_modules() if isinstance(part, nn.Linear) and not name.endswith("lm_head")
    ]


def may_target(name: str, moe: bool) -> bool:
    """Whether an adapter may sit on the linear module of this full name."""
    parents, _, own = name.rpartition(".")
    if APART.search(name) or own == "gate":
        return False
    if STATE.search(parents):
        return own != "out_proj"  # its weights are read directly, past the adapter
    return bool(ATTENTION.search(parents) or (MLP.search(parents) and not moe))


def eligible(model: PreTrainedModel) -> list[str]:
    """Full names of the modules that "all-linear" stands for: attention and MLP. Of a mixture of experts attention alone; of
    a model with states the states' own modules only where there is nothing else."""
    moe = experts(model.config) > 0
    names = [name for name in linear_modules(model) if may_target(name, moe)]
    return [name for name in names if not STATE.search(name)] or names


def without_routers(model: PreTrainedModel) -> PreTrainedModel:
    """The same model; what chooses the experts keeps its weights in training."""
    if experts(model.config):
        for name, weights in model.named_parameters():
            if ROUTER.search(name):
                weights.requires_grad_(False)
    return model


def short(names: list[str]) -> list[str]:
    """The last parts of full names, each once."""
    return sorted({name.rpartition(".")[2] for name in names})


def targets(model: PreTrainedModel, wanted: str) -> str | list[str]:
    """What PEFT is asked for: the job's own names, or "all-linear" as this architecture allows it."""
    if wanted != ALL_LINEAR:
        return [name.strip() for name in wanted.split(",")]
    every, chosen = linear_modules(model), eligible(model)
    if every == chosen and not experts(model.config):  # PEFT's own "all-linear" adds experts and router
        return ALL_LINEAR
    others = {name.rpartition(".")[2] for name in set(every) - set(chosen)}
    return chosen if others & set(short(chosen)) else short(chosen)
