"""Self-evolution, second half: DPO on high-compute against low-compute answers (paper section 3.3).

Length-normalised, with a likelihood term on the chosen answer. The reference is the incoming student: TRL freezes a
copy of a PeftModel's adapter when it is passed without a peft_config; without an incoming adapter it is the base. For
a full training the incoming model scores all pairs before the first step instead of a second model in memory, also on
a resume: checkpoints are loaded after that.
"""

from statistics import fmean
from typing import Any, cast

import torch
from datasets import Dataset
from peft import PeftModel
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DataCollatorForPreference, DPOTrainer

from services.trainer.spec import Metrics, Spec
from services.trainer.train import data, fit, held_out, logprobs
from services.trainer.train.model import device, load_tokenizer, trainable
from services.trainer.train.progress import Reporter
from shared.contracts.rows import PreferencePair
from shared.contracts.steps import Method, TrainParams

WEIGHT = "weight"
ALONE = 10**9  # tokens of a row that shares its batch with no other


class WeightedPairs(DataCollatorForPreference):
    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        return super().torch_call(examples) | {WEIGHT: torch.tensor([example[WEIGHT] for example in examples])}


def dpo(spec: Spec, reporter: Reporter) -> Metrics:
    """Rows are PreferencePair. Writes adapter or weights to spec.output. What is held out is measured before and after."""
    params = TrainParams.model_validate(spec.params)
    pairs = [PreferencePair.model_validate(row) for row in spec.rows]
    fit.score_answers_only()
    tokenizer = load_tokenizer(spec.base, params.model.profile)
    model = trainable(spec, params)
    limit = data.longest_text(model.config, params.adapter.max_length)
    rows = data.pair_ids(tokenizer, [pair for pair in pairs if not pair.held_out], limit, params.model.profile)
    unseen = held_out.ids_of(tokenizer, pairs, limit, params.model.profile)
    longest = max(len(r["prompt_ids"]) + max(len(r["chosen_ids"]), len(r["rejected_ids"])) for r in rows)
    weighted = any(row["weight"] != 1 for row in rows)
    config = DPOConfig(
        **fit.arguments(spec, params, ALONE if weighted else 2 * longest),
        loss_type=["sigmoid_norm", "sft"],
        loss_weights=[1.0, params.sft_weight],
        beta=params.beta,
        precompute_ref_log_probs=params.method is Method.FULL,
    )
    dataset = Dataset.from_list([dict(row) for row in rows])
    with torch.autocast(device().type, torch.bfloat16, enabled=device().type == "cuda"):  # scores as training does
        trainer = PairTrainer(
            model,
            args=config,
            train_dataset=dataset,
            processing_class=tokenizer,
            data_collator=WeightedPairs(pad_token_id=cast(int, tokenizer.pad_token_id)),
        )
    before = held_out.look(model, unseen)
    metrics = fit.fit(trainer, spec, params, [logprobs.of_pair(row) for row in rows], reporter)
    margins, accuracies = fit.series(trainer, "rewards/margins"), fit.series(trainer, "rewards/accuracies")
    last = fit.quarter(margins)
    told = held_out.change(before, held_out.look(model, unseen)) if unseen else {}
    return (
        metrics
        | told
        | {
            "rows": len(rows),
            "dropped_too_long": len(pairs) - len(rows) - len(unseen),
            "margin_first": round(margins[0], 4),
            "margin": round(fmean(margins[-last:]), 4),
            "reward_accuracy": round(fmean(accuracies[-last:]), 4),
            "mean_tokens_chosen": round(fmean(len(r["chosen_ids"]) for r in rows), 2),
            "mean_tokens_rejected": round(fmean(len(r["rejected_ids"]) for r in rows), 2),
        }
    )


class PairTrainer(DPOTrainer):
    """Takes token ids, so that prompts have the engine's ids; TRL would tokenize the texts again. A pair's whole loss counts as much
    as the pair weighs (ScPO, arXiv 2411.04109, eq. 4)."""

    def _prepare_dataset(self, dataset, processing_class, args, dataset_name):
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if WEIGHT not in (self._signature_columns or ()):
            self._signature_columns = [*(self._signature_columns or ()), WEIGHT]

    def compute_ref_log_probs(self, model, inputs):
        return super().compute_ref_log_probs(model, {name: given for name, given in inputs.items() if name != WEIGHT})

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Pairs of different weights come one by one, so that the loss is one pair's."""
        weights = inputs.pop(WEIGHT, None)
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        return loss if weights is None or return_outputs else loss * weights.mean()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load the trained adapter too: of a checkpoint with a frozen reference in a folder below, transformers restores
        the folders only, and the training would continue from its initial adapter."""
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if isinstance(self.model, PeftModel):
            self.model.load_adapter(resume_from_checkpoint, "default", is_trainable=True)
