"""`@step_handler(kind)`: a step's handler is a function over typed parameters and rows, free of the wire format.

    @step_handler(StepKind.REVIEW)
    async def review(params: JudgeParams, rows: list[JudgeInput], context: StepContext) -> RowsAndMetrics: ...

    HANDLERS = by_kind(review, ...)

The registry of step kinds says how the request is decoded. The function returns its rows, in the order of the request's
rows, and its metrics; or a whole StepResult.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar, cast

from shared.contracts.step_kinds import STEP_KINDS
from shared.contracts.steps import StepKind, StepRequest, StepResult, Wire
from shared.queue.step_task import StepContext

Params = TypeVar("Params")
Row = TypeVar("Row")
RowsAndMetrics = tuple[Sequence[Wire], dict[str, Any]]
Function = Callable[[Params, list[Row], StepContext], Awaitable[RowsAndMetrics | StepResult]]


class StepHandler(Generic[Params, Row]):
    """Called with a request and its context; decodes, calls the function, encodes. Raises what the function raises."""

    def __init__(self, kind: StepKind, function: Function[Params, Row]):
        self.kind = kind
        self.function = function

    async def __call__(self, request: StepRequest, context: StepContext) -> StepResult:
        spec = STEP_KINDS[self.kind]
        params = spec.params.model_validate(request.params)
        rows = [spec.rows.model_validate(row) for row in request.rows] if spec.rows else []
        output = await self.function(cast(Params, params), cast(list[Row], rows), context)
        if isinstance(output, StepResult):
            return output
        result, metrics = output
        return StepResult(rows=[row.model_dump(mode="json") for row in result], metrics=metrics)


def step_handler(kind: StepKind) -> Callable[[Function[Params, Row]], StepHandler[Params, Row]]:
    return lambda function: StepHandler(kind, function)


def by_kind(*handlers: StepHandler) -> dict[StepKind, StepHandler]:
    """The table that `serve_queue` takes."""
    return {handler.kind: handler for handler in handlers}
