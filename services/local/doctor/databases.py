"""Both databases: reachable, readable, writable, of this version. Nothing is made or migrated by looking."""

import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from services.local.doctor.finding import Finding, Installation, fail, ok, warn
from services.local.doctor.stores import skew
from shared.db.engine import engine_for, newest, reading, revision, revisions
from shared.jobs.schema import MIGRATIONS as OF_JOBS
from shared.ledger.store import MIGRATIONS as OF_LEDGER

SCHEMES = ("postgresql", "postgres", "postgresql+psycopg", "sqlite")
NOT_ALLOWED = "42501"  # PostgreSQL: insufficient_privilege
SPARE = 40  # connections that a server should have left: eight processes with a pool each
SERVER = text(
    "select pg_is_in_recovery() as copy, current_setting('transaction_read_only') = 'on' as read_only, "
    "current_setting('server_encoding') as encoding, current_schema() as schema, current_user as name, "
    "coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) as may_create, "
    "current_setting('max_connections')::int - (select count(*) from pg_stat_activity) as spare"
)
MAY_WRITE = text("select to_regclass(:name) is null or has_table_privilege(to_regclass(:name)::oid, 'UPDATE')")


def database(installation: Installation) -> Iterator[Finding]:
    """Findings on the database of jobs and the ledger."""
    platform = installation.platform
    if platform.database.partition("://")[0] not in SCHEMES:
        fix = "set it to postgresql://USER:PASSWORD@HOST/NAME, or unset it: then SQLite in the data folder is used"
        yield fail("database", "DATABASE_URL does not begin with postgresql://, the only server that METEOR knows", fix)
        return
    for name, url, table, migrations in (
        ("database", platform.database, "alembic_version", OF_JOBS),
        ("ledger", platform.ledger_database, "alembic_version_ledger", OF_LEDGER),
    ):
        if not has_database(installation, url):
            yield ok(name, f"none in {installation.data} yet; the first start makes it")
            continue
        try:
            engine = engine_for(url)
            at = revision(engine, table)
            problem = _ill(name, engine, table)
            ahead = None if name == "ledger" else _clock(engine)
        except SQLAlchemyError as error:
            yield _unreachable(name, installation, error)
            continue
        yield problem or _of_schema(name, engine, at, migrations)
        if ahead is not None:
            yield skew("the database", ahead)


def has_database(installation: Installation, url: str) -> bool:
    return installation.platform.database_url is not None or (installation.data / url.rpartition("/")[2]).exists()


def _of_schema(name: str, engine: Engine, at: str | None, migrations: Path) -> Finding:
    wanted, where = newest(migrations), engine.url.render_as_string()
    message = f"{where}, schema {at}"
    if at is None:
        return ok(name, f"{where}, empty; the first start makes its tables")
    if at not in revisions(migrations):
        fix = "start the newer METEOR that wrote it, or restore the backup made before that one was installed"
        return fail(name, f"{message} is not known to this version, whose newest is {wanted}", fix)
    if at != wanted:
        copy = "`meteor backup`" if engine.dialect.name == "sqlite" else "dump (`pg_dump`)"
        return warn(name, f"{message}; this version's is {wanted}", f"the next start migrates it: make a {copy} first")
    return ok(name, message)


def _ill(name: str, engine: Engine, table: str) -> Finding | None:
    with reading(engine) as connection:
        if engine.dialect.name == "sqlite":
            return _ill_file(name, engine, connection)
        return _ill_server(name, connection, table)


def _ill_file(name: str, engine: Engine, connection: Connection) -> Finding | None:
    """A broken file, or one on a file system without shared memory."""
    mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
    check = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    if check != "ok":
        return fail(name, f"{engine.url.database} is damaged: {check}", "restore the newest `meteor backup`")
    if mode != "wal":
        fix = "keep the data folder on a local disk: a network file system has no write-ahead log"
        return fail(name, f"{engine.url.database} has journal mode {mode}", fix)
    return None


def _ill_server(name: str, connection: Connection, table: str) -> Finding | None:
    """A server that answers and on which METEOR can do nothing: a copy, read only, another's tables, full."""
    server = connection.execute(SERVER).one()
    who = f"DATABASE_URL: user {server.name}"
    if server.copy or server.read_only:
        message = "is a standby copy" if server.copy else "takes no writes (default_transaction_read_only)"
        return fail(name, f"DATABASE_URL: the server {message}", "name the primary server, or let it take writes")
    if server.encoding != "UTF8":
        fix = "make a database with `createdb --encoding=UTF8 --template=template0`"
        return fail(name, f"DATABASE_URL: the database has the encoding {server.encoding}", fix)
    if not server.may_create:
        fix = f"`ALTER DATABASE ... OWNER TO {server.name}`, or `GRANT CREATE ON SCHEMA {server.schema or '...'} TO {server.name}`"
        return fail(name, f"{who} may not make tables in schema {server.schema}", fix)
    if not connection.execute(MAY_WRITE, {"name": table}).scalar():
        fix = f"name the user that made the tables, or `REASSIGN OWNED BY ... TO {server.name}`"
        return fail(name, f"{who} may not write into the tables, which belong to another one", fix)
    if server.spare < SPARE:
        fix = f"raise max_connections by {SPARE}, or end other clients"
        return warn(name, f"DATABASE_URL: the server has {server.spare} connections left", fix)
    return None


def _clock(engine: Engine) -> float | None:
    """Seconds that a database server is ahead of us; None of SQLite, which has no clock of its own."""
    if engine.dialect.name == "sqlite":
        return None
    with reading(engine) as connection:
        return (
            float(connection.execute(text("select extract(epoch from clock_timestamp())")).scalar_one()) - time.time()
        )


def _unreachable(name: str, installation: Installation, error: SQLAlchemyError) -> Finding:
    words = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    if installation.platform.database_url is None:
        return fail(
            name, f"in {installation.data}: {words}", "restore the newest `meteor backup`, or name another data folder"
        )
    fix = "start the server, and fix host, name, user and password in DATABASE_URL"
    if getattr(error.orig if isinstance(error, DBAPIError) else None, "sqlstate", None) == NOT_ALLOWED:
        fix = "name the user that made the tables in DATABASE_URL"
    return fail(name, f"DATABASE_URL: {words}", fix)
