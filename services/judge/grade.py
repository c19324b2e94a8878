"""Grading answers against their references, on this machine."""

import asyncio
from collections import Counter

from shared.contracts.grader_kinds import UNGRADABLE
from shared.contracts.rows import Grades, JudgeInput
from shared.grading.graders import Graders
from shared.platform.run_rows import OnProgress


async def grade(graders: Graders, rows: list[JudgeInput], progress: OnProgress) -> tuple[list[Grades], dict[str, int]]:
    """All graders' scores per row. A row without a reference and further fields gets none; a grader that cannot grade against a row's reference
    gives it none. Both are counted, and so are answers at which a grader failed or had to be stopped, which score 0.

    Runs in a thread, so that the step's lease is renewed while long texts are compared.
    """
    grades, why = [], Counter[str]()
    for row in rows:
        scores = (
            await asyncio.to_thread(graders.all_scores, row.answer, row.reference or "", row.question, row.item)
            if row.reference or row.item
            else {}
        )
        why.update(graded.why for graded in scores.values() if graded.why)
        kept = {name: graded.score for name, graded in scores.items() if graded.why != UNGRADABLE}
        grades.append(Grades(id=row.id, scores=kept))
        progress(len(grades), len(rows))
    failed = why.total() - why[UNGRADABLE]
    counts = {"n": len(grades), "without_reference": sum(1 for item in grades if not item.scores)}
    told = {"ungradable": why[UNGRADABLE], "grader_failed": failed}
    return grades, counts | {name: count for name, count in told.items() if count}
