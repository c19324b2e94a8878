"""The worker's way to an engine: OpenAI's chat completions, over httpx.

Not through OpenAI's SDK: the worker has a process per slot, and the SDK's thousands of types cost each of them memory.
"""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import httpx
import stamina

from shared.contracts.engine import Answer, EngineStatus, Priority, Wish
from shared.contracts.errors import FatalError, TransientError
from shared.contracts.rows import TOO_LONG
from shared.contracts.steps import Sampling
from shared.platform.tls import tls

CONNECT_S = 5.0
CHAT = "/v1/chat/completions"
BAD_REQUEST = (httpx.codes.BAD_REQUEST, httpx.codes.UNPROCESSABLE_ENTITY)
ASK_S = 1.0  # between two questions whether a model is ready


class Completion(NamedTuple):
    """finish_reason as OpenAI's, or TOO_LONG."""

    text: str
    finish_reason: str
    tokens: int = 0
    prompt_tokens: int = 0


class Asker(Protocol):
    """Whoever gets answers from a student."""

    async def complete(
        self, model: str, messages: list[dict[str, str]], sampling: Sampling, seed: int
    ) -> Completion: ...


class Refused(Exception):
    """An HTTP status of 400 and more, with what the engine said about it."""

    def __init__(self, response: httpx.Response):
        try:
            error = response.json()["error"]
            said, self.param = str(error["message"]), error.get("param")
        except (ValueError, KeyError, TypeError):
            said, self.param = response.text[:300], None
        self.status, self.message = response.status_code, said
        super().__init__(f"HTTP {self.status}: {self.message}")


def _is_brief(error: Exception) -> bool:
    """Worth another try within the step: the engine is away, starting, or died under this call."""
    if isinstance(error, Refused):
        return error.status >= 500 or error.status == httpx.codes.TOO_MANY_REQUESTS
    took_its_time = isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout)
    return isinstance(error, httpx.TransportError) and not took_its_time


class StudentClient:
    """Chat completions from one engine. Use as an async context manager; closing it ends all calls in the engine.

    control_url: where to say which model is needed; empty for an engine that serves one model for ever.
    """

    def __init__(self, url: str, token: str, timeout_s: float, patience_s: float, control_url: str = ""):
        self.url = url
        self.control_url = control_url
        self.patience_s = patience_s
        self.takes_priority = True
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"authorization": f"Bearer {token}"} if token else {},
            timeout=httpx.Timeout(timeout_s, connect=CONNECT_S, pool=None),
            limits=httpx.Limits(max_connections=None),  # all rows of a step at once: the engine batches them
            verify=tls(),
        )

    async def __aenter__(self) -> "StudentClient":
        return self

    async def __aexit__(self, *_) -> None:
        await self._http.aclose()

    async def until_served(self, model: str, say: Callable[[str], None]) -> None:
        """Ask for a model and wait, however long others are before it. say: told what is waited for.

        Raises FatalError when the engine cannot serve it, TransientError when its keeper is away.
        """
        while self.control_url:
            status = await self._status_for(model)
            if status.state is Answer.READY:
                return
            if status.state is Answer.FAILED:
                raise FatalError(status.sentence(model), code="model_not_served")
            say(status.sentence(model))
            await asyncio.sleep(ASK_S)

    async def _status_for(self, model: str) -> EngineStatus:
        wish = Wish(model=model, seconds=10 * ASK_S).model_dump(mode="json")
        try:
            return EngineStatus.model_validate(await self._post(f"{self.control_url}/serve", wish))
        except Refused as error:
            if error.status == httpx.codes.NOT_FOUND:
                raise FatalError(
                    f"{error.message}: its files are not within the engine's reach", code="adapter_missing"
                ) from error
            raise self._as_ours(error, model) from error
        except (httpx.HTTPError, ValueError) as error:
            raise self._away(f"{type(error).__name__}: {error}") from error

    async def complete(self, model: str, messages: list[dict[str, str]], sampling: Sampling, seed: int) -> Completion:
        """One answer. Raises TransientError when the engine is away, FatalError when it refuses the request."""
        body = {
            "model": model,
            "messages": messages,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": seed,
        }
        try:
            answer = await self._within_context(body)
            choice, usage = answer["choices"][0], answer.get("usage") or {}
            return Completion(
                text=choice["message"]["content"] or "",
                finish_reason=choice["finish_reason"],
                tokens=usage.get("completion_tokens", 0),
                prompt_tokens=usage.get("prompt_tokens", 0),
            )
        except Refused as error:
            if error.status == httpx.codes.BAD_REQUEST and "context length" in error.message:
                return Completion("", TOO_LONG)
            raise self._as_ours(error, model) from error
        except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as error:
            raise self._away(f"{type(error).__name__}: {error}") from error

    async def _within_context(self, body: dict[str, Any]) -> dict[str, Any]:
        """More tokens than the model's whole context are refused by vLLM; then the answer may have what is left of it."""
        try:
            return await self._ask(body)
        except Refused as error:
            if error.param != "max_tokens":
                raise
        return await self._ask({name: value for name, value in body.items() if name != "max_tokens"})

    async def _ask(self, body: dict[str, Any]) -> dict[str, Any]:
        """Behind every chat that waits, where the engine knows priorities; one that refuses them is asked without."""
        if self.takes_priority:
            try:
                return await self._post(CHAT, body | {"priority": Priority.STEP})
            except Refused as error:
                if error.status not in BAD_REQUEST or "priority" not in error.message.lower():
                    raise
                self.takes_priority = False
        return await self._post(CHAT, body)

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        async for attempt in stamina.retry_context(
            on=_is_brief, attempts=None, timeout=self.patience_s, wait_initial=0.5, wait_max=5.0
        ):
            with attempt:
                response = await self._http.post(path, json=body)
                if response.is_error:
                    raise Refused(response)
                return response.json()
        raise AssertionError("stamina returns or raises")

    def _as_ours(self, error: Refused, model: str) -> FatalError | TransientError:
        match error.status:
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
            case status if status < 500 and status != httpx.codes.TOO_MANY_REQUESTS:
                return FatalError(f"the engine refused the request: {error.message}", code="engine_refused")
        return self._away(str(error))

    def _away(self, what: str) -> TransientError:
        return TransientError(f"the engine at {self.url} does not answer: {what}", code="engine_unavailable")
