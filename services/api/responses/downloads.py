"""Files to download, whole or in part: `Range: bytes=...` (RFC 9110 section 14), one part at a time."""

import re
from typing import Annotated
from urllib.parse import quote

from fastapi import Header
from fastapi.responses import StreamingResponse

from shared.artifacts.archives import Parts
from shared.contracts.errors import UserError

RANGE = re.compile(r"^bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))$", re.ASCII)
Range = Annotated[str, Header(alias="range", max_length=200)]
IfRange = Annotated[str, Header(max_length=200)]


class RangeNotSatisfiable(UserError):
    status = 416
    code = "range_not_satisfiable"


def downloaded(parts: Parts, sha256: str, name: str, media: str, range_header: str, if_range: str) -> StreamingResponse:
    """The answer: with `Range` one part of it; of several parts at once, which are not served, all of it."""
    tag = f'"{sha256}"'
    quoted = quote(name)
    headers = {
        "accept-ranges": "bytes",
        "etag": tag,
        "x-content-type-options": "nosniff",
        "content-disposition": "attachment; "
        + (f'filename="{name}"' if quoted == name else f"filename*=utf-8''{quoted}"),
    }
    wanted = span(range_header, parts.size) if if_range in ("", tag) else None
    start, stop = wanted or (0, parts.size)
    headers["content-length"] = str(stop - start)
    if wanted is not None:
        headers["content-range"] = f"bytes {start}-{stop - 1}/{parts.size}"
    status = 206 if wanted is not None else 200
    return StreamingResponse(parts.read(start, stop), status, headers, media_type=media)


def span(header: str, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last of a Range header; None where all is to be sent (RFC 9110 section 14.2)."""
    match = RANGE.match(header)
    if match is None:
        return None
    first, last, suffix = match.groups()
    start = max(size - int(suffix), 0) if suffix else int(first)
    stop = min(int(last) + 1, size) if last else size
    if last and int(last) < int(first):
        return None  # not a valid range, so it is as if there was none
    if start >= size or suffix == "0":
        raise RangeNotSatisfiable(f"the file has {size} bytes, so {header!r} holds none of it", param="range")
    return start, stop
