"""HTTP client of the engine (vLLM). Its errors become errors of our own families."""

import json
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp

from services.api.engine_errors import as_ours, inner_of, missing_route, nameless, plain_words
from services.api.settings import ApiSettings
from shared.contracts.engine import EngineStatus, ModelRequest, ModelState
from shared.contracts.errors import FatalError, TransientError, UserError
from shared.contracts.json_types import Json
from shared.platform import tracing

HEALTH, CONTROL = aiohttp.ClientTimeout(total=3.0), aiohttp.ClientTimeout(total=10.0)
JSON_HEADERS = {"content-type": "application/json", "accept-encoding": "identity"}
MOST_AT_ONCE = 1024  # requests to the engine; further ones wait for engine_connect_s and then get a 503
KEEPALIVE_S = 3.0  # of idle connections; vLLM closes them after five seconds, which must not hit a request
RETRY_AFTER_S = 10  # if no better value is known
LONGEST_WAIT_S = 60  # the longest retry-after that OpenAI's clients obey


class EngineUnavailable(TransientError):
    """The engine does not answer. Sent as 503 with retry-after."""

    code = "engine_unavailable"


class EngineElsewhere(EngineUnavailable):
    """The engine serves another model, or loads the one that was asked for. Sent as 503 with a fitting retry-after."""

    code = "engine_swapping"

    def __init__(self, status: EngineStatus, model: str):
        super().__init__(status.sentence(model), param="model")
        self.retry_after_s = max(2, min(LONGEST_WAIT_S, math.ceil(status.eta_seconds or RETRY_AFTER_S)))


class EngineTimeout(TransientError):
    """The engine took the request and sent nothing for too long; a retry would cost the same work."""

    status = 504
    code = "engine_timeout"


class EngineClient:
    """Speaks to vLLM's OpenAI routes with the internal token. Created inside a running loop; close it with `aclose`.

    It uses aiohttp: httpx needed many times the processor time to start a request, and three times for each chunk of a stream.
    """

    def __init__(self, settings: ApiSettings, token: str):
        self._engine_url, self._control_url = settings.engine_url, settings.engine_control_url
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=MOST_AT_ONCE, keepalive_timeout=KEEPALIVE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"authorization": f"Bearer {token}"} if token else {},
            timeout=aiohttp.ClientTimeout(
                connect=settings.engine_connect_s,  # waiting for one of the connections included
                sock_connect=settings.engine_connect_s,
                sock_read=settings.engine_read_s,
            ),
            trust_env=False,  # a proxy of the environment would see every prompt
        )

    async def aclose(self) -> None:
        await self._http.close()

    async def healthy(self) -> bool:
        """Whether it answers, or has lent its device to a training and serves again afterwards."""
        with suppress(aiohttp.ClientError, TimeoutError):
            async with self._http.get(f"{self._engine_url}/health", timeout=HEALTH) as answer:
                if answer.status == 200:
                    return True
        status = await self.status()
        return status is not None and status.state is ModelState.LENT

    async def whole(self, route: str, body: Json, served_by: str) -> bytes:
        """One whole answer. Raises EngineUnavailable, EngineTimeout or the engine's own refusal as a UserError."""
        async with self._asked(route, body, served_by) as answer:
            return await answer.read()

    async def parts(self, route: str, body: Json, served_by: str) -> AsyncGenerator[bytes, None]:
        """A streamed answer as it comes. What fails before the first part raises; so does a break in mid-stream."""
        async with self._asked(route, body, served_by) as answer:
            async for part in answer.content.iter_any():
                yield part

    async def status(self) -> EngineStatus | None:
        """What the engine serves or loads; None where its keeper cannot be asked."""
        return await self._keeper("GET", "/status") if self._control_url else None

    async def _elsewhere(self, model: str) -> EngineElsewhere | None:
        """Ask for a model that the engine does not seem to serve. None: it does, or nobody can be asked."""
        if not self._control_url or not model:
            return None
        request = ModelRequest(model=model, seconds=LONGEST_WAIT_S + RETRY_AFTER_S).model_dump(mode="json")
        status = await self._keeper("POST", "/serve", json=request)
        return EngineElsewhere(status, model) if status is not None and status.state is not ModelState.READY else None

    async def _keeper(self, method: str, path: str, **body: Any) -> EngineStatus | None:
        try:
            url = f"{self._control_url}{path}"
            async with self._http.request(method, url, timeout=CONTROL, raise_for_status=True, **body) as answer:
                return EngineStatus.model_validate_json(await answer.read())
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None

    @asynccontextmanager
    async def _asked(self, route: str, body: Json, served_by: str) -> AsyncGenerator[aiohttp.ClientResponse]:
        """The engine's answer, its body still to be read. Left early (the caller went away) it closes the connection, and the
        engine stops the request. served_by: what the engine must have been started with; it is asked for only when the
        engine does not answer; empty: never."""
        content = _json(body)
        try:
            async with self._http.post(
                f"{self._engine_url}{route}",
                data=content,
                headers=JSON_HEADERS | tracing.headers(),
                allow_redirects=False,
            ) as answer:
                if answer.status != 200:
                    error = _refusal(answer.status, await answer.read(), route)
                    away = isinstance(error, EngineUnavailable)
                    raise (await self._elsewhere(served_by) if away else None) or error
                yield answer
        except aiohttp.SocketTimeoutError as error:
            raise EngineTimeout("the engine fell silent; ask for fewer tokens or try again later") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = f"the engine cannot be reached: {type(error).__name__}"
            raise await self._elsewhere(served_by) or EngineUnavailable(reason) from error


def _json(body: Json) -> bytes:
    """ASCII, so that a lone surrogate cannot stop the request half way. Raises UserError for what is no JSON after all."""
    try:
        return json.dumps(body, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        message = "the body holds a number that is not finite, or is nested too deeply"
        raise UserError(message, code="invalid_value") from error


def _refusal(status: int, content: bytes, route: str) -> Exception:
    """The engine's error as one of ours."""
    inner = inner_of(content)
    if status in (401, 403):
        return FatalError("the engine refuses the internal token; give both the same METEOR_INTERNAL_TOKEN")
    if status in (404, 405, 501) and "message" not in inner:  # not vLLM's words on a model, but a server's on a path
        return missing_route(route)
    if status == 404:  # the name came from our own database: its adapter is not within the engine's reach
        return EngineUnavailable("the engine cannot load this model now", code="model_not_loaded", param="model")
    if status == 429 or status >= 500:
        return EngineUnavailable(
            plain_words(nameless(inner.get("message") or f"the engine answered with status {status}"))
        )
    return as_ours(status, inner)
