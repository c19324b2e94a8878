"""`Baselines`: what a user would try first, measured beside the method: worked examples in the base's prompt, training on references."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from services.orchestrator.method.evaluate import EvalResult, Measuring, Shots, mean_of
from services.orchestrator.method.selection import seeded_order, words
from services.orchestrator.method.state import State
from services.orchestrator.method.students import Students
from shared.contracts.data import Question, Split
from shared.contracts.distillation import Baseline, Distillation
from shared.contracts.rows import Shot, shot
from shared.contracts.step_key import StepKey
from shared.contracts.steps import ModelRef, StepKind

K1, B = 1.2, 0.75  # of BM25, within the ranges that the paper recommends


@dataclass(frozen=True)
class Baselines:
    """train: the questions that the phases learn from."""

    spec: Distillation
    seed: int
    base: ModelRef
    train: Sequence[Question]
    students: Students
    measuring: Measuring

    async def measure_all(self, state: State) -> list[EvalResult]:
        """On test, if train has references."""
        if not any(q.reference for q in self.train):
            return []
        settings, rows = self.spec.evaluation, list[EvalResult]()
        if Baseline.FEW_SHOT in settings.baselines:
            draws = [await self._random_shots(state, draw) for draw in range(settings.shot_seeds)]
            rows.append(mean_of("few_shot", draws))
        if Baseline.FEW_SHOT_NEAREST in settings.baselines:
            index = Nearest(seeded_order(self.train, self.seed, "shots"))
            nearest: Shots = lambda q: self._shots(index.nearest(q.text, settings.shots))  # noqa: E731
            rows.append(await self.measuring.measure_base(state, Split.TEST, "few_shot_nearest", nearest))
        if Baseline.SFT_REFERENCES in settings.baselines:
            examples = [self.students.example(q, q.reference) for q in self.train if q.reference]
            key, how = StepKey("evaluate", role="sft_references/train"), self.spec.distill
            model, _ = await self.students.train(key, StepKind.SFT, examples, self.base, how.epochs, how.learning_rate)
            rows.append(await self.measuring.measure(state, "sft_references", Split.TEST, model))
        return rows

    async def _random_shots(self, state: State, draw: int) -> EvalResult:
        """The same worked examples before every question; others in each draw."""
        shots = self._shots(random_shots(self.train, self.spec.evaluation.shots, self.seed, draw))
        name = f"few_shot-{draw}" if draw else "few_shot"
        return await self.measuring.measure_base(state, Split.TEST, name, lambda _: shots)

    def _shots(self, questions: Sequence[Question]) -> list[Shot]:
        return [shot(q, self.students.shows_calls) for q in questions]


def random_shots(train: Sequence[Question], count: int, seed: int, draw: int = 0) -> list[Question]:
    """Worked examples for the few-shot baseline: random ones that have a reference, others in each draw."""
    ordered = seeded_order([q for q in train if q.reference], seed, f"shots-{draw}" if draw else "shots")
    return ordered[:count]


class Nearest:
    """An index over the questions that have a reference, for the baseline that a user with a search index would build.

    Okapi BM25 (Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond", section 3.4). Its
    packages are either unmaintained (rank-bm25: last release 2022) or made for millions of texts (bm25s), and the formula is
    short. Equal scores keep the order in which the questions came.
    """

    def __init__(self, questions: Sequence[Question]):
        self.questions = [q for q in questions if q.reference]
        texts = [words(q.text) for q in self.questions]
        mean_length = sum(map(len, texts)) / max(len(texts), 1)
        self._weights: dict[str, dict[int, float]] = defaultdict(dict)  # word -> place -> its part of the score
        for place, text in enumerate(texts):
            length_norm = K1 * (1 - B + B * len(text) / max(mean_length, 1e-9))
            for word, count in Counter(text).items():
                self._weights[word][place] = count * (K1 + 1) / (count + length_norm)
        for weights in self._weights.values():
            rarity = log(1 + (len(texts) - len(weights) + 0.5) / (len(weights) + 0.5))  # 1 +: never negative
            for place in weights:
                weights[place] *= rarity

    def scores(self, text: str) -> list[float]:
        """One score per indexed question; a word that the text repeats counts as often as it stands there."""
        result = [0.0] * len(self.questions)
        for word, count in Counter(words(text)).items():
            for place, weight in self._weights.get(word, {}).items():
                result[place] += count * weight
        return result

    def nearest(self, text: str, count: int) -> list[Question]:
        """The `count` most alike, the closest last: next to the question it is meant for."""
        scores = self.scores(text)
        best = sorted(range(len(scores)), key=lambda place: (-scores[place], place))[:count]
        return [self.questions[i] for i in reversed(best)]
