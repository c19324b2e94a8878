"""Before money is spent: can the teacher's responses be used at all, and does the student's guidance make them better?

The paper's first open question: whether guidance brings the teacher's responses closer to what the student would write
itself. It is answered here for each job, by the student's mean token NLL on both kinds of responses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from services.orchestrator.method.context import JobContext, State
from services.orchestrator.method.distill import ask_teacher
from services.orchestrator.method.judging import below_pass_threshold, better
from services.orchestrator.method.selection import stratified
from shared.contracts.data import Question, Split
from shared.contracts.distillation import Guidance, Phase
from shared.contracts.errors import FatalError
from shared.contracts.estimate import Estimate, Price, Range, Spend
from shared.contracts.jobs import Usage
from shared.contracts.rows import Example, Likelihood, TeacherResponse
from shared.contracts.steps import ScoreParams, StepKind
from shared.evaluation.statistics import decide, mean_difference, paired_mean_gain
from shared.plan.estimate import Known, Pilot, Work, estimate, sizes

GATE = 4  # so many responses are checked before the others are asked for
SHOWN = 2  # unusable responses in the error message
KEYS = {Guidance.NONE: "unguided", Guidance.WEAK: "guided"}
Responses = Mapping[Guidance, Sequence[TeacherResponse]]


@dataclass(frozen=True)
class PilotResult:
    """guidance: how phase 1 asks the teacher. record: the pilot's part of the report."""

    guidance: Guidance
    record: dict[str, Any]
    questions: Sequence[Question]
    responses: Responses


async def pilot(ctx: JobContext, state: State) -> PilotResult:
    """How phase 1 is to ask the teacher. Raises FatalError `teacher_unfit` when its first responses cannot be used."""
    wanted = state.guidance
    questions = stratified(ctx.shards[Phase.DISTILL], ctx.spec.pilot.questions)
    ways = [wanted] if wanted in KEYS else list(KEYS)
    responses = {way: await respond(ctx, state, way, questions) for way in ways}
    record: dict[str, Any] = {
        "questions": len(questions),
        "usable": {way.value: sum(response.outcome == "ok" for response in responses[way]) for way in ways},
    }
    guidance = wanted
    if wanted not in KEYS:
        record |= await compare_ways(ctx, state, questions, responses)
        guidance = wanted if wanted is Guidance.BEST else Guidance.NONE
        if wanted is Guidance.AUTO and record["decision"] == "promoted":
            guidance = Guidance.WEAK
        value, low, high = record["gain"]
        await ctx.emit(
            f"pilot: guided answers against unguided ones on {record['compared']} questions: {record['decision']}, "
            f"gain {value:+.3f} [{low:+.3f}, {high:+.3f}]; guidance: {guidance.value}",
            type="metrics",
            **record | {"guidance": guidance.value},
        )
    return PilotResult(guidance, record | {"guidance": guidance.value}, questions, responses)


async def respond(ctx: JobContext, state: State, way: Guidance, questions: Sequence[Question]) -> list[TeacherResponse]:
    """The teacher's responses one way; the first few are checked before the others are asked for."""
    key, guided_by = f"pilot/{KEYS[way]}", state.student if way is Guidance.WEAK else None
    first = await ask_teacher(ctx, key, 0, questions[:GATE], guided_by)
    await check_teacher(ctx, f"{key}/gate", questions[:GATE], first)
    if len(questions) <= GATE:
        return first
    return first + await ask_teacher(ctx, key, 1, questions[GATE:], guided_by)


async def check_teacher(
    ctx: JobContext, key: str, questions: Sequence[Question], responses: Sequence[TeacherResponse]
) -> None:
    """Raises FatalError with what the teacher answered when none of it can be used, or none passes the job's grader."""
    reasons = {response.id: response.outcome for response in responses if response.outcome != "ok"}
    low = await below_pass_threshold(ctx, key, questions, responses)
    reasons |= {name: f"scored {score:.2f}" for name, score in low.items()}
    if len(reasons) < len(responses):
        return
    shown = "; ".join(
        f"{q.text[:80]!r} -> {response.answer[:120]!r} ({reasons[q.id]})"
        for q, response in list(zip(questions, responses, strict=True))[:SHOWN]
    )
    raise FatalError(
        f"the teacher is not fit for this job, none of its first {len(responses)} answers can be used: {shown}. Name "
        "another teacher, ground it (teacher.ground), raise teacher.max_tokens, or lower judge.pass_mark",
        param="distillation.teacher",
        code="teacher_unfit",
    )


async def compare_ways(
    ctx: JobContext, state: State, questions: Sequence[Question], responses: Responses
) -> dict[str, Any]:
    """What guidance is worth: quality, and how close the responses are to the student's own distribution."""
    both = [
        (question, plain, guided)
        for question, plain, guided in zip(questions, responses[Guidance.NONE], responses[Guidance.WEAK], strict=True)
        if plain.outcome == guided.outcome == "ok"
    ]
    if not both:
        return {"compared": 0, "gain": [0.0, -1.0, 1.0], "decision": "undecided", "student_nll": None}
    compared = [question for question, _, _ in both]
    sides = [[plain.answer for _, plain, _ in both], [guided.answer for _, _, guided in both]]
    scores = await better(ctx, state.judge_decides, "pilot/compared", compared, *sides)
    interval = paired_mean_gain([a for a, _ in scores], [b for _, b in scores])
    nll = await likelihoods(ctx, state, compared, sides)
    plain_nll, guided_nll = [a for a, _ in nll], [b for _, b in nll]
    return {
        "compared": len(both),
        "gain": interval.rounded(),
        "decision": decide(interval),
        "student_nll": {
            "n": len(nll),
            "unguided": round(fmean(plain_nll), 4) if nll else None,
            "guided": round(fmean(guided_nll), 4) if nll else None,
            "change": mean_difference(plain_nll, guided_nll).rounded() if len(nll) > 1 else None,
        },
    }


async def likelihoods(
    ctx: JobContext, state: State, questions: Sequence[Question], sides: Sequence[Sequence[str]]
) -> list[tuple[float, float]]:
    """The student's mean token NLL on both answers to each question; what does not fit its context is left out."""
    rows = [
        Example(id=f"{side}:{q.id}", question=q.text, completion=text)
        for side, texts in enumerate(sides)
        for q, text in zip(questions, texts, strict=True)
    ]
    params = ScoreParams(model=state.student, max_length=ctx.spec.adapter.max_length)
    scored = await ctx.step("pilot/nll", StepKind.SCORE, params, rows)
    nll = {row.id: row.nll for row in scored.read(Likelihood)}
    return [(nll[f"0:{q.id}"], nll[f"1:{q.id}"]) for q in questions if {f"0:{q.id}", f"1:{q.id}"} <= nll.keys()]


def estimate_from_pilot(
    ctx: JobContext, judge_decides: bool, result: PilotResult, paid: Usage, prices: Mapping[str, Price]
) -> Estimate:
    """What the whole job will cost, by the calls that the pilot has made. paid: what they have cost."""
    rows = {phase: sizes(ctx.shards[phase]) for phase in ctx.spec.phases}
    counts = {phase: len(shard) for phase, shard in rows.items()}
    dev, test = (sizes(ctx.measured[split]) for split in (Split.DEV, Split.TEST))
    calls = {KEYS[way]: mean_call(ctx, way, result.questions, responses) for way, responses in result.responses.items()}
    spent = Spend(
        calls=_exactly(paid.teacher_calls),
        input_tokens=_exactly(paid.input_tokens),
        output_tokens=_exactly(paid.output_tokens),
        usd=_exactly(paid.usd_spent),
    )
    usable = sum(response.outcome == "ok" for response in result.responses.get(Guidance.NONE, ()))
    known = {name: call for name, call in calls.items() if call is not None}
    work = Work(rows, counts, dev, test, ctx.judge_measures, judge_decides)
    return estimate(ctx.spec, work, prices, Pilot(spent, result.guidance, known, usable))


def mean_call(
    ctx: JobContext, way: Guidance, questions: Sequence[Question], responses: Sequence[TeacherResponse]
) -> Known | None:
    """The mean call of one way; None where the provider counts no tokens."""
    figures = [step for key, step in ctx.figures.items() if (key.phase, key.role) == ("pilot", f"{KEYS[way]}/answers")]
    input_tokens = sum(step.get("input_tokens", 0) for step in figures)
    output_tokens = sum(step.get("output_tokens", 0) for step in figures)
    if not input_tokens or not output_tokens:
        return None
    lengths = [len(response.answer.encode()) for response in responses]
    scatter = stdev(lengths) / fmean(lengths) if len(lengths) > 1 and any(lengths) else 1.0
    return Known(
        input_tokens=input_tokens / len(responses),
        output_tokens=output_tokens / len(responses),
        bytes=fmean(s.question + (s.reference if ctx.spec.teacher.ground else 0) for s in sizes(questions)),
        spread=min(1.0, 1.96 * scatter / len(lengths) ** 0.5),
    )


def _exactly(value: float) -> Range:
    return Range(low=value, high=value)
