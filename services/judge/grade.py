"""Grading answers against their references, on this machine."""

import asyncio

from shared.contracts.rows import Grades, JudgeInput
from shared.judging.graders import all_scores
from shared.platform.run_rows import OnProgress


async def grade(rows: list[JudgeInput], progress: OnProgress) -> tuple[list[Grades], dict[str, int]]:
    """All graders' scores per row; a row without a reference gets none and is counted.

    Runs in a thread, so that the step's lease is renewed while long texts are compared.
    """
    grades = []
    for row in rows:
        scores = await asyncio.to_thread(all_scores, row.answer, row.reference) if row.reference else {}
        grades.append(Grades(id=row.id, scores=scores))
        progress(len(grades), len(rows))
    return grades, {"n": len(grades), "without_reference": sum(1 for item in grades if not item.scores)}
