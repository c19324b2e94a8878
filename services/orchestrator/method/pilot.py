"""Before money is spent: can the teacher's answers be used at all, and does the student's guidance make them better?

The paper's first open question: whether guidance brings the teacher's answers closer to what the student would say
itself. It is answered here for each job, by the student's mean token NLL on both kinds of answers.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from services.orchestrator.method.context import Run
from services.orchestrator.method.distill import ask_teacher
from services.orchestrator.method.judging import below_pass_mark, better
from services.orchestrator.method.selection import stratified
from shared.contracts.data import Question, Split
from shared.contracts.distillation import Guidance, Phase
from shared.contracts.errors import FatalError
from shared.contracts.estimate import Estimate, Price, Range, Spend
from shared.contracts.jobs import Usage
from shared.contracts.rows import (
    Example,
    Likelihood,
    TeacherResponse,
)
from shared.contracts.steps import ScoreParams, StepKind
from shared.evaluation.statistics import decide, mean_difference, paired_mean_gain
from shared.plan.estimate import Known, Pilot, Work, estimate, sizes

FIRST = 4  # the gate looks at so many answers before the others are asked for
WAYS = {Guidance.WEAK: [Guidance.WEAK], Guidance.NONE: [Guidance.NONE]}  # else both
KINDS = {Guidance.NONE: "unguided", Guidance.WEAK: "guided"}  # as the pilot's steps are named too
KEYS = {way: f"pilot/{kind}" for way, kind in KINDS.items()}


async def pilot(run: Run) -> Guidance:
    """How phase 1 is to ask the teacher. Raises FatalError `teacher_unfit` when its first answers are of no use."""
    wanted = run.spec.guidance
    questions = stratified(run.shard(Phase.DISTILL), run.spec.pilot.questions)
    ways = WAYS.get(wanted, [Guidance.NONE, Guidance.WEAK])
    lessons = {way: await answers(run, way, questions) for way in ways}
    record: dict[str, Any] = {
        "questions": len(questions),
        "usable": {way.value: sum(lesson.outcome == "ok" for lesson in lessons[way]) for way in ways},
    }
    run.records["pilot"] = record
    chosen = wanted if len(ways) == 1 else await choose(run, record, questions, lessons)
    record["guidance"] = chosen.value
    found = by_the_pilot(run, questions, lessons, chosen)
    record["estimate"] = found.model_dump()
    await run.note_estimate(found)
    return chosen


async def choose(
    run: Run, record: dict[str, Any], questions: Sequence[Question], lessons: dict[Guidance, list[TeacherResponse]]
) -> Guidance:
    """Guided or not, by the answers to the same questions; what they show is added to the record."""
    wanted = run.spec.guidance
    both = [
        (question, plain, guided)
        for question, plain, guided in zip(questions, lessons[Guidance.NONE], lessons[Guidance.WEAK], strict=True)
        if plain.outcome == guided.outcome == "ok"
    ]
    record |= await compare_ways(run, both)
    chosen = wanted if wanted is Guidance.BEST else Guidance.NONE
    if wanted is Guidance.AUTO and record["decision"] == "promoted":
        chosen = Guidance.WEAK
    await run.say(
        f"pilot: guided answers against unguided ones on {len(both)} questions: {record['decision']}, gain "
        f"{record['gain'][0]:+.3f} [{record['gain'][1]:+.3f}, {record['gain'][2]:+.3f}]; guidance: {chosen.value}",
        type="metrics",
        **record | {"guidance": chosen.value},
    )
    return chosen


async def answers(run: Run, way: Guidance, questions: Sequence[Question]) -> list[TeacherResponse]:
    """The teacher's answers one way; the gate stands after the first few."""
    first = await ask_teacher(run, KEYS[way], 0, questions[:FIRST], way)
    await gate(run, way, questions[:FIRST], first)
    if len(questions) <= FIRST:
        return first
    return first + await ask_teacher(run, KEYS[way], 1, questions[FIRST:], way)


async def gate(run: Run, way: Guidance, questions: Sequence[Question], lessons: Sequence[TeacherResponse]) -> None:
    """Raises FatalError with what the teacher said when none of it can be used, or none passes the job's grader."""
    reasons = {lesson.id: lesson.outcome for lesson in lessons if lesson.outcome != "ok"}
    low = await below_pass_mark(run, f"{KEYS[way]}/gate", questions, lessons)
    reasons |= {name: f"scored {score:.2f}" for name, score in low.items()}
    if len(reasons) == len(lessons):
        raise FatalError(
            f"the teacher is not fit for this job, none of its first {len(lessons)} answers can be used: "
            f"{unfit(questions, lessons, reasons)}. Name another teacher, ground it (teacher.ground), give it more room "
            "(teacher.max_tokens), or lower judge.pass_mark",
            param="distillation.teacher",
            code="teacher_unfit",
        )


async def compare_ways(run: Run, both: Sequence[tuple[Question, TeacherResponse, TeacherResponse]]) -> dict[str, Any]:
    """What guidance is worth: quality, and how close the answers are to the student's own distribution."""
    questions = [q for q, _, _ in both]
    sides = [[plain.answer for _, plain, _ in both], [guided.answer for _, _, guided in both]]
    if not both:
        return {"compared": 0, "gain": [0.0, -1.0, 1.0], "decision": "undecided", "student_nll": None}
    scores = await better(run, "pilot/compared", questions, *sides)
    interval = paired_mean_gain([a for a, _ in scores], [b for _, b in scores])
    nll = await likelihoods(run, questions, sides)
    plain, guided = [a for a, _ in nll], [b for _, b in nll]
    return {
        "compared": len(both),
        "gain": interval.rounded(),
        "decision": decide(interval),
        "student_nll": {
            "n": len(nll),
            "unguided": round(fmean(plain), 4) if nll else None,
            "guided": round(fmean(guided), 4) if nll else None,
            "change": mean_difference(plain, guided).rounded() if len(nll) > 1 else None,
        },
    }


async def likelihoods(
    run: Run, questions: Sequence[Question], sides: Sequence[Sequence[str]]
) -> list[tuple[float, float]]:
    """The student's mean token NLL on both answers to each question; what does not fit its context is left out."""
    rows = [
        Example(id=f"{side}:{q.id}", question=q.text, completion=text)
        for side, texts in enumerate(sides)
        for q, text in zip(questions, texts, strict=True)
    ]
    params = ScoreParams(model=run.student, max_length=run.spec.adapter.max_length)
    scored = await run.step("pilot/nll", StepKind.SCORE, params, rows)
    found = {row.id: row.nll for row in (Likelihood(**value) for value in scored.rows)}
    both = [(found.get(f"0:{q.id}"), found.get(f"1:{q.id}")) for q in questions]
    return [(plain, guided) for plain, guided in both if plain is not None and guided is not None]


def unfit(
    questions: Sequence[Question], lessons: Sequence[TeacherResponse], reasons: Mapping[str, str], shown: int = 2
) -> str:
    """What a teacher said that cannot be used, for an error message: question, answer, reason."""
    failed = [(q.text, a.answer, reasons[q.id]) for q, a in zip(questions, lessons, strict=True) if q.id in reasons]
    return "; ".join(f"{text[:80]!r} -> {answer[:120]!r} ({reason})" for text, answer, reason in failed[:shown])


def by_the_pilot(
    run: Run, questions: Sequence[Question], lessons: Mapping[Guidance, Sequence[TeacherResponse]], chosen: Guidance
) -> Estimate:
    """questions: those of the pilot; lessons: the answers to them, each way that was tried."""
    prices = {name: Price(*price) for name, price in (run.job.prices or {}).items()}
    rows = {phase: sizes(run.shard(phase)) for phase in run.spec.phases}
    counts = {phase: len(shard) for phase, shard in rows.items()}
    dev, test = (sizes(run.measured(split)) for split in (Split.DEV, Split.TEST))
    known = {KINDS[way]: measured for way, said in lessons.items() if (measured := measure(run, questions, way, said))}
    paid = run.ledger.usage_by_phase(run.job.id).get("pilot", Usage())
    pilot = Pilot(
        spend=Spend(
            calls=_just(paid.teacher_calls),
            input_tokens=_just(paid.input_tokens),
            output_tokens=_just(paid.output_tokens),
            usd=_just(paid.usd_spent),
        ),
        guidance=chosen,
        known=known,
        usable=sum(lesson.outcome == "ok" for lesson in lessons.get(Guidance.NONE, ())),
    )
    return estimate(run.spec, Work(rows, counts, dev, test, run.judge_measures, run.judge_decides), prices, pilot)


def measure(run: Run, questions: Sequence[Question], way: Guidance, lessons: Sequence[TeacherResponse]) -> Known | None:
    """The mean call of one way; None where the provider counts no tokens."""
    figures = [found for key, found in run.figures.items() if key.startswith(f"pilot/{KINDS[way]}/answers/")]
    read = sum(found.get("input_tokens", 0) for found in figures)
    said = sum(found.get("output_tokens", 0) for found in figures)
    if not read or not said:
        return None
    asked = sizes(questions)
    ground = run.spec.teacher.ground
    lengths = [len(lesson.answer.encode()) for lesson in lessons]
    scatter = stdev(lengths) / fmean(lengths) if len(lengths) > 1 and any(lengths) else 1.0
    return Known(
        input_tokens=read / len(lessons),
        output_tokens=said / len(lessons),
        bytes=fmean(size.question + (size.reference if ground else 0) for size in asked),
        spread=min(1.0, 1.96 * scatter / len(lengths) ** 0.5),
    )


def _just(value: float) -> Range:
    return Range(low=value, high=value)
