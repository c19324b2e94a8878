"""One attempt at a provider over HTTP.

httpx and not OpenAI's SDK: the gateway passes unknown parameters and fields through unchanged, bounds the size of an answer
while it arrives and tells an HTML page from JSON; the SDK parses before one can look.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx

from services.strong_model.gateway import errors
from services.strong_model.gateway.completions import Assembly, parse
from services.strong_model.settings import Provider, StrongSettings

ERROR_BYTES = 65_536  # of an error's body; the rest says nothing more
PING_S = 5.0

OnChunk = Callable[[dict[str, Any]], None]


class ProviderClient:
    """Connections to one provider. Raises TeacherFailure and nothing else that is not a programming error."""

    def __init__(self, provider: Provider, settings: StrongSettings):
        self.provider = provider
        self.max_bytes = settings.max_answer_bytes
        self._http = httpx.AsyncClient(
            headers=provider.request_headers(),
            timeout=httpx.Timeout(None, connect=settings.connect_timeout.total_seconds()),
            limits=httpx.Limits(max_connections=(provider.concurrent or settings.concurrency) + 4, keepalive_expiry=20),
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def complete(
        self, body: dict[str, Any], call_id: str, timeout_s: float, on_chunk: OnChunk | None = None
    ) -> tuple[dict[str, Any], bool]:
        """(completion, whole). With on_chunk it is streamed: each chunk is handed over as it comes, and put together.

        whole: False when the streamed answer held parts that cannot be put together, so that it must not be kept.
        """
        if on_chunk is not None:
            body = body | {"stream": True, "stream_options": {"include_usage": True}}
        answering = False
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._http.stream(
                    "POST",
                    f"{self.provider.base_url}/chat/completions",
                    json=body,
                    headers={"x-request-id": call_id},
                ) as response,
            ):
                answering = True
                if response.status_code != 200:
                    payload = await self._read(response, ERROR_BYTES, strict=False)
                    raise errors.refused(self.provider, response.status_code, response.headers, payload)
                if on_chunk is None:
                    return parse(self.provider, await self._read(response, self.max_bytes)), True
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

    async def _read_stream(self, response: httpx.Response, on_chunk: OnChunk) -> tuple[dict[str, Any], bool]:
        if "text/event-stream" not in response.headers.get("content-type", ""):
            payload = await self._read(response, self.max_bytes)
            raise errors.not_json(self.provider, payload)
        assembly = Assembly(self.provider)
        async for data in self._events(response):
            if data == "[DONE]":
                break
            on_chunk(assembly.add(data))
        return assembly.finish(), assembly.whole

    async def _events(self, response: httpx.Response):
        """The `data:` lines of a stream. Bytes are counted before lines are made, so an endless line is noticed too."""
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
        """Ask for the list of models. A provider without such a list answers too; only a refused key is a failure."""
        try:
            response = await self._http.get(f"{self.provider.base_url}/models", timeout=PING_S)
        except httpx.TimeoutException as error:
            raise errors.timed_out(self.provider, PING_S) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise errors.unreachable(self.provider, error, connected=False) from error
        if response.status_code in (401, 403) or response.status_code >= 500:
            raise errors.refused(self.provider, response.status_code, response.headers, response.content)
