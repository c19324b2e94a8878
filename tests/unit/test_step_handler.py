"""`@step_handler`: typed parameters and rows in, a StepResult out."""

from typing import Any, cast

import pytest
from pydantic import ValidationError

from shared.contracts.errors import UserError
from shared.contracts.rows import Guideline, StudentPrompt
from shared.contracts.steps import ModelRef, Sampling, StepKind, StepRequest, StepResult, StudentParams
from shared.queue.step_handler import by_kind, step_handler
from shared.queue.step_task import StepContext

PARAMS = StudentParams(model=ModelRef(base="tiny", base_hash="0" * 64), domain="d", sampling=Sampling())
CONTEXT = cast(StepContext, object())


@step_handler(StepKind.GUIDE)
async def guide(
    params: StudentParams, rows: list[StudentPrompt], context: StepContext
) -> tuple[list[Guideline], dict[str, Any]]:
    if not rows:
        raise UserError("no rows")
    assert context is CONTEXT
    guidelines = [
        Guideline(id=row.id, guideline=f"{params.domain}: {row.question}", finish_reason="stop") for row in rows
    ]
    return guidelines, {"n": len(rows)}


@step_handler(StepKind.READ)
async def read(params: StudentParams, rows: list[StudentPrompt], context: StepContext) -> StepResult:
    return StepResult(folder="f", metrics={"rows": len(rows)})


def request(kind: StepKind, *rows: dict[str, Any]) -> StepRequest:
    return StepRequest.of(kind, PARAMS, list(rows))


async def test_rows_are_decoded_and_the_result_is_encoded():
    result = await guide(request(StepKind.GUIDE, {"id": "a", "question": "why"}), CONTEXT)
    assert result == StepResult(rows=[{"id": "a", "guideline": "d: why", "finish_reason": "stop"}], metrics={"n": 1})


async def test_a_whole_result_and_errors_come_out_as_they_are():
    assert (await read(request(StepKind.READ), CONTEXT)).folder == "f"
    with pytest.raises(UserError, match="no rows"):
        await guide(request(StepKind.GUIDE), CONTEXT)


async def test_rows_of_another_type_are_refused():
    with pytest.raises(ValidationError, match="question"):
        await guide(request(StepKind.GUIDE, {"id": "a"}), CONTEXT)


def test_the_table_is_by_kind():
    assert by_kind(guide, read) == {StepKind.GUIDE: guide, StepKind.READ: read}
