"""`@step_handler`: typed parameters and rows in, a StepResult out."""

from typing import Any, cast, get_type_hints

import pytest
from pydantic import ValidationError

from services.weak_model.worker.tasks import HANDLERS as WEAK
from shared.contracts.errors import UserError
from shared.contracts.rows import Guideline, StudentPrompt
from shared.contracts.step_kinds import STEP_KINDS, step_request
from shared.contracts.steps import ModelRef, Sampling, StepKind, StepRequest, StepResult, StudentParams, Wire
from shared.queue.step_handler import StepHandler, by_kind, step_handler
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


@step_handler(StepKind.ANSWER)
async def answer(params: StudentParams, rows: list[StudentPrompt], context: StepContext) -> StepResult:
    return StepResult(folder="f", metrics={"rows": len(rows)})


def request(kind: StepKind, *rows: dict[str, Any]) -> StepRequest:
    return step_request(kind, PARAMS, list(rows))


async def test_rows_are_decoded_and_the_result_is_encoded():
    result = await guide(request(StepKind.GUIDE, {"id": "a", "question": "why"}), CONTEXT)
    assert result == StepResult(rows=[{"id": "a", "guideline": "d: why", "finish_reason": "stop"}], metrics={"n": 1})


async def test_a_whole_result_and_errors_come_out_as_they_are():
    assert (await answer(request(StepKind.ANSWER), CONTEXT)).folder == "f"
    with pytest.raises(UserError, match="no rows"):
        await guide(request(StepKind.GUIDE), CONTEXT)


async def test_rows_of_another_type_are_refused():
    with pytest.raises(ValidationError, match="question"):
        await guide(request(StepKind.GUIDE, {"id": "a"}), CONTEXT)


@pytest.mark.parametrize("handler", [*WEAK.values()], ids=lambda handler: handler.kind)
def test_annotations_agree_with_the_registry_of_step_kinds(handler: StepHandler):
    spec, hints = STEP_KINDS[handler.kind], get_type_hints(handler.function)
    assert hints["params"] == spec.params
    assert hints["rows"] == list[spec.rows or Wire]


def test_the_table_is_by_kind():
    assert by_kind(guide, answer) == {StepKind.GUIDE: guide, StepKind.ANSWER: answer}
