"""What becomes of questions that never passed in phase 2: dropped, or answered by the teacher (`on_failure: teacher`)."""

from collections.abc import Sequence

from services.orchestrator.run import Run
from services.orchestrator.selection import keep_lessons
from services.orchestrator.teaching import ask_teacher, below_pass_mark
from shared.contracts.data import Question
from shared.contracts.distillation import Guidance
from shared.contracts.rows import Example, TeacherResponse

BELOW = "below_pass_mark"


async def corrections(run: Run, number: int, failed: Sequence[Question]) -> tuple[list[Example], dict[str, int]]:
    """The teacher's answers to what never passed, where the job asks for them, and how many could not be used and why.

    They take the place of answers that passed, so where a grader can tell they must pass too, whether the teacher was
    shown the reference or not.
    """
    if run.spec.iterate.on_failure == "drop":
        return [], {}
    key = f"iterate/{number}/corrections"

    async def lessons(index: int, batch: Sequence[Question]) -> list[TeacherResponse]:
        given = await ask_teacher(run, key, index, batch, Guidance.NONE)
        low = await below_pass_mark(run, f"{key}/grades/{index}", batch, given)
        return [lesson.model_copy(update={"outcome": BELOW}) if lesson.id in low else lesson for lesson in given]

    return keep_lessons(failed, [lesson for batch in await run.gather(lessons, failed) for lesson in batch])
