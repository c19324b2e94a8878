"""Engines and transactions for SQLite and PostgreSQL, and the upgrade of their schemas.

On SQLite writing transactions use BEGIN IMMEDIATE: with deferred ones 97 % of the writes of eight processes failed with "database is
locked", with immediate ones none. On PostgreSQL (READ COMMITTED) a transaction that reads a row and then writes it must lock it with
`with_for_update()`; SQLite has one writer at a time and ignores it.
"""

import json
import math
import re
import sqlite3
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    MetaData,
    Row,
    String,
    Table,
    create_engine,
    event,
    inspect,
    select,
)
from sqlalchemy.exc import InterfaceError, OperationalError, TimeoutError

from shared.platform import keepalive

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite
    from sqlalchemy.engine import ExceptionContext
    from sqlalchemy.sql.dml import ReturningInsert

Values = dict[str, Any]  # by column
IDLE_TRANSACTION_ENDED = "25P03"  # PostgreSQL's error code
IDLE_TRANSACTION_S = 30  # transactions are short; what a process computes in one takes milliseconds
UNAVAILABLE = (
    OperationalError,
    InterfaceError,
    TimeoutError,
)  # the database is unavailable or busy; a retry may succeed


@lru_cache
def engine_for(url: str) -> Engine:
    """One engine per process and URL. Call its `dispose()` before a fork: connections must not be shared."""
    options: dict[str, Any] = {"json_serializer": _as_json, "hide_parameters": True}  # parameters contain users' texts
    if not url.startswith("sqlite"):
        return _postgres_engine(_with_driver(url), options)
    Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": 30, "check_same_thread": False}, **options)

    @event.listens_for(engine, "connect")
    def _prepare(connection, _record):
        connection.isolation_level = None  # pysqlite must not begin transactions by itself
        _switch_to_wal(connection)
        # without secure_delete deleted and replaced texts stay in the file's free pages
        for pragma in ("synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=30000", "secure_delete=ON"):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def _postgres_engine(url: str, options: dict[str, Any]) -> Engine:
    engine = create_engine(
        url,
        pool_pre_ping=True,
        pool_size=8,
        max_overflow=24,
        connect_args={"connect_timeout": 10, **keepalive.POSTGRES},
        **options,
    )

    @event.listens_for(engine, "connect")
    def _bound_transactions(connection, _record):
        """A host that is cut off, or a process that is stopped, in a transaction keeps its locks no longer than this."""
        with connection.cursor() as cursor:
            cursor.execute(f"SET idle_in_transaction_session_timeout = '{IDLE_TRANSACTION_S}s'")
        connection.commit()

    @event.listens_for(engine, "handle_error", retval=True)
    def _ended_transaction(context: "ExceptionContext") -> Exception | None:
        """psycopg calls it an internal error; another try may succeed, on a new connection."""
        error = context.original_exception
        if getattr(error, "sqlstate", None) != IDLE_TRANSACTION_ENDED:
            return None
        context.is_disconnect = True
        return OperationalError(context.statement, None, error, hide_parameters=True, connection_invalidated=True)

    return engine


def empty_log(engine: Engine) -> bool:
    """Write SQLite's log into the database and cut it off, so that no page from before a deletion stays in it. False: others read just
    now; a later call, or the last process that closes the database, does it. PostgreSQL's log is its operator's."""
    if engine.dialect.name != "sqlite":
        return True
    with engine.connect() as connection:
        busy, *_ = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()
    return not busy


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Retry: of processes that switch a new file at once SQLite refuses some without waiting (3 of 900)."""
    for pause in (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, None):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if pause is None or "locked" not in str(error):
                raise
            time.sleep(pause)


def _with_driver(url: str) -> str:
    """postgres:// and postgresql:// URLs with the installed driver."""
    scheme, _, rest = url.partition("://")
    return f"postgresql+psycopg://{rest}" if scheme in ("postgres", "postgresql") else url


def _as_json(value: Any) -> str:
    """JSON for a column. NaN and infinity (of a loss, for example) become null: PostgreSQL refuses them."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def writing(engine: Engine) -> Generator[Connection]:
    """A writing transaction: committed at the end, rolled back on an error."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.rollback()
            raise
        connection.commit()


@contextmanager
def reading(engine: Engine) -> Generator[Connection]:
    """A connection for queries."""
    with engine.connect() as connection:
        yield connection


def insert_once(connection: Connection, table: Table, values: Values) -> Row | None:
    """Insert a row; returns None if a row with one of its unique keys exists."""
    return connection.execute(_insert_once(connection.dialect.name, table), values).first()


@lru_cache
def _insert_once(dialect: str, table: Table) -> "ReturningInsert":
    """Built once: building it takes longer than running it."""
    return _insert(dialect, table).on_conflict_do_nothing().returning(table)


def upsert(connection: Connection, table: Table, values: Values, keep: Sequence[str] = ()) -> None:
    """Insert a row, or update the row of the same primary key except for the columns in `keep`."""
    keys = [column.name for column in table.primary_key]
    changed = {name: value for name, value in values.items() if name not in keys and name not in keep}
    insert = _insert(connection.dialect.name, table).values(**values)
    connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=changed))


def add_up(connection: Connection, table: Table, keys: Values, amounts: Values) -> None:
    """Insert a row, or add to the numbers of the row of the same primary key. keys: further columns may be among them; they stay."""
    connection.execute(added_up(connection.dialect.name, table, amounts), keys | amounts)


def added_up(dialect: str, table: Table, amounts: Iterable[str]) -> "postgresql.Insert | sqlite.Insert":
    """The statement of `add_up`."""
    insert = _insert(dialect, table)
    primary = [column.name for column in table.primary_key]
    more = {name: table.c[name] + insert.excluded[name] for name in amounts}
    return insert.on_conflict_do_update(index_elements=primary, set_=more)


def _insert(dialect: str, table: Table) -> "postgresql.Insert | sqlite.Insert":
    """The dialect's insert. Imported on use: a process needs one of the two, and each import takes 30-60 ms."""
    if dialect == "sqlite":
        from sqlalchemy.dialects.sqlite import insert
    else:
        from sqlalchemy.dialects.postgresql import insert
    return insert(table)


def revision(engine: Engine, version_table: str) -> str | None:
    """The schema revision of a database, None for an empty one."""
    versions = Table(version_table, MetaData(), Column("version_num", String))
    with reading(engine) as connection:
        if not inspect(connection).has_table(version_table):
            return None
        return connection.execute(select(versions.c.version_num)).scalar()


def revisions(migrations: Path) -> dict[str, str | None]:
    """The revisions that this code knows, each with its predecessor. File numbers do not give their order."""
    texts = [path.read_text() for path in migrations.glob("versions/*.py")]
    pairs = ([_named(text, name) for name in ("revision", "down_revision")] for text in texts)
    return {name: before for name, before in pairs if name is not None}


def _named(text: str, name: str) -> str | None:
    match = re.search(rf'^{name} = "(\w+)"', text, re.MULTILINE)
    return match[1] if match else None


def newest(migrations: Path) -> str:
    """The revision without a successor."""
    known = revisions(migrations)
    (head,) = known.keys() - known.values()
    return head


def upgrade(url: str, migrations: Path, version_table: str) -> None:
    """Migrate a schema to its newest revision. Several processes may call it at once."""
    engine = engine_for(url)
    if revision(engine, version_table) == newest(migrations):
        return  # without importing Alembic: 13 MB and 0.25 s per process
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")  # a migration may compute
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(20241118)")
        config.attributes |= {"connection": connection, "version_table": version_table}
        command.upgrade(config, "head")
        connection.commit()
