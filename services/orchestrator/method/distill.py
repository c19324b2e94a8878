"""Phase 1, weak-to-strong distillation (paper section 3.1).

The student writes a guideline for each question, the teacher answers under it, and the student is trained on
question -> answer. The guideline shapes the answer and is not part of the student's input.
"""

from collections import Counter
from collections.abc import Sequence

from services.orchestrator.method.context import Run
from services.orchestrator.method.judging import better
from services.orchestrator.method.selection import letters_by_script, near_duplicates, scripts, words
from shared.contracts.data import Question
from shared.contracts.distillation import Guidance, Phase
from shared.contracts.errors import FatalError
from shared.contracts.rows import (
    Example,
    Guideline,
    TeacherInput,
    TeacherResponse,
    asked,
)
from shared.contracts.steps import ModelRef, Sampling, StepKind

COPIED_WORDS = 8  # a shorter guideline may be the right answer itself, said too early
FOREIGN_LETTERS = 8  # fewer letters are a symbol, not a language


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


async def ask_teacher(
    run: Run, key: str, index: int, batch: Sequence[Question], way: Guidance
) -> list[TeacherResponse]:
    """The teacher's answers to a batch. way: WEAK has the student write a guideline for each question first.

    Their outcomes are settled here, so that pilot and phases count the same answers as of no use.
    """
    guidelines: dict[str, str] = {}
    if way is Guidance.WEAK:
        writing = run.asking(Sampling(max_tokens=run.spec.distill.guideline_tokens, seed=run.seed))
        written = await run.step(f"{key}/guidelines/{index}", StepKind.GUIDE, writing, [asked(q) for q in batch])
        guidelines = {row["id"]: Guideline(**row).guideline for row in written.rows}
    rows = [
        TeacherInput(id=q.id, question=q.text, reference=q.reference, guideline=guidelines.get(q.id)) for q in batch
    ]
    answered = await run.step(f"{key}/answers/{index}", StepKind.TEACH, run.teaching(), rows)
    lessons = [TeacherResponse(**row) for row in answered.rows]
    return [
        settled(lesson, question, guidelines.get(question.id), run.scripts)
        for lesson, question in zip(lessons, batch, strict=True)
    ]


def own_references(batch: Sequence[Question]) -> list[TeacherResponse]:
    """The records' references as if a teacher had given them; a record without one is a lesson that is dropped."""
    return [
        TeacherResponse(
            id=q.id, answer=q.reference or "", finish_reason="stop", outcome="ok" if q.reference else "no_reference"
        )
        for q in batch
    ]


def keep_lessons(
    questions: Sequence[Question], lessons: Sequence[TeacherResponse]
) -> tuple[list[Example], dict[str, int]]:
    """The teacher's usable answers as training rows, and how many were dropped for which reason."""
    text = {q.id: q.text for q in questions}
    dropped: Counter[str] = Counter()
    usable = []
    for lesson in lessons:
        if lesson.outcome == "ok":
            usable.append(Example(id=lesson.id, question=text[lesson.id], completion=lesson.answer))
        else:
            dropped[lesson.outcome] += 1
    repeated = near_duplicates([f"{row.question} {row.completion}" for row in usable])
    if repeated:
        dropped["near_duplicate"] = len(repeated)
    return [row for i, row in enumerate(usable) if i not in repeated], dict(dropped)


def settled(
    lesson: TeacherResponse, question: Question, guideline: str | None, known: frozenset[str]
) -> TeacherResponse:
    """The lesson with its outcome, where that was ok, set to what is wrong with it.

    known: the scripts of the job's references; they stand in where the question has none of its own.
    """
    fault = _fault(lesson.answer, question, guideline, known) if lesson.outcome == "ok" else None
    return lesson.model_copy(update={"outcome": fault}) if fault else lesson


def _fault(answer: str, question: Question, guideline: str | None, known: frozenset[str]) -> str | None:
    reference = question.reference or ""
    if words(answer) == words(question.text) and words(answer) != words(reference):
        return "repeats_question"
    if guideline and len(words(guideline)) >= COPIED_WORDS and _alike(guideline, answer):
        return None if _alike(reference, answer) else "copies_guideline"
    if foreign(answer, scripts([question.text]) | (scripts([reference]) or known)):
        return "other_language"
    return None


def foreign(answer: str, wanted: frozenset[str]) -> bool:
    """Whether most letters of an answer come from scripts that neither question nor reference is written in."""
    letters = letters_by_script(answer)
    strange = sum(count for script, count in letters.items() if script not in wanted)
    return strange >= FOREIGN_LETTERS and 2 * strange > letters.total()


def _alike(first: str, second: str) -> bool:
    return bool(near_duplicates([first, second]))
