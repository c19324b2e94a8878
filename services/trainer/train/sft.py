"""Supervised fine-tuning: question -> answer, loss on the answer's tokens only (paper sections 3.1 and 3.2)."""

from typing import Any, cast

import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from services.trainer.spec import Spec
from services.trainer.train import data, fit
from services.trainer.train.model import load_tokenizer, trainable
from services.trainer.train.progress import Reporter
from shared.contracts.rows import Example
from shared.contracts.steps import TrainParams

# Settings by which some models change their logits after the head; those models take TRL's own path.
HEAD_EXTRAS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier", "output_multiplier")


def fine_tune(spec: Spec, reporter: Reporter) -> dict[str, Any]:
    """Rows are Example. Leaves the adapter in spec.output; returns the figures."""
    params = TrainParams.model_validate(spec.params)
    examples = [Example.model_validate(row) for row in spec.rows]
    trainer, kept = build(spec, params, examples)
    return fit.fit(trainer, spec, params, reporter) | {"rows": kept, "dropped_too_long": len(examples) - kept}


def build(spec: Spec, params: TrainParams, examples: list[Example]) -> "tuple[AnswerTrainer, int]":
    """The trainer over the examples that fit, and their number. Raises UserError when none fits."""
    tokenizer = load_tokenizer(spec.base)
    model = trainable(spec, params)
    rows = data.example_ids(tokenizer, examples, data.longest_text(model.config, params.adapter.max_length))
    config = SFTConfig(
        **fit.arguments(spec, params, max(len(row["input_ids"]) for row in rows)),
        dataset_kwargs={"skip_prepare_dataset": True},  # rows are token ids already
        train_sampling_strategy="group_by_length",
    )
    return AnswerTrainer(model, config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer), len(rows)


class AnswerTrainer(SFTTrainer):
    """On a CPU TRL scores every token of a batch against the whole vocabulary, prompts and padding included.

    Scoring the answers' tokens alone gives the same loss for a fraction of the work; on a GPU TRL does so itself.
    """

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        base: PreTrainedModel = self.accelerator.unwrap_model(model).get_base_model()
        if return_outputs or base.device.type != "cpu" or not _plain_head(base):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        hidden = base.base_model(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False
        ).last_hidden_state[:, :-1]
        labels = inputs["labels"][:, 1:]
        scored = labels != data.IGNORED
        head = cast(torch.nn.Module, base.get_output_embeddings())
        logits = head(hidden[scored]).float()
        total = cross_entropy(logits, labels[scored], reduction="sum")
        return total / (scored.sum() if num_items_in_batch is None else torch.as_tensor(num_items_in_batch))


def _plain_head(base: PreTrainedModel) -> bool:
    config = base.config.get_text_config()
    extras = any(getattr(config, name, None) not in (None, 1, 1.0) for name in HEAD_EXTRAS)
    return not extras and not getattr(config, "output_router_logits", False)
