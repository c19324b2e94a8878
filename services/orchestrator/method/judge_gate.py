"""The judge's gate, before a job relies on its word: can it tell a right answer from one that belongs to another question?

A judge that cannot do even this decides nothing, as one that is no better than chance on human labels.
"""

from collections.abc import Sequence

from services.orchestrator.method.context import JobContext
from services.orchestrator.method.judging import CONSEQUENCES, comparison
from shared.contracts.data import Question
from shared.contracts.report import JudgeGate, JudgeReport
from shared.contracts.rows import OVERALL, ComparisonInput, Preference, TeacherResponse
from shared.contracts.step_key import StepKey
from shared.contracts.steps import StepKind

PASSES = 0.75  # of right answers told, ties split. By guessing 8 pairs it is reached in 4 of 100 runs
LEAST = 4  # pairs; fewer say nothing
POINTS = {"first": 1.0, "tie": 0.5, "second": 0.0}  # the right answer stands first in the rows


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
        comparison(question, own, other).model_copy(update={"reference": None})
        for (question, own), (_, other) in pairs
        if own.strip() != other.strip()
    ][:most]


async def judge_gate(
    ctx: JobContext, questions: Sequence[Question], responses: Sequence[TeacherResponse]
) -> JudgeGate | None:
    """What came of the pairs; None where there are too few."""
    rows = planted_pairs(questions, responses, ctx.spec.pilot.judge_pairs)
    if len(rows) < LEAST:
        return None
    compared = await ctx.step(StepKey("pilot", role="judge/planted"), StepKind.COMPARE, ctx.judge, rows)
    gate = gate_of(compared.read(Preference))
    await ctx.emit(
        f"pilot: {words_of(gate)}",
        type="metrics",
        level="info" if gate.passed else "warn",
        **gate.model_dump(mode="json"),
    )
    return gate


def gate_of(preferences: Sequence[Preference]) -> JudgeGate:
    told = sum(POINTS[preference.winners[OVERALL]] for preference in preferences) / len(preferences)
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
