"""Phase 2, iterative training (paper section 3.2).

The student answers with a rationale; the judge says what is wrong and hints at a better answer; the student tries again, at
most `tries` times. It is trained on what passed (what never passed is dropped or, with on_failure, answered by the teacher),
and the next round begins with the better student on fresh questions, as long as dev shows a gain.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from services.orchestrator.method.context import JobContext, PhaseResult, State
from services.orchestrator.method.distill import ask_teacher, usable_examples
from services.orchestrator.method.evaluate import measure
from services.orchestrator.method.judging import below_pass_threshold
from shared.contracts.answer_format import MARKER, join_answer
from shared.contracts.data import Question, Split
from shared.contracts.distillation import Phase
from shared.contracts.rows import (
    TOO_LONG,
    Example,
    JudgeInput,
    StudentCompletion,
    StudentPrompt,
    TeacherResponse,
    Verdict,
)
from shared.contracts.steps import ModelRef, Sampling, StepKind, StudentParams
from shared.plan.allocation import rounds_of

UNANSWERED = "unanswered"  # the prompt does not fit into the student's context, in no later try either


class Try(NamedTuple):
    number: int
    completion: StudentCompletion
    verdict: Verdict


async def iterate(ctx: JobContext, state: State) -> PhaseResult:
    """The student after the last round that helped on dev; the incoming one when nothing passed."""
    settings, several = ctx.spec.iterate, ctx.spec.iterate.rounds > 1
    student, writes_rationale = state.student, set(state.writes_rationale)
    examples: list[Example] = []
    rounds: list[dict[str, Any]] = []
    checkpoints: list[tuple[str, ModelRef]] = []
    best = await measure(ctx, state, "iterate-0", Split.DEV, student) if several else None
    for number, questions in enumerate(
        rounds_of(ctx.shards[Phase.ITERATE], settings.rounds, settings.round_questions), start=1
    ):
        record, passed = await one_round(ctx, state.judge_decides, student, number, questions)
        rounds.append(record)
        before = student
        if passed:
            examples += passed
            anew = settings.train_from == "base"  # else go on with the student
            student, record["training"] = await ctx.train(
                f"iterate/{number}/train",
                StepKind.SFT,
                [*state.examples, *examples] if anew else passed,
                ctx.base if anew else student,
                settings.epochs,
                settings.learning_rate,
            )
            if before.tuned in writes_rationale or any(MARKER in example.completion for example in passed):
                writes_rationale.add(student.tuned)
            if several:
                checkpoints.append((f"iterate-{number}", student))
        if best is not None:
            after = await measure(ctx, state, f"iterate-{number}", Split.DEV, student)
            gain = after.gain_over(best, ctx.metric)
            record["dev"] = {"gain": gain.rounded(), "kept": gain.value > 0}
            best = after if gain.value > 0 else best
            if gain.value <= 0:
                await ctx.emit(f"iterate: round {number} shows no gain on dev ({gain.value:+.3f}); the rounds end here")
        outcome: dict[str, Any] = {name: record.get(name) for name in ("passed", "questions", "dev")}
        await ctx.emit(f"iterate: round {number} is over", type="metrics", round=number, completed=True, **outcome)
        if best is not None and best.model != student:
            student = before
            break
    return PhaseResult(student, {"rounds": rounds}, examples, checkpoints, frozenset(writes_rationale))


async def one_round(
    ctx: JobContext, judge_decides: bool, student: ModelRef, number: int, questions: Sequence[Question]
) -> tuple[dict[str, Any], list[Example]]:
    """All tries of a round: its figures, and the rows to train on. Questions whose answers nobody can judge are not tried."""
    text = {q.id: q.text for q in questions}
    decidable = [q for q in questions if judge_decides or (ctx.spec.judge.grader is not None and q.reference)]

    async def answer(index: int, batch: Sequence[Question]) -> list[Try]:
        return await answer_until_passed(ctx, student, number, index, batch)

    tries = [row for batch in await ctx.gather(answer, decidable) for row in batch]
    passed = {row.completion.id: row.completion for row in tries if row.verdict.passed}
    examples = [
        Example(id=c.id, question=text[c.id], completion=join_answer(c.rationale, c.answer)) for c in passed.values()
    ]
    corrected, dropped = await corrections(ctx, number, [q for q in questions if q.id not in passed])
    by_try = [[row.verdict.passed for row in tries if row.number <= t] for t in range(ctx.spec.iterate.tries + 1)]
    record = {
        "questions": len(questions),
        "undecidable": len(questions) - len(decidable),
        "passed": len(passed),
        "corrected": len(corrected),
        "dropped_corrections": dropped,
        "asked_by_try": [len(after) - len(before) for before, after in pairwise(by_try)],
        "pass_rate": [sum(verdicts) / max(len(decidable), 1) for verdicts in by_try[1:]],
        "unparsed_verdicts": sum(row.verdict.by == "unparsed" for row in tries),
        "leaked_hints": sum(row.verdict.leaked for row in tries),
        "too_long": sum(row.verdict.by == UNANSWERED for row in tries),
        "missing_markers": sum(row.completion.marker_missing for row in tries),
        "with_rationale": sum(MARKER in example.completion for example in examples),
    }
    if record["undecidable"]:
        instead = "answered by the teacher" if ctx.spec.iterate.on_failure == "teacher" else "dropped"
        await ctx.emit(
            f"iterate: round {number}: {record['undecidable']} of {len(questions)} questions are not tried but {instead}: "
            "the judge is no better than chance on the labels, and no grader can say what passes",
            level="warn",
        )
    await ctx.emit(
        f"iterate: round {number}: pass rate by try {', '.join(f'{rate:.0%}' for rate in record['pass_rate'])}",
        type="metrics",
        round=number,
        pass_rate=record["pass_rate"],
    )
    return record, sorted(examples + corrected, key=lambda example: example.id)


async def answer_until_passed(
    ctx: JobContext, student: ModelRef, number: int, index: int, batch: Sequence[Question]
) -> list[Try]:
    """A batch's tries: answer, verdict, and once more with the former answer and the hint for what did not pass."""
    settings, by_id, tries = ctx.spec.iterate, {q.id: q for q in batch}, []
    prompts = [StudentPrompt(id=q.id, question=q.text) for q in batch]
    for t in range(1, settings.tries + 1):
        if not prompts:
            break
        key, temperature = f"iterate/{number}/try-{t}", 0.0 if t == 1 else settings.retry_temperature
        sampling = Sampling(max_tokens=ctx.spec.answer_tokens, temperature=temperature, seed=ctx.seed + t)
        params = StudentParams(model=student, domain=ctx.spec.domain, sampling=sampling)
        answered = await ctx.step(f"{key}/answers/{index}", StepKind.REASON, params, prompts)
        completions = answered.read(StudentCompletion)
        to_judge = [
            JudgeInput(
                id=c.id,
                question=by_id[c.id].text,
                answer=c.answer,
                rationale=c.rationale,
                reference=by_id[c.id].reference,
                want_critique=t < settings.tries,
            )
            for c in completions
            if c.finish_reason != TOO_LONG
        ]
        verdicts = {c.id: Verdict(id=c.id, passed=False, by=UNANSWERED) for c in completions}
        if to_judge:
            reviewed = await ctx.step(f"{key}/verdicts/{index}", StepKind.REVIEW, ctx.judge, to_judge)
            verdicts |= {verdict.id: verdict for verdict in reviewed.read(Verdict)}
        tries += [Try(t, completion, verdicts[completion.id]) for completion in completions]
        prompts = [
            StudentPrompt(id=c.id, question=by_id[c.id].text, previous=c.answer, critique=verdicts[c.id].critique)
            for c in completions
            if not verdicts[c.id].passed and verdicts[c.id].by != UNANSWERED
        ]
    return tries


async def corrections(ctx: JobContext, number: int, failed: Sequence[Question]) -> tuple[list[Example], dict[str, int]]:
    """The teacher's responses to what never passed, where the job asks for them, and how many were dropped for which reason.

    They take the place of answers that passed, so where there is a grader they must pass it too.
    """
    if ctx.spec.iterate.on_failure == "drop":
        return [], {}
    key = f"iterate/{number}/corrections"

    async def respond(index: int, batch: Sequence[Question]) -> list[TeacherResponse]:
        responses = await ask_teacher(ctx, key, index, batch, guided_by=None)
        low = await below_pass_threshold(ctx, f"{key}/grades/{index}", batch, responses)
        return [r.model_copy(update={"outcome": "below_pass_mark"}) if r.id in low else r for r in responses]

    responses = [response for batch in await ctx.gather(respond, failed) for response in batch]
    return usable_examples(failed, responses)
