"""Shared by SFT and DPO: TRL's arguments, the training with its checkpoints, the metrics."""

import json
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import torch
from peft import PeftModel
from transformers import PreTrainedModel, Trainer
from trl.trainer import utils as trl_utils

from services.trainer.spec import Metrics, Spec
from services.trainer.train import logprobs, processes
from services.trainer.train.model import device, save_adapter, save_merged, save_weights
from services.trainer.train.packing import Decision
from services.trainer.train.progress import Reporter
from services.trainer.train.step_in_passes import StepInPasses
from services.trainer.train.watch import Watch
from shared.contracts.adapter_check import FILE, AdapterLogprobs
from shared.contracts.steps import AdapterConfig, Dtype, Method, Optim, Point, TrainParams

SCHEDULE = "cosine"
# Share of the optimiser steps, rounded down: rounded up, a training of one step would have no rate at all.
WARMUP = 0.05


def arguments(spec: Spec, params: TrainParams) -> dict[str, Any]:
    """Keyword arguments for SFTConfig and DPOConfig. A batch is a whole optimiser step; StepInPasses divides it."""
    on_gpu = device().type == "cuda"
    return {
        "output_dir": str(spec.checkpoints),
        "num_train_epochs": params.epochs,
        "learning_rate": params.learning_rate,
        "lr_scheduler_type": SCHEDULE,
        "warmup_steps": int(WARMUP * params.epochs * len(spec.rows) / params.batch_size),
        "per_device_train_batch_size": params.batch_size,
        "gradient_accumulation_steps": 1,
        **optimizer(params.adapter),
        "use_liger_kernel": on_gpu
        and find_spec("liger_kernel") is not None,  # norms, rotation and MLP in one kernel each
        "max_length": None,  # rows were measured already
        "router_aux_loss_coef": 0.0,  # the router of a mixture of experts is not trained
        "seed": params.seed,
        "data_seed": params.seed,
        "bf16": on_gpu,
        "use_cpu": not on_gpu,
        "ddp_find_unused_parameters": False,
        "gradient_checkpointing": False,
        "dataloader_pin_memory": on_gpu,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # else a NaN would be hidden
        "include_num_input_tokens_seen": "non_padding",
        "save_strategy": "no",  # Watch decides
        "save_total_limit": 1,
        "report_to": [],
        "disable_tqdm": True,
    }


def optimizer(adapter: AdapterConfig) -> dict[str, str]:
    """In transformers' names: those of 8 bits are bitsandbytes', but torchao's can round bfloat16 weights at random."""
    if adapter.dtype is Dtype.BFLOAT16:
        return {"optim": "adamw_torch_8bit", "optim_args": "bf16_stochastic_round=True"}
    return {} if adapter.optim is Optim.ADAMW else {"optim": adapter.optim.value}


def score_answers_only() -> None:
    """Compare only the answers' tokens with the whole vocabulary, on every device; the loss is the same.

    TRL does so only with Triton. Without it, it scores prompts and padding too and discards the result, a third of the
    time of a DPO step on a CPU. There is no setting: this function decides.
    """
    setattr(trl_utils, "_use_triton", lambda device: True)  # noqa: B010 - a name that TRL does not export


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint. trainer_state.json is written last: without it a save was interrupted."""
    complete = [p for p in folder.glob("checkpoint-*") if (p / "trainer_state.json").exists()]
    return max(complete, key=lambda p: int(p.name.rpartition("-")[2]), default=None)


def fit(
    trainer: Trainer, spec: Spec, params: TrainParams, samples: Sequence[logprobs.Sample], reporter: Reporter
) -> Metrics:
    """Train to the end, from the last checkpoint if there is one; save the adapter or weights and return the metrics.

    samples: the rows that are trained on. What the adapter makes of a few of them is saved beside it.
    """
    watch = Watch(spec, reporter)
    trainer.add_callback(watch)
    cast(StepInPasses, trainer).may_pack = spec.padding_free
    checkpoint = last_checkpoint(spec.checkpoints)
    began = time.monotonic()
    if device().type == "cpu":
        torch.compiler.set_stance("force_eager")  # torchao compiles a step for each shape, which takes minutes there
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    adapter = params.method is Method.LORA and not params.adapter.use_dora
    measured = (
        logprobs.with_and_without(cast(PeftModel, trainer.model), samples) if adapter else None
    )  # by all: of a base
    if processes.is_first():  # in parts, each process computes with the others'
        _save(trainer, spec, params, measured)
    losses = series(trainer, "loss")
    return {
        "loss_first": round(fmean(losses[: quarter(losses)]), 4),
        "loss": round(fmean(losses[-quarter(losses) :]), 4),
        "steps": trainer.state.global_step,
        "resumed_from_step": watch.first_step,
        "trained_tokens": int(trainer.state.num_input_tokens_seen),
        "tokens_per_second": round(watch.tokens_per_second, 1),
        "seconds": round(time.monotonic() - began, 1),
        "device": device().type,
        "threads": torch.get_num_threads(),
        **passes_of(trainer),
    }


def _save(trainer: Trainer, spec: Spec, params: TrainParams, measured: AdapterLogprobs | None) -> None:
    if params.method is Method.FULL:
        save_weights(cast(PreTrainedModel, trainer.model), spec.base, spec.output / "weights", params.model.profile)
    elif measured is None:
        save_merged(cast(PeftModel, trainer.model), spec, params, spec.output / "weights")
    else:
        folder = spec.output / "adapter"
        save_adapter(cast(PeftModel, trainer.model), params.model.base, folder)
        (folder / FILE).write_text(measured.model_dump_json() + "\n")
    (spec.output / "curve.json").write_text(json.dumps(curve(trainer)))


def passes_of(trainer: Trainer) -> Metrics:
    """How the steps were divided, for people."""
    own = cast(StepInPasses, trainer)
    division, packed = own.division, own.packed or Decision()
    refused = {"padding_free_refused": packed.refused} if packed.refused else {}
    recomputed = bool(getattr(trainer.model, "is_gradient_checkpointing", False))
    return {
        **(division.describe() if division else {}),
        **({"padding_free": True} if packed.packing else refused),
        "gradient_checkpointing": recomputed,
        "processes": processes.count(),
        **({"fsdp": True} if own.is_distributed_loading_by_transformers else {}),
    }


def series(trainer: Trainer, name: str) -> list[float]:
    """One metric at every optimiser step, those before a resume included."""
    return [entry[name] for entry in trainer.state.log_history if name in entry]


def curve(trainer: Trainer) -> list[dict[str, Any]]:
    """A Point for every optimiser step, those before a resume included."""
    return [
        Point(
            step=int(entry["step"]), loss=round(entry["loss"], 4), accuracy=_rounded(entry.get("mean_token_accuracy"))
        ).model_dump()
        for entry in trainer.state.log_history
        if "loss" in entry
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def quarter(values: list) -> int:
    return max(1, len(values) // 4)
