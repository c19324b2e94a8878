"""How an optimiser step's rows are divided into passes (micro-batches), each of which fits into memory. The gradient does not depend on it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch

MASK = "attention_mask"
Batch = dict[str, torch.Tensor]


class Pass(NamedTuple):
    """Rows start to stop of a step. share: of the step's loss, where the loss is a mean over rows. first, last: the rows that would be
    one pass if memory were no matter."""

    start: int
    stop: int
    share: float
    first: int
    last: int


class Division(Protocol):
    def passes(self, lengths: Sequence[int]) -> list[Pass]:
        """lengths: tokens of each row of the step."""
        ...

    def halve(self) -> bool:
        """Take half as much at once; False where that is not possible."""
        ...

    def describe(self) -> Mapping[str, int]:
        """For a training's metrics."""
        ...


@dataclass
class ByRows(Division):
    """So many rows at once. On a CPU, where more tokens at once are hardly faster.

    Every pass of `rows` rows counts the same, the last and smaller one of an epoch too: so it has been, and smaller passes do not
    change it.
    """

    rows: int
    at_once: int = 1024

    def __post_init__(self) -> None:
        self.at_once = min(self.rows, self.at_once)

    def passes(self, lengths: Sequence[int]) -> list[Pass]:
        outer = list(_slices(0, len(lengths), self.rows))
        return [
            Pass(start, stop, (stop - start) / (last - first) / len(outer), first, last)
            for first, last in outer
            for start, stop in _slices(first, last, self.at_once)
        ]

    def halve(self) -> bool:
        if self.at_once == 1:
            return False
        self.at_once = (self.at_once + 1) // 2
        return True

    def describe(self) -> Mapping[str, int]:
        return {"rows_at_once": self.at_once}


@dataclass
class ByTokens(Division):
    """As many rows as have so many tokens together, padding included where rows are padded; one row at least. On a GPU."""

    tokens: int
    longest: int
    padded: bool = True

    def passes(self, lengths: Sequence[int]) -> list[Pass]:
        bounds, start, widest, total = [], 0, 0, 0
        for place, length in enumerate(lengths):
            widest, total = max(widest, length), total + length
            if place > start and (widest * (place + 1 - start) if self.padded else total) > self.tokens:
                bounds.append((start, place))
                start, widest, total = place, length, length
        bounds.append((start, len(lengths)))
        rows = len(lengths)
        return [Pass(first, last, (last - first) / rows, 0, rows) for first, last in bounds]

    def halve(self) -> bool:
        if self.tokens <= self.longest:  # of the longest row there is one at once already
            return False
        self.tokens = max(self.longest, self.tokens // 2)
        return True

    def describe(self) -> Mapping[str, int]:
        return {"tokens_at_once": self.tokens}


def _slices(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    for first in range(start, stop, size):
        yield first, min(stop, first + size)


def lengths(batch: Mapping[str, torch.Tensor], sides: int, padded: bool = True) -> list[int]:
    """Tokens of each row; of a pair (two sides, one below the other) those of both, padded each as long as the longer one."""
    own = batch[MASK].sum(1).view(sides, -1)
    return (own.amax(0) * sides if padded else own.sum(0)).tolist()


def cut(batch: Mapping[str, torch.Tensor], part: Pass, sides: int) -> Batch:
    """A pass's rows, without the padding that only other rows need: the batch that these rows alone would have made."""
    rows = len(batch[MASK]) // sides
    places = torch.cat([torch.arange(part.start, part.stop) + side * rows for side in range(sides)])
    width = int(batch[MASK][places].sum(1).max())
    return {name: _of_rows(tensor, places, part, rows, width) for name, tensor in batch.items()}


def _of_rows(tensor: torch.Tensor, places: torch.Tensor, part: Pass, rows: int, width: int) -> torch.Tensor:
    """Tensors have a row of tokens for each side, or one value for each row of the step."""
    if tensor.dim() > 1:
        return tensor[places, :width]
    return tensor[part.start : part.stop] if len(tensor) == rows else tensor[places]
