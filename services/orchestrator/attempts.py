"""One try of phase 2: the student answers with its reasoning, the judge says whether it passed."""

from typing import Any

from services.orchestrator.run import Run
from shared.contracts.data import Question
from shared.contracts.rows import TOO_LONG, JudgeInput, StudentCompletion, StudentPrompt, Verdict
from shared.contracts.steps import Sampling, StepKind

Judgement = tuple[StudentCompletion, Verdict]
UNANSWERED = "unanswered"


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
