"""The provider: one attempt over HTTP.

httpx and not OpenAI's SDK: the gateway passes unknown parameters and fields through unchanged, bounds the size of an answer
while it arrives and tells an HTML page from JSON; the SDK parses before one can look.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable

import httpx

from services.strong_model.gateway import completions, errors, metrics
from services.strong_model.gateway.call import Attempts
from services.strong_model.gateway.completions import Completion
from services.strong_model.gateway.errors import Limits
from services.strong_model.gateway.providers import Provider
from services.strong_model.gateway.streams import Assembly, Event, EventReader
from services.strong_model.settings import StrongSettings
from shared.contracts.json_types import Json
from shared.platform import tracing
from shared.platform.http_client import external_client
from shared.platform.model_spans import answered, chat_span

PING_S = 5.0
# of a refused list of models: a key may be good for chats and not for the list
OF_THE_LIST = re.compile(r"scope|insufficient permission", re.IGNORECASE)
LIMITS = re.compile(r"(?:x-|anthropic-)?ratelimit")
READABLE = ("identity", "gzip", "deflate")  # what httpx asks for

OnChunk = Callable[[Json], None]


class ProviderClient:
    """Connections to one provider. Raises ProviderError and nothing else that is not a programming error."""

    def __init__(self, provider: Provider, settings: StrongSettings):
        self.provider = provider
        self.max_bytes = settings.max_answer_bytes
        self.limits: dict[str, str] = {}  # rate limits, as its latest answer told them
        self.silence_s = settings.silence_timeout.total_seconds()
        self._http = external_client(
            provider.base_url,
            provider.request_headers(),
            connect_s=settings.connect_timeout.total_seconds(),
            connections=(provider.concurrent or settings.concurrency) + 4,
            query=provider.query,
            silence_s=self.silence_s,
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def send(self, attempts: Attempts) -> Completion:
        """One attempt at a call; stopping the call cancels it."""
        call, name = attempts.call, self.provider.name
        on_chunk = call.deliver if call.chunks is not None else None
        span = chat_span(name, self.provider.model, self.provider.base_url, attempts.sent)
        with metrics.SENT.labels(name).track_inprogress(), span as opened:
            answer, whole = await call.unless_stopped(
                self.complete(attempts.sent, call.call_id or "", attempts.timeout_s, on_chunk)
            )
            answered(opened, answer)
        if completions.wants_schema(call.body):
            met = completions.meets_schema(call.body, answer)
            metrics.STRUCTURED.labels(name, str(met).lower()).inc()
        asked = completions.asked_room(call.body)
        completion = completions.completion(
            self.provider, call.call_id, answer, whole, asked, attempts.changed, attempts.habits
        )
        metrics.count_cost(name, completion.cost)
        return completion

    async def complete(
        self, body: Json, call_id: str, timeout_s: float, on_chunk: OnChunk | None = None
    ) -> tuple[Json, bool]:
        """(completion, whole). A streamed answer is put together; each of its chunks is handed to on_chunk as it comes.

        whole: False when a streamed answer held parts that cannot be put together, so that it must not be cached.
        """
        limits = Limits(timeout_s, self.silence_s)
        answering = False
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._http.stream(
                    "POST", "/chat/completions", json=body, headers={"x-request-id": call_id} | _traced()
                ) as response,
            ):
                answering = True
                self.limits |= {name: value for name, value in response.headers.items() if LIMITS.match(name)}
                if response.status_code != 200:
                    payload = await self._read(response, errors.ERROR_BYTES, strict=False)
                    raise errors.refused(self.provider, response.status_code, response.headers, payload)
                if (encoding := response.headers.get("content-encoding", "identity")) not in READABLE:
                    raise errors.encoded(self.provider, encoding)
                if "text/event-stream" in response.headers.get("content-type", ""):
                    return await self._read_stream(self._events(response), on_chunk)
                payload = await self._read(response, self.max_bytes)
                if payload.lstrip().startswith((b"data:", b"event:")):
                    return await self._read_stream(_once(payload), on_chunk)
                return completions.parse(self.provider, payload), True
        except errors.HTTP_ERRORS as error:
            raise errors.by_http_error(self.provider, error, limits, answering) from error

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

    async def _read_stream(self, events: AsyncIterator[Event], on_chunk: OnChunk | None) -> tuple[Json, bool]:
        assembly = Assembly(self.provider)
        async for event in events:
            if event.data == "[DONE]":
                assembly.ended = True
                break
            chunk = assembly.add(event)
            if on_chunk is not None and chunk is not None:
                on_chunk(chunk)
        return assembly.finish(), assembly.whole

    async def _events(self, response: httpx.Response) -> AsyncIterator[Event]:
        """Bytes are counted before lines are split, so that an endless line is noticed too."""
        reader = EventReader()
        size = 0
        async for piece in response.aiter_bytes():
            size += len(piece)
            if size > self.max_bytes:
                raise errors.bad_answer(self.provider, f"an answer of more than {self.max_bytes} bytes")
            for event in reader.feed(piece):
                yield event
        for event in reader.feed(b"\n\n"):
            yield event

    async def look(self, path: str) -> Json | None:
        """The JSON object at a path of the provider's; None where nothing answers, {} where it has none there."""
        try:
            response = await self._http.get(path, timeout=PING_S)
            content = response.json() if response.status_code == 200 else {}
        except httpx.HTTPError:
            return None
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}

    async def ping(self) -> None:
        """Ask for the list of models. Only a refused key or a server error is a failure: a provider may have no such list."""
        try:
            response = await self._http.get("/models", timeout=PING_S)
        except httpx.TimeoutException as error:
            raise errors.timed_out(self.provider, PING_S) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise errors.by_http_error(self.provider, error, Limits(PING_S, PING_S), answering=False) from error
        if 300 <= response.status_code < 400:
            raise errors.redirected(self.provider, response.status_code, response.headers)
        if response.status_code in (401, 403) or response.status_code >= 500:
            failure = errors.refused(self.provider, response.status_code, response.headers, response.content)
            if not OF_THE_LIST.search(failure.words):
                raise failure


def _traced() -> dict[str, str]:
    """Providers are others' systems: they get a trace's ids where the operator wants it."""
    return tracing.headers() if tracing.trace_settings().providers else {}


async def _once(payload: bytes) -> AsyncIterator[Event]:
    """The events of a stream that came as another type."""
    for event in EventReader().feed(payload + b"\n\n"):
        yield event
