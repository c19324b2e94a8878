"""Files that a job's body names by their path: `"database": "@bookshop.sqlite"`, `"context": "@manual.md"`. They are uploaded, and
the id takes their place."""

import sqlite3
import tempfile
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from typing import cast

from pydantic import JsonValue

from services.cli.client import ApiClient, JsonObject, Refused

MARK = "@"


def resolved(body: JsonObject, folder: Path) -> JsonObject:
    """The body with absolute paths; those in it are relative to the folder of its file."""
    return cast(JsonObject, _replaced(body, lambda path, _field: f"{MARK}{(folder / path).absolute()}"))


def attached(api: ApiClient, body: JsonObject) -> JsonObject:
    """The body with the ids of the files, each of which is uploaded once for each kind of field. A .sql script that a field takes as a
    database is made a SQLite file first. Raises Refused."""
    ids: dict[tuple[str, str], str] = {}

    def uploaded(path: str, field: str) -> str:
        if (path, field) not in ids:
            with FIELDS[field](Path(path)) as file:
                ids[path, field] = api.upload(file, purpose="user_data").id
        return ids[path, field]

    return cast(JsonObject, _replaced(body, uploaded))


@contextmanager
def database(path: Path) -> Generator[Path]:
    """A SQLite file: the path's own, or one that its script makes. Raises Refused."""
    if path.suffix != ".sql":
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="meteor-sql-") as folder:
        made = Path(folder) / f"{path.stem}.sqlite"
        try:
            with closing(sqlite3.connect(made)) as connection:
                connection.executescript(path.read_text(encoding="utf-8"))
                connection.commit()
        except (OSError, UnicodeError, sqlite3.Error) as error:
            raise Refused(f"{path} makes no SQLite database: {error}") from error
        yield made


FIELDS: dict[str, Callable[[Path], AbstractContextManager[Path]]] = {"database": database, "context": nullcontext}


def _replaced(value: JsonValue, of_path: Callable[[str, str], str], field: str = "") -> JsonValue:
    if isinstance(value, dict):
        return {name: _replaced(item, of_path, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, of_path, field) for item in value]
    if field in FIELDS and isinstance(value, str) and value.startswith(MARK):
        return of_path(value.removeprefix(MARK), field)
    return value
