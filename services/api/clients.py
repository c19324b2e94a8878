"""The engine (vLLM) and the strong-model gateway as the API sees them: HTTP clients, errors in our own families."""

import json
import math
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from services.api.settings import ApiSettings
from shared.contracts.engine import Answer, EngineStatus, Wish
from shared.contracts.errors import FatalError, TransientError, UserError
from shared.contracts.estimate import Price

GATEWAY_S = 3.0

AGAIN_S = 10  # when a caller may ask again where nothing better is known
LONGEST_WAIT_S = 60  # the longest that OpenAI's clients heed
CONTROL_S = 10.0


class EngineUnavailable(TransientError):
    """The engine does not answer. Sent as 503 with retry-after."""

    code = "engine_unavailable"


class EngineElsewhere(EngineUnavailable):
    """The engine serves another model, or loads the one that was asked for. Sent as 503 with a fitting retry-after."""

    code = "engine_swapping"

    def __init__(self, status: EngineStatus, model: str):
        super().__init__(status.sentence(model), param="model")
        self.retry_after_s = max(2, min(LONGEST_WAIT_S, math.ceil(status.eta_seconds or AGAIN_S)))


class EngineTimeout(TransientError):
    """The engine took the request and fell silent; asking again would cost the same work."""

    status = 504
    code = "engine_timeout"


class EngineClient:
    """Speaks to vLLM's OpenAI routes with the internal token. Close it with `aclose`."""

    def __init__(self, settings: ApiSettings, token: str):
        timeout = httpx.Timeout(
            settings.engine_read_s, connect=settings.engine_connect_s, pool=settings.engine_connect_s
        )
        self._control_url = settings.engine_control_url
        self._client = httpx.AsyncClient(
            base_url=settings.engine_url,
            headers={"authorization": f"Bearer {token}"} if token else {},
            timeout=timeout,
            limits=httpx.Limits(max_connections=256, max_keepalive_connections=32),
            trust_env=False,  # the engine is a neighbour; a proxy of the environment would see every prompt
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    async def healthy(self) -> bool:
        try:
            return (await self._client.get("/health", timeout=3.0)).status_code == 200
        except httpx.HTTPError:
            return False

    async def chat(self, body: dict[str, Any], served_by: str) -> dict[str, Any]:
        """One whole answer. Raises EngineUnavailable, EngineTimeout or the engine's own refusal as a UserError."""
        async with self._posted(body, served_by) as response:
            return json.loads(await response.aread())

    async def chat_lines(self, body: dict[str, Any], served_by: str) -> AsyncGenerator[str, None]:
        """The lines of a streamed answer. What fails before the first line raises; so does a break in mid-stream."""
        async with self._posted(body, served_by) as response:
            async for line in response.aiter_lines():
                yield line

    async def status(self) -> EngineStatus | None:
        """What the engine serves or loads; None where its keeper cannot be asked."""
        try:
            answer = (
                await self._client.get(f"{self._control_url}/status", timeout=CONTROL_S) if self._control_url else None
            )
            return EngineStatus.model_validate(answer.json()) if answer is not None else None
        except (httpx.HTTPError, ValueError):
            return None

    async def _elsewhere(self, model: str) -> EngineElsewhere | None:
        """Ask for a model that the engine does not seem to serve. None: it does, or nobody can be asked."""
        if not self._control_url:
            return None
        wish = Wish(model=model, seconds=LONGEST_WAIT_S + AGAIN_S).model_dump(mode="json")
        try:
            answer = await self._client.post(f"{self._control_url}/serve", json=wish, timeout=CONTROL_S)
            answer.raise_for_status()
            status = EngineStatus.model_validate(answer.json())
        except (httpx.HTTPError, ValueError):
            return None
        return None if status.state is Answer.READY else EngineElsewhere(status, model)

    @asynccontextmanager
    async def _posted(self, body: dict[str, Any], served_by: str) -> AsyncIterator[httpx.Response]:
        """served_by: what the engine must have been started with; it is asked for only when the engine does not answer."""
        content = json.dumps(body).encode()  # ASCII, so that a lone surrogate cannot stop the request half way
        request = self._client.build_request(
            "POST", "/v1/chat/completions", content=content, headers={"content-type": "application/json"}
        )
        try:
            response = await self._client.send(request, stream=True)
            try:
                if response.status_code != 200:
                    error = _refusal(response.status_code, await response.aread())
                    away = isinstance(error, EngineUnavailable)
                    raise (await self._elsewhere(served_by) if away else None) or error
                yield response
            finally:
                await response.aclose()  # also when the caller went away: the engine then stops the request
        except (httpx.ReadTimeout, httpx.WriteTimeout) as error:
            raise EngineTimeout("the engine fell silent; ask for fewer tokens or try again later") from error
        except httpx.HTTPError as error:
            reason = f"the engine cannot be reached: {type(error).__name__}"
            raise await self._elsewhere(served_by) or EngineUnavailable(reason) from error


class GatewayUnavailable(TransientError):
    """The gateway does not say which providers there are. Sent as 503 with retry-after."""

    code = "gateway_unavailable"


class ProviderList:
    """The strong models that jobs may name, as the gateway has them. It is asked anew each time."""

    def __init__(self, settings: ApiSettings, token: str):
        self._client = httpx.Client(
            base_url=settings.gateway_url,
            headers={"authorization": f"Bearer {token}"} if token else {},
            timeout=GATEWAY_S,
            trust_env=False,
        )

    def close(self) -> None:
        self._client.close()

    def prices(self) -> dict[str, Price]:
        """Provider -> its price, in the gateway's order. Raises GatewayUnavailable."""
        try:
            answer = self._client.get("/v1/models")
            answer.raise_for_status()
            return {row["id"]: Price(row["price_input"], row["price_output"]) for row in answer.json()["data"]}
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise GatewayUnavailable(
                f"the strong-model gateway does not say which providers there are: {error!r}"
            ) from error


def _refusal(status: int, content: bytes) -> Exception:
    """vLLM's error as one of ours, with a string for its integer code."""
    try:
        value = json.loads(content)
    except ValueError:
        value = None
    inner = value.get("error", value) if isinstance(value, dict) else None
    inner = inner if isinstance(inner, dict) else {}
    message = str(inner.get("message") or f"the engine answered with status {status}")
    if status in (401, 403):
        return FatalError("the engine refuses the internal token; give both the same METEOR_INTERNAL_TOKEN")
    if status == 404:  # the name came from our own database: its adapter is not within the engine's reach
        return EngineUnavailable("the engine cannot load this model now", code="model_not_loaded", param="model")
    if status == 429 or status >= 500:
        return EngineUnavailable(message)
    return UserError(message, param=inner.get("param"), code=error_code(inner.get("code")), status=status)


def error_code(code: Any) -> str:
    """vLLM puts the HTTP status where OpenAI has a word."""
    text = str(code or "")
    if not text.isdecimal():
        return text or "engine_error"
    return "engine_error" if int(text) >= 500 else "invalid_request"
