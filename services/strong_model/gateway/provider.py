"""The provider: one attempt over HTTP.

httpx and not OpenAI's SDK: the gateway passes unknown parameters and fields through unchanged, bounds the size of an answer
while it arrives and tells an HTML page from JSON; the SDK parses before one can look.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx

from services.strong_model.gateway import completions, errors, metrics
from services.strong_model.gateway.call import Attempts
from services.strong_model.gateway.completions import Completion
from services.strong_model.gateway.providers import Provider
from services.strong_model.gateway.streams import Assembly
from services.strong_model.settings import StrongSettings
from shared.contracts.json_types import Json
from shared.platform.http_client import external_client

ERROR_BYTES = 65_536  # of an error's body; the rest says nothing more
PING_S = 5.0

OnChunk = Callable[[Json], None]


class ProviderClient:
    """Connections to one provider. Raises ProviderError and nothing else that is not a programming error."""

    def __init__(self, provider: Provider, settings: StrongSettings):
        self.provider = provider
        self.max_bytes = settings.max_answer_bytes
        self._http = external_client(
            provider.base_url,
            provider.request_headers(),
            connect_s=settings.connect_timeout.total_seconds(),
            connections=(provider.concurrent or settings.concurrency) + 4,
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def send(self, attempts: Attempts) -> Completion:
        """One attempt at a call; stopping the call cancels it."""
        call, name = attempts.call, self.provider.name
        body = completions.sent_to(self.provider, call.body)
        on_chunk = call.deliver if call.chunks is not None else None
        with metrics.SENT.labels(name).track_inprogress():
            answer, whole = await call.unless_stopped(
                self.complete(body, call.call_id or "", attempts.timeout_s, on_chunk)
            )
        if completions.wants_schema(call.body):
            met = completions.meets_schema(call.body, answer)
            metrics.STRUCTURED.labels(name, str(met).lower()).inc()
        completion = completions.completion(self.provider, call.call_id, answer, whole)
        metrics.count_cost(name, completion.cost)
        return completion

    async def complete(
        self, body: Json, call_id: str, timeout_s: float, on_chunk: OnChunk | None = None
    ) -> tuple[Json, bool]:
        """(completion, whole). With on_chunk it is streamed: each chunk is handed over as it comes, and put together.

        whole: False when the streamed answer held parts that cannot be put together, so that it must not be cached.
        """
        if on_chunk is not None:
            body = body | {"stream": True, "stream_options": {"include_usage": True}}
        answering = False
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._http.stream(
                    "POST", "/chat/completions", json=body, headers={"x-request-id": call_id}
                ) as response,
            ):
                answering = True
                if response.status_code != 200:
                    payload = await self._read(response, ERROR_BYTES, strict=False)
                    raise errors.refused(self.provider, response.status_code, response.headers, payload)
                if on_chunk is None:
                    return completions.parse(self.provider, await self._read(response, self.max_bytes)), True
                return await self._read_stream(response, on_chunk)
        except errors.HTTP_ERRORS as error:
            raise errors.by_http_error(self.provider, error, timeout_s, answering) from error

    async def _read(self, response: httpx.Response, limit: int, strict: bool = True) -> bytes:
        """The body, at most `limit` bytes of it; more is an error, or with strict off left unread."""
        payload = bytearray()
        async for piece in response.aiter_bytes():
            payload += piece
            if len(payload) > limit:
                if strict:
                    raise errors.bad_answer(self.provider, f"an answer of more than {limit} bytes")
                break
        return bytes(payload)

    async def _read_stream(self, response: httpx.Response, on_chunk: OnChunk) -> tuple[Json, bool]:
        if "text/event-stream" not in response.headers.get("content-type", ""):
            payload = await self._read(response, self.max_bytes)
            raise errors.not_json(self.provider, payload)
        assembly = Assembly(self.provider)
        async for data in self._events(response):
            if data == "[DONE]":
                break
            on_chunk(assembly.add(data))
        return assembly.finish(), assembly.whole

    async def _events(self, response: httpx.Response) -> AsyncIterator[str]:
        """The `data:` lines of a stream. Bytes are counted before lines are split, so an endless line is noticed too."""
        size, rest = 0, b""
        async for piece in response.aiter_bytes():
            size += len(piece)
            if size > self.max_bytes:
                raise errors.bad_answer(self.provider, f"an answer of more than {self.max_bytes} bytes")
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                if line.startswith(b"data:"):
                    yield line[5:].decode(errors="replace").strip()

    async def ping(self) -> None:
        """Ask for the list of models. Only a refused key or a server error is a failure: a provider may have no such list."""
        try:
            response = await self._http.get("/models", timeout=PING_S)
        except httpx.TimeoutException as error:
            raise errors.timed_out(self.provider, PING_S) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise errors.unreachable(self.provider, error, connected=False) from error
        if response.status_code in (401, 403) or response.status_code >= 500:
            raise errors.refused(self.provider, response.status_code, response.headers, response.content)
