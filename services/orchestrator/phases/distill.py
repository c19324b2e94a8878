"""Phase 1, weak-to-strong distillation (paper section 3.1).

The student writes a guideline for each question, the teacher answers under it, and the student is trained on
question -> answer. The guideline shapes the answer and is not part of the student's input.
"""

from collections.abc import Sequence

from services.orchestrator.run import Run
from services.orchestrator.selection import keep_lessons
from shared.contracts.data import Question
from shared.contracts.errors import FatalError
from shared.contracts.jobs import Phase
from shared.contracts.rows import Guided, Guideline, Lesson, asked
from shared.contracts.steps import ModelRef, Sampling, StepKind


async def distill(run: Run) -> ModelRef:
    """Returns the student fine-tuned on the teacher's answers. Raises FatalError when none of them can be used."""
    settings = run.spec.distill
    questions = run.shard(Phase.DISTILL)
    writing = run.asking(Sampling(max_tokens=settings.guideline_tokens, seed=run.seed))

    async def lessons(index: int, batch: Sequence[Question]) -> list[Lesson]:
        guidelines: dict[str, str] = {}
        if run.spec.guidance == "weak":
            written = await run.step(f"distill/guidelines/{index}", StepKind.GUIDE, writing, [asked(q) for q in batch])
            guidelines = {row["id"]: Guideline(**row).guideline for row in written.rows}
        guided = [
            Guided(id=q.id, question=q.text, reference=q.reference, guideline=guidelines.get(q.id)) for q in batch
        ]
        answered = await run.step(f"distill/answers/{index}", StepKind.TEACH, run.teaching(), guided)
        return [Lesson(**row) for row in answered.rows]

    answers = [lesson for batch in await run.gather(lessons, questions) for lesson in batch]
    examples, dropped = keep_lessons(questions, answers)
    await run.say(
        f"distill: {len(examples)} of {len(questions)} teacher answers kept", kept=len(examples), dropped=dropped
    )
    if not examples:
        raise FatalError(
            f"none of the teacher's {len(answers)} answers can be used: {dropped}", code="no_usable_answers"
        )
    student, metrics = await run.fine_tune(
        "distill/train", examples, run.training(settings.epochs, settings.learning_rate)
    )
    run.records["distill"] = {
        "questions": len(questions),
        "kept": len(examples),
        "dropped": dropped,
        "guidance": run.spec.guidance,
        "training": metrics,
    }
    return student
