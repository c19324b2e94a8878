"""The worker's plain functions: rows in, rows out, in the request's order, whatever order the engine finishes them in."""

import asyncio
import hashlib
import time
from collections.abc import Callable

from services.weak_model.worker.engine_client import Asker, Completion
from services.weak_model.worker.prompts import Messages, answer_messages, guide_messages, reason_messages
from shared.contracts.answer_format import MARKER, split_answer
from shared.contracts.rows import TOO_LONG, Guideline, StudentCompletion, StudentPrompt
from shared.contracts.steps import StudentParams

Tell = Callable[..., None]  # StepContext.progress: done, total, and figures by name
Metrics = dict[str, float]


def row_seed(seed: int, row_id: str) -> int:
    """A seed of the row's own, in [0, 2**31): its text must not depend on the rows beside it or on their order."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{row_id}".encode()).digest()[:4]) >> 1


async def write_guidelines(
    client: Asker, params: StudentParams, rows: list[StudentPrompt], tell: Tell
) -> tuple[list[Guideline], Metrics]:
    """Phase 1, first half (paper section 3.1)."""
    done, metrics = await _ask_all(client, params, rows, [guide_messages(params.domain, row) for row in rows], tell)
    guidelines = [
        Guideline(id=row.id, guideline=completion.text.strip(), finish_reason=completion.finish_reason)
        for row, completion in zip(rows, done, strict=True)
    ]
    return guidelines, metrics


async def answer(
    client: Asker, params: StudentParams, rows: list[StudentPrompt], tell: Tell
) -> tuple[list[StudentCompletion], Metrics]:
    """The bare question. A student trained on rationales writes one unasked; a missing marker is no fault here."""
    done, metrics = await _ask_all(client, params, rows, [answer_messages(row) for row in rows], tell)
    return [_attempt(row, completion) for row, completion in zip(rows, done, strict=True)], metrics


async def reason(
    client: Asker, params: StudentParams, rows: list[StudentPrompt], tell: Tell
) -> tuple[list[StudentCompletion], Metrics]:
    """Phase 2: rationale and answer, or another try with the critique in sight (paper section 3.2)."""
    done, metrics = await _ask_all(client, params, rows, [reason_messages(params.domain, row) for row in rows], tell)
    attempts = [_attempt(row, completion, marker_asked=True) for row, completion in zip(rows, done, strict=True)]
    return attempts, metrics | {"marker_missing": sum(attempt.marker_missing for attempt in attempts)}


def _attempt(row: StudentPrompt, completion: Completion, marker_asked: bool = False) -> StudentCompletion:
    rationale, text = split_answer(completion.text)
    written = completion.finish_reason != TOO_LONG
    return StudentCompletion(
        id=row.id,
        answer=text,
        rationale=rationale,
        finish_reason=completion.finish_reason,
        marker_missing=marker_asked and written and MARKER not in f"\n{completion.text}",
    )


async def _ask_all(
    client: Asker, params: StudentParams, rows: list[StudentPrompt], prompts: list[Messages], tell: Tell
) -> tuple[list[Completion], Metrics]:
    """All rows at once: the engine batches them. The first error ends the calls that still run."""
    started = time.monotonic()
    finished: list[Completion] = []
    sampling = params.sampling

    async def one(row: StudentPrompt, messages: Messages) -> Completion:
        seed = row_seed(sampling.seed, row.id)
        completion = await client.complete(params.model.engine_name, messages, sampling, seed)
        finished.append(completion)
        tell(len(finished), len(rows), tokens=sum(item.tokens for item in finished))
        return completion

    tasks = [asyncio.create_task(one(row, messages)) for row, messages in zip(rows, prompts, strict=True)]
    try:
        done = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return done, _metrics(done, time.monotonic() - started)


def _metrics(done: list[Completion], seconds: float) -> Metrics:
    return {
        "n": len(done),
        "tokens": sum(item.tokens for item in done),
        "prompt_tokens": sum(item.prompt_tokens for item in done),
        "seconds": round(seconds, 3),
        "cut_off": sum(item.finish_reason == "length" for item in done),
        "too_long": sum(item.finish_reason == TOO_LONG for item in done),
        "marker_missing": 0,
    }
