"""Two students side by side on the same questions.

By graders each has scores of its own. Where the judge measures, for want of references, it compares the two directly, in both orders:
a student that is preferred to the base in 95 of 100 answers leaves no room above it for a better one, and two such students compared
through the base would never be told apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from services.orchestrator.method.durable import Expect, Gather
from services.orchestrator.method.evaluate import BASE, EvalResult, Pair
from services.orchestrator.method.judging import POINTS, Judge
from services.orchestrator.method.state import State
from shared.contracts.data import Question, Split
from shared.contracts.distillation import BASELINE_NAMES, JUDGE
from shared.contracts.step_key import StepKey
from shared.contracts.steps import StepKind
from shared.evaluation.statistics import Interval


@dataclass(frozen=True)
class HeadToHead:
    """judge_measures: the judge does, and no grader. through_the_base: it compares students with the base only, in
    jobs that began so. figures: what the workers counted, by step key."""

    judge_measures: bool
    through_the_base: bool
    judge: Judge
    figures: Mapping[StepKey, Mapping[str, Any]]
    expect: Expect
    gather: Gather

    async def side_by_side(self, state: State, before: EvalResult, after: EvalResult, planned: bool = True) -> Pair:
        """Both with scores that may be subtracted, question by question.

        Where the judge measures, `after` has 1 where its answer is preferred, 0 where the other one is and 0.5 for a tie, and `before` has 0.5:
        the gain is the share that `after` wins, ties split, minus one half. planned: the job's plan counts these comparisons.
        """
        if not self.judge_measures:
            return before, after
        if self.through_the_base and after.part != Split.TEST:
            base = replace(before, name=BASE, answers=[*state.base_answers], each=())
            over = [await self.points(state, base, one, planned=False) for one in (before, after)]
            return replace(before, scores={JUDGE: over[0]}), replace(after, scores={JUDGE: over[1]})
        won = await self.points(state, before, after, planned)
        return level(before), replace(after, scores={JUDGE: won})

    async def gain(self, state: State, before: EvalResult, after: EvalResult) -> Interval:
        """The paired gain of one student over another in the metric that decides."""
        before, after = await self.side_by_side(state, before, after)
        return after.gain_over(before)

    async def scored_over_base(
        self, state: State, base: EvalResult, results: Sequence[EvalResult], planned: bool = True
    ) -> list[EvalResult]:
        """Results with their scores; where the judge measures, against the base, which comes first."""
        if not self.judge_measures:
            return [base, *results]
        return [
            level(base),
            *[replace(one, scores={JUDGE: await self.points(state, base, one, planned)}) for one in results],
        ]

    async def final_beside_others(
        self, state: State, results: Sequence[EvalResult], final: EvalResult, phases: Sequence[str]
    ) -> dict[str, Pair]:
        """By name, the students on test that the final one stands beside, and it. results: the base first, with their scores over it.

        Where the judge measures these are the base, the baselines and the phases; it is not asked about single rounds and turns.
        """
        others = [row for row in results if row.name != final.name]
        if not self.judge_measures:
            return {row.name: (row, final) for row in others}
        asked = [row for row in others if row.name in BASELINE_NAMES or row.name in phases]
        if final.name == BASE:  # they have been compared with it
            turned = {row.name: [1 - point for point in row.scores[JUDGE]] for row in asked}
            return {row.name: (level(row), replace(final, scores={JUDGE: turned[row.name]})) for row in asked}
        beside = {row.name: await self.side_by_side(state, row, final) for row in asked}
        return {BASE: (results[0], final)} | beside

    def counted_comparisons(self) -> dict[str, int]:
        """How the comparisons went so far, summed over the steps' figures; nothing where no judge measures."""
        if not self.judge_measures:
            return {}
        steps = [
            counts for key, counts in self.figures.items() if key.action == "preferences" and key.split is not None
        ]
        names = {"compared": "n", "calls": "calls", "unparsed": "unparsed", "flipped": "flipped"}
        return {name: sum(counts.get(counted, 0) for counts in steps) for name, counted in names.items()}

    async def points(self, state: State, before: EvalResult, after: EvalResult, planned: bool = True) -> list[float]:
        """Per question 1, 0.5 or 0 as the judge prefers the answer of `after`; of several draws, the mean over all pairs of them."""
        draws = [(one, other) for one in before.each or (before,) for other in after.each or (after,)]
        each = [await self._of_draw(state, *pair, planned) for pair in draws]
        return [fmean(row) for row in zip(*each, strict=True)]

    async def _of_draw(self, state: State, before: EvalResult, after: EvalResult, planned: bool) -> list[float]:
        """Equal answers tie without a call."""
        rows = list(zip(after.questions, before.answers, after.answers, strict=True))

        async def points_of(index: int, batch: Sequence[tuple[Question, str, str]]) -> dict[str, float]:
            questions, first, second = zip(*batch, strict=True)
            key = StepKey("evaluate", role=f"{after.part}/{after.name}-over-{before.name}/preferences", batch=index)
            won = await self.judge.compare(state.judge_decides, key, questions, first, second)
            return {q.id: point for q, point in zip(questions, won, strict=True)}

        differ = [row for row in rows if row[1] != row[2]]
        self.expect(StepKind.COMPARE, (len(differ) if state.judge_decides else 0) - (len(rows) if planned else 0))
        won = {name: point for batch in await self.gather(points_of, differ) for name, point in batch.items()}
        return [won.get(q.id, POINTS["tie"]) for q, _, _ in rows]


def level(result: EvalResult) -> EvalResult:
    """As it stands beside itself."""
    return replace(result, scores={JUDGE: [POINTS["tie"]] * len(result.answers)})
