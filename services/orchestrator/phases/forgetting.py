"""What the training cost elsewhere: general questions of our own, answered by the base and by the final model.

They are asked like everything else, by the bare question; an answer is right when the expected one stands in it.
"""

from functools import cache
from pathlib import Path
from typing import Any

from services.orchestrator.phases.evaluate import ask_all
from services.orchestrator.results import Measured, triple
from services.orchestrator.run import Run
from services.orchestrator.selection import seeded_order, stratified
from shared.contracts.data import Question
from shared.contracts.distillation import Grader
from shared.contracts.steps import ModelRef

TOKENS = 48  # the answers are a word or a number; a small model takes a sentence to get there
FILE = Path(__file__).parent / "general.jsonl"


@cache
def general_questions() -> list[Question]:
    """All of them, fifteen in each of eight categories."""
    return [Question.model_validate_json(line) for line in FILE.read_text().splitlines()]


async def forgetting(run: Run) -> dict[str, Any] | None:
    """The share of general questions answered right before and after; None where the job asks for none.

    guarded: the whole interval of the change lies below the job's margin, so the student is not promoted.
    """
    settings = run.spec.evaluation
    if settings.forgetting == 0 or run.student == run.base:
        return None
    questions = stratified(seeded_order(general_questions(), run.seed), settings.forgetting)

    async def asked(name: str, model: ModelRef) -> Measured:
        return await ask_all(run, f"general/{name}", questions, model, [Grader.CONTAINS], TOKENS)

    before, after = await asked("base", run.base), await asked("final", run.student)
    metric = Grader.CONTAINS.value
    change = after.gain_over(before, metric)
    margin = settings.forgetting_margin
    guarded = margin is not None and change.high < -margin
    found = {
        "n": len(questions),
        "base": triple(before.value(metric)),
        "final": triple(after.value(metric)),
        "change": triple(change),
        "missing_markers": after.missing_markers,
        "guarded": guarded,
    }
    await run.say(
        f"general questions answered right: {before.value(metric).value:.0%} by the base, "
        f"{after.value(metric).value:.0%} by the new model, change {change.value:+.3f} [{change.low:+.3f}, "
        f"{change.high:+.3f}]" + ("; more was forgotten than the job allows, so it is not promoted" if guarded else ""),
        level="warn" if change.high < 0 else "info",
        type="metrics",
        **found,
    )
    return found
