"""What training cost elsewhere: general questions of our own, answered by the base and by the final model."""

from services.orchestrator.method.context import JobContext
from services.orchestrator.method.state import State
from shared.contracts.grader_kinds import Grader
from shared.contracts.report import ForgettingRecord

GENERAL_TOKENS = 48  # the answers are a word or a number; a small model writes a sentence first


def general_tokens(ctx: JobContext, state: State) -> int:
    """The longest answer to a general question, for both models: a student that reasons first needs the job's room for its reasoning,
    or its answer is cut off and counts as forgotten."""
    taught = GENERAL_TOKENS + ctx.spec.student_tokens - ctx.spec.answer_tokens
    return max(taught, ctx.spec.student_tokens if state.student.tuned in state.writes_rationale else 0)


async def forgetting(ctx: JobContext, state: State) -> ForgettingRecord | None:
    """The share of general questions answered right before and after; None where the job asks for none.

    An answer is right when the expected one stands in it. guarded: the whole interval of the change lies below the job's
    margin, so the student is not promoted.
    """
    if not ctx.general_questions or state.student == ctx.base:
        return None
    tokens = general_tokens(ctx, state)
    folder = "general" if tokens == GENERAL_TOKENS else f"general/{tokens}"
    before, after = [
        await ctx.measuring.answer_and_grade(
            state, f"{folder}/{name}", ctx.general_questions, model, [Grader.CONTAINS], tokens
        )
        for name, model in (("base", ctx.base), ("final", state.student))
    ]
    change = after.gain_over(before)
    margin = ctx.spec.evaluation.forgetting_margin
    guarded = margin is not None and change.high < -margin
    record = ForgettingRecord(
        n=len(ctx.general_questions),
        base=before.value().rounded(),
        final=after.value().rounded(),
        change=change.rounded(),
        missing_markers=after.missing_markers,
        guarded=guarded,
    )
    await ctx.emit(
        f"general questions answered right: {before.value().value:.0%} by the base, "
        f"{after.value().value:.0%} by the new model, change {change.value:+.3f} [{change.low:+.3f}, "
        f"{change.high:+.3f}]" + ("; more was forgotten than the job allows, so it is not promoted" if guarded else ""),
        level="warn" if change.high < 0 else "info",
        type="metrics",
        **record.model_dump(mode="json"),
    )
    return record
