"""The teacher's answers verified by references. Of several samples of a question one that the job's grader passes is taken (rejection sampling,
as in RFT, Yuan et al. 2023, arXiv 2308.01825, with the teacher's samples in place of the student's), or else the reference itself.
"""

from collections import Counter
from collections.abc import Callable, Sequence

from services.orchestrator.method.grading import Grading
from shared.contracts.data import Question
from shared.contracts.rows import TeacherResponse
from shared.contracts.step_key import StepKey


async def passing(
    grading: Grading,
    key: StepKey,
    asked: Sequence[tuple[Question, TeacherResponse]],
    checked: Callable[[TeacherResponse, Question], TeacherResponse],
) -> list[TeacherResponse]:
    """Of each response the passing text that most of its samples are. Every question has a reference. checked: a sample with its
    outcome."""
    grader = grading.spec.judge.grader
    assert grader is not None  # held by the job's contract
    usable = [
        [one for one in response.each() or [response] if checked(one, question).outcome == "ok"]
        for question, response in asked
    ]
    texts = [list(dict.fromkeys(one.answer for one in samples)) for samples in usable]
    rows = [(question, text) for (question, _), given in zip(asked, texts, strict=True) for text in given]
    scores = await grading.grade(key, [q for q, _ in rows], [text for _, text in rows], grader) if rows else []
    passed = {
        (question.id, text)
        for (question, text), score in zip(rows, scores, strict=True)
        if score >= grading.pass_threshold
    }
    return [
        _chosen(question, [one for one in samples if (question.id, one.answer) in passed])
        for (question, _), samples in zip(asked, usable, strict=True)
    ]


def _chosen(question: Question, samples: Sequence[TeacherResponse]) -> TeacherResponse:
    if not samples:
        return reference_of(question)
    (text, _), *_ = Counter(one.answer for one in samples).most_common()
    return next(one for one in samples if one.answer == text)


def reference_of(question: Question) -> TeacherResponse:
    """The record's reference in place of the teacher's response; a record without one is dropped later."""
    outcome = "ok" if question.reference else "no_reference"
    return TeacherResponse(
        id=question.id, answer=question.reference or "", finish_reason="stop", outcome=outcome, from_reference=True
    )
