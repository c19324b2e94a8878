"""The teacher's answers to what the student never answered rightly (phase 2, `on_failure: teacher`)."""

from collections.abc import Sequence

from services.orchestrator.method.context import JobContext
from services.orchestrator.method.distill import ask_teacher, usable_examples
from services.orchestrator.method.judging import below_pass_threshold
from shared.contracts.data import Question
from shared.contracts.rows import Example, TeacherResponse
from shared.contracts.step_key import StepKey


async def corrections(ctx: JobContext, number: int, failed: Sequence[Question]) -> tuple[list[Example], dict[str, int]]:
    """The teacher's responses to what never passed, where the job asks for them, and how many were dropped for which reason.
    They take the place of answers that passed, so where there is a grader they must pass it too."""
    if ctx.spec.iterate.on_failure == "drop":
        return [], {}

    async def respond(index: int, batch: Sequence[Question]) -> list[TeacherResponse]:
        key = StepKey("iterate", number, "corrections", index)
        keep = "passing" if ctx.spec.teacher.keep == "passing" else "agreed"
        responses = await ask_teacher(ctx, key, batch, guided_by=None, keep=keep)
        low = await below_pass_threshold(ctx, key.child("grades"), batch, responses)
        return [r.model_copy(update={"outcome": "below_pass_mark"}) if r.id in low else r for r in responses]

    responses = [response for batch in await ctx.gather(respond, failed) for response in batch]
    return usable_examples(failed, responses, ctx.shows_calls)
