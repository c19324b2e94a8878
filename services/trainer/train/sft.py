"""Supervised fine-tuning on (question, answer), with the loss on the answer's tokens (paper sections 3.1 and 3.2)."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from transformers.trainer_pt_utils import LengthGroupedSampler
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling, SFTTrainer
from trl.trainer.utils import FusedCausalLMOutput

from services.trainer.spec import Metrics, Spec
from services.trainer.train import data, fit, logprobs, processes, sharding
from services.trainer.train.model import load_tokenizer
from services.trainer.train.progress import Reporter
from services.trainer.train.step_in_passes import StepInPasses
from shared.contracts.rows import Example
from shared.contracts.steps import TrainParams

ACCURACY = "mean_token_accuracy"  # TRL's name


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


class WeightedCollator(DataCollatorForLanguageModeling):
    """Batches with each row's weight, (rows,), beside the library's tensors."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        weights = torch.tensor([example["weight"] for example in examples], dtype=torch.float32)
        return super().torch_call(examples) | {"weight": weights}


class AnswerTrainer(StepInPasses, SFTTrainer):
    """The loss of a pass: sum over rows of weight times the NLL of the answer's tokens, by the number of these tokens. Rows of weight 1
    make it the library's own."""

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        columns = cast(list[str], self._signature_columns)
        if "weight" not in columns:
            columns.append("weight")

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The library's for rows of weight 1, without its three waits for the device in each pass: figures stay there until a log."""
        weight = inputs.pop("weight", None)
        outputs: FusedCausalLMOutput = model(**inputs, use_cache=False, fused_lm_head=True)
        log_probs, mask, top = outputs.log_probs, outputs.label_mask, outputs.is_top1
        assert log_probs is not None
        assert mask is not None
        assert top is not None
        if weight is not None:
            log_probs = log_probs * weight[:, None]
        tokens = mask.sum() if num_items_in_batch is None else num_items_in_batch
        loss = (-log_probs).sum() / torch.as_tensor(tokens).clamp(min=1)
        if num_items_in_batch is not None:  # it counts the tokens of every process
            loss = loss * processes.count()
        self.figures[ACCURACY].append(top.sum() / mask.sum().clamp(min=1))
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        for name, values in self.figures.items():
            self.figures[name] = [float(value) for value in values]
        super().log(logs, start_time)

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
    model = sharding.load(spec, params)
    limit = data.longest_text(model.config, params.adapter.max_length)
    rows = data.example_ids(tokenizer, examples, limit, params.model.profile)
    config = SFTConfig(
        **fit.arguments(spec, params),
        dataset_kwargs={"skip_prepare_dataset": True},  # rows are token ids already
    )
    return AnswerTrainer(
        model,
        config,
        train_dataset=Dataset.from_list([dict(row) for row in rows]),
        processing_class=tokenizer,
        data_collator=collator(tokenizer, rows),
    ), rows


def collator(tokenizer: PreTrainedTokenizerBase, rows: Sequence[data.ExampleIds]) -> WeightedCollator | None:
    """None, which is the library's own, where all rows weigh the same as ever."""
    if all(row["weight"] == 1 for row in rows):
        return None
    padding = tokenizer.pad_token_id if isinstance(tokenizer.pad_token_id, int) else tokenizer.eos_token_id
    return WeightedCollator(pad_token_id=cast(int, padding))
