"""Whether an exported model equals the trained one: the figures, and the limits at which the export fails."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from shared.contracts.answer_format import split_answer
from shared.contracts.errors import FatalError
from shared.contracts.rows import ParitySample, StudentCompletion

LOGITS_APART = 0.05  # float32, two ways to add up the same product; what rounding alone makes is a hundredth of this
SAME_TEXTS = 0.75  # a tie between two tokens may fall the other way


class ParityFailed(FatalError):
    code = "parity_failed"


def compare(said: Sequence[ParitySample], served: Sequence[StudentCompletion]) -> dict[str, Any]:
    """Figures over the questions that both could be asked. merged: logits and greedy texts in float32, against base plus
    adapter; served: greedy texts of the engine, which computes in a type of its own."""
    attempts = {attempt.id: attempt for attempt in served}
    same = [_words(one.adapter) == (attempts[one.id].rationale, attempts[one.id].answer) for one in said]
    tokens = [one.tokens + 1 for one in said]
    return {
        "prompts": len(said),
        "merged": {
            "greedy_agreement": round(fmean(one.same for one in said), 4),
            "logit_difference_max": max(one.logit_max for one in said),
            "logit_difference_mean": sum(one.logit_mean * n for one, n in zip(said, tokens, strict=True)) / sum(tokens),
        },
        "served": {"greedy_agreement": round(fmean(same), 4)},
    }


def _words(text: str) -> tuple[str | None, str]:
    return split_answer(text)


def check(figures: dict[str, Any]) -> None:
    """Raises ParityFailed. An engine in bfloat16 writes some answers differently than float32, so only an engine that agrees
    on no answer fails."""
    merged, served = figures["merged"], figures["served"]
    summary = (
        f"of {figures['prompts']} prompts: merged model and adapter agree on {merged['greedy_agreement']:.0%}, logits differ by "
        f"{merged['logit_difference_max']:.3g} at most; served model and adapter agree on {served['greedy_agreement']:.0%}"
    )
    if merged["logit_difference_max"] > LOGITS_APART or merged["greedy_agreement"] < SAME_TEXTS:
        raise ParityFailed(f"the merged model differs from base plus adapter; {summary}")
    if served["greedy_agreement"] == 0:
        raise ParityFailed(f"the served model differs from base plus adapter; {summary}")
