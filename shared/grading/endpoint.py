"""Grading by the user's own HTTP service. Only what may pass is tried again; an answer of another form ends the step with what is wrong."""

import asyncio
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared.contracts.errors import TransientError, UserError
from shared.contracts.grader_kinds import UNGRADABLE, EndpointGrader
from shared.contracts.steps import content_hash
from shared.grading.attempt import Attempt, Graded
from shared.platform.public_addresses import Network
from shared.platform.run_rows import run_rows
from shared.platform.safe_post import CheckedNetwork, Poster, PostReply

TRIES, FIRST_PAUSE_S, LONGEST_PAUSE_S = 3, 0.5, 30.0
AT_ONCE = 4  # requests
BYTES_PER_ATTEMPT = 200  # of an answer
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
HEADERS = [("content-type", "application/json"), ("accept", "application/json"), ("user-agent", "meteor-grader")]


class EndpointScores:
    """allowed: networks beside the public addresses. kept: a file of the step with the scores so far, so that an attempt after a crash
    asks for the others only. Equal attempts are asked about once.

    Raises UserError for an address that is not allowed, a refusal and an answer of another form; TransientError for a service that
    is away or too slow.
    """

    def __init__(self, spec: EndpointGrader, allowed: Sequence[Network] = (), kept: Path | None = None):
        self.spec, self._kept = spec, kept
        self._poster = Poster(CheckedNetwork(allowed), spec.timeout_s)
        self._scores: dict[str, float | None] = _read(kept) if kept is not None and kept.exists() else {}
        self._places = asyncio.Semaphore(AT_ONCE)

    async def score_all(self, attempts: Sequence[Attempt]) -> list[Graded]:
        sent = [{"sample": attempt.sample, "item": attempt.item} for attempt in attempts]
        keys = [content_hash([self.spec.url, one]) for one in sent]
        missing = {key: one for key, one in zip(keys, sent, strict=True) if key not in self._scores}
        names, size = list(missing), self.spec.batch_size
        parts = [names[begin : begin + size] for begin in range(0, len(names), size)]
        await run_rows(lambda part: self._ask(part, [missing[key] for key in part]), parts, lambda done, total: None)
        return [_graded(self._scores[key]) for key in keys]

    async def _ask(self, keys: Sequence[str], attempts: Sequence[dict[str, Any]]) -> None:
        async with self._places:
            scores = self._checked(await self._answer(json.dumps({"attempts": list(attempts)}).encode()), len(keys))
        self._scores |= dict(zip(keys, scores, strict=True))
        if self._kept is not None:
            with self._kept.open("a", encoding="utf-8") as file:
                file.write("".join("\n" + json.dumps(pair) for pair in zip(keys, scores, strict=True)))

    async def _answer(self, body: bytes) -> bytes:
        most = 10_000 + BYTES_PER_ATTEMPT * self.spec.batch_size
        for tried in range(1, TRIES + 1):
            reply = await self._poster.post(self.spec.url, HEADERS, body, most)
            if reply.refused:
                raise self._wrong(f"{reply.error}; METEOR_GRADER_ALLOW names the networks that graders may lead to")
            if reply.status is not None and reply.status not in TRANSIENT:
                return self._body(reply, most)
            if tried < TRIES:
                await asyncio.sleep(min(LONGEST_PAUSE_S, max(reply.retry_after_s, FIRST_PAUSE_S * 2**tried)))
        why = reply.error or f"it answered {reply.status}"  # pyrefly: ignore[unbound-name]
        raise TransientError(
            f"the endpoint grader at {self.spec.url} is not to be had: {why}", code="grader_unreachable"
        )

    def _body(self, reply: PostReply, most: int) -> bytes:
        if reply.status != 200:
            raise self._wrong(f"it answered {reply.status}")
        if reply.body is None:
            raise self._wrong(f"its answer has more than {most} bytes")
        return reply.body

    def _checked(self, body: bytes, count: int) -> list[float | None]:
        try:
            scores = json.loads(body)["scores"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise self._wrong(f"its answer is no JSON object with `scores`: {body[:100]!r}") from None
        if not isinstance(scores, list) or len(scores) != count:
            raise self._wrong(f"`scores` must be a list of {count}, one for each attempt")
        for place, score in enumerate(scores):
            number = isinstance(score, int | float) and not isinstance(score, bool)
            if score is not None and not (number and math.isfinite(score) and 0 <= score <= 1):
                raise self._wrong(f"scores[{place}] is {str(score)[:40]}, which is no number from 0 to 1 and not null")
        return scores

    def _wrong(self, what: str) -> UserError:
        return UserError(
            f"the endpoint grader at {self.spec.url}: {what}", param="distillation.judge.grader", code="grader_failed"
        )


def _graded(score: float | None) -> Graded:
    return (
        Graded(0.0, UNGRADABLE, "the endpoint says that this row cannot be graded")
        if score is None
        else Graded(float(score))
    )


def _read(file: Path) -> dict[str, float | None]:
    scores: dict[str, float | None] = {}
    for line in file.read_text("utf-8", "replace").splitlines():
        try:
            key, score = json.loads(line)
            scores[key] = score
        except (ValueError, TypeError):  # empty, or cut off
            continue
    return scores
