"""Client of the strong-model gateway, for the services that ask a teacher or a judge.

The gateway has retried already when an error arrives here, so nothing is retried; errors come out as one of the three families.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self
from urllib.parse import quote

import httpx
import openai
import uuid_utils
from openai.types.chat import ChatCompletionMessage

from shared.contracts.errors import (
    ROW_CODES,
    BatchPending,
    BudgetExceeded,
    Cancelled,
    FatalError,
    MeteorError,
    Postponed,
    ProviderPaused,
    RowRefused,
    TransientError,
    UserError,
)
from shared.contracts.json_types import Json
from shared.contracts.refusals import REFUSALS, RefusedRow
from shared.contracts.tool_calls import answer_text
from shared.platform import tracing
from shared.platform.call_headers import (
    BATCH_HEADER,
    CACHE_HEADER,
    CALL_HEADER,
    CLIENT_HEADER,
    EXAMPLE_HEADER,
    STEP_HEADER,
    origin_headers,
)
from shared.platform.http_client import certificates, internal_client

__all__ = ["ChatReply", "GatewayClient", "as_meteor_error", "origin_headers"]

# Retrying cannot mend these, whatever their HTTP status.
USER_CODES = frozenset(
    {
        "teacher_auth_failed",
        "teacher_quota_exhausted",
        "teacher_not_configured",
        "teacher_access_denied",
        "teacher_model_not_found",
        "teacher_misconfigured",
        "teacher_rejected",
        "teacher_refused_row",
        "teacher_prompt_too_long",
        "teacher_batch_failed",
        "model_not_found",
    }
)
CANCEL_S = 3.0
AWAY_S = 5.0  # until a step asks a gateway that was away again


class GatewayAway(Postponed):
    """Nobody listens at the gateway's address. A step rests without losing an attempt: on a host whose gateway is away its workers
    would use up all attempts within seconds, while other hosts have one."""

    code = "gateway_unreachable"


class ChatReply(NamedTuple):
    """One answer. finish_reason as OpenAI's; call_id: its row in the ledger; cached: nothing was paid for it now."""

    text: str
    finish_reason: str
    call_id: str | None
    input_tokens: int
    output_tokens: int
    cached: bool


class GatewayClient:
    """`async with GatewayClient(...) as gateway`: calls of one step. Cancelling the block aborts the step's open calls.

    param: the job's field that names the provider, for the errors that the job's owner can mend.
    wanted: whether the step will be run again, so that a cancelled block leaves the gateway to finish and keep them.
    batch: by the provider's batch API, for less money; calls raise BatchPending until its answers have come.
    """

    def __init__(
        self,
        url: str,
        token: str,
        headers: dict[str, str],
        *,
        timeout_s: float = 1800.0,
        param: str = "distillation.teacher",
        wanted: Callable[[], bool] = lambda: False,
        batch: bool = False,
    ):
        self._url = url.rstrip("/")
        self._headers = headers | {CLIENT_HEADER: uuid_utils.uuid7().hex} | ({BATCH_HEADER: "1"} if batch else {})
        self._token = token
        self._param = param
        self._wanted = wanted
        self._refusals: dict[str, RefusedRow] = {}  # by row
        self._openai = openai.AsyncOpenAI(
            base_url=f"{self._url}/v1",
            api_key=token or "unset",
            max_retries=0,
            timeout=openai.Timeout(timeout_s, connect=5.0),
            default_headers=self._headers,
            http_client=openai.DefaultAsyncHttpxClient(verify=certificates(), trust_env=False),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind, _error, _traceback) -> None:
        if kind is not None and issubclass(kind, asyncio.CancelledError) and not self._wanted():
            # an abort that does not reach the gateway costs money, not correctness
            with contextlib.suppress(httpx.HTTPError, TimeoutError):
                await asyncio.shield(self._cancel_step_in_time())
        await self._openai.close()

    async def _cancel_step_in_time(self) -> None:
        async with asyncio.timeout(CANCEL_S):
            await self.cancel_step()

    async def chat(
        self,
        *,
        model: str,
        messages: Sequence[Json],
        max_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        reasoning_effort: str | None = None,
        response_format: Json | None = None,
        tools: Sequence[Json] | None = None,
        example_id: str | None = None,
    ) -> ChatReply:
        """One completion. model: a configured provider's name. tools: that it may call; calls stand in the text, a line of JSON each.

        Raises BudgetExceeded, UserError (key, model or request refused), TransientError (busy, away, too slow, unreadable answer),
        FatalError (our own token refused), Cancelled (the step's calls were aborted), Postponed (ask again later), and
        RowRefused, the one UserError that says nothing of the step's other rows.
        """
        body: Json = {
            "model": model,
            "messages": list(messages),
            "max_tokens": max_tokens,
            "temperature": temperature,
        }
        body |= {"top_p": top_p} if top_p < 1 else {}
        body |= {"seed": seed} if seed is not None else {}
        body |= {"reasoning_effort": reasoning_effort} if reasoning_effort else {}
        body |= {"response_format": response_format} if response_format else {}
        body |= {"tools": list(tools)} if tools else {}
        headers = tracing.headers() | ({EXAMPLE_HEADER: quote(example_id)} if example_id else {})
        try:
            raw = await self._openai.chat.completions.with_raw_response.create(**body, extra_headers=headers)
        except openai.OpenAIError as error:
            failure = as_meteor_error(error, self._param)
            if isinstance(failure, RowRefused) and example_id:
                self._refusals[example_id] = RefusedRow(id=example_id, outcome=failure.outcome, words=failure.message)
            raise failure from error
        completion = raw.parse()
        choice, usage = completion.choices[0], completion.usage
        refusal = choice.message.refusal
        return ChatReply(
            text=refusal or _text(choice.message),
            finish_reason="content_filter" if refusal else choice.finish_reason or "stop",
            call_id=raw.headers.get(CALL_HEADER),
            input_tokens=usage.prompt_tokens if usage else 0,
            output_tokens=usage.completion_tokens if usage else 0,
            cached=CACHE_HEADER in raw.headers,
        )

    def refusals(self) -> Json:
        """For a step's metrics: the rows that the provider always refused, with its words; empty without any."""
        return {REFUSALS: [row.model_dump() for row in self._refusals.values()]} if self._refusals else {}

    async def cancel_step(self) -> int:
        """Abort what this client still has open for its step; returns how many calls. Raises httpx.HTTPError."""
        async with internal_client(self._url, self._token, timeout_s=CANCEL_S) as http:
            response = await http.post(
                "/internal/cancel",
                json={"step_id": self._headers.get(STEP_HEADER), "client_id": self._headers[CLIENT_HEADER]},
            )
            response.raise_for_status()
            return response.json()["cancelled"]


def _text(message: ChatCompletionMessage) -> str:
    """The message's words and calls. Arguments that are no JSON object stay words."""
    words = message.content or ""
    calls = [call.model_dump() for call in message.tool_calls or [] if call.type == "function"]
    try:
        return answer_text(words, calls) if calls else words
    except ValueError:
        parts = [words, *(f"{c['function']['name']} {c['function']['arguments']}" for c in calls)]
        return "\n".join(part for part in parts if part)


def as_meteor_error(error: openai.OpenAIError, param: str) -> MeteorError:
    """The gateway's answer as one of our families. Codes decide before the HTTP status does."""
    if isinstance(error, openai.APITimeoutError):
        return TransientError("the strong-model gateway did not answer in time", code="gateway_timeout")
    if isinstance(error, openai.APIStatusError):
        message, code = _detail(error)
        if code in ROW_CODES:
            return RowRefused(message, param=param, code=code)
        if code in USER_CODES:
            return UserError(message, param=param, code=code)
        if code == BudgetExceeded.code:
            return BudgetExceeded(message)
        if code == "cancelled":
            return Cancelled(message)
        if code == BatchPending.code:
            return BatchPending(message, again_in_s=_retry_after(error))
        if code == ProviderPaused.code:
            return ProviderPaused(message, again_in_s=_retry_after(error))
        if error.status_code in (401, 403):
            return FatalError(
                f"the strong-model gateway refused METEOR_INTERNAL_TOKEN: {message}", code="gateway_auth_failed"
            )
        if error.status_code in (408, 409, 429) or error.status_code >= 500:
            return TransientError(message, code=code or f"gateway_http_{error.status_code}")
        return UserError(message, param=param, code=code)
    if isinstance(error, openai.APIConnectionError):
        return GatewayAway(f"the strong-model gateway cannot be reached: {error}", again_in_s=AWAY_S)
    return TransientError(f"unreadable answer of the strong-model gateway: {error}", code="gateway_bad_answer")


def _retry_after(error: openai.APIStatusError) -> float:
    return float(error.response.headers.get("retry-after", 1))


def _detail(error: openai.APIStatusError) -> tuple[str, str | None]:
    """Message and code of an error in OpenAI's shape; the SDK hands over the inside of `{"error": ...}`."""
    if isinstance(error.body, dict):
        return str(error.body.get("message") or error.message), error.body.get("code")
    return error.message, None
