"""Loads the student (tokenizer, weights, LoRA adapter) and saves a trained one in a reproducible form."""

import json
import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)
from transformers.distributed.configuration_utils import DistributedConfig

from services.trainer.spec import Spec
from services.trainer.train import architecture
from services.trainer.train.processes import local_rank
from shared.artifacts.chat_templates import write_prompt_files
from shared.contracts.errors import FatalError, UserError
from shared.contracts.prompt_profile import PLAIN, PromptProfile
from shared.contracts.steps import AdapterConfig, Dtype, Method, TrainParams

# Files beside the weights, copied unchanged from the base's folder.
BESIDE_WEIGHTS = ("config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json", "vocab.json")
BESIDE_WEIGHTS += ("merges.txt", "added_tokens.json", "chat_template*")


def device() -> torch.device:
    """This process's own: of several processes each has the GPU of its number."""
    return torch.device("cuda", local_rank()) if torch.cuda.is_available() else torch.device("cpu")


def use_cores(threads: int, processes: int = 1) -> None:
    torch.set_num_threads(threads or max(1, len(os.sched_getaffinity(0)) // processes))


def use_own_gpu(processes: int) -> None:
    """Raises FatalError where several processes would have to share a GPU."""
    if not torch.cuda.is_available():
        return
    if processes > torch.cuda.device_count():
        raise FatalError(
            f"{processes} processes train together, and {torch.cuda.device_count()} GPUs are visible; set METEOR_TRAINER_GPUS to as "
            "many as METEOR_TRAINER_PROCESSES, or leave both out",
            code="too_few_gpus",
        )
    torch.cuda.set_device(device())


def load_tokenizer(base: Path, profile: PromptProfile = PLAIN) -> PreTrainedTokenizerBase:
    """With the chat template that the student is prompted with everywhere."""
    tokenizer = cast(PreTrainedTokenizerBase, AutoTokenizer.from_pretrained(base, local_files_only=True))
    if profile.template is not None:
        tokenizer.chat_template = profile.template
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or profile.turn_end
    return tokenizer


def load_base(
    base: Path, exact: bool = False, in_4bit: bool = False, target: torch.device | None = None
) -> PreTrainedModel:
    """bfloat16 on a GPU; float32 on a CPU, where bfloat16 was half as fast, and where exact weights are asked for.

    in_4bit: linear layers but the last are held in NF4 and computed in that dtype. Only safetensors, no code from the folder.
    """
    target = target or device()
    dtype = torch.bfloat16 if target.type == "cuda" and not exact else torch.float32
    return _load(base, dtype, target, _nf4(dtype) if in_4bit else None)


def _nf4(dtype: torch.dtype) -> BitsAndBytesConfig:
    """As in QLoRA (arXiv 2305.14314), the scales quantized too."""
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )


def load_part(base: Path, parts: int) -> PreTrainedModel:
    """As load_base, of which this process reads and holds one of so many parts; all must do so."""
    there = device()
    dtype = torch.bfloat16 if there.type == "cuda" else torch.float32
    return _load(base, dtype, there, parts=parts)


def _load(
    base: Path, dtype: torch.dtype, target: torch.device, quantized: BitsAndBytesConfig | None = None, parts: int = 1
) -> PreTrainedModel:
    placed: dict[str, object] = {}  # by transformers itself
    if quantized:
        placed = {"quantization_config": quantized, "device_map": {"": target}}
    elif parts > 1:
        placed = {"distributed_config": DistributedConfig(fsdp_size=parts)}
    config = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(
        base,
        dtype=dtype,
        attn_implementation=architecture.attention(config),
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
        **cast(Any, placed),
    )
    if placed:
        return cast(PreTrainedModel, model)
    return cast(PreTrainedModel, cast(torch.nn.Module, model).to(target))


def load_student(spec: Spec) -> PreTrainedModel:
    """The student as it answers: base plus adapter. In float32 the adapter is merged, which decodes faster."""
    model = load_base(spec.base)
    if spec.adapter is not None:
        adapted = PeftModel.from_pretrained(model, str(spec.adapter), torch_device=str(device()))
        model = adapted.merge_and_unload() if device().type == "cpu" else adapted.get_base_model()
    return cast(PreTrainedModel, model.eval())


def trainable(spec: Spec, params: TrainParams, parts: int = 1) -> PreTrainedModel | PeftModel:
    """method lora: the base with an adapter to train, the incoming one, else a fresh one of params.adapter's shape.

    full: all weights but the routers of experts, in float32 on every device: in bfloat16 most steps of such small rates would be
    rounded away, unless the optimizer rounds at random. parts: in which processes hold the base of an adapter (sharding.py).
    """
    require(params.adapter)
    set_seed(params.seed)  # decides the fresh adapter's weights
    if params.method is Method.FULL:
        dtype = torch.bfloat16 if params.adapter.dtype is Dtype.BFLOAT16 else torch.float32
        return architecture.without_routers(_load(spec.base, dtype, device()))
    in_4bit = params.adapter.load_in_4bit
    model = load_base(spec.base, in_4bit=in_4bit) if parts == 1 else load_part(spec.base, parts)
    if spec.adapter is not None:
        return PeftModel.from_pretrained(model, str(spec.adapter), is_trainable=True, torch_device=str(device()))
    return cast(PeftModel, get_peft_model(model, lora_config(params, model)))


def require(adapter: AdapterConfig) -> None:
    """Raises UserError for a setting whose library is not here. Posting the job says so too, where the trainer's are known there."""
    for package, setting in adapter.libraries.items():
        if find_spec(package) is None:
            raise UserError(
                f"{setting} needs {package}, which is not installed where the trainer runs",
                param=f"distillation.adapter.{setting}",
                code="library_missing",
            )


def lora_config(params: TrainParams, model: PreTrainedModel) -> LoraConfig:
    return LoraConfig(
        r=params.adapter.rank,
        lora_alpha=params.adapter.alpha,
        target_modules=architecture.targets(model, params.adapter.targets),
        lora_dropout=0.0,
        use_dora=params.adapter.use_dora,
        bias="none",
        task_type="CAUSAL_LM",
    )


def held_whole(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The model's tensors, of a base in parts without these: PEFT would gather all of them."""
    return {name: tensor for name, tensor in model.state_dict().items() if not isinstance(tensor, DTensor)}


def save_adapter(model: PeftModel, base: str, folder: Path) -> None:
    """adapter_model.safetensors and adapter_config.json with the canonical base id; equal adapters give equal bytes.

    Only the trained adapter: TRL's frozen reference copy (`ref`) stays behind, and so do paths, versions and cards.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = get_peft_model_state_dict(model, held_whole(model), adapter_name="default", save_embedding_layers=False)
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


def save_merged(adapter: PeftModel, spec: Spec, params: TrainParams, folder: Path) -> None:
    """The base in float32 with a trained adapter in its weights, whatever form the base had in training."""
    kept = folder.with_name("unmerged")
    save_adapter(adapter, params.model.base, kept)
    base = load_base(spec.base, exact=True, target=torch.device("cpu"))  # the device is full of the training
    merged = PeftModel.from_pretrained(base, str(kept), torch_device="cpu").merge_and_unload()
    save_weights(cast(PreTrainedModel, merged), spec.base, folder, params.model.profile)


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
