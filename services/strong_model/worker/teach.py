"""Phase 1, the teacher's part: questions with guidelines in, teacher responses out."""

import re
from collections.abc import Sequence
from enum import StrEnum
from functools import partial

from services.strong_model.worker.prompts import reasons, teach_messages
from services.strong_model.worker.reply_text import clean
from shared.contracts.answer_format import read_answer
from shared.contracts.errors import RowRefused
from shared.contracts.material import TEACHER_RULE, with_material
from shared.contracts.rows import TeacherInput, TeacherResponse, TeacherSample
from shared.contracts.steps import TeachParams
from shared.contracts.tool_calls import normal_answer
from shared.platform.gateway_client import ChatReply, GatewayClient
from shared.platform.run_rows import OnProgress, run_rows


class ResponseOutcome(StrEnum):
    OK = "ok"
    REFUSED = "refused"
    EMPTY = "empty"
    CUT_OFF = "cut_off"
    TOO_LONG = "too_long"
    NO_RATIONALE = "no_rationale"


RARE = (ResponseOutcome.TOO_LONG, ResponseOutcome.NO_RATIONALE)

# Only at the beginning: an answer may well say "I cannot" further down.
_REFUSAL = re.compile(
    r"""^\W*(?:
        as\ an?\ (?:ai|artificial\ intelligence|(?:large\ )?language\ model)\b
      | (?:i\ am|i'm)\ (?:unable|not\ able|not\ allowed)\ to\b
      | (?:(?:i\ am|i'm)\ (?:very\ |so\ )?sorry|sorry|i\ apologi[sz]e|my\ apologies|unfortunately)
        [^.\n]{0,60}?\b(?:can't|cannot|can\ not|unable|not\ able|won't|don't\ have|do\ not\ have)\b
      | i\ (?:can't|cannot|can\ not|won't|will\ not|must\ decline\ to)\ 
        (?:help|assist|answer|provide|fulfil|fulfill|comply|do\ that|support|share|give|offer|discuss|generate)\b
    )""",
    re.IGNORECASE | re.VERBOSE,
)


def outcome_of(text: str, finish_reason: str) -> ResponseOutcome:
    """What became of one answer; only `ok` is trained on. text: as `clean` left it."""
    if finish_reason == "length":
        return ResponseOutcome.CUT_OFF
    if finish_reason == "content_filter" or _REFUSAL.match(text.replace("\u2019", "'")):
        return ResponseOutcome.REFUSED
    return ResponseOutcome.OK if text else ResponseOutcome.EMPTY


def teacher_response(row: TeacherInput, reply: ChatReply, rationale: bool = False) -> TeacherResponse:
    """rationale: the reply should be a rationale, the marker and the answer. Without the marker nobody knows where the answer begins,
    so nothing of it is learned."""
    answer, outcome, reasoning = clean(reply.text), None, None
    if rationale:
        reasoning, answer, marked = read_answer(answer)
        answer = clean(answer)
        outcome = None if marked and reasoning else ResponseOutcome.NO_RATIONALE
    if row.conversation is not None and row.conversation.tools:
        answer = normal_answer(answer, row.conversation.names)
    return TeacherResponse(
        id=row.id,
        answer=answer,
        rationale=reasoning,
        finish_reason=reply.finish_reason,
        outcome=_first_fault(outcome_of(answer, reply.finish_reason), outcome),
        call_id=reply.call_id,
    )


def _first_fault(outcome: ResponseOutcome, other: ResponseOutcome | None) -> ResponseOutcome:
    return other if other is not None and outcome is ResponseOutcome.OK else outcome


def refused(row: TeacherInput, refusal: RowRefused) -> TeacherResponse:
    return TeacherResponse(id=row.id, answer="", finish_reason="content_filter", outcome=refusal.outcome)


def sampled(drawn: Sequence[TeacherResponse]) -> TeacherResponse:
    """Several answers to one row as one response: the first usable one, with all of them beside it."""
    first = next((one for one in drawn if one.outcome == ResponseOutcome.OK), drawn[0])
    samples = [TeacherSample.model_validate(one.model_dump(exclude={"id"})) for one in drawn]
    return first.model_copy(update={"samples": samples})


async def teach(
    gateway: GatewayClient,
    params: TeachParams,
    rows: list[TeacherInput],
    progress: OnProgress,
    material: Sequence[str] = (),
) -> tuple[list[TeacherResponse], dict[str, int]]:
    """Teacher responses in the order of the rows, and counts. material: texts that are shown with every row. All rows are asked at once; the gateway limits what is sent.

    A row that the provider always refuses is an outcome of its own; every other failure ends the step. The gateway finishes and caches what was sent, so that the next attempt of the step
    gets it from there. Raises what GatewayClient.chat raises.
    """
    tokens = {"input_tokens": 0, "output_tokens": 0}  # those of cached answers included

    async def ask(row: TeacherInput) -> TeacherResponse:
        if params.samples == 1:
            return await ask_once(row, 0)
        drawn = await run_rows(partial(ask_once, row), range(params.samples), lambda _done, _total: None)
        return sampled(drawn)

    async def ask_once(row: TeacherInput, number: int) -> TeacherResponse:
        rationale = params.rationale and reasons(row.conversation)
        messages = teach_messages(
            params.domain, row.question, row.guideline, row.reference, params.ground, row.conversation, rationale
        )
        messages = with_material(messages, [*material, row.teacher_context or ""], TEACHER_RULE)
        sampling = params.sampling.model_copy(update={"seed": params.sampling.seed + number})
        try:
            reply = await gateway.chat(
                model=params.teacher,
                messages=messages,
                tools=row.conversation.tools if row.conversation is not None else None,
                example_id=row.id,
                **sampling.model_dump(),
            )
        except RowRefused as refusal:
            return refused(row, refusal)
        tokens["input_tokens"] += reply.input_tokens
        tokens["output_tokens"] += reply.output_tokens
        return teacher_response(row, reply, rationale)

    responses = await run_rows(ask, rows, progress)
    return responses, tally(responses) | tokens


def tally(responses: list[TeacherResponse]) -> dict[str, int]:
    """How many of each outcome; but for `too_long` and `no_rationale` all are always present."""
    counts = {outcome.value: sum(1 for item in responses if item.outcome == outcome) for outcome in ResponseOutcome}
    return {name: count for name, count in counts.items() if count or name not in RARE}
