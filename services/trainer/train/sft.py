"""Supervised fine-tuning: question -> answer, loss on the answer's tokens only (paper sections 3.1 and 3.2)."""

from typing import Any

from datasets import Dataset
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from services.trainer.spec import Spec
from services.trainer.train import data, fit
from services.trainer.train.model import load_tokenizer, trainable
from services.trainer.train.progress import Reporter
from shared.contracts.rows import Example
from shared.contracts.steps import TrainParams


def fine_tune(spec: Spec, reporter: Reporter) -> dict[str, Any]:
    """Rows are Example. Leaves adapter or weights in spec.output; returns the figures."""
    params = TrainParams.model_validate(spec.params)
    examples = [Example.model_validate(row) for row in spec.rows]
    trainer, kept = build(spec, params, examples)
    return fit.fit(trainer, spec, params, reporter) | {"rows": kept, "dropped_too_long": len(examples) - kept}


def build(spec: Spec, params: TrainParams, examples: list[Example]) -> tuple[SFTTrainer, int]:
    """The trainer over the examples that fit, and their number. Raises UserError when none fits."""
    fit.score_answers_only()
    tokenizer = load_tokenizer(spec.base)
    model = trainable(spec, params)
    rows = data.example_ids(tokenizer, examples, data.longest_text(model.config, params.adapter.max_length))
    config = SFTConfig(
        **fit.arguments(spec, params, max(len(row["input_ids"]) for row in rows)),
        dataset_kwargs={"skip_prepare_dataset": True},  # rows are token ids already
        train_sampling_strategy="group_by_length",
    )
    return SFTTrainer(model, config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer), len(rows)
