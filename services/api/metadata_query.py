"""The `metadata[name]=value` pairs of a query, as OpenAI's clients send them."""

import re
from typing import Annotated

from fastapi import Query, Request

from shared.contracts.errors import UserError

PAIR = re.compile(r"^metadata\[([^\[\]\"\\]{1,64})\]$")


async def metadata_pairs(
    request: Request, metadata: Annotated[str | None, Query(include_in_schema=False)] = None
) -> dict[str, str] | None:
    """Pairs that an object must have; empty for `metadata=null`: objects without any; None: whatever they have. Raises UserError."""
    if metadata in ("", "null"):
        return {}
    pairs = {}
    for name, value in request.query_params.items():
        if name.startswith("metadata"):
            match = PAIR.match(name)
            if match is None:
                raise UserError(f"{name[:100]!r}: write metadata[name]=value", param="metadata", code="invalid_value")
            if "\x00" in name + value:
                raise UserError(f"{name[:100]!r} holds a NUL", param="metadata", code="invalid_value")
            pairs[match.group(1)] = value
    return pairs or None
