"""What makes a usable text of the teacher's no answer: it repeats its input, or is in another language."""

from services.orchestrator.method.selection import letters_by_script, near_duplicates, scripts, words
from shared.contracts.data import Question
from shared.contracts.rows import TeacherResponse

COPIED_WORDS = 8  # a shorter guideline may contain the right answer itself
FOREIGN_LETTERS = 8  # fewer letters are a symbol, not a language


def with_checked_outcome(
    response: TeacherResponse, question: Question, guideline: str | None, known: frozenset[str]
) -> TeacherResponse:
    """The response, its outcome replaced where it was ok and the answer repeats its input or is in another language.

    known: the scripts of the job's references, which stand in where the question has no reference.
    """
    fault = _fault(response.answer, question, guideline, known) if response.outcome == "ok" else None
    return response.model_copy(update={"outcome": fault}) if fault else response


def _fault(answer: str, question: Question, guideline: str | None, known: frozenset[str]) -> str | None:
    reference = question.reference or ""
    if words(answer) == words(question.asked) and words(answer) != words(reference):
        return "repeats_question"
    if guideline and len(words(guideline)) >= COPIED_WORDS and near_duplicates([guideline, answer]):
        return None if near_duplicates([reference, answer]) else "copies_guideline"
    if is_foreign(answer, scripts([question.text]) | (scripts([reference]) or known)):
        return "other_language"
    return None


def is_foreign(answer: str, wanted: frozenset[str]) -> bool:
    """Whether most letters of an answer come from other scripts than the wanted ones."""
    letters = letters_by_script(answer)
    foreign = sum(count for script, count in letters.items() if script not in wanted)
    return foreign >= FOREIGN_LETTERS and 2 * foreign > letters.total()
