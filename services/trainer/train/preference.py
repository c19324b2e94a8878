"""Self-evolution's second half: prefer the high-compute answer to the low-compute one (paper section 3.3).

DPO, length-normalised, with a likelihood term on the chosen answer. The reference is the incoming student: TRL freezes
a copy of a PeftModel's adapter when it is passed without a peft_config. Without an incoming adapter it is the base.
When all weights are trained TRL would hold a second model; instead the incoming one scores all pairs before the first
step, also when a training resumes: checkpoints are loaded after that.
"""

from statistics import fmean
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from services.trainer.spec import Spec
from services.trainer.train import data, fit
from services.trainer.train.model import device, load_tokenizer, trainable
from services.trainer.train.progress import Reporter
from shared.contracts.rows import PreferencePair
from shared.contracts.steps import Method, TrainParams


def prefer(spec: Spec, reporter: Reporter) -> dict[str, Any]:
    """Rows are PreferencePair. Leaves adapter or weights in spec.output; returns the figures."""
    params = TrainParams.model_validate(spec.params)
    pairs = [PreferencePair.model_validate(row) for row in spec.rows]
    fit.score_answers_only()
    tokenizer = load_tokenizer(spec.base)
    model = trainable(spec, params)
    rows = data.pair_ids(tokenizer, pairs, data.longest_text(model.config, params.adapter.max_length))
    longest = max(len(r["prompt_ids"]) + max(len(r["chosen_ids"]), len(r["rejected_ids"])) for r in rows)
    config = DPOConfig(
        **fit.arguments(spec, params, 2 * longest),
        loss_type=["sigmoid_norm", "sft"],
        loss_weights=[1.0, params.sft_weight],
        beta=params.beta,
        precompute_ref_log_probs=params.method is Method.FULL,
    )
    dataset = Dataset.from_list(rows)
    with torch.autocast(device().type, torch.bfloat16, enabled=device().type == "cuda"):  # scores as training does
        trainer = PairTrainer(model, args=config, train_dataset=dataset, processing_class=tokenizer)
    figures = fit.fit(trainer, spec, params, reporter)
    margins, right = fit.series(trainer, "rewards/margins"), fit.series(trainer, "rewards/accuracies")
    last = fit.quarter(margins)
    return figures | {
        "rows": len(rows),
        "dropped_too_long": len(pairs) - len(rows),
        "margin_first": round(margins[0], 4),
        "margin": round(fmean(margins[-last:]), 4),
        "reward_accuracy": round(fmean(right[-last:]), 4),
        "mean_tokens_chosen": round(fmean(len(r["chosen_ids"]) for r in rows), 2),
        "mean_tokens_rejected": round(fmean(len(r["rejected_ids"]) for r in rows), 2),
    }


class PairTrainer(DPOTrainer):
    """Takes token ids, so that the prompt's ids are the engine's; TRL would tokenize the texts once more."""

    def _prepare_dataset(self, dataset, processing_class, args, dataset_name):
        return dataset

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """A checkpoint holds the trained adapter, and the frozen reference in a folder below it. Of such a checkpoint
        transformers restores the folders alone: the training would go on with the adapter it had begun with."""
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if isinstance(self.model, PeftModel):
            self.model.load_adapter(resume_from_checkpoint, "default", is_trainable=True)
