"""The worker's plain functions: rows in, rows out, in the request's order."""

import hashlib
import time
from collections.abc import Callable, Sequence

from services.weak_model.worker.prompts import Messages, answer_messages, guide_messages, reason_messages
from services.weak_model.worker.student_client import CompletionClient, StudentReply
from shared.contracts.answer_format import MARKER, split_answer
from shared.contracts.json_types import Json
from shared.contracts.rows import TOO_LONG, CompletionUsage, Guideline, Samples, StudentCompletion, StudentPrompt
from shared.contracts.steps import StudentParams
from shared.contracts.tool_calls import normal_answer
from shared.platform.run_rows import run_rows

OnProgress = Callable[..., None]  # StepContext.progress: done, total, and metrics by name
Metrics = dict[str, float]


def row_seed(seed: int, row_id: str) -> int:
    """The row's own seed, in [0, 2**31): a completion does not depend on the other rows or on their order."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{row_id}".encode()).digest()[:4]) >> 1


async def write_guidelines(
    client: CompletionClient, params: StudentParams, rows: Sequence[StudentPrompt], on_progress: OnProgress
) -> tuple[list[Guideline], Metrics]:
    """Phase 1, first half (paper section 3.1)."""
    prompts = [guide_messages(params.domain, row) for row in rows]
    bare = [row.model_copy(update={"conversation": None}) for row in rows]  # its tools are not offered for a guideline
    completions, metrics = await _complete(client, params, bare, prompts, on_progress)
    guidelines = [
        Guideline(id=row.id, guideline=completion.text.strip(), finish_reason=completion.finish_reason)
        for row, completion in zip(rows, completions, strict=True)
    ]
    return guidelines, metrics


async def answer(
    client: CompletionClient, params: StudentParams, rows: Sequence[StudentPrompt], on_progress: OnProgress
) -> tuple[list[StudentCompletion], Metrics]:
    """The bare question. No marker is required, though a student trained on rationales may write one."""
    completions, metrics = await _complete(client, params, rows, [answer_messages(row) for row in rows], on_progress)
    return [_split(row, completion) for row, completion in zip(rows, completions, strict=True)], metrics


async def sample(
    client: CompletionClient, params: StudentParams, rows: Sequence[StudentPrompt], on_progress: OnProgress
) -> tuple[list[Samples], Metrics]:
    """params.n completions of each bare question. The engine counts their tokens together."""
    prompts = [answer_messages(row) for row in rows]
    completions, metrics = await _complete_often(client, params, rows, prompts, on_progress)
    results = [
        Samples(
            id=row.id,
            completions=[_split(row, completion).model_copy(update={"usage": None}) for completion in several],
        )
        for row, several in zip(rows, completions, strict=True)
    ]
    return results, metrics


async def reason(
    client: CompletionClient, params: StudentParams, rows: Sequence[StudentPrompt], on_progress: OnProgress
) -> tuple[list[StudentCompletion], Metrics]:
    """Phase 2: rationale and answer, or a retry with the critique (paper section 3.2)."""
    prompts = [reason_messages(params.domain, row) for row in rows]
    completions, metrics = await _complete(client, params, rows, prompts, on_progress)
    results = [
        _split(row, completion, marker_required=not tools_of(row))
        for row, completion in zip(rows, completions, strict=True)
    ]
    return results, metrics | {"marker_missing": sum(result.marker_missing for result in results)}


def tools_of(row: StudentPrompt) -> list[Json]:
    return row.conversation.tools if row.conversation is not None else []


def _split(row: StudentPrompt, completion: StudentReply, marker_required: bool = False) -> StudentCompletion:
    """Calls of offered tools come in the form of the references."""
    rationale, text = split_answer(completion.text)
    if row.conversation is not None and row.conversation.tools:
        text = normal_answer(text, row.conversation.names)
    written = completion.finish_reason != TOO_LONG
    return StudentCompletion(
        id=row.id,
        answer=text,
        rationale=rationale,
        finish_reason=completion.finish_reason,
        marker_missing=marker_required and written and MARKER not in f"\n{completion.text}",
        usage=CompletionUsage(prompt_tokens=completion.prompt_tokens, completion_tokens=completion.tokens),
    )


async def _complete(
    client: CompletionClient,
    params: StudentParams,
    rows: Sequence[StudentPrompt],
    prompts: Sequence[Messages],
    on_progress: OnProgress,
) -> tuple[list[StudentReply], Metrics]:
    """One completion of each row."""
    completions, metrics = await _complete_often(client, params, rows, prompts, on_progress)
    return [completion for (completion,) in completions], metrics


async def _complete_often(
    client: CompletionClient,
    params: StudentParams,
    rows: Sequence[StudentPrompt],
    prompts: Sequence[Messages],
    on_progress: OnProgress,
) -> tuple[list[list[StudentReply]], Metrics]:
    """All rows at once: the engine batches them. Texts come without the student's thoughts."""
    started, tokens, cut_in_thought = time.monotonic(), 0, 0
    profile = params.model.profile

    async def complete(prompt: tuple[StudentPrompt, Messages]) -> list[StudentReply]:
        nonlocal tokens, cut_in_thought
        row, messages = prompt
        seed = row_seed(params.sampling.seed, row.id)
        asked = (params.model.engine_name, messages, params.sampling, seed)
        if params.n == 1:
            replies = [await client.complete(*asked, tools_of(row))]
        else:
            replies = await client.complete_often(*asked, params.n, tools_of(row))
        tokens += sum(reply.tokens for reply in replies)
        thought = [profile.without_thoughts(reply.text) for reply in replies]
        cut_in_thought += sum(unfinished for _, unfinished in thought if replies[0].finish_reason != TOO_LONG)
        return [reply._replace(text=text) for reply, (text, _) in zip(replies, thought, strict=True)]

    completions = await run_rows(
        complete,
        list(zip(rows, prompts, strict=True)),
        lambda done, total: on_progress(done, total, tokens=tokens),
    )
    written = [completion for replies in completions for completion in replies]
    metrics = {
        "n": len(written),
        "tokens": tokens,
        "prompt_tokens": sum(completion.prompt_tokens for completion in written),
        "seconds": round(time.monotonic() - started, 3),
        "cut_off": sum(completion.finish_reason == "length" for completion in written),
        "too_long": sum(completion.finish_reason == TOO_LONG for completion in written),
        "marker_missing": 0,
    }
    if profile.think is not None:
        metrics["cut_in_thought"] = cut_in_thought
    return completions, metrics
