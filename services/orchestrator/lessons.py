"""What is wrong with a teacher's answer that the answer alone does not show: echoes, and a language nobody asked in.

Pure functions. Reasons, beside those of services/strong_model: repeats_question, copies_guideline, other_language.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable

from services.orchestrator.selection import near_duplicates, words
from shared.contracts.data import Question
from shared.contracts.rows import TeacherResponse

COPIED_WORDS = 8  # a shorter guideline may be the right answer itself, said too early
FOREIGN_LETTERS = 8  # fewer letters are a symbol, not a language
ONE_SCRIPT = {"HIRAGANA": "CJK", "KATAKANA": "CJK"}  # written in one text with CJK characters


def scripts(texts: Iterable[str | None]) -> frozenset[str]:
    """The scripts that the letters of some texts come from, by Unicode's names: LATIN, CYRILLIC, CJK, ..."""
    return frozenset(script for text in texts for script in _letters(text or ""))


def settled(
    lesson: TeacherResponse, question: Question, guideline: str | None, known: frozenset[str]
) -> TeacherResponse:
    """The lesson with its outcome, where that was ok, set to what is wrong with it.

    known: the scripts of the job's references; they stand in where the question has none of its own.
    """
    fault = _fault(lesson.answer, question, guideline, known) if lesson.outcome == "ok" else None
    return lesson.model_copy(update={"outcome": fault}) if fault else lesson


def _fault(answer: str, question: Question, guideline: str | None, known: frozenset[str]) -> str | None:
    reference = question.reference or ""
    if words(answer) == words(question.text) and words(answer) != words(reference):
        return "repeats_question"
    if guideline and len(words(guideline)) >= COPIED_WORDS and _alike(guideline, answer):
        return None if _alike(reference, answer) else "copies_guideline"
    if foreign(answer, scripts([question.text]) | (scripts([reference]) or known)):
        return "other_language"
    return None


def foreign(answer: str, wanted: frozenset[str]) -> bool:
    """Whether most letters of an answer come from scripts that neither question nor reference is written in."""
    letters = _letters(answer)
    strange = sum(count for script, count in letters.items() if script not in wanted)
    return strange >= FOREIGN_LETTERS and 2 * strange > letters.total()


def _letters(text: str) -> Counter[str]:
    found = Counter(unicodedata.name(letter, "").partition(" ")[0] for letter in text if letter.isalpha())
    for script, written_with in ONE_SCRIPT.items():
        found[written_with] += found.pop(script, 0)
    return +found


def _alike(first: str, second: str) -> bool:
    return bool(near_duplicates([first, second]))
