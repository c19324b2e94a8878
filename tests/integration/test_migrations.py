"""The migrations make exactly the tables that the code declares, also when several processes start at once."""

import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import MetaData, insert, inspect, select
from sqlalchemy.exc import IntegrityError

from shared.contracts.jobs import JobKind
from shared.db.engine import engine_for, reading, upgrade, writing
from shared.jobs import schema
from shared.jobs.tables import metadata as jobs_metadata
from shared.ledger import store
from shared.ledger.tables import calls
from shared.ledger.tables import metadata as ledger_metadata

SCHEMAS = [
    pytest.param(schema.MIGRATIONS, "alembic_version", jobs_metadata, id="jobs"),
    pytest.param(store.MIGRATIONS, "alembic_version_ledger", ledger_metadata, id="ledger"),
]


@pytest.mark.parametrize(("migrations", "version_table", "metadata"), SCHEMAS)
def test_migrations_and_tables_agree(database_url: str, migrations: Path, version_table: str, metadata: MetaData):
    upgrade(database_url, migrations, version_table)
    with engine_for(database_url).connect() as connection:
        options = {"version_table": version_table, "compare_type": True, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []


@pytest.mark.parametrize(("migrations", "version_table", "metadata"), SCHEMAS)
def test_a_current_schema_is_opened_without_alembic(
    database_url: str, migrations: Path, version_table: str, metadata: MetaData
):
    upgrade(database_url, migrations, version_table)
    code = (
        "import sys; from pathlib import Path; from shared.db.engine import upgrade;"
        "upgrade(sys.argv[1], Path(sys.argv[2]), sys.argv[3]); sys.exit('alembic' in sys.modules)"
    )
    argv = [sys.executable, "-c", code, database_url, str(migrations), version_table]
    assert subprocess.run(argv, timeout=60).returncode == 0


def test_both_schemas_share_a_database(database_url: str):
    schema.open_stores(database_url)
    store.open_ledger(database_url)
    tables = set(inspect(engine_for(database_url)).get_table_names())
    assert tables == {*jobs_metadata.tables, *ledger_metadata.tables, "alembic_version", "alembic_version_ledger"}


def test_processes_may_start_at_once(database_url: str):
    code = (
        "import sys; from shared.jobs.schema import open_stores; from shared.ledger.store import open_ledger;"
        "sys.stdin.read(); stores = open_stores(sys.argv[1]); open_ledger(sys.argv[1]); stores.overview.count_by_status()"
    )
    starts = [
        subprocess.Popen([sys.executable, "-c", code, database_url], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    for start in starts:
        assert start.stdin is not None
        start.stdin.close()
    for start in starts:
        assert start.stderr is not None
        assert start.wait(60) == 0, start.stderr.read().decode()


def test_a_folder_with_a_percent_sign_is_no_hindrance(tmp_path: Path):
    folder = tmp_path / "50% off"
    upgrade(f"sqlite:///{folder / 'meteor.sqlite3'}", schema.MIGRATIONS, "alembic_version")
    assert (folder / "meteor.sqlite3").exists()


def test_rows_outlive_the_table_that_is_made_anew_for_other_kinds_of_jobs(database_url: str):
    """A job of the days before there were kinds, with what refers to it."""
    engine = engine_for(database_url)
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    with writing(engine) as connection:
        config.attributes |= {"connection": connection, "version_table": "alembic_version"}
        command.upgrade(config, "0007")
        for statement in (
            "INSERT INTO projects VALUES ('p', 'p', 1)",
            "INSERT INTO files (id, project_id, sha256, bytes, filename, purpose, status, errors, created_at)"
            " VALUES ('f', 'p', 's', 1, 'f', 'fine-tune', 'processed', '[]', 1)",
            "INSERT INTO jobs (id, project_id, request, file_id, status, progress, attempt, created_at)"
            """ VALUES ('j', 'p', '{"seed": 7}', 'f', 'queued', '{}', 0, 1.5)""",
            "INSERT INTO events (project_id, job_id, level, type, message, created_at)"
            " VALUES ('p', 'j', 'info', 'message', 'm', 1)",
        ):
            connection.exec_driver_sql(statement)
    stores = schema.open_stores(database_url)
    row = stores.jobs.get("j", "p", JobKind.DISTILLATION)
    assert row is not None
    assert (row.request, row.file_id, row.created_at, row.result) == ({"seed": 7}, "f", 1.5, None)
    with pytest.raises(IntegrityError), writing(engine) as connection:
        connection.exec_driver_sql("DELETE FROM jobs")  # its event still refers to it


def test_an_open_call_of_a_batch_flies_as_one_that_is_sent_by_itself_does(database_url: str):
    """A batch of the days before takes up to a day. What is asked for twice on its eve stays two calls."""
    engine, config = engine_for(database_url), Config()
    config.set_main_option("script_location", str(store.MIGRATIONS))
    rows = [("old", "h1", "b", "b1"), ("twice", "h2", "b", "b2"), ("alone", "h2", None, "h2")]
    with writing(engine) as connection:
        config.attributes |= {"connection": connection, "version_table": "alembic_version_ledger"}
        command.upgrade(config, "0028")
        for call_id, request_hash, batch_id, flight in rows:
            new = insert(calls).values(
                id=call_id, project_id="p", provider="a", model="m", request_hash=request_hash, state="intent",
                batch_id=batch_id, flight=flight, created_at=1.0,
            )  # fmt: skip
            connection.execute(new)
    store.open_ledger(database_url)
    with reading(engine) as connection:
        flights = connection.execute(select(calls.c.id, calls.c.flight)).all()
    assert {tuple(row) for row in flights} == {("old", "h1"), ("twice", "b2"), ("alone", "h2")}
