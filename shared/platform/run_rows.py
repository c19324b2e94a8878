"""All rows of a step at once."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from shared.contracts.errors import BatchPending

Row = TypeVar("Row")
Result = TypeVar("Result")
OnProgress = Callable[[int, int], None]  # rows done, rows in total


async def run_rows(work: Callable[[Row], Awaitable[Result]], rows: Sequence[Row], progress: OnProgress) -> list[Result]:
    """Every row at once, results in the rows' order; the first error cancels the rest and comes out as it is.

    BatchPending alone comes out at the end, when every row has put its request where it waits for.
    """
    done = 0
    pending: list[BatchPending] = []

    async def one(row: Row) -> Result | None:
        nonlocal done
        try:
            result = await work(row)
        except BatchPending as reason:
            pending.append(reason)
            return None
        done += 1
        progress(done, len(rows))
        return result

    tasks = [asyncio.ensure_future(one(row)) for row in rows]
    try:
        results = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if pending:
        raise pending[-1]
    return [result for result in results if result is not None]
