"""Supervised fine-tuning: question -> answer, loss on the answer's tokens only (paper sections 3.1 and 3.2)."""

from typing import Any, cast

import torch
from datasets import Dataset
from transformers.trainer_pt_utils import LengthGroupedSampler
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from services.trainer.spec import Spec
from services.trainer.train import data, fit
from services.trainer.train.model import load_tokenizer, trainable
from services.trainer.train.progress import Reporter
from shared.contracts.rows import Example
from shared.contracts.steps import TrainParams


class ByLength(LengthGroupedSampler):
    """Rows of like length side by side, in an order that seed and epoch alone decide.

    The library's own draws on whatever random numbers come next. A training that goes on within an epoch would then see
    another order than the one it was in: some rows twice, others not at all.
    """

    def __init__(self, rows_per_step: int, lengths: list[int], seed: int):
        super().__init__(rows_per_step, lengths=lengths)
        self.seed = seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.generator = torch.Generator().manual_seed(self.seed + epoch)


class AnswerTrainer(SFTTrainer):
    def _get_train_sampler(self, train_dataset: Any = None) -> ByLength:
        rows = cast(Dataset, self.train_dataset if train_dataset is None else train_dataset)
        lengths = [len(ids) for ids in rows["input_ids"]]
        return ByLength(
            self.args.train_batch_size * self.args.gradient_accumulation_steps, lengths, int(self.args.data_seed or 0)
        )


def fine_tune(spec: Spec, reporter: Reporter) -> dict[str, Any]:
    """Rows are Example. Leaves adapter or weights in spec.output; returns the figures."""
    params = TrainParams.model_validate(spec.params)
    examples = [Example.model_validate(row) for row in spec.rows]
    trainer, kept = build(spec, params, examples)
    return fit.fit(trainer, spec, params, reporter) | {"rows": kept, "dropped_too_long": len(examples) - kept}


def build(spec: Spec, params: TrainParams, examples: list[Example]) -> tuple[AnswerTrainer, int]:
    """The trainer over the examples that fit, and their number. Raises UserError when none fits."""
    fit.score_answers_only()
    tokenizer = load_tokenizer(spec.base)
    model = trainable(spec, params)
    rows = data.example_ids(tokenizer, examples, data.longest_text(model.config, params.adapter.max_length))
    config = SFTConfig(
        **fit.arguments(spec, params, max(len(row["input_ids"]) for row in rows)),
        dataset_kwargs={"skip_prepare_dataset": True},  # rows are token ids already
    )
    return AnswerTrainer(model, config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer), len(rows)
