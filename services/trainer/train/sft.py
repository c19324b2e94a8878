"""Supervised fine-tuning on (question, answer), with the loss on the answer's tokens (paper sections 3.1 and 3.2)."""

from typing import Any, cast

import torch
from datasets import Dataset
from transformers.trainer_pt_utils import LengthGroupedSampler
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from services.trainer.spec import Metrics, Spec
from services.trainer.train import data, fit, logprobs
from services.trainer.train.model import load_tokenizer, trainable
from services.trainer.train.progress import Reporter
from shared.contracts.rows import Example
from shared.contracts.steps import TrainParams


class ByLength(LengthGroupedSampler):
    """Rows of similar length side by side, in an order that only seed and epoch decide.

    The library's own order depends on the global random state: a training resumed within an epoch would see some rows
    twice and others never.
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


def fine_tune(spec: Spec, reporter: Reporter) -> Metrics:
    """Rows are Example. Writes adapter or weights to spec.output."""
    params = TrainParams.model_validate(spec.params)
    examples = [Example.model_validate(row) for row in spec.rows]
    trainer, rows = build(spec, params, examples)
    metrics = fit.fit(trainer, spec, params, [logprobs.of_example(row) for row in rows], reporter)
    return metrics | {"rows": len(rows), "dropped_too_long": len(examples) - len(rows)}


def build(spec: Spec, params: TrainParams, examples: list[Example]) -> tuple[AnswerTrainer, list[data.ExampleIds]]:
    """The trainer over the examples that fit, and these. Raises UserError when none fits."""
    fit.score_answers_only()
    tokenizer = load_tokenizer(spec.base, params.model.profile)
    model = trainable(spec, params)
    limit = data.longest_text(model.config, params.adapter.max_length)
    rows = data.example_ids(tokenizer, examples, limit, params.model.profile)
    config = SFTConfig(
        **fit.arguments(spec, params, max(len(row["input_ids"]) for row in rows)),
        dataset_kwargs={"skip_prepare_dataset": True},  # rows are token ids already
    )
    return AnswerTrainer(
        model, config, train_dataset=Dataset.from_list([dict(row) for row in rows]), processing_class=tokenizer
    ), rows
