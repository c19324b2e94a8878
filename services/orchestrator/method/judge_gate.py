"""The judge's gate, before a job relies on its word: can its replies be read, and can it tell a right answer from one that belongs
to another question?

A judge whose replies cannot be read ends the job. One that cannot tell such answers apart decides nothing, as one that is no
better than chance on human labels.
"""

from collections import Counter
from collections.abc import Sequence

from services.orchestrator.method.context import JobContext
from services.orchestrator.method.judge_inputs import comparison, judge_input
from services.orchestrator.method.judge_trust import CONSEQUENCES
from shared.contracts.data import Question
from shared.contracts.errors import FatalError
from shared.contracts.phase_records import JudgeGate
from shared.contracts.report import JudgeReport
from shared.contracts.rows import OVERALL, ComparisonInput, Preference, TeacherResponse, Verdict
from shared.contracts.step_key import StepKey
from shared.contracts.steps import StepKind

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
POINTS = {"first": 1.0, "tie": 0.5, "second": 0.0}  # the right answer stands first in the rows


async def try_judge(ctx: JobContext, questions: Sequence[Question], responses: Sequence[TeacherResponse]) -> None:
    """Have the judge decide on the teacher's first responses. Raises FatalError `judge_unfit` when nearly none of its replies
    can be read. The verdicts themselves are not used."""
    rows = [
        judge_input(q.model_copy(update={"reference": None}) if ctx.spec.judge.grader else q, response.answer)
        for q, response in zip(questions, responses, strict=True)
        if response.outcome == "ok"
    ]
    tried = await ctx.step(StepKey("pilot", role="judge/verdicts"), StepKind.REVIEW, ctx.judge.params, rows)
    verdicts = tried.read(Verdict)
    unread = sum(verdict.by == "unparsed" for verdict in verdicts)
    if unread < UNREADABLE_MOST * len(verdicts):
        return
    counts = Counter({name: tried.metrics.get(name, 0) for name in ("cut_off", "empty")})
    cause, remedy = UNFIT_JUDGE.get(counts.most_common(1)[0][0] if counts.total() else "", UNFIT_JUDGE[""])
    raise FatalError(
        f"the judge is not fit for this job: of its replies to the first {len(verdicts)} answers {unread} give no verdict, "
        f"though each was asked for twice; most {cause}. Now judge.max_tokens is {ctx.spec.judge.max_tokens} and "
        f"judge.provider is {ctx.spec.judge.provider!r}: {remedy}",
        param="distillation.judge.max_tokens" if "max_tokens" in remedy else "distillation.judge.provider",
        code="judge_unfit",
    )


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
    compared = await ctx.step(StepKey("pilot", role="judge/planted"), StepKind.COMPARE, ctx.judge.params, rows)
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
