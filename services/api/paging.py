"""One page of a list: which part a request asks for, and OpenAI's list object around the result."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar

from shared.contracts.errors import UserError
from shared.contracts.views import Listed


class WithId(Protocol):
    id: str


# Listed[Item] stays in quotes: pydantic would build a schema for the protocol
Item = TypeVar("Item", bound=WithId)


class Paging(NamedTuple):
    """At most `limit` items, those that follow the item with the id `after`."""

    after: str | None = None
    limit: int = 20


def listed(items: Sequence[Item], has_more: bool = False) -> "Listed[Item]":
    ids = [item.id for item in items]
    first, last = (ids[0], ids[-1]) if ids else (None, None)
    return Listed(data=list(items), first_id=first, last_id=last, has_more=has_more)


def page_of(items: Sequence[Item], paging: Paging, noun: str) -> "Listed[Item]":
    """A page of a list that is complete in memory. Raises UserError if `after` is not in it. noun: for that message."""
    start = 0
    if paging.after:
        start = next((index for index, item in enumerate(items, start=1) if item.id == paging.after), 0)
        if not start:
            raise unknown_cursor(noun, paging.after)
    stop = start + paging.limit
    return listed(items[start:stop], len(items) > stop)


def unknown_cursor(noun: str, after: str) -> UserError:
    return UserError(f"no {noun} {after[:100]!r} to continue after", param="after", code="unknown_cursor")
