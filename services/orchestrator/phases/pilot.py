"""Before money is spent: can the teacher's answers be used at all, and does the student's guidance make them better?

The paper's first open question: whether guidance brings the teacher's answers closer to what the student would say
itself. It is answered here for each job, by the student's mean token NLL on both kinds of answers.
"""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from services.orchestrator.costs import KINDS, by_the_pilot
from services.orchestrator.results import triple
from services.orchestrator.run import Run
from services.orchestrator.selection import stratified, unfit
from services.orchestrator.teaching import ask_teacher, below_pass_mark, better, likelihoods
from shared.contracts.data import Question
from shared.contracts.distillation import Guidance, Phase
from shared.contracts.errors import FatalError
from shared.contracts.rows import TeacherResponse
from shared.evaluation.statistics import decide, mean_difference, paired_mean_gain

FIRST = 4  # the gate looks at so many answers before the others are asked for
WAYS = {Guidance.WEAK: [Guidance.WEAK], Guidance.NONE: [Guidance.NONE]}  # else both
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
        "gain": triple(interval),
        "decision": decide(interval),
        "student_nll": {
            "n": len(nll),
            "unguided": round(fmean(plain), 4) if nll else None,
            "guided": round(fmean(guided), 4) if nll else None,
            "change": triple(mean_difference(plain, guided)) if len(nll) > 1 else None,
        },
    }
