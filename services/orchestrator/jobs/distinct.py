"""Keeps one of several questions that ask for the same."""

import re

from rapidfuzz import fuzz, process
from rapidfuzz.utils import default_process as alike_form

NUMBERS = re.compile(r"\d+")
ALIKE = 90.0  # percent of the words of two questions, in any order, above which they are the same one


class Distinct:
    """Questions that were taken, by the numbers in them: another number asks for something else."""

    def __init__(self) -> None:
        self._taken: dict[tuple[str, ...], list[str]] = {}

    def add(self, question: str) -> bool:
        """Whether no question that was taken is like this one, which is taken then."""
        words = " ".join(sorted(alike_form(question).split())) or question
        like = self._taken.setdefault(tuple(NUMBERS.findall(question)), [])
        if process.extractOne(words, like, scorer=fuzz.ratio, score_cutoff=ALIKE):  # pyrefly: ignore[no-matching-overload]
            return False
        like.append(words)
        return True
