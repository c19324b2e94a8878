"""Phase 2, iterative training (paper section 3.2).

The student answers with its reasoning; the judge says what is wrong and hints at a better answer; the student tries
again, at most `tries` times. It is trained on what passed (what never did is dropped or, with on_failure, answered by
the teacher), and the next round begins with the better student on fresh questions.
"""

from collections.abc import Sequence

from services.orchestrator.run import Run
from services.orchestrator.selection import keep_lessons, rounds_of
from shared.contracts.answers import join_answer
from shared.contracts.data import Question
from shared.contracts.jobs import Phase
from shared.contracts.rows import Asked, Attempt, Example, Guided, Judged, Lesson, Verdict, asked
from shared.contracts.steps import ModelRef, Sampling, StepKind

Tries = list[list[tuple[Attempt, Verdict]]]  # per try, what was answered and what the judge said


async def iterate(run: Run) -> ModelRef:
    """Returns the student after the last round; the incoming one when nothing ever passed."""
    settings = run.spec.iterate
    rounds = []
    for number, questions in enumerate(rounds_of(run.shard(Phase.ITERATE), settings.rounds), start=1):
        record, examples = await one_round(run, number, questions)
        rounds.append(record)
        await run.say(
            f"iterate: round {number}: pass rate by try {', '.join(f'{rate:.0%}' for rate in record['pass_rate'])}",
            type="metrics",
            round=number,
            pass_rate=record["pass_rate"],
        )
        if examples:
            params = run.training(settings.epochs, settings.learning_rate)
            run.student, record["training"] = await run.fine_tune(f"iterate/{number}/train", examples, params)
    run.records["iterate"] = {"rounds": rounds}
    return run.student


async def one_round(run: Run, number: int, questions: Sequence[Question]) -> tuple[dict, list[Example]]:
    """All tries of a round: the figures, and the rows that passed."""
    text = {q.id: q.text for q in questions}
    tries: Tries = [[] for _ in range(run.spec.iterate.tries)]

    async def attempts(index: int, batch: Sequence[Question]) -> None:
        open_rows, by_id = [asked(q) for q in batch], {q.id: q for q in batch}
        for t, results in enumerate(tries, start=1):
            if not open_rows:
                return
            pairs = await answer_and_judge(run, f"iterate/{number}/try-{t}", index, t, open_rows, by_id)
            results += pairs
            open_rows = [
                Asked(id=a.id, question=text[a.id], previous=a.answer, critique=v.critique)
                for a, v in pairs
                if not v.passed
            ]

    await run.gather(attempts, questions)
    passed = [a for results in tries for a, v in results if v.passed]
    examples = [Example(id=a.id, question=text[a.id], completion=join_answer(a.rationale, a.answer)) for a in passed]
    failed = [q for q in questions if q.id not in {a.id for a in passed}]
    corrected, dropped = await corrections(run, number, failed)
    verdicts = [v for results in tries for _, v in results]
    record = {
        "questions": len(questions),
        "passed": len(passed),
        "corrected": len(corrected),
        "dropped_corrections": dropped,
        "asked_by_try": [len(results) for results in tries],
        "pass_rate": _cumulative([sum(v.passed for _, v in results) for results in tries], len(questions)),
        "unparsed_verdicts": sum(v.by == "unparsed" for v in verdicts),
        "leaked_hints": sum(v.leaked for v in verdicts),
        "missing_markers": sum(a.marker_missing for results in tries for a, _ in results),
    }
    return record, sorted(examples + corrected, key=lambda e: e.id)


async def answer_and_judge(
    run: Run, key: str, index: int, t: int, rows: list[Asked], by_id: dict[str, Question]
) -> list[tuple[Attempt, Verdict]]:
    """One try of a batch: the student's attempts and the verdict on each. Hints only while a try is left."""
    settings = run.spec.iterate
    sampling = Sampling(
        max_tokens=run.spec.answer_tokens, temperature=0.0 if t == 1 else settings.retry_temperature, seed=run.seed + t
    )
    answered = await run.step(f"{key}/answers/{index}", StepKind.REASON, run.asking(sampling), rows)
    attempts = [Attempt(**row) for row in answered.rows]
    judged = [
        Judged(
            id=a.id,
            question=by_id[a.id].text,
            answer=a.answer,
            rationale=a.rationale,
            reference=by_id[a.id].reference,
            want_critique=t < settings.tries,
        )
        for a in attempts
    ]
    reviewed = await run.step(f"{key}/verdicts/{index}", StepKind.REVIEW, run.judging(), judged)
    return list(zip(attempts, [Verdict(**row) for row in reviewed.rows], strict=True))


async def corrections(run: Run, number: int, failed: Sequence[Question]) -> tuple[list[Example], dict[str, int]]:
    """The teacher's answers to what never passed, where the job asks for them, and how many could not be used and why."""
    if run.spec.iterate.on_failure == "drop":
        return [], {}

    async def lessons(index: int, batch: Sequence[Question]) -> list[Lesson]:
        rows = [Guided(id=q.id, question=q.text, reference=q.reference) for q in batch]
        answered = await run.step(f"iterate/{number}/corrections/{index}", StepKind.TEACH, run.teaching(), rows)
        return [Lesson(**row) for row in answered.rows]

    return keep_lessons(failed, [lesson for batch in await run.gather(lessons, failed) for lesson in batch])


def _cumulative(passed_by_try: list[int], total: int) -> list[float]:
    """Share of all questions that passed within the first t tries."""
    return [sum(passed_by_try[: t + 1]) / total if total else 0.0 for t in range(len(passed_by_try))]
