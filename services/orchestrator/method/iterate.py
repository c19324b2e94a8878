"""Phase 2, iterative training (paper section 3.2).

Strategy critique: the student answers with a rationale; the judge says what is wrong and hints at a better answer; the student tries
again, at most `tries` times. Strategy sample: the student gives several answers at once, and a grader says which pass. Strategy both:
samples first, and hints where none passed. A text that was cut off never passes. The student is trained on what passed; a question that
never passed is dropped or, with on_failure, answered by the teacher. The next round begins with the better student on fresh questions,
as long as dev shows a gain.
"""

from collections.abc import Sequence
from functools import partial

from services.orchestrator.method.context import JobContext
from services.orchestrator.method.cut_off import unfinished
from services.orchestrator.method.round_record import Try, record_of, tell_round
from services.orchestrator.method.samples import Drawn, each_once
from services.orchestrator.method.sampling import Draw
from services.orchestrator.method.state import PhaseResult, State
from shared.contracts.answer_format import MARKER, join_answer
from shared.contracts.data import Question
from shared.contracts.phase_records import DevGain, IterateRecord, RoundRecord
from shared.contracts.rows import TOO_LONG, Example, StudentCompletion, TeacherResponse, judge_input
from shared.contracts.step_key import StepKey
from shared.contracts.steps import ModelRef, StepKind


async def iterate(ctx: JobContext, state: State) -> PhaseResult:
    """The student after the last round that helped on dev; the incoming one when nothing passed."""
    settings, student, writes_rationale = ctx.spec.iterate, state.student, set(state.writes_rationale)
    examples: list[Example] = []
    rounds: list[RoundRecord] = []
    checkpoints: list[tuple[str, ModelRef]] = []
    best = await ctx.measuring.measure_to_choose(state, "iterate-0", student) if settings.rounds > 1 else None
    for number, (fresh, seen) in enumerate(ctx.rounds, start=1):
        before = student
        record, passed = await one_round(ctx, state.judge_decides, student, number, fresh, seen)
        if passed:
            examples += passed
            anew = settings.train_from == "base"  # else go on with the student
            rows, start = (each_once([*state.examples, *examples]), ctx.base) if anew else (passed, student)
            student, training = await ctx.students.train(
                StepKey("iterate", number, "train"), StepKind.SFT, rows, start, settings.epochs, settings.learning_rate
            )
            record = record.model_copy(update={"training": training})
            if before.tuned in writes_rationale or any(MARKER in example.completion for example in passed):
                writes_rationale.add(student.tuned)
            if best is not None:
                checkpoints.append((f"iterate-{number}", student))
        if best is not None:
            after = await ctx.measuring.measure_to_choose(state, f"iterate-{number}", student)
            gain = await ctx.head_to_head.gain(state, best, after)
            record = record.model_copy(update={"dev": DevGain(gain=gain.rounded(), kept=gain.value > 0)})
            best = after if gain.value > 0 else best
            if gain.value <= 0:
                await ctx.emit(f"iterate: round {number} shows no gain on dev ({gain.value:+.3f}); the rounds end here")
        rounds.append(record)
        outcome = record.model_dump(mode="json", include={"passed", "questions", "dev", "sampled"})
        outcome.setdefault("dev", None)
        await ctx.emit(f"iterate: round {number} is over", type="metrics", round=number, completed=True, **outcome)
        if best is not None and best.model != student:
            student = before
            break
    return PhaseResult(student, IterateRecord(rounds=rounds), examples, checkpoints, frozenset(writes_rationale))


async def one_round(
    ctx: JobContext,
    judge_decides: bool,
    student: ModelRef,
    number: int,
    fresh: Sequence[Question],
    seen: Sequence[Question],
) -> tuple[RoundRecord, list[Example]]:
    """All samples and tries of a round: its figures, and the rows to train on. seen: questions of phase 1, which are sampled
    and nothing else. Questions without anything to judge the answer are not tried."""
    settings = ctx.spec.iterate
    drawn: list[Drawn] = []
    if settings.strategy != "critique":
        agreement = settings.agreement if settings.without_reference == "agreement" else None
        how = Draw(student, settings.samples, settings.sample_temperature, agreement)
        drawn = await ctx.sampler.draw(StepKey("iterate", number, "samples"), how, [*fresh, *seen], judge_decides)
    examples = [ctx.students.example(one.question, text) for one in drawn for text in one.kept(settings.keep)]
    sampled = {one.question.id for one in drawn if any(one.passed)}
    unpassed = [q for q in fresh if q.id not in sampled]
    tries: list[Try] = []
    undecidable = [one.question for one in drawn[: len(fresh)] if one.by == "nobody"]
    if settings.strategy != "sample":
        decidable = [q for q in unpassed if judge_decides or (ctx.spec.judge.grader is not None and q.reference)]
        tried = {q.id for q in decidable}
        undecidable = [q for q in unpassed if q.id not in tried]
        flow = partial(answer_until_passed, ctx, student, number)
        tries = [row for batch in await ctx.gather(flow, decidable) for row in batch]
    by_id = {q.id: q for q in unpassed}
    passed = {completion.id: completion for _, completion, verdict in tries if verdict.passed}
    examples += [ctx.students.example(by_id[c.id], join_answer(c.rationale, c.answer)) for c in passed.values()]
    corrected, dropped = await corrections(ctx, number, [q for q in unpassed if q.id not in passed])
    record = record_of(settings, fresh, drawn, tries, examples, len(undecidable)).model_copy(
        update={"corrected": len(corrected), "dropped_corrections": dropped}
    )
    await tell_round(ctx.emit, settings, number, record)
    return record, sorted(examples + corrected, key=lambda example: example.id)


async def answer_until_passed(
    ctx: JobContext, student: ModelRef, number: int, index: int, batch: Sequence[Question]
) -> list[Try]:
    """A batch's tries: answer, verdict, and once more with the former answer and the hint for what did not pass."""
    settings, by_id, tries = ctx.spec.iterate, {q.id: q for q in batch}, []
    prompts = [ctx.students.prompt(q) for q in batch]
    for t in range(1, settings.tries + 1):
        if not prompts:
            break
        temperature = 0.0 if t == 1 else settings.retry_temperature
        asking = ctx.students.asking(student, temperature=temperature, salt=t)
        key = StepKey("iterate", number, f"try-{t}", index)
        attempted = await ctx.step(key.child("answers"), StepKind.REASON, asking, prompts)
        completions = [completion.marked() for completion in attempted.read(StudentCompletion)]
        verdicts = {c.id: unfinished(c) for c in completions}
        if whole := [c for c in completions if c.whole]:
            rows = [judge_input(by_id[c.id], c.answer, c.rationale, want_critique=t < settings.tries) for c in whole]
            reviewed = await ctx.judge.review(key.child("verdicts"), rows)
            verdicts |= {verdict.id: verdict for verdict in reviewed}
        tries += [(t, completion, verdicts[completion.id]) for completion in completions]
        prompts = [
            ctx.students.prompt(by_id[c.id], previous=c.answer, critique=verdicts[c.id].critique)
            for c in completions
            if c.finish_reason != TOO_LONG and not verdicts[c.id].passed
        ]
    return tries


async def corrections(ctx: JobContext, number: int, failed: Sequence[Question]) -> tuple[list[Example], dict[str, int]]:
    """The teacher's responses to what never passed, where the job asks for them, and how many were dropped for which reason.
    They take the place of answers that passed, so where there is a grader they must pass it too."""
    if ctx.spec.iterate.on_failure == "drop":
        return [], {}

    async def respond(index: int, batch: Sequence[Question]) -> list[TeacherResponse]:
        key = StepKey("iterate", number, "corrections", index)
        responses = await ctx.teacher.respond_once(key, batch)
        low = await ctx.grading.below_pass_threshold(key.child("grades"), batch, responses)
        return [r.model_copy(update={"outcome": "below_pass_mark"}) if r.id in low else r for r in responses]

    responses = [response for batch in await ctx.gather(respond, failed) for response in batch]
    return ctx.students.examples(failed, responses)
