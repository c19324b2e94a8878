"""Query results as records: dataclasses with one field per selected column, in the columns' order."""

from collections.abc import Mapping
from typing import Any, TypeVar

from sqlalchemy import Connection, Executable

Record = TypeVar("Record")
Parameters = Mapping[str, Any] | None


def fetch_first(
    connection: Connection, record: type[Record], query: Executable, parameters: Parameters = None
) -> Record | None:
    row = connection.execute(query, parameters).first()
    return None if row is None else record(*row)


def fetch_one(connection: Connection, record: type[Record], query: Executable, parameters: Parameters = None) -> Record:
    """Raises sqlalchemy's NoResultFound or MultipleResultsFound unless there is exactly one row."""
    return record(*connection.execute(query, parameters).one())


def fetch_all(
    connection: Connection, record: type[Record], query: Executable, parameters: Parameters = None
) -> list[Record]:
    return [record(*row) for row in connection.execute(query, parameters)]
