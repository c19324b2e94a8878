"""Phase 2, iterative training (paper section 3.2).

The student answers with a rationale; the judge says what is wrong and hints at a better answer; the student tries again, at
most `tries` times. A text that was cut off passes never. It is trained on what passed (what never passed is dropped or, with on_failure, answered by the teacher),
and the next round begins with the better student on fresh questions, as long as dev shows a gain.
"""

from collections.abc import Sequence
from functools import partial

from services.orchestrator.method.context import JobContext, PhaseResult, State
from services.orchestrator.method.cut_off import UNANSWERED, unfinished
from services.orchestrator.method.distill import ask_teacher, usable_examples
from services.orchestrator.method.evaluate import measure_to_choose
from services.orchestrator.method.head_to_head import gain_of
from services.orchestrator.method.judging import below_pass_threshold, judge_input
from shared.contracts.answer_format import MARKER, join_answer
from shared.contracts.data import Question
from shared.contracts.distillation import Phase
from shared.contracts.report import DevGain, IterateRecord, RoundRecord
from shared.contracts.rows import TOO_LONG, Example, StudentCompletion, TeacherResponse, Verdict
from shared.contracts.step_key import StepKey
from shared.contracts.steps import ModelRef, Sampling, StepKind, StudentParams
from shared.plan.allocation import rounds_of

Try = tuple[int, StudentCompletion, Verdict]  # its number comes first


async def iterate(ctx: JobContext, state: State) -> PhaseResult:
    """The student after the last round that helped on dev; the incoming one when nothing passed."""
    settings, student, writes_rationale = ctx.spec.iterate, state.student, set(state.writes_rationale)
    examples: list[Example] = []
    rounds: list[RoundRecord] = []
    checkpoints: list[tuple[str, ModelRef]] = []
    best = await measure_to_choose(ctx, state, "iterate-0", student) if settings.rounds > 1 else None
    shards = rounds_of(ctx.shards[Phase.ITERATE], settings.rounds, settings.round_questions)
    for number, questions in enumerate(shards, start=1):
        before = student
        record, passed = await one_round(ctx, state.judge_decides, student, number, questions)
        if passed:
            examples += passed
            anew = settings.train_from == "base"  # else go on with the student
            rows, start = ([*state.examples, *examples], ctx.base) if anew else (passed, student)
            student, training = await ctx.train(
                StepKey("iterate", number, "train"), StepKind.SFT, rows, start, settings.epochs, settings.learning_rate
            )
            record = record.model_copy(update={"training": training})
            if before.tuned in writes_rationale or any(MARKER in example.completion for example in passed):
                writes_rationale.add(student.tuned)
            if best is not None:
                checkpoints.append((f"iterate-{number}", student))
        if best is not None:
            after = await measure_to_choose(ctx, state, f"iterate-{number}", student)
            gain = await gain_of(ctx, state, best, after)
            record = record.model_copy(update={"dev": DevGain(gain=gain.rounded(), kept=gain.value > 0)})
            best = after if gain.value > 0 else best
            if gain.value <= 0:
                await ctx.emit(f"iterate: round {number} shows no gain on dev ({gain.value:+.3f}); the rounds end here")
        rounds.append(record)
        outcome = record.model_dump(mode="json", include={"passed", "questions", "dev"})
        outcome.setdefault("dev", None)
        await ctx.emit(f"iterate: round {number} is over", type="metrics", round=number, completed=True, **outcome)
        if best is not None and best.model != student:
            student = before
            break
    return PhaseResult(student, IterateRecord(rounds=rounds), examples, checkpoints, frozenset(writes_rationale))


async def one_round(
    ctx: JobContext, judge_decides: bool, student: ModelRef, number: int, questions: Sequence[Question]
) -> tuple[RoundRecord, list[Example]]:
    """All tries of a round: its figures, and the rows to train on. Questions without anything to judge the answer are not tried."""
    by_id = {q.id: q for q in questions}
    decidable = [q for q in questions if judge_decides or (ctx.spec.judge.grader is not None and q.reference)]
    flow = partial(answer_until_passed, ctx, student, number)
    tries = [row for batch in await ctx.gather(flow, decidable) for row in batch]
    passed = {completion.id: completion for _, completion, verdict in tries if verdict.passed}
    examples = [ctx.example(by_id[c.id], join_answer(c.rationale, c.answer)) for c in passed.values()]
    corrected, dropped = await corrections(ctx, number, [q for q in questions if q.id not in passed])
    numbers = range(1, ctx.spec.iterate.tries + 1)
    passed_in = [sum(verdict.passed for n, _, verdict in tries if n <= t) for t in numbers]
    record = RoundRecord(
        questions=len(questions),
        undecidable=len(questions) - len(decidable),
        passed=len(passed),
        corrected=len(corrected),
        dropped_corrections=dropped,
        asked_by_try=[sum(n == t for n, _, _ in tries) for t in numbers],
        pass_rate=[count / max(len(decidable), 1) for count in passed_in],
        unparsed_verdicts=sum(verdict.by == "unparsed" for _, _, verdict in tries),
        leaked_hints=sum(verdict.leaked for _, _, verdict in tries),
        too_long=sum(verdict.by == UNANSWERED for _, _, verdict in tries),
        cut_off=sum(completion.cut_off for _, completion, _ in tries),
        missing_markers=sum(completion.marker_missing for _, completion, _ in tries),
        with_rationale=sum(MARKER in example.completion for example in examples),
    )
    if record.undecidable:
        instead = "answered by the teacher" if ctx.spec.iterate.on_failure == "teacher" else "dropped"
        counts = f"{record.undecidable} of {len(questions)} questions are not tried but {instead}"
        reason = "the judge is no better than chance on the labels, and no grader can say what passes"
        await ctx.emit(f"iterate: round {number}: {counts}: {reason}", level="warn")
    rates = f"pass rate by try {', '.join(f'{rate:.0%}' for rate in record.pass_rate)}"
    await ctx.emit(f"iterate: round {number}: {rates}", type="metrics", round=number, pass_rate=record.pass_rate)
    return record, sorted(examples + corrected, key=lambda example: example.id)


async def answer_until_passed(
    ctx: JobContext, student: ModelRef, number: int, index: int, batch: Sequence[Question]
) -> list[Try]:
    """A batch's tries: answer, verdict, and once more with the former answer and the hint for what did not pass."""
    settings, by_id, tries = ctx.spec.iterate, {q.id: q for q in batch}, []
    prompts = [ctx.prompt(q) for q in batch]
    for t in range(1, settings.tries + 1):
        if not prompts:
            break
        temperature = 0.0 if t == 1 else settings.retry_temperature
        sampling = Sampling(max_tokens=ctx.spec.student_tokens, temperature=temperature, seed=ctx.seed + t)
        params = StudentParams(model=student, domain=ctx.spec.domain, sampling=sampling)
        key = StepKey("iterate", number, f"try-{t}", index)
        attempted = await ctx.step(key.child("answers"), StepKind.REASON, params, prompts)
        completions = [completion.marked() for completion in attempted.read(StudentCompletion)]
        verdicts = {c.id: unfinished(c) for c in completions}
        if whole := [c for c in completions if c.whole]:
            rows = [judge_input(by_id[c.id], c.answer, c.rationale, want_critique=t < settings.tries) for c in whole]
            reviewed = await ctx.step(key.child("verdicts"), StepKind.REVIEW, ctx.judge, rows)
            verdicts |= {verdict.id: verdict for verdict in reviewed.read(Verdict)}
        tries += [(t, completion, verdicts[completion.id]) for completion in completions]
        prompts = [
            ctx.prompt(by_id[c.id], previous=c.answer, critique=verdicts[c.id].critique)
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
        responses = await ask_teacher(ctx, key, batch, guided_by=None)
        low = await below_pass_threshold(ctx, key.child("grades"), batch, responses)
        return [r.model_copy(update={"outcome": "below_pass_mark"}) if r.id in low else r for r in responses]

    responses = [response for batch in await ctx.gather(respond, failed) for response in batch]
    return usable_examples(failed, responses, ctx.shows_calls)
