"""How far the judge is to be trusted: what human preferences say of it, and what of the job relies on it."""

from collections import Counter
from collections.abc import Sequence

from services.orchestrator.method.context import JobContext
from shared.contracts.report import JudgeReport, LabelAgreement
from shared.contracts.rows import ComparisonInput, Preference
from shared.contracts.step_key import StepKey
from shared.contracts.steps import StepKind, StepResult
from shared.evaluation.judge_quality import LABELS_LEAST, agreement, quality
from shared.jobs.records import LabelRecord

UNMEASURED = "no human preferences measure this judge; POST /v1/labels takes them"
CONSEQUENCES = {
    "measuring": "this job promotes no model: dev and test have too few references, and the judge is not asked",
    "guidance": "which way of asking the teacher is better is undecided: no references compare the answers, "
    "and the judge is not asked",
    "iterate": "the judge passes nothing in phase 2: where no grader decides, questions are not tried but dropped, "
    "or answered by the teacher (iterate.on_failure)",
    "evaluation": "ignore the judge's comparison of the final model with the base, and its scores",
}


async def calibrate(ctx: JobContext, uses: Sequence[str], preferences: Sequence[LabelRecord]) -> JudgeReport:
    """Have the judge compare the project's human preferences, in both orders.

    decides: False where it is no better than chance on them. Then pilot and `guidance: best` treat its comparisons as
    undecided, it passes nothing in phase 2, and it is not asked for either.
    """
    if not preferences:
        warnings = [UNMEASURED] if uses else []
        return JudgeReport(rests_on_it=list(uses), labels=None, decides=True, warnings=warnings)
    ctx.expect(StepKind.COMPARE, len(preferences))
    rows = [
        ComparisonInput(id=row.id, question=row.question, first=row.first, second=row.second, reference=row.reference)
        for row in preferences
    ]

    async def compare_batch(index: int, batch: Sequence[ComparisonInput]) -> StepResult:
        return await ctx.step(
            StepKey("evaluate", role="labels", batch=index), StepKind.COMPARE, ctx.judge.params, batch
        )

    compared = await ctx.gather(compare_batch, rows)
    judged = [preference for result in compared for preference in result.read(Preference)]
    counts = sum((Counter(result.metrics) for result in compared), Counter())
    preferred = [row.preferred for row in preferences]
    figures = LabelAgreement(**dict(quality(rows, judged, counts, preferred)), **dict(agreement(judged, preferred)))
    decides = figures.better_than_chance is not False
    value, low, high = figures.agreement
    await ctx.emit(
        f"the judge agrees with {value:.0%} [{low:.0%}, {high:.0%}] of {len(preferences)} labels, "
        f"chance is {figures.chance:.0%}" + ("" if decides else ": it decides nothing"),
        type="metrics",
        level="info" if decides else "warn",
        agreement=figures.agreement,
        kappa=figures.kappa,
    )
    warnings = calibration_warnings(figures, uses)
    return JudgeReport(rests_on_it=list(uses), labels=figures, decides=decides, warnings=warnings)


def calibration_warnings(figures: LabelAgreement, uses: Sequence[str]) -> list[str]:
    """What human preferences say against the judge, and what of the job relies on it."""
    if figures.better_than_chance:
        return figures.warnings
    if figures.better_than_chance is None:
        few = f"{figures.n} labels are too few to tell whether the judge is better than chance; give {LABELS_LEAST} or more"
        return [few, *figures.warnings]
    against = (
        f"the judge is no better than chance on the labels ({figures.agreement.value:.0%} agree, "
        f"chance is {figures.chance:.0%}): it decides nothing"
    )
    return [against, *(CONSEQUENCES[use] for use in uses), *figures.warnings]
