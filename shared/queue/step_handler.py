"""`@step_handler(kind)`: a step's handler is a function over typed parameters and rows, free of the wire format.

    @step_handler(StepKind.REVIEW)
    async def review(params: JudgeParams, rows: list[JudgeInput], context: StepContext) -> RowsAndMetrics: ...

    HANDLERS = by_kind(review, ...)

The annotations of the first two parameters say how the request is decoded. The function returns its rows and metrics, in
the order of the request's rows, or a whole StepResult.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar, get_type_hints

from pydantic import TypeAdapter

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
        params, rows, *_ = get_type_hints(function).values()
        self._params: TypeAdapter[Params] = TypeAdapter(params)
        self._rows: TypeAdapter[list[Row]] = TypeAdapter(rows)

    async def __call__(self, request: StepRequest, context: StepContext) -> StepResult:
        params, rows = self._params.validate_python(request.params), self._rows.validate_python(request.rows)
        output = await self.function(params, rows, context)
        if isinstance(output, StepResult):
            return output
        result, metrics = output
        return StepResult(rows=[row.model_dump(mode="json") for row in result], metrics=metrics)


def step_handler(kind: StepKind) -> Callable[[Function[Params, Row]], StepHandler[Params, Row]]:
    return lambda function: StepHandler(kind, function)


def by_kind(*handlers: StepHandler) -> dict[StepKind, StepHandler]:
    """The table that `serve_queue` takes."""
    return {handler.kind: handler for handler in handlers}
