"""What the whole job will cost, by the calls that the pilot has made."""

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from services.orchestrator.run import Run
from shared.contracts.data import Question, Split
from shared.contracts.distillation import Guidance
from shared.contracts.estimate import Estimate, Price, Range, Spend
from shared.contracts.jobs import Usage
from shared.contracts.rows import TeacherResponse
from shared.plan.estimate import Known, Pilot, Work, estimate, sizes

KINDS = {Guidance.NONE: "unguided", Guidance.WEAK: "guided"}  # as the pilot's steps are named too


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
    role = f"{KINDS[way]}/answers"
    figures = [found for key, found in run.figures.items() if (key.phase, key.role) == ("pilot", role)]
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
