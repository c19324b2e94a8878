"""Phase 2, iterative training (paper section 3.2).

The student answers with its reasoning; the judge says what is wrong and hints at a better answer; the student tries
again, at most `tries` times. It is trained on what passed (what never did is dropped or, with on_failure, answered by
the teacher), and the next round begins with the better student on fresh questions, as long as dev shows a gain.
"""

from collections.abc import Sequence
from typing import Any

from services.orchestrator.method.context import Run
from services.orchestrator.method.distill import ask_teacher, keep_lessons
from services.orchestrator.method.evaluate import Measured, measure
from services.orchestrator.method.judging import below_pass_mark
from shared.contracts.answer_format import MARKER, join_answer
from shared.contracts.data import Question, Split
from shared.contracts.distillation import Guidance, Phase
from shared.contracts.rows import (
    TOO_LONG,
    Example,
    JudgeInput,
    StudentCompletion,
    StudentPrompt,
    TeacherResponse,
    Verdict,
    asked,
)
from shared.contracts.steps import ModelRef, Sampling, StepKind
from shared.plan.allocation import rounds_of

Judgement = tuple[StudentCompletion, Verdict]
UNANSWERED = "unanswered"
BELOW = "below_pass_mark"


async def iterate(run: Run) -> ModelRef:
    """Returns the student after the last round that helped on dev; the incoming one when nothing ever passed."""
    settings = run.spec.iterate
    rounds: list[dict[str, Any]] = []
    run.records["iterate"] = {"rounds": rounds}
    best = await measure(run, "iterate-0", Split.DEV, run.student) if settings.rounds > 1 else None
    shards = rounds_of(run.shard(Phase.ITERATE), settings.rounds, settings.round_questions)
    for number, questions in enumerate(shards, start=1):
        record, examples = await one_round(run, number, questions)
        rounds.append(record)
        await tell(run, number, record)
        before = run.student
        if examples:
            run.student, record["training"] = await train(run, number, examples)
            if settings.rounds > 1:
                run.parts[Phase.ITERATE].append((f"iterate-{number}", run.student))
        if best is not None:
            best, record["dev"] = await look_at_dev(run, number, best)
        await tell_end(run, number, record)
        if best is not None and best.model != run.student:
            run.student = before
            break
    return run.student


async def train(run: Run, number: int, examples: list[Example]) -> tuple[ModelRef, dict[str, Any]]:
    """train_from last: go on with the adapter. base: the bare base anew, on all that phases 1 and 2 have gathered."""
    settings = run.spec.iterate
    run.gathered += examples
    anew = settings.train_from == "base"
    params = run.training(settings.epochs, settings.learning_rate, model=run.base if anew else run.student)
    student, figures = await run.fine_tune(f"iterate/{number}/train", run.gathered if anew else examples, params)
    if run.student.tuned in run.reasoning or any(MARKER in example.completion for example in examples):
        run.reasoning.add(student.tuned)
    return student, figures


async def look_at_dev(run: Run, number: int, best: Measured) -> tuple[Measured, dict[str, Any]]:
    """The better of the student before and after a round, by the mean gain on dev; without any gain the rounds end."""
    after = await measure(run, f"iterate-{number}", Split.DEV, run.student)
    gain = after.gain_over(best, run.metric)
    helped = gain.value > 0
    if not helped:
        await run.say(f"iterate: no gain is seen on dev after round {number} ({gain.value:+.3f}); the rounds end here")
    return (after if helped else best), {"gain": gain.rounded(), "kept": helped}


async def one_round(run: Run, number: int, questions: Sequence[Question]) -> tuple[dict, list[Example]]:
    """All tries of a round: the figures, and the rows that passed. What nobody can judge is not tried."""
    text = {q.id: q.text for q in questions}
    tried = [q for q in questions if decidable(run, q)]
    tries: list[list[Judgement]] = [[] for _ in range(run.spec.iterate.tries)]

    async def attempts(index: int, batch: Sequence[Question]) -> None:
        open_rows, by_id = [asked(q) for q in batch], {q.id: q for q in batch}
        for t, results in enumerate(tries, start=1):
            if not open_rows:
                return
            pairs = await answer_and_judge(run, f"iterate/{number}/try-{t}", index, t, open_rows, by_id)
            results += pairs
            open_rows = another_try(pairs, text)

    await run.gather(attempts, tried)
    passed = [a for results in tries for a, v in results if v.passed]
    examples = [Example(id=a.id, question=text[a.id], completion=join_answer(a.rationale, a.answer)) for a in passed]
    failed = [q for q in questions if q.id not in {a.id for a in passed}]
    corrected, dropped = await corrections(run, number, failed)
    verdicts = [v for results in tries for _, v in results]
    record = {
        "questions": len(questions),
        "undecidable": len(questions) - len(tried),
        "passed": len(passed),
        "corrected": len(corrected),
        "dropped_corrections": dropped,
        "asked_by_try": [len(results) for results in tries],
        "pass_rate": cumulative([sum(v.passed for _, v in results) for results in tries], len(tried)),
        "unparsed_verdicts": sum(v.by == "unparsed" for v in verdicts),
        "leaked_hints": sum(v.leaked for v in verdicts),
        "too_long": sum(v.by == UNANSWERED for v in verdicts),
        "missing_markers": sum(a.marker_missing for results in tries for a, _ in results),
        "with_rationale": sum(MARKER in example.completion for example in examples),
    }
    return record, sorted(examples + corrected, key=lambda e: e.id)


def decidable(run: Run, question: Question) -> bool:
    """Whether anybody can say that an answer passed: the grader where there is a reference, else the judge, unless labels
    have found it no better than chance."""
    return run.judge_decides or (run.spec.judge.grader is not None and bool(question.reference))


async def answer_and_judge(
    run: Run, key: str, index: int, t: int, rows: list[StudentPrompt], by_id: dict[str, Question]
) -> list[Judgement]:
    """One try of a batch: the student's attempts and the verdict on each. Hints only while a try is left."""
    settings = run.spec.iterate
    sampling = Sampling(
        max_tokens=run.spec.answer_tokens, temperature=0.0 if t == 1 else settings.retry_temperature, seed=run.seed + t
    )
    answered = await run.step(f"{key}/answers/{index}", StepKind.REASON, run.asking(sampling), rows)
    attempts = [StudentCompletion(**row) for row in answered.rows]
    judged = [
        JudgeInput(
            id=a.id,
            question=by_id[a.id].text,
            answer=a.answer,
            rationale=a.rationale,
            reference=by_id[a.id].reference,
            want_critique=t < settings.tries,
        )
        for a in attempts
        if a.finish_reason != TOO_LONG
    ]
    verdicts = {a.id: Verdict(id=a.id, passed=False, by=UNANSWERED) for a in attempts}
    if judged:
        reviewed = await run.step(f"{key}/verdicts/{index}", StepKind.REVIEW, run.judging(), judged)
        verdicts |= {row["id"]: Verdict(**row) for row in reviewed.rows}
    return [(a, verdicts[a.id]) for a in attempts]


def another_try(pairs: list[Judgement], text: dict[str, str]) -> list[StudentPrompt]:
    """What did not pass, with the former answer and the hint; a question that is too long would be so again."""
    return [
        StudentPrompt(id=a.id, question=text[a.id], previous=a.answer, critique=v.critique)
        for a, v in pairs
        if not v.passed and v.by != UNANSWERED
    ]


async def tell(run: Run, number: int, record: dict[str, Any]) -> None:
    """What a round has come to, as events."""
    if record["undecidable"]:
        then = "answered by the teacher" if run.spec.iterate.on_failure == "teacher" else "dropped"
        await run.say(
            f"iterate: round {number}: {record['undecidable']} of {record['questions']} questions are not tried but {then}: "
            "the judge is no better than chance on the labels, and no grader can say what passes",
            level="warn",
        )
    await run.say(
        f"iterate: round {number}: pass rate by try {', '.join(f'{rate:.0%}' for rate in record['pass_rate'])}",
        type="metrics",
        round=number,
        pass_rate=record["pass_rate"],
    )


async def tell_end(run: Run, number: int, record: dict[str, Any]) -> None:
    """That a round is over, its training and its look at dev included; webhooks are told too."""
    await run.say(
        f"iterate: round {number} is over",
        type="metrics",
        round=number,
        completed=True,
        passed=record["passed"],
        questions=record["questions"],
        dev=record.get("dev"),
    )


def cumulative(passed_by_try: list[int], total: int) -> list[float]:
    """Share of all questions that passed within the first t tries."""
    return [sum(passed_by_try[: t + 1]) / total if total else 0.0 for t in range(len(passed_by_try))]


async def corrections(run: Run, number: int, failed: Sequence[Question]) -> tuple[list[Example], dict[str, int]]:
    """The teacher's answers to what never passed, where the job asks for them, and how many could not be used and why.

    They take the place of answers that passed, so where a grader can tell they must pass too, whether the teacher was
    shown the reference or not.
    """
    if run.spec.iterate.on_failure == "drop":
        return [], {}
    key = f"iterate/{number}/corrections"

    async def lessons(index: int, batch: Sequence[Question]) -> list[TeacherResponse]:
        given = await ask_teacher(run, key, index, batch, Guidance.NONE)
        low = await below_pass_mark(run, f"{key}/grades/{index}", batch, given)
        return [lesson.model_copy(update={"outcome": BELOW}) if lesson.id in low else lesson for lesson in given]

    return keep_lessons(failed, [lesson for batch in await run.gather(lessons, failed) for lesson in batch])
