"""`FinalComparison`: the final model against the base by the judge (paper section 4): five criteria pairwise in both orders, and a
score from 1 to 10 for each answer.

The judge is a measuring device of unknown quality: its own figures stand beside its verdicts.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from services.orchestrator.method.durable import Step
from services.orchestrator.method.evaluate import EvalResult
from services.orchestrator.method.judging import POINTS
from shared.contracts.distillation import EvaluationSettings
from shared.contracts.report import AbsoluteScore, AbsoluteScores, Criterion, JudgedComparison
from shared.contracts.report_part import Triple
from shared.contracts.rows import OVERALL, AnswerScores, ComparisonInput, JudgeInput, Preference, comparison_input
from shared.contracts.step_key import StepKey
from shared.contracts.steps import JudgeParams, StepKind, StepResult
from shared.evaluation.judge_quality import UNPARSED_MOST, quality
from shared.evaluation.statistics import Interval, mean_interval, paired_mean_gain

LOWEST, HIGHEST = 1, 10  # of an absolute score
SAME_SCORE = 0.9  # share of answers with the same score above which the report warns
REPEATED = 2  # a reply that cannot be read is asked for once more


@dataclass(frozen=True)
class FinalComparison:
    """params: how the judge is asked. judge_teaches: judge and teacher are the same model. judge_measures: for want of references, so
    that nothing else says which answer is better."""

    settings: EvaluationSettings
    params: JudgeParams
    batch_size: int
    judge_teaches: bool
    judge_measures: bool
    step: Step

    async def judge_final_model(
        self, base: EvalResult, final: EvalResult, calls_before: int
    ) -> JudgedComparison | None:
        """Shares that the final model's answers win, by criterion, and mean scores; None where the final model is
        the base, the job asks for no judged questions, or its budget pays for none.

        Batch after batch, until the interval of the overall share is as narrow as asked, the questions are used up, or the
        next question might cost more calls than are left. calls_before: those that measuring took from the same budget.
        """
        if final.model == base.model:
            return None
        settings = self.settings
        answered = zip(base.questions, base.answers, final.answers, strict=True)
        rows = [comparison_input(*row) for row in islice(answered, settings.judged_questions)]

        preferences: list[Preference] = []
        scores: dict[str, list[AnswerScores]] = {"base": [], "final": []}
        counts: Counter[str] = Counter()
        calls = 0

        def affordable() -> int:
            """Questions that the rest of the budget pays for even if every reply is asked for again."""
            if settings.max_judge_calls is None:
                return self.batch_size
            per_question = (4 if settings.absolute_scores else 2) * REPEATED
            return (settings.max_judge_calls - calls - calls_before) // per_question

        if not rows or affordable() < 1:
            return None
        index, ended = 0, None
        while ended is None:
            done = len(preferences)
            size = min(self.batch_size, affordable())
            judged, *scored = await self._judge_batch(index, rows[done : done + size])
            preferences += judged.read(Preference)
            counts.update(judged.metrics)
            for side, result in zip(scores.values(), scored, strict=False):
                side += result.read(AnswerScores)
            calls += sum(result.metrics["calls"] for result in (judged, *scored))
            index += 1
            overall = mean_interval([POINTS[preference.winners[OVERALL]] for preference in preferences])
            if overall.high - overall.low <= 2 * settings.judged_margin:
                ended = "margin_reached"
            elif len(preferences) == len(rows):
                ended = "questions_used_up"
            elif not affordable():
                ended = "budget_used_up"
        compared = rows[: len(preferences)]
        by_references = None if self.judge_measures else better_by_metric(base, final)[: len(compared)]
        figures = quality(compared, preferences, counts, by_references)
        warnings = [*figures.warnings, *score_warnings([row for side in scores.values() for row in side])]
        if self.judge_teaches:
            warnings = ["judge and teacher are the same model: it may favour what it has taught", *warnings]
        return JudgedComparison(
            n=len(compared),
            wanted=len(rows),
            ended=ended,
            calls=calls,
            max_calls=settings.max_judge_calls,
            criteria={name: criterion(preferences, name) for name in preferences[0].winners},
            absolute=absolute(scores) if settings.absolute_scores else None,
            judge=figures.model_copy(update={"warnings": warnings}),
        )

    async def _judge_batch(self, index: int, rows: Sequence[ComparisonInput]) -> list[StepResult]:
        """One batch compared and, where the job asks for scores, both of its answers scored: those of the base, then the final
        model's."""
        sides = {"base": [row.first for row in rows], "final": [row.second for row in rows]}
        steps: list[tuple[StepKey, StepKind, Sequence[ComparisonInput] | Sequence[JudgeInput]]] = [
            (StepKey("evaluate", role="judged", batch=index), StepKind.COMPARE, rows)
        ]
        if self.settings.absolute_scores:
            for name, answers in sides.items():
                to_score = [
                    JudgeInput(
                        answer=answer, **row.model_dump(include={"id", "question", "reference", "teacher_context"})
                    )
                    for row, answer in zip(rows, answers, strict=True)
                ]
                steps.append((StepKey("evaluate", role=f"rated/{name}", batch=index), StepKind.RATE, to_score))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.step(key, kind, self.params, items)) for key, kind, items in steps]
        return [task.result() for task in tasks]


def better_by_metric(base: EvalResult, final: EvalResult) -> list[str]:
    """Per question which answer the metric that decides finds better."""
    pairs = zip(base.scores[base.metric], final.scores[final.metric], strict=True)
    return ["tie" if before == after else "second" if after > before else "first" for before, after in pairs]


def criterion(preferences: Sequence[Preference], name: str) -> Criterion:
    """How often the final model won, tied and lost; share: ties split, with its 95 % interval."""
    winners = [preference.winners[name] for preference in preferences]
    return Criterion(
        win=winners.count("second"),
        tie=winners.count("tie"),
        loss=winners.count("first"),
        share=mean_interval([POINTS[winner] for winner in winners]).rounded(),
    )


def absolute(scores: Mapping[str, Sequence[AnswerScores]]) -> AbsoluteScores:
    """Mean scores from 1 to 10 of base and final model and the paired gain, over questions where both were scored."""
    pairs = [
        (base.scores, final.scores)
        for base, final in zip(scores["base"], scores["final"], strict=True)
        if base.parsed and final.parsed
    ]
    criteria = {}
    for name in pairs[0][0] if pairs else ():
        base, final = (
            [(side[name] - LOWEST) / (HIGHEST - LOWEST) for side in sides] for sides in zip(*pairs, strict=True)
        )
        criteria[name] = AbsoluteScore(
            base=on_scale(mean_interval(base), LOWEST),
            final=on_scale(mean_interval(final), LOWEST),
            gain=on_scale(paired_mean_gain(base, final), 0),
        )
    unparsed = {name: sum(not row.parsed for row in side) for name, side in scores.items()}
    return AbsoluteScores(n=len(pairs), unparsed=unparsed, criteria=criteria)


def on_scale(interval: Interval, zero: int) -> Triple:
    """An interval on [0, 1] (differences: [-1, 1]) in points of the scale from 1 to 10."""
    width = HIGHEST - LOWEST
    return Triple(*(round(zero + width * value, 4) for value in (interval.value, interval.low, interval.high)))


def score_warnings(rows: Sequence[AnswerScores]) -> list[str]:
    """What makes absolute scores worthless: most answers got none, or nearly all got the same."""
    scores = Counter(row.scores[OVERALL] for row in rows if row.parsed)
    lost = len(rows) - scores.total()
    if lost > UNPARSED_MOST * len(rows):
        return [f"the judge gave no scores to {lost} of {len(rows)} answers"]
    ((score, times),) = scores.most_common(1) or [(0, 0)]
    if rows and times >= SAME_SCORE * len(rows):
        return [f"the judge scores {times} of {len(rows)} answers {score} of {HIGHEST}: its scores tell nothing"]
    return []
