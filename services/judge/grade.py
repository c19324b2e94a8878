"""Grading answers against their references."""

import asyncio
from collections import Counter

from shared.contracts.grader_kinds import UNGRADABLE
from shared.contracts.rows import Grades, JudgeInput
from shared.grading.attempt import attempt_of, counts_of
from shared.grading.graders import Graders
from shared.platform.run_rows import OnProgress

AT_ONCE = 64  # rows for graders that ask elsewhere


async def grade(graders: Graders, rows: list[JudgeInput], progress: OnProgress) -> tuple[list[Grades], dict[str, int]]:
    """All graders' scores per row. A row without a reference and further fields gets none; a grader that cannot grade against a
    row's reference gives it none. Both are counted, and so are answers at which a grader failed or had to be stopped, which score 0.

    Local work runs in a thread, so that the step's lease is renewed while long texts are compared. Raises what graders raise that
    ask elsewhere.
    """
    scores: list[dict[str, float]] = [{} for _ in rows]
    counts = Counter[str]()
    size = AT_ONCE if graders.ask_elsewhere else 1
    for begin in range(0, len(rows), size):
        places = [
            place for place in range(begin, min(begin + size, len(rows))) if rows[place].reference or rows[place].item
        ]
        graded_by = {
            name: [place for place in places if rows[place].reference or not graders.compares(name)]
            for name in graders.names
        }
        columns = await asyncio.gather(
            *(graders.score_all(name, [attempt_of(rows[place]) for place in its]) for name, its in graded_by.items())
        )
        for (name, its), column in zip(graded_by.items(), columns, strict=True):
            counts.update(counts_of(column))
            for place, graded in zip(its, column, strict=True):
                if graded.why != UNGRADABLE:
                    scores[place][name] = graded.score
        progress(min(begin + size, len(rows)), len(rows))
    grades = [Grades(id=row.id, scores=kept) for row, kept in zip(rows, scores, strict=True)]
    return grades, {"n": len(rows), "without_reference": sum(1 for item in grades if not item.scores)} | counts
