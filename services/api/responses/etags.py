"""ETag and If-None-Match: an unchanged object is not sent again."""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Header, Response

IfNoneMatch = Annotated[str | None, Header(max_length=1000)]
UNCHANGED: dict[int | str, dict[str, Any]] = {304: {"description": "It is what `If-None-Match` names."}}


def tagged(
    content: bytes,
    if_none_match: str | None,
    headers: Mapping[str, str] | None = None,
    media_type: str = "application/json",
) -> Response:
    """A response with the hash of its bytes as tag, or 304. The tag is weak, since the response may be compressed."""
    tag = f'W/"{hashlib.sha256(content).hexdigest()[:32]}"'
    sent = {"etag": tag, "cache-control": "private, no-cache", **(headers or {})}
    if if_none_match is not None and _names(if_none_match, tag):
        return Response(status_code=304, headers=sent)
    return Response(content, media_type=media_type, headers=sent)


def _names(if_none_match: str, tag: str) -> bool:
    """Compared weakly (RFC 9110): W/ does not count."""
    given = (part.strip().removeprefix("W/") for part in if_none_match.split(","))
    return any(part in ("*", tag.removeprefix("W/")) for part in given)
