"""`JudgeTrust`: how far the judge can be trusted. Human preferences show whether it is better than chance. Before a job relies on it, the
pilot checks whether its replies can be read, and whether it can tell a right answer from one that belongs to another question.

If the judge's replies cannot be read, the job ends. A judge that is no better than chance, or cannot tell such answers apart, decides nothing.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from services.orchestrator.method.durable import Emit, Expect, Gather, Step
from services.orchestrator.method.judging import POINTS
from shared.contracts.data import Question
from shared.contracts.distillation import Judge
from shared.contracts.errors import FatalError
from shared.contracts.phase_records import JudgeGate
from shared.contracts.report import JudgeReport, LabelAgreement
from shared.contracts.rows import (
    OVERALL,
    ComparisonInput,
    Preference,
    TeacherResponse,
    Verdict,
    comparison_input,
    judge_input,
)
from shared.contracts.step_key import StepKey
from shared.contracts.steps import JudgeParams, StepKind, StepResult
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

PASSES = 0.75  # of right answers told, ties split. By guessing 8 pairs it is reached in 4 of 100 runs
LEAST = 4  # pairs; fewer say nothing
UNREADABLE_MOST = 0.75  # share of replies without a verdict from which the pilot ends the job
UNFIT_JUDGE = {  # what most replies had -> in words, and what to do
    "cut_off": ("ended at their limit of tokens", "raise judge.max_tokens (a reasoning model also thinks within it)"),
    "empty": (
        "held no text",
        "raise judge.max_tokens (a reasoning model also thinks within it), or name another provider",
    ),
    "": ("hold no JSON object of the form asked for", "name a provider that keeps to a form"),
}


@dataclass(frozen=True)
class JudgeTrust:
    """params: how the judge is asked. most_pairs: so many pairs of the gate at most; 0: the job has none."""

    settings: Judge
    params: JudgeParams
    most_pairs: int
    step: Step
    gather: Gather
    emit: Emit
    expect: Expect

    async def calibrate(self, uses: Sequence[str], preferences: Sequence[LabelRecord]) -> JudgeReport:
        """Have the judge compare the project's human preferences, in both orders.

        decides: False where it is no better than chance on them. Then pilot and `guidance: best` treat its comparisons as
        undecided, it passes nothing in phase 2, and it is not asked for either.
        """
        if not preferences:
            warnings = [UNMEASURED] if uses else []
            return JudgeReport(rests_on_it=list(uses), labels=None, decides=True, warnings=warnings)
        self.expect(StepKind.COMPARE, len(preferences))
        rows = [
            ComparisonInput(
                id=row.id, question=row.question, first=row.first, second=row.second, reference=row.reference
            )
            for row in preferences
        ]

        async def compare_batch(index: int, batch: Sequence[ComparisonInput]) -> StepResult:
            return await self.step(
                StepKey("evaluate", role="labels", batch=index), StepKind.COMPARE, self.params, batch
            )

        compared = await self.gather(compare_batch, rows)
        judged = [preference for result in compared for preference in result.read(Preference)]
        counts = sum((Counter(result.metrics) for result in compared), Counter())
        preferred = [row.preferred for row in preferences]
        figures = LabelAgreement(**dict(quality(rows, judged, counts, preferred)), **dict(agreement(judged, preferred)))
        decides = figures.better_than_chance is not False
        value, low, high = figures.agreement
        await self.emit(
            f"the judge agrees with {value:.0%} [{low:.0%}, {high:.0%}] of {len(preferences)} labels, "
            f"chance is {figures.chance:.0%}" + ("" if decides else ": it decides nothing"),
            type="metrics",
            level="info" if decides else "warn",
            agreement=figures.agreement,
            kappa=figures.kappa,
        )
        warnings = calibration_warnings(figures, uses)
        return JudgeReport(rests_on_it=list(uses), labels=figures, decides=decides, warnings=warnings)

    async def try_replies(self, questions: Sequence[Question], responses: Sequence[TeacherResponse]) -> None:
        """Have the judge decide on the teacher's first responses. Raises FatalError `judge_unfit` when nearly none of its replies
        can be read. The verdicts themselves are not used."""
        rows = [
            judge_input(q.model_copy(update={"reference": None}) if self.settings.grader else q, response.answer)
            for q, response in zip(questions, responses, strict=True)
            if response.outcome == "ok"
        ]
        tried = await self.step(StepKey("pilot", role="judge/verdicts"), StepKind.REVIEW, self.params, rows)
        verdicts = tried.read(Verdict)
        unread = sum(verdict.by == "unparsed" for verdict in verdicts)
        if unread < UNREADABLE_MOST * len(verdicts):
            return
        counts = Counter({name: tried.metrics.get(name, 0) for name in ("cut_off", "empty")})
        cause, remedy = UNFIT_JUDGE.get(counts.most_common(1)[0][0] if counts.total() else "", UNFIT_JUDGE[""])
        raise FatalError(
            f"the judge is not fit for this job: of its replies to the first {len(verdicts)} answers {unread} give no verdict, "
            f"though each was asked for twice; most {cause}. Now judge.max_tokens is {self.settings.max_tokens} and "
            f"judge.provider is {self.settings.provider!r}: {remedy}",
            param="distillation.judge.max_tokens" if "max_tokens" in remedy else "distillation.judge.provider",
            code="judge_unfit",
        )

    async def tell_apart(self, questions: Sequence[Question], responses: Sequence[TeacherResponse]) -> JudgeGate | None:
        """Have the judge tell right answers from answers to other questions; None where there are too few pairs."""
        rows = planted_pairs(questions, responses, self.most_pairs)
        if len(rows) < LEAST:
            return None
        compared = await self.step(StepKey("pilot", role="judge/planted"), StepKind.COMPARE, self.params, rows)
        gate = gate_of(compared.read(Preference))
        await self.emit(
            f"pilot: {words_of(gate)}",
            type="metrics",
            level="info" if gate.passed else "warn",
            **gate.model_dump(mode="json"),
        )
        return gate


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


def planted_pairs(
    questions: Sequence[Question], responses: Sequence[TeacherResponse], most: int
) -> list[ComparisonInput]:
    """Each question with a right answer (its reference, else the teacher's usable response) and the next question's as the wrong
    one. The judge sees no reference: it would only compare texts."""
    right = [
        (question, question.reference or response.answer)
        for question, response in zip(questions, responses, strict=True)
        if question.reference or response.outcome == "ok"
    ]
    pairs = zip(right, [*right[1:], *right[:1]], strict=True)
    return [
        comparison_input(question, own, other).model_copy(update={"reference": None})
        for (question, own), (_, other) in pairs
        if own.strip() != other.strip()
    ][:most]


def gate_of(preferences: Sequence[Preference]) -> JudgeGate:
    wrong = sum(POINTS[preference.winners[OVERALL]] for preference in preferences)  # the wrong answer stands second
    told = (len(preferences) - wrong) / len(preferences)
    return JudgeGate(
        n=len(preferences),
        told=round(told, 4),
        turned=sum(OVERALL in preference.flipped for preference in preferences),
        unparsed=sum(not preference.parsed for preference in preferences),
        passed=told >= PASSES,
    )


def words_of(gate: JudgeGate) -> str:
    consequence = "" if gate.passed else f"; it has to tell {PASSES:.0%}, so it decides nothing"
    return (
        f"of {gate.n} pairs with an answer to another question the judge told {gate.told:.0%}, {gate.turned} of its verdicts turned with "
        f"the order, {gate.unparsed} could not be read{consequence}"
    )


def is_proved(judge: JudgeReport) -> bool:
    """Human labels that show the judge better than chance say more than the gate."""
    return judge.labels is not None and judge.labels.better_than_chance is True


def after_gate(judge: JudgeReport, gate: JudgeGate | None) -> JudgeReport:
    """The judge's report once its gate is known."""
    if gate is None or gate.passed:
        return judge
    consequences = [CONSEQUENCES[use] for use in judge.rests_on_it]
    return judge.model_copy(update={"decides": False, "warnings": [words_of(gate), *consequences, *judge.warnings]})
