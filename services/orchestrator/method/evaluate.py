"""Measuring students: on dev for every decision, on test for the report and nothing else.

All students answer the bare question through one prompt and are graded on the answer alone, rationale apart.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import log
from pathlib import Path
from statistics import fmean
from typing import Any

from services.orchestrator.method.context import Run
from services.orchestrator.method.judging import POINTS, judged_points
from services.orchestrator.method.selection import seeded_order, stratified, words
from shared.contracts.data import Question, Split
from shared.contracts.distillation import JUDGE, SHARES, Baseline, Grader, Phase
from shared.contracts.rows import TOO_LONG, Example, Grades, JudgeInput, StudentCompletion, StudentPrompt
from shared.contracts.steps import JudgeParams, ModelRef, Sampling, StepKind
from shared.evaluation.statistics import Interval, decide, gain, mean_interval, share_interval

Shots = Callable[[Question], list[tuple[str, str]]]  # the worked examples that stand before a question
BASE, SERVED = "base", "served"  # measurements that no plan counts comparisons for
Row = tuple[Question, str, str]  # the base's answer, then the student's
K1, B = 1.2, 0.75  # within the ranges that the paper recommends
TOKENS = 48  # the answers are a word or a number; a small model takes a sentence to get there
FILE = Path(__file__).parent / "general.jsonl"


@dataclass(frozen=True)
class Measured:
    """One student on one split. scores: per grader one value in [0, 1] per question, in the split's order.

    draws: over how many random draws of worked examples each score is the mean; the answers are the first draw's.
    bare: it was asked without worked examples. too_long: so many questions did not fit into its context. missing_markers: so
    many answers have no rationale and marker before them; None where the student was never trained to write them.
    """

    name: str
    model: ModelRef
    scores: dict[str, list[float]]
    answers: list[str]
    draws: int = 1
    bare: bool = True
    too_long: int = 0
    missing_markers: int | None = None

    def value(self, metric: str) -> Interval:
        """The share or mean of a metric with its 95 % interval."""
        values = self.scores[metric]
        return share_interval(int(sum(values)), len(values)) if is_share(metric, values) else mean_interval(values)

    def gain_over(self, other: "Measured", metric: str) -> Interval:
        """The paired gain of this student over another on the same questions, with its 95 % interval.

        Over itself it is exactly nothing, on these questions and on all others. Two students that only answered alike
        here may differ elsewhere, and get an interval that says so.
        """
        before, after = other.scores[metric], self.scores[metric]
        if self.model == other.model and self.bare and other.bare:
            return Interval(0.0, 0.0, 0.0, len(after))
        return gain(is_share(metric, [*before, *after]), before, after)

    def record_against(self, other: "Measured", metric: str) -> dict[str, int]:
        """On how many questions this student scored higher, the same, lower than another."""
        pairs = list(zip(self.scores[metric], other.scores[metric], strict=True))
        win, loss = sum(a > b for a, b in pairs), sum(a < b for a, b in pairs)
        return {"win": win, "tie": len(pairs) - win - loss, "loss": loss}


def is_share(metric: str, values: Sequence[float]) -> bool:
    """Whether a metric's values are right or wrong; the mean over several draws is neither."""
    return metric in SHARES and all(value in (0, 1) for value in values)


def mean_of(name: str, draws: Sequence[Measured]) -> Measured:
    """Several measurements of one model on the same questions as one: each question's score is its mean."""
    first = draws[0]
    scores = {
        grader: [fmean(row) for row in zip(*(d.scores[grader] for d in draws), strict=True)] for grader in first.scores
    }
    return Measured(name, first.model, scores, first.answers, len(draws), first.bare, first.too_long)


@dataclass(frozen=True)
class Candidate:
    """What a phase made of the student, and what dev says of it against the one it came from."""

    phase: str
    model: ModelRef
    decision: str
    gain: Interval


async def measure(run: Run, name: str, split: Split, model: ModelRef, shots: Shots | None = None) -> Measured:
    """Greedy answers to the split's questions with references, graded; without any, held against the base's by the judge."""
    graders = [] if run.judge_measures else [run.spec.primary_metric, *run.spec.evaluation.graders]
    asked = run.measured(split)
    found = await ask_all(run, f"{split.value}/{name}", asked, model, graders, run.spec.answer_tokens, shots)
    return await preferred_over_base(run, split, found) if run.judge_measures else found


async def ask_all(
    run: Run,
    name: str,
    questions: Sequence[Question],
    model: ModelRef,
    graders: Sequence[Grader],
    max_tokens: int,
    shots: Shots | None = None,
) -> Measured:
    """Greedy answers of `model` to questions, graded where there are graders. name: its last part is the measurement's."""
    sampling = Sampling(max_tokens=max_tokens, seed=run.seed)
    grading = JudgeParams(judge=run.spec.judge.provider, domain=run.spec.domain, sampling=sampling)

    async def one(index: int, batch: Sequence[Question]) -> list[tuple[StudentCompletion, Grades]]:
        key = f"evaluate/{name}"
        rows = [StudentPrompt(id=q.id, question=q.text, shots=shots(q) if shots else []) for q in batch]
        answered = await run.step(f"{key}/answers/{index}", StepKind.ANSWER, run.asking(sampling, model), rows)
        attempts = [StudentCompletion(**row) for row in answered.rows]
        if not graders:
            return [(attempt, Grades(id=attempt.id, scores={})) for attempt in attempts]
        judged = [
            JudgeInput(id=a.id, question=q.text, answer=a.answer, reference=q.reference)
            for q, a in zip(batch, attempts, strict=True)
        ]
        graded = await run.step(f"{key}/grades/{index}", StepKind.GRADE, grading, judged)
        return list(zip(attempts, [Grades(**row) for row in graded.rows], strict=True))

    pairs = [pair for batch in await run.gather(one, questions) for pair in batch]
    scores = {grader.value: [grades.scores[grader] for _, grades in pairs] for grader in dict.fromkeys(graders)}
    answers = [attempt.answer for attempt, _ in pairs]
    unread = sum(attempt.finish_reason == TOO_LONG for attempt, _ in pairs)
    unmarked = sum(attempt.rationale is None and attempt.finish_reason != TOO_LONG for attempt, _ in pairs)
    return Measured(
        name.rpartition("/")[2],
        model,
        scores,
        answers,
        bare=shots is None,
        too_long=unread,
        missing_markers=unmarked if model.tuned in run.reasoning else None,
    )


async def judge_phase(run: Run, phase: str, before: Measured, model: ModelRef) -> tuple[Candidate, Measured]:
    """Compare a phase's student with the one it came from, on dev."""
    after = await measure(run, phase, Split.DEV, model)
    metric = run.metric
    interval = after.gain_over(before, metric)
    candidate = Candidate(phase, model, decide(interval), interval)
    await run.say(
        f"{phase}: {metric} on dev {before.value(metric).value:.3f} -> {after.value(metric).value:.3f}, "
        f"gain {interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]: {candidate.decision}",
        type="metrics",
        phase=phase,
        decision=candidate.decision,
    )
    return candidate, after


async def preferred_over_base(run: Run, split: Split, found: Measured) -> Measured:
    """The measurement with one score per question: 1 where the answer is better than the base's, 0 where it is worse, 0.5
    for a tie. The base comes first in every split; who answers as it did has tied without asking."""
    if found.name == BASE:
        run.answers_of_base[split] = found.answers
    rows = list(zip(run.measured(split), run.answers_of_base[split], found.answers, strict=True))

    async def one(index: int, batch: Sequence[Row]) -> dict[str, float]:
        questions = [question for question, _, _ in batch]
        sides = [before for _, before, _ in batch], [after for _, _, after in batch]
        key = f"evaluate/{split.value}/{found.name}/preferences/{index}"
        points = await judged_points(run, key, questions, *sides)
        return {q.id: point for q, point in zip(questions, points, strict=True)}

    differ = [row for row in rows if row[1] != row[2]]
    planned = 0 if found.name in (BASE, SERVED) else len(rows)
    run.expect(StepKind.COMPARE, (len(differ) if run.judge_decides else 0) - planned)
    asked = await run.gather(one, differ)
    points = {name: point for batch in asked for name, point in batch.items()}
    return replace(found, scores={JUDGE: [points.get(q.id, POINTS["tie"]) for q, _, _ in rows]})


async def measure_on_test(run: Run, candidates: Sequence[Candidate]) -> list[Measured]:
    """The rows of the final table: base, the baselines a user would try first if there are references, every phase."""
    rows = [await measure(run, "base", Split.TEST, run.base)]
    train = [q for phase in run.spec.phases for q in run.shard(phase)]
    baselines = run.spec.evaluation.baselines if any(q.reference for q in train) else []
    if Baseline.FEW_SHOT in baselines:
        rows.append(await random_shots(run, train))
    if Baseline.FEW_SHOT_NEAREST in baselines:
        rows.append(await nearest_shots(run, train))
    if Baseline.SFT_REFERENCES in baselines:
        model = await train_on_references(run, train)
        rows.append(await measure(run, "sft_references", Split.TEST, model))
    for candidate in candidates:
        for name, model in run.parts[Phase(candidate.phase)]:
            rows.append(await measure(run, name, Split.TEST, model))
        rows.append(await measure(run, candidate.phase, Split.TEST, candidate.model))
    return rows


async def random_shots(run: Run, train: Sequence[Question]) -> Measured:
    """The base with examples in its prompt, drawn once for all questions, or several times and averaged."""
    draws = []
    for draw in range(run.spec.evaluation.shot_seeds):
        examples = shots(train, run.spec.evaluation.shots, run.seed, draw)
        name = f"few_shot-{draw}" if draw else "few_shot"
        draws.append(await measure(run, name, Split.TEST, run.base, lambda _, examples=examples: examples))
    return mean_of("few_shot", draws)


async def nearest_shots(run: Run, train: Sequence[Question]) -> Measured:
    """The base with the train questions most like each question in its prompt."""
    index, count = Nearest(seeded_order(train, run.seed, "shots")), run.spec.evaluation.shots
    return await measure(run, "few_shot_nearest", Split.TEST, run.base, lambda q: index.shots(q.text, count))


async def train_on_references(run: Run, train: Sequence[Question]) -> ModelRef:
    """The baseline without any teacher: the base fine-tuned on the references of all questions that the job used."""
    examples = [Example(id=q.id, question=q.text, completion=q.reference) for q in train if q.reference]
    params = run.training(run.spec.distill.epochs, run.spec.distill.learning_rate, model=run.base)
    model, _ = await run.fine_tune("evaluate/sft_references/train", examples, params)
    return model


def shots(train: Sequence[Question], count: int, seed: int, draw: int = 0) -> list[tuple[str, str]]:
    """Worked examples for the few-shot baseline: random ones that have a reference, others in each draw."""
    usable = [q for q in train if q.reference]
    drawn = seeded_order(usable, seed, f"shots-{draw}" if draw else "shots")
    return [(q.text, q.reference or "") for q in drawn[:count]]


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


@cache
def general_questions() -> list[Question]:
    """All of them, fifteen in each of eight categories."""
    return [Question.model_validate_json(line) for line in FILE.read_text().splitlines()]


async def forgetting(run: Run) -> dict[str, Any] | None:
    """The share of general questions answered right before and after; None where the job asks for none.

    guarded: the whole interval of the change lies below the job's margin, so the student is not promoted.
    """
    settings = run.spec.evaluation
    if settings.forgetting == 0 or run.student == run.base:
        return None
    questions = stratified(seeded_order(general_questions(), run.seed), settings.forgetting)

    async def asked(name: str, model: ModelRef) -> Measured:
        return await ask_all(run, f"general/{name}", questions, model, [Grader.CONTAINS], TOKENS)

    before, after = await asked("base", run.base), await asked("final", run.student)
    metric = Grader.CONTAINS.value
    change = after.gain_over(before, metric)
    margin = settings.forgetting_margin
    guarded = margin is not None and change.high < -margin
    found = {
        "n": len(questions),
        "base": before.value(metric).rounded(),
        "final": after.value(metric).rounded(),
        "change": change.rounded(),
        "missing_markers": after.missing_markers,
        "guarded": guarded,
    }
    await run.say(
        f"general questions answered right: {before.value(metric).value:.0%} by the base, "
        f"{after.value(metric).value:.0%} by the new model, change {change.value:+.3f} [{change.low:+.3f}, "
        f"{change.high:+.3f}]" + ("; more was forgotten than the job allows, so it is not promoted" if guarded else ""),
        level="warn" if change.high < 0 else "info",
        type="metrics",
        **found,
    )
    return found
