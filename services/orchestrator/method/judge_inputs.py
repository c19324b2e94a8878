"""What graders and the judge are shown of a question and its answers."""

from shared.contracts.data import Question
from shared.contracts.rows import ComparisonInput, JudgeInput


def judge_input(
    question: Question, answer: str, rationale: str | None = None, want_critique: bool = True
) -> JudgeInput:
    return JudgeInput(
        id=question.id,
        question=question.text,
        answer=answer,
        rationale=rationale,
        reference=question.reference,
        want_critique=want_critique,
        item=question.item,
        teacher_context=question.teacher_context,
    )


def grader_input(question: Question, answer: str) -> JudgeInput:
    """Graders need no material."""
    return judge_input(question, answer).model_copy(update={"teacher_context": None})


def comparison(question: Question, first: str, second: str) -> ComparisonInput:
    return ComparisonInput(
        id=question.id,
        question=question.text,
        first=first,
        second=second,
        reference=question.reference,
        teacher_context=question.teacher_context,
    )
