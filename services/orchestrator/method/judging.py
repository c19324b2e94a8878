"""`Judge`: what the judge says of an answer, and which of two it prefers. How far it is to be trusted stands in judge_trust.py."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.orchestrator.method.durable import Step
from services.orchestrator.method.grading import Grading
from shared.artifacts.material import Material
from shared.contracts.data import Question
from shared.contracts.distillation import Distillation
from shared.contracts.grader_kinds import name_of
from shared.contracts.rows import OVERALL, JudgeInput, Preference, Verdict, comparison_input
from shared.contracts.step_key import StepKey
from shared.contracts.steps import JudgeParams, Sampling, StepKind

POINTS = {"first": 0.0, "tie": 0.5, "second": 1.0}


def judge_params(spec: Distillation, seed: int, material: Material, grader_files: Mapping[str, str]) -> JudgeParams:
    """How the judge is asked, in every phase that asks it. grader_files: what the job's own graders read, file id -> artifact."""
    judge, own = spec.judge, {name_of(grader): grader for grader in spec.verifying}
    return JudgeParams(
        judge=judge.provider,
        domain=spec.domain,
        grader=None if judge.grader is None else name_of(judge.grader),
        pass_mark=judge.pass_mark,
        verify=[*own.values()],
        files=dict(grader_files) if own else {},
        batch=judge.batch,
        analysis=judge.analysis,
        material=list(material.digests),
        sampling=Sampling(max_tokens=judge.max_tokens, seed=seed),
    )


@dataclass(frozen=True)
class Judge:
    params: JudgeParams
    grading: Grading
    step: Step

    async def review(self, key: StepKey, rows: Sequence[JudgeInput], alone: bool = False) -> list[Verdict]:
        """Which answers pass, and what is wrong with the others. alone: the judge decides, though there is a grader."""
        asking = self.params.model_copy(update={"grader": None}) if alone else self.params
        return (await self.step(key, StepKind.REVIEW, asking, rows)).read(Verdict)

    async def compare(
        self, decides: bool, key: StepKey, questions: Sequence[Question], first: Sequence[str], second: Sequence[str]
    ) -> list[float]:
        """Per question 1 where the judge prefers the second answer, 0 where the first, 0.5 for a tie; it reads each pair in both
        orders. decides: it is better than chance; otherwise all are ties, without asking."""
        if not decides:
            return [POINTS["tie"]] * len(questions)
        rows = [comparison_input(q, a, b) for q, a, b in zip(questions, first, second, strict=True)]
        compared = await self.step(key, StepKind.COMPARE, self.params, rows)
        return [POINTS[row.winners[OVERALL]] for row in compared.read(Preference)]

    async def better(
        self, decides: bool, key: StepKey, questions: Sequence[Question], first: Sequence[str], second: Sequence[str]
    ) -> list[tuple[float, float]]:
        """Per question a score in [0, 1] for each of two answers: by the primary metric where all have references, else
        by the judge (won 1 : 0, a tie 0.5 : 0.5)."""
        if all(q.reference for q in questions):
            metric = self.grading.spec.primary_metric
            scores = [
                await self.grading.grade(key.child(name), questions, side, metric)
                for name, side in (("a", first), ("b", second))
            ]
            return list(zip(*scores, strict=True))
        points = await self.compare(decides, key.child("preferences"), questions, first, second)
        return [(1 - point, point) for point in points]
