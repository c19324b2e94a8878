"""How much a GPU takes in one pass: measured with the longest row, before the first step."""

import gc
from collections.abc import Callable
from typing import Protocol

import torch

from services.trainer.train.failures import is_out_of_memory

USED = 0.9  # of what is free; the rest is for what fragments, and for rows that the kernels round up
ENOUGH = 1024  # tokens of a pass; with fewer a GPU spends its time on reading the weights


class Meter(Protocol):
    def free(self) -> int:
        """Bytes that this process may still take."""
        ...

    def start(self) -> None:
        """Begin to watch for the peak."""
        ...

    def peak(self) -> int:
        """Bytes above those at `start`, at most."""
        ...


class CudaMeter:
    def free(self) -> int:
        free, total = torch.cuda.mem_get_info()
        held = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()  # the allocator's, for us to use
        allowed = int(total * torch.cuda.get_per_process_memory_fraction()) - torch.cuda.memory_allocated()
        return min(free + held, allowed)

    def start(self) -> None:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        self._before = torch.cuda.memory_allocated()

    def peak(self) -> int:
        return torch.cuda.max_memory_allocated() - self._before


def rows_that_fit(attempt: Callable[[int], None], meter: Meter, most: int, reserve: int) -> int:
    """How many of the longest rows fit into one pass, `most` at most; 0: not even one.

    attempt: runs a pass of so many. reserve: bytes that come with the first optimiser step.
    """
    if not _fits(attempt, 1):  # it also allocates what stays: gradients, workspaces
        return 0
    one = _peak(attempt, meter, 1)
    two = _peak(attempt, meter, 2) if most > 1 else None
    if one is None:
        return 0
    if two is None:
        return 1
    each = max(1, two - one)
    room = USED * meter.free() - reserve - one
    rows = max(1, min(most, 1 + int(room / each)))
    while rows > 1 and not _fits(attempt, rows):
        rows //= 2
    return rows


def rows_together(
    attempt: Callable[[int], None], meter: Meter, most: int, reserve: int, agree: Callable[[int], int]
) -> int:
    """As rows_that_fit, where several devices compute each pass together: one without memory would leave the others waiting. So no more
    is tried than what was measured promises, and PyTorch's error passes where one row does not fit.

    agree: on the least of the devices' numbers.
    """

    def measured(rows: int) -> int:
        meter.start()
        attempt(rows)
        return meter.peak()

    def promised(each: int) -> int:
        return agree(max(1, min(most, 1 + int((USED * meter.free() - reserve - one) / max(1, each)))))

    attempt(1)
    one = measured(1)
    return promised(measured(2) - one) if promised(one) > 1 else 1


def _peak(attempt: Callable[[int], None], meter: Meter, rows: int) -> int | None:
    meter.start()
    return meter.peak() if _fits(attempt, rows) else None


def _fits(attempt: Callable[[int], None], rows: int) -> bool:
    try:
        attempt(rows)
        return True
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return False
