"""Measuring students: on dev for every decision, on test for the report and nothing else.

All students answer the bare question through one prompt and are graded on the answer alone, without the rationale. Where there
are no references they have no scores by themselves: the judge compares two at a time (head_to_head.py).
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import log
from statistics import fmean
from typing import Any

from services.orchestrator.method.context import JobContext, State
from services.orchestrator.method.judging import grader_input
from services.orchestrator.method.selection import seeded_order, words
from shared.contracts.data import Question, Split, group_key
from shared.contracts.distillation import Baseline, Phase
from shared.contracts.grader_kinds import BINARY_GRADERS, Grader, VerifyingGrader, name_of
from shared.contracts.report import FinalModel, ForgettingRecord, TableRow, WinRecord
from shared.contracts.rows import TOO_LONG, Grades, Shot, StudentCompletion, shot
from shared.contracts.step_key import StepKey
from shared.contracts.steps import JudgeParams, ModelRef, Sampling, StepKind, StudentParams
from shared.evaluation.grouped import grouped_gain, grouped_mean
from shared.evaluation.statistics import LEVEL, Interval

Pair = tuple["EvalResult", "EvalResult"]
Shots = Callable[[Question], list[Shot]]  # the worked examples that stand before a question
BASE = "base"
K1, B = 1.2, 0.75  # of BM25, within the ranges that the paper recommends
GENERAL_TOKENS = 48  # the answers are a word or a number; a small model writes a sentence first


@dataclass(frozen=True)
class EvalResult:
    """One student on one split. scores: per grader one value in [0, 1] per question, in the split's order.

    draws: over how many random draws of worked examples each score is the mean; the answers are the first draw's.
    bare: it was asked without worked examples. too_long: questions that did not fit into its context. cut_off: answers that ended
    at their limit of tokens. missing_markers: answers
    without a rationale and marker before them; None where the student was never trained to write them. groups: one name per
    question; questions of one group stand on the same passage, conversation or query. part: what was asked, "test", "dev", or a part
    of it. questions: those of it. each: the draws, where there are several.
    """

    name: str
    model: ModelRef
    scores: dict[str, list[float]]
    answers: list[str]
    draws: int = 1
    bare: bool = True
    too_long: int = 0
    cut_off: int = 0
    missing_markers: int | None = None
    groups: Sequence[str] = ()
    part: str = ""
    questions: Sequence[Question] = ()
    each: Sequence["EvalResult"] = ()

    def value(self, metric: str) -> Interval:
        """The share or mean of a metric with its 95 % interval."""
        values = self.scores[metric]
        return grouped_mean(is_share(metric, values), values, self.groups)

    def gain_over(self, other: "EvalResult", metric: str, level: float = LEVEL) -> Interval:
        """The paired gain of this student over another on the same questions, with its interval (95 % unless level is given).

        Over itself it is exactly nothing, on these questions and on all others. Two students that only answered alike
        here may differ elsewhere, and get an interval that says so.
        """
        before, after = other.scores[metric], self.scores[metric]
        if self.model == other.model and self.bare and other.bare:
            return Interval(0.0, 0.0, 0.0, len(after))
        return grouped_gain(is_share(metric, [*before, *after]), before, after, self.groups, level)

    def record_against(self, other: "EvalResult", metric: str) -> WinRecord:
        """On how many questions this student scored higher, the same, lower than another."""
        pairs = list(zip(self.scores[metric], other.scores[metric], strict=True))
        win, loss = sum(a > b for a, b in pairs), sum(a < b for a, b in pairs)
        return WinRecord(win=win, tie=len(pairs) - win - loss, loss=loss)


def is_share(metric: str, values: Sequence[float]) -> bool:
    """Whether a metric's values are right or wrong; the mean over several draws is neither."""
    return metric in BINARY_GRADERS and all(value in (0, 1) for value in values)


def mean_of(name: str, draws: Sequence[EvalResult]) -> EvalResult:
    """Several measurements of one model on the same questions as one: each question's score is its mean."""
    first = draws[0]
    scores = {
        grader: [fmean(row) for row in zip(*(d.scores[grader] for d in draws), strict=True)] for grader in first.scores
    }
    return replace(first, name=name, scores=scores, draws=len(draws), each=draws, missing_markers=None)


@dataclass(frozen=True)
class TestTable:
    """All students on test. rows: the base first. final: the final model against every other row. gains: by row, its paired
    gains in the deciding metric."""

    rows: Sequence[TableRow]
    final: FinalModel
    gains: Mapping[str, Interval]


async def measure(
    ctx: JobContext, state: State, name: str, split: Split, model: ModelRef, shots: Shots | None = None
) -> EvalResult:
    """Greedy answers to the split's questions with references, graded; on dev, to those that decide."""
    part = "dev/rest" if split is Split.DEV and ctx.choice else split.value
    return await _measure(ctx, state, f"{part}/{name}", ctx.measured[split], model, shots)


async def measure_to_choose(ctx: JobContext, state: State, name: str, model: ModelRef) -> EvalResult:
    """On the part of dev that rounds and turns are chosen on; on all of it where it is not parted."""
    if not ctx.choice:
        return await measure(ctx, state, name, Split.DEV, model)
    return await _measure(ctx, state, f"dev/choice/{name}", ctx.choice, model)


async def _measure(
    ctx: JobContext, state: State, name: str, questions: Sequence[Question], model: ModelRef, shots: Shots | None = None
) -> EvalResult:
    graders = [] if ctx.judge_measures else [ctx.spec.primary_metric, *ctx.spec.evaluation.graders]
    return await answer_and_grade(ctx, state, name, questions, model, graders, ctx.spec.student_tokens, shots)


async def answer_and_grade(
    ctx: JobContext,
    state: State,
    name: str,
    questions: Sequence[Question],
    model: ModelRef,
    graders: Sequence[Grader | VerifyingGrader],
    max_tokens: int,
    shots: Shots | None = None,
) -> EvalResult:
    """Greedy answers of a model to questions, graded where there are graders. name: its last part is the result's."""
    sampling = Sampling(max_tokens=max_tokens, seed=ctx.seed)
    asking = StudentParams(model=model, domain=ctx.spec.domain, sampling=sampling)
    names = list(dict.fromkeys(name_of(grader) for grader in graders))
    verifying: dict[str, Any] = {}
    if not all(isinstance(grader, Grader) for grader in graders):
        verifying = ctx.verifying | {"verify": ctx.graders_of(graders)}
    grading = JudgeParams(judge=ctx.spec.judge.provider, domain=ctx.spec.domain, sampling=sampling, **verifying)

    async def evaluate(index: int, batch: Sequence[Question]) -> list[tuple[StudentCompletion, Grades]]:
        prompts = [ctx.prompt(q, shots=shots(q) if shots else []) for q in batch]
        answered = await ctx.step(
            StepKey("evaluate", role=f"{name}/answers", batch=index), StepKind.ANSWER, asking, prompts
        )
        completions = answered.read(StudentCompletion)
        if not graders:
            return [(completion, Grades(id=completion.id, scores={})) for completion in completions]
        rows = [grader_input(question, c.answer) for question, c in zip(batch, completions, strict=True)]
        graded = await ctx.step(StepKey("evaluate", role=f"{name}/grades", batch=index), StepKind.GRADE, grading, rows)
        return list(zip(completions, graded.read(Grades), strict=True))

    pairs = [pair for batch in await ctx.gather(evaluate, questions) for pair in batch]
    unmarked = sum(c.rationale is None and c.finish_reason != TOO_LONG for c, _ in pairs)
    part, _, last = name.rpartition("/")
    return EvalResult(
        name=last,
        model=model,
        scores={name: [grades.scores.get(name, 0.0) for _, grades in pairs] for name in names},
        answers=[completion.answer for completion, _ in pairs],
        bare=shots is None,
        too_long=sum(completion.finish_reason == TOO_LONG for completion, _ in pairs),
        cut_off=sum(completion.cut_off for completion, _ in pairs),
        missing_markers=unmarked if model.tuned in state.writes_rationale else None,
        groups=[group_key(q) for q in questions],
        part=part,
        questions=questions,
    )


# The table on test: base, baselines, every phase with its rounds or iterations


async def measure_baselines(ctx: JobContext, state: State) -> list[EvalResult]:
    """What a user would try first, if train has references: worked examples in the base's prompt, training on references."""
    train = [q for phase in ctx.spec.phases for q in ctx.shards[phase]]
    settings = ctx.spec.evaluation
    if not any(q.reference for q in train):
        return []
    rows = []
    if Baseline.FEW_SHOT in settings.baselines:
        draws = []
        for draw in range(settings.shot_seeds):
            examples = [shot(q, ctx.shows_calls) for q in random_shots(train, settings.shots, ctx.seed, draw)]
            name = f"few_shot-{draw}" if draw else "few_shot"
            draws.append(await measure(ctx, state, name, Split.TEST, ctx.base, lambda _, examples=examples: examples))
        rows.append(mean_of("few_shot", draws))
    if Baseline.FEW_SHOT_NEAREST in settings.baselines:
        index = Nearest(seeded_order(train, ctx.seed, "shots"))
        nearest: Shots = lambda q: [shot(s, ctx.shows_calls) for s in index.nearest(q.text, settings.shots)]  # noqa: E731
        rows.append(await measure(ctx, state, "few_shot_nearest", Split.TEST, ctx.base, nearest))
    if Baseline.SFT_REFERENCES in settings.baselines:
        examples = [ctx.example(q, q.reference) for q in train if q.reference]
        key, distill = StepKey("evaluate", role="sft_references/train"), ctx.spec.distill
        model, _ = await ctx.train(key, StepKind.SFT, examples, ctx.base, distill.epochs, distill.learning_rate)
        rows.append(await measure(ctx, state, "sft_references", Split.TEST, model))
    return rows


async def measure_phases(ctx: JobContext, state: State, phases: Mapping[Phase, ModelRef]) -> list[EvalResult]:
    """Each phase's student, after those of its rounds or iterations."""
    students = [
        student
        for phase, model in phases.items()
        for student in (*state.checkpoints.get(phase, ()), (phase.value, model))
    ]
    return [await measure(ctx, state, name, Split.TEST, model) for name, model in students]


def compare_on_test(
    results: Sequence[EvalResult], final: EvalResult, metric: str, pairs: Mapping[str, Pair] | None = None
) -> TestTable:
    """results: the base first, each with scores over it. pairs: by name those that the final model stands beside, and it, with scores
    that may be subtracted; by default their scores in results are."""
    base = results[0]
    pairs = pairs if pairs is not None else {row.name: (row, final) for row in results if row.name != final.name}
    of_final = {name: own.gain_over(other, metric) for name, (other, own) in pairs.items()}
    return TestTable(
        rows=[
            TableRow(
                name=row.name,
                adapter=row.model.tuned,
                n=len(row.answers),
                draws=row.draws,
                metrics={grader: row.value(grader).rounded() for grader in row.scores},
                gain_over_base=row.gain_over(base, metric).rounded(),
                too_long=row.too_long,
                cut_off=row.cut_off,
                missing_markers=row.missing_markers,
                against_base=row.record_against(base, metric),
                scores=row.scores[metric],
            )
            for row in results
        ],
        final=FinalModel(
            name=final.name,
            adapter=final.model.tuned,
            over={name: gain.rounded() for name, gain in of_final.items()},
            by_metric={
                name: {g: own.gain_over(other, g).rounded() for g in own.scores} for name, (other, own) in pairs.items()
            },
            record={name: own.record_against(other, metric) for name, (other, own) in pairs.items()},
        ),
        gains={final.name: final.gain_over(final, metric)} | of_final,
    )


def better_by_metric(base: EvalResult, final: EvalResult, metric: str) -> list[str]:
    """Per question which answer a metric finds better."""
    pairs = zip(base.scores[metric], final.scores[metric], strict=True)
    return ["tie" if before == after else "second" if after > before else "first" for before, after in pairs]


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


# What training cost elsewhere: general questions of our own, answered by the base and by the final model


def general_tokens(ctx: JobContext, state: State) -> int:
    """The longest answer to a general question, for both models: a student that reasons first needs the job's room for its reasoning,
    or its answer is cut off and counts as forgotten."""
    taught = GENERAL_TOKENS + ctx.spec.student_tokens - ctx.spec.answer_tokens
    return max(taught, ctx.spec.student_tokens if state.student.tuned in state.writes_rationale else 0)


async def forgetting(ctx: JobContext, state: State) -> ForgettingRecord | None:
    """The share of general questions answered right before and after; None where the job asks for none.

    An answer is right when the expected one stands in it. guarded: the whole interval of the change lies below the job's
    margin, so the student is not promoted.
    """
    settings, metric = ctx.spec.evaluation, Grader.CONTAINS.value
    if not ctx.general_questions or state.student == ctx.base:
        return None
    tokens = general_tokens(ctx, state)
    folder = "general" if tokens == GENERAL_TOKENS else f"general/{tokens}"
    before, after = [
        await answer_and_grade(ctx, state, f"{folder}/{name}", ctx.general_questions, model, [Grader.CONTAINS], tokens)
        for name, model in (("base", ctx.base), ("final", state.student))
    ]
    change = after.gain_over(before, metric)
    margin = settings.forgetting_margin
    guarded = margin is not None and change.high < -margin
    record = ForgettingRecord(
        n=len(ctx.general_questions),
        base=before.value(metric).rounded(),
        final=after.value(metric).rounded(),
        change=change.rounded(),
        missing_markers=after.missing_markers,
        guarded=guarded,
    )
    await ctx.emit(
        f"general questions answered right: {before.value(metric).value:.0%} by the base, "
        f"{after.value(metric).value:.0%} by the new model, change {change.value:+.3f} [{change.low:+.3f}, "
        f"{change.high:+.3f}]" + ("; more was forgotten than the job allows, so it is not promoted" if guarded else ""),
        level="warn" if change.high < 0 else "info",
        type="metrics",
        **record.model_dump(mode="json"),
    )
    return record
