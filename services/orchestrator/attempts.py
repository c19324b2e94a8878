"""One try of phase 2: the student answers with its reasoning, the judge says whether it passed."""

from services.orchestrator.run import Run
from shared.contracts.data import Question
from shared.contracts.rows import Asked, Attempt, Judged, Verdict
from shared.contracts.steps import Sampling, StepKind

Judgement = tuple[Attempt, Verdict]


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
    ]
    reviewed = await run.step(f"{key}/verdicts/{index}", StepKind.REVIEW, run.judging(), judged)
    return list(zip(attempts, [Verdict(**row) for row in reviewed.rows], strict=True))


def cumulative(passed_by_try: list[int], total: int) -> list[float]:
    """Share of all questions that passed within the first t tries."""
    return [sum(passed_by_try[: t + 1]) / total if total else 0.0 for t in range(len(passed_by_try))]
