"""Measuring where there are no references: the judge holds a student's answers against those of the base.

Its word is all there is then, so the report says that it decided, and labels (labelled.py) can take its say away.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from services.orchestrator.results import Measured
from services.orchestrator.run import Run
from services.orchestrator.teaching import POINTS, judged_points
from shared.contracts.data import Question, Split
from shared.contracts.distillation import JUDGE
from shared.contracts.steps import StepKind

BASE, SERVED = "base", "served"  # measurements that no plan counts comparisons for
Row = tuple[Question, str, str]  # the base's answer, then the student's


async def preferred_over_base(run: Run, split: Split, found: Measured) -> Measured:
    """The measurement with one score per question: 1 where the answer is better than the base's, 0 where it is worse, 0.5
    for a tie. The base comes first in every split; who answers as it did has tied without asking."""
    if found.name == BASE:
        run.answers_of_base[split] = found.answers
    rows = list(zip(run.measured(split), run.answers_of_base[split], found.answers, strict=True))

    async def one(index: int, batch: Sequence[Row]) -> dict[str, float]:
        questions = [question for question, _, _ in batch]
        sides = [before for _, before, _ in batch], [after for _, _, after in batch]
        key = f"evaluate/{split.value}/{found.name}/preferences/{index}"
        points = await judged_points(run, key, questions, *sides)
        return {q.id: point for q, point in zip(questions, points, strict=True)}

    differ = [row for row in rows if row[1] != row[2]]
    planned = 0 if found.name in (BASE, SERVED) else len(rows)
    run.expect(StepKind.COMPARE, (len(differ) if run.judge_decides else 0) - planned)
    asked = await run.gather(one, differ)
    points = {name: point for batch in asked for name, point in batch.items()}
    return replace(found, scores={JUDGE: [points.get(q.id, POINTS["tie"]) for q, _, _ in rows]})


async def say_what_measures(run: Run) -> None:
    """An event where questions without a reference change how students are measured."""
    held = (Split.DEV, Split.TEST)
    bare = {split: sum(not q.reference for q in run.split(split)) for split in held}
    if run.judge_measures:
        message = (
            "dev or test has hardly any references, so the judge decides: it compares each student's answers with the "
            "base's, in both orders. Give references, or at least labels for the judge"
        )
    else:
        counts = [
            f"{bare[split]} of {len(run.split(split))} questions of {split.value}" for split in held if bare[split]
        ]
        message = f"{' and '.join(counts)} have no reference; students are not measured on them"
    if any(bare.values()):
        await run.say(message, level="warn")


def what_measures(run: Run) -> dict[str, Any]:
    """For the report: who decides, how many questions of each split have no reference, and, where the judge decides, how
    its comparisons went."""
    bare = {split.value: sum(not q.reference for q in run.split(split)) for split in Split}
    found: dict[str, Any] = {"by": JUDGE if run.judge_measures else "references", "without_reference": bare}
    if run.judge_measures:
        figures = [
            figures for key, figures in run.figures.items() if key.action == "preferences" and key.split is not None
        ]
        found |= {
            name: sum(step.get(counted, 0) for step in figures)
            for name, counted in (
                ("compared", "n"),
                ("calls", "calls"),
                ("unparsed", "unparsed"),
                ("flipped", "flipped"),
            )
        }
    return found
