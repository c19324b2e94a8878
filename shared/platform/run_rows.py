"""All rows of a step at once."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from shared.contracts.errors import Postponed

Row = TypeVar("Row")
Result = TypeVar("Result")
OnProgress = Callable[[int, int], None]  # rows done, rows in total


async def run_rows(work: Callable[[Row], Awaitable[Result]], rows: Sequence[Row], progress: OnProgress) -> list[Result]:
    """Work on every row at once; results in the rows' order. The first error cancels the rest and is raised.

    Postponed is raised only at the end, when every row was answered, or put into a batch, or told to come later.
    """
    done = 0
    pending: list[Postponed] = []

    async def work_on(row: Row) -> Result | None:
        nonlocal done
        try:
            result = await work(row)
        except Postponed as reason:
            pending.append(reason)
            return None
        done += 1
        progress(done, len(rows))
        return result

    tasks = [asyncio.ensure_future(work_on(row)) for row in rows]
    try:
        results = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if pending:
        raise max(pending, key=lambda reason: reason.again_in_s)
    return [result for result in results if result is not None]
