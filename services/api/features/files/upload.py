"""A multipart upload, streamed to one temporary file while it is hashed. Memory does not grow with the file."""

import asyncio
import hashlib
import json
import os
import re
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import Request
from pydantic import ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from services.api.features.files.service import Received
from shared.contracts.errors import UserError
from shared.contracts.file_reading import ReadOptions

FIELD_BYTES = 64 * 1024  # longest plain field
HEADER_BYTES = 16 * 1024  # longest headers of one part
FORM_BYTES = 1 << 20  # what boundaries and plain fields may add to the file
OPTIONS = ("skip_bad", "answers", "mask", "member")
FIELDS = ("file", "purpose", "expires_after", "mapping", *OPTIONS)
EXPIRES_S = range(3600, 30 * 86_400 + 1)  # OpenAI's bounds
_EXPIRY = re.compile(r"expires_after\[(\w+)\]")
WRITE_BYTES = 1 << 20  # written and hashed at once, in a thread


class FileTooLarge(UserError):
    status = 413
    code = "file_too_large"

    def __init__(self, limit: int):
        super().__init__(
            f"the file is longer than {limit} bytes; divide it, or raise METEOR_API_UPLOAD_BYTES", param="file"
        )


class _Form:
    """Callbacks of the multipart parser: one part named `file`, and short plain fields. Other files are refused."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.chunks: list[bytes] = []  # of the file, not yet written
        self.ended = False
        self._name = ""
        self._in_file = False
        self._value = bytearray()
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._header_bytes = 0
        self._disposition = b""

    def on_part_begin(self) -> None:
        self._value.clear()
        self._disposition = b""
        self._header_bytes = 0

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._header_name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._header_value += data[start:end]

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > HEADER_BYTES:
            raise UserError("a part of the form has too long headers", code="invalid_form")

    def on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        filename = options.get(b"filename")
        self._in_file = filename is not None
        if filename is None:
            return
        if self._name != "file" or self.filename is not None:
            raise UserError("send exactly one file, in the field 'file'", param="file", code="invalid_form")
        self.filename = filename.decode("utf-8", "replace")

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self.chunks.append(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > FIELD_BYTES:
            raise UserError(f"field {self._name[:100]!r} is too long", param=self._name[:100], code="invalid_form")

    def on_part_end(self) -> None:
        if not self._in_file:
            self.fields[self._name] = self._value.decode("utf-8", "replace")

    def on_end(self) -> None:
        self.ended = True


@asynccontextmanager
async def received_upload(request: Request, folder: Path, limit: int) -> AsyncGenerator[Received]:
    """The upload of a request. The temporary file lies in `folder` and is removed at the end if nobody moved it.

    limit: longest file in bytes. Raises UserError for a form that is not what POST /v1/files takes.
    """
    handle, name = tempfile.mkstemp(dir=folder, prefix=".upload-")
    path = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            digest, size, form = await _stream(request, file, limit)
        if form.filename is None:
            raise UserError("the form has no field 'file'", param="file", code="missing_required_parameter")
        if "purpose" not in form.fields:
            raise UserError("the form has no field 'purpose'", param="purpose", code="missing_required_parameter")
        for name in form.fields:
            _refuse_field(name)
        options, expires = read_options(form.fields), read_expiry(form.fields)
        yield Received(path, digest, size, form.filename, form.fields["purpose"], options, expires)
    finally:
        path.unlink(missing_ok=True)  # noqa: ASYNC240  one short system call


def read_options(fields: dict[str, str]) -> ReadOptions:
    """`mapping` as a JSON object, or one field for each part of it: `mapping[question]`. Raises UserError."""
    parts = {match[1]: value for name, value in fields.items() if (match := re.fullmatch(r"mapping\[(\w+)\]", name))}
    given: dict[str, Any] = {"mapping": parts} if parts else {}
    try:
        if "mapping" in fields:
            given["mapping"] = json.loads(fields["mapping"])
        given |= {name: fields[name] for name in OPTIONS if name in fields}
        return ReadOptions.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"] if part != "[key]")
        raise UserError(f"{where}: {first['msg']}", param=where, code="invalid_value") from error
    except ValueError as error:
        message = f'mapping must be a JSON object such as {{"question": "prompt"}}: {error}'
        raise UserError(message, param="mapping", code="invalid_value") from error


def read_expiry(fields: dict[str, str]) -> int | None:
    """Seconds after the upload, from `expires_after` as a JSON object or as one field for each part of it. Raises UserError."""
    parts: Any = {match[1]: value for name, value in fields.items() if (match := _EXPIRY.fullmatch(name))}
    try:
        parts = json.loads(fields["expires_after"]) if "expires_after" in fields else parts
    except ValueError:
        parts = None
    if parts == {}:
        return None
    seconds = parts.get("seconds") if isinstance(parts, dict) else None
    whole = int(str(seconds)) if str(seconds).isdecimal() else 0
    if not isinstance(parts, dict) or set(parts) != {"anchor", "seconds"} or parts["anchor"] != "created_at":
        message = 'expires_after has two parts: anchor "created_at", and seconds'
        raise UserError(message, param="expires_after", code="invalid_value")
    if whole not in EXPIRES_S:
        message = f"expires_after.seconds is {str(seconds)[:50]!r}; it is from {EXPIRES_S[0]} (an hour) to {EXPIRES_S[-1]} (30 days)"
        raise UserError(message, param="expires_after.seconds", code="invalid_value")
    return whole


def _refuse_field(name: str) -> None:
    """Raises UserError for a field that would be ignored."""
    outer = name.partition("[")[0][:100]
    if outer not in FIELDS:
        raise UserError(
            f"unknown field {outer!r}; the form takes {', '.join(FIELDS)}", param=outer, code="unknown_parameter"
        )


async def _stream(request: Request, file, limit: int) -> tuple[str, int, _Form]:
    """Feed the body to the parser and the file's part to `file`; returns hash, length and the rest of the form."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit + FORM_BYTES:
        raise FileTooLarge(limit)
    form = _Form()
    parser = _parser(request, form)
    digest = hashlib.sha256()
    size = waiting = received = 0

    def write(chunks: list[bytes]) -> None:
        for chunk in chunks:
            digest.update(chunk)
            file.write(chunk)

    async for chunk in request.stream():
        received += len(chunk)
        before = len(form.chunks)
        try:
            parser.write(chunk)
        except FormParserError as error:
            raise UserError(f"the body is not a valid multipart form: {error}", code="invalid_form") from error
        added = sum(len(part) for part in form.chunks[before:])
        size, waiting = size + added, waiting + added
        if size > limit:
            raise FileTooLarge(limit)
        if received - size > FORM_BYTES:
            raise UserError(f"beside the file the form is longer than {FORM_BYTES} bytes", code="invalid_form")
        if waiting >= WRITE_BYTES:
            await asyncio.to_thread(write, form.chunks)
            form.chunks, waiting = [], 0
    if not form.ended:
        raise UserError("the multipart form is cut off", code="invalid_form")
    await asyncio.to_thread(write, form.chunks)
    await asyncio.to_thread(_sync, file)
    return digest.hexdigest(), size, form


def _sync(file) -> None:
    file.flush()
    os.fsync(file.fileno())


def _parser(request: Request, form: _Form) -> MultipartParser:
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise UserError("send multipart/form-data with the fields 'file' and 'purpose'", code="invalid_form")
    try:
        return MultipartParser(boundary, _callbacks(form))
    except FormParserError as error:
        raise UserError(f"the form's boundary is refused: {error}", code="invalid_form") from error


def _callbacks(form: _Form) -> Any:
    names = (
        "on_part_begin", "on_header_field", "on_header_value", "on_header_end", "on_headers_finished",
        "on_part_data", "on_part_end", "on_end",
    )  # fmt: skip
    return {name: getattr(form, name) for name in names}
