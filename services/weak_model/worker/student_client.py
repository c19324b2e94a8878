"""The worker's client of an engine: OpenAI's chat completions, over httpx.

Not through OpenAI's SDK: the worker has one process per slot, and the SDK's thousands of types cost each of them memory.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, Self

import httpx
import stamina

from services.weak_model.worker.prompts import Messages
from shared.contracts.engine import EngineStatus, ModelRequest, ModelState, Priority
from shared.contracts.errors import FatalError, TransientError
from shared.contracts.json_types import Json
from shared.contracts.rows import TOO_LONG
from shared.contracts.steps import Sampling
from shared.platform.http_client import internal_client
from shared.platform.model_spans import answered, chat_span

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
BAD_REQUEST = (httpx.codes.BAD_REQUEST, httpx.codes.UNPROCESSABLE_ENTITY)
POLL_S = 1.0  # between two requests for a model


class StudentReply(NamedTuple):
    """finish_reason as OpenAI's, or TOO_LONG."""

    text: str
    finish_reason: str
    tokens: int = 0
    prompt_tokens: int = 0


class CompletionClient(Protocol):
    async def complete(
        self, model: str, messages: Messages, sampling: Sampling, seed: int, tools: Sequence[Json] = ()
    ) -> StudentReply: ...

    async def complete_often(
        self, model: str, messages: Messages, sampling: Sampling, seed: int, n: int, tools: Sequence[Json] = ()
    ) -> list[StudentReply]: ...


class EngineRefused(Exception):
    """An HTTP status of 400 or more, with the engine's message."""

    def __init__(self, response: httpx.Response):
        try:
            error = response.json()["error"]
            self.message, self.param = str(error["message"]), error.get("param")
        except (ValueError, KeyError, TypeError):
            self.message, self.param = response.text[:300], None
        self.status = response.status_code
        super().__init__(f"HTTP {self.status}: {self.message}")

    @property
    def is_temporary(self) -> bool:
        failed = self.status >= 500 and self.status != httpx.codes.NOT_IMPLEMENTED
        return failed or self.status == httpx.codes.TOO_MANY_REQUESTS


def _is_temporary(error: Exception) -> bool:
    """Retried within the step: the engine is unavailable, starting, or died during this call. Timeouts are not."""
    if isinstance(error, EngineRefused):
        return error.is_temporary
    timed_out = isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout)
    return isinstance(error, httpx.TransportError) and not timed_out


class StudentClient:
    """Chat completions from one engine, as an async context manager; closing it aborts its calls in the engine.

    timeout_s: one call. unavailable_s: how long a call waits for an engine that is unavailable or starting.
    control_url: the model scheduler; empty for an engine that serves one model only.
    """

    def __init__(self, url: str, token: str, timeout_s: float, unavailable_s: float, control_url: str = ""):
        self.url = url
        self.control_url = control_url
        self.unavailable_s = unavailable_s
        self.supports_priority = True
        self._http = internal_client(url, token, timeout_s=timeout_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_) -> None:
        await self._http.aclose()

    async def until_served(self, model: str, on_wait: Callable[[str], None]) -> None:
        """Request a model and wait until the engine serves it, without a limit. on_wait: receives the reason.

        Raises FatalError when the engine cannot serve it, TransientError when its control port is unavailable.
        """
        while self.control_url:
            status = await self._request_model(model)
            if status.state is ModelState.READY:
                return
            if status.state is ModelState.FAILED:
                raise FatalError(status.sentence(model), code="model_not_served")
            on_wait(status.sentence(model))
            await asyncio.sleep(POLL_S)

    async def _request_model(self, model: str) -> EngineStatus:
        request = ModelRequest(model=model, seconds=10 * POLL_S).model_dump(mode="json")
        try:
            return EngineStatus.model_validate(await self._post(f"{self.control_url}/serve", request))
        except EngineRefused as refusal:
            if refusal.status == httpx.codes.NOT_FOUND:
                message = f"{refusal.message}: the engine cannot read its files"
                raise FatalError(message, code="adapter_missing") from refusal
            raise self.as_error(refusal, model) from refusal
        except (httpx.HTTPError, ValueError) as error:
            raise self._unavailable(f"{type(error).__name__}: {error}") from error

    async def complete(
        self, model: str, messages: Messages, sampling: Sampling, seed: int, tools: Sequence[Json] = ()
    ) -> StudentReply:
        """tools: shown in the prompt; calls stand in the text as the model writes them, whatever parser the engine has.

        Raises TransientError when the engine is unavailable, FatalError when it refuses the request."""
        return (await self._choices(model, messages, sampling, seed, 1, tools))[0]

    async def complete_often(
        self, model: str, messages: Messages, sampling: Sampling, seed: int, n: int, tools: Sequence[Json] = ()
    ) -> list[StudentReply]:
        """n completions of one prompt in one request, so that the engine reads the prompt once. An engine that gives fewer than it
        is asked for is asked again, with another seed. Raises as complete does."""
        replies: list[StudentReply] = []
        while len(replies) < n:
            replies += await self._choices(model, messages, sampling, seed + len(replies), n - len(replies), tools)
            if replies[0].finish_reason == TOO_LONG:
                return replies[:1]
        return replies

    async def _choices(
        self, model: str, messages: Messages, sampling: Sampling, seed: int, n: int, tools: Sequence[Json]
    ) -> list[StudentReply]:
        """At least one reply, n at most. The first has the tokens of all."""
        body = {
            "model": model,
            "messages": messages,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": seed,
        }
        if n > 1:
            body["n"] = n
        if tools:
            body |= {"tools": list(tools), "tool_choice": "none"}
        try:
            with chat_span("engine", model, self.url, body) as span:
                reply = await self._within_context(body)
                answered(span, reply)
            usage = reply.get("usage") or {}
            first, *more = [
                StudentReply(choice["message"]["content"] or "", choice["finish_reason"]) for choice in reply["choices"]
            ]
            tokens, prompt_tokens = usage.get("completion_tokens", 0), usage.get("prompt_tokens", 0)
            return [first._replace(tokens=tokens, prompt_tokens=prompt_tokens), *more][:n]
        except EngineRefused as refusal:
            if refusal.status == httpx.codes.BAD_REQUEST and "context length" in refusal.message:
                return [StudentReply("", TOO_LONG)]
            raise self.as_error(refusal, model) from refusal
        except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as error:
            raise self._unavailable(f"{type(error).__name__}: {error}") from error

    async def prompt_logprobs(self, model: str, prompts: Sequence[Sequence[int]]) -> list[list[float | None]]:
        """Per prompt of token ids the log-probability of each, in nats; None for the first. vLLM's field of the completions.

        Raises EngineRefused where the engine has no such field or does not know the model, TransientError when it is unavailable.
        """
        body = {"model": model, "prompt": prompts, "prompt_logprobs": 0, "max_tokens": 1, "temperature": 0}
        try:
            choices = (await self._prioritised(TEXT, body))["choices"]
            return [
                [
                    entry and entry[str(token)]["logprob"]
                    for token, entry in zip(ids, choice["prompt_logprobs"], strict=True)
                ]
                for ids, choice in zip(prompts, choices, strict=True)
            ]
        except EngineRefused as refusal:
            if refusal.status in (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE):
                raise self._unavailable(str(refusal)) from refusal
            raise
        except httpx.HTTPError as error:
            raise self._unavailable(f"{type(error).__name__}: {error}") from error
        except (ValueError, LookupError, TypeError) as error:
            raise EngineRefused(
                httpx.Response(httpx.codes.NOT_IMPLEMENTED, text="it knows no prompt_logprobs")
            ) from error

    async def _within_context(self, body: Json) -> Json:
        """vLLM refuses max_tokens beyond the model's context; without max_tokens the completion may fill what is left."""
        try:
            return await self._prioritised(CHAT, body)
        except EngineRefused as refusal:
            if refusal.param != "max_tokens":
                raise
        return await self._prioritised(CHAT, {name: value for name, value in body.items() if name != "max_tokens"})

    async def _prioritised(self, path: str, body: Json) -> Json:
        """With a priority below chats; without one for an engine that refuses priorities."""
        if self.supports_priority:
            try:
                return await self._post(path, body | {"priority": Priority.STEP})
            except EngineRefused as refusal:
                if refusal.status not in BAD_REQUEST or "priority" not in refusal.message.lower():
                    raise
                self.supports_priority = False
        return await self._post(path, body)

    async def _post(self, path: str, body: Json) -> Json:
        async for attempt in stamina.retry_context(
            on=_is_temporary, attempts=None, timeout=self.unavailable_s, wait_initial=0.5, wait_max=5.0
        ):
            with attempt:
                response = await self._http.post(path, json=body)
                if response.is_error:
                    raise EngineRefused(response)
                return response.json()
        raise AssertionError("stamina returns or raises")

    def as_error(self, refusal: EngineRefused, model: str) -> FatalError | TransientError:
        """What a refusal of a request to this model means for the step."""
        if refusal.is_temporary:
            return self._unavailable(str(refusal))
        match refusal.status:
            case httpx.codes.NOT_FOUND:
                return FatalError(
                    f"the engine at {self.url} does not know {model!r}. If this is an adapter's content hash: its copy is "
                    "missing from the engine's adapters folder, or it names another base than the engine was started with",
                    code="adapter_missing",
                )
            case httpx.codes.UNAUTHORIZED | httpx.codes.FORBIDDEN:
                return FatalError(
                    f"the engine at {self.url} refused our token; both sides need the same METEOR_INTERNAL_TOKEN",
                    code="engine_auth",
                )
        return FatalError(f"the engine refused the request: {refusal.message}", code="engine_refused")

    def _unavailable(self, reason: str) -> TransientError:
        return TransientError(f"the engine at {self.url} does not answer: {reason}", code="engine_unavailable")
