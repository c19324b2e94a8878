"""Loads the student (tokenizer, weights, LoRA adapter) and saves a trained one in a reproducible form."""

import json
import os
import shutil
from pathlib import Path
from typing import cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from services.trainer.spec import Spec
from services.trainer.train import architecture
from shared.artifacts.chat_templates import write_prompt_files
from shared.contracts.prompt_profile import PLAIN, PromptProfile
from shared.contracts.steps import Method, TrainParams

# Files beside the weights, copied unchanged from the base's folder.
BESIDE_WEIGHTS = ("config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json", "vocab.json")
BESIDE_WEIGHTS += ("merges.txt", "added_tokens.json", "chat_template*")


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def use_cores(threads: int) -> None:
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))


def load_tokenizer(base: Path, profile: PromptProfile = PLAIN) -> PreTrainedTokenizerBase:
    """With the chat template that the student is prompted with everywhere."""
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    if profile.template is not None:
        tokenizer.chat_template = profile.template
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or profile.turn_end
    return tokenizer


def load_base(base: Path, exact: bool = False) -> PreTrainedModel:
    """bfloat16 on a GPU; float32 on a CPU, where bfloat16 was half as fast, and where exact weights are asked for.

    Only safetensors, no code from the folder.
    """
    target = device()
    dtype = torch.bfloat16 if target.type == "cuda" and not exact else torch.float32
    config = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(
        base,
        dtype=dtype,
        attn_implementation=architecture.attention(config),
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
    )
    return cast(PreTrainedModel, cast(torch.nn.Module, model).to(target))


def load_student(spec: Spec) -> PreTrainedModel:
    """The student as it answers: base plus adapter. In float32 the adapter is merged, which decodes faster."""
    model = load_base(spec.base)
    if spec.adapter is not None:
        adapted = PeftModel.from_pretrained(model, str(spec.adapter), torch_device=str(device()))
        model = adapted.merge_and_unload() if device().type == "cpu" else adapted.get_base_model()
    return cast(PreTrainedModel, model.eval())


def trainable(spec: Spec, params: TrainParams) -> PreTrainedModel | PeftModel:
    """method lora: the base with an adapter to train, the incoming one, else a fresh one of params.adapter's shape.

    full: all weights but the routers of experts, in float32 on every device: in bfloat16 most steps of such small rates would be rounded away.
    """
    set_seed(params.seed)  # decides the fresh adapter's weights
    if params.method is Method.FULL:
        return architecture.without_routers(load_base(spec.base, exact=True))
    model = load_base(spec.base)
    if spec.adapter is not None:
        return PeftModel.from_pretrained(model, str(spec.adapter), is_trainable=True, torch_device=str(device()))
    return cast(PeftModel, get_peft_model(model, lora_config(params, model)))


def lora_config(params: TrainParams, model: PreTrainedModel) -> LoraConfig:
    return LoraConfig(
        r=params.adapter.rank,
        lora_alpha=params.adapter.alpha,
        target_modules=architecture.targets(model, params.adapter.targets),
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )


def save_adapter(model: PeftModel, base: str, folder: Path) -> None:
    """adapter_model.safetensors and adapter_config.json with the canonical base id; equal adapters give equal bytes.

    Only the trained adapter: TRL's frozen reference copy (`ref`) stays behind, and so do paths, versions and cards.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = get_peft_model_state_dict(model, adapter_name="default", save_embedding_layers=False)
    weights = {name: state[name].detach().to("cpu", torch.float32).contiguous() for name in sorted(state)}
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        name: sorted(value) if isinstance(value, set) else value
        for name, value in model.peft_config["default"].to_dict().items()
        if name not in ("peft_version", "auto_mapping")
    }
    config |= {"base_model_name_or_path": base, "inference_mode": True, "revision": None}
    text = json.dumps(config, indent=2, sort_keys=True, default=str)
    (folder / "adapter_config.json").write_text(text + "\n")


def save_weights(model: PreTrainedModel, base: Path, folder: Path, profile: PromptProfile = PLAIN) -> None:
    """A model folder for vLLM and transformers: weights in safetensors, everything else as it is in the base's folder, with
    the chat template and the end tokens of the student's prompts.

    The weights stay in float32, so that the next phase begins where this one ended; config.json keeps the base's dtype,
    in which the engine computes. Equal weights give equal bytes.
    """
    model.save_pretrained(folder)
    for path in [path for path in folder.iterdir() if ".safetensors" not in path.name]:
        path.unlink()  # names the version of the library that wrote it
    for path in {path for pattern in BESIDE_WEIGHTS for path in base.glob(pattern)}:
        shutil.copyfile(path, folder / path.name)
    write_prompt_files(base, folder, profile)
