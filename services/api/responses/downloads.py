"""Files to download, whole or in part: `Range: bytes=...` (RFC 9110 section 14), one part at a time.

Starlette's FileResponse serves one file of the disk; an export is a tar of many parts that is never written as one file, and a
refused range has to be an error of ours. So both kinds of file go through this one response.
"""

import re
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import quote

from fastapi import Header

from services.api.openapi_document import Responses, may_answer
from shared.artifacts.archives import Parts
from shared.contracts.errors import UserError
from shared.platform.disconnect import Stream

RANGE = re.compile(r"^bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))$", re.ASCII)
Range = Annotated[str, Header(alias="range", max_length=200)]
IfRange = Annotated[str, Header(max_length=200)]


class RangeNotSatisfiable(UserError):
    status = 416
    code = "range_not_satisfiable"


def download_responses(schemas: Mapping[str, Mapping[str, str]]) -> Responses:
    """`responses=` of a route that answers with `downloaded`. schemas: media type -> schema."""
    whole = {"content": {media: {"schema": schema} for media, schema in schemas.items()}}
    return {200: whole, 206: whole | {"description": "The part that was asked for."}} | may_answer(416)


def downloaded(parts: Parts, sha256: str, name: str, media: str, range_header: str, if_range: str) -> Stream:
    """With `Range` one part of the file; of several parts at once, which are not supported, all of it."""
    tag = f'"{sha256}"'
    quoted = quote(name)
    headers = {
        "accept-ranges": "bytes",
        "etag": tag,
        "x-content-type-options": "nosniff",
        "content-disposition": "attachment; "
        + (f'filename="{name}"' if quoted == name else f"filename*=utf-8''{quoted}"),
    }
    part = span(range_header, parts.size) if if_range in ("", tag) else None
    start, stop = part or (0, parts.size)
    headers["content-length"] = str(stop - start)
    if part is not None:
        headers["content-range"] = f"bytes {start}-{stop - 1}/{parts.size}"
    return Stream(parts.read(start, stop), 200 if part is None else 206, headers, media_type=media)


def span(header: str, size: int) -> tuple[int, int] | None:
    """First byte of a Range header and the one after the last; None to send the whole file (RFC 9110 section 14.2)."""
    match = RANGE.match(header)
    if match is None:
        return None
    first, last, suffix = match.groups()
    start = max(size - int(suffix), 0) if suffix else int(first)
    stop = min(int(last) + 1, size) if last else size
    if last and int(last) < int(first):
        return None  # an invalid range is ignored
    if start >= size or suffix == "0":
        raise RangeNotSatisfiable(f"the file has {size} bytes, so {header!r} holds none of it", param="range")
    return start, stop
