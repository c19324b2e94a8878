"""How a preference training changes pairs that it does not train on: whether the chosen side is likelier, by how much, and how its own
likelihood changes. Rewards of trained pairs say little: they also rise on pairs that were learned by heart, and where both sides fall.

Log-probabilities are means over the tokens of a side, in nats, because the loss is length-normalised; they do not include the reference model.
"""

from statistics import fmean
from typing import NamedTuple

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from services.trainer.spec import Metrics
from services.trainer.train import data, logprobs
from services.trainer.train.model import device
from shared.contracts.prompt_profile import PromptProfile
from shared.contracts.rows import PreferencePair

MOST = 100  # pairs that are measured
DIGITS = 4


class Look(NamedTuple):
    """Mean log-probability of a token of each pair's sides."""

    chosen: list[float]
    rejected: list[float]

    @property
    def margins(self) -> list[float]:
        return [better - worse for better, worse in zip(self.chosen, self.rejected, strict=True)]


def ids_of(
    tokenizer: PreTrainedTokenizerBase, pairs: list[PreferencePair], limit: int, profile: PromptProfile
) -> list[data.PairIds]:
    """Of the pairs held out that fit into limit tokens."""
    kept = [pair for pair in pairs if pair.held_out]
    return data.fitting_pairs(tokenizer, kept, limit, profile)


def look(model: PreTrainedModel | PeftModel, rows: list[data.PairIds]) -> Look:
    """At MOST pairs, spread over all."""
    step = max(1, -(-len(rows) // MOST))
    with (
        logprobs.answering(model),
        torch.autocast(device().type, torch.bfloat16, enabled=device().type == "cuda"),
    ):
        sides = [
            [fmean(logprobs.token_logprobs(model, *side).tolist()) for side in logprobs.sides_of_pair(row)]
            for row in rows[::step]
        ]
    return Look([chosen for chosen, _ in sides], [rejected for _, rejected in sides])


def change(before: Look, after: Look) -> Metrics:
    """As shared.contracts.phase_records.HeldOut."""
    figures: Metrics = {"pairs": len(before.chosen)}
    for when, one in (("_first", before), ("", after)):
        figures[f"preferred{when}"] = round(fmean(margin > 0 for margin in one.margins), DIGITS)
        figures[f"margin{when}"] = round(fmean(one.margins), DIGITS)
        figures[f"chosen{when}"] = round(fmean(one.chosen), DIGITS)
    return {"held_out": figures}
