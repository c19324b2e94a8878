"""Before money is spent: can the teacher's responses be used at all, and does the student's guidance make them better?

The paper's first open question: whether guidance brings the teacher's responses closer to what the student would write
itself. It is answered here for each job, by the student's mean token NLL on both kinds of responses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from services.orchestrator.method.context import JobContext
from services.orchestrator.method.pilot_responses import KEYS, PilotResponses
from services.orchestrator.method.state import State
from shared.contracts.data import Question
from shared.contracts.distillation import Guidance
from shared.contracts.errors import FatalError
from shared.contracts.estimate import Estimate
from shared.contracts.phase_records import PilotRecord, StudentNll
from shared.contracts.report_part import Decision, Triple
from shared.contracts.rows import Likelihood, TeacherResponse
from shared.contracts.step_key import StepKey
from shared.contracts.steps import ModelRef, ScoreParams, StepKind
from shared.evaluation.statistics import mean_difference, paired_mean_gain
from shared.plan.plan import JUDGE_GATE

GATE = JUDGE_GATE  # so many responses are checked before the others are asked for
SHOWN = 2  # unusable responses in the error message


@dataclass(frozen=True)
class PilotResult:
    """guidance: how phase 1 asks the teacher. estimate: what the whole job will cost. record: the pilot's part of the report."""

    guidance: Guidance
    estimate: Estimate
    record: PilotRecord


async def pilot(ctx: JobContext, state: State) -> PilotResult:
    """How phase 1 is to ask the teacher. Raises FatalError `teacher_unfit` when its first responses cannot be used, and
    `judge_unfit` when the judge's replies to them cannot be read."""
    wanted, judge_decides = state.guidance, state.judge_decides
    questions = ctx.pilot_questions
    ways = [wanted] if wanted in KEYS else list(KEYS)
    responses = PilotResponses(
        questions,
        {way: await respond(ctx, state, way, questions, state.tries_judge and way is ways[0]) for way in ways},
    )
    record = PilotRecord(
        questions=len(questions),
        usable=responses.usable,
        cut_off={"answers": responses.cut_off, "guidelines": ctx.counted("pilot", "guidelines", "cut_off")},
        guidance=wanted.value,
    )
    gate = await ctx.judge_trust.tell_apart(questions, responses.first) if state.gates_judge else None
    if gate is not None:
        record, judge_decides = record.model_copy(update={"judge": gate}), gate.passed
    guidance = wanted
    if wanted not in KEYS:
        compared, gain, decision, student_nll = await compare_ways(ctx, state.student, judge_decides, responses)
        guidance = wanted if wanted is Guidance.BEST else Guidance.NONE
        if wanted is Guidance.AUTO and decision == "promoted":
            guidance = Guidance.WEAK
        comparison = {"compared": compared, "gain": gain, "decision": decision, "student_nll": student_nll}
        record = record.model_copy(update=comparison | {"guidance": guidance.value})
        await ctx.emit(
            f"pilot: guided answers against unguided ones on {compared} questions: {decision}, "
            f"gain {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]; guidance: {guidance.value}",
            type="metrics",
            **record.model_dump(mode="json"),
        )
    estimate = ctx.costs.estimate(judge_decides, guidance, responses)
    return PilotResult(guidance, estimate, record.model_copy(update={"estimate": estimate}))


async def respond(
    ctx: JobContext, state: State, way: Guidance, questions: Sequence[Question], tries_judge: bool
) -> list[TeacherResponse]:
    """The teacher's responses one way. Raises FatalError with what it answered when none of the first few can be used, or
    none passes the job's grader, or (tries_judge) the judge's replies to them cannot be read; the others are not asked for then."""
    role = KEYS[way]
    responses: list[TeacherResponse] = []
    for index, part in enumerate((questions[:GATE], questions[GATE:])):
        if part:
            key = StepKey("pilot", role=role, batch=index)
            guided = way is Guidance.WEAK
            guidelines = await ctx.students.guidelines(key.child("guidelines"), state.student, part) if guided else {}
            responses += await ctx.teacher.respond_unverified(key, part, guidelines)
        if index == 0:
            reasons = {response.id: response.outcome for response in responses if response.outcome != "ok"}
            low = await ctx.grading.below_pass_threshold(StepKey("pilot", role=f"{role}/gate"), part, responses)
            reasons |= {name: f"scored {score:.2f}" for name, score in low.items()}
            if len(reasons) == len(responses):
                raise unfit_teacher(part, responses, reasons)
            if tries_judge:
                await ctx.judge_trust.try_replies(part, responses)
    return responses


def unfit_teacher(
    questions: Sequence[Question], responses: Sequence[TeacherResponse], reasons: Mapping[str, str]
) -> FatalError:
    shown = "; ".join(
        f"{q.asked[:80]!r} -> {response.completion[:120]!r} ({reasons[q.id]})"
        for q, response in list(zip(questions, responses, strict=True))[:SHOWN]
    )
    return FatalError(
        f"the teacher is not fit for this job, none of its first {len(responses)} answers can be used: {shown}. Name "
        "another teacher, ground it (teacher.ground), raise teacher.max_tokens, lower judge.pass_mark, or set distill.rationale to off "
        "where it writes none (no_rationale)",
        param="distillation.teacher",
        code="teacher_unfit",
    )


async def compare_ways(
    ctx: JobContext, student: ModelRef, judge_decides: bool, responses: PilotResponses
) -> tuple[int, Triple, Decision, StudentNll | None]:
    """What guidance is worth, on the questions that both ways answered: how many they are, the gain in quality, the decision, and
    how close the responses are to the student's own distribution."""
    both = responses.usable_both_ways()
    if not both:
        return 0, Triple(0.0, -1.0, 1.0), "undecided", None
    compared = [question for question, _, _ in both]
    sides = [[plain.answer for _, plain, _ in both], [guided.answer for _, _, guided in both]]
    learned = [[plain.completion for _, plain, _ in both], [guided.completion for _, _, guided in both]]
    scores = await ctx.judge.better(judge_decides, StepKey("pilot", role="compared"), compared, *sides)
    interval = paired_mean_gain([a for a, _ in scores], [b for _, b in scores])
    rows = [
        ctx.students.example(q, text).model_copy(update={"id": f"{side}:{q.id}"})
        for side, texts in enumerate(learned)
        for q, text in zip(compared, texts, strict=True)
    ]
    params = ScoreParams(model=student, max_length=ctx.spec.adapter.max_length)
    scored = await ctx.step(StepKey("pilot", role="nll"), StepKind.SCORE, params, rows)
    nll_by_id = {row.id: row.nll for row in scored.read(Likelihood)}  # without what does not fit the student's context
    nll = [
        (nll_by_id[f"0:{q.id}"], nll_by_id[f"1:{q.id}"])
        for q in compared
        if {f"0:{q.id}", f"1:{q.id}"} <= nll_by_id.keys()
    ]
    plain_nll, guided_nll = [a for a, _ in nll], [b for _, b in nll]
    student_nll = StudentNll(
        n=len(nll),
        unguided=round(fmean(plain_nll), 4) if nll else None,
        guided=round(fmean(guided_nll), 4) if nll else None,
        change=mean_difference(plain_nll, guided_nll).rounded() if len(nll) > 1 else None,
    )
    return len(both), interval.rounded(), interval.decision, student_nll
