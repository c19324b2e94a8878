"""The train questions most like a given one, for the few-shot baseline that a user with a search index would build.

Okapi BM25 (Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond", section 3.4). Its
packages are either unkept (rank-bm25: last release 2022) or made for millions of texts (bm25s), and the formula is short.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from math import log

from services.orchestrator.selection import words
from shared.contracts.data import Question

K1, B = 1.2, 0.75  # within the ranges that the paper recommends


class Nearest:
    """An index over the questions that have a reference. Equal scores keep the order in which the questions came."""

    def __init__(self, questions: Sequence[Question]):
        self.questions = [q for q in questions if q.reference]
        texts = [words(q.text) for q in self.questions]
        mean_length = sum(map(len, texts)) / max(len(texts), 1)
        self._weights: dict[str, dict[int, float]] = defaultdict(dict)  # word -> place -> its part of the score
        for place, text in enumerate(texts):
            room = K1 * (1 - B + B * len(text) / max(mean_length, 1e-9))
            for word, often in Counter(text).items():
                self._weights[word][place] = often * (K1 + 1) / (often + room)
        for found in self._weights.values():
            rarity = log(1 + (len(texts) - len(found) + 0.5) / (len(found) + 0.5))  # with 1 + it is never below zero
            for place in found:
                found[place] *= rarity

    def scores(self, text: str) -> list[float]:
        """One score per indexed question; a word that the text repeats counts as often as it stands there."""
        result = [0.0] * len(self.questions)
        for word, often in Counter(words(text)).items():
            for place, weight in self._weights.get(word, {}).items():
                result[place] += often * weight
        return result

    def shots(self, text: str, count: int) -> list[tuple[str, str]]:
        """(question, reference) of the `count` most alike, the closest last: next to the question it is meant for."""
        scores = self.scores(text)
        best = sorted(range(len(scores)), key=lambda place: (-scores[place], place))[:count]
        return [(self.questions[i].text, self.questions[i].reference or "") for i in reversed(best)]
