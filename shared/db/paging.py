"""Keyset paging: a page begins after the last row of the one before, identified by its id."""

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Engine, Select, tuple_

from shared.contracts.errors import UserError
from shared.db.engine import reading

Item = TypeVar("Item")


def keyset_page(
    engine: Engine,
    item: Callable[..., Item],
    query: Select[Any],
    key: ColumnElement[Any],
    after: str | None,
    limit: int,
    noun: str,
    order: tuple[ColumnElement[Any], ...] = (),
    cursors: Select[Any] | None = None,
    ascending: bool = False,
) -> tuple[list[Item], bool]:
    """The next `limit` rows of the query, newest first (ascending: oldest first), and whether there are more.

    item: called with each row's columns. key: the id column that `after` names; ids are UUIDv7, so they order by time.
    order: the columns to order by instead. cursors: the rows that `after` may name, if more than those of the query.
    Raises UserError for an unknown `after`.
    """
    columns = order or (key,)
    with reading(engine) as connection:
        if after:
            known = (query if cursors is None else cursors).where(key == after).with_only_columns(*columns)
            last = connection.execute(known).first()
            if last is None:
                raise UserError(f"no {noun} {after!r} to continue after", param="after", code="unknown_cursor")
            place, before = (tuple_(*columns), tuple(last)) if order else (key, after)
            query = query.where(place > before if ascending else place < before)
        ordered = query.order_by(*(column if ascending else column.desc() for column in columns)).limit(limit + 1)
        items = [item(*row) for row in connection.execute(ordered)]
    return items[:limit], len(items) > limit
