"""The interface by which the method runs durable work. services/orchestrator/runtime implements it."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from shared.contracts.step_key import StepKey
from shared.contracts.steps import StepKind, StepResult, Wire

T = TypeVar("T")
R = TypeVar("R")
Expect = Callable[[StepKind, int], None]  # so many rows come on top of the plan, or fall away where negative


class Step(Protocol):
    """Run one durable step or take its finished result. The key must not depend on time or on random order."""

    async def __call__(self, key: StepKey, kind: StepKind, params: Wire, rows: Sequence[Wire]) -> StepResult: ...


class Gather(Protocol):
    """flow(index, batch) over all batches of items at once; results in batch order."""

    async def __call__(
        self, flow: Callable[[int, Sequence[T]], Coroutine[Any, Any, R]], items: Sequence[T]
    ) -> list[R]: ...


class Emit(Protocol):
    """Add an event to the job; an event that a replay emits again is added once."""

    async def __call__(self, message: str, *, type: str = "message", level: str = "info", **data: Any) -> None: ...
