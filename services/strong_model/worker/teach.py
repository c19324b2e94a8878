"""Phase 1, the teacher's part: guided questions in, lessons out. Plain functions over a gateway client."""

import re
from collections.abc import Callable
from enum import StrEnum

from services.strong_model.worker.prompts import teach_messages
from shared.contracts.rows import TeacherInput, TeacherResponse
from shared.contracts.steps import TeachParams
from shared.platform.gateway_client import ChatReply, GatewayClient
from shared.platform.run_rows import run_rows


class ResponseOutcome(StrEnum):
    OK = "ok"
    REFUSED = "refused"
    EMPTY = "empty"
    CUT_OFF = "cut_off"


# Only the first words count: an answer may well say "I cannot" further down.
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
_FENCE = re.compile(r"\A```[^\n`]*\n(.*?)\n?```\Z", re.DOTALL)
_TICKS = re.compile(r"\A`([^`\n]+)`\Z")
_THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)


def clean(text: str) -> str:
    """The answer without a reasoning block before it and without one fence or pair of backticks around all of it."""
    text = _THOUGHT.sub("", text, count=1).strip()
    for around in (_FENCE, _TICKS):
        found = around.match(text)
        if found and "```" not in found.group(1):
            return found.group(1).strip()
    return text


def outcome_of(text: str, finish_reason: str) -> ResponseOutcome:
    """What became of one answer; only `ok` is trained on. text: as `clean` left it."""
    if finish_reason == "length":
        return ResponseOutcome.CUT_OFF
    if finish_reason == "content_filter" or _REFUSAL.match(text.replace("\u2019", "'")):
        return ResponseOutcome.REFUSED
    return ResponseOutcome.OK if text else ResponseOutcome.EMPTY


def lesson(row: TeacherInput, reply: ChatReply) -> TeacherResponse:
    answer = clean(reply.text)
    return TeacherResponse(
        id=row.id,
        answer=answer,
        finish_reason=reply.finish_reason,
        outcome=outcome_of(answer, reply.finish_reason),
        call_id=reply.call_id,
    )


async def teach(
    gateway: GatewayClient, params: TeachParams, rows: list[TeacherInput], progress: Callable[[int, int], None]
) -> tuple[list[TeacherResponse], dict[str, int]]:
    """All rows at once (the gateway limits what is sent); lessons in the order of the rows, and counts.

    The first failed row ends the step. What was sent by then is still finished and kept by the gateway, so the next
    attempt of the step gets it from there. Raises what GatewayClient.chat raises.
    """
    tokens = {"input_tokens": 0, "output_tokens": 0}  # those of kept answers included

    async def one(row: TeacherInput) -> TeacherResponse:
        sampling = params.sampling
        reply = await gateway.chat(
            model=params.teacher,
            messages=teach_messages(params.domain, row.question, row.guideline, row.reference, params.ground),
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=sampling.seed,
            example_id=row.id,
        )
        tokens["input_tokens"] += reply.input_tokens
        tokens["output_tokens"] += reply.output_tokens
        return lesson(row, reply)

    lessons = await run_rows(one, rows, progress)
    return lessons, tally(lessons) | tokens


def tally(lessons: list[TeacherResponse]) -> dict[str, int]:
    """How many of each outcome, all four always present."""
    return {outcome.value: sum(1 for item in lessons if item.outcome == outcome) for outcome in ResponseOutcome}
