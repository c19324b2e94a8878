"""`meteor doctor` names each fault of a broker or a database, and calls a sound server of PostgreSQL sound."""

import os
import uuid
from pathlib import Path

import psycopg
import pytest
import redis
from sqlalchemy import text

from services.local.doctor import databases, stores
from services.local.doctor.finding import Health, Installation
from shared.db.engine import engine_for, writing
from shared.jobs.schema import open_stores
from shared.ledger.store import open_ledger
from tests.fakes.installation import failed, make_sound, seen, the_only_failure
from tests.fakes.ports import free_port


@pytest.fixture(autouse=True)
def _sound(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make_sound(monkeypatch, tmp_path)


def test_the_broker_is_down(data: Path, monkeypatch: pytest.MonkeyPatch):
    port = free_port()
    monkeypatch.setenv("REDIS_URL", f"redis://:secret-of-the-broker@127.0.0.1:{port}/0")
    finding = the_only_failure(data, "broker")
    assert f"127.0.0.1:{port} does not answer" in finding.message
    assert "secret-of-the-broker" not in finding.message


def test_the_broker_throws_messages_away_or_wants_a_password(data: Path, monkeypatch: pytest.MonkeyPatch, valkey: str):
    monkeypatch.setenv("REDIS_URL", valkey)
    with redis.Redis.from_url(valkey) as client:
        try:
            client.config_set("maxmemory-policy", "allkeys-lru")
            finding = the_only_failure(data, "broker")
            assert "allkeys-lru" in finding.message
            assert "noeviction" in finding.fix
            client.config_set("maxmemory-policy", "noeviction")
            assert failed(data) == {}
            client.config_set("requirepass", "a-password")
            assert "refuses us" in the_only_failure(data, "broker").message
        finally:
            with redis.Redis.from_url(valkey, password="a-password") as again:
                again.config_set("requirepass", "")
                again.config_set("maxmemory-policy", "noeviction")


def test_the_database_cannot_be_reached(data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATABASE_URL", f"postgresql://meteor:of-the-database@127.0.0.1:{free_port()}/meteor")
    findings = failed(data)
    assert list(findings) == ["database", "ledger"]
    assert "DATABASE_URL" in findings["database"].message
    assert "of-the-database" not in findings["database"].message


def test_a_database_of_a_newer_version_or_a_damaged_one(data: Path):
    url = f"sqlite:///{(data / 'meteor.sqlite3').resolve()}"
    open_stores(url)
    assert failed(data) == {}
    with writing(engine_for(url)) as connection:
        connection.execute(text("update alembic_version set version_num = '9999'"))
    finding = the_only_failure(data, "database")
    assert "schema 9999 is not known to this version" in finding.message
    assert "restore" in finding.fix
    engine_for(url).dispose()
    for path in data.glob("meteor.sqlite3-*"):
        path.unlink()
    (data / "meteor.sqlite3").write_bytes(b"no database at all" * 1000)
    assert "backup" in the_only_failure(data, "database").fix


def test_an_older_schema_is_a_warning(data: Path):
    url = f"sqlite:///{(data / 'meteor.sqlite3').resolve()}"
    open_stores(url)
    with writing(engine_for(url)) as connection:
        connection.execute(text("update alembic_version set version_num = '0001'"))
    (of_database,) = [finding for finding in seen(data) if finding.name == "database"]
    assert of_database.health is Health.WARN
    assert "backup" in of_database.fix


def test_clocks_that_disagree():
    assert stores.skew("the broker", 1.0).health is Health.OK
    assert "6.5 s behind" in stores.skew("the broker", -6.5).message
    assert stores.skew("the broker", -6.5).health is Health.FAIL


def test_a_server_of_postgresql_is_called_sound_empty_and_in_use(
    data: Path, monkeypatch: pytest.MonkeyPatch, postgres_url: str
):
    monkeypatch.setenv("DATABASE_URL", postgres_url)
    for words in ("empty; the first start makes its tables", "schema "):
        findings = {finding.name: finding for finding in seen(data)}
        assert {findings[name].health for name in ("database", "clock", "ledger", "access")} == {Health.OK}
        assert words in findings["database"].message
        assert words in findings["ledger"].message
        open_stores(postgres_url)
        open_ledger(postgres_url)
    with writing(engine_for(postgres_url)) as connection:
        connection.execute(text("update alembic_version set version_num = '0001'"))
    (older,) = [finding for finding in seen(data) if finding.name == "database"]
    assert (older.health, "pg_dump" in older.fix) == (Health.WARN, True)


def test_a_server_of_postgresql_that_does_not_serve_us(monkeypatch: pytest.MonkeyPatch, data: Path, postgres_url: str):
    open_stores(postgres_url)
    schema, reader = postgres_url.rpartition("%3D")[2], f"reader_{uuid.uuid4().hex[:8]}"

    def message(url: str, *grants: str) -> str:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            for grant in grants:
                connection.execute(grant.encode())
        if grants:
            engine_for(url).dispose()  # connections that were made before
        monkeypatch.setenv("DATABASE_URL", url)
        finding = next(databases.database(Installation.of(data, os.environ)))
        assert (finding.health, bool(finding.fix)) == (Health.FAIL, True)
        return finding.message

    url = postgres_url.replace("//postgres:@", f"//{reader}:@")
    assert f'role "{reader}" does not exist' in message(url)
    login = (f"CREATE ROLE {reader} LOGIN", f"GRANT USAGE ON SCHEMA {schema} TO {reader}")
    assert "permission denied for table" in message(url, *login)
    reads = f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {reader}"
    assert f"may not make tables in schema {schema}" in message(url, reads)
    assert "may not write into the tables" in message(url, f"GRANT CREATE ON SCHEMA {schema} TO {reader}")
    assert "takes no writes" in message(url, f"ALTER ROLE {reader} SET default_transaction_read_only = on")
    assert 'database "nowhere" does not exist' in message(postgres_url.replace("/postgres?", "/nowhere?"))
    engine_for(url).dispose()
    for other in ("mysql://meteor:of-the-database@127.0.0.1/meteor", "of-the-database"):
        assert "of-the-database" not in message(other)
