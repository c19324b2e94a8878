"""Phase 1, weak-to-strong distillation (paper section 3.1).

The student writes a guideline for each question, the teacher answers under it, and the student is trained on
question -> answer. The guideline shapes the answer and is not part of the student's input.
"""

from collections.abc import Sequence

from services.orchestrator.method.agreed import agreement_of
from services.orchestrator.method.context import JobContext
from services.orchestrator.method.passing import reference_of
from services.orchestrator.method.state import PhaseResult, State
from shared.contracts.data import Question
from shared.contracts.distillation import Guidance, Phase
from shared.contracts.errors import FatalError
from shared.contracts.phase_records import DistillRecord
from shared.contracts.rows import TeacherResponse
from shared.contracts.step_key import StepKey
from shared.contracts.steps import ModelRef, StepKind


async def distill(ctx: JobContext, state: State) -> PhaseResult:
    """The student fine-tuned on the teacher's responses. Raises FatalError when none of them can be used."""
    settings, questions = ctx.spec.distill, ctx.shards[Phase.DISTILL]
    verifies = settings.answers == "teacher" and ctx.spec.teacher.keep == "passing"

    async def respond(index: int, batch: Sequence[Question]) -> list[TeacherResponse]:
        if settings.answers == "references":
            return [reference_of(q) for q in batch]
        key = StepKey("distill", batch=index)
        if state.guidance is Guidance.BEST:
            return await best_responses(ctx, state, key, batch)
        if state.guidance is Guidance.WEAK:
            return await guided_responses(ctx, state.student, key, batch)
        return await ctx.teacher.respond(key, batch)

    responses = [response for batch in await ctx.gather(respond, questions) for response in batch]
    examples, dropped = ctx.students.examples(questions, responses)
    await ctx.emit(f"distill: {len(examples)} of {len(responses)} answers kept", kept=len(examples), dropped=dropped)
    if not examples:
        raise FatalError(f"none of the {len(responses)} answers can be used: {dropped}", code="no_usable_answers")
    student, training = await ctx.students.train(
        StepKey("distill", role="train"), StepKind.SFT, examples, state.student, settings.epochs, settings.learning_rate
    )
    too_long = training.dropped_too_long or 0
    record = DistillRecord(
        questions=len(questions),
        kept=len(examples) - too_long,
        dropped=dropped | ({"too_long": too_long} if too_long else {}),
        cut_off_guidelines=ctx.counted("distill", "guidelines", "cut_off"),
        answers=settings.answers,
        from_reference=sum(r.from_reference for r in responses) if verifies else None,
        guidance=state.guidance.value if settings.answers == "teacher" else None,
        agreement=agreement_of(ctx.spec.teacher.samples, responses) if ctx.spec.teacher.keep == "agreed" else None,
        training=training,
    )
    return PhaseResult(
        student, record, examples, writes_rationale=frozenset({student.tuned} if ctx.spec.reasons else ())
    )


async def guided_responses(
    ctx: JobContext, student: ModelRef, key: StepKey, batch: Sequence[Question]
) -> list[TeacherResponse]:
    """The teacher's responses under the student's guidelines. The teacher does not see a guideline that was cut off."""
    guidelines = await ctx.students.guidelines(key.child("guidelines"), student, batch)
    return await ctx.teacher.respond(key, batch, guidelines)


async def best_responses(
    ctx: JobContext, state: State, key: StepKey, batch: Sequence[Question]
) -> list[TeacherResponse]:
    """Both ways for each question, and of two usable responses the better one; the unguided one where they are equal."""
    plain = await ctx.teacher.respond(key.child("unguided"), batch)
    guided = await guided_responses(ctx, state.student, key.child("guided"), batch)
    both = [i for i in range(len(batch)) if plain[i].outcome == guided[i].outcome == "ok"]
    sides = [[responses[i].answer for i in both] for responses in (plain, guided)]
    compared = StepKey("distill", role=f"compared/{key.batch}")
    scores = await ctx.judge.better(state.judge_decides, compared, [batch[i] for i in both], *sides) if both else []
    guided_wins = {i for i, (unguided, under_guideline) in zip(both, scores, strict=True) if under_guideline > unguided}
    return [guided[i] if plain[i].outcome != "ok" or i in guided_wins else plain[i] for i in range(len(batch))]
