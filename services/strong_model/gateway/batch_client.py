"""A provider's batch API over HTTP (OpenAI's: files, and /v1/batches). Raises ProviderError."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Iterable
from typing import IO, Any

from services.strong_model.gateway import errors
from services.strong_model.gateway.errors import ProviderError
from services.strong_model.gateway.providers import Provider
from services.strong_model.settings import StrongSettings
from shared.contracts.json_types import Json
from shared.platform.http_client import external_client

TIMEOUT_S = 60.0
FILE_TIMEOUT_S = 1800.0  # a file of 200 MB over a slow line
OWN_ID = "meteor_batch"  # in a batch's metadata: our id of it
PAGE, PAGES = 100, 20  # of the provider's list of batches, newest first
PURPOSE = "batch"  # of an uploaded file
IN_MEMORY = 8_000_000  # bytes of a file that is built; more goes through the disk


def line_of(call_id: str, body: Json) -> bytes:
    """One request of a batch's file."""
    row = {"custom_id": call_id, "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


class BatchClient:
    def __init__(self, provider: Provider, settings: StrongSettings):
        self.provider = provider
        self.max_bytes = settings.max_answer_bytes
        self._http = external_client(
            provider.base_url,
            provider.request_headers(),
            connect_s=settings.connect_timeout.total_seconds(),
            query=provider.query,
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def upload(self, batch_id: str, requests: Iterable[tuple[str, Json]]) -> str:
        """The id of the file that now holds the requests (call id, body). The iterable is read in a thread."""
        with tempfile.SpooledTemporaryFile(IN_MEMORY) as file:
            await asyncio.to_thread(_write, file, requests)
            files = {"file": (_name(batch_id), file, "application/jsonl")}
            uploaded = await self._json("POST", "/files", FILE_TIMEOUT_S, data={"purpose": PURPOSE}, files=files)
        return str(uploaded["id"])

    async def create(self, batch_id: str, file_id: str) -> Json:
        request = {
            "input_file_id": file_id,
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "metadata": {OWN_ID: batch_id},
        }
        return await self._json("POST", "/batches", json=request)

    async def find(self, batch_id: str) -> Json | None:
        """The provider's batch for ours, unless it failed: the answer to `create` may have been lost."""
        async for row in self._listed("/batches"):
            if (row.get("metadata") or {}).get(OWN_ID) == batch_id and row.get("status") != "failed":
                return row
        return None

    async def files_of(self, batch_id: str) -> list[str]:
        """Ids of the files that were uploaded for our batch. Empty where the provider does not list files."""
        try:
            return [
                str(row["id"])
                async for row in self._listed("/files", purpose=PURPOSE)
                if row.get("filename") == _name(batch_id)
            ]
        except ProviderError as failure:
            if failure.outcome not in errors.NO_ROUTE:
                raise
            return []

    async def _listed(self, path: str, **params: str) -> AsyncIterator[Json]:
        """Newest first, as far as the list is read."""
        after: Json = {}
        for _ in range(PAGES):
            page = await self._json("GET", path, params={"limit": PAGE} | params | after)
            rows = page.get("data")
            if not isinstance(rows, list) or not all(isinstance(row, dict) and "id" in row for row in rows):
                raise errors.bad_answer(self.provider, f"no list at {path}")
            for row in rows:
                yield row
            if not page.get("has_more") or not rows:
                return
            after = {"after": rows[-1]["id"]}

    async def get(self, remote_id: str) -> Json:
        return await self._json("GET", f"/batches/{remote_id}")

    async def cancel(self, remote_id: str) -> None:
        await self._json("POST", f"/batches/{remote_id}/cancel")

    async def delete_file(self, file_id: str) -> None:
        """One that is gone already counts as deleted."""
        try:
            await self._json("DELETE", f"/files/{file_id}")
        except ProviderError as failure:
            if failure.outcome != errors.NOT_FOUND:
                raise

    async def lines(self, file_id: str) -> AsyncIterator[Any]:
        """The rows of an answer's file as they arrive. A row longer than an answer may be is an error."""
        answering = False
        try:
            async with (
                asyncio.timeout(FILE_TIMEOUT_S),
                self._http.stream("GET", f"/files/{file_id}/content") as response,
            ):
                answering = True
                if response.status_code != 200:
                    head = (await response.aread())[: errors.ERROR_BYTES]
                    raise errors.refused(self.provider, response.status_code, response.headers, head)
                rest = b""
                async for piece in response.aiter_bytes():
                    *whole, rest = (rest + piece).split(b"\n")
                    if len(rest) > self.max_bytes:
                        raise errors.bad_answer(self.provider, f"a row of more than {self.max_bytes} bytes")
                    for row in filter(None, whole):
                        yield self._parsed(row)
                if rest.strip():
                    yield self._parsed(rest)
        except errors.HTTP_ERRORS as error:
            raise errors.by_http_error(
                self.provider, error, errors.Limits(FILE_TIMEOUT_S, FILE_TIMEOUT_S), answering
            ) from error

    def _parsed(self, row: bytes) -> Any:
        try:
            return json.loads(row)
        except (ValueError, RecursionError):
            raise errors.not_json(self.provider, row) from None

    async def _json(self, method: str, path: str, timeout_s: float = TIMEOUT_S, **more: Any) -> Json:
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._http.request(method, path, **more)
        except errors.HTTP_ERRORS as error:
            raise errors.by_http_error(
                self.provider, error, errors.Limits(timeout_s, timeout_s), answering=False
            ) from error
        if response.status_code in errors.ABSENT:
            raise errors.without_batches(self.provider, path, response.status_code)
        if response.status_code not in (200, 201):
            raise errors.refused(self.provider, response.status_code, response.headers, response.content)
        body = self._parsed(response.content)
        if not isinstance(body, dict):
            raise errors.bad_answer(self.provider, "something else than an object")
        return body


def _name(batch_id: str) -> str:
    """Of its file. An upload whose answer was lost is found by it."""
    return f"{batch_id}.jsonl"


def _write(file: IO[bytes], requests: Iterable[tuple[str, Json]]) -> None:
    for call_id, body in requests:
        file.write(line_of(call_id, body))
    file.seek(0)
