"""How many steps of one job stand in a queue at once."""

import asyncio

from services.orchestrator.runtime.fair_limit import FairLimit
from shared.contracts.steps import Queue


async def _two(_: Queue) -> int:
    return 2


async def held(limit: FairLimit, entered: list[int], number: int, leave: asyncio.Event, early: bool = False) -> None:
    async with limit.place(Queue.STRONG) as place:
        entered.append(number)
        if early:
            place.leave()
        await leave.wait()


async def test_twice_as_many_steps_as_consumers_and_the_next_when_one_has_ended():
    limit, entered, leave, first = FairLimit(_two), [], asyncio.Event(), asyncio.Event()
    tasks = [asyncio.create_task(held(limit, entered, n, first if n == 0 else leave)) for n in range(9)]
    await asyncio.sleep(0.01)
    assert entered == [0, 1, 2, 3]
    first.set()
    await asyncio.sleep(0.01)
    assert entered == [0, 1, 2, 3, 4]
    leave.set()
    await asyncio.gather(*tasks)
    assert entered == list(range(9))


async def test_a_step_that_rests_gives_its_place_to_another_and_gives_it_once():
    limit, entered, leave = FairLimit(_two), [], asyncio.Event()
    resting = [asyncio.create_task(held(limit, entered, n, leave, early=True)) for n in range(20)]
    await asyncio.sleep(0.01)
    assert len(entered) == 20
    leave.set()
    await asyncio.gather(*resting)  # their ends free nothing a second time
    stay = asyncio.Event()
    later = [asyncio.create_task(held(limit, entered, n, stay)) for n in range(20, 29)]
    await asyncio.sleep(0.01)
    assert len(entered) == 24
    stay.set()
    await asyncio.gather(*later)


async def test_a_place_that_is_free_wakes_one_of_those_who_wait():
    """Else the time of a job grows with the square of its steps."""
    steps, looks, ended = 400, 0, []

    async def consumers(_: Queue) -> int:
        nonlocal looks
        looks += 1
        return 2

    async def step(number: int) -> None:
        async with limit.place(Queue.STRONG):
            await asyncio.sleep(0.0001)  # so that all others have to wait
        ended.append(number)

    limit = FairLimit(consumers)
    await asyncio.gather(*map(step, range(steps)))
    assert sorted(ended) == list(range(steps))
    assert looks <= 3 * steps


async def test_one_who_leaves_the_line_holds_up_nobody():
    limit, entered, leave = FairLimit(_two), [], asyncio.Event()
    tasks = [asyncio.create_task(held(limit, entered, number, leave)) for number in range(8)]
    await asyncio.sleep(0.01)
    for cancelled in (4, 6):  # the first in line, and one behind it
        tasks[cancelled].cancel()
    leave.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert entered == [0, 1, 2, 3, 5, 7]
