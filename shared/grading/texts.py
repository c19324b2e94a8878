"""OpenAI's graders that compare texts: string_check and text_similarity over templates, by the published definitions."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from rapidfuzz import fuzz

from shared.contracts.grader_kinds import UNGRADABLE, StringCheckGrader, TextSimilarityGrader
from shared.contracts.templates import MissingField
from shared.grading.attempt import Attempt, Graded
from shared.judging.graders import rouge_l, words

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU

LONGEST_ROUGE, LONGEST_GLEU = 5, 4
LONGEST_COMPARED = (
    200_000  # characters of a text: the time that similarities need grows with the product of both lengths
)
_CHECKS: dict[str, Callable[[str, str], bool]] = {
    "eq": lambda given, expected: given == expected,
    "ne": lambda given, expected: given != expected,
    "like": lambda given, expected: expected in given,
    "ilike": lambda given, expected: expected.casefold() in given.casefold(),
}


class TextGrader:
    """An item without a field that a template names cannot be graded; a sample without one (output_json) is wrong."""

    def __init__(self, spec: StringCheckGrader | TextSimilarityGrader):
        self.spec = spec

    def score(self, attempt: Attempt) -> Graded:
        spec = self.spec
        try:
            given, expected = (attempt.filled(text) for text in (spec.input, spec.reference))
        except MissingField as missing:
            return Graded(0.0, UNGRADABLE if str(missing).startswith("item") else "", str(missing))
        if isinstance(spec, StringCheckGrader):
            return Graded(float(_CHECKS[spec.operation](given, expected)))
        return too_long(given, expected) or Graded(_SIMILARITIES[spec.evaluation_metric](given, expected))


def too_long(given: str, expected: str) -> Graded | None:
    """The result of a similarity where a text is longer than it compares; None where neither is."""
    if len(expected) > LONGEST_COMPARED:
        return Graded(0.0, UNGRADABLE, f"the reference has more than {LONGEST_COMPARED:,} characters")
    if len(given) > LONGEST_COMPARED:
        return Graded(0.0, "slow", f"the answer has more than {LONGEST_COMPARED:,} characters")
    return None


def fuzzy_match(given: str, expected: str) -> float:
    """1 less the share of insertions and deletions that make one of the other."""
    return fuzz.ratio(given, expected) / 100


@lru_cache
def _bleu() -> "BLEU":
    from sacrebleu.metrics.bleu import BLEU  # on use, as chrF

    return BLEU(effective_order=True)


def bleu(given: str, expected: str) -> float:
    """Sentence BLEU with exponential smoothing, orders that the text is too short for left out (sacrebleu)."""
    if not given.strip() or not expected.strip():
        return 0.0
    return min(1.0, _bleu().sentence_score(given, [expected]).score / 100)  # rounding can exceed 1


def gleu(given: str, expected: str) -> float:
    """The smaller of precision and recall over all n-grams up to 4 (Wu et al. 2016, section 4.3)."""
    one, other = words(given), words(expected)
    return _overlap(
        [_grams(one, n) for n in range(1, LONGEST_GLEU + 1)],
        [_grams(other, n) for n in range(1, LONGEST_GLEU + 1)],
        min,
    )


def rouge_n(n: int, given: str, expected: str) -> float:
    """F-measure over n-grams of words (Lin 2004)."""
    return _overlap([_grams(words(given), n)], [_grams(words(expected), n)], lambda p, r: 2 * p * r / (p + r))


def _grams(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1))


def _overlap(
    given: Sequence[Counter[tuple[str, ...]]],
    expected: Sequence[Counter[tuple[str, ...]]],
    of: Callable[[float, float], float],
) -> float:
    common = sum((one & other).total() for one, other in zip(given, expected, strict=True))
    if not common:
        return 0.0
    return of(common / sum(one.total() for one in given), common / sum(one.total() for one in expected))


_SIMILARITIES: dict[str, Callable[[str, str], float]] = {
    "fuzzy_match": fuzzy_match,
    "bleu": bleu,
    "gleu": gleu,
    "rouge_l": rouge_l,
    **{f"rouge_{n}": (lambda given, expected, n=n: rouge_n(n, given, expected)) for n in range(1, LONGEST_ROUGE + 1)},
}
