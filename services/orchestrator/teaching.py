"""Asking the teacher, with or without the student's guideline, and telling which of two answers is better."""

from collections.abc import Sequence

from services.orchestrator.lessons import settled
from services.orchestrator.run import Run
from shared.contracts.data import Question
from shared.contracts.distillation import Grader, Guidance
from shared.contracts.rows import (
    ComparisonInput,
    Example,
    Grades,
    Guideline,
    JudgeInput,
    Likelihood,
    Preference,
    TeacherInput,
    TeacherResponse,
    asked,
)
from shared.contracts.steps import Sampling, ScoreParams, StepKind

OVERALL = "overall"
POINTS = {"first": 0.0, "tie": 0.5, "second": 1.0}


async def ask_teacher(
    run: Run, key: str, index: int, batch: Sequence[Question], way: Guidance
) -> list[TeacherResponse]:
    """The teacher's answers to a batch. way: WEAK has the student write a guideline for each question first.

    Their outcomes are settled here, so that pilot and phases count the same answers as of no use.
    """
    guidelines: dict[str, str] = {}
    if way is Guidance.WEAK:
        writing = run.asking(Sampling(max_tokens=run.spec.distill.guideline_tokens, seed=run.seed))
        written = await run.step(f"{key}/guidelines/{index}", StepKind.GUIDE, writing, [asked(q) for q in batch])
        guidelines = {row["id"]: Guideline(**row).guideline for row in written.rows}
    rows = [
        TeacherInput(id=q.id, question=q.text, reference=q.reference, guideline=guidelines.get(q.id)) for q in batch
    ]
    answered = await run.step(f"{key}/answers/{index}", StepKind.TEACH, run.teaching(), rows)
    lessons = [TeacherResponse(**row) for row in answered.rows]
    return [
        settled(lesson, question, guidelines.get(question.id), run.scripts)
        for lesson, question in zip(lessons, batch, strict=True)
    ]


def own_references(batch: Sequence[Question]) -> list[TeacherResponse]:
    """The records' references as if a teacher had given them; a record without one is a lesson that is dropped."""
    return [
        TeacherResponse(
            id=q.id, answer=q.reference or "", finish_reason="stop", outcome="ok" if q.reference else "no_reference"
        )
        for q in batch
    ]


async def grade(
    run: Run, key: str, questions: Sequence[Question], answers: Sequence[str], grader: Grader
) -> list[float]:
    """Scores in [0, 1] by one grader; every question has a reference."""
    rows = [
        JudgeInput(id=q.id, question=q.text, answer=answer, reference=q.reference)
        for q, answer in zip(questions, answers, strict=True)
    ]
    graded = await run.step(key, StepKind.GRADE, run.judging(), rows)
    return [Grades(**row).scores[grader] for row in graded.rows]


async def below_pass_mark(
    run: Run, key: str, questions: Sequence[Question], lessons: Sequence[TeacherResponse]
) -> dict[str, float]:
    """Scores, by id, of usable answers that the job's grader would not let a student pass with; where it names none, or a
    question has no reference, nobody can say."""
    grader = run.spec.judge.grader
    held = [(q, a) for q, a in zip(questions, lessons, strict=True) if a.outcome == "ok" and q.reference]
    if grader is None or not held:
        return {}
    scores = await grade(run, key, [q for q, _ in held], [lesson.answer for _, lesson in held], grader)
    return {q.id: score for (q, _), score in zip(held, scores, strict=True) if score < run.spec.judge.pass_mark}


async def better(
    run: Run, key: str, questions: Sequence[Question], first: Sequence[str], second: Sequence[str]
) -> list[tuple[float, float]]:
    """Per question a score in [0, 1] for each of two answers: by the primary metric where all have references, else
    by the judge (won 1 : 0, a tie 0.5 : 0.5)."""
    if all(q.reference for q in questions):
        metric = run.spec.primary_metric
        scores = [
            await grade(run, f"{key}/{name}", questions, side, metric) for name, side in (("a", first), ("b", second))
        ]
        return list(zip(*scores, strict=True))
    return [(1 - point, point) for point in await judged_points(run, f"{key}/preferences", questions, first, second)]


async def judged_points(
    run: Run, key: str, questions: Sequence[Question], first: Sequence[str], second: Sequence[str]
) -> list[float]:
    """Per question 1 where the judge prefers the second answer, 0 where the first, 0.5 for a tie; it sees each pair in both
    orders. All ties, and nobody is asked, when the labels say that this judge is no better than chance."""
    if not run.judge_decides:
        return [POINTS["tie"]] * len(questions)
    rows = [
        ComparisonInput(id=q.id, question=q.text, first=a, second=b, reference=q.reference)
        for q, a, b in zip(questions, first, second, strict=True)
    ]
    compared = await run.step(key, StepKind.COMPARE, run.judging(), rows)
    return [POINTS[Preference(**row).winners[OVERALL]] for row in compared.rows]


async def likelihoods(
    run: Run, questions: Sequence[Question], sides: Sequence[Sequence[str]]
) -> list[tuple[float, float]]:
    """The student's mean token NLL on both answers to each question; what does not fit its context is left out."""
    rows = [
        Example(id=f"{side}:{q.id}", question=q.text, completion=text)
        for side, texts in enumerate(sides)
        for q, text in zip(questions, texts, strict=True)
    ]
    params = ScoreParams(model=run.student, max_length=run.spec.adapter.max_length)
    scored = await run.step("pilot/nll", StepKind.SCORE, params, rows)
    found = {row.id: row.nll for row in (Likelihood(**value) for value in scored.rows)}
    both = [(found.get(f"0:{q.id}"), found.get(f"1:{q.id}")) for q in questions]
    return [(plain, guided) for plain, guided in both if plain is not None and guided is not None]
