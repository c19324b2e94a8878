"""Phase 1, weak-to-strong distillation (paper section 3.1).

The student writes a guideline for each question, the teacher answers under it, and the student is trained on
question -> answer. The guideline shapes the answer and is not part of the student's input.
"""

from collections.abc import Sequence

from services.orchestrator.run import Run
from services.orchestrator.selection import keep_lessons
from services.orchestrator.teaching import ask_teacher, better, own_references
from shared.contracts.data import Question
from shared.contracts.distillation import Guidance, Phase
from shared.contracts.errors import FatalError
from shared.contracts.rows import TeacherResponse
from shared.contracts.steps import ModelRef


async def distill(run: Run) -> ModelRef:
    """Returns the student fine-tuned on the teacher's answers. Raises FatalError when none of them can be used."""
    settings = run.spec.distill
    questions = run.shard(Phase.DISTILL)

    async def lessons(index: int, batch: Sequence[Question]) -> list[TeacherResponse]:
        if settings.answers == "references":
            return own_references(batch)
        if run.guidance is Guidance.BEST:
            return await best_lessons(run, index, batch)
        return await ask_teacher(run, "distill", index, batch, run.guidance)

    answers = [lesson for batch in await run.gather(lessons, questions) for lesson in batch]
    examples, dropped = keep_lessons(questions, answers)
    await run.say(f"distill: {len(examples)} of {len(questions)} answers kept", kept=len(examples), dropped=dropped)
    if not examples:
        raise FatalError(f"none of the {len(answers)} answers can be used: {dropped}", code="no_usable_answers")
    run.gathered += examples
    student, metrics = await run.fine_tune(
        "distill/train", examples, run.training(settings.epochs, settings.learning_rate)
    )
    too_long = metrics.get("dropped_too_long", 0)
    run.records["distill"] = {
        "questions": len(questions),
        "kept": len(examples) - too_long,
        "dropped": dropped | ({"too_long": too_long} if too_long else {}),
        "answers": settings.answers,
        "guidance": run.guidance.value if settings.answers == "teacher" else None,
        "training": metrics,
    }
    return student


async def best_lessons(run: Run, index: int, batch: Sequence[Question]) -> list[TeacherResponse]:
    """Both ways for each question, and of two usable answers the better one; the unguided one where they are equal."""
    plain = await ask_teacher(run, "distill/unguided", index, batch, Guidance.NONE)
    guided = await ask_teacher(run, "distill/guided", index, batch, Guidance.WEAK)
    open_rows = [i for i in range(len(batch)) if plain[i].outcome == guided[i].outcome == "ok"]
    key, questions = f"distill/compared/{index}", [batch[i] for i in open_rows]
    sides = [[lessons[i].answer for i in open_rows] for lessons in (plain, guided)]
    scores = dict(zip(open_rows, await better(run, key, questions, *sides) if open_rows else [], strict=True))
    return [
        guided[i] if plain[i].outcome != "ok" or (i in scores and scores[i][1] > scores[i][0]) else plain[i]
        for i in range(len(batch))
    ]
