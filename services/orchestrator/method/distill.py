"""Phase 1, weak-to-strong distillation (paper section 3.1).

The student writes a guideline for each question, the teacher answers under it, and the student is trained on
question -> answer. The guideline shapes the answer and is not part of the student's input.
"""

from collections import Counter
from collections.abc import Sequence

from services.orchestrator.method.agreed import agreement_of, distinct_samples, most_agreed
from services.orchestrator.method.context import JobContext, PhaseResult, State
from services.orchestrator.method.cut_off import cut_off_guidelines
from services.orchestrator.method.judging import better
from services.orchestrator.method.passing import passing, reference_of
from services.orchestrator.method.response_checks import with_checked_outcome
from services.orchestrator.method.selection import near_duplicates
from shared.contracts.data import Question
from shared.contracts.distillation import Guidance, Keep, Phase
from shared.contracts.errors import FatalError
from shared.contracts.report import DistillRecord
from shared.contracts.rows import Example, Guideline, TeacherInput, TeacherResponse, asked, asked_of_teacher
from shared.contracts.step_key import StepKey
from shared.contracts.steps import ModelRef, Sampling, StepKind, StudentParams


async def distill(ctx: JobContext, state: State) -> PhaseResult:
    """The student fine-tuned on the teacher's responses. Raises FatalError when none of them can be used."""
    settings, questions = ctx.spec.distill, ctx.shards[Phase.DISTILL]
    verifies = settings.answers == "teacher" and ctx.spec.teacher.keep == "passing"
    guided = state.guidance is Guidance.WEAK

    async def respond(index: int, batch: Sequence[Question]) -> list[TeacherResponse]:
        if settings.answers == "references":
            return [reference_of(q) for q in batch]
        if state.guidance is Guidance.BEST:
            return await best_responses(ctx, state, index, batch)
        key, student = StepKey("distill", batch=index), state.student if guided else None
        return await ask_teacher(ctx, key, batch, student, ctx.spec.teacher.keep)

    responses = [response for batch in await ctx.gather(respond, questions) for response in batch]
    examples, dropped = usable_examples(questions, responses, ctx.shows_calls)
    await ctx.emit(f"distill: {len(examples)} of {len(responses)} answers kept", kept=len(examples), dropped=dropped)
    if not examples:
        raise FatalError(f"none of the {len(responses)} answers can be used: {dropped}", code="no_usable_answers")
    student, training = await ctx.train(
        StepKey("distill", role="train"), StepKind.SFT, examples, state.student, settings.epochs, settings.learning_rate
    )
    too_long = training.dropped_too_long or 0
    record = DistillRecord(
        questions=len(questions),
        kept=len(examples) - too_long,
        dropped=dropped | ({"too_long": too_long} if too_long else {}),
        cut_off_guidelines=cut_off_guidelines(ctx, "distill"),
        answers=settings.answers,
        from_reference=sum(r.from_reference for r in responses) if verifies else None,
        guidance=state.guidance.value if settings.answers == "teacher" else None,
        agreement=agreement_of(ctx.spec.teacher.samples, responses) if ctx.spec.teacher.keep == "agreed" else None,
        training=training,
    )
    return PhaseResult(
        student, record, examples, writes_rationale=frozenset({student.tuned} if ctx.spec.reasons else ())
    )


async def best_responses(ctx: JobContext, state: State, index: int, batch: Sequence[Question]) -> list[TeacherResponse]:
    """Both ways for each question, and of two usable responses the better one; the unguided one where they are equal."""
    keep = ctx.spec.teacher.keep
    plain = await ask_teacher(ctx, StepKey("distill", role="unguided", batch=index), batch, None, keep)
    guided = await ask_teacher(ctx, StepKey("distill", role="guided", batch=index), batch, state.student, keep)
    both = [i for i in range(len(batch)) if plain[i].outcome == guided[i].outcome == "ok"]
    sides = [[responses[i].answer for i in both] for responses in (plain, guided)]
    key = StepKey("distill", role=f"compared/{index}")
    scores = await better(ctx, state.judge_decides, key, [batch[i] for i in both], *sides) if both else []
    guided_wins = {i for i, (unguided, under_guideline) in zip(both, scores, strict=True) if under_guideline > unguided}
    return [guided[i] if plain[i].outcome != "ok" or i in guided_wins else plain[i] for i in range(len(batch))]


async def ask_teacher(
    ctx: JobContext, key: StepKey, batch: Sequence[Question], guided_by: ModelRef | None, keep: Keep = "agreed"
) -> list[TeacherResponse]:
    """The teacher's responses to a batch, with their outcomes checked. guided_by: the student that writes guidelines first; the
    teacher does not see one that was cut off. keep: teacher.keep; one response to each question, or with `all` every distinct one."""
    guidelines: dict[str, str] = {}
    if guided_by is not None:
        sampling = Sampling(max_tokens=ctx.spec.distill.guideline_tokens, seed=ctx.seed)
        params = StudentParams(model=guided_by, domain=ctx.spec.domain, sampling=sampling)
        written = await ctx.step(key.child("guidelines"), StepKind.GUIDE, params, [ctx.prompt(q) for q in batch])
        guidelines = {row.id: row.guideline for row in written.read(Guideline) if not row.cut_off}
    rows = [TeacherInput(**asked_of_teacher(q), reference=q.reference, guideline=guidelines.get(q.id)) for q in batch]
    answered = await ctx.step(key.child("answers"), StepKind.TEACH, ctx.teacher, rows)

    def checked(response: TeacherResponse, question: Question) -> TeacherResponse:
        return with_checked_outcome(response, question, guidelines.get(question.id), ctx.reference_scripts)

    responses = answered.read(TeacherResponse)
    if keep == "all":
        return [
            checked(one, question) for r, question in zip(responses, batch, strict=True) for one in distinct_samples(r)
        ]
    verifiable, others = list[tuple[Question, TeacherResponse]](), list[tuple[Question, TeacherResponse]]()
    for question, response in zip(batch, responses, strict=True):
        (verifiable if keep == "passing" and question.reference else others).append((question, response))
    settled = await passing(ctx, key.child("passing"), verifiable, checked) if verifiable else []
    if ctx.spec.teacher.samples > 1 and others:
        settled += await most_agreed(ctx, key.child("votes"), others, checked)
    else:
        settled += [checked(response, question) for question, response in others]
    by_id = {response.id: response for response in settled}
    return [by_id[question.id] for question in batch]


def usable_examples(
    questions: Sequence[Question], responses: Sequence[TeacherResponse], shows_calls: bool = True
) -> tuple[list[Example], dict[str, int]]:
    """The usable responses as training rows, and how many were dropped for which reason."""
    by_id = {q.id: q for q in questions}
    dropped = Counter(response.outcome for response in responses if response.outcome != "ok")
    kept = [response for response in responses if response.outcome == "ok"]
    usable = [Example(**asked(by_id[r.id], shows_calls), completion=r.completion, weight=r.share or 1) for r in kept]
    repeated = near_duplicates([f"{row.question} {row.completion}" for row in usable])
    if repeated:
        dropped["near_duplicate"] = len(repeated)
    return [row for i, row in enumerate(usable) if i not in repeated], dict(dropped)
