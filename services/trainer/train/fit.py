"""Shared by SFT and DPO: TRL's arguments, the training with its checkpoints, the metrics."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import torch
from peft import PeftModel
from transformers import PreTrainedModel, Trainer
from trl.trainer import utils as trl_utils

from services.trainer.spec import Metrics, Spec
from services.trainer.train import logprobs
from services.trainer.train.model import device, save_adapter, save_weights
from services.trainer.train.progress import Reporter
from services.trainer.train.watch import Watch
from shared.contracts.adapter_check import FILE
from shared.contracts.steps import Method, Point, TrainParams

SCHEDULE = "cosine"
# Share of the optimiser steps, rounded down: rounded up, a training of one step would have no rate at all.
WARMUP = 0.05
# Per forward pass; larger batches are accumulated. On a CPU more tokens at once are hardly faster and cost 2 MB each.
TOKENS_AT_ONCE = {"cpu": 512, "cuda": 32_768}


def arguments(spec: Spec, params: TrainParams, longest: int) -> dict[str, Any]:
    """Keyword arguments for SFTConfig and DPOConfig. longest: tokens of the longest row (both sides of a pair)."""
    on_gpu = device().type == "cuda"
    at_once = micro_batch(params.batch_size, longest, TOKENS_AT_ONCE[device().type])
    return {
        "output_dir": str(spec.checkpoints),
        "num_train_epochs": params.epochs,
        "learning_rate": params.learning_rate,
        "lr_scheduler_type": SCHEDULE,
        "warmup_steps": int(WARMUP * params.epochs * len(spec.rows) / params.batch_size),
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": params.batch_size // at_once,
        "max_length": None,  # rows were measured already
        "router_aux_loss_coef": 0.0,  # the router of a mixture of experts is not trained
        "seed": params.seed,
        "data_seed": params.seed,
        "bf16": on_gpu,
        "use_cpu": not on_gpu,
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


def score_answers_only() -> None:
    """Compare only the answers' tokens with the whole vocabulary, on every device; the loss is the same.

    TRL does so only with Triton. Without it, it scores prompts and padding too and discards the result, a third of the
    time of a DPO step on a CPU. There is no setting: this function decides.
    """
    setattr(trl_utils, "_use_triton", lambda device: True)  # noqa: B010 - a name that TRL does not export


def micro_batch(batch_size: int, longest: int, tokens: int) -> int:
    """Rows per forward pass: the largest divisor of batch_size whose padded batch has at most so many tokens."""
    fitting = [n for n in range(1, batch_size + 1) if batch_size % n == 0 and n * longest <= tokens]
    return max(fitting, default=1)


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
    checkpoint = last_checkpoint(spec.checkpoints)
    began = time.monotonic()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if params.method is Method.FULL:
        save_weights(cast(PreTrainedModel, trainer.model), spec.base, spec.output / "weights", params.model.profile)
    else:
        model, folder = cast(PeftModel, trainer.model), spec.output / "adapter"
        save_adapter(model, params.model.base, folder)
        (folder / FILE).write_text(logprobs.with_and_without(model, samples).model_dump_json() + "\n")
    (spec.output / "curve.json").write_text(json.dumps(curve(trainer)))
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
