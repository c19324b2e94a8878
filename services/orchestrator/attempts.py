"""One try of phase 2: the student answers with its reasoning, the judge says whether it passed."""

from services.orchestrator.run import Run
from shared.contracts.data import Question
from shared.contracts.rows import TOO_LONG, Asked, Attempt, Judged, Verdict
from shared.contracts.steps import Sampling, StepKind

Judgement = tuple[Attempt, Verdict]
UNANSWERED = "unanswered"


async def answer_and_judge(
    run: Run, key: str, index: int, t: int, rows: list[Asked], by_id: dict[str, Question]
) -> list[Judgement]:
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
        if a.finish_reason != TOO_LONG
    ]
    verdicts = {a.id: Verdict(id=a.id, passed=False, by=UNANSWERED) for a in attempts}
    if judged:
        reviewed = await run.step(f"{key}/verdicts/{index}", StepKind.REVIEW, run.judging(), judged)
        verdicts |= {row["id"]: Verdict(**row) for row in reviewed.rows}
    return [(a, verdicts[a.id]) for a in attempts]


def another_try(pairs: list[Judgement], text: dict[str, str]) -> list[Asked]:
    """What did not pass, with the former answer and the hint; a question that is too long would be so again."""
    return [
        Asked(id=a.id, question=text[a.id], previous=a.answer, critique=v.critique)
        for a, v in pairs
        if not v.passed and v.by != UNANSWERED
    ]


def cumulative(passed_by_try: list[int], total: int) -> list[float]:
    """Share of all questions that passed within the first t tries."""
    return [sum(passed_by_try[: t + 1]) / total if total else 0.0 for t in range(len(passed_by_try))]
