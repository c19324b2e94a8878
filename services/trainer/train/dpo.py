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
from services.trainer.train import data, fit, held_out, logprobs, processes, sharding, together
from services.trainer.train.model import device, load_tokenizer
from services.trainer.train.passes import Pass
from services.trainer.train.progress import Reporter
from services.trainer.train.step_in_passes import CPU_TOKENS, StepInPasses, micro_batch
from shared.contracts.rows import PreferencePair
from shared.contracts.steps import Method, TrainParams

WEIGHT = "weight"
AT_ONCE = {
    "cpu": CPU_TOKENS,
    "cuda": 8192,
}  # tokens of pairs that the incoming model scores, which keeps no activations


class WeightedPairs(DataCollatorForPreference):
    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        return super().torch_call(examples) | {WEIGHT: torch.tensor([example[WEIGHT] for example in examples])}


def dpo(spec: Spec, reporter: Reporter) -> Metrics:
    """Rows are PreferencePair. Writes adapter or weights to spec.output. What is held out is measured before and after."""
    params = TrainParams.model_validate(spec.params)
    pairs = [PreferencePair.model_validate(row) for row in spec.rows]
    fit.score_answers_only()
    tokenizer = load_tokenizer(spec.base, params.model.profile)
    model = sharding.load(spec, params)
    limit = data.longest_text(model.config, params.adapter.max_length)
    rows = data.pair_ids(tokenizer, [pair for pair in pairs if not pair.held_out], limit, params.model.profile)
    unseen = held_out.ids_of(tokenizer, pairs, limit, params.model.profile)
    longest = max(len(r["prompt_ids"]) + max(len(r["chosen_ids"]), len(r["rejected_ids"])) for r in rows)
    weighted = any(row["weight"] != 1 for row in rows)
    config = DPOConfig(
        **fit.arguments(spec, params),
        loss_type=["sigmoid_norm", "sft"],
        loss_weights=[1.0, params.sft_weight],
        beta=params.beta,
        precompute_ref_log_probs=params.method is Method.FULL,
        precompute_ref_batch_size=1
        if weighted
        else micro_batch(params.batch_size, 2 * longest, AT_ONCE[device().type]),
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
    trainer.alone, trainer.sft_weight = weighted, params.sft_weight
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


class PairTrainer(StepInPasses, DPOTrainer):
    """Takes token ids, so that prompts have the engine's ids; TRL would tokenize the texts again. A pair's whole loss counts as much
    as the pair weighs (ScPO, arXiv 2411.04109, eq. 4)."""

    sides = 2
    sft_weight = 0.0

    def _before(self, part: Pass, inputs: dict[str, Any]) -> None:
        """The likelihood term is a mean over tokens: a smaller pass has its tokens' share of it, not its rows'."""
        mask = inputs["completion_mask"]
        tokens, all_tokens = (
            int(mask[start:stop].sum()) for start, stop in ((part.start, part.stop), (part.first, part.last))
        )
        share = tokens / all_tokens * (part.last - part.first) / (part.stop - part.start)
        self.loss_weights = [1.0, self.sft_weight * share]

    def _prepare_dataset(self, dataset, processing_class, args, dataset_name):
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if WEIGHT not in (self._signature_columns or ()):
            self._signature_columns = [*(self._signature_columns or ()), WEIGHT]

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """With several processes each scores some batches; TRL would pass them on by a file that only one of them can find."""
        if processes.count() == 1:
            return super()._precompute_ref_logps(dataset, name, batch_size)
        starts = range(0, len(dataset), batch_size)
        rows = self._remove_unused_columns(dataset)
        own = {}
        for start in starts[processes.rank() :: processes.count()]:
            batch = self.data_collator([rows[place] for place in range(start, min(start + batch_size, len(dataset)))])
            sides = self.compute_ref_log_probs(self.model, self._prepare_inputs(batch))
            own[start] = [side.tolist() for side in sides]
        scored = together.joined(own)
        for number, column in enumerate(("ref_chosen_logps", "ref_rejected_logps")):
            values = [value for start in starts for value in scored[start][number]]
            dataset = cast(Dataset, dataset.add_column(column, values))
        return dataset

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
